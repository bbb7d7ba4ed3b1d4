//! The command line: which tool, and what its end means to the shell.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Chain;
use crate::tool::{self, Tool};
use crate::{Error, icmpecho, report, skbrecv, tcpconnect, writehist};

/// Trace any Linux from 4.18 up: no compiler, no headers, one static binary
#[derive(Debug, Parser)]
#[command(name = "bpfkit", version, about, arg_required_else_help = true)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The tools.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub enum Command {
    #[allow(missing_docs)] // clap would show it in place of the tool's own words
    Icmpecho(icmpecho::Args),
    #[allow(missing_docs)]
    Skbrecv(skbrecv::Args),
    #[allow(missing_docs)]
    Tcpconnect(tcpconnect::Args),
    #[allow(missing_docs)]
    Writehist(writehist::Args),
}

impl Command {
    /// The tool with its arguments.
    pub fn tool(&self) -> &dyn Tool {
        match self {
            Self::Icmpecho(args) => args,
            Self::Skbrecv(args) => args,
            Self::Tcpconnect(args) => args,
            Self::Writehist(args) => args,
        }
    }
}

/// Runs the command. Success is 0, failure 1, and wrong usage 2; a reader that left early is success.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match tool::run(cli.command.tool()) {
        Ok(()) | Err(Error::Closed) => ExitCode::SUCCESS,
        Err(error) => {
            report::say(Chain(&error));
            ExitCode::FAILURE
        }
    }
}
