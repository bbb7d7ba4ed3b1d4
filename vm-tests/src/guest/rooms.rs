//! Root directories for the program that looks up hosts, with C libraries of their own: as a chroot has one, or a container.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use bpfkit_loader::MappedFile;

use super::case::{Ctx, Doing as _, Failure};
use super::sys;
use crate::ensure;

/// A process that waits until it is told to look up hosts.
pub struct Waiting {
    child: Child,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Waiting {
    /// Starts a program that takes the words of `lookup`, and waits until it is there with all its libraries.
    pub fn start<W: AsRef<OsStr>>(mut command: Command, words: &[W]) -> Result<Self, Failure> {
        command.arg("wait").args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().doing(|| format!("start {command:?}"))?;
        let out = child.stdout.take().ok_or_else(|| Failure::Fail("no pipe".to_owned()))?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let waiting = Self { child };
        ensure!(line == "ready\n", "{command:?} said {line:?}");
        Ok(waiting)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it look up what it was told, and waits for its end. Its process, which is no more.
    pub fn go(mut self) -> Result<u32, Failure> {
        if let Some(mut pipe) = self.child.stdin.take() {
            pipe.write_all(b"\n")?;
        }
        let status = self.child.wait()?;
        ensure!(status.success(), "looking up ended with {status}");
        Ok(self.child.id())
    }
}

/// A directory that has what `lookup` needs to run in it.
pub struct Room {
    directory: PathBuf,
    libc: PathBuf,
}

impl Room {
    /// Makes one within the case's directory: with these hosts, asked for in this order (the line of nsswitch.conf).
    pub fn new(ctx: &Ctx, name: &str, hosts: &str, order: &str) -> Result<Self, Failure> {
        let directory = ctx.directory().join(name);
        let program = Waiting::start(Command::new(ctx.lookup(false)?), &[] as &[&str])?;
        let mut files: Vec<PathBuf> =
            MappedFile::of(program.pid(), |_| true)?.into_iter().map(|file| file.path).collect();
        program.go()?;
        let libc = files.iter().find(|path| path.file_name().is_some_and(|name| name == "libc.so.6")).cloned();
        let libc = libc.ok_or_else(|| Failure::Fail(format!("no libc.so.6 among {files:?}")))?;
        // Before glibc 2.34 these were libraries of their own.
        let more = ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"].map(|name| libc.with_file_name(name));
        files.extend(more.into_iter().filter(|path| path.exists()));
        // The interpreter is asked for by another path than the one that it is mapped by, where one is a link to the other.
        files.push(PathBuf::from("/lib64/ld-linux-x86-64.so.2"));
        for file in &files {
            let to = if file == &fs::canonicalize(ctx.lookup(false)?)? { Path::new("/bin/lookup") } else { file };
            copy(file, &directory.join(to.strip_prefix("/").unwrap_or(to)))?;
        }
        let room = Self { libc: directory.join(libc.strip_prefix("/").unwrap_or(&libc)), directory };
        room.write("etc/hosts", hosts)?;
        // A host may have several addresses.
        room.write("etc/host.conf", "multi on\n")?;
        room.write("etc/nsswitch.conf", &format!("hosts: {order}\n"))?;
        fs::create_dir_all(room.directory.join("tmp"))?;
        Ok(room)
    }

    /// Writes a file in it.
    pub fn write(&self, path: &str, text: &str) -> Result<(), Failure> {
        let path = self.directory.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(&path, text).doing(|| format!("write {}", path.display()))
    }

    /// Its C library.
    pub fn libc(&self) -> &Path {
        &self.libc
    }

    /// A process in it. As a container, it sees the room on a file system of its own, which nobody else sees.
    pub fn start<W: AsRef<OsStr>>(&self, is_container: bool, words: &[W]) -> Result<Waiting, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("room").arg(&self.directory).arg(if is_container { "container" } else { "chroot" });
        let words: Vec<OsString> = words.iter().map(|word| word.as_ref().to_owned()).collect();
        Waiting::start(command, &words)
    }
}

/// Copies a file, with the directories above it.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::copy(from, to).doing(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// What `guest room DIRECTORY chroot|container WORD..` does: enters the room and looks up hosts.
pub fn enter(room: &Path, kind: &str, words: &[&str]) -> ExitCode {
    let enter = || -> Result<(), Failure> {
        if kind == "container" {
            sys::private_mounts()?;
            let place = room.join("tmp");
            sys::mount("tmpfs", &place)?;
            for part in fs::read_dir(room)? {
                let part = part?;
                if part.file_name() != "tmp" {
                    copy_all(&part.path(), &place.join(part.file_name()))?;
                }
            }
            fs::create_dir(place.join("tmp"))?;
            std::os::unix::fs::chroot(&place)?;
        } else {
            std::os::unix::fs::chroot(room)?;
        }
        std::env::set_current_dir("/")?;
        Err(Command::new("/bin/lookup").args(words).exec().into())
    };
    let Err(error) = enter() else { return ExitCode::SUCCESS };
    eprintln!("guest: cannot enter {}: {error:?}", room.display());
    ExitCode::FAILURE
}

fn copy_all(from: &Path, to: &Path) -> Result<(), Failure> {
    if !from.is_dir() {
        return copy(from, to);
    }
    for part in fs::read_dir(from)? {
        let part = part?;
        copy_all(&part.path(), &to.join(part.file_name()))?;
    }
    Ok(())
}
