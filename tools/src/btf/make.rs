//! Files of types: BTF out of DWARF, types cut down to what is needed, archives of several kernels.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bpfkit_btf::{Archive, Btf, cut};

use super::source::named_files;
use crate::roots::ROOTS;
use crate::{Error, report};

/// Makes BTF out of DWARF.
pub(super) fn from_dwarf(vmlinux: &Path, output: &Path, only_tools: bool) -> Result<(), Error> {
    let btf = Btf::from_dwarf_file(vmlinux, only_tools.then_some(ROOTS))?;
    told(output, btf.as_bytes(), &format!("{} types", btf.len()))
}

/// Cuts types down to some roots, or to what the tools need.
pub(super) fn min(input: &Path, output: &Path, roots: &[String]) -> Result<(), Error> {
    let named: Vec<&str> = roots.iter().map(String::as_str).collect();
    let bytes = if roots.is_empty() { needed(input, ROOTS)? } else { chosen(input, &named)? };
    told(output, &bytes, &format!("{} types", Btf::parse(bytes.clone())?.len()))
}

/// Puts what the tools need of several kernels into one file.
pub(super) fn archive(inputs: &[PathBuf], output: &Path) -> Result<(), Error> {
    let mut kernels = BTreeMap::new();
    for (release, file) in named_files(inputs)? {
        let bytes = needed(&file, ROOTS)?;
        if let Some(other) = kernels.insert(release.clone(), bytes.clone())
            && other != bytes
        {
            return Err(Error::Request(format!("there are two kernels {release} with different types")));
        }
    }
    told(output, &Archive::write(&kernels)?, &format!("types of {} releases", kernels.len()))
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
