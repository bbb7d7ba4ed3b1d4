//! `bpfkit btf`: types for kernels that have none of their own, made on a machine that has what they are made from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bpfkit_btf::{Archive, Btf, cut};
use clap::Subcommand;

use crate::cli::Question;
use crate::output::Output;
use crate::roots::ROOTS;
use crate::{Error, report};

/// Make kernel types (BTF) for kernels that bring none along
#[derive(Clone, Debug, clap::Args)]
#[command(disable_help_subcommand = true, subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with types.
#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// Make BTF out of the DWARF of a vmlinux, or of any other linked ELF file
    FromDwarf {
        /// The file with debugging information
        vmlinux: PathBuf,
        /// Where to write the BTF
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// Keep only what the tools of bpfkit need
        #[arg(long)]
        only_tools: bool,
    },
    /// Cut types down to what is needed: kilobytes are left of megabytes
    Min {
        /// A file with BTF, or with DWARF
        input: PathBuf,
        /// Where to write the BTF
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// A type or function to keep, or the path of a member (`sock.__sk_common.skc_dport`); without any, what the tools need
        #[arg(value_name = "ROOT")]
        roots: Vec<String>,
    },
    /// Put what the tools need of several kernels into one file, of which --btf takes the kernel that runs
    ///
    /// A kernel's release is the name of its file without `vmlinux-` in front and `.btf` or `.debug` at the end; of a file that is
    /// called just `vmlinux` it is the name of its directory; else it is given: RELEASE=FILE.
    Archive {
        /// Files with BTF or DWARF, or directories with such files and nothing else
        #[arg(value_name = "[RELEASE=]FILE", required = true)]
        inputs: Vec<PathBuf>,
        /// Where to write the archive
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}

impl Question for Args {
    fn answer(&self, _: &mut Output) -> Result<(), Error> {
        match &self.action {
            Action::FromDwarf { vmlinux, output, only_tools } => {
                let btf = Btf::from_dwarf_file(vmlinux, only_tools.then_some(ROOTS))?;
                told(output, btf.as_bytes(), &format!("{} types", btf.len()))
            }
            Action::Min { input, output, roots } => {
                let named: Vec<&str> = roots.iter().map(String::as_str).collect();
                let bytes = if roots.is_empty() { needed(input, ROOTS)? } else { chosen(input, &named)? };
                told(output, &bytes, &format!("{} types", Btf::parse(bytes.clone())?.len()))
            }
            Action::Archive { inputs, output } => {
                let mut kernels = BTreeMap::new();
                for (release, file) in files(inputs)? {
                    let bytes = needed(&file, ROOTS)?;
                    if let Some(other) = kernels.insert(release.clone(), bytes.clone())
                        && other != bytes
                    {
                        return Err(Error::Request(format!("there are two kernels {release} with different types")));
                    }
                }
                told(output, &Archive::write(&kernels)?, &format!("types of {} releases", kernels.len()))
            }
        }
    }
}

/// Those of some roots that a file has; one that has none of them is not a kernel's.
fn needed(file: &Path, roots: &[&str]) -> Result<Vec<u8>, Error> {
    let (btf, _) = Btf::open(file, Some(roots), |_| false)?;
    let present = btf.present(roots);
    if present.is_empty() {
        return Err(Error::Request(format!("{} has none of the types that the tools need", file.display())));
    }
    Ok(cut(&btf, &present)?)
}

/// All of some roots.
fn chosen(file: &Path, roots: &[&str]) -> Result<Vec<u8>, Error> {
    let (btf, _) = Btf::open(file, Some(roots), |_| false)?;
    Ok(cut(&btf, roots)?)
}

/// Writes a file, and says what it has.
fn told(path: &Path, bytes: &[u8], what: &str) -> Result<(), Error> {
    std::fs::write(path, bytes).map_err(|error| Error::Io(format!("cannot write {}", path.display()), error))?;
    report::say(format_args!("{}: {what}, {} bytes", path.display(), bytes.len()));
    Ok(())
}

/// The files that were given, or that are in the directories that were given, with the releases that their names tell.
fn files(inputs: &[PathBuf]) -> Result<Vec<(String, PathBuf)>, Error> {
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
        let given = files(&[PathBuf::from("5.4.0=/tmp/there/is/no/such/file")]).unwrap();
        assert_eq!(given, [("5.4.0".to_owned(), PathBuf::from("/tmp/there/is/no/such/file"))]);
    }
}
