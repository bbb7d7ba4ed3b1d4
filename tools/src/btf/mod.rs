//! `bpfkit btf`: types, of this kernel and of any other: shown as C, looked up, compared; and made for kernels that have none.

mod definition;
mod diff;
mod dump;
mod field;
mod func;
mod json;
mod make;
mod signature;
mod source;
mod stats;

use std::path::PathBuf;

use clap::Subcommand;

use crate::Error;
use crate::cli::Question;
use crate::output::Output;

/// Show, look up, compare and make kernel types (BTF)
#[derive(Clone, Debug, clap::Args)]
#[command(disable_help_subcommand = true, subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with types.
#[derive(Clone, Debug, Subcommand)]
#[command(defer = true)]
pub enum Action {
    #[allow(missing_docs)] // clap would show it in place of the action's own words
    Dump(dump::Args),
    #[allow(missing_docs)]
    Type(definition::Args),
    #[allow(missing_docs)]
    Field(field::Args),
    #[allow(missing_docs)]
    Func(func::Args),
    #[allow(missing_docs)]
    Diff(diff::Args),
    #[allow(missing_docs)]
    Stats(stats::Args),
    /// Make BTF out of the DWARF of a vmlinux, or of any other linked ELF file
    FromDwarf {
        /// The file with debugging information
        vmlinux: PathBuf,
        /// Where to write the BTF
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// Keep only what the tools of bpfkit need
        #[arg(long)]
        only_tools: bool,
    },
    /// Cut types down to what is needed: kilobytes are left of megabytes
    Min {
        /// A file with BTF, or with DWARF
        input: PathBuf,
        /// Where to write the BTF
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// A type or function to keep, or the path of a member (`sock.__sk_common.skc_dport`); without any, what the tools need
        #[arg(value_name = "ROOT")]
        roots: Vec<String>,
    },
    /// Put what the tools need of several kernels into one file, of which --btf takes the kernel that runs
    ///
    /// A kernel's release is the name of its file without `vmlinux-` in front and `.btf` or `.debug` at the end; of a file that is
    /// called just `vmlinux` it is the name of its directory; else it is given: RELEASE=FILE.
    Archive {
        /// Files with BTF or DWARF, or directories with such files and nothing else
        #[arg(value_name = "[RELEASE=]FILE", required = true)]
        inputs: Vec<PathBuf>,
        /// Where to write the archive
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}

impl Question for Args {
    fn answer(&self, output: &mut Output) -> Result<(), Error> {
        match &self.action {
            Action::Dump(args) => args.answer(output),
            Action::Type(args) => args.answer(output),
            Action::Field(args) => args.answer(output),
            Action::Func(args) => args.answer(output),
            Action::Diff(args) => args.answer(output),
            Action::Stats(args) => args.answer(output),
            Action::FromDwarf { vmlinux, output, only_tools } => make::from_dwarf(vmlinux, output, *only_tools),
            Action::Min { input, output, roots } => make::min(input, output, roots),
            Action::Archive { inputs, output } => make::archive(inputs, output),
        }
    }
}
