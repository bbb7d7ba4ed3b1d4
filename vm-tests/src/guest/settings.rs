//! What a guest was told: by the kernel's command line in a VM, by its surroundings elsewhere.

use std::env;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The settings of a run, handed on to the process of each case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The tool's binary.
    pub bpfkit: PathBuf,
    /// The program that looks up hosts: the dynamic one, and the static one.
    pub lookup: [PathBuf; 2],
    /// BTF for a kernel that has none.
    pub btf: Option<PathBuf>,
    /// Parts of the names of the cases to run; none means all.
    pub filter: Vec<String>,
    /// Which boot this is; nothing for the usual one.
    pub boot: String,
    /// Whether this is a VM of ours, where nobody else loads programs and nothing need be preserved.
    pub vm: bool,
}

impl Settings {
    /// Those in `/proc/cmdline`.
    pub fn of_vm(command_line: &str) -> Settings {
        let lookup = ["/bin/lookup", "/bin/lookup-static"].map(PathBuf::from);
        let mut settings = Settings { bpfkit: "/bin/bpfkit".into(), lookup, vm: true, ..Settings::default() };
        for word in command_line.split_whitespace() {
            match word.split_once('=') {
                Some(("bpfkit.btf", path)) => settings.btf = Some(path.into()),
                Some(("bpfkit.boot", name)) => name.clone_into(&mut settings.boot),
                Some(("bpfkit.filter", names)) => settings.filter = names.split(',').map(str::to_owned).collect(),
                _ => {}
            }
        }
        settings
    }

    /// Those of this machine: the tool and the programs that look up hosts are expected beside this binary, or at `BPFKIT`,
    /// `LOOKUP` and `LOOKUP_STATIC`.
    pub fn native() -> Settings {
        let beside = env::current_exe().unwrap_or_default();
        let place = |variable: &str, name: &str| {
            env::var_os(variable).map_or_else(|| beside.with_file_name(name), PathBuf::from)
        };
        let lookup = [place("LOOKUP", "lookup-dynamic"), place("LOOKUP_STATIC", "lookup")];
        Settings { bpfkit: place("BPFKIT", "bpfkit"), lookup, ..Settings::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_command_line_is_searched_for_our_words() {
        let settings = Settings::of_vm(
            "console=ttyS0 quiet bpfkit.btf=/vmlinux.btf bpfkit.filter=asm::,loader::map x=bpfkit.y bpfkit.boot=one\n",
        );
        assert_eq!(settings.boot, "one");
        assert_eq!(settings.btf, Some("/vmlinux.btf".into()));
        assert_eq!(settings.filter, ["asm::", "loader::map"]);
        assert!(settings.vm);
        assert_eq!(Settings::of_vm("console=ttyS0").filter, Vec::<String>::new());
    }
}
