//! What a register or a slot of the stack holds, in words.

use std::rc::Rc;

use bpfkit_asm::Helper;

use super::place::Place;

/// What is known of 8 bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// Nothing.
    #[default]
    Unknown,
    /// The number.
    Number(i64),
    /// An address: so many bytes from the start of something, where that is known.
    Address(Base, Option<i64>),
    /// The address of a map.
    Map(Rc<str>),
    /// A number or an address that has a name.
    Thing(Rc<Thing>),
}

/// Where addresses are counted from.
#[derive(Clone, Debug, PartialEq)]
pub enum Base {
    /// The program's context.
    Context,
    /// The top of the stack, r10.
    Stack,
    /// Memory that a helper gave, such as the value in a map.
    Region(Rc<Region>),
    /// A structure of the kernel, at this member of it.
    Member(Rc<Member>),
}

/// Memory that a helper gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// What it is: `the value in map `sockets``.
    pub words: Rc<str>,
    /// What is so if there is none: `map `sockets` has no such key`; and what is so if there is. None where it was seen to be there.
    pub doubt: Option<(Rc<str>, Rc<str>)>,
    /// The slot of the call that gave it.
    pub from: usize,
}

/// A member of a structure of the kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// `sock.__sk_common.skc_dport`
    pub path: Rc<str>,
    /// Bytes from the start of the structure.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// `__be16`
    pub kind: Rc<str>,
}

/// Something that has a name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thing {
    /// What it is, as a noun: `the result of tcp_v4_connect`.
    pub words: Rc<str>,
    /// How many bytes of it there are, the others being 0, where that is known.
    pub bytes: Option<u32>,
    /// What its halves are, where it is two numbers.
    pub pair: Option<&'static Pair>,
    /// The member of which it is a copy.
    pub member: Option<Rc<Member>>,
    /// Whether its bytes are in the order of the network.
    pub is_big_endian: bool,
    /// The structure to which it points.
    pub to: Option<Rc<str>>,
    /// The helper that gave it, which may have given a negative error.
    pub status: Option<Helper>,
    /// Whether it was made from another thing. Nothing is made from that in turn, so that words stay short and loops have an end.
    pub is_made: bool,
}

/// Two numbers of 4 bytes in one of 8.
#[derive(Debug, PartialEq)]
pub struct Pair {
    /// The lower 4 bytes.
    pub low: &'static str,
    /// The upper 4 bytes.
    pub high: &'static str,
}

impl Member {
    /// Whether the number is in the order of the network, by the name of its type.
    pub fn is_big_endian(&self) -> bool {
        matches!(&*self.kind, "__be16" | "__be32" | "__be64")
    }

    /// The structure to which it points.
    pub fn pointee(&self) -> Option<&str> {
        pointee(&self.kind)
    }
}

/// `sock` of `struct sock *`.
pub fn pointee(kind: &str) -> Option<&str> {
    let name = kind.trim_start_matches("const ").strip_prefix("struct ")?.strip_suffix(" *")?;
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some(name)
}

impl Thing {
    /// A thing of which no more is known than what it is.
    pub fn new(words: impl Into<Rc<str>>) -> Self {
        Self { words: words.into(), ..Self::default() }
    }

    /// A copy of a member.
    pub fn of_member(member: &Rc<Member>) -> Self {
        Self {
            bytes: Some(member.size),
            is_big_endian: member.is_big_endian(),
            to: member.pointee().map(Rc::from),
            member: Some(Rc::clone(member)),
            ..Self::new(Rc::clone(&member.path))
        }
    }

    /// Something that was made from it.
    fn made(&self, words: String) -> Value {
        if self.is_made { Value::Unknown } else { Self { is_made: true, ..Self::new(words) }.into() }
    }
}

impl From<Thing> for Value {
    fn from(thing: Thing) -> Self {
        Self::Thing(Rc::new(thing))
    }
}

impl Value {
    /// A thing of which no more is known than what it is.
    pub fn named(words: impl Into<Rc<str>>) -> Self {
        Thing::new(words).into()
    }

    /// What is known where two ways meet.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        match (self, other) {
            _ if self == other => self.clone(),
            (Self::Address(base, offset), Self::Address(other, other_offset)) => {
                let base = match (base, other) {
                    _ if base == other => base.clone(),
                    // Seen to be there on one way, but not on the other.
                    (Base::Region(one), Base::Region(two)) if (&one.words, one.from) == (&two.words, two.from) => {
                        Base::Region(Rc::clone(if one.doubt.is_some() { one } else { two }))
                    }
                    // Each way has looked for itself, and found one.
                    (Base::Region(one), Base::Region(two))
                        if one.words == two.words && one.doubt.is_none() && two.doubt.is_none() =>
                    {
                        Base::Region(Rc::clone(if one.from < two.from { one } else { two }))
                    }
                    _ => return Self::Unknown,
                };
                Self::Address(base, offset.filter(|_| offset == other_offset))
            }
            _ => Self::Unknown,
        }
    }

    /// It as a noun, where there is one.
    pub fn noun(&self) -> Option<String> {
        Some(match self {
            Self::Unknown => return None,
            Self::Number(number) => self::number(*number),
            Self::Map(name) => format!("map `{name}`"),
            Self::Thing(thing) => thing.words.to_string(),
            Self::Address(base, offset) => base.address(*offset),
        })
    }

    /// `len` of its bytes, the first of which is `from`; `size` is how many there are.
    pub fn part(&self, from: i64, len: i64, size: i64, place: &Place<'_>) -> Self {
        if from == 0 && len == size {
            return self.clone();
        }
        match self {
            Self::Number(number) => Self::Number(cut(number >> (from * 8).clamp(0, 63), len)),
            Self::Thing(thing) => match (thing.pair, from, len) {
                (Some(pair), 0, 4) => Thing { bytes: Some(4), ..Thing::new(pair.low) }.into(),
                (Some(pair), 4, 4) => Thing { bytes: Some(4), ..Thing::new(pair.high) }.into(),
                // The others are 0.
                _ if from == 0 && thing.bytes.is_some_and(|bytes| i64::from(bytes) <= len) => self.clone(),
                _ => match thing.member.as_ref().and_then(|member| place.member_in(member, from, len)) {
                    Some(member) => Thing::of_member(&Rc::new(member)).into(),
                    None => thing.made(format!("{} of {}", span(from, len), thing.words)),
                },
            },
            _ => Self::Unknown,
        }
    }

    /// It with a number added.
    pub fn plus(&self, add: i64) -> Self {
        match self {
            Self::Number(number) => Self::Number(number.wrapping_add(add)),
            Self::Address(base, offset) => {
                Self::Address(base.clone(), offset.and_then(|offset| offset.checked_add(add)))
            }
            Self::Thing(thing) if add >= 0 => thing.made(format!("{} + {}", thing.words, number(add))),
            _ => Self::Unknown,
        }
    }

    /// The lower bytes of a register, with zeros above.
    pub fn low(&self, len: i64, place: &Place<'_>) -> Self {
        match self {
            Self::Thing(thing) if len < 8 => match self.part(0, len, 8, place) {
                Self::Thing(part) if part.is_made && !thing.is_made => {
                    thing.made(format!("the lower {} of {}", count(len), thing.words))
                }
                part => part,
            },
            other => other.part(0, len, 8, place),
        }
    }
}

impl Base {
    /// The address that is so many bytes from here, as a noun.
    fn address(&self, offset: Option<i64>) -> String {
        match (self, offset) {
            (Self::Context, Some(0)) => "the context".to_owned(),
            (Self::Context, Some(at)) => format!("the address of byte {at} of the context"),
            (Self::Context, None) => "an address in the context".to_owned(),
            (Self::Stack, Some(0)) => "the top of the stack".to_owned(),
            (Self::Stack, Some(at)) => format!("the address r10{at:+} on the stack"),
            (Self::Stack, None) => "an address on the stack".to_owned(),
            (Self::Region(region), Some(0)) => format!("the address of {}", region.words),
            (Self::Region(region), Some(at)) => format!("the address of byte {at} of {}", region.words),
            (Self::Region(region), None) => format!("an address in {}", region.words),
            (Self::Member(member), Some(0)) => format!("the address of {}", member.path),
            (Self::Member(member), Some(at)) => format!("the address {at} bytes after the start of {}", member.path),
            (Self::Member(member), None) => format!("an address counted from {}", member.path),
        }
    }

    /// `len` bytes there, as a noun.
    pub fn bytes(&self, offset: Option<i64>, len: i64) -> String {
        let bytes = count(len);
        match (self, offset) {
            (Self::Context, Some(at)) => format!("{} of the context", span(at, len)),
            (Self::Context, None) => format!("{bytes} of the context"),
            (Self::Stack, Some(at)) => format!("{bytes} of the stack {}", from_top(at)),
            (Self::Stack, None) => format!("{bytes} of the stack"),
            (Self::Region(region), Some(at)) => format!("{} of {}", span(at, len), region.words),
            (Self::Region(region), None) => format!("{bytes} of {}", region.words),
            (Self::Member(member), Some(0)) if i64::from(member.size) == len => member.path.to_string(),
            (Self::Member(member), Some(at)) => format!("{} from {} on", span(at, len), member.path),
            (Self::Member(member), None) => format!("{bytes} at an address counted from {}", member.path),
        }
    }
}

/// `on the stack at r10-8`
pub fn stack(at: i64) -> String {
    format!("on the stack at r10{at:+}")
}

fn from_top(at: i64) -> String {
    format!("at r10{at:+}")
}

/// `1 byte`, `8 bytes`
pub fn count(bytes: i64) -> String {
    if bytes == 1 { "1 byte".to_owned() } else { format!("{bytes} bytes") }
}

/// `the first 4 bytes`, `bytes 4 to 7`
pub fn span(from: i64, len: i64) -> String {
    match (from, len) {
        (0, 1) => "the first byte".to_owned(),
        (0, len) => format!("the first {len} bytes"),
        (from, 1) => format!("byte {from}"),
        (from, len) => format!("bytes {from} to {}", from.saturating_add(len - 1)),
    }
}

/// A number: in decimal, and those with many digits in hexadecimal.
pub fn number(number: i64) -> String {
    if (-99_999..=99_999).contains(&number) { number.to_string() } else { format!("{number:#x}") }
}

/// The lower bytes of a number.
pub fn cut(number: i64, bytes: i64) -> i64 {
    match bytes {
        1..=7 => number & ((1 << (bytes * 8)) - 1),
        _ => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static HALVES: Pair = Pair { low: "the thread", high: "the process" };

    #[test]
    fn parts_have_names_where_the_whole_has() {
        let place = Place::default();
        let both: Value = Thing { pair: Some(&HALVES), ..Thing::new("both") }.into();
        let noun = |value: Value| value.noun();
        assert_eq!(noun(both.part(4, 4, 8, &place)).as_deref(), Some("the process"));
        assert_eq!(noun(both.low(4, &place)).as_deref(), Some("the thread"));
        let part = both.part(2, 2, 8, &place);
        assert_eq!(noun(part.clone()).as_deref(), Some("bytes 2 to 3 of both"));
        assert_eq!(part.part(1, 1, 2, &place), Value::Unknown);
        assert_eq!(Value::Number(0x1234_5678).part(2, 1, 4, &place), Value::Number(0x34));
        assert_eq!(Value::Number(-1).low(4, &place), Value::Number(0xffff_ffff));
    }

    #[test]
    fn where_ways_meet_only_what_both_know_is_left() {
        let region = |doubt: bool, from| {
            let doubt = doubt.then(|| ("none".into(), "one".into()));
            Value::Address(Base::Region(Rc::new(Region { words: "the value".into(), doubt, from })), Some(0))
        };
        assert_eq!(region(false, 7).join(&region(true, 7)), region(true, 7));
        assert_eq!(region(false, 7).join(&region(false, 8)), region(false, 7));
        assert_eq!(region(false, 7).join(&region(true, 8)), Value::Unknown);
        let stack = |at| Value::Address(Base::Stack, Some(at));
        assert_eq!(stack(-8).join(&stack(-16)), Value::Address(Base::Stack, None));
        assert_eq!(Value::Number(1).join(&Value::Number(2)), Value::Unknown);
    }
}
