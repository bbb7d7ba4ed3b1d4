//! The kernel that programs are made for: the running one, or another.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use bpfkit_asm::Version;
use bpfkit_btf::{Btf, Field};

use crate::ctx::Arch;
use crate::error::{Tried, chain};
use crate::feature::{self, Feature};
use crate::sys::map::map_file;
use crate::tracefs::{Format, Tracefs};
use crate::{Error, kernel};

/// Everything that code may depend on: architecture, version (for messages), types and features.
///
/// What is not asked for is not looked at: a program without members of structures reads no types.
#[derive(Debug)]
pub struct Target {
    arch: Arch,
    version: Version,
    is_running: bool,
    btf_file: Option<PathBuf>,
    without: Vec<Feature>,
    mount: bool,
    btf: OnceLock<Result<Btf, Tried>>,
    tracefs: OnceLock<Result<Tracefs, String>>,
    features: Mutex<HashMap<Feature, bool>>,
    cleaned: OnceLock<()>,
}

/// How a target of the running kernel differs from what the kernel says.
#[derive(Clone, Debug, Default)]
pub struct TargetBuilder {
    btf_file: Option<PathBuf>,
    without: Vec<Feature>,
    no_mount: bool,
}

impl TargetBuilder {
    /// Takes the types from this file.
    #[must_use]
    pub fn btf_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.btf_file = Some(path.into());
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
        let unknown = || Error::Format {
            path: "/proc/sys/kernel/osrelease".to_owned(),
            found: kernel::release().unwrap_or_default(),
        };
        let version = kernel::version().ok_or_else(unknown)?;
        Ok(Target {
            is_running: true,
            btf_file: self.btf_file,
            without: self.without,
            mount: !self.no_mount,
            ..Target::bare(Arch::running()?, version)
        })
    }
}

impl Target {
    fn bare(arch: Arch, version: Version) -> Self {
        Self {
            arch,
            version,
            is_running: false,
            btf_file: None,
            without: Vec::new(),
            mount: false,
            btf: OnceLock::new(),
            tracefs: OnceLock::new(),
            features: Mutex::default(),
            cleaned: OnceLock::new(),
        }
    }

    /// The running kernel.
    ///
    /// # Errors
    /// As [`TargetBuilder::running`].
    pub fn running() -> Result<Self, Error> {
        Self::builder().running()
    }

    /// The running kernel, with a difference.
    pub fn builder() -> TargetBuilder {
        TargetBuilder::default()
    }

    /// Another kernel, of x86-64: its types, if it has any, and what its version brought.
    pub fn offline(btf: Option<Btf>, version: Version) -> Self {
        let target = Self::bare(Arch::X86_64, version);
        let none =
            || vec![("--btf".to_owned(), "not given, and a kernel that does not run here has no other".to_owned())];
        let _ = target.btf.set(btf.ok_or_else(none));
        target
    }

    /// Its architecture.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether it is the kernel that runs here.
    pub fn is_running(&self) -> bool {
        self.is_running
    }

    /// Whether it has something. The running kernel is asked by trying; where that does not tell, and for other kernels, the
    /// version decides.
    pub fn has(&self, feature: Feature) -> bool {
        if self.without.contains(&feature) {
            return false;
        }
        let known = self.features.lock().unwrap_or_else(PoisonError::into_inner).get(&feature).copied();
        if let Some(known) = known {
            return known;
        }
        let by_version = || self.version >= feature.since();
        let has = if self.is_running { feature::probe(feature, self).unwrap_or_else(by_version) } else { by_version() };
        self.features.lock().unwrap_or_else(PoisonError::into_inner).insert(feature, has);
        has
    }

    /// Insists on something.
    ///
    /// # Errors
    /// That it is missing, and how that is known.
    pub fn require(&self, feature: Feature) -> Result<(), Error> {
        if self.has(feature) {
            return Ok(());
        }
        let why = match () {
            () if self.without.contains(&feature) => "it is to do without".to_owned(),
            () if self.is_running => format!("this one, {}, refused it", self.version),
            () => format!("{} is older", self.version),
        };
        Err(Error::Missing { feature, why })
    }

    /// Its types.
    ///
    /// # Errors
    /// Where they were looked for, and what was there.
    pub fn btf(&self) -> Result<&Btf, Error> {
        self.btf.get_or_init(|| self.open_btf()).as_ref().map_err(|tried| Error::NoBtf(tried.clone()))
    }

    fn open_btf(&self) -> Result<Btf, Tried> {
        if let Some(path) = &self.btf_file {
            return Btf::from_file(path).map_err(|error| vec![("--btf".to_owned(), chain(&error))]);
        }
        let release = kernel::release().unwrap_or_default();
        let mut tried = Tried::new();
        let mut attempt = |path: &Path, result: Result<Btf, bpfkit_btf::Error>| {
            result.map_err(|error| tried.push((path.display().to_string(), chain(&error)))).ok()
        };
        let sysfs = Path::new("/sys/kernel/btf/vmlinux");
        // Linux 6.16 and newer let it be mapped, which spares a copy of several megabytes.
        let opened = match map_file(sysfs) {
            Ok(mapping) => Btf::parse(mapping),
            Err(_) => Btf::from_file(sysfs),
        };
        if let Some(btf) = attempt(sysfs, opened) {
            return Ok(btf);
        }
        let places = [
            format!("/boot/vmlinux-{release}"),
            format!("/lib/modules/{release}/vmlinux"),
            format!("/lib/modules/{release}/build/vmlinux"),
            format!("/usr/lib/debug/boot/vmlinux-{release}"),
            format!("/usr/lib/debug/lib/modules/{release}/vmlinux"),
        ];
        for place in places.iter().map(Path::new) {
            if let Some(btf) = attempt(place, Btf::from_file(place)) {
                return Ok(btf);
            }
        }
        Err(tried)
    }

    /// Finds a member of a structure by its path.
    ///
    /// # Errors
    /// As [`Target::btf`] and [`Btf::field`].
    pub fn field(&self, path: &str) -> Result<Field, Error> {
        Ok(self.btf()?.field(path)?)
    }

    /// The kernel's tracing directory.
    pub(crate) fn tracefs(&self) -> Result<&Tracefs, Error> {
        let open = || Tracefs::open(self.mount).map_err(|error| chain(&error));
        self.tracefs.get_or_init(open).as_ref().map_err(|why| Error::Attach {
            what: "by tracefs".to_owned(),
            tried: vec![("tracefs".to_owned(), why.clone())],
        })
    }

    /// Removes, once, what killed processes of this program have left in the tracing directory.
    pub(crate) fn remove_stale_probes(&self) {
        self.cleaned.get_or_init(|| {
            if let Ok(tracefs) = self.tracefs() {
                tracefs.remove_stale();
            }
        });
    }

    /// The layout of a tracepoint's record: from tracefs, else from the type that the kernel has for it.
    ///
    /// # Errors
    /// When neither tells.
    pub fn tracepoint(&self, category: &str, name: &str) -> Result<Format, Error> {
        let from_tracefs = if self.is_running {
            match self.tracefs().and_then(|tracefs| tracefs.format(category, name)) {
                Ok(format) => return Ok(format),
                Err(error) => Some(error),
            }
        } else {
            None
        };
        match self.btf().and_then(|btf| Format::from_btf(btf, name)) {
            Ok(format) => Ok(format),
            Err(error) => Err(from_tracefs.unwrap_or(error)),
        }
    }
}
