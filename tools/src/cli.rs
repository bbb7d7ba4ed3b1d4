//! The command line: which tool or question, and what its end means to the shell.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Chain;
use crate::output::Output;
use crate::tool::{self, Tool};
use crate::{
    Error, bpf2bpf, btf, execsnoop, features, gethostlatency, icmpecho, report, skbrecv, tcpconnect, usdt, writehist,
};

/// Trace any Linux from 4.18 up: no compiler, no headers, one static binary
#[derive(Debug, Parser)]
#[command(name = "bpfkit", version, about, arg_required_else_help = true)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The tools, which trace, and the questions, which are answered at once.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub enum Command {
    #[allow(missing_docs)] // clap would show it in place of the tool's own words
    Bpf2bpf(bpf2bpf::Args),
    #[allow(missing_docs)]
    Btf(btf::Args),
    #[allow(missing_docs)]
    Features(features::Args),
    #[allow(missing_docs)]
    Gethostlatency(gethostlatency::Args),
    #[allow(missing_docs)]
    Icmpecho(icmpecho::Args),
    #[allow(missing_docs)]
    Skbrecv(skbrecv::Args),
    #[allow(missing_docs)]
    Tcpconnect(tcpconnect::Args),
    #[allow(missing_docs)]
    Usdt(usdt::Args),
    #[allow(missing_docs)]
    Writehist(writehist::Args),
    #[allow(missing_docs)]
    Execsnoop(execsnoop::Args),
}

/// A command that prints what there is, and traces nothing.
pub trait Question {
    /// Prints the answer.
    ///
    /// # Errors
    /// Whatever keeps it from being found or printed.
    fn answer(&self, output: &mut Output) -> Result<(), Error>;
}

/// What a command is, with its arguments.
pub enum Kind<'a> {
    /// It traces.
    Tool(&'a dyn Tool),
    /// It answers.
    Question(&'a dyn Question),
}

impl Command {
    /// What it is: the one list that a new command is added to.
    pub fn kind(&self) -> Kind<'_> {
        let tool: &dyn Tool = match self {
            Self::Bpf2bpf(args) => args,
            Self::Btf(args) => return Kind::Question(args),
            Self::Features(args) => return Kind::Question(args),
            Self::Gethostlatency(args) => args,
            Self::Icmpecho(args) => args,
            Self::Skbrecv(args) => args,
            Self::Tcpconnect(args) => args,
            Self::Usdt(args) => return Kind::Question(args),
            Self::Writehist(args) => args,
            Self::Execsnoop(args) => args,
        };
        Kind::Tool(tool)
    }

    /// The tool, if it is one.
    pub fn tool(&self) -> Option<&dyn Tool> {
        match self.kind() {
            Kind::Tool(tool) => Some(tool),
            Kind::Question(_) => None,
        }
    }

    fn run(&self) -> Result<(), Error> {
        match self.kind() {
            Kind::Tool(tool) => tool::run(tool),
            Kind::Question(question) => question.answer(&mut Output::stdout()),
        }
    }
}

/// Runs the command. Success is 0, failure 1, and wrong usage 2; a reader that left early is success.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.run() {
        Ok(()) | Err(Error::Closed) => ExitCode::SUCCESS,
        Err(error) => {
            report::say(Chain(&error));
            ExitCode::FAILURE
        }
    }
}
