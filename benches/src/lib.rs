//! What the benches and `beside` share.
#![forbid(unsafe_code)]

pub mod ring;
pub mod types;
