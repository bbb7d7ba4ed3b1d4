//! Answers in the kernel's place, for tests: what the wrappers of system calls make of each.

use std::cell::RefCell;
use std::io;

/// An errno for the call of this name, or nothing to let it through.
type Fake = Box<dyn FnMut(&'static str) -> Option<i32>>;

thread_local! {
    static FAKE: RefCell<Option<Fake>> = const { RefCell::new(None) };
}

/// What the calling thread's fake says to a call.
pub(super) fn answer(call: &'static str) -> io::Result<()> {
    let errno = FAKE.with_borrow_mut(|fake| fake.as_mut().and_then(|fake| fake(call)));
    errno.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
}

/// Runs something while the fake answers the calling thread.
pub(crate) fn with<T>(fake: impl FnMut(&'static str) -> Option<i32> + 'static, run: impl FnOnce() -> T) -> T {
    /// Takes the fake away when a test fails, too.
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            FAKE.set(None);
        }
    }
    FAKE.set(Some(Box::new(fake)));
    let _reset = Reset;
    run()
}

/// What the kernel may say to any call.
pub(crate) const ERRNOS: [i32; 8] =
    [libc::EPERM, libc::EINTR, libc::EAGAIN, libc::ENOMEM, libc::EBUSY, libc::ENFILE, libc::EMFILE, libc::ENOSPC];

/// Whether a call is repeated that was interrupted: those of bpf(2), whose names are those of structures, and those that may wait.
pub(crate) fn is_repeated(call: &str) -> bool {
    let is_bpf = call.starts_with(char::is_uppercase) && !call.contains('_');
    is_bpf || matches!(call, "perf_event_open" | "sendto")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::rc::Rc;

    use super::super::{bpf::*, confine, map, mount, perf, ping, process};
    use super::*;
    use crate::prog::Tasks;

    type Wrapper = (&'static str, fn() -> io::Result<()>);

    fn null() -> File {
        File::open("/dev/null").unwrap()
    }

    macro_rules! wrappers {
        ($($name:literal $wrapper:expr;)*) => { [$(($name, || $wrapper.map(drop))),*] };
    }

    /// Every wrapper, with the first call that it makes.
    const WRAPPERS: &[Wrapper] = &wrappers! {
        "MapCreate" map_create(MapCreate::default(), None);
        "MapLookup" map_lookup(null().as_fd(), &[0; 4], &mut [0; 8]);
        "MapUpdate" map_update(null().as_fd(), &[0; 4], &[0; 8], 0);
        "MapDelete" map_delete(null().as_fd(), &[0; 4]);
        "MapNext" map_next(null().as_fd(), None, &mut [0; 4]);
        "MapFreeze" map_freeze(null().as_fd());
        "MapBatch" map_lookup_batch(null().as_fd());
        "ProgLoad" prog_load(ProgLoad::default(), ProgInput::default(), &mut []);
        "BtfLoad" btf_load(&[]);
        "ProgTestRun" prog_test_run(null().as_fd(), &[0; 14], &[], 1);
        "ObjGet" obj_get(c"/none");
        "ObjPin" obj_pin(c"/none", null().as_fd());
        "ProgGetFd" prog_by_id(1);
        "MapGetFd" map_by_id(1);
        "BtfGetFd" btf_by_id(1);
        "ProgNextId" prog_ids();
        "MapNextId" map_ids();
        "LinkNextId" link_ids();
        "InfoByFd" info_by_fd(null().as_fd(), 0, 0);
        "RawTracepointOpen" raw_tracepoint_open(null().as_fd(), None);
        "LinkCreate" link_create(null().as_fd(), None, 0);
        "LinkKprobes" link_kprobe(null().as_fd(), 0, c"x");
        "LinkUprobes" link_uprobes(null().as_fd(), 0, c"/none", &[(0, 0)], false);
        "EnableStats" enable_stats();
        "perf_event_open" perf::bpf_output(0, 1);
        "perf_event_open" perf::tracepoint(1, Tasks::All, 0);
        "perf_event_open" perf::probe(1, 0, c"x", 0, Tasks::Process(1));
        "perf_event_open" perf::probe_address(1, 0, 0);
        "perf_event_open" perf::cpu_clock(0, 1);
        "clone" perf::probe_apart(0, c"/none");
        "perf_event_open" perf::ticks(0);
        "PERF_EVENT_IOC_SET_OUTPUT" perf::set_output(null().as_fd(), null().as_fd());
        "PERF_EVENT_IOC_SET_BPF" perf::set_bpf(null().as_fd(), null().as_fd());
        "PERF_EVENT_IOC_ENABLE" perf::enable(null().as_fd());
        "PROCMAP_QUERY" process::code_mapping(null().as_fd(), 0, &mut [0; 8]);
        "fstatfs" map::map_file(std::path::Path::new("/dev/null"));
        "mmap" map::map_file(std::path::Path::new("/sys/kernel"));
        "mmap" map::PagedFile::open(std::path::Path::new("/dev/null"));
        "mmap" map::RingMap::new(&null().into(), 1);
        "epoll_create1" process::Epoll::new();
        "epoll_ctl" process::Epoll::new().and_then(|epoll| epoll.add(null().as_fd()));
        "fsopen" mount::detached(c"none");
        "mount" mount::at(c"none", c"/none");
        "umount2" mount::unmount(c"/none");
        "socket" ping::ping(std::net::Ipv4Addr::LOCALHOST, 0, 0);
        "capget" confine::permitted();
        "capset" confine::keep(0);
        "PR_SET_NO_NEW_PRIVS" confine::no_new_privileges();
        "PR_SET_SECCOMP" confine::filter_calls(&mut []);
    };

    /// Calls a wrapper while its call is answered so, and says how often it was made.
    fn answered((name, wrapper): &Wrapper, mut errno: impl FnMut() -> Option<i32> + 'static) -> (io::Result<()>, u32) {
        let calls = Rc::new(Cell::new(0));
        let (count, name) = (calls.clone(), *name);
        let fake = move |call: &'static str| {
            if call != name {
                return None;
            }
            count.set(count.get() + 1);
            errno()
        };
        (with(fake, wrapper), calls.get())
    }

    #[test]
    fn each_wrapper_reports_each_errno_and_repeats_what_was_interrupted_but_not_for_ever() {
        for wrapper in WRAPPERS {
            for errno in ERRNOS {
                let (result, calls) = answered(wrapper, move || Some(errno));
                let repeats = is_repeated(wrapper.0) && matches!(errno, libc::EINTR | libc::EAGAIN);
                assert_eq!(result.unwrap_err().raw_os_error(), Some(errno), "{}", wrapper.0);
                assert_eq!(calls, if repeats { 10 } else { 1 }, "{} with {errno}", wrapper.0);
            }
        }
    }

    /// What comes of a call that is interrupted once is what the kernel says then: here that it knows of no such thing.
    #[test]
    fn a_call_that_is_interrupted_once_is_made_again() {
        for wrapper in WRAPPERS.iter().filter(|(name, _)| is_repeated(name)) {
            let mut answers = [libc::EINTR, libc::EAGAIN, libc::ENODEV].into_iter();
            let (result, calls) = answered(wrapper, move || answers.next());
            assert_eq!((result.unwrap_err().raw_os_error(), calls), (Some(libc::ENODEV), 3), "{}", wrapper.0);
        }
    }
}
