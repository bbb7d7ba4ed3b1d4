//! Files that may be standard input.

use std::fs::File;
use std::io::Read;
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

/// All its bytes.
///
/// # Errors
/// A file that cannot be read.
pub fn read(file: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let result = if is_stdin(file) {
        std::io::stdin().lock().read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    result.map(|_| bytes).map_err(|error| Error::Io(format!("cannot read {}", name(file)), error))
}
