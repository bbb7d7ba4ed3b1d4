//! The grammar: from tokens to statements.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::suggest::suggest;
use crate::token::{Host, Mistake, Token, TokenKind};
use crate::value::{register, size};
use crate::{
    AluOp, AtomicOp, ByteOrder, Callee, Cond, Helper, JmpOp, Operand, Pseudo, Reference, Reg, Size, Stmt, Value,
};

/// A statement, and the tokens that it was made of.
#[derive(Clone, Debug)]
pub struct Statement<V, S> {
    /// What it says.
    pub stmt: Stmt<V>,
    /// What it refers to until it is linked, as instructions of object files do.
    pub reference: Option<Reference>,
    /// Where it begins.
    pub span: S,
    /// Which tokens it is, without the semicolon.
    pub tokens: Range<usize>,
}

pub(crate) type Result<T, H> = std::result::Result<T, Mistake<<H as Host>::Span>>;

/// A block that is parsed, all at once or in parts.
///
/// Labels are checked: each jump has one, and each stands in one place.
#[derive(Debug)]
pub struct Block<S> {
    labels: BTreeMap<String, S>,
    jumps: Vec<(String, S)>,
    mistakes: Vec<Mistake<S>>,
}

/// How many mistakes are told, and one that says so if there are more. A text that is no program has one for each word, and each
/// takes time to find out what may have been meant.
const MOST_MISTAKES: usize = 100;

impl<S: Copy> Default for Block<S> {
    fn default() -> Self {
        Self { labels: BTreeMap::new(), jumps: Vec::new(), mistakes: Vec::new() }
    }
}

impl<S: Copy> Block<S> {
    /// Parses the next tokens, which begin and end with a statement. `end` is where a message points that misses something after
    /// the last of them.
    pub fn parse<H: Host<Span = S>>(
        &mut self,
        host: &H,
        tokens: &[Token<H::Rust, S>],
        end: S,
    ) -> Vec<Statement<H::Rust, S>> {
        let mut parser = Parser { host, tokens, at: 0, end, jumps: &mut self.jumps };
        let mut statements = Vec::new();
        while parser.at < tokens.len() && !is_full(&self.mistakes) {
            if parser.take(';') {
                continue;
            }
            let (start, span) = (parser.at, parser.span());
            match parser.statement().and_then(|stmt| parser.referring(&stmt).map(|reference| (stmt, reference))) {
                Ok((stmt, reference)) => {
                    if let Stmt::Label(name) = &stmt
                        && self.labels.insert(name.clone(), span).is_some()
                    {
                        let message = format!("label `{name}` stands in two places");
                        note(&mut self.mistakes, Mistake { span, message, help: None });
                    }
                    let tokens = start..parser.at;
                    if !matches!(stmt, Stmt::Label(_))
                        && let Err(mistake) = parser.semicolon()
                    {
                        note(&mut self.mistakes, mistake);
                        parser.recover();
                    }
                    statements.push(Statement { stmt, reference, span, tokens });
                }
                Err(mistake) => {
                    note(&mut self.mistakes, mistake);
                    parser.recover();
                }
            }
        }
        statements
    }

    /// Whether there are so many mistakes that no more are told, and nothing more is parsed.
    pub fn is_given_up(&self) -> bool {
        is_full(&self.mistakes)
    }

    /// Ends the block.
    ///
    /// # Errors
    /// Every mistake, up to a hundred; after one the grammar went on behind the next semicolon.
    pub fn finish(mut self) -> std::result::Result<(), Vec<Mistake<S>>> {
        for (name, span) in std::mem::take(&mut self.jumps) {
            if !self.labels.contains_key(&name) && !self.is_given_up() {
                let near = suggest(&name, self.labels.keys().map(String::as_str));
                let help = near.map(|near| format!("did you mean `{near}`?"));
                let message = format!("there is no label `{name}` in this block");
                note(&mut self.mistakes, Mistake { span, message, help });
            }
        }
        if self.mistakes.is_empty() { Ok(()) } else { Err(self.mistakes) }
    }
}

fn is_full<S>(mistakes: &[Mistake<S>]) -> bool {
    mistakes.len() > MOST_MISTAKES
}

/// Adds a mistake to those that are told.
fn note<S>(mistakes: &mut Vec<Mistake<S>>, mistake: Mistake<S>) {
    if mistakes.len() < MOST_MISTAKES {
        mistakes.push(mistake);
    } else if mistakes.len() == MOST_MISTAKES {
        let message = format!("this is not the last mistake, and no more than {MOST_MISTAKES} are shown");
        mistakes.push(Mistake { message, help: None, ..mistake });
    }
}

/// Parses a whole block. `end` is where a message points that misses something after the last token.
///
/// # Errors
/// As [`Block::finish`].
#[allow(clippy::type_complexity)] // naming it would hide more than it shows
pub fn parse<H: Host>(
    host: &H,
    tokens: &[Token<H::Rust, H::Span>],
    end: H::Span,
) -> std::result::Result<Vec<Statement<H::Rust, H::Span>>, Vec<Mistake<H::Span>>> {
    let mut block = Block::default();
    let statements = block.parse(host, tokens, end);
    block.finish().map(|()| statements)
}

/// The words that a statement can begin with, beside registers.
const STARTS: [&str; 10] =
    ["if", "goto", "gotol", "may_goto", "call", "callx", "exit", "lock", "store_release", "insn"];

pub(crate) struct Parser<'a, H: Host> {
    pub host: &'a H,
    tokens: &'a [Token<H::Rust, H::Span>],
    at: usize,
    end: H::Span,
    pub jumps: &'a mut Vec<(String, H::Span)>,
}

impl<H: Host> Parser<'_, H> {
    pub(crate) fn peek(&self) -> Option<&TokenKind<H::Rust>> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    pub(crate) fn peek_word(&self) -> Option<&str> {
        match self.peek() {
            Some(TokenKind::Word(word)) => Some(word),
            _ => None,
        }
    }

    pub(crate) fn span(&self) -> H::Span {
        self.tokens.get(self.at).map_or(self.end, |token| token.span)
    }

    pub(crate) fn advance(&mut self) {
        self.at += 1;
    }

    fn is_punct(&self, at: usize, punct: char) -> bool {
        matches!(self.tokens.get(at), Some(Token { kind: TokenKind::Punct(found), .. }) if *found == punct)
    }

    pub(crate) fn at(&self, punct: char) -> bool {
        self.is_punct(self.at, punct)
    }

    pub(crate) fn at_next(&self, punct: char) -> bool {
        self.is_punct(self.at + 1, punct)
    }

    pub(crate) fn punct_ahead(&self, ahead: usize, punct: char) -> bool {
        self.is_punct(self.at + ahead, punct)
    }

    pub(crate) fn take(&mut self, punct: char) -> bool {
        let found = self.at(punct);
        self.at += usize::from(found);
        found
    }

    pub(crate) fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek_word() == Some(word);
        self.at += usize::from(found);
        found
    }

    pub(crate) fn expect(&mut self, punct: char) -> Result<(), H> {
        if self.take(punct) { Ok(()) } else { Err(self.expected(&format!("`{punct}`"), None)) }
    }

    pub(crate) fn word(&mut self, what: &str) -> Result<String, H> {
        let Some(word) = self.peek_word().map(str::to_owned) else { return Err(self.expected(what, None)) };
        self.advance();
        Ok(word)
    }

    #[allow(clippy::unused_self)] // reads like its siblings
    pub(crate) fn mistake(&self, span: H::Span, message: String, help: Option<String>) -> Mistake<H::Span> {
        Mistake { span, message, help }
    }

    pub(crate) fn expected(&self, what: &str, help: Option<String>) -> Mistake<H::Span> {
        let found = self.peek().map_or("the end".to_owned(), TokenKind::quoted);
        self.mistake(self.span(), format!("expected {what}, found {found}"), help)
    }

    /// A statement ends with one; where it is missing, the token before is at fault.
    fn semicolon(&mut self) -> Result<(), H> {
        if self.take(';') {
            return Ok(());
        }
        let before = self.tokens.get(self.at.wrapping_sub(1)).map_or(self.end, |token| token.span);
        let found = self.peek().map_or("the end".to_owned(), TokenKind::quoted);
        Err(self.mistake(before, format!("expected `;` after this, found {found}"), None))
    }

    /// Goes on behind the next semicolon.
    fn recover(&mut self) {
        while self.at < self.tokens.len() && !self.take(';') {
            self.advance();
        }
    }

    fn statement(&mut self) -> Result<Stmt<H::Rust>, H> {
        match self.peek().cloned() {
            Some(TokenKind::Rust(rust)) => {
                self.advance();
                Ok(Stmt::Splice(rust))
            }
            Some(TokenKind::Punct('*')) => self.store(),
            Some(TokenKind::Word(word)) => {
                if self.at_next(':') && !self.is_punct(self.at + 2, ':') {
                    self.at += 2;
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
                let (size, _) = self.cast()?;
                let to = self.place()?;
                self.expect(',')?;
                let src = self.whole_register()?;
                self.expect(')')?;
                Ok(Stmt::StoreRelease { size, to, src })
            }
            _ => {
                let registers = Reg::ALL.map(|reg| reg.to_string());
                let near = suggest(word, STARTS.into_iter().chain(registers.iter().map(String::as_str)));
                let help = near.map(|near| format!("did you mean `{near}`?"));
                Err(self.mistake(span, format!("no statement begins with `{word}`"), help))
            }
        }
    }

    /// The operator between two sides, from a list of words such as `s>>=`, the longest first.
    fn operator<O: Copy>(&mut self, list: &[(O, &str)]) -> Option<O> {
        let mut best: Option<(usize, O)> = None;
        for &(op, text) in list {
            let mut at = self.at;
            let found = text.chars().all(|c| {
                let found = match self.tokens.get(at).map(|token| &token.kind) {
                    Some(TokenKind::Punct(punct)) => *punct == c,
                    Some(TokenKind::Word(word)) => c == 's' && word == "s",
                    _ => false,
                };
                at += 1;
                found
            });
            if found && best.is_none_or(|(longest, _)| at > longest) {
                best = Some((at, op));
            }
        }
        let (at, op) = best?;
        self.at = at;
        Some(op)
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
                    if self.take('#') {
                        self.advance();
                    }
                    return Ok(Callee::Helper(helper));
                }
                if name.starts_with("bpf_") {
                    let near = suggest(&name, Helper::ALL.iter().map(|&(_, name, _)| name));
                    let help = near.map(|near| format!("did you mean `{near}`?"));
                    return Err(self.mistake(span, format!("there is no helper `{name}`"), help));
                }
                Ok(Callee::Function(name))
            }
        }
    }

    /// `*(u32 *)(r10 - 4) = w0`
    fn store(&mut self) -> Result<Stmt<H::Rust>, H> {
        self.expect('*')?;
        let (size, _) = self.cast()?;
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
        let (size, _) = self.cast()?;
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

    /// A statement that begins with a register.
    fn assignment(&mut self) -> Result<Stmt<H::Rust>, H> {
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

    fn word_after(&self) -> Option<&str> {
        match self.tokens.get(self.at + 1).map(|token| &token.kind) {
            Some(TokenKind::Word(word)) => Some(word),
            _ => None,
        }
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
        let bracket = self.is_punct(self.at + 1, '[');
        let call = self.is_punct(self.at + 1, '(');
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
                let (size, _) = self.cast()?;
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
            None => (Size::W, word.trim_start_matches("atomic_")),
        };
        let Some(&(op, _)) = OPS.iter().find(|(_, known)| *known == name) else {
            let near = suggest(name, OPS.map(|(_, name)| name));
            let help = near.map(|near| format!("did you mean `{}{near}`?", &word[..word.len() - name.len()]));
            return Err(self.mistake(span, format!("there is no atomic operation `{word}`"), help));
        };
        self.advance();
        self.expect('(')?;
        let (size, _) = self.cast()?;
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
