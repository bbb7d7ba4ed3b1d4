//! Building what goes into the guests.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

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
}

/// Builds both binaries: the tool in release, because the one that is shipped is the one to test, unless it is `given`; the
/// cases as quickly as they compile.
///
/// # Errors
/// Cargo failed; its own messages have gone to the terminal.
pub fn build(given: Option<&Path>) -> Result<Binaries, String> {
    Ok(Binaries {
        bpfkit: match given {
            Some(path) => path.to_owned(),
            None => binary("bpfkit", "bpfkit", &["--release"])?,
        },
        guest: binary("bpfkit-vm-tests", "guest", &[])?,
    })
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

fn binary(package: &str, name: &str, options: &[&str]) -> Result<PathBuf, String> {
    // Cargo sets CARGO for what it runs, so that the same toolchain is used.
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--message-format=json-render-diagnostics", "--package", package, "--bin", name])
        .args(options)
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
