//! `bpfkit disasm` makes texts of programs: of the object files of a compiler, of bytes, of bytes in hexadecimal. `bpfkit asm` makes the
//! same bytes of its text again.
//!
//! ```text
//! bpfkit disasm xdp.o --section xdp          a section of an object file, with its source lines
//! bpfkit disasm count.bin --bytes            bytes as the kernel takes them
//! echo b7000000 07000000 | bpfkit disasm -   hexadecimal
//! ```

mod maps;
mod object;
mod print;

use std::path::PathBuf;

use bpfkit_asm::Insn;

use self::object::Code;
pub(crate) use self::object::Object;
use crate::cli::Question;
use crate::output::Output;
use crate::{Error, asm, input};

/// Make a text for `bpfkit asm` of an object file, or of bytes
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// An ELF object for BPF, bytes, or bytes in hexadecimal; `-` for standard input
    pub file: PathBuf,
    /// What the file is; without it, its bytes decide
    #[arg(long, value_enum, value_name = "FORM")]
    pub from: Option<Form>,
    /// Only this section
    #[arg(long, value_name = "NAME")]
    pub section: Option<String>,
    /// Only this function
    #[arg(long, value_name = "NAME")]
    pub function: Option<String>,
    /// The bytes of each statement beside it
    #[arg(long)]
    pub bytes: bool,
    /// The number of each statement's first slot beside it
    #[arg(long)]
    pub slots: bool,
    /// No source lines
    #[arg(long)]
    pub no_source: bool,
    /// The bytes are for a big-endian machine; of an object file it is known
    #[arg(long)]
    pub big_endian: bool,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// An ELF object for BPF
    Elf,
    /// Instructions as the kernel takes them
    Raw,
    /// The same in hexadecimal; spaces, commas and 0x do not count
    Hex,
}

/// The form that bytes have: no program begins as ELF does, or has nothing but digits in it.
fn form(bytes: &[u8]) -> Form {
    let is_digit =
        |byte: &u8| byte.is_ascii_hexdigit() || byte.is_ascii_whitespace() || matches!(byte, b',' | b'x' | b'\\');
    if bytes.starts_with(b"\x7fELF") {
        Form::Elf
    } else if bytes.iter().all(is_digit) {
        Form::Hex
    } else {
        Form::Raw
    }
}

/// Bytes in hexadecimal as people write them: `b7 00`, `0xb7, 0x00`, `\xb7\x00`.
pub(crate) fn unhex(text: &[u8]) -> Result<Vec<u8>, String> {
    let text = String::from_utf8_lossy(text).replace("0x", " ").replace("\\x", " ");
    let digits = text.split(|c: char| c.is_whitespace() || c == ',').filter(|part| !part.is_empty());
    // A lone digit among others is a byte of its own.
    let digits: String =
        digits.map(|part| if part.len() == 1 { format!("0{part}") } else { part.to_owned() }).collect();
    asm::bytes(&digits)
}

/// Slots, and what is left.
pub(crate) fn slots(bytes: &[u8], big_endian: bool) -> (Vec<Insn>, &[u8]) {
    let (whole, tail) = bytes.as_chunks();
    let read = if big_endian { Insn::from_be_bytes } else { Insn::from_le_bytes };
    (whole.iter().map(|&slot| read(slot)).collect(), tail)
}

/// Prints an object with everything that can be said of it.
pub(crate) fn print_all(object: &Object, output: &mut Output) -> Result<(), Error> {
    let args = Args {
        file: PathBuf::new(),
        from: None,
        section: None,
        function: None,
        bytes: true,
        slots: true,
        no_source: false,
        big_endian: object.big_endian,
    };
    print::print(&args, "stdin", object, output)
}

impl Args {
    fn object(&self, name: &str, bytes: &[u8]) -> Result<Object, Error> {
        let request = |why: String| Error::Request(format!("cannot disassemble {name}: {why}"));
        if bytes.is_empty() {
            return Err(request("it is empty".to_owned()));
        }
        let raw = |bytes: &[u8]| Object::of_bytes(bytes, self.big_endian);
        match self.from.unwrap_or_else(|| form(bytes)) {
            Form::Elf => Object::parse(bytes).map_err(request),
            Form::Raw => Ok(raw(bytes)),
            Form::Hex => unhex(bytes).map(|bytes| raw(&bytes)).map_err(request),
        }
    }

    /// Leaves what was asked for.
    fn only(&self, name: &str, object: &mut Object) -> Result<(), Error> {
        let missing = |what: &str, wanted: &str, known: Vec<String>| {
            let known = if known.is_empty() { String::new() } else { format!("; there are {}", known.join(", ")) };
            Error::Request(format!("{name} has no {what} `{wanted}`{known}"))
        };
        if let Some(wanted) = &self.section {
            let known = object.sections.iter().map(|section| section.name.clone()).collect();
            object.sections.retain(|section| section.name == *wanted);
            if object.sections.is_empty() {
                return Err(missing("section with instructions", wanted, known));
            }
        }
        if let Some(wanted) = &self.function {
            let names = |code: &Code| code.funcs.iter().map(|func| func.name.to_string()).collect::<Vec<_>>();
            let known = object.sections.iter().flat_map(names).collect();
            object.sections.retain_mut(|section| section.only(wanted));
            if object.sections.is_empty() {
                return Err(missing("function", wanted, known));
            }
        }
        Ok(())
    }
}

impl Question for Args {
    fn answer(&self, output: &mut Output) -> Result<(), Error> {
        let name = input::name(&self.file);
        let mut object = self.object(&name, &input::read(&self.file)?)?;
        self.only(&name, &mut object)?;
        print::print(self, &name, &object, output)?;
        output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_a_file_shows_in_its_bytes() {
        assert_eq!(form(b"\x7fELF\x02\x01"), Form::Elf);
        assert_eq!(form(&[0xb7, 0, 0, 0, 7, 0, 0, 0]), Form::Raw);
        for text in ["b7 00 00 00\n07 00 00 00\n", "0xb7, 0x0, 0, 0", "\\xb7\\x00", "b700000007000000"] {
            assert_eq!(form(text.as_bytes()), Form::Hex, "{text}");
        }
        // The least that a program has is an opcode above the letters, or a zero.
        assert_eq!(form(b"ghij"), Form::Raw);
    }

    #[test]
    fn hexadecimal_is_read_as_people_write_it() {
        let bytes = vec![0xb7, 0, 0, 7];
        for text in ["b7 00 00 07", "b7000007", "0xb7, 0x0, 0x00, 7", "\\xb7\\x00\\x00\\x07", "B7 0 0 7\n"] {
            assert_eq!(unhex(text.as_bytes()).as_ref(), Ok(&bytes), "{text}");
        }
        for text in ["b70", "xyz"] {
            assert!(unhex(text.as_bytes()).is_err(), "{text}");
        }
    }
}
