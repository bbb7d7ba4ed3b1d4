//! What `--run` and `--with` put into a guest.

use std::env;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::guest::mounts::MOUNTS;
use crate::guest::program::{DIRECTORY, FILE, Program};

use super::elf;
use super::tree::Tree;

/// A file or directory of `--with`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// What it is here.
    pub path: PathBuf,
    /// Where it goes.
    pub place: String,
}

impl Extra {
    /// Parses `FILE[:PLACE]`. A place that does not begin with a slash is below the program's directory.
    ///
    /// # Errors
    /// What is not there, and places that would be hidden or outside.
    pub fn parse(text: &str) -> Result<Extra, String> {
        let (path, place) = match text.rsplit_once(':') {
            // A file may have a colon in its name.
            Some((path, place)) if !Path::new(text).exists() => (path, Some(place)),
            _ => (text, None),
        };
        let found = fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))?;
        let place = match place {
            Some(place) => place.to_owned(),
            // `.` has no name of its own.
            None => file_name(if Path::new(path).file_name().is_some() { Path::new(path) } else { &found })?,
        };
        let place = if place.starts_with('/') { place } else { format!("{DIRECTORY}/{place}") };
        if Path::new(&place).components().any(|part| part == Component::ParentDir) || place.ends_with('/') {
            return Err(format!("{place}: a place is a path without `..` and without a slash at its end"));
        }
        if let Some(mount) = MOUNTS.iter().find(|mount| Path::new(&place).starts_with(mount.at)) {
            return Err(format!("{place} would be hidden by the {} that is mounted at {}", mount.kind, mount.at));
        }
        Ok(Extra { path: found, place })
    }
}

/// A program with all that it needs.
pub struct Bundle {
    /// What the guest is told.
    pub program: Program,
    tree: Tree,
}

impl Bundle {
    /// The program that the words of a command line name, with its libraries, and the extras.
    ///
    /// # Errors
    /// A program that cannot be found or that would not run in the guest, and what cannot be read.
    pub fn new(words: &[String], extras: &[Extra]) -> Result<Bundle, String> {
        let (name, arguments) = words.split_first().ok_or("--run has no program")?;
        let path = find(name)?;
        let libraries = elf::needed(&path)?;
        let contents = fs::read(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
        let short = file_name(Path::new(name))?;
        let mut tree = Tree::default();
        tree.files(&libraries)?;
        let place = format!("/bin/{short}");
        tree.file(&place, 0o755, contents);
        for extra in extras {
            tree.copy(&extra.path, &extra.place)?;
        }
        let program = Program { case: format!("run::{short}"), path: place, arguments: arguments.to_vec() };
        let told = serde_json::to_vec(&program).map_err(|error| format!("the command line as JSON: {error}"))?;
        tree.file(FILE, 0o644, told);
        Ok(Bundle { program, tree })
    }

    /// The archive of its files.
    pub fn archive(&self) -> Vec<u8> {
        self.tree.archive()
    }
}

/// Finds a program as a shell does.
pub(super) fn find(name: &str) -> Result<PathBuf, String> {
    if name.contains('/') {
        return Ok(name.into());
    }
    let paths = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&paths).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| format!("there is no program {name} in PATH (one in this directory is ./{name})"))
}

fn file_name(path: &Path) -> Result<String, String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| format!("{} has no file name", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn an_extra_goes_beside_the_program_or_where_it_is_told() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("in:put");
        fs::write(&file, "").expect("write");
        let path = file.display();
        let place = |text: String| Extra::parse(&text).map(|extra| extra.place);
        assert_eq!(place(format!("{path}")), Ok("/root/in:put".into()));
        assert_eq!(place(format!("{path}:/data/x")), Ok("/data/x".into()));
        assert_eq!(place(format!("{path}:data/x")), Ok("/root/data/x".into()));
        assert_eq!(
            Extra::parse(&format!("{path}:x")).map(|extra| extra.path),
            fs::canonicalize(&file).map_err(|_| String::new())
        );
        for bad in ["/tmp/x", "/sys/fs/bpf/x", "/dev/x", "../x", "/x/"] {
            assert!(place(format!("{path}:{bad}")).is_err(), "{bad}");
        }
        assert!(place(format!("{path}:/tmp/x")).expect_err("hidden").contains("tmpfs that is mounted at /tmp"));
        assert!(place("/nonexistent".into()).expect_err("missing").contains("No such file"));
    }

    #[test]
    fn a_static_program_is_taken_with_its_arguments() {
        // This test is linked statically, as every program of the workspace is.
        let bundle = Bundle::new(&words("/proc/self/exe --list a"), &[]).expect("a bundle");
        assert_eq!(bundle.program.arguments, ["--list", "a"]);
        assert_eq!((bundle.program.case.as_str(), bundle.program.path.as_str()), ("run::exe", "/bin/exe"));
        let archive = bundle.archive();
        assert!(archive.windows(FILE.len()).any(|bytes| bytes == [&FILE.as_bytes()[1..], b"\0"].concat()));
    }

    #[test]
    fn a_dynamic_program_brings_its_libraries() {
        let Some(library) = elf::needed(Path::new("/bin/sh")).expect("its libraries").pop() else {
            eprintln!("skipped: the shell of this machine is not dynamic");
            return;
        };
        let archive = Bundle::new(&words("sh -c true"), &[]).expect("a bundle").archive();
        let name = format!("{}\0", library.display()).split_off(1);
        assert!(archive.windows(name.len()).any(|bytes| bytes == name.as_bytes()), "no {name}");
    }

    #[test]
    fn what_would_not_run_is_refused_with_the_remedy() {
        let directory = tempfile::tempdir().expect("directory");
        let script = directory.path().join("test.py");
        fs::write(&script, "#!/usr/bin/python3\n").expect("write");
        let refused = |name: &str| Bundle::new(&words(name), &[]).map(|_| ()).expect_err("refused");
        let said = refused(&script.display().to_string());
        assert!(said.contains("script for /usr/bin/python3") && said.contains("--with"), "{said}");
        assert!(refused("/dev/null").contains("neither an ELF program nor a script"));
        assert!(refused("no-such-program").contains("in PATH"));
        assert!(refused("/nonexistent").contains("No such file"));
    }
}
