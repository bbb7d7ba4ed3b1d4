//! Where the bytes of a blob are.

use std::ops::Range;

/// Bytes that someone keeps, all of them, as in a vector or a mapping; or that are read as they are asked for, and stay then.
pub trait Source: Send + Sync {
    /// How many there are.
    fn size(&self) -> usize;

    /// Some of them; nothing where they are beyond the end or cannot be read.
    fn bytes(&self, range: Range<usize>) -> Option<&[u8]>;
}

impl<T: AsRef<[u8]> + Send + Sync> Source for T {
    fn size(&self) -> usize {
        self.as_ref().len()
    }

    fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        self.as_ref().get(range)
    }
}
