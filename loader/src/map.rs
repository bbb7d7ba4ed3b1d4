//! Maps: what programs remember, and how they speak to user space.

mod spec;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub use self::spec::{MapSpec, MapTypes};
pub(crate) use self::spec::{aggregate, with_memlock};
use crate::kind::MapType;
use crate::pin::{self, Pinned};
use crate::sys::info as answers;
use crate::sys::{bpf, process};
use crate::target::Target;
use crate::{Error, cpus};

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
        let pinned = Pinned::open("map", path)?;
        // Pinned programs and links are opened in the same way, but only a map says of itself what a map says.
        let info = (|| {
            Some(MapInfo {
                kind: MapType(pinned.number("map_type")?),
                key_size: pinned.number("key_size")?,
                value_size: pinned.number("value_size")?,
                max_entries: pinned.number("max_entries")?,
            })
        })();
        let info =
            info.ok_or_else(|| Error::Format { path: path.display().to_string(), found: "no map".to_owned() })?;
        Self::new(pinned.fd, path.display().to_string(), info)
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
        pin::pin(&format!("map `{}`", self.name), self.as_fd(), path.as_ref())
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
