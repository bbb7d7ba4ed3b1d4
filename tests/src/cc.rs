//! The C compilers of this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A compiler, and what it is told to compile for another machine than this one.
#[derive(Clone, Debug)]
pub struct Compiler {
    program: PathBuf,
    /// What it compiles for, if not this machine.
    pub target: Option<&'static str>,
}

impl Compiler {
    /// gcc, clang, and clang for BPF, as far as they are installed.
    pub fn all() -> Vec<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let find = |is_it: &dyn Fn(&str) -> bool| {
            let entries =
                std::env::split_paths(&path).filter_map(|directory| directory.read_dir().ok()).flatten().flatten();
            entries.filter(|entry| entry.file_name().to_str().is_some_and(is_it)).map(|entry| entry.path()).max()
        };
        let gcc = find(&|name| name == "gcc");
        let number =
            |name: &str| name.strip_prefix("clang").map(|rest| rest.strip_prefix('-').unwrap_or(rest).to_owned());
        let clang = find(&|name| number(name).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit())));
        let gcc = gcc.map(|program| Self { program, target: None });
        let clang = clang.map(|program| [None, Some("bpf")].map(|target| Self { program: program.clone(), target }));
        gcc.into_iter().chain(clang.into_iter().flatten()).collect()
    }

    /// Runs it on a file, with some arguments in front.
    ///
    /// # Errors
    /// The first lines of what it says, where it does not succeed.
    pub fn run(&self, arguments: &[&str], file: &Path) -> Result<(), String> {
        let mut command = Command::new(&self.program);
        if let Some(target) = self.target {
            command.args(["-target", target]);
        }
        let output = command.args(["-w", "-x", "c"]).args(arguments).arg(file).output();
        let output = output.map_err(|error| format!("{}: {error}", self.program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().take(20).collect::<Vec<_>>().join("\n");
        output.status.success().then_some(()).ok_or_else(|| format!("{}: {first}", self.program.display()))
    }
}
