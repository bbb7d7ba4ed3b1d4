//! The grammar of statements, but for those that write a register.

use crate::parser::{Parser, Result};
use crate::suggest::did_you_mean;
use crate::token::{Host, TokenKind};
use crate::value::register;
use crate::{AtomicOp, Callee, Cond, Helper, JmpOp, Operand, Reg, Size, Stmt, Value};

/// The words that a statement can begin with, beside registers.
const STARTS: [&str; 10] =
    ["if", "goto", "gotol", "may_goto", "call", "callx", "exit", "lock", "store_release", "insn"];

impl<H: Host> Parser<'_, H> {
    pub(crate) fn statement(&mut self) -> Result<Stmt<H::Rust>, H> {
        match self.peek().cloned() {
            Some(TokenKind::Rust(rust)) => {
                self.advance();
                Ok(Stmt::Splice(rust))
            }
            Some(TokenKind::Punct('*')) => self.store(),
            Some(TokenKind::Word(word)) => {
                if self.at_next(':') && !self.punct_ahead(2, ':') {
                    self.advance();
                    self.advance();
                    return Ok(Stmt::Label(word));
                }
                self.worded(&word)
            }
            _ => Err(self.expected("a statement", None)),
        }
    }

    fn worded(&mut self, word: &str) -> Result<Stmt<H::Rust>, H> {
        if register(word).is_some() {
            return self.assignment();
        }
        let span = self.span();
        self.advance();
        match word {
            "if" => {
                let cond = Some(self.condition()?);
                if !self.take_word("goto") {
                    return Err(self.expected("`goto`", None));
                }
                Ok(Stmt::Jump { cond, to: self.target()? })
            }
            "goto" => Ok(Stmt::Jump { cond: None, to: self.target()? }),
            "gotol" => Ok(Stmt::Gotol(self.target()?)),
            "may_goto" => Ok(Stmt::MayGoto(self.target()?)),
            "call" => self.call().map(Stmt::Call),
            "callx" => Ok(Stmt::Call(Callee::Reg(self.whole_register()?))),
            "exit" => Ok(Stmt::Exit),
            "lock" => self.lock(),
            "insn" => self.raw(),
            "store_release" => {
                self.expect('(')?;
                let size = self.unsigned_cast()?;
                let to = self.place()?;
                self.expect(',')?;
                let src = self.whole_register()?;
                self.expect(')')?;
                Ok(Stmt::StoreRelease { size, to, src })
            }
            _ => {
                let registers = Reg::ALL.map(|reg| reg.to_string());
                let help = did_you_mean(word, STARTS.into_iter().chain(registers.iter().map(String::as_str)));
                Err(self.mistake(span, format!("no statement begins with `{word}`"), help))
            }
        }
    }

    fn condition(&mut self) -> Result<Cond<H::Rust>, H> {
        let left = self.register()?;
        let Some(op) = self.operator(&JmpOp::ALL) else {
            let help = "comparisons are == != > >= < <= s> s>= s< s<= and & for any common bit".to_owned();
            return Err(self.expected("a comparison", Some(help)));
        };
        let span = self.span();
        let right = self.operand(left.wide)?;
        if let Operand::Imm(Value::Int(value)) = right {
            self.check_const(span, left.wide, value)?;
        }
        Ok(Cond { op, wide: left.wide, left: left.reg, right })
    }

    fn call(&mut self) -> Result<Callee<H::Rust>, H> {
        let span = self.span();
        match self.peek().cloned() {
            Some(TokenKind::Rust(rust)) => {
                self.advance();
                Ok(Callee::Rust(rust))
            }
            Some(TokenKind::Int(number)) => {
                self.advance();
                self.check_range(span, "helper number", number, 0, i32::MAX.into(), None)?;
                Ok(Callee::Helper(Helper(u32::try_from(number).unwrap_or_default())))
            }
            Some(TokenKind::Punct('+' | '-')) => Ok(Callee::Relative(self.distance()?)),
            _ => {
                let name = self.word("what to call")?;
                match (name.as_str(), self.peek()) {
                    ("pc", Some(TokenKind::Punct('+' | '-'))) => return Ok(Callee::Relative(self.distance()?)),
                    ("func", Some(TokenKind::Word(_))) => {
                        return Ok(Callee::Function(self.name("the name of a function")?));
                    }
                    ("kfunc", Some(TokenKind::Word(_))) => {
                        return Ok(Callee::Kfunc(self.word("the name of a kernel function")?));
                    }
                    ("kfunc", Some(TokenKind::Int(_))) => {
                        let id = self.number("number of a kernel function", 0, i32::MAX.into())?;
                        return Ok(Callee::KfuncId(i32::try_from(id).unwrap_or_default()));
                    }
                    _ => {}
                }
                if let Some(helper) = Helper::from_name(&name) {
                    // The verifier prints its number behind it, and bpftool where it is in the kernel.
                    if self.take('#') {
                        self.number("number", i32::MIN.into(), i32::MAX.into())?;
                    }
                    return Ok(Callee::Helper(helper));
                }
                if name.starts_with("bpf_") {
                    let help = did_you_mean(&name, Helper::ALL.iter().map(|&(_, name, _)| name));
                    return Err(self.mistake(span, format!("there is no helper `{name}`"), help));
                }
                Ok(Callee::Function(name))
            }
        }
    }

    /// `*(u32 *)(r10 - 4) = w0`
    fn store(&mut self) -> Result<Stmt<H::Rust>, H> {
        self.expect('*')?;
        let size = self.unsigned_cast()?;
        let to = self.place()?;
        self.expect('=')?;
        let span = self.span();
        let src = match self.peek_word().and_then(register) {
            Some(half) if !half.wide && size == Size::DW => {
                let message = format!("`w{}` has 4 bytes, and 8 are stored", half.reg.n());
                return Err(self.mistake(span, message, Some(format!("write {}", half.reg))));
            }
            Some(written) => {
                self.advance();
                Operand::Reg(written.reg)
            }
            None => Operand::Imm(self.value()?),
        };
        if let Operand::Imm(Value::Int(value)) = src {
            let (least, most): (i128, i128) = match size {
                Size::B => (i8::MIN.into(), u8::MAX.into()),
                Size::H => (i16::MIN.into(), u16::MAX.into()),
                Size::W => (i32::MIN.into(), u32::MAX.into()),
                Size::DW => (i32::MIN.into(), i32::MAX.into()),
            };
            self.check_range(span, "constant", value, least, most, None)?;
        }
        Ok(Stmt::Store { size, to, src })
    }

    /// `lock *(u64 *)(r1 + 0) += r2`
    fn lock(&mut self) -> Result<Stmt<H::Rust>, H> {
        self.expect('*')?;
        let span = self.span();
        let size = self.unsigned_cast()?;
        self.check_atomic_size(span, size)?;
        let to = self.place()?;
        let list = [(AtomicOp::Add, "+="), (AtomicOp::Or, "|="), (AtomicOp::And, "&="), (AtomicOp::Xor, "^=")];
        let Some(op) = self.operator(&list) else { return Err(self.expected("`+=`, `|=`, `&=` or `^=`", None)) };
        Ok(Stmt::Atomic { size, op, to, src: self.whole_register()? })
    }

    fn check_atomic_size(&self, span: H::Span, size: Size) -> Result<(), H> {
        if matches!(size, Size::W | Size::DW) {
            return Ok(());
        }
        Err(self.mistake(span, "atomic operations are on u32 and u64".to_owned(), None))
    }
}
