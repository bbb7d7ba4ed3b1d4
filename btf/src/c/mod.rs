//! C out of types: a header that a compiler lays out as the types say.
//!
//! Types may be broken in every way. What C cannot say is left out with a comment, so that the text always ends, and only then
//! a compiler does not take it.

mod declare;
mod header;
mod ident;
mod layout;
mod names;
mod notes;
mod order;
mod print;
mod tags;

pub use header::Header;
pub(crate) use order::by_name;
