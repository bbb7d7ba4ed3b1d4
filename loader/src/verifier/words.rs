//! Values in plain words.

use super::range::Range;
use super::value::{MapOf, Value, What};

impl Value {
    /// What it is, in plain words: `a number from 0 to 255`, `a pointer 8 bytes below the top of the stack frame`.
    pub fn in_words(&self) -> String {
        let mut words = match &self.what {
            What::Scalar => self.range.in_words(),
            What::Stack { frame } => self.stack_in_words(*frame),
            What::Pointer("ctx") => self.at("the context"),
            What::Pointer("map_ptr" | "map") => self.map_name(),
            What::Pointer("map_value") => {
                let size = self.map.as_ref().map_or(0, |map| map.value_size);
                self.at(&format!("a value of {}, {size} bytes", self.map_name()))
            }
            What::Pointer("map_key") => self.at(&format!("a key of {}", self.map_name())),
            What::Pointer("pkt") => {
                let known = self.size.map_or(String::new(), |size| format!(", {size} bytes known to be there"));
                self.at(&format!("the packet{known}"))
            }
            What::Pointer("pkt_meta") => self.at("the metadata before the packet"),
            What::Pointer("pkt_end") => "the end of the packet".to_owned(),
            What::Pointer("flow_keys") => self.at("the keys of the flow"),
            What::Pointer("mem" | "buf") => {
                let size = self.size.map_or(String::new(), |size| format!("{size} bytes of "));
                self.at(&format!("{size}memory"))
            }
            What::Pointer("func") => "the address of a function of the program".to_owned(),
            What::Pointer(other) => self.at(&format!("a {other}")),
            What::Btf(name) => self.at(&format!("a {name} of the kernel")),
            What::Bytes(bytes) => bytes_in_words(bytes),
            What::Dynptr(kind) => format!("a dynptr to {kind} memory"),
            What::Iterator(kind) => format!("an iterator over {kind}"),
            What::Other(text) => format!("`{text}`"),
        };
        for flag in &self.flags {
            let more = match *flag {
                "trusted" => ", alive while the program runs",
                "rcu" => ", alive until the RCU lock is released",
                "untrusted" => ", perhaps no longer alive",
                "rdonly" => ", not to be written",
                "user" => ", in the process's memory",
                "percpu" => ", one for each CPU",
                "ringbuf" | "alloc" => ", reserved in a ring buffer",
                _ => "",
            };
            words.push_str(more);
        }
        if self.or_null {
            words.push_str(", or NULL");
        }
        if !self.above.is_empty() {
            let below = 8_usize.saturating_sub(self.above.len());
            words = format!("{words} in the lower {below} bytes");
        }
        words
    }

    fn map_name(&self) -> String {
        match self.map.as_ref() {
            Some(MapOf { name: Some(name), .. }) => format!("the map `{name}`"),
            _ => "a map".to_owned(),
        }
    }

    /// A pointer to something, with how far from its beginning it is.
    fn at(&self, what: &str) -> String {
        let added = self.range.constant();
        let offset = self.offset.wrapping_add(added.unwrap_or_default().cast_signed());
        let known = match offset {
            0 => String::new(),
            1.. => format!("{offset} bytes into "),
            _ => format!("{} bytes before ", offset.unsigned_abs()),
        };
        let rest = if added.is_none() { format!(" plus {}", self.range.in_words()) } else { String::new() };
        format!("a pointer {}{what}{rest}", if known.is_empty() { "to " } else { &known })
    }

    fn stack_in_words(&self, frame: Option<u32>) -> String {
        let whose = match frame {
            Some(frame) => format!("the stack frame {frame}"),
            None => "the stack frame".to_owned(),
        };
        match self.stack_offset() {
            Some((_, 0)) => format!("the address of the top of {whose}"),
            Some((_, offset @ ..0)) => format!("a pointer {} bytes below the top of {whose}", offset.unsigned_abs()),
            Some((_, offset)) => format!("a pointer {offset} bytes above the top of {whose}"),
            None if self.range == Range::UNKNOWN => format!("a pointer somewhere into {whose}"),
            None => {
                let from = if self.offset == 0 { String::new() } else { format!("{} bytes and ", self.offset) };
                format!("a pointer {from}{} from the top of {whose}", self.range.in_words())
            }
        }
    }
}

impl Range {
    /// The number in plain words.
    pub fn in_words(&self) -> String {
        if let Some(number) = self.constant() {
            return format!("the number {}", decimal(number.cast_signed()));
        }
        let multiple = match self.multiple_of() {
            1 => String::new(),
            multiple => format!(", a multiple of {multiple}"),
        };
        let words = match (self.natural(), self.signed) {
            (Some((0, 0xffff_ffff)), _) => "a number of 32 bits".to_owned(),
            (Some((0, 0xffff)), _) => "a number of 16 bits".to_owned(),
            (Some((least, most)), _) if most == i64::MAX.cast_unsigned() && least > 0 => {
                format!("a number of at least {least}")
            }
            (Some((0, most)), _) if most == i64::MAX.cast_unsigned() => "a number that is not negative".to_owned(),
            (Some((least, most)), _) => format!("a number from {least} to {most}"),
            (None, (i64::MIN, i64::MAX)) => match self.unsigned {
                (0, u64::MAX) => "any number".to_owned(),
                (0, most) => format!("a number from 0 to {most}"),
                (least, u64::MAX) => format!("a number of at least {least}, or a negative one"),
                (least, most) => format!("a number from {least} to {most}"),
            },
            (None, (i64::MIN, most)) => format!("a number of at most {}", decimal(most)),
            (None, (least, i64::MAX)) => format!("a number of at least {}", decimal(least)),
            (None, (least, most)) => format!("a number from {} to {}", decimal(least), decimal(most)),
        };
        words + &multiple
    }
}

/// Numbers that nobody reads in decimal are hexadecimal.
fn decimal(number: i64) -> String {
    match number.unsigned_abs() {
        ..=0xffff_ffff => number.to_string(),
        large => format!("{}{large:#x}", if number < 0 { "-" } else { "" }),
    }
}

/// Bytes of a slot, how many of each kind, from the lowest address up.
fn bytes_in_words(bytes: &str) -> String {
    let mut runs: Vec<(char, usize)> = Vec::new();
    for byte in bytes.chars().rev() {
        match runs.last_mut() {
            Some((last, count)) if *last == byte => *count += 1,
            _ => runs.push((byte, 1)),
        }
    }
    let run = |(byte, count): &(char, usize)| {
        let what = match byte {
            'm' => "of any value",
            '0' => "of zero",
            '?' => "not written",
            'r' => "of a register",
            'd' => "of a dynptr",
            'i' => "of an iterator",
            'f' => "of saved interrupt flags",
            _ => "of something else",
        };
        format!("{count} byte{} {what}", if *count == 1 { "" } else { "s" })
    };
    runs.iter().map(run).collect::<Vec<_>>().join(", then ")
}
