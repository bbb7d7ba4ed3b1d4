//! The kernel that programs are made for: the running one, or another.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use bpfkit_asm::{Helper, Version};
use bpfkit_btf::{Btf, Field, Form, Type};

use crate::calibrate::{self, Layout, calibrate};
use crate::ctx::Arch;
use crate::error::{Tried, chain};
use crate::feature::{Feature, Known};
use crate::kind::ProgType;
use crate::origin::Origin;
use crate::pid_namespace::PidNamespace;
use crate::sys::map::{PagedFile, map_file};
use crate::tracefs::{Format, Tracefs};
use crate::types::{BtfSource, Search};
use crate::{Error, kallsyms, kernel, probe};

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

    /// Whether it has something. The running kernel is asked by trying; where that does not tell, and for other kernels, the
    /// version decides.
    pub fn has(&self, feature: Feature) -> bool {
        self.ask(feature).0
    }

    /// Whether it has something, and how that is known.
    pub fn ask(&self, feature: Feature) -> (bool, Known) {
        let answers = || self.features.lock().unwrap_or_else(PoisonError::into_inner);
        if self.without.contains(&feature) {
            answers().insert(feature, (false, Known::Without));
            return (false, Known::Without);
        }
        if let Some(&answer) = answers().get(&feature) {
            return answer;
        }
        // The table is not locked meanwhile, as asking for one may take another.
        let tried = self.is_running.then(|| probe::feature(feature, self)).flatten();
        let answer = tried.map_or((self.version >= feature.since(), Known::ByVersion), |has| (has, Known::Tried));
        answers().insert(feature, answer);
        answer
    }

    /// Whether it is to do without something; the kernel is not asked.
    pub(crate) fn is_without(&self, feature: Feature) -> bool {
        self.without.contains(&feature)
    }

    /// What it was asked for so far, and whether it has it: what the code that was made for it depends on.
    pub fn answers(&self) -> BTreeMap<Feature, bool> {
        let answers = self.features.lock().unwrap_or_else(PoisonError::into_inner);
        answers.iter().map(|(&feature, &(has, _))| (feature, has)).collect()
    }

    /// Whether programs of a type may call a helper. The running kernel is asked by trying; where that does not tell, and for
    /// other kernels, the version that brought the helper decides.
    pub fn has_helper(&self, kind: ProgType, helper: Helper) -> bool {
        const SPLIT_READS: [Helper; 4] = [
            Helper::PROBE_READ_USER,
            Helper::PROBE_READ_KERNEL,
            Helper::PROBE_READ_USER_STR,
            Helper::PROBE_READ_KERNEL_STR,
        ];
        // They came together, so who does without the one does without all.
        if SPLIT_READS.contains(&helper) && self.without.contains(&Feature::ProbeReadKernel) {
            return false;
        }
        let by_version = || helper.since().is_some_and(|since| since <= self.version);
        if !self.is_running {
            return by_version();
        }
        let answers = || self.helpers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&answer) = answers().get(&(kind, helper.0)) {
            return answer;
        }
        let answer =
            probe::kind::Shape::of(kind, self).ok().and_then(|shape| shape.may_call(helper)).unwrap_or_else(by_version);
        answers().insert((kind, helper.0), answer);
        answer
    }

    /// Whether the running kernel has functions whose names begin in this way; nothing where its list is hidden. It is read once.
    pub(crate) fn has_functions(&self, prefix: &'static str) -> Result<Option<bool>, Error> {
        let mut known = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&answer) = known.get(prefix) {
            return Ok(answer);
        }
        let answer = kallsyms::has_any(prefix)?;
        known.insert(prefix, answer);
        Ok(answer)
    }

    /// Insists on something.
    ///
    /// # Errors
    /// That it is missing, and how that is known.
    pub fn require(&self, feature: Feature) -> Result<(), Error> {
        let why = match self.ask(feature) {
            (true, _) => return Ok(()),
            (false, Known::Without) => "it is to do without".to_owned(),
            (false, Known::Tried) => format!("this one, {}, refused it", self.version),
            (false, Known::ByVersion) => format!("{} is older", self.version),
        };
        Err(Error::Missing { feature, why })
    }

    /// Its types.
    ///
    /// # Errors
    /// Where they were looked for, and what was there.
    pub fn btf(&self) -> Result<&Btf, Error> {
        let found = self.btf.get_or_init(|| self.open_btf().map(|(btf, source)| (btf, Some(source))));
        found.as_ref().map(|(btf, _)| btf).map_err(|tried| Error::NoBtf(tried.clone()))
    }

    /// Where its types came from, if they were needed so far. Those of another kernel were given.
    pub fn btf_source(&self) -> Option<&BtfSource> {
        self.btf.get()?.as_ref().ok()?.1.as_ref()
    }

    /// What was looked for among its types so far, as [`bpfkit_btf::cut`] takes it.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Remembers that something was looked for among the types.
    pub(crate) fn note(&self, root: &str) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(root.to_owned());
    }

    /// The running kernel's types as it shows them itself.
    fn own_btf(&self) -> Result<&(Btf, BtfSource), &String> {
        let open = || {
            if self.without.contains(&Feature::KernelBtf) {
                return Err("it is to do without".to_owned());
            }
            let started = Instant::now();
            let btf = sysfs_btf().map_err(|error| chain(&error))?;
            Ok((btf, BtfSource { place: SYSFS_BTF.to_owned(), form: Form::Btf, took: started.elapsed(), doubt: None }))
        };
        self.own_btf.get_or_init(open).as_ref()
    }

    /// The types by whose numbers the kernel knows its functions. Those of a running one are its own: another file may have the same
    /// types under other numbers.
    pub(crate) fn numbered_btf(&self, feature: Feature) -> Result<&Btf, Error> {
        if !self.is_running {
            return self.btf();
        }
        self.own_btf().map(|(btf, _)| btf).map_err(|why| Error::Missing {
            feature,
            why: format!("it takes the kernel's own types, {SYSFS_BTF}: {why}"),
        })
    }

    fn open_btf(&self) -> Result<(Btf, BtfSource), Tried> {
        let mut tried = Tried::new();
        if self.search.file.is_none() {
            match self.own_btf() {
                Ok(own) => return Ok(own.clone()),
                Err(why) => tried.push((SYSFS_BTF.to_owned(), why.clone())),
            }
        }
        let release = kernel::release().unwrap_or_default();
        self.search.run(Path::new("/"), &release).map_err(|more| tried.into_iter().chain(more).collect())
    }

    /// The prototype of one of its functions.
    ///
    /// # Errors
    /// As [`Target::btf`], and when it has no such function.
    pub fn func_proto(&self, func: &str) -> Result<Type<'_>, Error> {
        self.note(func);
        Ok(self.btf()?.func_proto(func)?)
    }

    /// The prototype behind a typedef of a pointer to a function.
    pub(crate) fn typedef_proto(&self, name: &str) -> Result<Type<'_>, Error> {
        self.note(name);
        Ok(self.btf()?.typedef_proto(name)?)
    }

    /// Finds a member of a structure by its path.
    ///
    /// # Errors
    /// As [`Target::btf`] and [`Btf::field`].
    pub fn field(&self, path: &str) -> Result<Field, Error> {
        self.note(path);
        match self.btf() {
            Ok(btf) => self.undisputed(btf.field(path)?),
            Err(Error::NoBtf(mut tried)) if self.is_running && self.search.file.is_none() => {
                self.calibrated(path).map_err(|why| {
                    tried.push(("by trying".to_owned(), why));
                    Error::NoBtf(tried)
                })
            }
            Err(error) => Err(error),
        }
    }

    /// A member as the types that were given have it, unless the running kernel has types of its own, which have it elsewhere.
    fn undisputed(&self, field: Field) -> Result<Field, Error> {
        if let Some(file) = self.search.file.as_ref().filter(|_| self.is_running)
            && let Ok((own, _)) = self.own_btf()
            && let Ok(own) = own.field(&field.path)
            && own.offset != field.offset
        {
            let (file, path) = (file.display().to_string(), field.path);
            return Err(Error::OtherKernel { file, path, there: field.offset, here: own.offset });
        }
        Ok(field)
    }

    /// A member that was found by trying, without any types.
    fn calibrated(&self, path: &str) -> Result<Field, String> {
        let part = calibrate::part(path);
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = layouts.entry(part.to_owned()).or_insert_with(|| calibrate(part, self));
        let layout = known.as_ref().map_err(Clone::clone)?;
        layout.field(path).ok_or_else(|| format!("{path} was not found"))
    }

    /// Where members come from that are found: the types where there are any.
    pub(crate) fn origin(&self) -> Origin {
        if self.btf().is_ok() { Origin::Types } else { Origin::Trying }
    }

    /// The structures whose members were found by trying, as there were no types.
    pub fn calibrated_structures(&self) -> Vec<String> {
        let layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        let found = layouts.iter().filter(|(_, layout)| layout.is_ok());
        let mut names: Vec<_> = found.filter_map(|(part, _)| part.split('.').next().map(str::to_owned)).collect();
        names.dedup();
        names
    }

    /// Whether a function of the running kernel is given packets (`struct sk_buff`) by pointers to pointers, found by trying: for where
    /// no types have its prototype. It takes kprobes, and types that have `sk_buff.len`.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub fn takes_packets_indirectly(&self, symbol: &str) -> Result<bool, Error> {
        let tried =
            if self.is_running { calibrate::is_indirect(self, symbol) } else { Err("it does not run here".into()) };
        tried.map_err(|why| Error::NoBtf(vec![(format!("the prototype of {symbol} by trying"), why)]))
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
        if let Some(format) = Format::known(category, name) {
            return Ok(format);
        }
        self.note(&Format::record(name));
        match self.btf().and_then(|btf| Format::from_btf(btf, name)) {
            Ok(format) => Ok(format),
            Err(error) => Err(from_tracefs.unwrap_or(error)),
        }
    }
}

/// Where the running kernel shows its types.
pub(crate) const SYSFS_BTF: &str = "/sys/kernel/btf/vmlinux";

/// The running kernel's types, of which those are looked at that are asked for. Linux 6.16 and newer let them be mapped, which spares the
/// reading.
fn sysfs_btf() -> Result<Btf, bpfkit_btf::Error> {
    let path = Path::new(SYSFS_BTF);
    let opened = match map_file(path) {
        Ok(mapping) => return Btf::trusted(mapping),
        Err(_) => PagedFile::open(path),
    };
    Btf::trusted(opened.map_err(|error| bpfkit_btf::Error::Io(path.to_owned(), error))?)
}
