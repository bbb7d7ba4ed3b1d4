//! `bpfkit dump` shows the instructions that a tool runs, why each is there, and what fills its numbers on which kernel. It needs no
//! root, and no kernel but the types of the one that is asked about. And it shows programs that are on the system, whoever loaded
//! them, as the kernel runs them.
//!
//! ```text
//! bpfkit dump tcpconnect -P 80                                    for the running kernel
//! bpfkit dump tcpconnect --btf vmlinux-4.18.btf --kernel 4.18     for another one
//! bpfkit dump tcpconnect --format json --program v4_connect
//! bpfkit dump tcpconnect --format obj -o tcpconnect.o             for libbpf and bpftool
//! bpfkit dump --id 17 --jited                                     a loaded program and its machine code
//! bpfkit dump --name handle_exec --stats                          how often it runs, and for how long
//! ```

mod c;
mod cfg;
pub mod diff;
mod dot;
pub mod explain;
mod holders;
mod json;
mod layout;
mod listing;
mod loaded;
mod machine;
mod made;
mod page;
mod states;
mod stats;
mod text;
pub mod verifier;
mod x86;

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::PathBuf;

use bpfkit_loader::{Feature, Linked, LoadedProg, MapSpec, Maps, Prog, ProgSpec, Symbols, Target};

use self::explain::Place;
pub use self::holders::Holder;
pub use self::listing::{Function, Listing, MapUse, Row};
pub use self::loaded::{Loaded, Measure, Which};
pub use self::machine::Machine;
use self::made::Made;
pub use self::text::print as print_text;
pub use self::x86::{X86, decode};
use crate::cli::{Question, ToolCommand};
use crate::output::{self, Output};
use crate::tool::Tool;
use crate::{Error, report};

/// Show the instructions of a tool's programs, for this kernel or another one, or of programs on this system
#[derive(Clone, Debug, clap::Args)]
#[command(disable_help_subcommand = true, subcommand_negates_reqs = true, arg_required_else_help = true)]
#[command(subcommand_value_name = "TOOL", subcommand_help_heading = "Tools")]
pub struct Args {
    /// Which programs of the system
    #[command(flatten)]
    pub which: Which,
    /// What is measured of them
    #[command(flatten)]
    pub measure: Measure,
    /// How to show it
    #[command(flatten)]
    pub view: View,
    /// The tool with its own flags
    #[command(subcommand)]
    pub tool: Option<ToolCommand>,
    /// The sides of a difference, which [`crate::cli::Cli::read`] reads
    #[arg(skip)]
    pub sides: Option<Box<[diff::Side; 2]>>,
}

/// What is shown of programs, and how. The options may stand before or after the name of the tool.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "What to show")]
pub struct View {
    /// The form of the output
    #[arg(long, global = true, value_enum, default_value_t)]
    pub format: Format,
    /// Write to this file, not to standard output
    #[arg(short, long, global = true, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Say below each instruction what it does, in plain words
    #[arg(long, global = true)]
    pub explain: bool,
    /// Show what differs between two sides: given twice, each time a kernel such as 4.18, btf=FILE and last the tool's flags,
    /// separated by commas (7.2,btf=FILE,-P 80); or none, for what else is on the line
    #[arg(long, global = true, value_name = "SIDE", allow_hyphen_values = true)]
    pub diff: Vec<String>,
    /// Show this program only, of those that the tool has
    #[arg(long, global = true, value_name = "NAME")]
    pub program: Vec<String>,
    /// Show the machine code too; a tool's programs are loaded for that, and run nowhere (root)
    #[arg(long, global = true)]
    pub jited: bool,
    /// Ask the running kernel's verifier what it knows at each instruction; needs root, and attaches nothing
    #[arg(long, global = true)]
    pub verifier: bool,
    /// With --verifier: show all registers and the stack, not only what the instruction reads and changes
    #[arg(long, global = true, requires = "verifier")]
    pub full: bool,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A listing for people
    #[default]
    Text,
    /// An object a line, one for each program
    Json,
    /// C source: arrays of struct bpf_insn, and what a loader puts into them
    C,
    /// The bytes of one program's instructions, in this machine's byte order
    Raw,
    /// An ELF object with BTF and maps, which libbpf and bpftool load
    Obj,
    /// The control flow of each program, for graphviz
    Dot,
    /// A page for a browser, in one file: listing, control flow, cards, search
    Html,
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
    /// Programs of the tool that are not looked at: one that is may belong to a function of another.
    others: Vec<Linked>,
}

impl<'a> Subject<'a> {
    /// The programs that the tool would attach to this kernel.
    ///
    /// # Errors
    /// As [`Tool::programs`]; what the target does not know, such as a member of a structure.
    pub fn of(tool: &dyn Tool, target: &'a Target) -> Result<Self, Error> {
        Self::new(&tool.programs(target)?, tool.maps(target)?, target)
    }

    /// Programs and maps from elsewhere.
    ///
    /// # Errors
    /// What the target does not know.
    pub fn new(programs: &[ProgSpec], maps: Vec<MapSpec>, target: &'a Target) -> Result<Self, Error> {
        let programs = programs.iter().map(|program| program.link(target)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { target, programs, maps, others: Vec::new() })
    }

    /// Leaves those that are named, or all if none is.
    ///
    /// # Errors
    /// A name that none has.
    fn only(&mut self, names: &[String]) -> Result<(), Error> {
        let has = |name: &String| self.programs.iter().any(|program| program.spec().name == *name);
        if let Some(name) = names.iter().find(|name| !has(name)) {
            return Err(Error::Request(format!("there is no program `{name}`; there are {}", self.names())));
        }
        if !names.is_empty() {
            self.others.extend(self.programs.extract_if(.., |program| !names.contains(&program.spec().name)));
        }
        Ok(())
    }

    /// The bytes of the only program.
    fn raw(&self) -> Result<Vec<u8>, Error> {
        let [program] = self.programs.as_slice() else {
            let known = self.names();
            return Err(Error::Request(format!("bytes are of one program, which --program NAME names: {known}")));
        };
        Ok(program.insns().iter().flat_map(|insn| insn.to_ne_bytes()).collect())
    }

    /// Makes the maps, for programs that are loaded to be looked at.
    fn make_maps(&self) -> Result<Maps, bpfkit_loader::Error> {
        let mut maps = Maps::new();
        self.maps.iter().try_for_each(|map| maps.create(map, self.target))?;
        Ok(maps)
    }

    /// The program to whose function one belongs, of all that the tool has, whether it is shown or not.
    fn base_of(&self, program: &Linked) -> Option<&Linked> {
        let func = program.spec().attach.onto()?;
        self.programs.iter().chain(&self.others).find(|other| other.spec().name == func.program)
    }

    /// Does something with a program and, where it belongs to a function of another program, with that one, loaded for it.
    fn with_base<T>(
        &self,
        program: &Linked,
        maps: &Maps,
        act: impl FnOnce(Option<&Prog>) -> Result<T, bpfkit_loader::Error>,
    ) -> Result<T, bpfkit_loader::Error> {
        let base = self.base_of(program).map(|base| base.clone().load(self.target, maps)).transpose()?;
        act(base.as_ref())
    }

    fn names(&self) -> String {
        self.programs.iter().map(|program| program.spec().name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl View {
    /// Prints the programs.
    ///
    /// # Errors
    /// What cannot be shown, or not be printed.
    pub fn show(&self, subject: &Subject<'_>, output: &mut Output) -> Result<(), Error> {
        if self.jited {
            self.takes_more("--jited")?;
        }
        // What cannot be made leaves the file as it is.
        if let Some(bytes) = self.made(subject)? {
            return self.write(true, output, |output| {
                output.bytes(&bytes)?;
                output.flush()
            });
        }
        if matches!(self.format, Format::Text | Format::Json) && !(self.jited || self.verifier) {
            return self.write(false, output, |output| {
                subject.programs.iter().try_for_each(|program| self.row_by_row(subject, program, output))?;
                output.flush()
            });
        }
        if self.format == Format::C {
            return self.write(false, output, |output| c::print(subject, output).and_then(|()| output.flush()));
        }
        let listings = self.listings(subject)?;
        self.write(false, output, |output| self.finish(subject, &listings, output))
    }

    /// Prints a program without having all of its rows at a time.
    fn row_by_row(&self, subject: &Subject<'_>, program: &Linked, output: &mut Output) -> Result<(), Error> {
        let head = Listing::head(program, &subject.maps);
        let place = self.explain.then(|| Place::of(&program.spec().attach, subject.target));
        let made = Made { head: &head, program, place: place.as_ref() };
        match self.format {
            Format::Json => json::print_made(made, output),
            _ => text::print_made(made, output),
        }
    }

    /// Prints to the file that was asked for, or to `output`.
    pub(crate) fn write(
        &self,
        is_binary: bool,
        output: &mut Output,
        print: impl FnOnce(&mut Output) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(path) = &self.output else {
            if is_binary && output.as_fd().is_terminal() {
                return Err(Error::Request("this form is not for a terminal: -o FILE names a file for it".to_owned()));
            }
            return print(output);
        };
        output::to_file(path, print)
    }

    /// Prints programs of the system.
    fn show_loaded(&self, programs: &[LoadedProg], output: &mut Output) -> Result<(), Error> {
        if !matches!(self.format, Format::Text | Format::Json | Format::Dot | Format::Html) {
            let form = "what the verifier has rewritten cannot be loaded again: it is shown as text, json, dot or html";
            return Err(Error::Request(form.to_owned()));
        }
        let symbols = Symbols::open()?;
        let holders = holders::all();
        let listing = |program: &LoadedProg| {
            let code = program.code(&symbols)?;
            let mut listing = Listing::loaded(&code, &holders);
            if self.jited {
                machine::beside(&mut listing, &code, &symbols)?;
            }
            if self.explains() {
                let place = Place::of_kind(&listing.kind);
                explain::explain(&mut listing, &place);
            }
            Ok(listing)
        };
        self.write(false, output, |output| {
            if self.format == Format::Html {
                let listings = programs.iter().map(listing).collect::<Result<Vec<_>, Error>>()?;
                page::print("Programs of this system", &listings, output)?;
                return output.flush();
            }
            // One after the other, as there may be many.
            for program in programs {
                self.one(&listing(program)?, output)?;
            }
            output.flush()
        })
    }

    /// Whether the form has a place for what an option adds to the listing.
    fn takes_more(&self, option: &str) -> Result<(), Error> {
        match self.format {
            Format::Text | Format::Json | Format::Dot | Format::Html => Ok(()),
            Format::C | Format::Raw | Format::Obj => {
                Err(Error::Request(format!("{option} adds to the listing: it takes --format text, json, dot or html")))
            }
        }
    }

    /// Whether rows say what they do. The page has room for it, and can leave it out again.
    fn explains(&self) -> bool {
        self.explain || self.format == Format::Html
    }

    /// The bytes of a form that is no text.
    fn made(&self, subject: &Subject<'_>) -> Result<Option<Vec<u8>>, Error> {
        match self.format {
            Format::Raw => subject.raw().map(Some),
            Format::Obj => self.object(subject).map(Some),
            Format::Text | Format::Json | Format::C | Format::Dot | Format::Html => Ok(None),
        }
    }

    /// An object with the programs that were asked for by name, or with all that bpftool can load.
    fn object(&self, subject: &Subject<'_>) -> Result<Vec<u8>, Error> {
        let mut programs: Vec<&Linked> = subject.programs.iter().collect();
        if self.program.is_empty() {
            let belongs = |program: &mut &Linked| program.spec().attach.onto().is_some();
            for left in programs.extract_if(.., belongs) {
                report::say(format_args!(
                    "{} is left out, as bpftool cannot load it: it belongs to a function of another program; \
                     --program NAME takes it in",
                    left.spec().name
                ));
            }
        }
        Ok(bpfkit_loader::object(programs, &subject.maps)?)
    }

    /// The programs row by row, with what the options add to each row.
    fn listings(&self, subject: &Subject<'_>) -> Result<Vec<Listing>, Error> {
        let mut listings: Vec<Listing> = match self.verifier {
            true => verifier::ask(subject, self.full)?,
            false => subject.programs.iter().map(|program| Listing::of(program, &subject.maps)).collect(),
        };
        for (listing, program) in listings.iter_mut().zip(&subject.programs).filter(|_| self.explains()) {
            explain::explain(listing, &Place::of(&program.spec().attach, subject.target));
        }
        if self.jited {
            machine::add(subject, &mut listings)?;
        }
        Ok(listings)
    }

    fn finish(&self, subject: &Subject<'_>, listings: &[Listing], output: &mut Output) -> Result<(), Error> {
        match self.format {
            Format::Html => {
                page::print(&format!("Programs for Linux {}", subject.target.version()), listings, output)?;
            }
            _ => listings.iter().try_for_each(|listing| self.one(listing, output))?,
        }
        output.flush()?;
        verifier::refusals(listings)
    }

    /// A program in a form that has them one after the other.
    fn one(&self, listing: &Listing, output: &mut Output) -> Result<(), Error> {
        match self.format {
            Format::Json => json::print(listing, output),
            Format::Dot => dot::print(listing, output),
            _ => text::print(listing, output),
        }
    }
}

impl Question for Args {
    fn answer(&self, output: &mut Output) -> Result<(), Error> {
        if let Some(sides) = &self.sides {
            if self.view.verifier {
                return Err(Error::Request("--verifier asks one kernel, and does not go with --diff".to_owned()));
            }
            return self.view.write(false, output, |output| diff::show(&self.view, sides, output));
        }
        let Some(tool) = &self.tool else {
            if self.view.verifier {
                let why = "--verifier loads a tool's programs; what is loaded already shows no verifier any more";
                return Err(Error::Request(why.to_owned()));
            }
            let programs = self.which.open()?;
            return if self.measure.stats {
                stats::watch(&programs, self.measure.duration, self.view.format, output)
            } else {
                self.view.show_loaded(&programs, output)
            };
        };
        let tool = tool.tool();
        if self.view.verifier {
            verifier::check(tool.options())?;
            self.view.takes_more("--verifier")?;
        }
        let mut target = tool.options().target()?;
        if self.view.format == Format::Obj {
            // Where such programs are attached, and by which cookies, a section's name cannot say.
            target = target.lacking(Feature::UprobeMulti);
        }
        let mut subject = Subject::of(tool, &target)?;
        subject.only(&self.view.program)?;
        let json = tool.options().json.then_some(Format::Json);
        View { format: json.unwrap_or(self.view.format), ..self.view.clone() }.show(&subject, output)
    }
}
