//! Building what goes into the guests.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::{bundle, elf};

/// The workspace's root, known since this crate was compiled in it.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The binaries of a guest.
pub struct Binaries {
    /// Init and the cases.
    pub guest: PathBuf,
    /// The tool, as it is shipped.
    pub bpfkit: PathBuf,
    /// What looks up hosts for the cases to see.
    pub lookup: Lookup,
    /// What loads ELF objects by libbpf, where this machine has it.
    pub bpftool: Option<PathBuf>,
    /// The libraries of those that are dynamic.
    pub libraries: Vec<PathBuf>,
}

/// A program that looks up hosts, in both ways to link it.
pub struct Lookup {
    /// With a C library of its own.
    pub fixed: PathBuf,
    /// With the C library of this machine.
    pub dynamic: PathBuf,
}

/// Builds all binaries: the tool in release, because the one that is shipped is the one to test, unless it is `given`; the
/// cases and what they trace as quickly as they compile.
///
/// # Errors
/// Cargo failed; its own messages have gone to the terminal.
pub fn build(given: Option<&Path>) -> Result<Binaries, String> {
    let lookup = lookup()?;
    // It is a program of the administrator, and so may be outside of the PATH of others.
    let bpftool = ["bpftool", "/usr/sbin/bpftool"].into_iter().filter_map(|name| bundle::find(name).ok());
    let bpftool = bpftool.into_iter().find(|path| path.is_file());
    let mut libraries = libraries(&lookup.dynamic)?;
    if let Some(bpftool) = &bpftool {
        libraries.extend(elf::needed(bpftool)?);
        libraries.sort();
        libraries.dedup();
    }
    Ok(Binaries {
        libraries,
        bpftool,
        lookup,
        bpfkit: match given {
            Some(path) => path.to_owned(),
            None => binary("bpfkit", "bpfkit", &["--release"])?,
        },
        guest: guest()?,
    })
}

/// Builds the guest alone.
///
/// # Errors
/// As [`build`].
pub fn guest() -> Result<PathBuf, String> {
    binary("bpfkit-vm-tests", "guest", &[])
}

/// Builds the program that looks up hosts.
///
/// # Errors
/// As [`build`].
pub fn lookup() -> Result<Lookup, String> {
    // Other flags would have cargo build everything anew, in the directory that it has for the usual ones.
    let directory = workspace().join("target/dynamic");
    let directory = directory.to_str().ok_or("the workspace's path is no text")?;
    Ok(Lookup {
        fixed: binary("bpfkit-lookup", "lookup", &[])?,
        dynamic: cargo("bpfkit-lookup", "lookup", &["--target-dir", directory], Some(DYNAMIC))?,
    })
}

/// Takes the place of the flags by which everything else is static.
const DYNAMIC: &str = "-C target-feature=-crt-static";

/// The loader and the libraries of a dynamic program, with what libraries of before glibc 2.34 load when they look up a host.
///
/// # Errors
/// As [`elf::needed`].
fn libraries(program: &Path) -> Result<Vec<PathBuf>, String> {
    let mut paths = elf::needed(program)?;
    let beside = paths.iter().find(|path| path.file_name().is_some_and(|name| name == "libc.so.6")).cloned();
    let more = ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"];
    paths.extend(
        beside.into_iter().flat_map(|libc| more.map(|name| libc.with_file_name(name))).filter(|path| path.exists()),
    );
    Ok(paths)
}

#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds a binary, with further options.
///
/// # Errors
/// As [`build`].
pub fn binary(package: &str, name: &str, options: &[&str]) -> Result<PathBuf, String> {
    cargo(package, name, options, None)
}

/// Builds a binary, with these flags for the compiler instead of the usual ones.
fn cargo(package: &str, name: &str, options: &[&str], flags: Option<&str>) -> Result<PathBuf, String> {
    // Cargo sets CARGO for what it runs, so that the same toolchain is used.
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--message-format=json-render-diagnostics", "--package", package, "--bin", name])
        .args(options)
        .envs(flags.map(|flags| ("RUSTFLAGS", flags)))
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("run cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo build of {package} failed ({})", output.status));
    }
    executable(&String::from_utf8_lossy(&output.stdout), name)
        .ok_or_else(|| format!("cargo built {package} but named no binary {name}"))
}

/// The binary called `name` in cargo's messages.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok()).find_map(|message| {
        let target = message.target?;
        if target.name == name { message.executable } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_found_among_cargos_messages() {
        let messages = r#"
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"libc"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"guest"},"executable":"/t/debug/guest"}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(executable(messages, "guest"), Some(PathBuf::from("/t/debug/guest")));
        assert_eq!(executable(messages, "vm"), None);
    }
}
