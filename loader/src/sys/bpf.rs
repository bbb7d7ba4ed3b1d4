//! bpf(2): one structure for each command, and one function.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{call, retry};

/// A command's attributes: plain data without padding, as every byte is handed to the kernel.
///
/// # Safety
/// The type is `repr(C)`, has no padding, and each bit pattern is a value of it.
unsafe trait Attributes: Copy {
    /// The command's number, `enum bpf_cmd` in include/uapi/linux/bpf.h.
    const COMMAND: libc::c_int;
    /// What this crate calls it.
    const NAME: &'static str;
}

macro_rules! attributes {
    ($($(#[$doc:meta])* $name:ident = $command:literal, $size:literal bytes { $($field:ident: $ty:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default)]
        #[repr(C)]
        pub(crate) struct $name {
            $(pub $field: $ty,)*
        }

        const _: () = assert!(size_of::<$name>() == $size);
        // The fields fill the structure, so that there is no padding.
        const _: () = assert!($(size_of::<$ty>() +)* 0 == $size);

        // SAFETY: it is repr(C), the assertions above leave no room for padding, and its fields are integers and arrays of them.
        unsafe impl Attributes for $name {
            const COMMAND: libc::c_int = $command;
            const NAME: &'static str = stringify!($name);
        }
    )*};
}

attributes! {
    /// BPF_MAP_CREATE
    MapCreate = 0, 64 bytes {
        map_type: u32, key_size: u32, value_size: u32, max_entries: u32, map_flags: u32, inner_map_fd: u32, numa_node: u32,
        map_name: [u8; 16], map_ifindex: u32, btf_fd: u32, btf_key_type_id: u32, btf_value_type_id: u32,
        btf_vmlinux_value_type_id: u32,
    }
    /// BPF_MAP_LOOKUP_ELEM
    MapLookup = 1, 32 bytes { map_fd: u32, pad: u32, key: u64, value: u64, flags: u64, }
    /// BPF_MAP_UPDATE_ELEM
    MapUpdate = 2, 32 bytes { map_fd: u32, pad: u32, key: u64, value: u64, flags: u64, }
    /// BPF_MAP_DELETE_ELEM
    MapDelete = 3, 32 bytes { map_fd: u32, pad: u32, key: u64, value: u64, flags: u64, }
    /// BPF_MAP_GET_NEXT_KEY
    MapNext = 4, 32 bytes { map_fd: u32, pad: u32, key: u64, value: u64, flags: u64, }
    /// BPF_PROG_LOAD
    ProgLoad = 5, 120 bytes {
        prog_type: u32, insn_cnt: u32, insns: u64, license: u64, log_level: u32, log_size: u32, log_buf: u64,
        kern_version: u32, prog_flags: u32, prog_name: [u8; 16], prog_ifindex: u32, expected_attach_type: u32,
        prog_btf_fd: u32, func_info_rec_size: u32, func_info: u64, func_info_cnt: u32, line_info_rec_size: u32,
        line_info: u64, line_info_cnt: u32, attach_btf_id: u32, attach_prog_fd: u32, core_relo_cnt: u32,
    }
    /// BPF_OBJ_PIN
    ObjPin = 6, 16 bytes { pathname: u64, bpf_fd: u32, file_flags: u32, }
    /// BPF_OBJ_GET
    ObjGet = 7, 16 bytes { pathname: u64, bpf_fd: u32, file_flags: u32, }
    /// BPF_PROG_TEST_RUN
    ProgTestRun = 10, 80 bytes {
        prog_fd: u32, retval: u32, data_size_in: u32, data_size_out: u32, data_in: u64, data_out: u64, repeat: u32,
        duration: u32, ctx_size_in: u32, ctx_size_out: u32, ctx_in: u64, ctx_out: u64, flags: u32, cpu: u32,
        batch_size: u32, pad: u32,
    }
    /// BPF_PROG_GET_NEXT_ID
    ProgNextId = 11, 12 bytes { start_id: u32, next_id: u32, open_flags: u32, }
    /// BPF_MAP_GET_NEXT_ID
    MapNextId = 12, 12 bytes { start_id: u32, next_id: u32, open_flags: u32, }
    /// BPF_LINK_GET_NEXT_ID
    LinkNextId = 31, 12 bytes { start_id: u32, next_id: u32, open_flags: u32, }
    /// BPF_OBJ_GET_INFO_BY_FD
    InfoByFd = 15, 16 bytes { bpf_fd: u32, info_len: u32, info: u64, }
    /// BPF_RAW_TRACEPOINT_OPEN
    RawTracepointOpen = 17, 16 bytes { name: u64, prog_fd: u32, pad: u32, }
    /// BPF_BTF_LOAD
    BtfLoad = 18, 32 bytes { btf: u64, btf_log_buf: u64, btf_size: u32, btf_log_size: u32, btf_log_level: u32, pad: u32, }
    /// BPF_PROG_GET_FD_BY_ID
    ProgGetFd = 13, 12 bytes { prog_id: u32, next_id: u32, open_flags: u32, }
    /// BPF_MAP_GET_FD_BY_ID
    MapGetFd = 14, 12 bytes { map_id: u32, next_id: u32, open_flags: u32, }
    /// BPF_BTF_GET_FD_BY_ID
    BtfGetFd = 19, 12 bytes { btf_id: u32, next_id: u32, open_flags: u32, }
    /// BPF_LINK_CREATE
    LinkCreate = 28, 16 bytes { prog_fd: u32, target_fd: u32, attach_type: u32, flags: u32, }
    /// BPF_LINK_CREATE with functions of the kernel
    LinkKprobes = 28, 48 bytes {
        prog_fd: u32, target_fd: u32, attach_type: u32, flags: u32, multi_flags: u32, count: u32, symbols: u64,
        addresses: u64, cookies: u64,
    }
    /// BPF_LINK_CREATE with places of a file
    LinkUprobes = 28, 64 bytes {
        prog_fd: u32, target_fd: u32, attach_type: u32, flags: u32, path: u64, offsets: u64, ref_ctr_offsets: u64,
        cookies: u64, count: u32, multi_flags: u32, pid: u32, pad: u32,
    }
    /// BPF_MAP_FREEZE
    MapFreeze = 22, 4 bytes { map_fd: u32, }
    /// BPF_MAP_LOOKUP_BATCH
    MapBatch = 24, 56 bytes {
        in_batch: u64, out_batch: u64, keys: u64, values: u64, count: u32, map_fd: u32, elem_flags: u64, flags: u64,
    }
    /// BPF_ENABLE_STATS
    EnableStats = 32, 4 bytes { kind: u32, }
}

/// The call itself.
fn bpf<A: Attributes>(attributes: &mut A) -> io::Result<i32> {
    let mut once = || {
        // SAFETY: the kernel reads and writes `size` bytes of a structure that is borrowed for the call. The addresses in it
        // were made by the functions below from slices that they borrow until the call has returned.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, A::COMMAND, std::ptr::from_mut(attributes), size_of::<A>()) };
        match i32::try_from(result) {
            Ok(value) if value >= 0 => Ok(value),
            _ => Err(io::Error::last_os_error()),
        }
    };
    retry(|| call(A::NAME, &mut once)).map_err(missing)
}

/// A kernel without the call says no more than "Function not implemented".
fn missing(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => {
            let why = "the kernel has no bpf(2): it was built without CONFIG_BPF_SYSCALL";
            io::Error::new(io::ErrorKind::Unsupported, why)
        }
        _ => error,
    }
}

/// A call that returns a file descriptor.
fn bpf_fd<A: Attributes>(attributes: &mut A) -> io::Result<OwnedFd> {
    let fd = bpf(attributes)?;
    // SAFETY: the kernel has just opened it for this call, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// An address for the kernel to read from.
fn address(bytes: &[u8]) -> u64 {
    bytes.as_ptr().expose_provenance() as u64
}

/// An address for the kernel to write to.
pub(super) fn address_mut(bytes: &mut [u8]) -> u64 {
    bytes.as_mut_ptr().expose_provenance() as u64
}

pub(super) fn length(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))
}

/// A name as every kernel takes it: at most 15 bytes and a NUL, of letters, digits and `_`. Linux 5.2 and newer take `.` too.
pub(crate) fn object_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().take(15).zip(name.bytes()) {
        *to = if from.is_ascii_alphanumeric() { from } else { b'_' };
    }
    bytes
}

/// `btf` has the types that `attributes` name.
pub(crate) fn map_create(mut attributes: MapCreate, btf: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    attributes.btf_fd = btf.map_or(0, number);
    bpf_fd(&mut attributes)
}

/// `value` has the size of the map's values, times the number of possible CPUs for per-CPU maps: [`crate::Map`] sees to it.
pub(crate) fn map_lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    let mut attributes =
        MapLookup { map_fd: number(map), key: address(key), value: address_mut(value), ..Default::default() };
    bpf(&mut attributes).map(drop)
}

pub(crate) fn map_update(map: BorrowedFd<'_>, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
    let mut attributes = MapUpdate { map_fd: number(map), pad: 0, key: address(key), value: address(value), flags };
    bpf(&mut attributes).map(drop)
}

pub(crate) fn map_delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    let mut attributes = MapDelete { map_fd: number(map), key: address(key), ..Default::default() };
    bpf(&mut attributes).map(drop)
}

/// The key after `key`, or the first.
pub(crate) fn map_next(map: BorrowedFd<'_>, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<()> {
    let mut attributes =
        MapNext { map_fd: number(map), key: key.map_or(0, address), value: address_mut(next), ..Default::default() };
    bpf(&mut attributes).map(drop)
}

/// What BPF_PROG_LOAD takes beside numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProgInput<'a> {
    pub insns: &'a [u8],
    /// Ends in a NUL.
    pub license: &'a [u8],
    pub func_info: &'a [u8],
    pub line_info: &'a [u8],
    pub btf: Option<BorrowedFd<'a>>,
    /// The program that `attach_btf_id` is a function of; else it is one of the kernel's.
    pub attach_prog: Option<BorrowedFd<'a>>,
}

/// Loads a program; the verifier writes what it thinks into `log` where `attributes` ask for it.
pub(crate) fn prog_load(mut attributes: ProgLoad, input: ProgInput<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    attributes.insns = address(input.insns);
    attributes.insn_cnt = length(input.insns)? / 8;
    attributes.license = address(input.license);
    attributes.attach_prog_fd = input.attach_prog.map_or(0, number);
    if let Some(btf) = input.btf {
        attributes.prog_btf_fd = number(btf);
        attributes.func_info = address(input.func_info);
        attributes.func_info_rec_size = 8;
        attributes.func_info_cnt = length(input.func_info)? / 8;
        attributes.line_info = address(input.line_info);
        attributes.line_info_rec_size = 16;
        attributes.line_info_cnt = length(input.line_info)? / 16;
    }
    if attributes.log_level != 0 {
        attributes.log_size = length(log)?;
        attributes.log_buf = address_mut(log);
    }
    bpf_fd(&mut attributes)
}

pub(crate) fn btf_load(btf: &[u8]) -> io::Result<OwnedFd> {
    bpf_fd(&mut BtfLoad { btf: address(btf), btf_size: length(btf)?, ..Default::default() })
}

/// `path` ends in a NUL.
pub(crate) fn obj_get(path: &std::ffi::CStr) -> io::Result<OwnedFd> {
    bpf_fd(&mut ObjGet { pathname: address(path.to_bytes_with_nul()), ..Default::default() })
}

/// `path` ends in a NUL.
pub(crate) fn obj_pin(path: &std::ffi::CStr, fd: BorrowedFd<'_>) -> io::Result<()> {
    let pathname = address(path.to_bytes_with_nul());
    bpf(&mut ObjPin { pathname, bpf_fd: number(fd), file_flags: 0 }).map(drop)
}

/// `name` ends in a NUL; programs of type TRACING have none, as they know where they belong.
pub(crate) fn raw_tracepoint_open(prog: BorrowedFd<'_>, name: Option<&std::ffi::CStr>) -> io::Result<OwnedFd> {
    let name = name.map_or(0, |name| address(name.to_bytes_with_nul()));
    bpf_fd(&mut RawTracepointOpen { name, prog_fd: number(prog), pad: 0 })
}

/// A program of the system, by its number.
pub(crate) fn prog_by_id(prog_id: u32) -> io::Result<OwnedFd> {
    bpf_fd(&mut ProgGetFd { prog_id, ..Default::default() })
}

/// A map of the system, by its number.
pub(crate) fn map_by_id(map_id: u32) -> io::Result<OwnedFd> {
    bpf_fd(&mut MapGetFd { map_id, ..Default::default() })
}

/// The types that a program or a map was loaded with, by their number.
pub(crate) fn btf_by_id(btf_id: u32) -> io::Result<OwnedFd> {
    bpf_fd(&mut BtfGetFd { btf_id, ..Default::default() })
}

/// Has the kernel fill the structure of `info_len` bytes at the address `info`, and says how many bytes of it the kernel knows of.
/// What it reads there says where lists go, and how many elements each has room for: [`super::info`] sees to it.
pub(super) fn info_by_fd(object: BorrowedFd<'_>, info: u64, info_len: u32) -> io::Result<usize> {
    let mut attributes = InfoByFd { bpf_fd: number(object), info_len, info };
    bpf(&mut attributes)?;
    Ok(usize::try_from(attributes.info_len).unwrap_or_default())
}

/// How many bytes a program may put before and after its packet, at most, in a test run: what the kernel leaves around it.
const HEADROOM: usize = 4096;

/// Runs a program; what it leaves of packet and context comes back.
pub(crate) fn prog_test_run(
    prog: BorrowedFd<'_>,
    data: &[u8],
    context: &[u8],
    repeat: u32,
) -> io::Result<(ProgTestRun, Vec<u8>, Vec<u8>)> {
    // Types that take no packet refuse room for one as well.
    let mut data_out = vec![0; if data.is_empty() { 0 } else { data.len() + HEADROOM }];
    let mut context_out = context.to_vec();
    let place = |bytes: &mut Vec<u8>| if bytes.is_empty() { 0 } else { address_mut(bytes) };
    let mut attributes = ProgTestRun {
        prog_fd: number(prog),
        data_size_in: length(data)?,
        data_size_out: length(&data_out)?,
        data_in: if data.is_empty() { 0 } else { address(data) },
        data_out: place(&mut data_out),
        repeat,
        ctx_size_in: length(context)?,
        ctx_size_out: length(&context_out)?,
        ctx_in: if context.is_empty() { 0 } else { address(context) },
        ctx_out: place(&mut context_out),
        ..Default::default()
    };
    bpf(&mut attributes)?;
    let cut = |mut bytes: Vec<u8>, size: u32| {
        bytes.truncate(usize::try_from(size).unwrap_or_default());
        bytes
    };
    let (data_out, context_out) = (cut(data_out, attributes.data_size_out), cut(context_out, attributes.ctx_size_out));
    Ok((attributes, data_out, context_out))
}

/// The ids of all programs of the system.
pub(crate) fn prog_ids() -> io::Result<Vec<u32>> {
    ids(|start_id| {
        let mut attributes = ProgNextId { start_id, ..Default::default() };
        bpf(&mut attributes).map(|_| attributes.next_id)
    })
}

/// The ids of all maps of the system.
pub(crate) fn map_ids() -> io::Result<Vec<u32>> {
    ids(|start_id| {
        let mut attributes = MapNextId { start_id, ..Default::default() };
        bpf(&mut attributes).map(|_| attributes.next_id)
    })
}

/// The ids of all links of the system (Linux 5.8).
pub(crate) fn link_ids() -> io::Result<Vec<u32>> {
    ids(|start_id| {
        let mut attributes = LinkNextId { start_id, ..Default::default() };
        bpf(&mut attributes).map(|_| attributes.next_id)
    })
}

fn ids(mut after: impl FnMut(u32) -> io::Result<u32>) -> io::Result<Vec<u32>> {
    let mut ids = Vec::new();
    loop {
        match after(ids.last().copied().unwrap_or_default()) {
            Ok(id) => ids.push(id),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(ids),
            Err(error) => return Err(error),
        }
    }
}

/// `target` is a perf event for programs that belong to one; others know where they belong.
pub(crate) fn link_create(
    prog: BorrowedFd<'_>,
    target: Option<BorrowedFd<'_>>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let target_fd = target.map_or(0, number);
    bpf_fd(&mut LinkCreate { prog_fd: number(prog), target_fd, attach_type, ..Default::default() })
}

/// A link to one function of the kernel, by the interface for many.
pub(crate) fn link_kprobe(prog: BorrowedFd<'_>, attach_type: u32, symbol: &std::ffi::CStr) -> io::Result<OwnedFd> {
    let names = address(symbol.to_bytes_with_nul()).to_ne_bytes();
    let symbols = address(&names);
    bpf_fd(&mut LinkKprobes { prog_fd: number(prog), attach_type, count: 1, symbols, ..Default::default() })
}

/// A link to places of a file, each with its cookie, or to the returns of the functions that begin there.
pub(crate) fn link_uprobes(
    prog: BorrowedFd<'_>,
    attach_type: u32,
    path: &std::ffi::CStr,
    places: &[(u64, u64)],
    at_return: bool,
) -> io::Result<OwnedFd> {
    let words =
        |of: fn(&(u64, u64)) -> u64| places.iter().flat_map(|place| of(place).to_ne_bytes()).collect::<Vec<u8>>();
    let (offsets, cookies) = (words(|place| place.0), words(|place| place.1));
    bpf_fd(&mut LinkUprobes {
        prog_fd: number(prog),
        attach_type,
        path: address(path.to_bytes_with_nul()),
        offsets: address(&offsets),
        cookies: address(&cookies),
        count: u32::try_from(places.len()).unwrap_or(u32::MAX),
        // BPF_F_UPROBE_MULTI_RETURN
        multi_flags: at_return.into(),
        ..Default::default()
    })
}

/// Takes the right to change the map from system calls.
pub(crate) fn map_freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    bpf(&mut MapFreeze { map_fd: number(map) }).map(drop)
}

/// The only element of an array whose keys and values have 4 bytes, by the interface for many.
pub(crate) fn map_lookup_batch(map: BorrowedFd<'_>) -> io::Result<()> {
    let (mut next, mut key, mut value) = ([0; 4], [0; 4], [0; 4]);
    bpf(&mut MapBatch {
        out_batch: address_mut(&mut next),
        keys: address_mut(&mut key),
        values: address_mut(&mut value),
        count: 1,
        map_fd: number(map),
        ..Default::default()
    })
    .map(drop)
}

/// Lets the kernel count runs of programs, BPF_STATS_RUN_TIME, until the descriptor is closed.
pub(crate) fn enable_stats() -> io::Result<OwnedFd> {
    bpf_fd(&mut EnableStats { kind: 0 })
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    #[test]
    fn a_kernel_without_the_call_is_told_by_the_option_that_it_lacks() {
        let target = crate::Target::builder().running().unwrap();
        let code = bpfkit_asm::bpf! {
            r0 = 0;
            exit;
        };
        let program =
            crate::ProgSpec::new("none", crate::Attach::Kprobe { symbol: "x".into(), offset: 0 }, code).unwrap();
        let results = fake::with(
            |_| Some(libc::ENOSYS),
            || {
                let map = crate::Maps::new().create(&crate::MapSpec::perf_event_array("events"), &target).map(drop);
                [map, program.load(&target, &crate::Maps::new()).map(drop)]
            },
        );
        for error in results {
            let said = crate::error::chain(&error.unwrap_err());
            assert!(said.contains("no bpf(2): it was built without CONFIG_BPF_SYSCALL"), "{said}");
        }
    }

    #[test]
    fn a_name_is_cut_to_what_the_kernel_takes() {
        assert_eq!(&object_name("tcp-v4 connect, the return of"), b"tcp_v4_connect_\0");
        assert_eq!(&object_name("a.b"), b"a_b\0\0\0\0\0\0\0\0\0\0\0\0\0");
    }
}
