//! Where the rows go.

use std::io::{self, BufWriter, ErrorKind, Stdout, Write};
use std::os::fd::{AsFd, BorrowedFd};

use crate::Error;

/// Standard output. Rows are collected and written when what was there to read has been read, so that a pipe sees each row at
/// once and a burst costs few writes.
#[derive(Debug)]
pub struct Output {
    out: BufWriter<Stdout>,
}

impl Output {
    /// Writes to standard output.
    pub fn stdout() -> Self {
        Self { out: BufWriter::with_capacity(64 << 10, io::stdout()) }
    }

    /// Adds a row and its line feed.
    ///
    /// # Errors
    /// [`Error::Closed`] when the reader has gone, [`Error::Output`] for a full disk and the like.
    pub fn line(&mut self, line: &str) -> Result<(), Error> {
        self.out.write_all(line.as_bytes()).and_then(|()| self.out.write_all(b"\n")).map_err(failed)
    }

    /// Adds a row of JSON.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn json(&mut self, row: &impl serde::Serialize) -> Result<(), Error> {
        serde_json::to_writer(&mut self.out, row).map_err(|error| failed(error.into()))?;
        self.line("")
    }

    /// Hands all rows on.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn flush(&mut self) -> Result<(), Error> {
        self.out.flush().map_err(failed)
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // The handle borrows from the process, whose standard output stays open.
        self.out.get_ref().as_fd()
    }
}

/// A reader that has seen enough, as in `| head -1`, is no failure.
fn failed(error: io::Error) -> Error {
    if error.kind() == ErrorKind::BrokenPipe { Error::Closed } else { Error::Output(error) }
}
