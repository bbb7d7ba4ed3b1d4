//! Files of types: BTF out of DWARF, types cut down to what is needed, archives of several kernels.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bpfkit_btf::{Archive, Btf, build_id, cut};

use super::source::named_files;
use crate::output;
use crate::roots::ROOTS;
use crate::{Error, report};

/// Makes BTF out of DWARF.
pub(super) fn from_dwarf(vmlinux: &Path, output: &Path, only_tools: bool) -> Result<(), Error> {
    let btf = Btf::from_dwarf_file(vmlinux, only_tools.then_some(ROOTS))?;
    told(output, &marked(vmlinux, &btf), &format!("{} types", btf.len()))
}

/// Cuts types down to some roots, or to what the tools need.
pub(super) fn min(input: &Path, output: &Path, roots: &[String]) -> Result<(), Error> {
    let named: Vec<&str> = roots.iter().map(String::as_str).collect();
    let (btf, id) = if roots.is_empty() { needed(input, ROOTS)? } else { chosen(input, &named)? };
    let bytes = id.map_or_else(|| btf.as_bytes().to_vec(), |id| btf.marked(&id));
    told(output, &bytes, &format!("{} types", btf.len()))
}

/// Puts what the tools need of several kernels into one file.
pub(super) fn archive(inputs: &[PathBuf], output: &Path) -> Result<(), Error> {
    let mut kernels = BTreeMap::new();
    for (release, file) in named_files(inputs)? {
        // An archive has the releases, so that kernels with equal types share them.
        let bytes = needed(&file, ROOTS)?.0.as_bytes().to_vec();
        if let Some(other) = kernels.insert(release.clone(), bytes.clone())
            && other != bytes
        {
            return Err(Error::Request(format!("there are two kernels {release} with different types")));
        }
    }
    told(output, &Archive::write(&kernels)?, &format!("types of {} releases", kernels.len()))
}

/// The types of a file, with the mark of the kernel's build that the file is of, where it says so.
fn marked(file: &Path, btf: &Btf) -> Vec<u8> {
    match build_id(file) {
        Some(id) => btf.marked(&id),
        None => btf.as_bytes().to_vec(),
    }
}

/// Those of some roots that a file has, and the build that it is of; one that has none of them is not a kernel's.
fn needed(file: &Path, roots: &[&str]) -> Result<(Btf, Option<String>), Error> {
    let (btf, _) = Btf::open(file, Some(roots), |_| false)?;
    let present = btf.present(roots);
    if present.is_empty() {
        return Err(Error::Request(format!("{} has none of the types that the tools need", file.display())));
    }
    Ok((Btf::parse(cut(&btf, &present)?)?, build_id(file).or_else(|| btf.build_id())))
}

/// All of some roots.
fn chosen(file: &Path, roots: &[&str]) -> Result<(Btf, Option<String>), Error> {
    let (btf, _) = Btf::open(file, Some(roots), |_| false)?;
    Ok((Btf::parse(cut(&btf, roots)?)?, build_id(file).or_else(|| btf.build_id())))
}

/// Writes a file, and says what it has.
fn told(path: &Path, bytes: &[u8], what: &str) -> Result<(), Error> {
    output::to_file(path, |output| output.bytes(bytes))?;
    report::say(format_args!("{}: {what}, {} bytes", path.display(), bytes.len()));
    Ok(())
}
