//! What the verifier says of programs: its log taken apart, why it refuses a program, and where in our source that is.

mod diagnosis;
mod end;
mod line;
mod operands;
mod parse;
mod range;
mod reasons;
mod rejection;
mod report;
mod spelling;
mod state;
mod value;
mod verdict;
mod walk;
mod words;

pub use diagnosis::{Cause, Diagnosis};
pub use end::End;
pub use operands::{loads, reads, writes};
pub use range::Range;
pub use rejection::Rejection;
pub use report::Report;
pub use state::{Cell, Live, Place, State};
pub use value::{MapOf, Value, What};
pub use verdict::Verdict;
pub use walk::{Held, Join, Path, PathEnd, Step, Walk};

/// Whether the verifier came so far as to look at an instruction of the program.
pub(crate) fn has_instructions(log: &str) -> bool {
    let walk = Walk::parse(log);
    !walk.steps.is_empty() || diagnosis::named_slot(&walk.words).is_some()
}
