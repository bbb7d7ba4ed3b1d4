//! `bpfkit dump` shows the instructions that a tool runs, why each is there, and what fills its numbers on which kernel. It needs no
//! root, and no kernel but the types of the one that is asked about.
//!
//! ```text
//! bpfkit dump tcpconnect -P 80                                    for the running kernel
//! bpfkit dump tcpconnect --btf vmlinux-4.18.btf --kernel 4.18     for another one
//! bpfkit dump tcpconnect --format json --program v4_connect
//! ```

mod json;
mod listing;
mod text;

use bpfkit_loader::{Linked, MapSpec, Target};

pub use self::listing::{Function, Listing, MapUse, Row};
use crate::Error;
use crate::cli::{Question, ToolCommand};
use crate::output::Output;
use crate::tool::Tool;

/// Show the instructions of a tool's programs, for this kernel or another one
#[derive(Clone, Debug, clap::Args)]
#[command(disable_help_subcommand = true, subcommand_required = true, arg_required_else_help = true)]
#[command(subcommand_value_name = "TOOL", subcommand_help_heading = "Tools")]
pub struct Args {
    /// How to show it
    #[command(flatten)]
    pub view: View,
    /// The tool with its own flags
    #[command(subcommand)]
    pub tool: ToolCommand,
}

/// What is shown of programs, and how. The options may stand before or after the name of the tool.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "What to show")]
pub struct View {
    /// The form of the output
    #[arg(long, global = true, value_enum, default_value_t)]
    pub format: Format,
    /// Show this program only, of those that the tool has
    #[arg(long, global = true, value_name = "NAME")]
    pub program: Vec<String>,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A listing for people
    #[default]
    Text,
    /// An object a line, one for each program
    Json,
}

/// What is looked at: the programs of a tool, made for a kernel.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The kernel.
    pub target: &'a Target,
    /// The programs.
    pub programs: Vec<Linked>,
    /// The maps that they use.
    pub maps: Vec<MapSpec>,
}

impl<'a> Subject<'a> {
    /// The programs that the tool would attach to this kernel.
    ///
    /// # Errors
    /// As [`Tool::programs`]; what the target does not know, such as a member of a structure.
    pub fn of(tool: &dyn Tool, target: &'a Target) -> Result<Self, Error> {
        let programs = tool.programs(target)?;
        let programs = programs.iter().map(|program| program.link(target)).collect::<Result<_, _>>()?;
        let maps = tool.maps(target)?;
        Ok(Self { target, programs, maps })
    }

    /// Leaves those that are named, or all if none is.
    ///
    /// # Errors
    /// A name that none has.
    fn only(&mut self, names: &[String]) -> Result<(), Error> {
        let has = |name: &String| self.programs.iter().any(|program| program.spec().name == *name);
        if let Some(name) = names.iter().find(|name| !has(name)) {
            let known: Vec<&str> = self.programs.iter().map(|program| program.spec().name.as_str()).collect();
            return Err(Error::Request(format!("there is no program `{name}`; there are {}", known.join(", "))));
        }
        self.programs.retain(|program| names.is_empty() || names.contains(&program.spec().name));
        Ok(())
    }

    /// The programs, row by row.
    fn listings(&self) -> Vec<Listing> {
        self.programs.iter().map(|program| Listing::of(program, &self.maps)).collect()
    }
}

impl View {
    /// Prints the programs.
    ///
    /// # Errors
    /// What cannot be shown, or not be printed.
    pub fn show(&self, subject: &Subject<'_>, output: &mut Output) -> Result<(), Error> {
        for listing in subject.listings() {
            match self.format {
                Format::Text => text::print(&listing, output)?,
                Format::Json => json::print(&listing, output)?,
            }
        }
        output.flush()
    }
}

impl Question for Args {
    fn answer(&self, output: &mut Output) -> Result<(), Error> {
        let tool = self.tool.tool();
        let target = tool.options().target()?;
        let mut subject = Subject::of(tool, &target)?;
        subject.only(&self.view.program)?;
        let json = tool.options().json.then_some(Format::Json);
        View { format: json.unwrap_or(self.view.format), ..self.view.clone() }.show(&subject, output)
    }
}
