//! What can be wrong with a program before a kernel sees it.

use std::fmt;

use crate::Source;

/// Why no [`crate::Code`] could be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A number does not fit where it stands.
    Range {
        /// What it is for, such as `offset`.
        what: &'static str,
        /// The number.
        value: i128,
        /// The least and the greatest that fit.
        range: (i128, i128),
        /// Where it was written.
        source: Option<Box<Source>>,
    },
    /// An operation does not exist in this width or form.
    Form {
        /// What is not to be had.
        what: String,
        /// Where it was written.
        source: Option<Box<Source>>,
    },
    /// A jump goes to a label that is bound nowhere.
    Unbound {
        /// The label's name.
        label: String,
        /// Where the jump was written.
        source: Option<Box<Source>>,
    },
    /// A label is bound in two places.
    BoundTwice {
        /// The label's name.
        label: String,
    },
    /// There is no instruction.
    Empty,
}

impl Error {
    fn place(&self) -> Option<&Source> {
        match self {
            Self::Range { source, .. } | Self::Form { source, .. } | Self::Unbound { source, .. } => source.as_deref(),
            Self::BoundTwice { .. } | Self::Empty => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range { what, value, range: (least, most), .. } => {
                write!(f, "{what} {value} is not between {least} and {most}")?;
            }
            Self::Form { what, .. } => write!(f, "there is no {what}")?,
            Self::Unbound { label, .. } => write!(f, "label `{label}` is bound nowhere")?,
            Self::BoundTwice { label } => write!(f, "label `{label}` is bound twice")?,
            Self::Empty => f.write_str("a program has at least one instruction")?,
        }
        self.place().map_or(Ok(()), |source| write!(f, " at {source}"))
    }
}

impl std::error::Error for Error {}
