//! Instructions by their numbers: what has no better form, and what an object file says of an instruction beside its bytes.

use crate::parser::{Parser, Result};
use crate::token::{Host, TokenKind};
use crate::{Callee, Pseudo, Reference, Reg, Stmt, Value};

/// Whether the grammar takes this as a name of a map or a function: words and numbers, joined by dots, perhaps after one.
pub fn is_name(text: &str) -> bool {
    let is_word = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && part.bytes().next().is_some_and(|first| !first.is_ascii_digit())
    };
    // A number is kept as its value, so that it must be spelled in the one way in which values are.
    let is_number = |part: &str| part.parse::<u64>().is_ok_and(|number| number.to_string() == part);
    let mut parts = text.strip_prefix('.').unwrap_or(text).split('.');
    parts.next().is_some_and(is_word) && parts.all(|part| is_word(part) || is_number(part))
}

impl<H: Host> Parser<'_, H> {
    /// A word, or several joined by dots, as the sections of object files and the copies of functions are called.
    pub(crate) fn name(&mut self, what: &str) -> Result<String, H> {
        let mut name = String::new();
        if self.take('.') {
            name.push('.');
        }
        name.push_str(&self.word(what)?);
        while self.take('.') {
            name.push('.');
            match self.peek() {
                Some(TokenKind::Int(number)) => {
                    name.push_str(&number.to_string());
                    self.advance();
                }
                _ => name.push_str(&self.word("the rest of a name")?),
            }
        }
        Ok(name)
    }

    /// A number with its sign.
    pub(crate) fn number(&mut self, what: &str, least: i128, most: i128) -> Result<i128, H> {
        let span = self.span();
        let minus = self.take('-');
        let Some(&TokenKind::Int(int)) = self.peek() else { return Err(self.expected("a number", None)) };
        self.advance();
        let value = if minus { -int } else { int };
        self.check_range(span, what, value, least, most, None)?;
        Ok(value)
    }

    /// Whether a distance follows: `pc+3`, `+3` or `-3`.
    pub(crate) fn is_distance(&self) -> bool {
        self.at('+') || self.at('-') || self.peek_word() == Some("pc") && (self.at_next('+') || self.at_next('-'))
    }

    /// A distance in slots.
    pub(crate) fn distance(&mut self) -> Result<i32, H> {
        let span = self.span();
        self.take_word("pc");
        let minus = self.take('-');
        if !minus {
            self.expect('+')?;
        }
        let Some(&TokenKind::Int(int)) = self.peek() else {
            return Err(self.expected("a number of instructions", None));
        };
        self.advance();
        let slots = if minus { -int } else { int };
        self.check_range(span, "jump distance", slots, i32::MIN.into(), i32::MAX.into(), None)?;
        Ok(i32::try_from(slots).unwrap_or_default())
    }

    /// `fd:5`
    pub(crate) fn numbered(&mut self, word: &str) -> Result<i32, H> {
        if !self.take_word(word) {
            return Err(self.expected(&format!("`{word}`"), None));
        }
        self.expect(':')?;
        Ok(i32::try_from(self.number("number", i32::MIN.into(), i32::MAX.into())?).unwrap_or_default())
    }

    /// Whether `[0]` follows: the address of a map's only value is meant.
    pub(crate) fn first_value(&mut self) -> Result<bool, H> {
        if !self.take('[') {
            return Ok(false);
        }
        if !matches!(self.peek(), Some(TokenKind::Int(0))) {
            return Err(self.expected("`0`: only the first value has an address", None));
        }
        self.advance();
        self.expect(']')?;
        Ok(true)
    }

    /// `[fd:5]` or `[idx:5]`, with `[0] + 16` for a value.
    pub(crate) fn numbered_map(&mut self, dst: Reg) -> Result<Option<Stmt<H::Rust>>, H> {
        // The bracket and a word come before it.
        if !self.punct_ahead(2, ':') {
            return Ok(None);
        }
        self.expect('[')?;
        let word = if self.peek_word() == Some("idx") { "idx" } else { "fd" };
        let lower = self.numbered(word)?;
        self.expect(']')?;
        let is_value = self.first_value()?;
        let upper =
            if is_value && self.take('+') { self.number("offset in a map value", 0, u32::MAX.into())? } else { 0 };
        let pseudo = match (word, is_value) {
            ("fd", false) => Pseudo::MapFd,
            ("fd", true) => Pseudo::MapValue,
            (_, false) => Pseudo::MapIndex,
            (_, true) => Pseudo::MapIndexValue,
        };
        Ok(Some(Stmt::LoadPseudo { dst, pseudo, lower, upper: u32::try_from(upper).unwrap_or_default() }))
    }

    /// `(0x07, 1, 0, 0, -1)`
    pub(crate) fn raw(&mut self) -> Result<Stmt<H::Rust>, H> {
        const FIELDS: [(&str, i128, i128); 5] = [
            ("opcode", 0, u8::MAX as i128),
            ("destination", 0, 15),
            ("source", 0, 15),
            ("offset", i16::MIN as i128, i16::MAX as i128),
            ("constant", i32::MIN as i128, i32::MAX as i128),
        ];
        let mut fields = [0; 5];
        for (n, (field, (what, least, most))) in fields.iter_mut().zip(FIELDS).enumerate() {
            self.expect(if n == 0 { '(' } else { ',' })?;
            *field = self.number(what, least, most)?;
        }
        self.expect(')')?;
        let [code, dst, src, off, imm] = fields;
        let byte = |field| u8::try_from(field).unwrap_or_default();
        Ok(Stmt::Raw {
            code: byte(code),
            dst: byte(dst),
            src: byte(src),
            off: i16::try_from(off).unwrap_or_default(),
            imm: i32::try_from(imm).unwrap_or_default(),
        })
    }

    /// `@ map[counts]` after a statement whose bytes are to stay until it is linked.
    pub(crate) fn referring(&mut self, stmt: &Stmt<H::Rust>) -> Result<Option<Reference>, H> {
        let span = self.span();
        if !self.take('@') {
            return Ok(None);
        }
        let is_call = match stmt {
            Stmt::LoadImm64 { value: Value::Int(_), .. } | Stmt::LoadPseudo { .. } => Some(false),
            Stmt::Call(Callee::Relative(_) | Callee::Helper(_) | Callee::KfuncId(_)) => Some(true),
            Stmt::Raw { code: 0x18, .. } => Some(false),
            Stmt::Raw { code: 0x85, .. } => Some(true),
            _ => None,
        };
        let Some(is_call) = is_call else {
            let message = "only a constant of 64 bits or a call refers to something".to_owned();
            return Err(self.mistake(span, message, None));
        };
        let span = self.span();
        let word = self.word("map, func or kfunc")?;
        self.expect('[')?;
        let name = self.name("a name")?;
        self.expect(']')?;
        match (word.as_str(), is_call) {
            ("map", false) => {
                if !self.first_value()? {
                    return Ok(Some(Reference::Map(name)));
                }
                let offset = if self.take('+') { self.number("offset in a map value", 0, u32::MAX.into())? } else { 0 };
                Ok(Some(Reference::MapValue(name, u32::try_from(offset).unwrap_or_default())))
            }
            ("func", _) => Ok(Some(Reference::Func(name))),
            ("kfunc", true) => Ok(Some(Reference::Kfunc(name))),
            _ => {
                let what = if is_call {
                    "a call refers to func[..] or kfunc[..]"
                } else {
                    "a constant refers to map[..] or func[..]"
                };
                Err(self.mistake(span, what.to_owned(), None))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_numbers_joined_by_dots() {
        for name in ["counts", ".rodata", ".rodata.str1.1", "f.isra.0", "_x9"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "a..b", "a.01", "9a", "a-b", "a b", "a.b.", "größe", "..a"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
