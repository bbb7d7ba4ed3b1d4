//! Where the C libraries are whose functions look up hosts: in the processes that run, so that containers and unusual places are
//! covered, else where they usually lie.

use std::collections::{HashMap, HashSet};
use std::env::consts::ARCH;
use std::fs;
use std::path::PathBuf;

use bpfkit_loader::{Elf, FileId, MappedFile, Symbol, processes};

use crate::Error;
use crate::error::Chain;

/// Whose C libraries are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of all processes, also of such as begin later.
    All,
    /// That of one process, or its executable where that holds the functions itself.
    Process(u32),
    /// This file.
    File(PathBuf),
}

/// A C library with some of the functions that are looked for.
#[derive(Debug)]
pub struct Libc {
    /// The open file.
    pub elf: Elf,
    /// Where its functions are.
    pub functions: Vec<Symbol>,
}

/// A file or a process that was passed over, and why.
pub type Passed = Vec<(String, String)>;

/// Looks for C libraries, each once.
#[derive(Debug)]
pub struct Libcs {
    scope: Scope,
    names: Vec<&'static str>,
    known: HashSet<FileId>,
    seen: HashMap<u32, Seen>,
}

/// What is remembered of a process, so that its mappings need not be read again.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Its executable: another one has other libraries.
    exe: FileId,
    /// How often its mappings were read while this was its executable. A library may be mapped only after the first look.
    times: u8,
    found: bool,
}

/// After so many looks at a process without a C library, it has none.
const LOOKS: u8 = 2;

/// The most libraries of a process that are looked at. Who maps more of these names has made them up, to have each of them probed.
const MOST: usize = 64;

/// Whether a file of this name is a C library: of glibc (`libc.so.6`, before 2.34 `libc-2.31.so`), of musl, of uClibc.
fn is_libc(name: &[u8]) -> bool {
    let between = |start: &[u8], end: &[u8]| name.starts_with(start) && name[start.len()..].ends_with(end);
    let is_numbered = |start: &[u8]| between(start, b".so") && name.get(start.len()).is_some_and(u8::is_ascii_digit);
    name == b"libc.so"
        || name == b"libc.so.6"
        || is_numbered(b"libc-")
        || between(b"ld-musl-", b".so.1")
        || between(b"libc.musl-", b".so.1")
        || is_numbered(b"libuClibc-")
}

/// Where it lies on disk, as far as distributions agree.
fn usual_places() -> Vec<PathBuf> {
    let places = [
        format!("/lib/{ARCH}-linux-gnu/libc.so.6"),
        format!("/usr/lib/{ARCH}-linux-gnu/libc.so.6"),
        "/lib64/libc.so.6".to_owned(),
        "/usr/lib64/libc.so.6".to_owned(),
        "/lib/libc.so.6".to_owned(),
        "/usr/lib/libc.so.6".to_owned(),
        format!("/lib/ld-musl-{ARCH}.so.1"),
        "/usr/lib/libc.so".to_owned(),
    ];
    places.map(PathBuf::from).to_vec()
}

impl Libcs {
    /// Looks for libraries with functions of these names.
    pub fn new(scope: Scope, names: &[&'static str]) -> Self {
        Self { scope, names: names.to_vec(), known: HashSet::new(), seen: HashMap::new() }
    }

    /// The libraries that there are, and what was passed over.
    ///
    /// # Errors
    /// When there is none, with all places that were searched.
    pub fn first(&mut self) -> Result<(Vec<Libc>, Passed), Error> {
        match self.scope.clone() {
            Scope::File(path) => {
                let libc = self.with_functions(Elf::open(path)?)?;
                Ok((vec![libc], Passed::new()))
            }
            Scope::Process(pid) => {
                let (found, passed) = self.more()?;
                if !found.is_empty() {
                    return Ok((found, passed));
                }
                let own = self.executable(pid).map_err(|error| Chain(&error).to_string());
                own.map(|libc| (vec![libc], Passed::new())).map_err(|why| {
                    let libraries = passed.iter().map(|(name, why)| format!("\n  {name}: {why}")).collect::<String>();
                    Error::Request(format!("process {pid} uses no C library that can be probed{libraries}\n  {why}"))
                })
            }
            Scope::All => {
                let (mut found, mut passed) = self.more()?;
                if found.is_empty() {
                    passed.insert(0, ("the processes that run".to_owned(), "none else uses a C library".to_owned()));
                    for place in usual_places() {
                        match Elf::open(&place).map_err(Error::from).and_then(|elf| self.with_functions(elf)) {
                            Ok(libc) if self.known.insert(libc.elf.id()) => found.push(libc),
                            Ok(_) => {}
                            Err(error) => passed.push((place.display().to_string(), Chain(&error).to_string())),
                        }
                    }
                }
                if found.is_empty() {
                    return Err(Error::NoLibc(passed));
                }
                Ok((found, passed))
            }
        }
    }

    /// The libraries that are there now and were not before, and what was passed over.
    ///
    /// # Errors
    /// When the processes cannot be listed.
    pub fn more(&mut self) -> Result<(Vec<Libc>, Passed), Error> {
        let pids = match self.scope {
            Scope::All => processes()?,
            Scope::Process(pid) => vec![pid],
            Scope::File(_) => Vec::new(),
        };
        let (mut found, mut passed) = (Vec::new(), Passed::new());
        let mut seen = HashMap::with_capacity(pids.len());
        for pid in pids {
            // Threads of the kernel have no executable, and a process that has ended has none any more.
            let Ok(exe) = fs::metadata(format!("/proc/{pid}/exe")) else { continue };
            let exe = FileId::of(&exe);
            let before = self.seen.get(&pid).filter(|before| before.exe == exe);
            let mut now = before.copied().unwrap_or(Seen { exe, times: 0, found: false });
            if !now.found && now.times < LOOKS {
                now.times += 1;
                match MappedFile::of(pid, is_libc) {
                    Ok(files) => {
                        now.found = !files.is_empty();
                        self.look_at(&files, &mut found, &mut passed);
                    }
                    Err(error) => passed.push((format!("process {pid}"), Chain(&error).to_string())),
                }
            }
            seen.insert(pid, now);
        }
        self.seen = seen;
        Ok((found, passed))
    }

    /// Opens those of a process's libraries that are not known yet.
    fn look_at(&mut self, files: &[MappedFile], found: &mut Vec<Libc>, passed: &mut Passed) {
        for file in files.iter().take(MOST) {
            if file.id().is_some_and(|id| self.known.contains(&id)) {
                continue;
            }
            match file.open() {
                Ok(elf) => {
                    self.known.insert(elf.id());
                    match self.with_functions(elf) {
                        Ok(libc) => found.push(libc),
                        Err(error) => passed.push((file.to_string(), Chain(&error).to_string())),
                    }
                }
                // It is looked for again where another process has it mapped.
                Err(error) => passed.push((file.to_string(), Chain(&error).to_string())),
            }
        }
    }

    /// A process's own executable, which holds the functions where it was linked statically.
    fn executable(&self, pid: u32) -> Result<Libc, Error> {
        let link = format!("/proc/{pid}/exe");
        let path = fs::read_link(&link).map_err(|error| Error::Io(format!("cannot read {link}"), error))?;
        let elf = Elf::open(&link)?.named(format!("its executable {}", path.display()));
        self.with_functions(elf)
    }

    fn with_functions(&self, elf: Elf) -> Result<Libc, Error> {
        let functions = elf.functions(&self.names)?;
        if functions.is_empty() {
            return Err(Error::Request(format!("{} has none of {}", elf.name(), self.names.join(", "))));
        }
        Ok(Libc { elf, functions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_libraries_are_known_by_their_names() {
        for name in [
            "libc.so.6",
            "libc-2.31.so",
            "libc-2.17.so",
            "ld-musl-x86_64.so.1",
            "libc.musl-aarch64.so.1",
            "libc.so",
            "libuClibc-1.0.44.so",
        ] {
            assert!(is_libc(name.as_bytes()), "{name}");
        }
        for name in [
            "libc++.so.1",
            "libcap.so.2",
            "libc-client.so.2007e",
            "libc-client.so",
            "libc.so.6x",
            "ld-linux-x86-64.so.2",
            "libc-",
            "",
        ] {
            assert!(!is_libc(name.as_bytes()), "{name}");
        }
    }

    /// This process is static: it has the functions itself, or the test's binary does without them.
    #[test]
    fn a_process_without_a_c_library_is_probed_in_its_executable_or_told_what_is_missing() {
        let pid = std::process::id();
        let (found, _) = Libcs::new(Scope::Process(pid), &["malloc"]).first().unwrap();
        assert!(found.len() == 1 && found[0].functions[0].name == "malloc", "{found:?}");
        let error = Libcs::new(Scope::Process(pid), &["no_such"]).first().map(drop).unwrap_err().to_string();
        assert!(error.contains("uses no C library") && error.contains("has none of no_such"), "{error}");
    }

    #[test]
    fn where_nothing_is_found_all_that_was_searched_is_told() {
        let error = Libcs::new(Scope::All, &["no_such_function"]).first().map(drop).unwrap_err().to_string();
        for place in ["processes that run", "/lib64/libc.so.6", "/lib/ld-musl-"] {
            assert!(error.contains(place), "no {place} in {error}");
        }
    }

    /// A program that is made to map a hundred libraries of such names has no more than [`MOST`] of them looked at.
    #[test]
    fn of_a_process_that_maps_many_c_libraries_only_some_are_looked_at() {
        use std::time::{Duration, Instant};

        let small = [format!("/lib/{ARCH}-linux-gnu/libdl.so.2"), "/lib64/libdl.so.2".to_owned()];
        let Some(small) = small.iter().find(|path| fs::metadata(path).is_ok()) else {
            eprintln!("skipped: this machine has no libdl.so.2, of which there would be many");
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let copies: Vec<String> = (0..MOST + 36)
            .map(|n| {
                let path = directory.path().join(format!("libc-2.{n}.so"));
                fs::copy(small, &path).unwrap();
                path.display().to_string()
            })
            .collect();
        let mut child =
            std::process::Command::new("sleep").arg("60").env("LD_PRELOAD", copies.join(":")).spawn().unwrap();
        let pid = child.id();
        let mapped = || MappedFile::of(pid, is_libc).map_or(0, |files| files.len());
        let began = Instant::now();
        while mapped() <= copies.len() && began.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let count = mapped();
        let more = Libcs::new(Scope::Process(pid), &["no_such_function"]).more();
        child.kill().and_then(|()| child.wait()).unwrap();
        assert!(count > MOST, "{count} libraries are mapped");
        let (found, passed) = more.unwrap();
        assert_eq!((found.len(), passed.len()), (0, MOST), "of {count}");
    }

    #[test]
    fn a_library_is_found_once() {
        let mut libcs = Libcs::new(Scope::All, &["malloc"]);
        let Ok((found, _)) = libcs.first() else {
            eprintln!("skipped: this machine has no C library");
            return;
        };
        assert!(found.iter().all(|libc| !libc.functions.is_empty()));
        let (again, _) = libcs.more().unwrap();
        let ids: HashSet<_> = found.iter().map(|libc| libc.elf.id()).collect();
        assert!(again.iter().all(|libc| !ids.contains(&libc.elf.id())), "{again:?}");
    }
}
