//! Where types come from: the running kernel, files, what a pipe brings, directories and archives of several kernels.

use std::path::{Path, PathBuf};

use bpfkit_btf::{Archive, Btf};
use bpfkit_loader::{Target, release as release_of_running};

use crate::roots::CARRIED;
use crate::{Error, input};

/// Where the kernel shows its own types, and those of its modules beside them.
const SYSFS: &str = "/sys/kernel/btf";

/// Types, and what they are called.
pub(super) struct Source {
    /// The release, or else the name of the file.
    pub(super) name: String,
    pub(super) btf: Btf,
}

/// One file with types.
#[derive(Clone, Debug, clap::Args)]
pub struct Input {
    /// BTF, an ELF file with BTF or DWARF, or `-` for standard input; the running kernel's types without it
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The types that those of a module come after, unless it is in /sys/kernel/btf
    #[arg(long, value_name = "FILE")]
    pub base: Option<PathBuf>,
}

/// Any number of files with types.
#[derive(Clone, Debug, clap::Args)]
pub struct Inputs {
    /// Files as `bpfkit btf archive` takes and makes them, and directories; the running kernel's types without any
    #[arg(value_name = "[RELEASE=]FILE")]
    pub files: Vec<PathBuf>,
    /// The types that those of a module come after, unless it is in /sys/kernel/btf
    #[arg(long, value_name = "FILE")]
    pub base: Option<PathBuf>,
}

impl Input {
    /// Reads the file.
    pub(super) fn open(&self) -> Result<Btf, Error> {
        let base = self.base.as_deref().map(|base| one(base, None)).transpose()?;
        match &self.file {
            Some(file) => one(file, base.as_ref()),
            None if base.is_some() => Err(Error::Request("--base needs the file of the module".to_owned())),
            None => running().map(|source| source.btf),
        }
    }
}

impl Inputs {
    /// Reads all files, in the order of the kernels' versions.
    pub(super) fn open(&self) -> Result<Vec<Source>, Error> {
        let base = self.base.as_deref().map(|base| one(base, None)).transpose()?;
        if self.files.is_empty() {
            return Ok(vec![running()?]);
        }
        let mut sources = Vec::new();
        for (name, file) in named_files(&self.files)? {
            match Archive::open(&file)? {
                Some(archive) => {
                    let releases: Vec<String> = archive.releases().map(str::to_owned).collect();
                    for release in releases {
                        let btf = archive.find(|known| known == release)?;
                        add(&mut sources, Source { name: release, btf });
                    }
                }
                None => add(&mut sources, Source { name, btf: one(&file, base.as_ref())? }),
            }
        }
        if sources.is_empty() {
            return Err(Error::Request("there is no file in the directory".to_owned()));
        }
        Ok(sources)
    }
}

/// The running kernel's types.
fn running() -> Result<Source, Error> {
    let target = Target::builder().carried(CARRIED).running()?;
    let name = release_of_running().unwrap_or_default();
    Ok(Source { name, btf: target.btf()?.clone() })
}

/// The types of a file.
pub(super) fn one(file: &Path, base: Option<&Btf>) -> Result<Btf, Error> {
    if input::is_stdin(file) {
        return Ok(Btf::read(input::read_less_than(input::MOST_WITH_TYPES, file)?, base)?);
    }
    if file.is_dir() {
        return Err(Error::Request(format!("{} is a directory, and one file is wanted", file.display())));
    }
    if let Some(archive) = Archive::open(file)? {
        let releases: Vec<&str> = archive.releases().collect();
        let [release] = releases.as_slice() else {
            let text = format!("{} has the types of {} kernels, and one is wanted", file.display(), releases.len());
            return Err(Error::Request(text));
        };
        return Ok(archive.find(|known| known == *release)?);
    }
    let is_module = file.parent() == Some(Path::new(SYSFS)) && file.file_name().is_some_and(|name| name != "vmlinux");
    match base {
        Some(base) => Ok(Btf::open_split(file, base)?),
        None if is_module => Ok(Btf::open_split(file, &Btf::from_file(Path::new(SYSFS).join("vmlinux"))?)?),
        None => Ok(Btf::open(file, None, |_| false)?.0),
    }
}

/// Adds the types of a kernel after those of older ones.
fn add(sources: &mut Vec<Source>, source: Source) {
    let at = sources.partition_point(|other| order(&other.name) <= order(&source.name));
    sources.insert(at, source);
}

/// What releases are ordered by: numbers as numbers.
fn order(release: &str) -> Vec<(u64, String)> {
    let mut parts = Vec::new();
    let mut rest = release;
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len()));
        let (digits, after) = after.split_at(after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len()));
        parts.push((digits.parse().unwrap_or(u64::MAX), word.to_owned()));
        rest = after;
    }
    parts
}

/// The files that were given, or that are in the directories that were given, with the releases that their names tell.
pub(super) fn named_files(inputs: &[PathBuf]) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut files = Vec::new();
    for input in inputs {
        let text = input.to_string_lossy();
        match text.split_once('=') {
            Some((release, file)) if !input.exists() => files.push((release.to_owned(), PathBuf::from(file))),
            _ if input.is_dir() => {
                let cannot = |error| Error::Io(format!("cannot read the directory {text}"), error);
                let entries = std::fs::read_dir(input).map_err(cannot)?.collect::<Result<Vec<_>, _>>();
                let mut paths: Vec<PathBuf> = entries.map_err(cannot)?.iter().map(std::fs::DirEntry::path).collect();
                paths.sort();
                files.extend(paths.into_iter().filter(|path| path.is_file()).map(|path| (release(&path), path)));
            }
            _ => files.push((release(input), input.clone())),
        }
    }
    Ok(files)
}

/// The release that the name of a file tells.
fn release(file: &Path) -> String {
    let name = |path: &Path| path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let whole = name(file);
    if whole == "vmlinux" {
        return file.parent().map_or_else(String::new, name);
    }
    let part = whole.strip_prefix("vmlinux-").unwrap_or(&whole);
    [".btf", ".debug"].iter().find_map(|end| part.strip_suffix(end)).unwrap_or(part).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_in_the_name() {
        for (file, known) in [
            ("/boot/vmlinux-4.19.0-27-amd64", "4.19.0-27-amd64"),
            ("4.18.0-553.el8_10.x86_64.btf", "4.18.0-553.el8_10.x86_64"),
            ("/usr/lib/debug/boot/vmlinux-5.4.0-1.debug", "5.4.0-1"),
            ("/lib/modules/5.15.0-91-generic/vmlinux", "5.15.0-91-generic"),
        ] {
            assert_eq!(release(Path::new(file)), known);
        }
    }

    #[test]
    fn a_release_may_be_given() {
        let given = named_files(&[PathBuf::from("5.4.0=/tmp/there/is/no/such/file")]).unwrap();
        assert_eq!(given, [("5.4.0".to_owned(), PathBuf::from("/tmp/there/is/no/such/file"))]);
    }
}
