//! What is loaded on the system, whoever loaded it.

use crate::Error;
use crate::privilege::Other;
use crate::sys::bpf;

/// The ids of all programs, maps and links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Programs.
    pub programs: Vec<u32>,
    /// Maps.
    pub maps: Vec<u32>,
    /// Links; none before Linux 5.8, which has no list of them.
    pub links: Vec<u32>,
}

impl Inventory {
    /// Asks the kernel, which tells those who have CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn now() -> Result<Self, Error> {
        let failed = |error| Error::lacking(Other::Administration, "cannot list what is loaded", error);
        let links = match bpf::link_ids() {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Vec::new(),
            result => result.map_err(failed)?,
        };
        Ok(Self { programs: bpf::prog_ids().map_err(failed)?, maps: bpf::map_ids().map_err(failed)?, links })
    }
}
