//! Types of maps, and what can be done with maps.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bpfkit_btf::{Builder, Kind};

use crate::feature::Feature;
use crate::kind::MapType;
use crate::map::with_memlock;
use crate::sys::bpf::{self, MapCreate};
use crate::sys::info as answers;
use crate::sys::process;
use crate::target::Target;

const NO_PREALLOC: u32 = 1;
const MMAPABLE: u32 = 1 << 10;

/// The smallest map of a type: bytes of key and value, elements, flags.
fn shape(kind: MapType) -> [u32; 4] {
    let page = u32::try_from(process::page_size()).unwrap_or(4096);
    match kind {
        MapType::STACK_TRACE | MapType::REUSEPORT_SOCKARRAY => [4, 8, 1, 0],
        MapType::LPM_TRIE => [8, 4, 1, NO_PREALLOC],
        MapType::RHASH => [4, 4, 1, NO_PREALLOC],
        // `struct bpf_cgroup_storage_key`
        MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE => [16, 8, 0, 0],
        MapType::QUEUE | MapType::STACK | MapType::BLOOM_FILTER => [0, 4, 1, 0],
        MapType::SK_STORAGE | MapType::INODE_STORAGE | MapType::TASK_STORAGE | MapType::CGRP_STORAGE => {
            [4, 4, 0, NO_PREALLOC]
        }
        MapType::RINGBUF | MapType::USER_RINGBUF => [0, 0, page, 0],
        MapType::ARENA => [0, 0, 1, MMAPABLE],
        // `struct bpf_insn_array_value`
        MapType::INSN_ARRAY => [4, 16, 1, 0],
        _ => [4, 4, 1, 0],
    }
}

fn create(attributes: MapCreate) -> io::Result<OwnedFd> {
    with_memlock(|| bpf::map_create(attributes, None))
}

/// Makes a map with types of its own; `attributes` is told the number of an integer.
fn create_with_types(attributes: impl FnOnce(u32) -> MapCreate) -> io::Result<OwnedFd> {
    let mut types = Builder::new();
    let int = types.int("int", 4, true);
    let types = with_memlock(|| bpf::btf_load(&types.finish()))?;
    let attributes = attributes(int.0);
    with_memlock(|| bpf::map_create(attributes, Some(types.as_fd())))
}

fn attributes(kind: MapType) -> MapCreate {
    let [key_size, value_size, max_entries, map_flags] = shape(kind);
    MapCreate { map_type: kind.0, key_size, value_size, max_entries, map_flags, ..Default::default() }
}

/// Whether the kernel makes maps of a type.
pub(crate) fn kind(kind: MapType, target: &Target) -> Result<bool, String> {
    let attributes = attributes(kind);
    let result = match kind {
        MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS => create(self::attributes(MapType::ARRAY)).and_then(|inner| {
            let inner_map_fd = std::os::fd::AsRawFd::as_raw_fd(&inner).cast_unsigned();
            create(MapCreate { inner_map_fd, ..attributes })
        }),
        MapType::SK_STORAGE | MapType::INODE_STORAGE | MapType::TASK_STORAGE | MapType::CGRP_STORAGE => {
            create_with_types(|int| MapCreate { btf_key_type_id: int, btf_value_type_id: int, ..attributes })
        }
        MapType::STRUCT_OPS if super::types::has_none() => return Ok(false),
        MapType::STRUCT_OPS => {
            let types = target.numbered_btf(Feature::Fentry).map_err(|error| error.to_string())?;
            // The kernel makes it for each table of functions that it lets be replaced.
            let Some(value) = types.find("bpf_struct_ops_tcp_congestion_ops", &[Kind::STRUCT]) else {
                return Ok(false);
            };
            let value_size = value.size().map_err(|error| error.to_string())?;
            let btf_vmlinux_value_type_id = value.id.0;
            create_with_types(|_| MapCreate { value_size, btf_vmlinux_value_type_id, ..attributes })
        }
        _ => create(attributes),
    };
    match result {
        Ok(_) => Ok(true),
        Err(error) => refused(&error),
    }
}

/// What an error tells of the type: only some say that the kernel does not have it.
fn refused(error: &io::Error) -> Result<bool, String> {
    /// ENOTSUPP of include/linux/errno.h, which C libraries do not know.
    const NOT_SUPPORTED: i32 = 524;
    match error.raw_os_error() {
        // E2BIG is said of words that the kernel does not know, where they are not 0.
        Some(libc::EINVAL | libc::E2BIG | libc::EOPNOTSUPP | NOT_SUPPORTED) => Ok(false),
        Some(libc::EPERM | libc::EACCES | libc::ENOMEM) => {
            Err(crate::privilege::hint().unwrap_or_else(|| error.to_string()))
        }
        _ => Err(format!("the kernel refused it: {error}")),
    }
}

/// Whether the kernel takes a map with a name, a map with types, or a call about maps.
pub(super) fn feature(feature: Feature) -> Option<bool> {
    let map = create(attributes(MapType::ARRAY)).ok()?;
    Some(match feature {
        Feature::MapNames => {
            create(MapCreate { map_name: bpf::object_name("probe"), ..attributes(MapType::ARRAY) }).is_ok()
        }
        Feature::MapBtf => {
            let attributes = attributes(MapType::ARRAY);
            create_with_types(|int| MapCreate { btf_key_type_id: int, btf_value_type_id: int, ..attributes })
                .and_then(|map| answers::map_info(map.as_fd()))
                .is_ok_and(|info| info.btf_key_type_id != 0)
        }
        Feature::MapFreeze => bpf::map_freeze(map.as_fd()).is_ok(),
        Feature::MapBatch => bpf::map_lookup_batch(map.as_fd()).is_ok(),
        // With a limit of nothing a map is refused where it counts.
        Feature::CgroupMemory => {
            process::without_memlock(|| bpf::map_create(attributes(MapType::ARRAY), None).is_ok())?
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_errors_say_that_there_is_no_such_type() {
        let of = |errno| refused(&io::Error::from_raw_os_error(errno));
        assert_eq!([libc::EINVAL, libc::E2BIG, libc::EOPNOTSUPP, 524].map(of), [const { Ok(false) }; 4]);
        let why = of(libc::EINTR).expect_err("unknown");
        assert!(why.starts_with("the kernel refused it: Interrupted"), "{why}");
        assert!(of(libc::ENOMEM).is_err());
    }
}
