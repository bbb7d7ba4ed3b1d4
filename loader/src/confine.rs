//! What a process that has attached its programs need not be able to do any more, it gives up: traced processes are hostile, and
//! what they write is read from now on.

use std::fmt;
use std::io;

use crate::Error;
use crate::attach::may_probe_files;
use crate::map::Map;
use crate::mapped::may_open_mapped;
use crate::probe::may_load;
use crate::ring::PerfBuffer;
use crate::sys::{confine, process};

/// A set of capabilities, as include/uapi/linux/capability.h numbers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// None.
    pub const NONE: Self = Self(0);
    /// What it takes to find processes and what they have mapped, and to attach to that: CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE,
    /// CAP_SYS_ADMIN (which not all kernels want: see [`to_attaching`]), CAP_PERFMON, CAP_BPF, CAP_CHECKPOINT_RESTORE.
    pub const ATTACH: Self = Self(1 << 2 | 1 << 19 | 1 << 21 | 1 << 38 | 1 << 39 | 1 << 40);
    /// CAP_SYS_PTRACE: what other users' processes have in /proc beside what everybody may see, such as their namespaces.
    pub const PROC: Self = Self(1 << 19);
    /// CAP_SYS_NICE.
    const SYS_NICE: Self = Self(1 << 23);
    /// CAP_SYS_ADMIN.
    const SYS_ADMIN: Self = Self(1 << 21);
    /// What reading may take, the least first: none, CAP_BPF, CAP_PERFMON, both, CAP_SYS_ADMIN.
    const CHOICES: [Self; 5] = [Self::NONE, Self(1 << 39), Self(1 << 38), Self(1 << 38 | 1 << 39), Self::SYS_ADMIN];

    const NAMES: [(u32, &'static str); 7] = [
        (2, "CAP_DAC_READ_SEARCH"),
        (19, "CAP_SYS_PTRACE"),
        (21, "CAP_SYS_ADMIN"),
        (23, "CAP_SYS_NICE"),
        (38, "CAP_PERFMON"),
        (39, "CAP_BPF"),
        (40, "CAP_CHECKPOINT_RESTORE"),
    ];
}

/// `CAP_BPF, CAP_PERFMON`, or `none`
impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> =
            Self::NAMES.iter().filter(|(bit, _)| self.0 >> bit & 1 != 0).map(|&(_, name)| name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(", "))
    }
}

/// What is left to a process.
#[derive(Debug)]
pub struct Confined {
    /// The capabilities that it still has.
    pub capabilities: Capabilities,
    /// Whether it is kept to the system calls of reading, and why not.
    pub calls: io::Result<()>,
}

/// `capabilities left: none; system calls: those of reading`
impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "capabilities left: {}; system calls: ", self.capabilities)?;
        match &self.calls {
            Ok(()) => f.write_str("those of reading"),
            Err(error) => write!(f, "all, as no filter could be set: {error}"),
        }
    }
}

/// Leaves the calling thread what it takes to read these maps and rings, those of CPUs that come online later included: the
/// least capabilities with which the kernel allows that, beside those to `keep`, and no system calls but those of reading. The
/// others fail with EPERM. Nothing of it can be taken back.
///
/// Links are released without any capability. The kernel answers BPF_MAP_LOOKUP_ELEM to everybody, but with
/// kernel.unprivileged_bpf_disabled before Linux 5.19. A ring takes CAP_PERFMON, or CAP_SYS_ADMIN before Linux 5.8.
///
/// # Errors
/// What the kernel says to capset(2) and prctl(2).
pub fn to_reading<'a>(
    mut maps: impl Iterator<Item = &'a Map>,
    rings: Option<&PerfBuffer>,
    keep: Capabilities,
) -> io::Result<Confined> {
    let map = maps.next();
    let mut least = Capabilities::SYS_ADMIN;
    for choice in Capabilities::CHOICES {
        if is_enough(choice, map, rings)? {
            least = choice;
            break;
        }
    }
    // The reader of counters asks for real-time priority (see `undisturbed`), by a limit where that can be raised.
    let nice = if process::allow_realtime() { Capabilities::NONE } else { Capabilities::SYS_NICE };
    let capabilities = to(Capabilities(least.0 | nice.0 | keep.0))?;
    Ok(Confined { capabilities, calls: confine::filter_calls(&mut filter()) })
}

/// Leaves the calling thread these capabilities, of those that it has, and no way to new ones. Says which it has then.
///
/// # Errors
/// As [`to_reading`].
pub fn to(capabilities: Capabilities) -> io::Result<Capabilities> {
    let left = Capabilities(confine::permitted()? & capabilities.0);
    confine::no_new_privileges()?;
    confine::keep(left.0)?;
    Ok(left)
}

/// Leaves the calling thread what it takes to find files that processes have mapped, and to attach to them:
/// [`Capabilities::ATTACH`], without CAP_SYS_ADMIN where the kernel does without. That is asked by trying: Linux 5.9 to 6.15 did,
/// until commit ba677dbe77af (Linux 6.16; 5.10.240, 5.15.189, 6.1.146, 6.6.99, 6.12.39 and 6.15.7) took a uprobe to be what
/// CAP_PERFMON is too little for, since one in the middle of an instruction destroys a process.
///
/// # Errors
/// As [`to_reading`].
pub fn to_attaching() -> io::Result<Capabilities> {
    let less = Capabilities(Capabilities::ATTACH.0 & !Capabilities::SYS_ADMIN.0);
    let is_enough = confine::with_only(less.0, || may_load().is_some() && may_probe_files() && may_open_mapped())?;
    to(if is_enough { less } else { Capabilities::ATTACH })
}

/// Whether these capabilities are enough to read.
fn is_enough(capabilities: Capabilities, map: Option<&Map>, rings: Option<&PerfBuffer>) -> io::Result<bool> {
    let refused = |error: &io::Error| error.raw_os_error() == Some(libc::EPERM);
    let reads = |map: &Map| !matches!(map.keys().next(), Some(Err(Error::Io { source, .. })) if refused(&source));
    confine::with_only(capabilities.0, || map.is_none_or(reads) && rings.is_none_or(PerfBuffer::may_renew))
}

/// What a seccomp filter finds in its context, `struct seccomp_data`.
const NUMBER_AT: u32 = 0;
const ARCH_AT: u32 = 4;
const ARGS_AT: u32 = 16;

/// AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64 of include/uapi/linux/audit.h.
const ARCH: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };

/// What reading takes, with the C library's own needs: memory, time, signals, waiting, leaving.
const CALLS: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_ppoll,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    libc::SYS_perf_event_open,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_getparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Older calls that x86-64 still has, and that its C library makes.
#[cfg(target_arch = "x86_64")]
const OLDER: &[libc::c_long] =
    &[libc::SYS_poll, libc::SYS_epoll_wait, libc::SYS_stat, libc::SYS_lstat, libc::SYS_readlink, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[libc::c_long] = &[];

/// The commands of bpf(2) about what is open: lookup, update, delete and next key of a map's elements, information about a program,
/// map or link (include/uapi/linux/bpf.h). None makes or finds another.
const COMMANDS: [u32; 5] = [1, 2, 3, 4, 15];

/// The commands of ioctl(2): PERF_EVENT_IOC_ENABLE and PERF_EVENT_IOC_SET_OUTPUT of include/uapi/linux/perf_event.h.
const IOCTLS: [u32; 2] = [0x2400, 0x2405];

/// The commands of fcntl(2): F_GETFD and F_GETFL, which the standard library asks with.
const FCNTLS: [u32; 2] = [1, 3];

/// Opening for reading only: no flag but O_CLOEXEC, O_NONBLOCK, O_DIRECTORY, O_NOFOLLOW, O_LARGEFILE and O_PATH.
const READ_FLAGS: u32 = (libc::O_CLOEXEC
    | libc::O_NONBLOCK
    | libc::O_DIRECTORY
    | libc::O_NOFOLLOW
    | libc::O_LARGEFILE
    | libc::O_PATH)
    .cast_unsigned()
    // What O_LARGEFILE is to the kernel; the C library's own is 0.
    | 0o100_000;

/// The filter: classic BPF over `struct seccomp_data`.
fn filter() -> Vec<libc::sock_filter> {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W};
    let insn = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt,
        jf,
        k,
    };
    let load = |at| insn(BPF_LD | BPF_W | BPF_ABS, 0, 0, at);
    let ret = |what| insn(BPF_RET | BPF_K, 0, 0, what);
    let (allow, refuse) = (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned());
    // Each line falls through to the next one where it does not match.
    let is = |value| insn(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, value);
    let number = |call: libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    let mut code = vec![load(ARCH_AT), insn(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, ARCH), ret(refuse), load(NUMBER_AT)];
    for &call in CALLS.iter().chain(OLDER) {
        code.extend([is(number(call)), ret(allow)]);
    }
    let commands =
        [(libc::SYS_bpf, 0, &COMMANDS[..]), (libc::SYS_ioctl, 1, &IOCTLS[..]), (libc::SYS_fcntl, 1, &FCNTLS[..])];
    for (call, commands_at, commands) in commands {
        let allowed: Vec<_> = commands.iter().flat_map(|&command| [is(command), ret(allow)]).collect();
        let skip = u8::try_from(allowed.len() + 2).unwrap_or_default();
        code.push(insn(BPF_JMP | BPF_JEQ | BPF_K, 0, skip, number(call)));
        code.push(load(ARGS_AT + 8 * commands_at));
        code.extend(allowed);
        code.push(ret(refuse));
    }
    for (call, flags_at) in OPENS {
        let flags = [
            load(ARGS_AT + 8 * flags_at),
            insn(BPF_JMP | BPF_JSET | BPF_K, 1, 0, !READ_FLAGS),
            ret(allow),
            ret(refuse),
        ];
        code.push(insn(BPF_JMP | BPF_JEQ | BPF_K, 0, 4, number(*call)));
        code.extend(flags);
    }
    code.push(ret(refuse));
    code
}

/// The calls that open files, and which argument has the flags.
#[cfg(target_arch = "x86_64")]
const OPENS: &[(libc::c_long, u32)] = &[(libc::SYS_openat, 2), (libc::SYS_open, 1)];
#[cfg(not(target_arch = "x86_64"))]
const OPENS: &[(libc::c_long, u32)] = &[(libc::SYS_openat, 2)];

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};

    use super::*;

    /// In a thread of its own, since what it gives up is gone for good.
    fn in_a_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(run).join()).expect("the thread does not panic")
    }

    #[test]
    fn a_reader_reads_and_does_nothing_else() {
        let errno = |result: io::Result<()>| result.err().and_then(|error| error.raw_os_error());
        let results = in_a_thread(|| {
            let confined =
                to_reading(std::iter::empty(), None, Capabilities::NONE).expect("everybody may give up what he has");
            confined.calls.expect("seccomp is there wherever tests run");
            let read = File::open("/proc/self/status").map(drop);
            let write = OpenOptions::new().write(true).open("/dev/null").map(drop);
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").map(drop);
            let run = std::process::Command::new("/bin/true").status().map(drop);
            (confined.capabilities, confine::permitted(), [read, write, socket, run].map(errno))
        });
        assert_eq!(results.0.0 & !Capabilities::SYS_NICE.0, 0);
        assert_eq!(results.1.expect_err("capget is none of the calls").raw_os_error(), Some(libc::EPERM));
        assert_eq!(results.2, [None, Some(libc::EPERM), Some(libc::EPERM), Some(libc::EPERM)]);
    }

    #[test]
    fn what_is_kept_was_there_before() {
        let before = confine::permitted().expect("everybody may ask");
        let kept = in_a_thread(|| (to(Capabilities::ATTACH), confine::permitted()));
        assert_eq!(kept.0.expect("less").0, before & Capabilities::ATTACH.0);
        assert_eq!(kept.1.expect("everybody may ask"), before & Capabilities::ATTACH.0);
        assert_eq!(confine::permitted().expect("everybody may ask"), before, "another thread's are its own");
    }

    #[test]
    fn whoever_may_do_nothing_may_not_attach_either() {
        let attempt = || may_load().is_some() || may_probe_files() || may_open_mapped();
        let tried = confine::with_only(Capabilities::NONE.0, attempt);
        assert!(!tried.expect("everybody may give up what he has"), "without a capability");
        let kept = in_a_thread(to_attaching).expect("everybody may give up what he has");
        assert_eq!(kept.0 & !Capabilities::ATTACH.0, 0);
    }

    #[test]
    fn an_attempt_has_no_more_and_takes_nothing_away() {
        let effective = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").expect("everybody may ask");
            let value = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("every status has it");
            u64::from_str_radix(value, 16).expect("a number")
        };
        let before = effective();
        let during = confine::with_only(Capabilities::ATTACH.0, effective).expect("everybody may give up what he has");
        assert_eq!(during, confine::permitted().expect("everybody may ask") & Capabilities::ATTACH.0);
        assert_eq!(effective(), before);
    }

    #[test]
    fn sets_are_shown_by_name() {
        assert_eq!(Capabilities::NONE.to_string(), "none");
        assert_eq!(Capabilities(1 << 21 | 1 << 39).to_string(), "CAP_SYS_ADMIN, CAP_BPF");
    }
}
