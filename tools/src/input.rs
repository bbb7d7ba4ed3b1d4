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

/// The most bytes that are read: what goes on without an end, as /dev/zero does, is to be an error and not all of the memory.
const MOST: u64 = 512 << 20;

/// All its bytes.
///
/// # Errors
/// A file that cannot be read, or that has half a gigabyte or more.
pub fn read(file: &Path) -> Result<Vec<u8>, Error> {
    let bytes = if is_stdin(file) {
        up_to(MOST, io::stdin().lock())
    } else {
        File::open(file).and_then(|file| up_to(MOST, file))
    };
    bytes.map_err(|error| Error::Io(format!("cannot read {}", name(file)), error))
}

fn up_to(most: u64, from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = from.take(most).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read < most) {
        return Ok(bytes);
    }
    Err(io::Error::new(ErrorKind::FileTooLarge, format!("it has {most} bytes or more")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_is_refused() {
        assert_eq!(up_to(4, &b"abc"[..]).unwrap(), b"abc");
        assert_eq!(up_to(4, io::repeat(0)).unwrap_err().to_string(), "it has 4 bytes or more");
    }
}
