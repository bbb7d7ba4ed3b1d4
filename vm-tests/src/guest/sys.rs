//! The system calls of an init, of the leak check and of the runner: with `marks` the only file of this crate with unsafe code.
//!
//! They are made directly and not through bpfkit-loader, because a check that shares the code it checks proves little.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::ptr;
use std::time::Duration;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Mounts a file system of this type.
///
/// # Errors
/// Those of mount(2); ENODEV for a type that the kernel lacks.
pub fn mount(kind: &str, at: &Path) -> io::Result<()> {
    let kind = CString::new(kind)?;
    let at = CString::new(at.as_os_str().as_bytes())?;
    // SAFETY: three strings that end with NUL and live through the call; no data.
    check(unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, ptr::null()) })?;
    Ok(())
}

/// Mounts a file system of this type with these options of its own.
///
/// # Errors
/// Those of mount(2).
pub fn mount_sized(kind: &str, at: &Path, options: &str) -> io::Result<()> {
    let (kind, options) = (CString::new(kind)?, CString::new(options)?);
    let at = CString::new(at.as_os_str().as_bytes())?;
    // SAFETY: four strings that end with NUL and live through the call.
    check(unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) })?;
    Ok(())
}

/// Puts one file in the place of another.
///
/// # Errors
/// Those of mount(2).
pub fn mount_over(file: &str, at: &str) -> io::Result<()> {
    let (file, at) = (CString::new(file)?, CString::new(at)?);
    // SAFETY: two strings that end with NUL and live through the call; type and data are not looked at with this flag.
    check(unsafe { libc::mount(file.as_ptr(), at.as_ptr(), ptr::null(), libc::MS_BIND, ptr::null()) })?;
    Ok(())
}

/// Unmounts what is mounted at a place.
///
/// # Errors
/// Those of umount2(2).
pub fn unmount(at: &Path) -> io::Result<()> {
    let at = CString::new(at.as_os_str().as_bytes())?;
    // SAFETY: a string that ends with NUL and lives through the call.
    check(unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) })?;
    Ok(())
}

/// Gives this process a mount namespace of its own, from which nothing spreads.
///
/// # Errors
/// Those of unshare(2) and mount(2).
pub fn private_mounts() -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: the target is a string that ends with NUL; source, type and data are not looked at with these flags.
    check(unsafe { libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), flags, ptr::null()) })?;
    Ok(())
}

/// Capabilities of `linux/capability.h`.
pub const CAP_NET_ADMIN: u32 = 12;
/// From Linux 5.8 on.
pub const CAP_PERFMON: u32 = 38;
/// From Linux 5.8 on.
pub const CAP_BPF: u32 = 39;

/// Whether the kernel has CAP_BPF: RHEL 8's 4.18 does, too.
///
/// # Errors
/// The file that tells the last capability cannot be read.
pub fn has_cap_bpf() -> io::Result<bool> {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")?;
    last.trim().parse::<u32>().map(|last| last >= CAP_BPF).map_err(io::Error::other)
}

/// `_LINUX_CAPABILITY_VERSION_3` of `linux/capability.h`.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Lets a command run as nobody, with nothing but these capabilities, which it keeps over exec(2).
pub fn nobody_with(command: &mut Command, caps: &'static [u32]) {
    let drop_all_but = move || -> io::Result<()> {
        let nobody = 65534;
        // SAFETY: numbers, and no groups.
        unsafe {
            check(libc::prctl(libc::PR_SET_KEEPCAPS, 1))?;
            check(libc::setgroups(0, ptr::null()))?;
            check(libc::setgid(nobody))?;
            check(libc::setuid(nobody))?;
        }
        let mask = caps.iter().fold(0_u64, |mask, cap| mask | 1 << cap);
        let halves = mask.to_ne_bytes();
        let [low, high] = [&halves[..4], &halves[4..]].map(|half| half.try_into().map_or(0, u32::from_ne_bytes));
        // version and pid; effective, permitted and inheritable, the lower halves first
        let mut header: [u32; 2] = [CAPABILITY_VERSION_3, 0];
        let data: [u32; 6] = [low, low, low, high, high, high];
        // SAFETY: `struct __user_cap_header_struct` and two of `struct __user_cap_data_struct`, which are these words.
        let set = unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), data.as_ptr()) };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        for &cap in caps {
            // SAFETY: numbers.
            check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, cap, 0, 0) })?;
        }
        Ok(())
    };
    // SAFETY: between fork(2) and exec(2) it makes system calls and allocates nothing.
    unsafe { command.pre_exec(drop_all_but) };
}

/// Lets a command lock no more memory than so many bytes, and raise that no further than to `hard`.
pub fn memlock(command: &mut Command, soft: u64, hard: u64) {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: between fork(2) and exec(2) it makes one system call, with a structure that was moved into the closure.
    unsafe { command.pre_exec(move || check(libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit)).map(drop)) };
}

/// A limit of setrlimit(2).
pub use libc::{RLIMIT_AS, RLIMIT_DATA, RLIMIT_NOFILE};

/// Gives a command no more than this of something, and no way to more.
pub fn limit(command: &mut Command, resource: libc::__rlimit_resource_t, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: between fork(2) and exec(2) it makes one system call, with a structure that was moved into the closure.
    unsafe { command.pre_exec(move || check(libc::setrlimit(resource, &raw const limit)).map(drop)) };
}

/// Sets the clock of the day forward by so many seconds, or back.
///
/// # Errors
/// Those of clock_settime(2).
pub fn step_clock(seconds: i64) -> io::Result<()> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes to a structure that lives through the call.
    check(unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) })?;
    now.tv_sec += seconds;
    // SAFETY: the kernel reads a structure that lives through the call.
    check(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const now) })?;
    Ok(())
}

/// Sends SIGINT to a process, which may have ended.
pub fn interrupt(pid: u32) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: no pointers.
        unsafe { libc::kill(pid, libc::SIGINT) };
    }
}

/// Lets a command be killed when the thread that started it ends, as it does with its process.
pub fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    let watch = move || -> io::Result<()> {
        // SAFETY: numbers.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        // The parent may have ended before that was said.
        if std::os::unix::process::parent_id() == parent {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::ESRCH))
        }
    };
    // SAFETY: between fork(2) and exec(2) it makes system calls and allocates nothing.
    unsafe { command.pre_exec(watch) };
}

/// Lets a command run in a pid namespace of its own, as its first process, with its /proc.
///
/// # Errors
/// Those of unshare(2). From now on every child of this process is in the namespace, and there are none after its first has
/// ended.
pub fn own_pid_namespace(command: &mut Command) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::unshare(libc::CLONE_NEWPID) })?;
    let mount_proc = || -> io::Result<()> {
        private_mounts()?;
        let (proc, at) = (c"proc", c"/proc");
        // SAFETY: three strings that live through the call; no data.
        check(unsafe { libc::mount(proc.as_ptr(), at.as_ptr(), proc.as_ptr(), 0, ptr::null()) })?;
        Ok(())
    };
    // SAFETY: between fork(2) and exec(2) it makes system calls and allocates nothing.
    unsafe { command.pre_exec(mount_proc) };
    Ok(())
}

/// Calls write(2) with a size that no buffer need have: to no descriptor, so that nothing is read.
pub fn write_of_size(size: usize) {
    // SAFETY: the kernel looks at the descriptor first, which is none.
    unsafe { libc::write(-1, ptr::null(), size) };
}

/// Whether this process has the user id 0.
pub fn is_root() -> bool {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Brings `lo` up; the kernel gives it 127.0.0.1 and ::1 by itself.
///
/// # Errors
/// Those of socket(2) and of the SIOCGIFFLAGS and SIOCSIFFLAGS ioctls.
pub fn loopback_up() -> io::Result<()> {
    // SAFETY: no pointers; the result is checked before it becomes an owned descriptor.
    let socket = unsafe {
        let fd = check(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?;
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: ifreq is a name and a union of plain data, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes_with_nul()) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    // SAFETY: both ioctls take an ifreq, which lives through the call; the first fills in the flags that are read after it.
    unsafe {
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request))?;
        request.ifr_ifru.ifru_flags |= IFF_UP;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request))?;
    }
    Ok(())
}

/// `IFF_UP` of `linux/if.h`, in the width that ifreq has.
const IFF_UP: libc::c_short = 1;

/// Makes a terminal pass bytes on as they are: no newline becomes two characters, nothing is echoed.
///
/// # Errors
/// Those of tcgetattr(3) and tcsetattr(3); EIO for a serial port that is not there.
pub fn raw_terminal(file: &File) -> io::Result<()> {
    // SAFETY: termios is plain data, for which zeros are valid.
    let mut termios: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: an open descriptor, and a termios that lives through the calls.
    unsafe {
        check(libc::tcgetattr(file.as_raw_fd(), &raw mut termios))?;
        libc::cfmakeraw(&raw mut termios);
        check(libc::tcsetattr(file.as_raw_fd(), libc::TCSANOW, &raw const termios))?;
    }
    Ok(())
}

/// Keeps the calling thread on one CPU.
///
/// # Errors
/// Those of sched_setaffinity(2); EINVAL for a CPU that is not online.
pub fn stay_on_cpu(cpu: usize) -> io::Result<()> {
    // SAFETY: cpu_set_t is a bit set, for which zeros are valid; CPU_SET checks the number against its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    };
    // SAFETY: the set lives through the call, and its size is given.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) })?;
    Ok(())
}

/// Waits until a descriptor is readable, or the time is over.
///
/// # Errors
/// Those of poll(2).
pub fn is_readable_within(fd: BorrowedFd<'_>, limit: Duration) -> io::Result<bool> {
    let mut request = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let millis = libc::c_int::try_from(limit.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: one request, which lives through the call.
    Ok(check(unsafe { libc::poll(&raw mut request, 1, millis) })? > 0)
}

/// Runs another program in this process, by execve or, with a directory and flags, by execveat. `argv` is the address of the
/// vector, which may be any number. There are no variables. It returns only if that fails.
pub fn exec(directory: Option<(BorrowedFd<'_>, libc::c_int)>, path: &CStr, argv: usize) -> io::Error {
    let none: [usize; 1] = [0];
    let (path, envp) = (path.as_ptr(), none.as_ptr());
    // SAFETY: the kernel checks every address that it is given; nothing of this process is left if it succeeds.
    unsafe {
        match directory {
            None => libc::syscall(libc::SYS_execve, path, argv, envp),
            Some((fd, flags)) => libc::syscall(libc::SYS_execveat, fd.as_raw_fd(), path, argv, envp, flags),
        }
    };
    io::Error::last_os_error()
}

/// Maps a file at an address where nothing is, to be read and copied on write. No page of it is brought in. It stays.
///
/// # Errors
/// Those of mmap(2).
pub fn map_at(file: &File, length: usize, address: usize) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let wanted = ptr::without_provenance_mut(address);
    // SAFETY: the kernel puts it where nothing is, or fails.
    let at = unsafe { libc::mmap(wanted, length, protection, flags, file.as_raw_fd(), 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    if at == wanted { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EEXIST)) }
}

/// Ends every process of a group; there may be none left.
pub fn kill_group(leader: u32) {
    if let Ok(leader) = libc::pid_t::try_from(leader) {
        // SAFETY: no pointers.
        unsafe { libc::kill(-leader, libc::SIGKILL) };
    }
}

/// Ends every process but this one and reaps it. Only for process 1, which this spares.
pub fn kill_all_others() {
    assert_eq!(std::process::id(), 1, "only init may end everybody");
    // SAFETY: no pointers.
    unsafe { libc::kill(-1, libc::SIGKILL) };
    // SAFETY: the status is not asked for. Without children it fails with ECHILD, which ends the loop.
    while unsafe { libc::waitpid(-1, ptr::null_mut(), 0) } > 0 {}
}

/// Switches the machine off, by a reset where it cannot be switched off: the runner takes both for the end.
pub fn power_off() -> ! {
    // SAFETY: no pointers; these return only on failure.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
        libc::reboot(libc::RB_AUTOBOOT);
    }
    loop {
        std::thread::park();
    }
}

/// A kind of object that the kernel numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A program.
    Prog,
    /// A map.
    Map,
    /// A BTF object.
    Btf,
    /// A link.
    Link,
}

/// How one kind is asked for; numbers of `enum bpf_cmd`.
struct Commands {
    next_id: libc::c_long,
    fd_by_id: libc::c_long,
    /// Where in its info the name is.
    name: Option<usize>,
}

impl Object {
    /// Every kind.
    pub const ALL: [Object; 4] = [Object::Prog, Object::Map, Object::Btf, Object::Link];

    /// Its name in a sentence.
    pub fn word(self) -> &'static str {
        match self {
            Object::Prog => "program",
            Object::Map => "map",
            Object::Btf => "BTF",
            Object::Link => "link",
        }
    }

    fn commands(self) -> Commands {
        match self {
            Object::Prog => Commands { next_id: 11, fd_by_id: 13, name: Some(64) },
            Object::Map => Commands { next_id: 12, fd_by_id: 14, name: Some(24) },
            Object::Btf => Commands { next_id: 23, fd_by_id: 19, name: None },
            Object::Link => Commands { next_id: 31, fd_by_id: 30, name: None },
        }
    }
}

/// `BPF_OBJ_GET_INFO_BY_FD` of `enum bpf_cmd`.
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
/// `BPF_OBJ_NAME_LEN` of `linux/bpf.h`.
const NAME_LEN: usize = 16;

/// The ids of every object of a kind; none on a kernel that does not number it.
pub fn object_ids(object: Object) -> Vec<u32> {
    let mut ids = Vec::new();
    let mut id = 0;
    loop {
        // start_id, next_id, open_flags
        let mut attr: [u32; 3] = [id, 0, 0];
        // SAFETY: the attributes of this command are these three words, which live through the call.
        if unsafe { bpf(object.commands().next_id, &mut attr) } < 0 {
            return ids;
        }
        id = attr[1];
        ids.push(id);
    }
}

/// The name of an object, if its kind has names and it is still there.
pub fn object_name(object: Object, id: u32) -> Option<String> {
    let offset = object.commands().name?;
    let info = object_info(object, id)?;
    let name = info.get(offset..offset + NAME_LEN)?;
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    Some(String::from_utf8_lossy(name).into_owned())
}

/// Whether a BTF object is the kernel's or a module's own (Linux 5.11), which it makes when it is first asked for something by them.
pub fn is_kernels_own(btf: u32) -> bool {
    object_info(Object::Btf, btf).is_some_and(|info| info[KERNEL_BTF] != 0)
}

/// The offset of `kernel_btf`, of which the first byte tells, in `struct bpf_btf_info`.
const KERNEL_BTF: usize = 28;

/// What the kernel tells of an object that is still there.
fn object_info(object: Object, id: u32) -> Option<[u8; 256]> {
    let mut attr: [u32; 3] = [id, 0, 0];
    // SAFETY: as in `object_ids`.
    let fd = libc::c_int::try_from(unsafe { bpf(object.commands().fd_by_id, &mut attr) }).ok().filter(|&fd| fd >= 0)?;
    // SAFETY: the kernel just gave this descriptor to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = [0_u8; 256];
    let [first, second] = halves(info.as_mut_ptr());
    // bpf_fd, info_len, info
    let mut attr: [u32; 4] = [u32::try_from(fd.as_raw_fd()).ok()?, u32::try_from(info.len()).ok()?, first, second];
    // SAFETY: the attributes are these words; the kernel writes at most info_len bytes to `info`, which outlives the call.
    if unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) } < 0 { None } else { Some(info) }
}

/// `BPF_PROG_LOAD` of `enum bpf_cmd`.
const PROG_LOAD: libc::c_long = 5;
/// `BPF_PROG_TYPE_SOCKET_FILTER` of `enum bpf_prog_type`.
const SOCKET_FILTER: u32 = 1;

/// Loads a socket filter, and gives the verifier's log of every instruction, which it writes for programs that it takes too.
/// The program is gone at return.
///
/// # Errors
/// What the kernel says, with the log.
pub fn verifier_log(insns: &[[u8; 8]]) -> Result<String, (io::Error, String)> {
    let mut log = vec![0_u8; 1 << 20];
    let [insns_first, insns_second] = halves(insns.as_ptr());
    let [license_first, license_second] = halves(c"GPL".as_ptr());
    let [log_first, log_second] = halves(log.as_mut_ptr());
    let count = u32::try_from(insns.len()).unwrap_or(u32::MAX);
    let size = u32::try_from(log.len()).unwrap_or(u32::MAX);
    // The first level is about programs that are refused; of one that is taken only the second leaves the instructions.
    let level = 2;
    // prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags
    let mut attr: [u32; 12] = [
        SOCKET_FILTER,
        count,
        insns_first,
        insns_second,
        license_first,
        license_second,
        level,
        size,
        log_first,
        log_second,
        0,
        0,
    ];
    // SAFETY: the attributes are these words; instructions, licence and log outlive the call and are as long as they say.
    let result = unsafe { bpf(PROG_LOAD, &mut attr) };
    let error = io::Error::last_os_error();
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    let log = String::from_utf8_lossy(&log[..end]).into_owned();
    let Some(fd) = libc::c_int::try_from(result).ok().filter(|&fd| fd >= 0) else { return Err((error, log)) };
    // SAFETY: the kernel just gave this descriptor to nobody else.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(log)
}

/// An address in the order that a 64-bit attribute has in memory.
fn halves<T>(pointer: *const T) -> [u32; 2] {
    let bytes = (pointer.expose_provenance() as u64).to_ne_bytes();
    let [a, b, c, d, e, f, g, h] = bytes;
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

/// bpf(2).
///
/// # Safety
/// `attr` must be what the command expects, and whatever it points at must be valid for what the kernel does with it.
unsafe fn bpf<const N: usize>(command: libc::c_long, attr: &mut [u32; N]) -> libc::c_long {
    // SAFETY: a pointer to `attr` and its size; the rest is the caller's promise.
    unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(attr)) }
}

/// The processor's time-stamp counter, where it has one.
pub fn time_stamp() -> Option<u64> {
    // SAFETY: every such processor has the instruction.
    #[cfg(target_arch = "x86_64")]
    return Some(unsafe { core::arch::x86_64::_rdtsc() });
    #[cfg(not(target_arch = "x86_64"))]
    None
}
