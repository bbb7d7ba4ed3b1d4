//! Maps that are to be made.

use std::os::fd::AsFd;

use bpfkit_btf::{Builder, TypeId};

use super::{Map, MapInfo};
use crate::feature::Feature;
use crate::kind::MapType;
use crate::sys::bpf::{self, MapCreate};
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
