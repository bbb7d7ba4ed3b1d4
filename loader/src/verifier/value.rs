//! What the verifier knows of a register or of a slot of the stack, read from the notation of any kernel from 4.18 up.
//!
//! The notation is that of `print_reg_state` in kernel/bpf/log.c, before Linux 6.7 of `print_verifier_state` in
//! kernel/bpf/verifier.c: `inv(id=0,umax_value=255,var_off=(0x0; 0xff))` became `scalar(umax=255,var_off=(0x0; 0xff))` in 5.18 and
//! `scalar(smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))` in 6.8.

use super::range::Range;

/// What a register or a slot of the stack holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Value {
    /// What it is.
    pub what: What,
    /// Whether a pointer may be NULL instead.
    pub or_null: bool,
    /// Properties of a pointer that stand before its type, as the kernel calls them: `trusted`, `rcu`, `rdonly`.
    pub flags: Vec<&'static str>,
    /// Whether a decision of the verifier depends on the very number (`P`).
    pub precise: bool,
    /// The number that values with one origin share, 0 for none: what is learnt of one holds for all.
    pub id: u32,
    /// How much more it is than others with the same [`Value::id`].
    pub delta: i64,
    /// The reference that must be released, 0 for none.
    pub ref_id: u32,
    /// Bytes from what it points to, so far as they are known.
    pub offset: i64,
    /// A number, or what is added to [`Value::offset`] beside it.
    pub range: Range,
    /// The map that it points to or into.
    pub map: Option<MapOf>,
    /// How many bytes are known to be there: of a packet behind its pointer, of memory.
    pub size: Option<u64>,
    /// The upper bytes of a stack slot of which only the lower are this value, as [`What::Bytes`] has them.
    pub above: String,
    /// What was printed beside that and is not known here, as it was printed.
    pub more: Vec<String>,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// A number.
    Scalar,
    /// A pointer into the stack, of this frame of calls where it is not the current one's.
    Stack {
        /// The frame, 0 for the program's first function.
        frame: Option<u32>,
    },
    /// A pointer of the kind that the kernel calls so, such as `ctx`, `map_value`, `pkt`.
    Pointer(&'static str),
    /// A pointer to a type of the kernel's BTF, or to one of the program's.
    Btf(String),
    /// Bytes of the stack without a value of their own, the one at the highest address first: `m` anything, `0` zero, `?` not
    /// written, `r` part of a spilled register, `d` of a dynptr, `i` of an iterator, `f` saved flags of interrupts.
    Bytes(String),
    /// A dynptr of this kind on the stack.
    Dynptr(String),
    /// An iterator of this kind on the stack.
    Iterator(String),
    /// Something that is not known here, as it was printed.
    Other(String),
}

/// The map that a value belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapOf {
    /// Its name, which Linux tells from 6.8 on.
    pub name: Option<String>,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
}

/// `reg_type_str`, without what has a form of its own.
const POINTERS: [&str; 20] = [
    "ctx",
    "map_ptr",
    "map_value",
    "map_key",
    "pkt",
    "pkt_meta",
    "pkt_end",
    "flow_keys",
    "sock",
    "sock_common",
    "tcp_sock",
    "tp_buffer",
    "xdp_sock",
    "mem",
    "arena",
    "buf",
    "func",
    "insn",
    "dynptr_ptr",
    "map",
];
/// What may stand before them. `alloc_` was the name of `ringbuf_` until 6.2; before 5.17 `rdonly_` and `rdwr_` were part of the types.
const FLAGS: [&str; 9] = ["rdonly", "rdwr", "ringbuf", "alloc", "user", "percpu", "rcu", "untrusted", "trusted"];

impl Value {
    fn of(what: What) -> Self {
        Self {
            what,
            or_null: false,
            flags: Vec::new(),
            precise: false,
            id: 0,
            delta: 0,
            ref_id: 0,
            offset: 0,
            range: Range::UNKNOWN,
            map: None,
            size: None,
            above: String::new(),
            more: Vec::new(),
        }
    }

    /// A number that is known.
    pub fn number(value: u64) -> Self {
        Self { range: Range::exactly(value), ..Self::of(What::Scalar) }
    }

    /// What a register holds.
    pub fn parse(text: &str) -> Self {
        Self::read(text).unwrap_or_else(|| Self::of(What::Other(text.to_owned())))
    }

    /// What a slot of the stack holds: bytes, a register that was spilled, or bytes above a part of a register.
    pub fn parse_slot(text: &str) -> Self {
        let is_byte = |c: char| "?rm0dif".contains(c);
        if text.len() == 8 && text.chars().all(is_byte) {
            return Self::of(What::Bytes(text.to_owned()));
        }
        if let Some(dynptr) = text.strip_prefix("dynptr_").filter(|rest| !rest.starts_with("ptr")) {
            let (kind, rest) = split_name(dynptr);
            return Self::of(What::Dynptr(kind.to_owned())).with(rest);
        }
        if let Some(iterator) = text.strip_prefix("iter_") {
            let (kind, rest) = split_name(iterator);
            return Self::of(What::Iterator(kind.to_owned())).with(rest);
        }
        if let Some(value) = Self::read(text) {
            return value;
        }
        let above = text.find(|c| !"?m0".contains(c)).filter(|&above| (1..8).contains(&above));
        let part = above.and_then(|above| Some((&text[..above], Self::read(&text[above..])?)));
        part.map_or_else(
            || Self::of(What::Other(text.to_owned())),
            |(above, value)| Self { above: above.to_owned(), ..value },
        )
    }

    /// Whether it is a number.
    pub fn is_scalar(&self) -> bool {
        self.what == What::Scalar
    }

    /// The number, where it is known.
    pub fn constant(&self) -> Option<u64> {
        self.range.constant().filter(|_| self.is_scalar() && self.above.is_empty())
    }

    /// Where on the stack it points, where that is known: the frame if it is not the current one, and bytes from its top.
    pub fn stack_offset(&self) -> Option<(Option<u32>, i64)> {
        match self.what {
            What::Stack { frame } => self.range.constant().map(|added| {
                let added = added.cast_signed();
                (frame, self.offset.wrapping_add(added))
            }),
            _ => None,
        }
    }

    fn read(text: &str) -> Option<Self> {
        // The mark of precision stands before the value, before 5.18 behind `inv`.
        let (old, rest) = text.strip_prefix("inv").map_or((false, text), |rest| (true, rest));
        let unmarked = rest.strip_prefix('P').filter(|rest| {
            old || rest.starts_with(|c: char| c.is_ascii_digit() || c == '-') || rest.starts_with("scalar")
        });
        let (precise, rest) = unmarked.map_or((false, rest), |rest| (true, rest));
        let scalar = Self { precise, ..Self::of(What::Scalar) };
        if let Some(number) = number(rest, false) {
            return Some(Self { range: Range::exactly(number), ..scalar });
        }
        if let Some(attributes) = rest.strip_prefix("scalar").or_else(|| old.then_some(rest)) {
            return (attributes.is_empty() || attributes.starts_with('(')).then(|| scalar.with(attributes));
        }
        Self::read_stack(text).or_else(|| Self::read_pointer(text))
    }

    /// `fp-8`, `fp[1]-8`, `fp(off=-64,umax=8)`; before Linux 5.1 `fp-8,call_-1`; before 6.3 `fp` alone for one that was spilled.
    fn read_stack(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("fp")?;
        let in_frame = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (frame, rest) = match in_frame {
            Some((frame, rest)) => (Some(frame.parse().ok()?), rest),
            None => (None, rest),
        };
        let pointer = Self { range: Range::exactly(0), ..Self::of(What::Stack { frame }) };
        if rest.is_empty() {
            return Some(Self { range: Range::UNKNOWN, ..pointer });
        }
        if rest.starts_with('(') {
            return Some(pointer.with(rest));
        }
        let rest = rest.split_once(",call_").map_or(rest, |(offset, _)| offset);
        number(rest, false).map(|offset| Self { offset: offset.cast_signed(), ..pointer })
    }

    fn read_pointer(text: &str) -> Option<Self> {
        let (mut name, attributes) = split_name(text);
        let mut flags = Vec::new();
        while let Some((flag, rest)) =
            FLAGS.iter().find_map(|flag| Some((*flag, name.strip_prefix(flag)?.strip_prefix('_')?)))
        {
            flags.push(flag);
            name = rest;
        }
        let (what, or_null) = if let Some(name) = name.strip_prefix("ptr_") {
            let to = name.strip_prefix("or_null_");
            (What::Btf(to.unwrap_or(name).to_owned()), to.is_some())
        } else {
            let plain = name.strip_suffix("_or_null");
            let known = POINTERS.iter().find(|known| **known == plain.unwrap_or(name))?;
            (What::Pointer(known), plain.is_some())
        };
        let start = Self { or_null, flags, range: Range::exactly(0), ..Self::of(what) };
        Some(start.with(attributes))
    }

    /// Adds what stands in parentheses. A pointer without anything about the rest of its offset has none.
    fn with(mut self, attributes: &str) -> Self {
        let inner = attributes.strip_prefix('(').map_or(attributes, |rest| rest.strip_suffix(')').unwrap_or(rest));
        let (mut limits, mut hexadecimal) = (Range::UNKNOWN, false);
        let mut is_limited = false;
        for attribute in split_outside(inner, ',') {
            let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let parsed = self
                .set(key, value, &mut hexadecimal)
                .or_else(|| limits.limit(attribute).inspect(|()| is_limited = true));
            if parsed.is_none() {
                self.more.push(attribute.to_owned());
            }
        }
        if is_limited || self.is_scalar() {
            self.range = limits;
        }
        self
    }

    /// Sets what is no limit of a number. `hexadecimal` says how the constant part of an offset is printed.
    fn set(&mut self, key: &str, value: &str, hexadecimal: &mut bool) -> Option<()> {
        match key {
            "id" => self.set_id(value)?,
            "ref_obj_id" | "ref_id" => self.ref_id = value.parse().ok()?,
            "off" => {
                self.offset = number(value, false)?.cast_signed();
                // Only before Linux 6.8 is an offset of 0 printed, and there the next number is hexadecimal without a prefix.
                *hexadecimal = !value.starts_with("0x") && self.map.as_ref().is_none_or(|map| map.name.is_none());
            }
            "imm" => self.offset = self.offset.wrapping_add(number(value, *hexadecimal)?.cast_signed()),
            "r" | "sz" | "mem_size" => self.size = Some(number(value, false)?),
            "map" => self.map.get_or_insert_default().name = Some(value.to_owned()),
            "ks" => self.map.get_or_insert_default().key_size = value.parse().ok()?,
            "vs" => self.map.get_or_insert_default().value_size = value.parse().ok()?,
            _ => return None,
        }
        Some(())
    }

    /// `2`, or `2+8` for one that is 8 more than others.
    fn set_id(&mut self, text: &str) -> Option<()> {
        let end = text.find(['+', '-']).unwrap_or(text.len());
        self.id = text[..end].parse().ok()?;
        self.delta = number(text[end..].trim_start_matches('+'), false).map_or(0, u64::cast_signed);
        Some(())
    }
}

/// A name and what follows it in parentheses.
fn split_name(text: &str) -> (&str, &str) {
    text.split_at(text.find('(').unwrap_or(text.len()))
}

/// Splits at a character, but not where it is in parentheses; what is empty is left out.
pub(super) fn split_outside(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    text.split(move |c| {
        match c {
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == separator && depth == 0
    })
    .filter(|part| !part.is_empty())
}

/// A number of 64 bits as the kernel prints it: decimal with or without a sign, or hexadecimal with `0x` and, where it is bare, without.
pub(super) fn number(text: &str, bare: bool) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok();
    }
    if bare {
        return u64::from_str_radix(text, 16).ok();
    }
    match text.starts_with('-') {
        true => text.parse::<i64>().ok().map(i64::cast_unsigned),
        false if text.starts_with(|c: char| c.is_ascii_digit()) => text.parse().ok(),
        false => None,
    }
}
