//! Files that may be standard input.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use crate::{Error, Escaped};

/// Whether standard input is meant.
pub fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// What messages call it.
pub fn name(file: &Path) -> String {
    if is_stdin(file) { "stdin".to_owned() } else { Escaped(file.as_os_str().as_encoded_bytes()).to_string() }
}

/// The most bytes that are read: what goes on without an end, as /dev/zero does, is to be an error and not all of the memory. The
/// text of a program with a million instructions, which is the most that a kernel takes, has half of it.
const MOST: u64 = 64 << 20;

/// The most of what has types: a vmlinux may come through a pipe.
pub const MOST_WITH_TYPES: u64 = 512 << 20;

/// All bytes of a text, or of a program.
///
/// # Errors
/// A file that cannot be read, or that has 64 MiB or more.
pub fn read(file: &Path) -> Result<Vec<u8>, Error> {
    read_less_than(MOST, file)
}

/// All bytes of a file that has less than this many.
///
/// # Errors
/// A file that cannot be read, or that has more.
pub fn read_less_than(most: u64, file: &Path) -> Result<Vec<u8>, Error> {
    let bytes = if is_stdin(file) {
        up_to(most, io::stdin().lock())
    } else {
        File::open(file).and_then(|file| up_to(most, file))
    };
    bytes.map_err(|error| Error::Io(format!("cannot read {}", name(file)), error))
}

fn up_to(most: u64, from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = from.take(most).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read < most) {
        return Ok(bytes);
    }
    Err(io::Error::new(ErrorKind::FileTooLarge, format!("it has {most} bytes or more, which is more than is read")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_is_refused() {
        assert_eq!(up_to(4, &b"abc"[..]).unwrap(), b"abc");
        assert_eq!(
            up_to(4, io::repeat(0)).unwrap_err().to_string(),
            "it has 4 bytes or more, which is more than is read"
        );
    }
}
