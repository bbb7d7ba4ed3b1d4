//! The command line: which tool or question, and what its end means to the shell.

use std::ffi::OsString;
use std::fmt::Display;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::dump::diff::Side;
use crate::error::Chain;
use crate::output::{self, Output};
use crate::tool::{self, Tool};
use crate::{
    Error, asm, bpf2bpf, btf, disasm, dump, execsnoop, features, gethostlatency, icmpecho, report, skbrecv, tcpconnect,
    usdt, writehist,
};

/// Trace any Linux from 4.18 up: no compiler, no headers, one static binary
#[derive(Debug, Parser)]
#[command(name = "bpfkit", version, about, arg_required_else_help = true, max_term_width = 80)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The tools, which trace, and the questions, which are answered at once.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true, defer = true)]
#[allow(clippy::large_enum_variant)] // there is one, for as long as the program runs
pub enum Command {
    #[allow(missing_docs)] // clap would show it in place of the command's own words
    #[command(flatten)]
    Tool(ToolCommand),
    #[allow(missing_docs)]
    Asm(asm::Args),
    #[allow(missing_docs)]
    Btf(btf::Args),
    #[allow(missing_docs)]
    Disasm(disasm::Args),
    #[allow(missing_docs)]
    Dump(dump::Args),
    #[allow(missing_docs)]
    Features(features::Args),
    #[allow(missing_docs)]
    Usdt(usdt::Args),
}

/// The tools.
#[derive(Clone, Debug, Subcommand)]
#[command(defer = true)]
pub enum ToolCommand {
    #[allow(missing_docs)]
    Bpf2bpf(bpf2bpf::Args),
    #[allow(missing_docs)]
    Execsnoop(execsnoop::Args),
    #[allow(missing_docs)]
    Gethostlatency(gethostlatency::Args),
    #[allow(missing_docs)]
    Icmpecho(icmpecho::Args),
    #[allow(missing_docs)]
    Skbrecv(skbrecv::Args),
    #[allow(missing_docs)]
    Tcpconnect(tcpconnect::Args),
    #[allow(missing_docs)]
    Writehist(writehist::Args),
}

impl ToolCommand {
    /// The tool with its arguments: the one list that a new tool is added to.
    pub fn tool(&self) -> &dyn Tool {
        match self {
            Self::Bpf2bpf(args) => args,
            Self::Execsnoop(args) => args,
            Self::Gethostlatency(args) => args,
            Self::Icmpecho(args) => args,
            Self::Skbrecv(args) => args,
            Self::Tcpconnect(args) => args,
            Self::Writehist(args) => args,
        }
    }
}

/// A command that prints what there is, and traces nothing.
pub trait Question {
    /// Prints the answer.
    ///
    /// # Errors
    /// Whatever keeps it from being found or printed.
    fn answer(&self, output: &mut Output) -> Result<(), Error>;
}

impl Command {
    /// The tool, if it is one.
    pub fn tool(&self) -> Option<&dyn Tool> {
        match self {
            Self::Tool(command) => Some(command.tool()),
            _ => None,
        }
    }

    /// Does what it says.
    ///
    /// # Errors
    /// Whatever keeps it from doing so.
    pub fn run(&self, output: &mut Output) -> Result<(), Error> {
        let question: &dyn Question = match self {
            Self::Tool(command) => return tool::run(command.tool(), output),
            Self::Asm(args) => args,
            Self::Btf(args) => args,
            Self::Disasm(args) => args,
            Self::Dump(args) => args,
            Self::Features(args) => args,
            Self::Usdt(args) => args,
        };
        question.answer(output)
    }
}

impl Cli {
    /// The command with all commands below it and their flags.
    pub fn whole() -> clap::Command {
        let mut command = Self::command();
        command.build();
        command
    }

    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// What is wrong with it, or the help or version that it asks for.
    pub fn read<T: Into<OsString> + Clone>(line: impl IntoIterator<Item = T>) -> Result<Self, clap::Error> {
        let line: Vec<OsString> = line.into_iter().map(Into::into).collect();
        let mut cli = Self::parsed(&line)?;
        if let Command::Dump(args) = &mut cli.command {
            if args.tool.is_some() && args.which.is_any() {
                let both =
                    "programs on this system are shown by themselves: give a tool, or --id, --name, --pinned or --all";
                return Err(Self::misused(&line, ErrorKind::ArgumentConflict, both));
            }
            args.sides = Side::both(&args.view.diff, &line)?;
        }
        let options = cli.command.tool().map(Tool::options);
        if options.is_some_and(|options| options.kernel.version.is_some() && !options.ebpf) {
            // Only `dump` can do without --ebpf, so that clap's `requires` would ask for too much there.
            let missing = "--kernel prints programs for another kernel, and so needs --ebpf";
            return Err(Self::misused(&line, ErrorKind::MissingRequiredArgument, missing));
        }
        Ok(cli)
    }

    /// What clap makes of a command line. A command's flags are made when the command is asked for; help and errors speak of all.
    pub(crate) fn parsed(line: &[OsString]) -> Result<Self, clap::Error> {
        Self::try_parse_from(line).or_else(|_| {
            let matches = Self::whole().try_get_matches_from(line)?;
            Self::from_arg_matches(&matches)
        })
    }

    /// What is wrong with a command line that clap has nothing against, with the usage of its command.
    pub(crate) fn misused(line: &[OsString], kind: ErrorKind, why: impl Display) -> clap::Error {
        let mut command = Self::whole();
        match line.get(1).and_then(|name| command.find_subcommand_mut(name)) {
            Some(command) => command.error(kind, why),
            None => command.error(kind, why),
        }
    }
}

/// Runs the command. Success is 0, failure 1, and wrong usage 2; a reader that left early is success.
pub fn main() -> ExitCode {
    let run = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli.command.run(&mut Output::stdout()),
        // The help and the version are no failure, unless they cannot be printed.
        Err(said) => match said.print() {
            _ if said.use_stderr() => return ExitCode::from(2),
            printed => printed.map_err(output::failed),
        },
    };
    match run {
        Ok(()) | Err(Error::Closed) => ExitCode::SUCCESS,
        Err(error) => {
            report::say(Chain(&error));
            ExitCode::FAILURE
        }
    }
}
