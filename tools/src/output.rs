//! Where the rows go.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Stdout, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use crate::Error;
use crate::create::create;

/// Standard output, or a file. Rows are collected and written when what was there to read has been read, so that a pipe sees each
/// row at once and a burst costs few writes.
#[derive(Debug)]
pub struct Output {
    out: BufWriter<Sink>,
}

#[derive(Debug)]
enum Sink {
    Stdout(Stdout),
    File(File),
}

impl Output {
    /// Writes to standard output.
    pub fn stdout() -> Self {
        Self { out: BufWriter::with_capacity(64 << 10, Sink::Stdout(io::stdout())) }
    }

    /// Writes to a file.
    pub fn file(file: File) -> Self {
        Self { out: BufWriter::with_capacity(64 << 10, Sink::File(file)) }
    }

    /// Adds a row and its line feed.
    ///
    /// # Errors
    /// [`Error::Closed`] when the reader has gone, [`Error::Output`] for a full disk and the like.
    pub fn line(&mut self, line: &str) -> Result<(), Error> {
        self.bytes(line.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Adds bytes as they are.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(failed)
    }

    /// Adds a row of JSON.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn json(&mut self, row: &impl serde::Serialize) -> Result<(), Error> {
        write_json(&mut self.out, row)?;
        self.line("")
    }

    /// Adds JSON that may stand in an element of HTML: a `<`, which is in strings only, is written by its number, so that none
    /// begins a tag.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn json_in_html(&mut self, value: &impl serde::Serialize) -> Result<(), Error> {
        write_json(&mut WithoutTags(&mut self.out), value)
    }

    /// Hands all rows on.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn flush(&mut self) -> Result<(), Error> {
        self.out.flush().map_err(failed)
    }
}

/// Prints to a file, to its end. Of a file that cannot be written to its end nothing stays, as the part would look like a whole.
///
/// # Errors
/// What `print` says; [`Error::Io`] when the file cannot be written.
pub fn to_file(path: &Path, print: impl FnOnce(&mut Output) -> Result<(), Error>) -> Result<(), Error> {
    let about = |error| Error::Io(format!("cannot write {}", path.display()), error);
    let file = create(path).map_err(about)?;
    // A device or a pipe is not ours to remove.
    let is_regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
    let mut output = Output::file(file);
    let printed = print(&mut output).and_then(|()| output.flush());
    if printed.is_err() && is_regular {
        let _ = path.canonicalize().and_then(std::fs::remove_file);
    }
    printed.map_err(|error| if let Error::Output(error) = error { about(error) } else { error })
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // The handle borrows from the process, whose standard output stays open.
        match self.out.get_ref() {
            Sink::Stdout(stdout) => stdout.as_fd(),
            Sink::File(file) => file.as_fd(),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File(file) => file.flush(),
        }
    }
}

/// All kinds of rows go to one kind of writer, as each pair of a row and a writer is code of its own.
fn write_json(out: &mut dyn Write, value: &impl serde::Serialize) -> Result<(), Error> {
    serde_json::to_writer(out, value).map_err(|error| failed(error.into()))
}

/// Writes JSON with each `<` by its number.
struct WithoutTags<'a>(&'a mut dyn Write);

impl Write for WithoutTags<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for (at, part) in bytes.split(|&byte| byte == b'<').enumerate() {
            if at > 0 {
                self.0.write_all(b"\\u003c")?;
            }
            self.0.write_all(part)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A reader that has seen enough, as in `| head -1`, is no failure.
pub(crate) fn failed(error: io::Error) -> Error {
    if error.kind() == ErrorKind::BrokenPipe { Error::Closed } else { Error::Output(error) }
}
