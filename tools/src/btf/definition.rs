//! `bpfkit btf type`: the definition of one type.

use bpfkit_btf::{Btf, Header, Kind, Type};

use super::source::Inputs;
use crate::cli::Question;
use crate::output::Output;
use crate::{Error, Escaped, report};

/// Print what a type is in C, with the offset and the size of each member
///
/// The numbers beside a member are its offset and size in bytes; of a bit field, the offset of its unit, the first bit in it, and
/// the size of the unit. Holes are said.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A structure, union, enumeration, typedef, number, function or variable; `struct NAME` is only the structure
    name: String,
    #[command(flatten)]
    inputs: Inputs,
    /// Print all that it needs too, in an order that a compiler takes
    #[arg(long)]
    deps: bool,
}

/// What has a name that can be asked for, in the order that it is shown in.
pub(super) const KINDS: [Kind; 9] =
    [Kind::STRUCT, Kind::UNION, Kind::ENUM, Kind::ENUM64, Kind::TYPEDEF, Kind::INT, Kind::FLOAT, Kind::FUNC, Kind::VAR];

impl Question for Args {
    fn answer(&self, output: &mut Output) -> Result<(), Error> {
        let (kinds, name) = split(&self.name);
        let sources = self.inputs.open()?;
        let mut last: Option<(String, &str)> = None;
        let mut missing = None;
        for source in &sources {
            let found = found(&source.btf, name, kinds);
            if found.is_empty() {
                let text = no_type(&source.btf, &self.name, name, kinds);
                if sources.len() > 1 {
                    report::say(Escaped(format!("{}: {text}", source.name).as_bytes()));
                }
                missing = Some(text);
                continue;
            }
            let text = self.text(&source.btf, &found);
            if sources.len() > 1 {
                let title = Escaped(source.name.as_bytes());
                match &last {
                    Some((same, name)) if *same == text => {
                        output.line(&format!("// {title}: as in {}", Escaped(name.as_bytes())))?;
                        continue;
                    }
                    _ => output.line(&format!("// {title}"))?,
                }
            }
            output.bytes(text.as_bytes())?;
            last = Some((text, &source.name));
        }
        output.flush()?;
        match (last, missing) {
            (None, Some(text)) => Err(Error::Request(text)),
            _ => Ok(()),
        }
    }
}

impl Args {
    fn text(&self, btf: &Btf, found: &[Type<'_>]) -> String {
        if !self.deps {
            let texts: Vec<String> = found.iter().map(|ty| Header::annotated(btf, ty.id)).collect();
            return texts.join("\n");
        }
        Header::definitions(btf, &found.iter().map(|ty| ty.id).collect::<Vec<_>>())
    }
}

/// Of `struct sock`, the kinds that the word stands for, and the name.
fn split(text: &str) -> (&'static [Kind], &str) {
    let (word, name) = text.split_once(' ').unwrap_or(("", text));
    let kinds = match word {
        "struct" => &KINDS[..1],
        "union" => &KINDS[1..2],
        "enum" => &KINDS[2..4],
        "typedef" => &KINDS[4..5],
        // `long unsigned int` is a name of three words.
        _ => return (&KINDS, text),
    };
    (kinds, name.trim())
}

/// All types of a name, of the kinds that are wanted and in their order.
fn found<'a>(btf: &'a Btf, name: &str, kinds: &[Kind]) -> Vec<Type<'a>> {
    let all = btf.named(name);
    kinds.iter().flat_map(|&kind| all.iter().copied().filter(move |ty| ty.kind() == kind)).collect()
}

/// Says that there is no such type, and what there is instead.
fn no_type(btf: &Btf, asked: &str, name: &str, kinds: &[Kind]) -> String {
    let others = found(btf, name, &KINDS);
    let asked = Escaped(asked.as_bytes());
    if let Some(other) = others.first() {
        return format!("there is no type `{asked}`, but a {} of that name", other.kind().name());
    }
    if btf.named(name).iter().any(|ty| ty.kind() == Kind::FWD) {
        return format!("of `{asked}` there is only the name: what is in it is not among these types");
    }
    match btf.nearest(name, kinds) {
        Some(near) => format!("there is no type `{asked}`; did you mean `{}`?", Escaped(near.as_bytes())),
        None => format!("there is no type `{asked}`"),
    }
}
