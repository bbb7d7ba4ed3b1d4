//! Pins: names in a bpf file system, under which programs, maps and links stay when their processes end.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::Error;
use crate::sys::bpf;

/// Pins `what`, such as "map `counts`".
pub(crate) fn pin(what: &str, fd: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
    let what = format!("cannot pin the {what} at {}", path.display());
    let text = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| Error::io(&what, error.into()))?;
    bpf::obj_pin(&text, fd).map_err(|error| Error::privileged(what, error))
}

/// What was pinned, whatever it is.
pub(crate) struct Pinned {
    pub fd: OwnedFd,
    /// What the kernel says of it in /proc/self/fdinfo.
    fdinfo: String,
}

impl Pinned {
    /// Opens what is pinned; `what` is what it is meant to be.
    pub fn open(what: &str, path: &Path) -> Result<Self, Error> {
        let what = format!("cannot open the {what} pinned at {}", path.display());
        let text = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| Error::io(&what, error.into()))?;
        let fd = bpf::obj_get(&text).map_err(|source| match source.raw_os_error() {
            Some(libc::EACCES) => {
                let hint = "it is in no bpf file system, or its mode keeps this process out";
                Error::Io { what: what.clone(), hint: Some(hint.to_owned()), source }
            }
            _ => Error::privileged(&what, source),
        })?;
        let fdinfo = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))
            .map_err(|error| Error::io(&what, error))?;
        Ok(Self { fd, fdinfo })
    }

    /// The number of a line such as `map_type:\t1`. Each kind of object has lines of its own.
    pub fn number(&self, key: &str) -> Option<u32> {
        number(&self.fdinfo, key)
    }
}

fn number(fdinfo: &str, key: &str) -> Option<u32> {
    fdinfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_by_all_of_its_key() {
        let fdinfo = "pos:\t0\nmap_type:\t1\nmap_flags:\t0x0\nmap_id:\t17\n";
        let number = |key| number(fdinfo, key);
        assert_eq!((number("map_type"), number("map_id"), number("map")), (Some(1), Some(17), None));
        assert_eq!((number("map_flags"), number("prog_type")), (None, None));
    }

    #[test]
    fn a_file_that_is_nobodys_pin_is_told_by_its_path() {
        for path in ["/proc/self/status", "/no/such/pin"] {
            let Err(error) = Pinned::open("map", Path::new(path)) else { panic!("{path} is a pin") };
            assert!(error.to_string().starts_with(&format!("cannot open the map pinned at {path}")), "{error}");
        }
    }
}
