//! The machine code that a program became, beside its instructions.

use bpfkit_loader::{JitedFunc, Linked, LoadedCode, LoadedLine, Symbols};
use serde::Serialize;

use super::Subject;
use super::listing::{Listing, Row, hex};
use super::x86::{self, X86};
use crate::Error;

/// An instruction of the processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Where it is, in bytes from the start of its function.
    pub offset: usize,
    /// Its bytes, in hexadecimal.
    pub bytes: String,
    /// What it does. Jumps within the function are to offsets, and what is called has its name, where /proc/kallsyms has it.
    pub text: String,
}

/// A source line's instructions, and where their machine code begins.
struct Mark {
    /// The last row of the line.
    row: usize,
    address: u64,
}

/// Puts machine code beside a tool's programs. They are loaded for that, run nowhere, and go again.
///
/// # Errors
/// What the kernel says; as [`beside`].
pub fn add(subject: &Subject<'_>, listings: &mut [Listing]) -> Result<(), Error> {
    let maps = subject.make_maps()?;
    let load = |program: &Linked| {
        subject.with_base(program, &maps, |base| match base {
            Some(base) => program.spec().load_onto(subject.target, &maps, base),
            None => program.clone().load(subject.target, &maps),
        })
    };
    let loaded = subject.programs.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    let symbols = Symbols::open()?;
    for (listing, prog) in listings.iter_mut().zip(&loaded) {
        beside_source(listing, &prog.loaded().code(&symbols)?, &symbols)?;
    }
    Ok(())
}

/// Puts the machine code of a loaded program beside the rows of its own listing: behind the last instruction of the source line that
/// it belongs to, which is all that the kernel tells; and where there are no lines, behind each function.
///
/// # Errors
/// Code that the kernel does not show, or that is for another processor.
pub fn beside(listing: &mut Listing, code: &LoadedCode, symbols: &Symbols) -> Result<(), Error> {
    let lines = code.lines.as_deref().unwrap_or_default();
    // Where each line begins, in rows.
    let starts = lines.iter().map(|line| listing.rows.partition_point(|row| row.slot < line.slot));
    let starts: Vec<(usize, &LoadedLine)> = starts.zip(lines).collect();
    put(listing, code, symbols, &starts)
}

/// Puts the machine code of a program beside the instructions as they were before the kernel rewrote them: `listing` is of what was
/// loaded. Each statement of `bpf!` is a line of its own, so that the match is exact.
///
/// # Errors
/// As [`beside`].
fn beside_source(listing: &mut Listing, code: &LoadedCode, symbols: &Symbols) -> Result<(), Error> {
    let lines = code.lines.as_deref().unwrap_or_default();
    let mut starts = Vec::new();
    let mut rest = lines.iter().peekable();
    let mut last = None;
    for (index, row) in listing.rows.iter().enumerate() {
        let is_start = listing.function_at(row.slot).is_some();
        // A line begins where the loader says that one does; the kernel leaves out those that it finds are never reached.
        if is_start || row.source != last {
            starts.extend(rest.next_if(|line| is_line_of(line, row)).map(|line| (index, line)));
        }
        last.clone_from(&row.source);
    }
    put(listing, code, symbols, &starts)
}

/// Whether a line was made for a row. What has no source was given a name for it.
fn is_line_of(line: &LoadedLine, row: &Row) -> bool {
    row.source.as_ref().map_or(line.source.file == "generated", |source| *source == line.source)
}

fn put(
    listing: &mut Listing,
    code: &LoadedCode,
    symbols: &Symbols,
    starts: &[(usize, &LoadedLine)],
) -> Result<(), Error> {
    let funcs = match &code.jited {
        _ if !cfg!(target_arch = "x86_64") => {
            return Err(Error::Request("--jited shows the machine code of x86-64 only".to_owned()));
        }
        Ok(funcs) => funcs,
        Err(hidden) => {
            let name = &listing.name;
            return Err(Error::Request(format!("the machine code of the program `{name}` is not shown: {hidden}")));
        }
    };
    let ends = starts.iter().skip(1).map(|(row, _)| *row).chain([listing.rows.len()]);
    let mark = |((_, line), end): (&(usize, &LoadedLine), usize)| {
        let address = line.address.as_ref().ok().copied()?;
        Some(Mark { row: end.checked_sub(1)?, address })
    };
    let marks: Vec<Mark> = starts.iter().zip(ends).filter_map(mark).collect();
    let decoded: Vec<(&JitedFunc, Vec<X86>)> =
        funcs.iter().map(|func| (func, x86::decode(&func.bytes, func.address))).collect();
    let targets: Vec<u64> = decoded.iter().flat_map(|(_, insns)| insns).filter_map(X86::target).collect();
    // Its own functions are known by better names than the kernel's, and so come first.
    let own = funcs.iter().zip(&code.funcs).map(|(func, known)| (func.address, known.name.clone()));
    let names: Vec<(u64, String)> = own.chain(symbols.names(&targets)?).collect();
    for (index, (func, insns)) in decoded.iter().enumerate() {
        let end = func.address.saturating_add(u64::try_from(func.bytes.len()).unwrap_or_default());
        // Without lines, or with none that is in this function, all of it is behind its last row.
        let next = listing.functions.get(index + 1).map(|next| next.slot);
        let last = next.map_or(listing.rows.len(), |slot| listing.rows.partition_point(|row| row.slot < slot));
        let of_func: Vec<&Mark> = marks.iter().filter(|mark| (func.address..end).contains(&mark.address)).collect();
        for insn in insns {
            let address = func.address.saturating_add(u64::try_from(insn.start).unwrap_or_default());
            let after = of_func.partition_point(|mark| mark.address <= address);
            let row = after.checked_sub(1).map_or(last.saturating_sub(1), |mark| of_func[mark].row);
            let target = insn.target().and_then(|target| match target.checked_sub(func.address) {
                Some(offset) if (func.address..end).contains(&target) && offset != 0 => Some(format!("{offset:#x}")),
                _ => names.iter().find(|(at, _)| *at == target).map(|(_, name)| name.clone()),
            });
            let bytes = hex(&func.bytes[insn.start..insn.start + insn.len]);
            let machine = Machine { offset: insn.start, bytes, text: insn.text(target.as_deref()) };
            if let Some(row) = listing.rows.get_mut(row) {
                row.machine.push(machine);
            }
        }
    }
    Ok(())
}
