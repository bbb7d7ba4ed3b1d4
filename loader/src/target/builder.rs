//! How a target of the running kernel differs from what the kernel says.

use std::path::PathBuf;

use super::Target;
use crate::ctx::Arch;
use crate::feature::Feature;
use crate::pid_namespace::PidNamespace;
use crate::types::Search;
use crate::{Error, kernel};

/// How a target of the running kernel differs from what the kernel says.
#[derive(Clone, Debug, Default)]
pub struct TargetBuilder {
    search: Search,
    without: Vec<Feature>,
    no_mount: bool,
}

impl TargetBuilder {
    /// Takes the types from this file: BTF, an ELF file with BTF or DWARF, or an archive that has this kernel's release.
    #[must_use]
    pub fn btf_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.search.file = Some(path.into());
        self
    }

    /// Says which types are needed, as [`bpfkit_btf::cut`] takes them. It spares work where they come from DWARF.
    #[must_use]
    pub fn roots(mut self, roots: &'static [&'static str]) -> Self {
        self.search.roots = Some(roots);
        self
    }

    /// An [`Archive`](bpfkit_btf::Archive) to take the types from if they are nowhere else.
    #[must_use]
    pub fn carried(mut self, archive: &'static [u8]) -> Self {
        self.search.carried = archive;
        self
    }

    /// Behaves as if the kernel lacked this.
    #[must_use]
    pub fn without(mut self, feature: Feature) -> Self {
        self.without.push(feature);
        self
    }

    /// Does not mount tracefs for itself where nobody has mounted it.
    #[must_use]
    pub fn leave_unmounted(mut self) -> Self {
        self.no_mount = true;
        self
    }

    /// The running kernel.
    ///
    /// # Errors
    /// An architecture whose registers are not known, a version that cannot be read.
    pub fn running(self) -> Result<Target, Error> {
        let unknown = || match kernel::read_release() {
            Ok(found) => Error::Format { path: kernel::RELEASE.to_owned(), found },
            Err(error) => Error::io(format!("cannot read {}", kernel::RELEASE), error),
        };
        let version = kernel::version().ok_or_else(unknown)?;
        Ok(Target {
            is_running: true,
            pid_namespace: PidNamespace::own(),
            search: self.search,
            without: self.without,
            mount: !self.no_mount,
            ..Target::bare(Arch::running()?, version)
        })
    }
}
