//! Maps: what programs remember, and how they speak to user space.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bpfkit_btf::{Builder, TypeId};

use crate::feature::Feature;
use crate::kind::MapType;
use crate::sys::bpf::{self, MapCreate};
use crate::sys::info as answers;
use crate::sys::process;
use crate::target::Target;
use crate::{Error, cpus};

/// A map that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapSpec {
    /// What programs call it; the kernel keeps 15 bytes of it.
    pub name: String,
    /// What kind of map it is.
    pub kind: MapType,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value, on one CPU.
    pub value_size: u32,
    /// The most elements it can have; 0 stands for one for each possible CPU in a perf event array.
    pub max_entries: u32,
    /// `BPF_F_*` of include/uapi/linux/bpf.h.
    pub flags: u32,
    /// What keys and values are made of, for those who look at the map.
    pub types: Option<MapTypes>,
}

/// What keys and values of a map are made of: names and bytes, in order, without gaps. `bpftool map dump` shows them by these
/// names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapTypes {
    /// The parts of a key.
    pub key: Vec<(String, u32)>,
    /// The parts of a value.
    pub value: Vec<(String, u32)>,
}

impl MapTypes {
    /// The types of a map of this name as a blob, and their numbers in it.
    fn blob(&self, map: &str) -> (Vec<u8>, TypeId, TypeId) {
        let mut types = Builder::new();
        let byte = types.int("unsigned char", 1, false);
        let key = aggregate(&mut types, byte, &format!("{map}_key"), &self.key);
        let value = aggregate(&mut types, byte, &format!("{map}_value"), &self.value);
        (types.finish(), key, value)
    }
}

/// An integer where there is one part, else a structure.
pub(crate) fn aggregate(types: &mut Builder, byte: TypeId, name: &str, parts: &[(String, u32)]) -> TypeId {
    let mut offset = 0;
    let mut members = Vec::new();
    for (part, size) in parts {
        let ty = match size {
            2 => types.int("unsigned short", 2, false),
            4 => types.int("unsigned int", 4, false),
            8 => types.int("unsigned long long", 8, false),
            _ => {
                let index = types.int("unsigned int", 4, false);
                types.array(byte, index, *size)
            }
        };
        members.push((part.as_str(), ty, offset));
        offset += size;
    }
    match members.as_slice() {
        &[(_, ty, _)] => ty,
        members => types.strukt(name, offset, members),
    }
}

macro_rules! kinds {
    ($($name:ident $kind:ident $text:literal)*) => {
        impl MapSpec {$(
            #[doc = $text]
            pub fn $name(name: &str, key_size: u32, value_size: u32, max_entries: u32) -> Self {
                Self { name: name.to_owned(), kind: MapType::$kind, key_size, value_size, max_entries, flags: 0, types: None }
            }
        )*}
    };
}

kinds! {
    hash HASH "A hash table, whose elements are allocated beforehand."
    percpu_hash PERCPU_HASH "A hash table that has a value for each CPU."
    lru_hash LRU_HASH "A hash table that forgets what was not used for the longest time when it is full."
    lru_percpu_hash LRU_PERCPU_HASH "The same with a value for each CPU."
}

impl MapSpec {
    /// An array, indexed by u32.
    pub fn array(name: &str, value_size: u32, max_entries: u32) -> Self {
        Self { kind: MapType::ARRAY, ..Self::hash(name, 4, value_size, max_entries) }
    }

    /// An array that has a value for each CPU.
    pub fn percpu_array(name: &str, value_size: u32, max_entries: u32) -> Self {
        Self { kind: MapType::PERCPU_ARRAY, ..Self::array(name, value_size, max_entries) }
    }

    /// The perf rings of all CPUs.
    pub fn perf_event_array(name: &str) -> Self {
        Self { kind: MapType::PERF_EVENT_ARRAY, ..Self::array(name, 4, 0) }
    }

    /// Directories of cgroup v2.
    pub fn cgroup_array(name: &str, max_entries: u32) -> Self {
        Self { kind: MapType::CGROUP_ARRAY, ..Self::array(name, 4, max_entries) }
    }

    /// Says what keys and values are made of.
    #[must_use]
    pub fn with_types(mut self, key: &[(&str, u32)], value: &[(&str, u32)]) -> Self {
        let owned = |parts: &[(&str, u32)]| parts.iter().map(|&(name, size)| (name.to_owned(), size)).collect();
        self.types = Some(MapTypes { key: owned(key), value: owned(value) });
        self
    }

    /// Makes it.
    ///
    /// # Errors
    /// What the kernel says to BPF_MAP_CREATE.
    pub fn create(&self, target: &Target) -> Result<Map, Error> {
        let max_entries = match self.max_entries {
            0 if self.kind == MapType::PERF_EVENT_ARRAY => cpus::possible()?.last().map_or(1, |last| last + 1),
            n => n,
        };
        let attributes = MapCreate {
            map_type: self.kind.0,
            key_size: self.key_size,
            value_size: self.value_size,
            max_entries,
            map_flags: self.flags,
            map_name: bpf::object_name(&self.name),
            ..Default::default()
        };
        // Linux 4.18 and 4.19 take types of maps and none of programs.
        let takes_types = |_: &&MapTypes| target.has(Feature::ProgBtf) || target.has(Feature::MapBtf);
        let types = self.types.as_ref().filter(takes_types).and_then(|types| {
            let (blob, key, value) = types.blob(&self.name);
            let attributes = MapCreate { btf_key_type_id: key.0, btf_value_type_id: value.0, ..attributes };
            let btf = with_memlock(|| bpf::btf_load(&blob)).ok()?;
            with_memlock(|| bpf::map_create(attributes, Some(btf.as_fd()))).ok()
        });
        // The types are for people: where the kernel does not want them, the map is made without.
        let fd = types
            .map_or_else(|| with_memlock(|| bpf::map_create(attributes, None)), Ok)
            .map_err(|error| Error::privileged(format!("cannot create the map `{}`", self.name), error))?;
        let Self { kind, key_size, value_size, .. } = *self;
        Map::new(fd, self.name.clone(), MapInfo { kind, key_size, value_size, max_entries })
    }
}

/// Before Linux 5.11 the kernel says EPERM when the limit on locked memory is reached, so that is lifted and the call repeated.
/// Where it cannot be lifted, what the kernel said stands.
pub(crate) fn with_memlock<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    match call() {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && process::raise_memlock() => call(),
        result => result,
    }
}

/// What a map is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapInfo {
    /// What kind of map it is.
    pub kind: MapType,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value, on one CPU.
    pub value_size: u32,
    /// The most elements it can have.
    pub max_entries: u32,
}

/// What an update does where there is an element, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpdateMode {
    /// BPF_ANY: makes or replaces.
    #[default]
    Any,
    /// BPF_NOEXIST: makes; EEXIST where there is one.
    NoExist,
    /// BPF_EXIST: replaces; ENOENT where there is none.
    Exist,
}

/// A map of the kernel. It lives as long as this, a program that uses it, or a pin.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    name: String,
    info: MapInfo,
    /// Bytes of a value as system calls hand it over.
    value_bytes: usize,
}

impl Map {
    fn new(fd: OwnedFd, name: String, info: MapInfo) -> Result<Self, Error> {
        let size = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        let value_bytes = if info.kind.is_per_cpu() {
            size(info.value_size).next_multiple_of(8).saturating_mul(cpus::possible()?.len())
        } else {
            size(info.value_size)
        };
        Ok(Self { fd, name, info, value_bytes })
    }

    /// Opens a map that is pinned in a bpf file system.
    ///
    /// # Errors
    /// A path where no map is, or that may not be opened.
    pub fn from_pinned(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let what = format!("cannot open the map pinned at {}", path.display());
        let text = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| Error::io(&what, error.into()))?;
        let fd = bpf::obj_get(&text).map_err(|error| Error::privileged(&what, error))?;
        // Pinned programs and links are opened in the same way, but only a map says of itself what a map says.
        let fdinfo = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))
            .map_err(|error| Error::io(&what, error))?;
        let line = |key: &str| {
            let value = fdinfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            value.trim().parse().ok()
        };
        let info = (|| {
            Some(MapInfo {
                kind: MapType(line("map_type")?),
                key_size: line("key_size")?,
                value_size: line("value_size")?,
                max_entries: line("max_entries")?,
            })
        })();
        let info =
            info.ok_or_else(|| Error::Format { path: path.display().to_string(), found: "no map".to_owned() })?;
        Self::new(fd, path.display().to_string(), info)
    }

    /// Another handle of the same map.
    pub(crate) fn try_clone(&self) -> std::io::Result<Self> {
        let Self { fd, name, info, value_bytes } = self;
        Ok(Self { fd: fd.try_clone()?, name: name.clone(), info: *info, value_bytes: *value_bytes })
    }

    /// Whether the kernel knows what its keys and values are made of.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn has_types(&self) -> Result<bool, Error> {
        let info = answers::map_info(self.as_fd()).map_err(|error| self.failed("ask for the types of", error))?;
        Ok(info.btf_key_type_id != 0 && info.btf_value_type_id != 0)
    }

    /// What it is like.
    pub fn info(&self) -> MapInfo {
        self.info
    }

    fn failed(&self, what: &str, error: std::io::Error) -> Error {
        Error::io(format!("cannot {what} the map `{}`", self.name), error)
    }

    /// Refuses a key or a value of the wrong length, with which the kernel would read or write beyond it: any value where the
    /// length cannot be told.
    fn check(&self, key: usize, value: Option<usize>) -> Result<(), Error> {
        if value.is_some() && !self.info.kind.is_known() {
            let what = format!("tell the size of values, as type {} is not known here, of", self.info.kind.0);
            return Err(self.failed(&what, std::io::ErrorKind::Unsupported.into()));
        }
        let key_size = usize::try_from(self.info.key_size).unwrap_or(usize::MAX);
        if key == key_size && value.is_none_or(|value| value == self.value_bytes) {
            return Ok(());
        }
        let what = format!("use elements of {key} and {value:?} bytes of, with {key_size} and {}, ", self.value_bytes);
        Err(self.failed(&what, std::io::ErrorKind::InvalidInput.into()))
    }

    /// Copies the value of a key; false where there is none. Per-CPU values come one after the other, each padded to 8 bytes.
    ///
    /// # Errors
    /// Lengths that are not the map's, and what the kernel says.
    pub fn lookup(&self, key: &[u8], value: &mut [u8]) -> Result<bool, Error> {
        self.check(key.len(), Some(value.len()))?;
        match bpf::map_lookup(self.as_fd(), key, value) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(self.failed("look up an element of", error)),
        }
    }

    /// The values of a key, one for each possible CPU.
    ///
    /// # Errors
    /// As [`Map::lookup`].
    pub fn lookup_percpu(&self, key: &[u8]) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let mut all = vec![0; self.value_bytes];
        let size = usize::try_from(self.info.value_size).unwrap_or(usize::MAX);
        let parts =
            |all: &[u8]| all.chunks(size.next_multiple_of(8).max(1)).map(|part| part[..size].to_vec()).collect();
        Ok(self.lookup(key, &mut all)?.then(|| parts(&all)))
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// Lengths that are not the map's, and what the kernel says.
    pub fn update(&self, key: &[u8], value: &[u8], mode: UpdateMode) -> Result<(), Error> {
        self.check(key.len(), Some(value.len()))?;
        bpf::map_update(self.as_fd(), key, value, mode as u64)
            .map_err(|error| self.failed("update an element of", error))
    }

    /// Sets an element of an array of descriptors: a ring, a cgroup.
    ///
    /// # Errors
    /// What the kernel says: EBADF where the descriptor is not of the kind that the map holds.
    pub fn update_fd(&self, index: u32, fd: impl AsFd, mode: UpdateMode) -> Result<(), Error> {
        let number = fd.as_fd().as_raw_fd();
        self.update(&index.to_ne_bytes(), &number.to_ne_bytes(), mode)
    }

    /// Removes an element; false where there was none.
    ///
    /// # Errors
    /// A length that is not the map's, and what the kernel says.
    pub fn delete(&self, key: &[u8]) -> Result<bool, Error> {
        self.check(key.len(), None)?;
        match bpf::map_delete(self.as_fd(), key) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(self.failed("delete an element of", error)),
        }
    }

    /// Every key, or what the kernel says instead of one. Where elements come and go meanwhile, some may be missed or seen twice.
    pub fn keys(&self) -> impl Iterator<Item = Result<Vec<u8>, Error>> + '_ {
        let mut last: Option<Vec<u8>> = None;
        let mut done = false;
        std::iter::from_fn(move || {
            if done {
                return None;
            }
            let mut next = vec![0; usize::try_from(self.info.key_size).unwrap_or_default()];
            match bpf::map_next(self.as_fd(), last.as_deref(), &mut next) {
                Ok(()) => {
                    last = Some(next.clone());
                    Some(Ok(next))
                }
                Err(error) => {
                    done = true;
                    (error.raw_os_error() != Some(libc::ENOENT)).then(|| Err(self.failed("walk", error)))
                }
            }
        })
    }

    /// Pins it in a bpf file system, where it stays until the file is removed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let what = format!("cannot pin the map `{}` at {}", self.name, path.display());
        let text = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| Error::io(&what, error.into()))?;
        bpf::obj_pin(&text, self.as_fd()).map_err(|error| Error::privileged(what, error))
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads maps that programs write to meanwhile, so that few of the programs' runs are missed.
///
/// While the kernel serves a lookup it runs no kprobe, uprobe or tracepoint program on that CPU (`bpf_disable_instrumentation`),
/// and it may be made to wait there by the very tasks that are traced. So the lookups are made at real-time priority, where
/// those cannot get between; without CAP_SYS_NICE they are made as they are. What is missed all the same, [`Link::missed`] tells.
///
/// [`Link::missed`]: crate::Link::missed
pub fn undisturbed<T>(read: impl FnOnce() -> T) -> T {
    let before = process::set_policy((libc::SCHED_FIFO, 1));
    let result = read();
    before.map(process::set_policy);
    result
}

/// Maps by the names that code uses for them.
#[derive(Debug, Default)]
pub struct Maps(BTreeMap<String, Map>);

impl Maps {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a map.
    ///
    /// # Errors
    /// As [`MapSpec::create`].
    pub fn create(&mut self, spec: &MapSpec, target: &Target) -> Result<(), Error> {
        self.insert(&spec.name, spec.create(target)?);
        Ok(())
    }

    /// Adds a map.
    pub fn insert(&mut self, name: &str, map: Map) {
        self.0.insert(name.to_owned(), map);
    }

    /// The map of this name.
    pub fn get(&self, name: &str) -> Option<&Map> {
        self.0.get(name)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Map> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes the kernel would copy is not known, so it is not asked to.
    #[test]
    fn values_of_a_kind_that_is_not_known_are_not_copied() {
        let info = |kind| MapInfo { kind, key_size: 4, value_size: 8, max_entries: 1 };
        let map = |kind| {
            let fd = std::fs::File::open("/dev/null").unwrap().into();
            Map::new(fd, "new".to_owned(), info(kind)).unwrap()
        };
        let refused = |kind| map(kind).lookup(&[0; 4], &mut [0; 8]).unwrap_err();
        let is_asked = |error: &Error| matches!(error, Error::Io { source, .. } if source.raw_os_error().is_some());
        assert!(!is_asked(&refused(MapType(999))) && refused(MapType(999)).to_string().contains("type 999"));
        // The kernel answers for itself: /dev/null is no map.
        assert!(is_asked(&refused(MapType::HASH)));
    }

    #[test]
    fn a_value_has_a_part_for_each_possible_cpu_in_all_kinds_that_the_kernel_says() {
        for (kind, is_per_cpu) in [(1, false), (5, true), (6, true), (10, true), (19, false), (21, true), (34, false)] {
            assert_eq!(MapType(kind).is_per_cpu(), is_per_cpu, "{kind}");
        }
    }
}
