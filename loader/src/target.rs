//! The kernel that programs are made for: the running one, or another.

mod builder;
mod features;
mod types;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, OnceLock, PoisonError};

use bpfkit_asm::Version;
use bpfkit_btf::Btf;

pub use self::builder::TargetBuilder;
pub(crate) use self::types::SYSFS_BTF;
use crate::Error;
use crate::calibrate::Layout;
use crate::ctx::Arch;
use crate::error::{Tried, chain};
use crate::feature::{Feature, Known};
use crate::kind::ProgType;
use crate::pid_namespace::PidNamespace;
use crate::tracefs::{Format, Tracefs};
use crate::types::{BtfSource, Search};

/// Everything that code may depend on: architecture, version (for messages), types and features.
///
/// What is not asked for is not looked at: a program without members of structures reads no types.
#[derive(Debug)]
pub struct Target {
    arch: Arch,
    version: Version,
    is_running: bool,
    pid_namespace: Option<PidNamespace>,
    search: Search,
    without: Vec<Feature>,
    mount: bool,
    btf: OnceLock<Result<(Btf, Option<BtfSource>), Tried>>,
    /// The running kernel's own, whatever [`Self::btf`] is.
    own_btf: OnceLock<Result<(Btf, BtfSource), String>>,
    /// What was looked for among the types.
    asked: Mutex<BTreeSet<String>>,
    /// The records of tracepoints that were asked for: each access to one in a program does.
    formats: Mutex<BTreeMap<(String, String), Format>>,
    tracefs: OnceLock<Result<Tracefs, String>>,
    features: Mutex<HashMap<Feature, (bool, Known)>>,
    helpers: Mutex<HashMap<(ProgType, u32), bool>>,
    /// What was found by trying, by structure.
    layouts: Mutex<BTreeMap<String, Result<Layout, String>>>,
    lockdown: OnceLock<Option<String>>,
    /// Whether it has functions whose names begin so.
    functions: Mutex<HashMap<&'static str, Option<bool>>>,
    cleaned: OnceLock<()>,
}

impl Target {
    fn bare(arch: Arch, version: Version) -> Self {
        Self {
            arch,
            version,
            is_running: false,
            pid_namespace: None,
            search: Search::default(),
            without: Vec::new(),
            mount: false,
            btf: OnceLock::new(),
            own_btf: OnceLock::new(),
            asked: Mutex::default(),
            formats: Mutex::default(),
            tracefs: OnceLock::new(),
            features: Mutex::default(),
            helpers: Mutex::default(),
            layouts: Mutex::default(),
            lockdown: OnceLock::new(),
            functions: Mutex::default(),
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
        let _ = target.btf.set(btf.map(|btf| (btf, None)).ok_or_else(none));
        target
    }

    /// The same kernel, as if it lacked this.
    #[must_use]
    pub fn lacking(mut self, feature: Feature) -> Self {
        self.without.push(feature);
        self
    }

    /// The same kernel, seen from a pid namespace.
    #[must_use]
    pub fn in_pid_namespace(mut self, namespace: PidNamespace) -> Self {
        self.pid_namespace = Some(namespace);
        self
    }

    /// The pid namespace that this process runs in, where it is not the initial one.
    pub fn pid_namespace(&self) -> Option<PidNamespace> {
        self.pid_namespace
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

    /// The kernel's tracing directory.
    pub(crate) fn tracefs(&self) -> Result<&Tracefs, Error> {
        let open = || Tracefs::open(self.mount).map_err(|error| chain(&error));
        self.tracefs.get_or_init(open).as_ref().map_err(|why| Error::Attach {
            what: "by tracefs".to_owned(),
            tried: vec![("tracefs".to_owned(), why.clone())],
        })
    }

    /// The security modules of the running kernel, in the kernel's notation (`lockdown,capability,bpf`), as far as that can be
    /// told. Programs at their hooks run only where `bpf` is one of them.
    pub fn security_modules(&self) -> Option<String> {
        self.is_running.then(|| crate::lsm::active(self.mount)).flatten()
    }

    /// How far the running kernel is locked down: `none`, `integrity` or `confidentiality`; nothing where it cannot be.
    pub fn lockdown(&self) -> Option<&str> {
        let ask = || self.is_running.then(|| crate::lsm::lockdown(self.mount)).flatten();
        self.lockdown.get_or_init(ask).as_deref()
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
            let mut formats = self.formats.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (category.to_owned(), name.to_owned());
            if let Some(format) = formats.get(&key) {
                return Ok(format.clone());
            }
            match self.tracefs().and_then(|tracefs| tracefs.format(category, name)) {
                Ok(format) => {
                    formats.insert(key, format.clone());
                    return Ok(format);
                }
                Err(error) => Some(error),
            }
        } else {
            None
        };
        self.note(&Format::record(name));
        if let Some(format) = Format::known(category, name) {
            // Kernels with patches for real time, vendors' among them, have more before it: types tell, where they have the record.
            let own = self.btf().ok().and_then(|btf| Format::from_btf(btf, name).ok());
            return Ok(own.unwrap_or(format));
        }
        match self.btf().and_then(|btf| Format::from_btf(btf, name)) {
            Ok(format) => Ok(format),
            Err(error) => Err(from_tracefs.unwrap_or(error)),
        }
    }
}
