//! Which processes hold programs open, as who loaded one mostly does. A program that is pinned, or attached to a device, needs none.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::status;

/// A process that has a descriptor of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub comm: String,
}

/// All holders, with the numbers of the programs that they hold. Processes that this one may not look into are left out, and so is
/// this one.
pub fn all() -> Vec<(u32, Holder)> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| pid != std::process::id()).flat_map(held).collect()
}

fn held(pid: u32) -> Vec<(u32, Holder)> {
    let process = Path::new("/proc").join(pid.to_string());
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let of = |descriptor: fs::DirEntry| {
        fs::read_link(descriptor.path()).ok().filter(|to| to.as_os_str() == "anon_inode:bpf-prog")?;
        status::number(&fs::read_to_string(process.join("fdinfo").join(descriptor.file_name())).ok()?, "prog_id")
    };
    let mut ids: Vec<u32> = descriptors.filter_map(of).collect();
    ids.sort_unstable();
    ids.dedup();
    let comm = comm(&process);
    ids.into_iter().map(|id| (id, Holder { pid, comm: comm.clone() })).collect()
}

/// The name of a process, which may be any bytes.
fn comm(process: &Path) -> String {
    let comm = fs::read(process.join("comm")).unwrap_or_default();
    String::from_utf8_lossy(comm.strip_suffix(b"\n").unwrap_or(&comm)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_whose_name_is_no_text_has_one() {
        let mut child = status::tests::nameless();
        let name = comm(Path::new(&format!("/proc/{}", child.id())));
        child.kill().and_then(|()| child.wait()).unwrap();
        assert_eq!(name, "\u{fffd}\u{1b}");
    }
}
