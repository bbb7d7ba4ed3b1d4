//! What a program needs before it can run: nothing, or a dynamic loader with libraries.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{LittleEndian, elf};

/// What a file is to the kernel that shall run it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Program {
    /// An ELF program that runs by itself.
    Static,
    /// An ELF program that this dynamic loader starts.
    Dynamic {
        /// The loader's path.
        loader: String,
    },
    /// A script.
    Script {
        /// The program that reads it, with its argument.
        interpreter: String,
    },
}

/// Looks at a program's first bytes, headers and interpreter.
///
/// # Errors
/// What it is instead of a program for x86-64.
fn inspect(bytes: &[u8]) -> Result<Program, String> {
    if let Some(script) = bytes.strip_prefix(b"#!") {
        let line = script.split(|&byte| byte == b'\n').next().unwrap_or_default();
        return Ok(Program::Script { interpreter: String::from_utf8_lossy(line).trim().to_owned() });
    }
    if !bytes.starts_with(b"\x7fELF") {
        return Err("is neither an ELF program nor a script".to_owned());
    }
    let foreign = |what: String| format!("is {what}, not an ELF program for x86-64");
    let file = ElfFile64::<LittleEndian>::parse(bytes).map_err(|error| foreign(format!("unreadable ({error})")))?;
    let header = file.elf_header();
    let (machine, kind) = (header.e_machine(LittleEndian), header.e_type(LittleEndian));
    if machine != elf::EM_X86_64 {
        return Err(foreign(format!("for machine {machine}")));
    }
    if kind != elf::ET_EXEC && kind != elf::ET_DYN {
        return Err(foreign(format!("an ELF file of type {kind}")));
    }
    for segment in file.elf_program_headers() {
        match segment.interpreter(LittleEndian, bytes) {
            Ok(None) => {}
            Ok(Some(path)) => return Ok(Program::Dynamic { loader: String::from_utf8_lossy(path).into_owned() }),
            Err(error) => return Err(foreign(format!("damaged ({error})"))),
        }
    }
    Ok(Program::Static)
}

/// What a program loads before it begins, by its paths on this machine, which are those where it looks in a guest too: the
/// dynamic loader, which is asked for them, and the libraries. Nothing for a static program.
///
/// # Errors
/// A script, what is no program, and libraries that are missing, with the remedy.
pub fn needed(path: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error| format!("read {}: {error}", path.display());
    let contents = fs::read(path).map_err(failed)?;
    match inspect(&contents).map_err(|error| format!("{} {error}", path.display()))? {
        Program::Static => Ok(Vec::new()),
        Program::Dynamic { loader } => {
            let absolute = fs::canonicalize(path).map_err(failed)?;
            listed(&absolute, &loader).map_err(|reason| {
                format!(
                    "{} is linked dynamically, and {reason}. Link it statically: `-static` for a C compiler, `-C \
                     target-feature=+crt-static` for rustc, CGO_ENABLED=0 for go",
                    path.display()
                )
            })
        }
        Program::Script { interpreter } => Err(format!(
            "{} is a script for {interpreter}, which a guest does not have: run the interpreter, and bring the script by --with",
            path.display()
        )),
    }
}

/// Asks a dynamic loader for what it would load here.
fn listed(program: &Path, loader: &str) -> Result<Vec<PathBuf>, String> {
    let output = Command::new(loader).arg("--list").arg(program).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("its loader {loader} cannot be run: {error}"))?;
    let mut found = libraries(&String::from_utf8_lossy(&output.stdout))?;
    if !output.status.success() {
        return Err(format!("its loader {loader} says: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    found.push(loader.into());
    found.sort();
    found.dedup();
    Ok(found)
}

/// The files in what a dynamic loader lists: `libc.so.6 => /lib/libc.so.6 (0x..)`, and the loader itself without an arrow.
///
/// # Errors
/// The libraries that it did not find.
fn libraries(listed: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for line in listed.lines().map(str::trim) {
        let (name, path) = line.split_once(" => ").unwrap_or((line, line));
        // An address stands behind each path; a path may hold spaces.
        let path = path.rsplit_once(" (0x").map_or(path, |(path, _)| path);
        if path == "not found" {
            missing.push(name);
        } else if path.starts_with('/') {
            found.push(path.into());
        }
    }
    if missing.is_empty() { Ok(found) } else { Err(format!("its libraries {} are not found", missing.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_static_test_is_known_as_such() {
        let here = fs::read("/proc/self/exe").expect("this program");
        assert_eq!(inspect(&here), Ok(Program::Static));
        // Bytes from outside never panic, wherever they end.
        for end in 0..here.len().min(2048) {
            let _ = inspect(&here[..end]);
        }
    }

    #[test]
    fn a_dynamic_program_names_its_loader() {
        // A header, one program header of type PT_INTERP, and the path.
        let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        for half in [3_u16, 62] {
            bytes.extend(half.to_le_bytes());
        }
        bytes.extend(1_u32.to_le_bytes());
        for word in [0_u64, 64, 0] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(0_u32.to_le_bytes());
        for half in [64_u16, 56, 1, 64, 0, 0] {
            bytes.extend(half.to_le_bytes());
        }
        let path = b"/lib64/ld.so\0";
        for word in [3_u32, 4] {
            bytes.extend(word.to_le_bytes());
        }
        for word in [120_u64, 0, 0, 13, 13, 1] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(path);
        assert_eq!(inspect(&bytes), Ok(Program::Dynamic { loader: "/lib64/ld.so".into() }));
        assert!(inspect(&bytes[..100]).expect_err("cut").contains("not an ELF program"));
        bytes[18] = 183;
        assert!(inspect(&bytes).expect_err("for arm64").contains("for machine 183"));
    }

    #[test]
    fn a_loader_is_asked_for_the_libraries() {
        // The shell of a machine with packages is dynamic.
        let needed = needed(Path::new("/bin/sh")).expect("its libraries");
        assert!(needed.iter().all(|path| path.is_absolute() && path.exists()), "{needed:?}");
        if !needed.is_empty() {
            let libc = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains("libc."));
            assert!(needed.iter().any(libc), "{needed:?}");
        }
        let said = listed(Path::new("/bin/sh"), "/nonexistent/ld.so").expect_err("no loader");
        assert!(said.contains("/nonexistent/ld.so cannot be run"), "{said}");
    }

    #[test]
    fn what_is_no_program_is_told() {
        assert_eq!(inspect(b"#! /bin/sh -e\nexit 1\n"), Ok(Program::Script { interpreter: "/bin/sh -e".into() }));
        assert!(inspect(b"hello").is_err());
        assert!(inspect(b"").is_err());
    }

    #[test]
    fn a_loaders_list_has_paths_and_gaps() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffc9a5f2000)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f1)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f2)\n\tlibm.so.6 => /a b/libm.so.6 (0x0000)\n";
        assert_eq!(
            libraries(listed),
            Ok(["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2", "/a b/libm.so.6"]
                .map(PathBuf::from)
                .to_vec())
        );
        let missing = libraries("\tlibx.so.1 => not found\n").expect_err("missing");
        assert!(missing.contains("libx.so.1"), "{missing}");
        assert_eq!(libraries("\tstatically linked\n"), Ok(vec![]));
    }
}
