//! `bpfkit btf field`: where a member is, in one kernel or in many.

use bpfkit_btf::Field;
use serde::Serialize;

use super::source::Inputs;
use crate::cli::Question;
use crate::error::Chain;
use crate::output::Output;
use crate::{Columns, Error, Escaped};

/// Print the offset, the size and the type of a member, for one kernel or for many
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Such as `sk_buff.dev`, `sock.__sk_common.skc_dport`, `in6_addr.in6_u.u6_addr32[3]`; `task_struct.state|task_struct.__state`
    /// is the first of these that there is
    path: String,
    #[command(flatten)]
    inputs: Inputs,
    /// Print one JSON object a line for each kernel: `kernel`, `path`, `offset`, `size`, `type`, `bits` as `offset` from the start
    /// of the structure and `size`, `changed` since the kernel before; or `error`
    #[arg(long)]
    json: bool,
}

/// A kernel's answer as JSON has it.
#[derive(Serialize)]
struct Row<'a> {
    kernel: &'a str,
    #[serde(flatten)]
    place: Option<Place<'a>>,
    changed: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct Place<'a> {
    path: &'a str,
    offset: u32,
    size: u32,
    #[serde(rename = "type")]
    type_name: &'a str,
    bits: Option<Bits>,
}

#[derive(Serialize)]
struct Bits {
    offset: u32,
    size: u32,
}

impl Question for Args {
    fn answer(&self, output: &mut Output) -> Result<(), Error> {
        let sources = self.inputs.open()?;
        let mut fields: Vec<(&str, Result<Field, String>)> = Vec::new();
        for source in &sources {
            let field = source.btf.field(&self.path);
            if let (Err(error), [_]) = (&field, sources.as_slice()) {
                return Err(Error::Request(Escaped(Chain(error).to_string().as_bytes()).to_string()));
            }
            fields.push((&source.name, field.map_err(|error| Chain(&error).to_string())));
        }
        if let Some((_, Err(text))) = fields.first()
            && fields.iter().all(|(_, field)| field.is_err())
        {
            return Err(Error::Request(format!(
                "in none of the {} kernels: {}",
                fields.len(),
                Escaped(text.as_bytes())
            )));
        }
        let printed = if self.json { json(&fields, output) } else { table(&fields, output) };
        printed.and_then(|()| output.flush())
    }
}

fn json(fields: &[(&str, Result<Field, String>)], output: &mut Output) -> Result<(), Error> {
    let mut last = None;
    for (index, (kernel, field)) in fields.iter().enumerate() {
        let place = field.as_ref().ok().map(|field| Place {
            path: &field.path,
            offset: field.offset,
            size: field.size,
            type_name: &field.type_name,
            bits: field.bits.map(|bits| Bits { offset: bits.offset, size: bits.size }),
        });
        let changed = if index == 0 { Vec::new() } else { changes(last, field.as_ref().ok()) };
        output.json(&Row { kernel, place, changed, error: field.as_ref().err().map(String::as_str) })?;
        last = field.as_ref().ok();
    }
    Ok(())
}

fn table(fields: &[(&str, Result<Field, String>)], output: &mut Output) -> Result<(), Error> {
    let text = |text: &str| Escaped(text.as_bytes()).to_string();
    let are_many = fields.len() > 1;
    let mut rows = vec![["KERNEL", "OFFSET", "SIZE", "BITS", "PATH", "TYPE", "CHANGE"].map(str::to_owned)];
    let mut last = None;
    for (index, (kernel, field)) in fields.iter().enumerate() {
        let found = field.as_ref().ok();
        let change = if index == 0 { String::new() } else { changes(last, found).join(", ") };
        let none = || "-".to_owned();
        rows.push(match field {
            Ok(field) => {
                let bits = field.bits.map(|bits| format!("{}:{}", bits.offset - field.offset * 8, bits.size));
                let [path, type_name] = [&field.path, &field.type_name].map(|name| text(name));
                let (offset, size) = (field.offset.to_string(), field.size.to_string());
                [text(kernel), offset, size, bits.unwrap_or_else(none), path, type_name, text(&change)]
            }
            Err(error) => [text(kernel), none(), none(), none(), none(), text(error), text(&change)],
        });
        last = found;
    }
    // One kernel changes nothing, and a column that is the same in all rows tells nothing.
    let is_shown = |column: usize| match column {
        0 | 6 => are_many,
        3 => rows[1..].iter().any(|row| row[3] != "-"),
        4 => {
            fields
                .iter()
                .filter_map(|(_, field)| field.as_ref().ok())
                .any(|field| fields[0].1.as_ref().is_ok_and(|first| first.path != field.path))
                || fields[0].1.is_err()
        }
        _ => true,
    };
    let shown: Vec<usize> = (0..7).filter(|&column| is_shown(column)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let mut columns = Columns::new(shown.iter().map(|&column| ("", width(column))));
    for row in &rows {
        let cells: Vec<String> = shown.iter().map(|&column| row[column].clone()).collect();
        output.line(columns.row(&cells).trim_end())?;
    }
    Ok(())
}

/// What is different from the kernel before.
fn changes(old: Option<&Field>, new: Option<&Field>) -> Vec<String> {
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        (Some(_), None) => return vec!["gone".to_owned()],
        (None, Some(_)) => return vec!["new".to_owned()],
        (None, None) => return Vec::new(),
    };
    let mut changes = Vec::new();
    if old.path != new.path {
        changes.push(format!("was {}", old.path));
    }
    let place = |field: &Field| field.bits.map_or(u64::from(field.offset) * 8, |bits| bits.offset.into());
    if place(old) != place(new) {
        let (bits, sign) = (place(old).abs_diff(place(new)), if place(old) < place(new) { '+' } else { '-' });
        changes.push(match bits % 8 {
            0 => format!("moved by {sign}{}", bits / 8),
            _ => format!("moved by {sign}{bits} bits"),
        });
    }
    if old.size != new.size {
        changes.push(format!("size was {}", old.size));
    }
    match (old.bits, new.bits) {
        (Some(old), Some(new)) if old.size != new.size => changes.push(format!("had {} bits", old.size)),
        (Some(_), None) => changes.push("was a bit field".to_owned()),
        (None, Some(_)) => changes.push("was no bit field".to_owned()),
        _ => {}
    }
    if old.type_name != new.type_name {
        changes.push(format!("type was {}", old.type_name));
    }
    changes
}

#[cfg(test)]
mod tests {
    use bpfkit_btf::{BitField, TypeId};

    use super::*;

    fn field(offset: u32, size: u32, bits: Option<(u32, u32)>, type_name: &str) -> Field {
        let bits = bits.map(|(offset, size)| BitField { offset, size });
        Field { path: "s.m".to_owned(), offset, size, bits, ty: TypeId(1), type_name: type_name.to_owned() }
    }

    #[test]
    fn every_change_is_said() {
        let (old, new) = (field(8, 4, None, "int"), field(16, 8, None, "long"));
        assert_eq!(changes(Some(&old), Some(&new)), ["moved by +8", "size was 4", "type was int"]);
        assert_eq!(changes(Some(&new), Some(&old)), ["moved by -8", "size was 8", "type was long"]);
        assert_eq!(changes(Some(&old), Some(&old)), [""; 0]);
        assert_eq!((changes(Some(&old), None), changes(None, Some(&old))), (vec!["gone".into()], vec!["new".into()]));
        let (narrow, wide) = (field(0, 1, Some((3, 1)), "u8"), field(0, 1, Some((4, 2)), "u8"));
        assert_eq!(changes(Some(&narrow), Some(&wide)), ["moved by +1 bits", "had 1 bits"]);
        let whole = field(0, 1, None, "u8");
        assert_eq!(changes(Some(&whole), Some(&narrow)), ["moved by +3 bits", "was no bit field"]);
        let other = Field { path: "s.n".to_owned(), ..whole.clone() };
        assert_eq!(changes(Some(&whole), Some(&other)), ["was s.m"]);
    }
}
