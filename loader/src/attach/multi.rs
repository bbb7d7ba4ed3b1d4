//! One link for many places of a file.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::Path;

use crate::Error;
use crate::attach::Attach;
use crate::error::Tried;
use crate::link::Link;
use crate::prog::{Prog, Tasks};
use crate::sys::bpf;
use crate::target::Target;

const HOW: &str = "BPF_LINK_CREATE";

/// At places in a file, each with its cookie.
pub(super) fn users(
    prog: Prog,
    target: &Target,
    at: &Attach,
    tasks: Tasks,
    path: &Path,
    places: &[(u64, u64)],
) -> Result<Link, Error> {
    if tasks != Tasks::All {
        // Linux 6.6 to 6.9, until their stable releases of June 2024, took the number of a process for that of its first thread.
        return Err(super::misplaced(at, "one link for many places cannot be kept to one process by every kernel"));
    }
    target.remove_stale_probes();
    let what = format!("cannot probe {}", path.display());
    let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| Error::io(&what, error.into()))?;
    match bpf::link_uprobes(prog.as_fd(), at.expected(), &name, places, at.is_return()) {
        Ok(link) => Ok(Link::new(prog, vec![link], HOW, Tried::new())),
        Err(error) => match Error::privileged(what, error) {
            error if error.is_permission() => Err(error),
            error => Err(super::failed(at, vec![super::entry(HOW, &error)])),
        },
    }
}
