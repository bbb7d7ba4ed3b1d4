//! Looks up hosts by each function that a C library has for it, as the words of the command line say, one after the other.
//!
//! It is built twice: linked dynamically, so that a libc.so.6 is there to be probed, and statically.

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int, c_void};
use std::io::{BufRead, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::ptr::{null, null_mut};
use std::time::Duration;

// What the crate `libc` does not declare; the declarations are those of netdb.h.
unsafe extern "C" {
    fn gethostbyname(name: *const c_char) -> *mut libc::hostent;
    fn gethostbyname2(name: *const c_char, af: c_int) -> *mut libc::hostent;
    fn gethostbyaddr(addr: *const c_void, len: libc::socklen_t, af: c_int) -> *mut libc::hostent;
    fn gethostbyname_r(
        name: *const c_char,
        entry: *mut libc::hostent,
        buffer: *mut c_char,
        size: usize,
        result: *mut *mut libc::hostent,
        error: *mut c_int,
    ) -> c_int;
    fn gethostbyname2_r(
        name: *const c_char,
        af: c_int,
        entry: *mut libc::hostent,
        buffer: *mut c_char,
        size: usize,
        result: *mut *mut libc::hostent,
        error: *mut c_int,
    ) -> c_int;
    fn gethostbyaddr_r(
        addr: *const c_void,
        len: libc::socklen_t,
        af: c_int,
        entry: *mut libc::hostent,
        buffer: *mut c_char,
        size: usize,
        result: *mut *mut libc::hostent,
        error: *mut c_int,
    ) -> c_int;
}

/// What getaddrinfo is told besides the name.
#[derive(Clone, Copy, Default)]
struct Hints {
    flags: c_int,
    socktype: c_int,
}

const STREAM: Hints = Hints { flags: 0, socktype: libc::SOCK_STREAM };
const NUMERIC: Hints = Hints { flags: libc::AI_NUMERICHOST, socktype: libc::SOCK_STREAM };

fn getaddrinfo(name: *const c_char, service: *const c_char, hints: Hints) {
    // SAFETY: zeros are a valid value of numbers and null pointers.
    let mut all = unsafe { std::mem::zeroed::<libc::addrinfo>() };
    (all.ai_flags, all.ai_socktype) = (hints.flags, hints.socktype);
    let mut list = null_mut();
    // SAFETY: name and service are null or strings that live through the call, as the callers see to; the list is freed once, and
    // only where there is one.
    unsafe {
        if libc::getaddrinfo(name, service, &raw const all, &raw mut list) == 0 {
            libc::freeaddrinfo(list);
        }
    }
}

/// A name, which the command line cannot give with a NUL.
fn name(text: impl AsRef<OsStr>) -> CString {
    CString::new(text.as_ref().as_bytes()).unwrap_or_default()
}

/// Calls one of the functions that end in `_r`, with a buffer of this size.
fn reentrant(
    size: usize,
    call: impl FnOnce(*mut libc::hostent, *mut c_char, *mut *mut libc::hostent, *mut c_int) -> c_int,
) {
    // SAFETY: zeros are a valid value of numbers and null pointers.
    let mut entry = unsafe { std::mem::zeroed::<libc::hostent>() };
    let mut buffer: Vec<c_char> = vec![0; size];
    let (mut result, mut error) = (null_mut(), 0);
    call(&raw mut entry, buffer.as_mut_ptr(), &raw mut result, &raw mut error);
}

/// The bytes of an address, and its family.
fn address(text: &OsStr) -> (Vec<u8>, c_int) {
    match text.to_string_lossy().parse() {
        Ok(std::net::IpAddr::V4(ip)) => (ip.octets().to_vec(), libc::AF_INET),
        Ok(std::net::IpAddr::V6(ip)) => (ip.octets().to_vec(), libc::AF_INET6),
        Err(_) => (vec![0; 4], libc::AF_INET),
    }
}

fn length(bytes: &[u8]) -> libc::socklen_t {
    bytes.len().try_into().unwrap_or_default()
}

/// A page of a file that holds a name, mapped and not touched yet: nobody but who reads it in earnest makes it be there.
struct Page(*mut c_void);

// SAFETY: the mapping is shared memory of the whole process, which lives as long as that.
unsafe impl Sync for Page {}

impl Page {
    fn with(name: &CStr) -> Self {
        let path = std::env::temp_dir().join(format!("lookup-{}", std::process::id()));
        let mut file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).expect("a file");
        file.write_all(name.to_bytes_with_nul()).expect("a name in a file");
        std::fs::remove_file(path).expect("the file can go");
        // SAFETY: a new mapping of an open file, which stays until the process ends; the result is checked.
        let page = unsafe { libc::mmap(null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert!(page != libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Self(page)
    }

    fn name(&self) -> *const c_char {
        self.0.cast()
    }

    /// Makes the page be away again.
    fn forget(&self) {
        // SAFETY: the mapping of this value; what is in the file stays there, to be read again.
        unsafe { libc::madvise(self.0, 4096, libc::MADV_DONTNEED) };
    }
}

/// Look-ups by many threads at once: each finds the address that it asks for.
fn threads(count: u8, each: u8) {
    std::thread::scope(|scope| {
        for thread in 0..count {
            scope.spawn(move || {
                for n in 0..each {
                    let host = name(format!("10.{n}.{thread}.1"));
                    getaddrinfo(host.as_ptr(), null(), NUMERIC);
                    let host = name(format!("10.{n}.{thread}.2"));
                    reentrant(1024, |entry, buffer, result, error| {
                        // SAFETY: all of these live through the call, and the size is the buffer's.
                        unsafe { gethostbyname_r(host.as_ptr(), entry, buffer, 1024, result, error) }
                    });
                }
            });
        }
    });
}

fn run(words: &mut impl Iterator<Item = OsString>) -> bool {
    let Some(word) = words.next() else { return false };
    let mut next = || words.next().unwrap_or_default();
    let (inet, inet6) = (libc::AF_INET, libc::AF_INET6);
    // SAFETY: every name and address lives through the call that it is given to.
    unsafe {
        match &*word.to_string_lossy() {
            "getaddrinfo" => getaddrinfo(name(next()).as_ptr(), null(), STREAM),
            "any" => getaddrinfo(name(next()).as_ptr(), null(), Hints::default()),
            "numeric" => getaddrinfo(name(next()).as_ptr(), null(), NUMERIC),
            "null" => getaddrinfo(null(), c"80".as_ptr(), Hints { flags: libc::AI_PASSIVE, ..STREAM }),
            "untouched" => getaddrinfo(Page::with(&name(next())).name(), null(), NUMERIC),
            "forgotten" => {
                // It takes a look-up that waits, for a server that does not answer.
                let page = Page::with(&name(next()));
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        std::thread::sleep(Duration::from_millis(300));
                        page.forget();
                    });
                    getaddrinfo(page.name(), null(), STREAM);
                });
            }
            "abandoned" => {
                let host = next();
                std::thread::spawn(move || getaddrinfo(name(host).as_ptr(), null(), STREAM));
                std::thread::sleep(Duration::from_millis(300));
                std::process::exit(0);
            }
            "gethostbyname" => _ = gethostbyname(name(next()).as_ptr()),
            "gethostbyname2" => _ = gethostbyname2(name(next()).as_ptr(), inet6),
            "gethostbyname_r" => {
                let host = name(next());
                reentrant(1024, |entry, buffer, result, error| {
                    gethostbyname_r(host.as_ptr(), entry, buffer, 1024, result, error)
                });
            }
            "small" => {
                let host = name(next());
                reentrant(1, |entry, buffer, result, error| {
                    gethostbyname_r(host.as_ptr(), entry, buffer, 1, result, error)
                });
            }
            "gethostbyname2_r" => {
                let host = name(next());
                reentrant(1024, |entry, buffer, result, error| {
                    gethostbyname2_r(host.as_ptr(), inet, entry, buffer, 1024, result, error)
                });
            }
            "gethostbyaddr" => {
                let (bytes, family) = address(&next());
                let _ = gethostbyaddr(bytes.as_ptr().cast(), length(&bytes), family);
            }
            "gethostbyaddr_r" => {
                let (bytes, family) = address(&next());
                reentrant(1024, |entry, buffer, result, error| {
                    gethostbyaddr_r(bytes.as_ptr().cast(), length(&bytes), family, entry, buffer, 1024, result, error)
                });
            }
            "threads" => {
                let (count, each) = (next(), next());
                let number = |text: OsString| text.to_string_lossy().parse().unwrap_or_default();
                threads(number(count), number(each));
            }
            "wait" => {
                println!("ready");
                let _ = std::io::stdin().lock().read_line(&mut String::new());
            }
            other => panic!("unknown word {other}"),
        }
    }
    true
}

fn main() {
    let mut words = std::env::args_os().skip(1);
    while run(&mut words) {}
}
