//! The parts of a statement: registers, constants, places, and the ranges that literals must keep.

use crate::parser::{Parser, Result};
use crate::token::{Host, TokenKind};
use crate::{AluOp, Map, Offset, Operand, Place, Reg, Size, Target, Value, WReg};

/// A register as it was written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Written {
    pub reg: Reg,
    pub wide: bool,
}

/// The register of this name, of either width.
pub(crate) fn register(word: &str) -> Option<Written> {
    Reg::from_name(word)
        .map(|reg| Written { reg, wide: true })
        .or_else(|| WReg::from_name(word).map(|half| Written { reg: half.into(), wide: false }))
}

/// Whether a word looks as if a register was meant: `r11`, `w12`.
fn is_almost_register(word: &str) -> bool {
    word.strip_prefix(['r', 'w']).is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `u8` to `u64`, `s8` to `s64`; true where signed.
pub(crate) fn size(word: &str) -> Option<(Size, bool)> {
    Some(match word {
        "u8" => (Size::B, false),
        "u16" => (Size::H, false),
        "u32" => (Size::W, false),
        "u64" => (Size::DW, false),
        "s8" => (Size::B, true),
        "s16" => (Size::H, true),
        "s32" => (Size::W, true),
        "s64" => (Size::DW, true),
        _ => return None,
    })
}

impl<H: Host> Parser<'_, H> {
    pub(crate) fn register(&mut self) -> Result<Written, H> {
        let written = self.peek_word().and_then(register);
        match written {
            Some(written) => {
                self.advance();
                Ok(written)
            }
            None => {
                let help = self.peek_word().filter(|word| is_almost_register(word));
                let help = help.map(|_| "registers are r0 to r10, and w0 to w10 for their lower halves".to_owned());
                Err(self.expected("a register", help))
            }
        }
    }

    /// A register of 64 bits, as addresses and counters of packets are.
    pub(crate) fn whole_register(&mut self) -> Result<Reg, H> {
        let span = self.span();
        let written = self.register()?;
        if written.wide {
            return Ok(written.reg);
        }
        let help = format!("write {}", written.reg);
        Err(self.mistake(
            span,
            format!("`w{}` is half a register, and a whole one is needed", written.reg.n()),
            Some(help),
        ))
    }

    /// A constant.
    pub(crate) fn value(&mut self) -> Result<Value<H::Rust>, H> {
        if self.take('-') {
            return match self.peek().cloned() {
                Some(TokenKind::Int(int)) => {
                    self.advance();
                    Ok(Value::Int(-int))
                }
                _ => Err(self.expected("a number after `-`", Some("for an expression write {-expr}".to_owned()))),
            };
        }
        match self.peek().cloned() {
            Some(TokenKind::Int(int)) => {
                self.advance();
                Ok(Value::Int(int))
            }
            Some(TokenKind::Rust(rust)) => {
                self.advance();
                Ok(Value::Rust(rust))
            }
            Some(TokenKind::Word(word)) => self.named_value(&word),
            _ => Err(self.expected("a constant", None)),
        }
    }

    fn named_value(&mut self, word: &str) -> Result<Value<H::Rust>, H> {
        let span = self.span();
        if is_almost_register(word) && register(word).is_none() {
            let help = "registers are r0 to r10, and w0 to w10 for their lower halves".to_owned();
            return Err(self.mistake(span, format!("there is no register `{word}`"), Some(help)));
        }
        self.advance();
        if word == "sizeof" {
            self.expect('(')?;
            let root = self.word("the name of a structure")?;
            let path = self.path(root)?;
            self.expect(')')?;
            return Ok(Value::SizeOf(path));
        }
        if self.at('.') || self.at('[') {
            if word == "ctx" {
                self.expect('.')?;
                return Ok(Value::Ctx(self.word("a member of the context")?));
            }
            return Ok(Value::Field(self.path(word.to_owned())?));
        }
        let mut path = word.to_owned();
        while self.at(':') && self.at_next(':') {
            self.advance();
            self.advance();
            path.push_str("::");
            path.push_str(&self.word("the rest of a path")?);
        }
        match self.host.path(&path, span) {
            Ok(rust) => Ok(Value::Rust(rust)),
            Err(message) => Err(self.mistake(span, message, None)),
        }
    }

    /// `.member[3].member`
    fn path(&mut self, root: String) -> Result<String, H> {
        let mut path = root;
        loop {
            if self.take('.') {
                path.push('.');
                path.push_str(&self.word("the name of a member")?);
            } else if self.take('[') {
                let Some(TokenKind::Int(index)) = self.peek().cloned() else {
                    return Err(self.expected("an index", None));
                };
                self.advance();
                self.expect(']')?;
                path.push_str(&format!("[{index}]"));
            } else {
                return Ok(path);
            }
        }
    }

    /// A register of the given width, or a constant.
    pub(crate) fn operand(&mut self, wide: bool) -> Result<Operand<H::Rust>, H> {
        let span = self.span();
        let Some(written) = self.peek_word().and_then(register) else { return Ok(Operand::Imm(self.value()?)) };
        self.advance();
        if written.wide == wide {
            return Ok(Operand::Reg(written.reg));
        }
        let [is, other] = if wide { ["w", "r"] } else { ["r", "w"] };
        let n = written.reg.n();
        let message = format!("`{is}{n}` is not as wide as the left-hand side");
        Err(self.mistake(span, message, Some(format!("write {other}{n}"))))
    }

    /// `+ term - term`
    pub(crate) fn offset(&mut self) -> Result<Offset<H::Rust>, H> {
        let span = self.span();
        let mut terms = Vec::new();
        loop {
            let minus = match () {
                () if self.take('+') => false,
                () if self.take('-') => true,
                () => break,
            };
            terms.push((minus, self.value()?));
        }
        let literal = terms.iter().try_fold(0_i128, |sum, (minus, value)| match value {
            Value::Int(int) => Some(if *minus { sum.saturating_sub(*int) } else { sum.saturating_add(*int) }),
            _ => None,
        });
        if let Some(sum) = literal {
            self.check_range(span, "offset", sum, i16::MIN.into(), i16::MAX.into(), None)?;
        }
        Ok(Offset(terms))
    }

    /// `(r1 + offset)`
    pub(crate) fn place(&mut self) -> Result<Place<H::Rust>, H> {
        self.expect('(')?;
        let base = self.whole_register()?;
        let offset = self.offset()?;
        self.expect(')')?;
        Ok(Place { base, offset })
    }

    /// `(u64 *)`
    pub(crate) fn cast(&mut self) -> Result<(Size, bool), H> {
        self.expect('(')?;
        let Some(size) = self.peek_word().and_then(size) else {
            let help = "sizes are u8, u16, u32 and u64, and s8, s16, s32 for loads that extend the sign".to_owned();
            return Err(self.expected("a size", Some(help)));
        };
        self.advance();
        self.expect('*')?;
        self.expect(')')?;
        Ok(size)
    }

    /// The same where no sign is extended.
    pub(crate) fn unsigned_cast(&mut self) -> Result<Size, H> {
        let span = self.span();
        match self.cast()? {
            (size, false) => Ok(size),
            (_, true) => Err(self.mistake(span, "only loads extend a sign".to_owned(), None)),
        }
    }

    /// `[name]` or `[{expr}]`
    pub(crate) fn map(&mut self) -> Result<Map<H::Rust>, H> {
        self.expect('[')?;
        let map = match self.peek().cloned() {
            Some(TokenKind::Rust(rust)) => {
                self.advance();
                Map::Rust(rust)
            }
            _ => Map::Name(self.name("the name of a map")?),
        };
        self.expect(']')?;
        Ok(map)
    }

    /// Where a jump goes.
    pub(crate) fn target(&mut self) -> Result<Target<H::Rust>, H> {
        let span = self.span();
        if self.is_distance() {
            return Ok(Target::Relative(self.distance()?));
        }
        if let Some(TokenKind::Rust(rust)) = self.peek().cloned() {
            self.advance();
            return Ok(Target::Rust(rust));
        }
        let name = self.word("a label")?;
        self.jump_to(name.clone(), span);
        Ok(Target::Label(name))
    }

    /// Refuses a literal that does not fit.
    pub(crate) fn check_range(
        &self,
        span: H::Span,
        what: &str,
        value: i128,
        least: i128,
        most: i128,
        help: Option<&str>,
    ) -> Result<(), H> {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        let message = format!("{what} {value} is not between {least} and {most}");
        Err(self.mistake(span, message, help.map(str::to_owned)))
    }

    /// Refuses a literal that an arithmetic instruction cannot hold, or with which it makes no sense.
    pub(crate) fn check_alu(&self, span: H::Span, op: AluOp, wide: bool, value: i128) -> Result<(), H> {
        let bits = if wide { 64 } else { 32 };
        match op {
            AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => self.check_range(span, "shift", value, 0, bits - 1, None),
            AluOp::Div | AluOp::Sdiv | AluOp::Mod | AluOp::Smod if value == 0 => {
                Err(self.mistake(span, "division by zero".to_owned(), None))
            }
            _ => self.check_const(span, wide, value),
        }
    }

    /// Refuses a literal of more than 32 bits, and where it is extended, one whose sign would spread.
    pub(crate) fn check_const(&self, span: H::Span, wide: bool, value: i128) -> Result<(), H> {
        let most = if wide { i32::MAX.into() } else { u32::MAX.into() };
        let help = "the machine extends the sign of a constant; `r1 = .. ll` loads all 64 bits of a register";
        self.check_range(span, "constant", value, i32::MIN.into(), most, Some(help))
    }
}
