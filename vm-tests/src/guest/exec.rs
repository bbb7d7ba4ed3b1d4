//! Processes that run a program in every way there is, for execsnoop to see.

use std::env;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use super::case::Failure;
use super::sys;
use crate::ensure;

/// Where the file of `paged` is mapped: in the middle of what a process has, where nothing else is.
const PLACE: usize = 0x1000_0000_0000;

/// What `guest exec HOW PATH ARGUMENT..` does: runs the program in this process. If that fails it says so, and ends well.
pub fn main() -> ExitCode {
    let words: Vec<Vec<u8>> = env::args_os().skip(2).map(OsString::into_vec).collect();
    let Some((how, words)) = words.split_first() else { return ExitCode::from(2) };
    let error = run(&String::from_utf8_lossy(how), words.to_vec());
    println!("{}", error.raw_os_error().unwrap_or_default());
    ExitCode::SUCCESS
}

fn run(how: &str, words: Vec<Vec<u8>>) -> io::Error {
    let argv: Vec<CString> = words.into_iter().filter_map(|word| CString::new(word).ok()).collect();
    let Some(path) = argv.first() else { return io::Error::from_raw_os_error(libc::EINVAL) };
    let addresses: Vec<usize> = argv.iter().map(|arg| arg.as_ptr().addr()).chain([0]).collect();
    let vector = addresses.as_ptr().addr();
    let open = |path: &CString| File::open(Path::new(std::ffi::OsStr::from_bytes(path.as_bytes())));
    match how {
        "plain" => sys::exec(None, path, vector),
        // As fexecve does.
        "fd" => match open(path) {
            Ok(file) => sys::exec(Some((file.as_fd(), libc::AT_EMPTY_PATH)), c"", vector),
            Err(error) => error,
        },
        // An absolute path, as one that is relative to the root.
        "at" => match File::open("/") {
            Ok(root) => {
                let path = path.as_bytes().strip_prefix(b"/").and_then(|path| CString::new(path).ok());
                sys::exec(Some((root.as_fd(), 0)), &path.unwrap_or_default(), vector)
            }
            Err(error) => error,
        },
        // A thread that is not the first one, whose number changes if it succeeds.
        "thread" => std::thread::scope(|scope| {
            scope.spawn(|| sys::exec(None, path, vector)).join().unwrap_or_else(|_| io::Error::other("panic"))
        }),
        "null" => sys::exec(None, path, 0),
        "empty" => sys::exec(None, path, [0_usize].as_ptr().addr()),
        // The second argument is nowhere.
        "fault" => sys::exec(None, path, [addresses[0], 0x10, 0].as_ptr().addr()),
        "nowhere" => sys::exec(None, path, 0x10),
        // The vector and all strings are in a file, of which no page is there yet.
        "paged" => {
            let length = std::fs::metadata(path.to_string_lossy().as_ref()).map_or(0, |file| file.len());
            let mapped = open(path).and_then(|file| sys::map_at(&file, usize::try_from(length).unwrap_or(0), PLACE));
            let Some(program) = argv.get(1) else { return io::Error::from_raw_os_error(libc::EINVAL) };
            mapped.map_or_else(|error| error, |()| sys::exec(None, program, PLACE))
        }
        _ => io::Error::from_raw_os_error(libc::ENOSYS),
    }
}

/// The bytes of a file for `paged`: the vector, and each string at the start of a page of its own.
pub fn pages(argv: &[Vec<u8>]) -> Vec<u8> {
    const PAGE: usize = 4096;
    let starts: Vec<usize> = (1..=argv.len()).map(|page| page * PAGE).collect();
    let mut bytes: Vec<u8> =
        starts.iter().map(|start| PLACE + start).chain([0]).flat_map(|address| address.to_ne_bytes()).collect();
    // Copied, because code that is hardly optimized would write one zero after the other.
    let zeros = |bytes: &mut Vec<u8>, until: usize| bytes.extend_from_slice(&[0; PAGE][..until - bytes.len()]);
    for (start, arg) in starts.into_iter().zip(argv) {
        zeros(&mut bytes, start);
        bytes.extend(arg);
    }
    bytes.push(0);
    let end = bytes.len().next_multiple_of(PAGE);
    zeros(&mut bytes, end);
    bytes
}

/// Runs `guest WORD..`, as this user where one is given, waits for its end, and gives its number.
///
/// # Errors
/// A child that is killed.
pub fn child(user: Option<u32>, words: &[&[u8]]) -> Result<u32, Failure> {
    let mut child = command(user, words)?.spawn()?;
    let status = child.wait()?;
    ensure!(status.code().is_some(), "{words:?}: {status}");
    Ok(child.id())
}

fn command(user: Option<u32>, words: &[&[u8]]) -> Result<Command, Failure> {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(env::current_exe()?);
    command.args(words.iter().map(|word| OsString::from_vec(word.to_vec()))).stdout(Stdio::null());
    if let Some(user) = user {
        command.uid(user);
    }
    Ok(command)
}

/// A process that is there until the value goes, for who looks into /proc: it runs `guest linger` in the end, which waits for
/// its input to be closed.
pub struct Lingering(Child);

impl Lingering {
    /// Runs `guest WORD..`, as this user where one is given, until it lingers or has ended.
    ///
    /// # Errors
    /// Those of a process that cannot be started.
    pub fn start(user: Option<u32>, words: &[&[u8]]) -> Result<Self, Failure> {
        let mut child = command(user, words)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        if let Some(mut said) = child.stdout.take() {
            let _ = said.read(&mut [0])?;
        }
        Ok(Self(child))
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        self.0.stdin.take();
        let _ = self.0.wait();
    }
}

/// What `guest linger` does.
pub fn linger() -> ExitCode {
    println!();
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    ExitCode::SUCCESS
}
