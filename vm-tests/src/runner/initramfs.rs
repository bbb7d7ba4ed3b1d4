//! The first file system of a guest: our init, what it is to run, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use super::build::{Binaries, Lookup};
use super::cpio::Cpio;
use super::kept::{self, Kind};
use super::tree::Tree;

/// Where the guest finds the tool.
pub const BPFKIT: &str = "/bin/bpfkit";
/// Where the guest finds the program that looks up hosts: the dynamic one, and the static one.
pub const LOOKUP: [&str; 2] = ["/bin/lookup", "/bin/lookup-static"];
/// Where the guest finds bpftool, if the machine has it that the guest was made on.
const BPFTOOL: &str = "/bin/bpftool";
/// Where the guest finds the BTF that came with an image from outside.
pub const BTF: &str = "/vmlinux.btf";

/// The directories that the guest mounts things on or writes into.
const DIRECTORIES: &[&str] = &["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"];

/// What a C library reads to look up a host: a guest has no network, and no server to ask.
const FILES: &[(&str, &str)] = &[
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n10.1.2.3 many\n10.1.2.4 many\nfd00::5 many\n"),
    ("etc/nsswitch.conf", "hosts: files\n"),
];

/// Device files for a kernel without devtmpfs, and for the time before it is mounted: path, major, minor.
const DEVICES: &[(&str, u32, u32)] =
    &[("dev/console", 5, 1), ("dev/null", 1, 3), ("dev/urandom", 1, 9), ("dev/ttyS0", 4, 64), ("dev/ttyS1", 4, 65)];

/// The archive of the cases: the guest, the tool, and a program that looks up hosts, with its libraries.
///
/// # Errors
/// A binary that cannot be read.
pub fn of_cases(binaries: &Binaries) -> Result<Vec<u8>, String> {
    let Binaries { guest, bpfkit, lookup: Lookup { fixed, dynamic }, bpftool, libraries } = binaries;
    let mut tree = Tree::default();
    let known = [BPFKIT, LOOKUP[0], LOOKUP[1]].into_iter().zip([bpfkit, dynamic, fixed]);
    for (place, file) in known.chain(bpftool.iter().map(|file| (BPFTOOL, file))) {
        tree.file(place, 0o755, read(file)?);
    }
    tree.files(libraries)?;
    of_program(guest, &tree.archive())
}

/// The archive of a program: the guest, and what cannot be in a tree of files, before the program's own archive.
///
/// # Errors
/// As `of_cases`.
pub fn of_program(guest: &Path, program: &[u8]) -> Result<Vec<u8>, String> {
    let mut cpio = Cpio::new();
    for directory in DIRECTORIES {
        cpio.directory(directory);
    }
    for &(path, major, minor) in DEVICES {
        cpio.device(path, major, minor);
    }
    for (path, text) in FILES {
        cpio.file(path, 0o644, text.as_bytes());
    }
    cpio.file("init", 0o755, &read(guest)?);
    Ok([&cpio.finish(), program].concat())
}

/// Keeps the archive of one guest, and says where it is. Its name is a hash of what is in it, so that guests and runs which
/// have the same share one file. It is not compressed, because an emulated processor takes longer to inflate it than QEMU to
/// load it.
///
/// The kernel unpacks concatenated archives one after the other, so what only one guest has is appended.
///
/// # Errors
/// A BTF file that cannot be read or an archive that cannot be written.
pub fn keep(work: &Path, base: &[u8], btf: Option<&Path>) -> Result<PathBuf, String> {
    let mut bytes = base.to_vec();
    if let Some(btf) = btf {
        let mut cpio = Cpio::new();
        cpio.file(BTF.trim_start_matches('/'), 0o644, &read(btf)?);
        bytes.extend(cpio.finish());
    }
    let path = Kind::Initramfs.place(work, &bytes);
    let is_known =
        fs::metadata(&path).is_ok_and(|meta| usize::try_from(meta.len()).is_ok_and(|len| len == bytes.len()));
    if !is_known {
        kept::write(&path, &bytes).map_err(|error| format!("write {}: {error}", path.display()))?;
    }
    Ok(path)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(bytes: &[u8], part: &str) -> usize {
        bytes.windows(part.len()).filter(|window| *window == part.as_bytes()).count()
    }

    #[test]
    fn a_btf_file_is_appended_as_an_archive_of_its_own() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("some.btf");
        fs::write(&file, b"btf bytes").expect("write");
        let library = directory.path().join("lib/deep/libc.so.6");
        fs::create_dir_all(library.parent().expect("a parent")).expect("directories");
        fs::write(&library, b"library").expect("write");
        let lookup = Lookup { fixed: file.clone(), dynamic: file.clone() };
        let libraries = vec![library.clone()];
        let binaries = Binaries { guest: file.clone(), bpfkit: file.clone(), lookup, bpftool: None, libraries };
        let base = of_cases(&binaries).expect("an archive");
        let path = keep(directory.path(), &base, Some(&file)).expect("an archive");
        let bytes = fs::read(path).expect("read");
        assert_eq!(bytes[..base.len()], base);
        assert_eq!(count(&bytes, "btf bytes"), 5, "init, the programs and the BTF are that file here");
        assert_eq!(count(&bytes, "TRAILER!!!"), 3);
        let path = library.to_str().expect("a path").trim_start_matches('/');
        assert_eq!((count(&bytes, &format!("{path}\0")), count(&bytes, "/lib/deep\0")), (1, 1));
        assert_eq!(count(&bytes, "vmlinux.btf\0"), 1);
    }

    #[test]
    fn equal_archives_share_a_file_until_nobody_uses_it() {
        let directory = tempfile::tempdir().expect("directory");
        let work = directory.path();
        let one = keep(work, b"one", None).expect("kept");
        assert_eq!(keep(work, b"one", None).as_ref(), Ok(&one));
        assert_ne!(keep(work, b"two", None).expect("kept"), one);
        // Several guests may begin at the same time.
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| keep(work, &[7; 1 << 20], None))).collect();
            let all: Vec<_> = all.into_iter().map(|one| one.join().expect("no panic").expect("kept")).collect();
            all.windows(2).for_each(|pair| assert_eq!(pair[0], pair[1]));
        });
        // A file that was cut short is written again.
        fs::write(&one, b"o").expect("write");
        keep(work, b"one", None).expect("kept");
        assert_eq!(fs::read(&one).expect("read"), b"one");
        kept::tests::age(&one);
        kept::remove_old(work);
        assert!(!one.exists());
        assert_eq!(fs::read_dir(work.join("initramfs")).expect("read").count(), 2);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let error = keep(Path::new("/proc/none"), b"x", None).expect_err("no such place");
        assert!(error.starts_with("write /proc/none/initramfs/"), "{error}");
    }
}
