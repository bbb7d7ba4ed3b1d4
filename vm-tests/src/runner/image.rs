//! Kernel images on disk: from the mirror once, then from the work directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::kernels::{Image, Kernel};

use super::apt::Suite;
use super::pattern::candidates;
use super::sources::Mirror;

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct BootImage {
    /// The line's name, or the file's for an image from outside.
    pub name: String,
    /// The vmlinuz, bzImage or PVH-bootable vmlinux.
    pub kernel: PathBuf,
    /// BTF for a kernel that has none of its own.
    pub btf: Option<PathBuf>,
    /// Where it came from, for the results.
    pub origin: String,
    /// Whether it is one of the list: those are known to begin without their decompressor.
    pub is_listed: bool,
}

/// Where images are kept and fetched.
pub struct Store {
    work: PathBuf,
    mirror: Option<Mirror>,
    refresh: bool,
}

/// The most versions of a line that are tried: a mirror drops a few at a time, not a dozen.
const TRIES: usize = 6;

impl Store {
    /// A store below `work`; with `refresh` the cached images are replaced by the newest.
    pub fn new(work: &Path, mirror: Option<Mirror>, refresh: bool) -> Store {
        Store { work: work.to_owned(), mirror, refresh }
    }

    /// The image of a line.
    ///
    /// # Errors
    /// Why it is unavailable.
    pub fn image(&self, line: &Kernel) -> Result<BootImage, String> {
        let Image::Debian { version, suites } = line.image else {
            return Err(format!("no Debian suite carries it; bring your own: --kernel PATH,name={}", line.name));
        };
        let directory = self.work.join("kernels").join(line.name);
        let (kernel, origin) = (directory.join("vmlinuz"), directory.join("package"));
        if self.refresh || !kernel.exists() {
            let package = self.fetch(version, suites, &directory, &kernel)?;
            fs::write(&origin, package).map_err(|error| format!("write {}: {error}", origin.display()))?;
        }
        let origin = fs::read_to_string(origin).unwrap_or_default();
        Ok(BootImage { name: line.name.to_owned(), kernel, btf: None, origin, is_listed: true })
    }

    /// Downloads the newest package that holds an image, and says which it was.
    fn fetch(&self, version: &str, suites: &[&str], directory: &Path, kernel: &Path) -> Result<String, String> {
        let mirror =
            self.mirror.as_ref().ok_or("this machine's apt has no mirror of Debian (--mirror URI names one)")?;
        let mut failures = Vec::new();
        for name in suites {
            match Suite::open(&self.work.join("apt"), mirror, name) {
                Err(error) => failures.push(error),
                Ok(suite) => match fetch_from(&suite, version, directory, kernel) {
                    Ok(package) => return Ok(format!("{package} ({name})")),
                    Err(errors) if errors.is_empty() => failures.push(format!("{name} has no package {version}")),
                    Err(errors) => failures.extend(errors),
                },
            }
        }
        Err(failures.join("; "))
    }
}

fn fetch_from(suite: &Suite, version: &str, directory: &Path, kernel: &Path) -> Result<String, Vec<String>> {
    let names = suite.kernel_packages().map_err(|error| vec![error])?;
    let mut failures = Vec::new();
    for package in candidates(names.iter().map(String::as_str), version).into_iter().take(TRIES) {
        let download = directory.join("download");
        let unpacked = suite.download(package, &download).and_then(|archive| unpack(&archive, kernel));
        let _ = fs::remove_dir_all(&download);
        match unpacked {
            Ok(()) => return Ok(package.to_owned()),
            Err(error) => failures.push(error),
        }
    }
    Err(failures)
}

/// Writes the image that a package holds to `kernel`, which appears whole or not at all.
fn unpack(archive: &Path, kernel: &Path) -> Result<(), String> {
    let failed = |what: &str, error: io::Error| format!("{what} {}: {error}", archive.display());
    let partial = kernel.with_extension("partial");
    let mut output = fs::File::create(&partial).map_err(|error| failed("write the image of", error))?;
    let mut dpkg = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(archive)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed("run dpkg-deb on", error))?;
    let members = ["./boot/vmlinuz-*", "./usr/lib/modules/*/vmlinuz", "./lib/modules/*/vmlinuz"];
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--to-stdout", "--wildcards"]).args(members).stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(pipe) = dpkg.stdout.take() {
        tar.stdin(pipe);
    }
    let mut tar = tar.spawn().map_err(|error| failed("run tar on", error))?;
    // Copied here and not by tar, which fails for the members that are not there too: an image that the disk has no room for
    // must not be taken for a whole one.
    let copied = tar.stdout.take().map_or(Ok(0), |mut pipe| io::copy(&mut pipe, &mut output));
    let _ = tar.wait();
    let read = dpkg.wait().map_err(|error| failed("run dpkg-deb on", error))?;
    let copied = copied.map_err(|error| {
        let _ = fs::remove_file(&partial);
        failed("write the image of", error)
    })?;
    if !read.success() {
        return Err(format!("dpkg-deb cannot read {}", archive.display()));
    }
    if copied == 0 {
        return Err(format!("{} holds no kernel image", archive.display()));
    }
    fs::rename(&partial, kernel).map_err(|error| failed("keep the image of", error))
}
