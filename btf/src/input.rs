//! What an ELF file is read from: as much of it as one takes that says the truth about itself, and no more.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;

use object::{ReadCache, ReadRef};

/// A file, or bytes. It is one type, so that there is one copy of what reads DWARF.
pub(crate) enum Input {
    File(File),
    Bytes(Cursor<Vec<u8>>),
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(out),
            Self::Bytes(bytes) => bytes.read(out),
        }
    }
}

impl Seek for Input {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Bytes(bytes) => bytes.seek(to),
        }
    }
}

/// Every byte may be read twice, for its `.BTF` section and for its debugging information, and a small file's headers oftener.
const TIMES: u64 = 2;
const BESIDES: u64 = 16 << 20;
/// A file may be as long as it likes without having as many bytes on disk. A kernel with debugging information has less than
/// that.
const MOST: u64 = 2 << 30;

/// An input whose parts are kept once they were read, as long as this lives.
///
/// Each part is kept by itself, where it begins and how long it is: of tables that lie one on the other, as a file may have them that
/// is made to do harm, each would be a copy.
pub(crate) struct Parts {
    cache: ReadCache<Input>,
    /// How many bytes may be asked for yet.
    left: Cell<u64>,
}

impl Parts {
    pub(crate) fn new(input: Input) -> Self {
        let cache = ReadCache::new(input);
        let length = (&cache).len().unwrap_or_default();
        let left = length.saturating_mul(TIMES).saturating_add(BESIDES).min(MOST);
        Self { cache, left: Cell::new(left) }
    }

    fn take(&self, bytes: u64) -> Result<(), ()> {
        self.left.set(self.left.get().checked_sub(bytes).ok_or(())?);
        Ok(())
    }
}

impl<'p> ReadRef<'p> for &'p Parts {
    fn len(self) -> Result<u64, ()> {
        (&self.cache).len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'p [u8], ()> {
        self.take(size)?;
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'p [u8], ()> {
        let found = self.cache.read_bytes_at_until(range, delimiter)?;
        self.take(found.len() as u64)?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_lie_one_on_the_other_are_not_all_copied() {
        let parts = Parts::new(Input::Bytes(Cursor::new(vec![1; 8 << 20])));
        let read = |offset: u64| (&parts).read_bytes_at(offset, 1 << 20);
        // Twice the file, and as much again besides.
        let count = (0..1000).map_while(|offset| read(offset).ok()).count();
        assert_eq!(count, 32);
        assert!((&parts).read_bytes_at_until(0..100, 2).is_err());
    }

    #[test]
    fn a_file_that_is_longer_than_any_is_not_read_whole() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 42).unwrap();
        let parts = Parts::new(Input::File(file));
        assert_eq!((&parts).len(), Ok(1 << 42));
        assert!((&parts).read_bytes_at(0, 3 << 30).is_err());
        assert_eq!((&parts).read_bytes_at(0, 4), Ok(&[0; 4][..]));
    }
}
