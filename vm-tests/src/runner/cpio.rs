//! The archive that a kernel unpacks into its first file system: cpio in the `newc` format.
//!
//! Kernel source: `Documentation/driver-api/early-userspace/buffer-format.rst` and `init/initramfs.c`.

use std::fmt::Write as _;

/// An archive in the making. Entries are unpacked in order, so a directory must come before what is in it.
#[derive(Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
}

/// The name that ends an archive.
const TRAILER: &str = "TRAILER!!!";

impl Cpio {
    /// An empty archive.
    pub fn new() -> Cpio {
        Cpio::default()
    }

    /// A directory that all may enter.
    pub fn directory(&mut self, path: &str) {
        self.entry(path, 0o040_755, (0, 0), &[]);
    }

    /// A regular file with these permission bits.
    ///
    /// # Panics
    /// When the file is 4 GiB or larger, which the format cannot hold.
    pub fn file(&mut self, path: &str, permissions: u32, contents: &[u8]) {
        self.entry(path, 0o100_000 | permissions, (0, 0), contents);
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &[u8]) {
        self.entry(path, 0o120_777, (0, 0), target);
    }

    /// A character device. The kernel opens `dev/console` of the archive before any file system is mounted.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, 0o020_600, (major, minor), &[]);
    }

    /// The archive's bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.header(TRAILER, 0, (0, 0), 0);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        self.inode += 1;
        self.header(path, mode, device, u32::try_from(contents.len()).expect("a file of less than 4 GiB"));
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    /// Thirteen fields of eight hexadecimal digits after the magic, then the name with its NUL, padded to four bytes.
    fn header(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), size: u32) {
        let links = 1;
        let name_size = u32::try_from(path.len() + 1).expect("a path");
        let mut header = String::from("070701");
        for field in [self.inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0] {
            write!(header, "{field:08X}").expect("writing to a string");
        }
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_these_bytes() {
        let mut cpio = Cpio::new();
        cpio.file("init", 0o755, b"hello");
        let bytes = cpio.finish();
        let expected = "070701\
            00000001000081ED00000000000000000000000100000000000000050000000000000000000000000000000000000005\
            00000000init\0\0hello\0\0\0\
            070701\
            0000000000000000000000000000000000000001000000000000000000000000000000000000000000000000\
            0000000B00000000TRAILER!!!\0\0\0\0";
        // The last header's fields are written in two lines above, so compare without caring how they are split.
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn another_reader_unpacks_the_same_tree() {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let mut cpio = Cpio::new();
        cpio.directory("bin");
        cpio.file("bin/tool", 0o755, b"#!\n");
        cpio.file("odd", 0o600, b"12345");
        let Ok(mut child) =
            Command::new("cpio").args(["-t", "--quiet"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
        else {
            eprintln!("skipped: cpio is not installed");
            return;
        };
        child.stdin.take().expect("piped").write_all(&cpio.finish()).expect("write");
        let output = child.wait_with_output().expect("cpio");
        assert!(output.status.success());
        assert_eq!(String::from_utf8_lossy(&output.stdout), "bin\nbin/tool\nodd\n");
    }
}
