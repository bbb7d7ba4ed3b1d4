//! The programs that are compared, and how they are started.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Args, Result};

/// What a root directory has its dynamic loader and its libraries in.
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";
const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
const PLACES: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "bin"];

/// A program, with the arguments that come first.
#[derive(Clone, Debug)]
pub struct Program {
    /// What is started: the program or its loader.
    words: Vec<OsString>,
}

impl Program {
    /// A program that needs no loader of another root directory.
    pub fn at(path: impl Into<OsString>) -> Self {
        Self { words: vec![path.into()] }
    }

    /// The same with arguments.
    pub fn with<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.words.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// One that starts another, which it is given as its last arguments.
    pub fn followed_by(mut self, other: Self) -> Self {
        self.words.extend(other.words);
        self
    }

    /// Ready to be started.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]);
        command
    }
}

impl Args {
    /// The bpfkit that is compared.
    pub fn bpfkit(&self) -> Result<Program> {
        let beside = || std::env::current_exe().ok().map(|path| path.with_file_name("bpfkit"));
        let path = self.bpfkit.clone().or_else(beside).filter(|path| path.exists());
        Ok(Program::at(path.ok_or("there is no bpfkit: cargo build --release --package bpfkit, or --bpfkit FILE")?))
    }

    /// This program.
    pub fn own(&self) -> Result<Program> {
        Ok(Program::at(std::env::current_exe()?))
    }

    /// A file of a peer's; its path says where it was found.
    pub fn peer_file(&self, name: &str) -> Result<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories: Vec<PathBuf> = match &self.peers {
            Some(root) => PLACES.iter().map(|place| root.join(place)).collect(),
            // Debian keeps them where only root's PATH leads.
            None => std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).collect(),
        };
        let found = directories.iter().map(|directory| directory.join(name)).find(|path| path.exists());
        Ok(found.ok_or(format!("{name} is not installed"))?)
    }

    /// A peer. One in a root directory of its own is started by the loader that is there, with the libraries that are there, and
    /// sees all else as bpfkit does: in a chroot it would take another libc for the system's.
    pub fn peer(&self, name: &str) -> Result<Program> {
        let path = self.peer_file(name)?;
        let loader = self.peers.as_deref().map(|root| root.join(LOADER)).filter(|loader| loader.exists());
        let (Some(root), Some(loader)) = (&self.peers, loader) else { return Ok(Program::at(path)) };
        let libraries = LIBRARIES.map(|place| root.join(place).into_os_string()).join(&OsString::from(":"));
        Ok(Program::at(loader).with([OsString::from("--library-path"), libraries, path.into()]))
    }

    /// A program and the files that it needs to be started, each with its path within the root directory.
    pub fn files_of(&self, name: &str) -> Result<Vec<(PathBuf, PathBuf)>> {
        let root = self.peers.as_deref().unwrap_or(Path::new("/"));
        let loader = root.join(LOADER);
        let libraries = LIBRARIES.map(|place| root.join(place).into_os_string()).join(&OsString::from(":"));
        let program = self.peer_file(name)?;
        let output = Command::new(&loader).arg("--library-path").arg(libraries).arg("--list").arg(&program).output()?;
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        let files = listed.lines().filter_map(library).map(PathBuf::from).filter(|path| *path != loader);
        let within = |path: PathBuf| path.strip_prefix(root).map(Path::to_owned).map(|place| (path, place));
        Ok(files.chain([program, loader.clone()]).filter_map(|path| within(path).ok()).collect())
    }
}

/// The path in a line such as `libelf.so.1 => /lib/x86_64-linux-gnu/libelf.so.1 (0x00007f3a4c5d6000)`.
fn library(line: &str) -> Option<&str> {
    line.split_once(" => ")?.1.rsplit_once(" (").map(|(path, _)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_what_the_loader_lists() {
        assert_eq!(library("\tlibz.so.1 => /r/lib/libz.so.1 (0x7f00)"), Some("/r/lib/libz.so.1"));
        assert_eq!(library("\tlinux-vdso.so.1 (0x7ffd)"), None);
    }

    #[test]
    fn a_peer_that_is_not_there_is_named() {
        let args = <Args as clap::Parser>::parse_from(["beside", "--peers", "/nowhere"]);
        assert_eq!(args.peer("bpftrace").unwrap_err().to_string(), "bpftrace is not installed");
    }
}
