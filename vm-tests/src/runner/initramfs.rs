//! The first file system of a guest: our init, the shipped binary, and a program that looks up hosts, with its libraries and what
//! those read. Nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::build::{Binaries, Lookup};
use super::cpio::Cpio;

/// Where the guest finds the tool.
pub const BPFKIT: &str = "/bin/bpfkit";
/// Where the guest finds the program that looks up hosts: the dynamic one, and the static one.
pub const LOOKUP: [&str; 2] = ["/bin/lookup", "/bin/lookup-static"];
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

/// The archive for every guest: made once, loaded by each.
///
/// # Errors
/// A binary that cannot be read.
pub fn base(binaries: &Binaries) -> Result<Vec<u8>, String> {
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
    cpio.file("init", 0o755, &read(&binaries.guest)?);
    let Lookup { fixed, dynamic } = &binaries.lookup;
    for (path, file) in [BPFKIT, LOOKUP[0], LOOKUP[1]].into_iter().zip([&binaries.bpfkit, dynamic, fixed]) {
        cpio.file(path.trim_start_matches('/'), 0o755, &read(file)?);
    }
    let mut known: BTreeSet<PathBuf> = DIRECTORIES.iter().map(PathBuf::from).collect();
    for library in &binaries.libraries {
        let path = library.strip_prefix("/").unwrap_or(library);
        let mut above: Vec<&Path> = path.ancestors().skip(1).filter(|above| *above != Path::new("")).collect();
        above.reverse();
        for directory in above {
            if known.insert(directory.to_owned()) {
                cpio.directory(&directory.display().to_string());
            }
        }
        cpio.file(&path.display().to_string(), 0o755, &read(library)?);
    }
    Ok(gzip(&cpio.finish()))
}

/// Writes the archive of one guest, and says where it is.
///
/// The kernel unpacks concatenated archives one after the other, so what only one guest has is appended.
///
/// # Errors
/// A BTF file that cannot be read or an archive that cannot be written.
pub fn write(directory: &Path, name: &str, base: &[u8], btf: Option<&Path>) -> Result<PathBuf, String> {
    let mut bytes = base.to_vec();
    if let Some(btf) = btf {
        let mut cpio = Cpio::new();
        cpio.file(BTF.trim_start_matches('/'), 0o644, &read(btf)?);
        bytes.extend(gzip(&cpio.finish()));
    }
    let path = directory.join(format!("{name}.cpio.gz"));
    fs::write(&path, bytes).map_err(|error| format!("write {}: {error}", path.display()))?;
    Ok(path)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("read {}: {error}", path.display()))
}

/// Compressed lightly: the kernel inflates it under emulation, and loading is quick either way.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

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
        let binaries = Binaries { guest: file.clone(), bpfkit: file.clone(), lookup, libraries };
        let base = base(&binaries).expect("an archive");
        let path = write(directory.path(), "5.10", &base, Some(&file)).expect("an archive");
        let bytes = fs::read(path).expect("read");
        assert_eq!(bytes[..base.len()], base);
        let mut unpacked = String::new();
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut unpacked).expect("gzip");
        assert_eq!(unpacked.matches("btf bytes").count(), 5, "init, the programs and the BTF are that file here");
        let path = library.to_str().expect("a path").trim_start_matches('/');
        assert!(unpacked.contains(&format!("{path}\0")) && unpacked.contains("/lib/deep\0"));
        assert_eq!(unpacked.matches("TRAILER!!!").count(), 2);
        assert!(unpacked.contains("vmlinux.btf\0"));
    }
}
