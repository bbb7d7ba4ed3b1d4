//! `bpfkit asm` makes programs of texts: bytes, a listing, or a program that runs.
//!
//! ```text
//! bpfkit asm count.bpf                       what the instructions are on this kernel
//! bpfkit asm count.bpf -o count.bin          their bytes
//! bpfkit asm count.bpf --format obj -o c.o   an object file for libbpf
//! bpfkit asm count.bpf --run --duration 5    load it, attach it, show what it prints and counts
//! bpfkit disasm xdp.o | bpfkit asm - --run   the same for what a compiler made
//! ```

mod document;
mod place;
mod program;
mod run;

use std::path::PathBuf;
use std::time::Duration;

use bpfkit_loader::{Attach, ProgSpec, Target};

pub use self::document::{Document, MapDef, Section, bytes, quoted, word};
pub use self::place::directive;
pub(crate) use self::program::bytes as assembled;
use crate::cli::Question;
use crate::dump::{Format, Subject, View};
use crate::options::{Kernel, seconds};
use crate::output::Output;
use crate::{Error, input};

/// Assemble a text into a program, and load and run it
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The text, `-` for standard input
    pub file: PathBuf,
    /// The type of program, such as xdp, whatever the text says
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Only this section of the text
    #[arg(long, value_name = "NAME")]
    pub section: Option<String>,
    /// Print the bytes of a section in hexadecimal, as they are before a kernel loads them; -o alone writes the same bytes
    #[arg(long)]
    pub hex: bool,
    /// Load the programs, attach them or have the kernel run them once, and show what they do; needs root
    #[arg(long, conflicts_with_all = ["output", "hex", "kernel", "format"])]
    pub run: bool,
    /// With --run: the packet for programs that take one, in hexadecimal, or @FILE; 64 bytes of zeros without it
    #[arg(long, value_name = "HEX", requires = "run")]
    pub data: Option<String>,
    /// With --run: the context for programs that take one, in hexadecimal, or @FILE
    #[arg(long, value_name = "HEX", requires = "run")]
    pub context: Option<String>,
    /// With --run: how often the kernel runs what is not attached
    #[arg(long, value_name = "N", default_value_t = 1, requires = "run")]
    pub repeat: u32,
    /// With --run: detach and leave after this many seconds
    #[arg(long, value_name = "SECS", value_parser = seconds, requires = "run")]
    pub duration: Option<Duration>,
    /// With --run: say on stderr how the programs were attached
    #[arg(short, long)]
    pub verbose: bool,
    #[allow(missing_docs)] // clap would show it
    #[command(flatten)]
    pub kernel: Kernel,
    /// How the listing shows the programs
    #[command(flatten)]
    pub view: View,
}

const EXAMPLES: &str = "\
The text is that of bpf!: one statement for each instruction, ended by `;`.
Directives have lines of their own:
  .type xdp                                 what kind of program it is; a socket
                                            filter where nothing is said
  .attach kprobe tcp_connect                where it is attached
  .license \"GPL\"                            what it may call; this is what it has
                                            where nothing is said
  .map counts hash key 4 value 8 max 1024   a map, for r1 = map[counts];
  .func report                              the next function, for call report;
  .section \"xdp\"                            the next program

Examples:
  echo 'r0 = 7; exit;' | bpfkit asm -       a listing
  echo 'r0 = 7; exit;' | bpfkit asm - --run what it returns
  bpfkit asm probe.bpf --run --duration 5   attach it for 5 seconds; show what it
                                            prints, and its maps
  bpfkit asm probe.bpf --btf rhel8.btf --kernel 4.18";

impl Args {
    fn target(&self) -> Result<Target, Error> {
        self.kernel.target(None)
    }

    /// The text, with what the options say of it.
    fn document(&self) -> Result<Document, Error> {
        let name = input::name(&self.file);
        let bytes = input::read(&self.file)?;
        if bytes.starts_with(b"\x7fELF") {
            return Err(Error::Request(format!(
                "{name} is an object file, and no text: bpfkit disasm makes one of it"
            )));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Error::Request(format!("{name} is no text: byte {at} is part of no character"))
        })?;
        let stem =
            self.file.file_stem().filter(|_| !input::is_stdin(&self.file)).map(|stem| word(&stem.to_string_lossy()));
        let document = Document::parse(&text, &name, stem.as_deref().unwrap_or("main"));
        let mut document = document.map_err(|error| Error::Request(error.to_string()))?;
        if let Some(kind) = &self.kind {
            let words: Vec<String> = kind.split_whitespace().map(str::to_owned).collect();
            let attach = place::trial(&words).map_err(|why| Error::Request(format!("--type: {why}")))?;
            document.sections.iter_mut().for_each(|section| section.attach = Some(attach.clone()));
        }
        if let Some(wanted) = &self.section {
            if !document.sections.iter().any(|section| section.name == *wanted) {
                return Err(Error::Request(format!("{name} has no section `{wanted}`{}", listed(&document))));
            }
        } else if document.sections.is_empty() {
            return Err(Error::Request(format!("{name} has no instructions")));
        }
        Ok(document)
    }

    /// The programs that are asked for.
    fn programs(&self, document: &Document) -> Result<Vec<ProgSpec>, Error> {
        program::programs(document, self.section.as_deref(), &self.view.program)
    }

    /// The bytes of the one section that is asked for.
    fn bytes(&self, document: &Document) -> Result<Vec<u8>, Error> {
        let wanted = |section: &&Section| self.section.as_ref().is_none_or(|name| section.name == *name);
        let mut sections = document.sections.iter().filter(wanted);
        let (Some(section), None) = (sections.next(), sections.next()) else {
            let name = input::name(&self.file);
            return Err(Error::Request(format!(
                "{name} has several sections, of which --section names one{}",
                listed(document)
            )));
        };
        program::bytes(document, section, || self.target())
    }
}

/// `: "xdp", ".text"`
fn listed(document: &Document) -> String {
    let names: Vec<String> = document.sections.iter().map(|section| quoted(&section.name)).collect();
    if names.is_empty() { String::new() } else { format!(": there are {}", names.join(", ")) }
}

impl Question for Args {
    fn answer(&self, output: &mut Output) -> Result<(), Error> {
        let document = self.document()?;
        if self.run {
            return run::run(self, &document, output);
        }
        let is_bytes = self.view.output.is_some() && self.view.format == Format::Text;
        if self.hex || is_bytes {
            let bytes = self.bytes(&document)?;
            let bytes = if self.hex { hex(&bytes).into_bytes() } else { bytes };
            return self.view.write(false, output, |output| {
                output.bytes(&bytes)?;
                output.flush()
            });
        }
        let target = self.target()?;
        let maps = document.maps.iter().map(|map| map.spec.clone()).collect();
        let programs = self.programs(&document)?;
        // A program may have a million instructions: it is there once when it is shown.
        drop(document);
        let subject = Subject::new(&programs, maps, &target)?;
        drop(programs);
        self.view.show(&subject, output)
    }
}

/// An instruction a line.
fn hex(bytes: &[u8]) -> String {
    bytes.chunks(8).map(|slot| spaced(slot) + "\n").collect()
}

/// Bytes for people.
pub(crate) fn spaced(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for (n, byte) in bytes.iter().enumerate() {
        let digit = |digit: u8| char::from_digit(digit.into(), 16).unwrap_or_default();
        text.extend((n != 0).then_some(' ').into_iter().chain([digit(byte >> 4), digit(byte & 15)]));
    }
    text
}

/// What a program is that says nothing of its type.
const UNSAID: Attach = Attach::None;
