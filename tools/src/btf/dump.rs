//! `bpfkit btf dump`: all types of a file.

use bpfkit_btf::Header;
use clap::ValueEnum;

use super::json;
use super::source::Input;
use crate::Error;
use crate::cli::Question;
use crate::output::Output;

/// Print all types, as a C header, as JSON or as bpftool does
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    input: Input,
    /// How to print them
    #[arg(short, long, value_enum, default_value_t = Format::C)]
    format: Format,
}

/// How types are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A header (vmlinux.h), for clang and gcc
    C,
    /// One object a line, with the keys of `bpftool -j btf dump`
    Json,
    /// As `bpftool btf dump`
    Raw,
}

impl Question for Args {
    fn answer(&self, output: &mut Output) -> Result<(), Error> {
        let btf = self.input.open()?;
        match self.format {
            Format::C => {
                let mut header = Header::new(&btf);
                while let Some(piece) = header.next_piece() {
                    output.bytes(piece.as_bytes())?;
                }
            }
            Format::Json => btf.types().try_for_each(|ty| output.line(&json::row(&ty)))?,
            Format::Raw => {
                let mut text = String::new();
                for ty in btf.types() {
                    text.clear();
                    ty.write_raw(&mut text);
                    output.bytes(text.as_bytes())?;
                }
            }
        }
        output.flush()
    }
}
