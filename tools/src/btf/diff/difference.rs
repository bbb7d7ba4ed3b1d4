//! A difference, as text and as JSON.

use std::fmt::Write;

use bpfkit_btf::Kind;
use serde::Serialize;

use crate::Escaped;

/// What can be different, in the order that it is printed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Class {
    Struct,
    Union,
    Enum,
    Typedef,
    Func,
}

impl Class {
    pub const ALL: [Self; 5] = [Self::Struct, Self::Union, Self::Enum, Self::Typedef, Self::Func];

    pub fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Struct => &[Kind::STRUCT],
            Self::Union => &[Kind::UNION],
            Self::Enum => &[Kind::ENUM, Kind::ENUM64],
            Self::Typedef => &[Kind::TYPEDEF],
            Self::Func => &[Kind::FUNC],
        }
    }

    pub fn word(self) -> &'static str {
        ["struct", "union", "enum", "typedef", "func"][usize::from(self as u8)]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Change {
    Added,
    Removed,
    Changed,
}

impl Change {
    fn sign(self) -> char {
        match self {
            Self::Added => '+',
            Self::Removed => '-',
            Self::Changed => '~',
        }
    }
}

/// A type that is different.
#[derive(Serialize)]
pub(super) struct Difference {
    pub change: Change,
    pub kind: Class,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// What a type is as a whole.
#[derive(PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Value {
    Size(u32),
    Text(String),
}

/// A member or a value that is different.
#[derive(Serialize)]
pub(super) struct Part {
    pub change: Change,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Place>,
}

/// Where a member is and what, or which value it is.
#[derive(Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Place {
    Member {
        offset: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        bits: Option<Bits>,
        size: u32,
        #[serde(rename = "type")]
        type_name: String,
    },
    Value(i64),
}

/// The bits of a bit field, from the start of the structure.
#[derive(Clone, Copy, PartialEq, Serialize)]
pub(super) struct Bits {
    pub offset: u64,
    pub size: u32,
}

impl Difference {
    pub fn text(&self) -> String {
        let value = |value: &Value| match value {
            Value::Size(size) => amount(*size),
            Value::Text(text) => text.clone(),
        };
        let sign = self.change.sign();
        let mut text = format!("{sign} {} {}", self.kind.word(), Escaped(self.name.as_bytes()));
        let _ = match (&self.old, &self.new) {
            (Some(old), Some(new)) if old == new => writeln!(text, ": {}", value(new)),
            (Some(Value::Size(old)), Some(Value::Size(new))) => writeln!(text, ": {old} -> {new} bytes"),
            (Some(old), Some(new)) => writeln!(text, "\n    - {}\n    + {}", value(old), value(new)),
            (Some(one), None) | (None, Some(one)) => writeln!(text, ": {}", value(one)),
            (None, None) => writeln!(text),
        };
        let mut parts = self.parts.as_slice();
        while let Some(part) = parts.first() {
            // Members that have moved together by something in front of them are one line.
            let together = match part.moved() {
                Some(by) => parts.iter().take_while(|part| part.moved() == Some(by)).count(),
                None => 1,
            };
            if let (Some(by), Some(last)) = (part.moved(), parts.get(together - 1).filter(|_| together > 2)) {
                let (first, last) = (Escaped(part.name.as_bytes()), Escaped(last.name.as_bytes()));
                let _ = writeln!(text, "    ~ {together} members from {first} to {last} moved by {}", bytes(by));
            } else {
                parts[..together].iter().for_each(|part| part.write(&mut text));
            }
            parts = &parts[together..];
        }
        text
    }
}

impl Part {
    /// By how many bits a member has moved that is the same otherwise.
    fn moved(&self) -> Option<i128> {
        let (Some(Place::Member { type_name, size, .. }), Some(Place::Member { type_name: other, size: bytes, .. })) =
            (&self.old, &self.new)
        else {
            return None;
        };
        let (old, new) = (self.old.as_ref()?.bits()?, self.new.as_ref()?.bits()?);
        let is_same = type_name == other && size == bytes && old.1 == new.1 && old.0 != new.0;
        is_same.then(|| i128::from(new.0) - i128::from(old.0))
    }

    fn write(&self, text: &mut String) {
        let name = Escaped(self.name.as_bytes());
        let sign = self.change.sign();
        let _ = match (&self.old, &self.new) {
            (Some(Place::Value(old)), Some(Place::Value(new))) => writeln!(text, "    {sign} {name}: {old} -> {new}"),
            (Some(Place::Value(value)), None) | (None, Some(Place::Value(value))) => {
                writeln!(text, "    {sign} {name} = {value}")
            }
            (Some(old), Some(new)) => match self.moved() {
                Some(by) => writeln!(text, "    {sign} {name}: moved by {}, to {}", bytes(by), new.at()),
                None => writeln!(text, "    {sign} {name}: {} -> {}", old.spelt(), new.spelt()),
            },
            (Some(one), None) | (None, Some(one)) => writeln!(text, "    {sign} {name}: {}", one.spelt()),
            (None, None) => Ok(()),
        };
    }
}

impl Place {
    /// The first bit, and how many there are of a bit field.
    fn bits(&self) -> Option<(u64, Option<u32>)> {
        match self {
            Self::Member { offset, bits, .. } => {
                Some(bits.map_or((*offset * 8, None), |bits| (bits.offset, Some(bits.size))))
            }
            Self::Value(_) => None,
        }
    }

    fn at(&self) -> String {
        match self {
            Self::Member { bits: Some(bits), .. } => format!("{}:{}", bits.offset / 8, bits.offset % 8),
            Self::Member { offset, .. } => offset.to_string(),
            Self::Value(value) => value.to_string(),
        }
    }

    fn spelt(&self) -> String {
        match self {
            Self::Member { bits: Some(bits), type_name, .. } => format!("{type_name}:{} at {}", bits.size, self.at()),
            Self::Member { size, type_name, .. } => format!("{type_name}, {} at {}", amount(*size), self.at()),
            Self::Value(value) => value.to_string(),
        }
    }
}

fn amount(bytes: u32) -> String {
    if bytes == 1 { "1 byte".to_owned() } else { format!("{bytes} bytes") }
}

fn bytes(bits: i128) -> String {
    if bits % 8 == 0 { format!("{:+}", bits / 8) } else { format!("{bits:+} bits") }
}
