//! The grammar of statements that write a register.

use crate::parser::{Parser, Result};
use crate::suggest::suggest;
use crate::token::Host;
use crate::value::{register, size};
use crate::{AluOp, AtomicOp, ByteOrder, Operand, Pseudo, Reg, Size, Stmt, Value};

impl<H: Host> Parser<'_, H> {
    /// A statement that begins with a register.
    pub(crate) fn assignment(&mut self) -> Result<Stmt<H::Rust>, H> {
        let span = self.span();
        let dst = self.register()?;
        if dst.reg == Reg::R10 {
            return Err(self.mistake(span, "r10 is the frame pointer and cannot be written".to_owned(), None));
        }
        let Some(op) = self.operator(&AluOp::ALL) else {
            let help = "operations are = += -= *= /= s/= %= s%= |= &= ^= <<= >>= and s>>=".to_owned();
            return Err(self.expected("an operation", Some(help)));
        };
        if op == AluOp::Mov
            && let Some(stmt) = self.special(dst.reg, dst.wide)?
        {
            return Ok(stmt);
        }
        let span = self.span();
        let src = self.operand(dst.wide)?;
        if op == AluOp::Mov && dst.wide && self.take_word("ll") {
            let Operand::Imm(value) = src else { return Err(self.expected("`;`", None)) };
            if let Value::Int(int) = value {
                self.check_range(span, "constant", int, i64::MIN.into(), u64::MAX.into(), None)?;
            }
            return Ok(Stmt::LoadImm64 { dst: dst.reg, value });
        }
        if let Operand::Imm(Value::Int(value)) = src {
            self.check_alu(span, op, dst.wide, value)?;
        }
        Ok(Stmt::Alu { op, wide: dst.wide, dst: dst.reg, src })
    }

    /// What can follow `r1 =` beside a register and a constant.
    fn special(&mut self, dst: Reg, wide: bool) -> Result<Option<Stmt<H::Rust>>, H> {
        let span = self.span();
        let stmt = if self.at('*') {
            self.load(dst, wide)?
        } else if self.at('-') && self.word_after().and_then(register).is_some() {
            self.advance();
            let span = self.span();
            let src = self.register()?;
            if (src.reg, src.wide) != (dst, wide) {
                return Err(self.mistake(span, "a register is negated in place".to_owned(), None));
            }
            Stmt::Neg { wide, dst }
        } else if self.at('(') {
            self.advance();
            let span = self.span();
            let word = self.word("s8, s16 or s32")?;
            let Some((Size::B | Size::H | Size::W, true)) = size(&word) else {
                return Err(self.mistake(span, format!("`{word}` is not s8, s16 or s32"), None));
            };
            self.expect(')')?;
            let Operand::Reg(src) = self.operand(wide)? else { return Err(self.expected("a register", None)) };
            let bits: u8 = word[1..].parse().unwrap_or_default();
            if bits == 32 && !wide {
                return Err(self.mistake(span, "32 bits of half a register are all of it".to_owned(), None));
            }
            Stmt::Movsx { wide, dst, src, bits }
        } else {
            let Some(word) = self.peek_word().map(str::to_owned) else { return Ok(None) };
            match self.worded_special(&word, dst)? {
                Some(stmt) if wide || matches!(stmt, Stmt::Atomic { .. } | Stmt::LoadAcquire { .. }) => stmt,
                Some(_) => {
                    let help = Some(format!("write {dst}"));
                    return Err(self.mistake(span, "this fills a whole register".to_owned(), help));
                }
                None => return Ok(None),
            }
        };
        Ok(Some(stmt))
    }

    /// `*(u32 *)(r2 + 4)` or `*(u32 *)skb[4]`
    fn load(&mut self, dst: Reg, wide: bool) -> Result<Stmt<H::Rust>, H> {
        self.expect('*')?;
        let span = self.span();
        let (size, signed) = self.cast()?;
        if !wide && size == Size::DW {
            let message = format!("w{} has 4 bytes, and 8 are loaded", dst.n());
            return Err(self.mistake(span, message, Some(format!("write {dst}"))));
        }
        if signed && (size == Size::DW || !wide) {
            return Err(self.mistake(
                span,
                "a sign is extended from s8, s16 or s32 to a whole register".to_owned(),
                None,
            ));
        }
        if !self.take_word("skb") {
            return Ok(Stmt::Load { size, signed, dst, from: self.place()? });
        }
        if dst != Reg::R0 || size == Size::DW || signed {
            let message = "packets are read by u8, u16 and u32 into r0".to_owned();
            return Err(self.mistake(span, message, None));
        }
        self.expect('[')?;
        let index = self.peek_word().and_then(register).map(|_| self.whole_register()).transpose()?;
        if index.is_some() && !self.take('+') {
            self.expect(']')?;
            return Ok(Stmt::LoadInd { size, index: index.unwrap_or(Reg::R0), offset: Value::Int(0) });
        }
        let span = self.span();
        let offset = self.value()?;
        if let Value::Int(value) = offset {
            self.check_range(span, "packet offset", value, i32::MIN.into(), i32::MAX.into(), None)?;
        }
        self.expect(']')?;
        Ok(match index {
            Some(index) => Stmt::LoadInd { size, index, offset },
            None => Stmt::LoadAbs { size, offset },
        })
    }

    /// What begins with a word: nothing where that is a constant.
    fn worded_special(&mut self, word: &str, dst: Reg) -> Result<Option<Stmt<H::Rust>>, H> {
        if let Some((order, bits)) = byte_order(word) {
            let span = self.span();
            self.advance();
            let src = self.whole_register()?;
            if src != dst {
                return Err(self.mistake(span, "the bytes of a register are put in order in place".to_owned(), None));
            }
            return Ok(Some(Stmt::Endian { order, dst, bits }));
        }
        let bracket = self.at_next('[');
        let call = self.at_next('(');
        match word {
            "map" if bracket => {
                self.advance();
                if let Some(stmt) = self.numbered_map(dst)? {
                    return Ok(Some(stmt));
                }
                let map = self.map()?;
                if !self.first_value()? {
                    return Ok(Some(Stmt::LoadMap { dst, map }));
                }
                let offset = if self.take('+') { self.value()? } else { Value::Int(0) };
                Ok(Some(Stmt::LoadMapValue { dst, map, offset }))
            }
            "func" if bracket => {
                self.advance();
                self.expect('[')?;
                let stmt = if self.is_distance() {
                    Stmt::LoadPseudo { dst, pseudo: Pseudo::Func, lower: self.distance()?, upper: 0 }
                } else {
                    Stmt::LoadFunc { dst, name: self.name("the name of a function")? }
                };
                self.expect(']')?;
                Ok(Some(stmt))
            }
            "btf" if bracket => {
                self.advance();
                self.expect('[')?;
                let lower = self.numbered("id")?;
                self.expect(']')?;
                Ok(Some(Stmt::LoadPseudo { dst, pseudo: Pseudo::BtfId, lower, upper: 0 }))
            }
            "addr_space_cast" if call => {
                self.advance();
                self.expect('(')?;
                let src = self.whole_register()?;
                self.expect(',')?;
                let to = self.number("address space", 0, u16::MAX.into())?;
                self.expect(',')?;
                let from = self.number("address space", 0, u16::MAX.into())?;
                self.expect(')')?;
                let space = |number| u16::try_from(number).unwrap_or_default();
                Ok(Some(Stmt::AddrSpaceCast { dst, src, to: space(to), from: space(from) }))
            }
            "load_acquire" if call => {
                self.advance();
                self.expect('(')?;
                let size = self.unsigned_cast()?;
                let from = self.place()?;
                self.expect(')')?;
                Ok(Some(Stmt::LoadAcquire { size, dst, from }))
            }
            _ if call && word.starts_with("atomic") => self.fetch(word, dst).map(Some),
            _ => Ok(None),
        }
    }

    /// `atomic64_fetch_add((u64 *)(r1 + 0), r2)`
    fn fetch(&mut self, word: &str, dst: Reg) -> Result<Stmt<H::Rust>, H> {
        const OPS: [(AtomicOp, &str); 6] = [
            (AtomicOp::FetchAdd, "fetch_add"),
            (AtomicOp::FetchOr, "fetch_or"),
            (AtomicOp::FetchAnd, "fetch_and"),
            (AtomicOp::FetchXor, "fetch_xor"),
            (AtomicOp::Xchg, "xchg"),
            (AtomicOp::Cmpxchg, "cmpxchg"),
        ];
        let span = self.span();
        let (wanted, name) = match word.strip_prefix("atomic64_") {
            Some(name) => (Size::DW, name),
            None => (Size::W, word.strip_prefix("atomic_").unwrap_or(word)),
        };
        let Some(&(op, _)) = OPS.iter().find(|(_, known)| *known == name) else {
            let near = suggest(name, OPS.map(|(_, name)| name));
            let help = near.map(|near| format!("did you mean `{}{near}`?", &word[..word.len() - name.len()]));
            return Err(self.mistake(span, format!("there is no atomic operation `{word}`"), help));
        };
        self.advance();
        self.expect('(')?;
        let size = self.unsigned_cast()?;
        if size != wanted {
            let size = if wanted == Size::DW { "u64" } else { "u32" };
            return Err(self.mistake(span, format!("`{word}` is on {size}"), None));
        }
        let to = self.place()?;
        self.expect(',')?;
        if op == AtomicOp::Cmpxchg {
            let span = self.span();
            if self.whole_register()? != Reg::R0 {
                return Err(self.mistake(span, "cmpxchg compares with r0".to_owned(), None));
            }
            self.expect(',')?;
        }
        let src = self.whole_register()?;
        self.expect(')')?;
        let old = if op == AtomicOp::Cmpxchg { Reg::R0 } else { src };
        if dst != old {
            return Err(self.mistake(span, format!("the old value goes to {old}"), None));
        }
        Ok(Stmt::Atomic { size, op, to, src })
    }
}

/// `le16` to `bswap64`.
fn byte_order(word: &str) -> Option<(ByteOrder, u8)> {
    let digits = word.find(|c: char| c.is_ascii_digit())?;
    let (name, bits) = word.split_at(digits);
    let order = match name {
        "le" => ByteOrder::Le,
        "be" => ByteOrder::Be,
        "bswap" => ByteOrder::Swap,
        _ => return None,
    };
    let bits = bits.parse().ok()?;
    matches!(bits, 16 | 32 | 64).then_some((order, bits))
}
