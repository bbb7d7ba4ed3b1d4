//! What the kernel says of programs, maps and types: one structure for each, as BPF_OBJ_GET_INFO_BY_FD fills it.
//!
//! A kernel writes as much of a structure as it knows of, and takes a longer one if the rest is zero. So these are as Linux 5.16 and
//! newer have them, with how much of them was written.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, BorrowedFd};

use super::bpf::{address_mut, btf_by_id, info_by_fd, length};

/// An answer's structure.
///
/// # Safety
/// The type is `repr(C)`, has no padding, and each bit pattern is a value of it.
unsafe trait Answer: Copy + Default {}

macro_rules! answers {
    ($($(#[$doc:meta])* $name:ident, $size:literal bytes { $($field:ident: $ty:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default)]
        #[allow(dead_code)] // what the kernel says and nobody here asks for has its place all the same
        #[repr(C)]
        pub(crate) struct $name {
            $(pub $field: $ty,)*
        }

        const _: () = assert!(size_of::<$name>() == $size);
        // The fields fill the structure, so that there is no padding.
        const _: () = assert!($(size_of::<$ty>() +)* 0 == $size);

        // SAFETY: it is repr(C), the assertions above leave no room for padding, and its fields are integers and arrays of them.
        unsafe impl Answer for $name {}
    )*};
}

answers! {
    /// `struct bpf_prog_info`
    ProgInfo, 232 bytes {
        kind: u32, id: u32, tag: [u8; 8], jited_len: u32, xlated_len: u32, jited: u64, xlated: u64, load_time: u64,
        created_by_uid: u32, map_ids_count: u32, map_ids: u64, name: [u8; 16], ifindex: u32, gpl_compatible: u32,
        netns_dev: u64, netns_ino: u64, jited_ksyms_count: u32, jited_func_lens_count: u32, jited_ksyms: u64,
        jited_func_lens: u64, btf_id: u32, func_info_rec_size: u32, func_info: u64, func_info_count: u32,
        line_info_count: u32, line_info: u64, jited_line_info: u64, jited_line_info_count: u32, line_info_rec_size: u32,
        jited_line_info_rec_size: u32, prog_tags_count: u32, prog_tags: u64, run_time_ns: u64, run_cnt: u64,
        recursion_misses: u64, verified_insns: u32, attach_btf_obj_id: u32, attach_btf_id: u32, pad: u32,
    }
    /// `struct bpf_map_info`
    MapInfo, 88 bytes {
        kind: u32, id: u32, key_size: u32, value_size: u32, max_entries: u32, map_flags: u32, name: [u8; 16], ifindex: u32,
        btf_vmlinux_value_type_id: u32, netns_dev: u64, netns_ino: u64, btf_id: u32, btf_key_type_id: u32,
        btf_value_type_id: u32, btf_vmlinux_id: u32, map_extra: u64,
    }
    /// `struct bpf_btf_info`
    BtfInfo, 32 bytes { btf: u64, btf_size: u32, id: u32, name: u64, name_len: u32, kernel_btf: u32, }
}

/// Lets the kernel fill `info`; the number of bytes that it knows of.
fn ask<T: Answer>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<usize> {
    let size = u32::try_from(size_of::<T>()).unwrap_or_default();
    info_by_fd(object, std::ptr::from_mut(info).expose_provenance() as u64, size)
}

/// Room for the lists that the kernel tells of a program; where there is none, it tells how long they are.
#[derive(Debug, Default)]
pub(crate) struct ProgLists {
    /// The instructions as the verifier rewrote them.
    pub xlated: Vec<u8>,
    /// The machine code of all functions, one after the other.
    pub jited: Vec<u8>,
    /// The numbers of the maps: 4 bytes each.
    pub map_ids: Vec<u8>,
    /// Where the functions' machine code is: 8 bytes each.
    pub jited_ksyms: Vec<u8>,
    /// How long it is: 4 bytes each.
    pub jited_func_lens: Vec<u8>,
    /// Where functions begin: `struct bpf_func_info`, 8 bytes each.
    pub func_info: Vec<u8>,
    /// Where source lines begin: `struct bpf_line_info`, 16 bytes each.
    pub line_info: Vec<u8>,
    /// Where their machine code begins: 8 bytes each.
    pub jited_line_info: Vec<u8>,
    /// The functions' digests: 8 bytes each.
    pub prog_tags: Vec<u8>,
}

impl ProgLists {
    /// Room for the short ones.
    pub(crate) fn short(info: &ProgInfo) -> Self {
        Self { map_ids: room(info.map_ids_count, 4), prog_tags: room(info.prog_tags_count, 8), ..Self::default() }
    }

    /// Room for all.
    pub(crate) fn all(info: &ProgInfo) -> Self {
        Self {
            xlated: room(info.xlated_len, 1),
            jited: room(info.jited_len, 1),
            jited_ksyms: room(info.jited_ksyms_count, 8),
            jited_func_lens: room(info.jited_func_lens_count, 4),
            func_info: room(info.func_info_count, 8),
            line_info: room(info.line_info_count, 16),
            jited_line_info: room(info.jited_line_info_count, 8),
            ..Self::short(info)
        }
    }
}

fn room(count: u32, size: usize) -> Vec<u8> {
    vec![0; usize::try_from(count).unwrap_or_default().saturating_mul(size)]
}

/// What the kernel says of a program.
#[derive(Debug, Default)]
pub(crate) struct ProgAnswer {
    /// The structure. A list that the kernel hides has the address zero in it, and the length that it would have.
    pub info: ProgInfo,
    /// The lists for which there was room.
    pub lists: ProgLists,
    /// How many bytes of the structure the kernel knows of.
    pub known: usize,
}

/// What the kernel says of a program. Lists are filled as far as there is room.
pub(crate) fn prog_info(prog: BorrowedFd<'_>, mut lists: ProgLists) -> io::Result<ProgAnswer> {
    let mut info = request(&mut lists)?;
    let known = ask(prog, &mut info)?;
    Ok(ProgAnswer { info, lists, known })
}

/// Where the lists go.
fn request(lists: &mut ProgLists) -> io::Result<ProgInfo> {
    // A kernel that does not know of a list wants zeros there.
    let record = |list: &[u8], size: u32| if list.is_empty() { 0 } else { size };
    let at = |list: &mut Vec<u8>| if list.is_empty() { 0 } else { address_mut(list) };
    Ok(ProgInfo {
        xlated_len: length(&lists.xlated)?,
        xlated: at(&mut lists.xlated),
        jited_len: length(&lists.jited)?,
        jited: at(&mut lists.jited),
        map_ids_count: length(&lists.map_ids)? / 4,
        map_ids: at(&mut lists.map_ids),
        jited_ksyms_count: length(&lists.jited_ksyms)? / 8,
        jited_ksyms: at(&mut lists.jited_ksyms),
        jited_func_lens_count: length(&lists.jited_func_lens)? / 4,
        jited_func_lens: at(&mut lists.jited_func_lens),
        func_info_count: length(&lists.func_info)? / 8,
        func_info_rec_size: record(&lists.func_info, 8),
        func_info: at(&mut lists.func_info),
        line_info_count: length(&lists.line_info)? / 16,
        line_info_rec_size: record(&lists.line_info, 16),
        line_info: at(&mut lists.line_info),
        jited_line_info_count: length(&lists.jited_line_info)? / 8,
        jited_line_info_rec_size: record(&lists.jited_line_info, 8),
        jited_line_info: at(&mut lists.jited_line_info),
        prog_tags_count: length(&lists.prog_tags)? / 8,
        prog_tags: at(&mut lists.prog_tags),
        ..ProgInfo::default()
    })
}

/// What the kernel says of a map.
pub(crate) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut info = MapInfo::default();
    ask(map, &mut info)?;
    Ok(info)
}

/// Types of the system.
#[derive(Debug)]
pub(crate) struct Types {
    /// The blob.
    pub blob: Vec<u8>,
    /// Of the kernel's own types the name: `vmlinux`, or that of the module, whose types come after those of `vmlinux`.
    pub kernel: Option<String>,
}

/// Types by their number.
pub(crate) fn types_by_id(btf_id: u32) -> io::Result<Types> {
    let fd = btf_by_id(btf_id)?;
    let mut info = BtfInfo::default();
    ask(fd.as_fd(), &mut info)?;
    let mut blob = room(info.btf_size, 1);
    let mut name = room(info.name_len, 1);
    // The kernel's count is without the NUL that it writes; and one that has no names (before Linux 5.11) wants zeros there.
    if info.name_len != 0 {
        name.push(0);
    }
    let mut info = BtfInfo {
        btf: address_mut(&mut blob),
        btf_size: info.btf_size,
        name: if name.is_empty() { 0 } else { address_mut(&mut name) },
        name_len: length(&name)?,
        ..BtfInfo::default()
    };
    ask(fd.as_fd(), &mut info)?;
    name.pop();
    let kernel = (info.kernel_btf != 0).then(|| String::from_utf8_lossy(&name).into_owned());
    Ok(Types { blob, kernel })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel refuses what it does not know of unless it is zero, so that no list is asked for without knowing that there is one.
    #[test]
    fn what_is_not_asked_for_is_zero() {
        let text = |info: ProgInfo| format!("{info:?}");
        assert_eq!(text(request(&mut ProgLists::default()).unwrap()), text(ProgInfo::default()));
        // What Linux 4.18 tells of ends before the types.
        let old = ProgInfo { xlated_len: 16, map_ids_count: 1, jited_ksyms_count: 1, ..ProgInfo::default() };
        let asked = request(&mut ProgLists::all(&old)).unwrap();
        assert!(asked.xlated != 0 && asked.map_ids != 0 && asked.jited_ksyms != 0);
        let rest = [asked.func_info, asked.line_info, asked.jited_line_info, asked.prog_tags];
        assert_eq!((rest, asked.func_info_rec_size, asked.line_info_rec_size), ([0; 4], 0, 0));
    }
}
