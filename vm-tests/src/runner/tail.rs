//! Following a file that QEMU is writing.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A file read line by line while it grows.
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    partial: Vec<u8>,
}

impl Tail {
    /// The file at `path`, which need not exist yet.
    pub fn new(path: &Path) -> Tail {
        Tail { path: path.to_owned(), file: None, partial: Vec::new() }
    }

    /// The lines that were completed since the last call. Bytes that are not UTF-8 are replaced: the console of a guest
    /// that is breaking down may hold anything.
    pub fn lines(&mut self) -> Vec<String> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        if let Some(file) = &mut self.file {
            // An error ends this round only; what could be read is kept.
            let _ = file.read_to_end(&mut self.partial);
        }
        let Some(end) = self.partial.iter().rposition(|&byte| byte == b'\n') else { return Vec::new() };
        let rest = self.partial.split_off(end + 1);
        let complete = std::mem::replace(&mut self.partial, rest);
        String::from_utf8_lossy(&complete).lines().map(|line| line.trim_end_matches('\r').to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_line_is_given_once_and_only_when_it_is_whole() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("log");
        let mut tail = Tail::new(&path);
        assert!(tail.lines().is_empty(), "there is no file yet");
        let mut file = File::create(&path).expect("create");
        file.write_all(b"one\r\ntwo\nthr").expect("write");
        assert_eq!(tail.lines(), ["one", "two"]);
        assert!(tail.lines().is_empty());
        file.write_all(b"ee\n\xff\n").expect("write");
        assert_eq!(tail.lines(), ["three", "\u{fffd}"]);
    }
}
