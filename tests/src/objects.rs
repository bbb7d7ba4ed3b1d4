//! ELF objects beside the programs that the loader loads.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use bpfkit_asm::Insn;
use bpfkit_loader::{Feature, Linked, MapSpec, Maps, Prog, Target, object};

use crate::programs::subject;

/// Every tool, by every kind of place that its programs may have.
pub const LINES: [&str; 12] = [
    "tcpconnect --probe kprobe",
    "tcpconnect --probe kprobe -c -U",
    "tcpconnect --probe fentry -P 80",
    "tcpconnect --probe tracepoint -L",
    "bpf2bpf",
    "execsnoop --probe tracepoint -x",
    "execsnoop --probe kprobe -x",
    "gethostlatency --all",
    "icmpecho --probe kprobe",
    "writehist -u 1000",
    "skbrecv",
    "skbrecv --printk",
];

/// Why an object and its programs are not the same.
#[derive(Debug)]
pub enum Unequal {
    /// This kernel has not what the programs need, which says nothing of them.
    NotHere(String),
    /// They differ, or one of them cannot be loaded.
    Differs(String),
}

impl Unequal {
    /// The same, of a program.
    fn of(self, program: &Linked) -> Self {
        match self {
            Self::Differs(why) => Self::Differs(format!("{}: {why}", program.spec().name)),
            not_here @ Self::NotHere(_) => not_here,
        }
    }
}

/// Has bpftool load the object of a line such as `tcpconnect -P 80`, and compares what the kernel then has with what the loader
/// loads: the digest of the instructions, the instructions as the verifier rewrote them, and that their lines of source are
/// shown. How many programs there were. `before_listing` is called before bpftool lists instructions.
///
/// # Errors
/// What is not here, or what differs.
pub fn compare(line: &str, target: &Target, bpffs: &Path, before_listing: &dyn Fn()) -> Result<usize, Unequal> {
    let directory = tempfile::tempdir().map_err(differs)?;
    let pins = bpffs.join("compared");
    let (programs, specs) = made(line, target, directory.path())?;
    bpftool(Command::new("bpftool").args(["prog", "loadall"]).arg(directory.path().join(OBJECT)).arg(&pins))?;
    let mut maps = Maps::new();
    for map in &specs {
        maps.create(map, target).map_err(differs)?;
    }
    for (n, program) in programs.iter().enumerate() {
        let pin = pins.join(&program.spec().name);
        let own = program.clone().load(target, &maps).map_err(differs)?;
        equal(&own, &pin, directory.path()).map_err(|unequal| unequal.of(program))?;
        // What bpftool prints takes it long where the processor is emulated.
        if n == 0 {
            before_listing();
            told(program, &own, &pin, target).map_err(|unequal| unequal.of(program))?;
        }
    }
    unpin(&programs, &pins)?;
    Ok(programs.len())
}

/// Whether the bpftool that is here attaches what it loads, as that of Linux 6.3 and newer does.
pub fn can_attach() -> bool {
    let help = Command::new("bpftool").args(["prog", "help"]).output();
    help.is_ok_and(|help| String::from_utf8_lossy(&[help.stdout, help.stderr].concat()).contains("autoattach"))
}

/// Has bpftool load and attach the object of a line, by what libbpf reads in the names of its sections.
///
/// # Errors
/// As [`compare`].
pub fn attach(line: &str, target: &Target, bpffs: &Path) -> Result<(), Unequal> {
    let directory = tempfile::tempdir().map_err(differs)?;
    let pins = bpffs.join("attached");
    let (programs, _) = made(line, target, directory.path())?;
    let file = directory.path().join(OBJECT);
    bpftool(Command::new("bpftool").args(["prog", "loadall"]).arg(file).arg(&pins).arg("autoattach"))?;
    for program in &programs {
        // What libbpf could not attach is pinned as a program, which is no link. The exit code says nothing: that of bpftool
        // 7.5 is a failure for each link.
        let pin = pins.join(&program.spec().name);
        let link = Command::new("bpftool").args(["link", "show", "pinned"]).arg(pin).output().map_err(differs)?;
        if !String::from_utf8_lossy(&link.stdout).contains("  prog ") {
            let why = String::from_utf8_lossy(&link.stderr).into_owned();
            return Err(Unequal::Differs(format!("no link: {why}")).of(program));
        }
    }
    unpin(&programs, &pins)
}

const OBJECT: &str = "tool.o";

/// Writes the object of a line, without what belongs to functions of other programs, which bpftool cannot load. Its programs and
/// the maps.
fn made(line: &str, target: &Target, directory: &Path) -> Result<(Vec<Linked>, Vec<MapSpec>), Unequal> {
    let not_here = |error: &(dyn std::error::Error + 'static)| Unequal::NotHere(bpfkit::Chain(error).to_string());
    let mut subject = subject(line, target).map_err(|error| not_here(&error))?;
    subject.programs.retain(|program| program.spec().attach.onto().is_none());
    for program in &subject.programs {
        program.check(target).map_err(|error| not_here(&error))?;
    }
    let bytes = object(&subject.programs, &subject.maps).map_err(differs)?;
    fs::write(directory.join(OBJECT), bytes).map_err(differs)?;
    Ok((subject.programs, subject.maps))
}

fn unpin(programs: &[Linked], pins: &Path) -> Result<(), Unequal> {
    for program in programs {
        fs::remove_file(pins.join(&program.spec().name)).map_err(differs)?;
    }
    fs::remove_dir(pins).map_err(differs)
}

/// The instructions of a program are those that the loader's has, as the verifier rewrote them.
fn equal(own: &Prog, pin: &Path, directory: &Path) -> Result<(), Unequal> {
    let file = directory.join("xlated");
    bpftool(Command::new("bpftool").args(["prog", "dump", "xlated", "pinned"]).arg(pin).arg("file").arg(&file))?;
    let theirs = fs::read(&file).map_err(differs)?;
    let theirs = theirs.chunks_exact(8).filter_map(|slot| slot.first_chunk().copied().map(Insn::from_ne_bytes));
    let own = own.xlated().map_err(differs)?.map_err(|hidden| Unequal::NotHere(hidden.to_string()))?;
    let (own, theirs) = (without_maps(own), without_maps(theirs.collect()));
    if own != theirs {
        return Err(Unequal::Differs(format!("the verifier made {own:?} of it, and {theirs:?} of the object")));
    }
    Ok(())
}

/// What bpftool tells of a program is what it is: the digest of its instructions, and its first line.
fn told(program: &Linked, own: &Prog, pin: &Path, target: &Target) -> Result<(), Unequal> {
    let tag: String = own.info().map_err(differs)?.tag.iter().map(|byte| format!("{byte:02x}")).collect();
    let shown = bpftool(Command::new("bpftool").args(["prog", "show", "pinned"]).arg(pin))?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    if !shown.contains(&format!("tag {tag}")) {
        return Err(Unequal::Differs(format!("its tag is {tag}, and bpftool's: {shown}")));
    }
    if !target.has(Feature::ProgBtf) {
        return Ok(());
    }
    let listing = bpftool(Command::new("bpftool").args(["prog", "dump", "xlated", "pinned"]).arg(pin).arg("linum"))?;
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    let first = program.sources().iter().flatten().next();
    let is_quoted = first
        .is_some_and(|source| listing.contains(source.text) && listing.contains(&format!("line_num:{} ", source.line)));
    if is_quoted { Ok(()) } else { Err(Unequal::Differs(format!("bpftool does not show {first:?}: {listing}"))) }
}

/// The numbers of maps are those of a load, and distances of calls are where the kernel or the loader puts them.
fn without_maps(mut insns: Vec<Insn>) -> Vec<Insn> {
    for insn in insns.iter_mut().filter(|insn| insn.is_map() || insn.is_local_call()) {
        (insn.off, insn.imm) = (0, 0);
    }
    insns
}

fn bpftool(command: &mut Command) -> Result<Output, Unequal> {
    let output = command.output().map_err(differs)?;
    if output.status.success() {
        return Ok(output);
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Unequal::Differs(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&said))))
}

fn differs(error: impl std::error::Error + 'static) -> Unequal {
    Unequal::Differs(bpfkit::Chain(&error).to_string())
}
