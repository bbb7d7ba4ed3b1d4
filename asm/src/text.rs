//! The same grammar from text, at run time.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;

use bpfkit_asm_syntax::{
    Block, Callee, Host, Map, Mistake, Offset, Operand as Side, Place, Stmt, Target, Token, TokenKind, Value, WReg,
};

use crate::{Asm, FieldPath, Imm, Insn, JumpTo, Label, MapRef, Mem, Opcode, Operand, SourceRef, Src};

/// Why a text is no program: every mistake, with its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    file: String,
    mistakes: Vec<Shown>,
}

/// A mistake as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    at: Position,
    /// What the line says, or a part of it.
    line: String,
    /// The column in that, from 1.
    column: usize,
    message: String,
    help: Option<String>,
}

/// How many characters of a line are shown before the mistake and from there on: a line may be as long as the text, and have a
/// hundred of them.
const MARGIN: usize = 120;

impl Shown {
    fn new(at: Position, line: &str, message: String, help: Option<String>) -> Self {
        let column = usize::try_from(at.column).unwrap_or(1).max(1);
        let before = column - 1;
        let left_out = before.saturating_sub(MARGIN);
        let line = line.chars().skip(left_out).take(before - left_out + MARGIN).collect();
        Self { at, line, column: column - left_out, message, help }
    }
}

/// The most mistakes of a whole file, whose parts each have as many as a block tells.
const MOST: usize = 1000;

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Shown { at, line, column, message, help }) in self.mistakes.iter().enumerate() {
            let Position { line: number, column: at } = at;
            write!(f, "{}{}:{number}:{at}: {message}", if n == 0 { "" } else { "\n" }, self.file)?;
            write!(f, "\n  {line}\n  {:>column$}", '^')?;
            help.iter().try_for_each(|help| write!(f, " {help}"))?;
        }
        Ok(())
    }
}

impl std::error::Error for ParseError {}

/// Line and column, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    line: u32,
    column: u32,
}

/// A text as the host of the grammar: it has no Rust expressions.
struct Text;

impl Host for Text {
    type Span = Position;
    type Rust = Infallible;

    fn path(&self, path: &str, _: Position) -> Result<Infallible, String> {
        Err(format!("`{path}` is a Rust constant, and a text has none: write the number"))
    }
}

impl ParseError {
    /// A mistake at a line and a column, from 1; `text` is what the line says.
    pub fn new(file: &str, (line, column): (u32, u32), text: &str, message: String, help: Option<String>) -> Self {
        let mistake = Shown::new(Position { line, column }, text, message, help);
        Self { file: file.to_owned(), mistakes: vec![mistake] }
    }

    /// Adds those of another part of the file, up to a thousand in all.
    pub fn append(&mut self, other: Self) {
        let room = MOST.saturating_sub(self.mistakes.len());
        self.mistakes.extend(other.mistakes.into_iter().take(room));
    }
}

/// How many tokens are held at a time, at least, and as many again at most: a text of a million statements takes no more memory than
/// what is made of it.
const BATCH: usize = 4096;

impl Asm {
    /// Reads a program in the grammar of `bpf!`. `file` is what messages call the text.
    ///
    /// # Errors
    /// Every mistake with its line, as `file:line:column: message`.
    pub fn parse(text: &str, file: &str) -> Result<Self, ParseError> {
        Self::parse_part(text, file, 1)
    }

    /// The same for a part of a file, which begins with this line.
    ///
    /// # Errors
    /// As [`Asm::parse`].
    pub fn parse_part(text: &str, file: &str, first_line: u32) -> Result<Self, ParseError> {
        let report = |mistakes: Vec<Mistake<Position>>| ParseError {
            file: file.to_owned(),
            mistakes: mistakes
                .into_iter()
                .map(|mistake| {
                    let index = usize::try_from(mistake.span.line.saturating_sub(first_line)).unwrap_or(usize::MAX);
                    let line = text.lines().nth(index).unwrap_or_default();
                    Shown::new(mistake.span, line, mistake.message, mistake.help)
                })
                .collect(),
        };
        let mut lexer = Lexer { text, at: 0, span: Position { line: first_line, column: 1 } };
        let mut block = Block::default();
        let mut asm = Self::new();
        let mut labels = HashMap::new();
        loop {
            let (tokens, bytes) = lexer.batch().map_err(|mistake| report(vec![mistake]))?;
            if tokens.is_empty() || block.is_given_up() {
                break;
            }
            for statement in &block.parse(&Text, &tokens, lexer.span) {
                let range = &statement.tokens;
                let last = bytes.get(range.end.saturating_sub(1)).map_or(0, |&(_, stop)| stop);
                let first = bytes.get(range.start).map_or(0, |&(start, _)| start);
                let words = text.get(first..last).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
                let Position { line, column } = statement.span;
                asm.at_place(SourceRef { file, line, column, text: &words });
                if let Some(reference) = &statement.reference {
                    asm.refer(reference.clone());
                }
                emit(&mut asm, &mut labels, &statement.stmt);
            }
        }
        block.finish().map_err(report)?;
        asm.shrink();
        Ok(asm)
    }
}

/// Cuts a text into tokens. Comments run from `//` to the end of the line.
struct Lexer<'a> {
    text: &'a str,
    at: usize,
    span: Position,
}

/// Tokens, and the bytes where each starts and stops.
type Tokens = (Vec<Token<Infallible, Position>>, Vec<(usize, usize)>);

impl Lexer<'_> {
    /// The next tokens, up to the end of a statement or a label; none at the end of the text.
    fn batch(&mut self) -> Result<Tokens, Mistake<Position>> {
        let (mut tokens, mut bytes) = (Vec::new(), Vec::new());
        // Where the statement began that is not at its end.
        let mut start = 0;
        while let Some((token, range)) = self.token()? {
            let span = token.span;
            tokens.push(token);
            bytes.push(range);
            if self.is_end(&tokens[start..]) {
                start = tokens.len();
                if start >= BATCH {
                    break;
                }
            } else if tokens.len() - start > BATCH {
                let message = format!("a statement of more than {BATCH} words and signs");
                return Err(Mistake { span, message, help: None });
            }
        }
        Ok((tokens, bytes))
    }

    /// Whether these are a whole statement, with its semicolon, or a label with its colon.
    fn is_end(&self, tokens: &[Token<Infallible, Position>]) -> bool {
        let is_word = |token: &Token<_, _>| matches!(token.kind, TokenKind::Word(_));
        match tokens {
            [.., last] if last.kind == TokenKind::Punct(';') => true,
            // Two colons are part of a path.
            [word, colon] if colon.kind == TokenKind::Punct(':') => {
                is_word(word) && !self.text[self.at..].starts_with(':')
            }
            _ => false,
        }
    }

    #[allow(clippy::type_complexity)] // a token and its bytes
    fn token(&mut self) -> Result<Option<(Token<Infallible, Position>, (usize, usize))>, Mistake<Position>> {
        let text = self.text;
        while let Some(c) = text[self.at..].chars().next() {
            let (start, span) = (self.at, self.span);
            let rest = &text[start..];
            let mistake = |message: String| Mistake { span, message, help: None };
            let kind = if c == '\n' {
                self.at += 1;
                self.span = Position { line: span.line.saturating_add(1), column: 1 };
                continue;
            } else if c.is_whitespace() {
                self.at += c.len_utf8();
                self.span.column = span.column.saturating_add(1);
                continue;
            } else if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
                continue;
            } else if c.is_ascii_digit() {
                let word = word(rest);
                let number = number(word).ok_or_else(|| mistake(format!("`{word}` is not a number")))?;
                self.at += word.len();
                TokenKind::Int(number)
            } else if c.is_ascii_alphabetic() || c == '_' {
                self.at += word(rest).len();
                TokenKind::Word(word(rest).to_owned())
            } else if matches!(c, '{' | '}') {
                return Err(mistake("a text has no Rust expressions in braces".to_owned()));
            } else if c.is_ascii_punctuation() {
                self.at += 1;
                TokenKind::Punct(c)
            } else {
                return Err(mistake(format!("`{}` has no meaning here", c.escape_default())));
            };
            // Everything that becomes a token is ASCII.
            let length = u32::try_from(self.at - start).unwrap_or(u32::MAX);
            self.span.column = span.column.saturating_add(length);
            return Ok(Some((Token { kind, span }, (start, self.at))));
        }
        Ok(None)
    }
}

/// Letters, digits and `_` at the start of a text.
fn word(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())]
}

fn number(word: &str) -> Option<i128> {
    let digits = word.replace('_', "");
    match digits.get(..2) {
        Some("0x") => i128::from_str_radix(&digits[2..], 16).ok(),
        Some("0o") => i128::from_str_radix(&digits[2..], 8).ok(),
        Some("0b") => i128::from_str_radix(&digits[2..], 2).ok(),
        _ => digits.parse().ok(),
    }
}

fn value(value: &Value<Infallible>) -> Imm {
    match value {
        Value::Int(int) => Imm::Int(*int),
        Value::Field(path) => Imm::Field(FieldPath::new(path.clone())),
        Value::SizeOf(path) => Imm::SizeOf(FieldPath::new(path.clone())),
        Value::Ctx(word) => Imm::Ctx(word.clone().into()),
        Value::Rust(never) => match *never {},
    }
}

fn place(place: &Place<Infallible>) -> Mem {
    let Offset(terms) = &place.offset;
    terms.iter().fold(
        Mem::at(place.base),
        |mem, (minus, term)| {
            if *minus { mem.minus(value(term)) } else { mem.plus(value(term)) }
        },
    )
}

fn map(map: &Map<Infallible>) -> MapRef {
    match map {
        Map::Name(name) => MapRef::new(name.clone()),
        Map::Rust(never) => match *never {},
    }
}

fn label(asm: &mut Asm, labels: &mut HashMap<String, Label>, name: &str) -> Label {
    match labels.get(name) {
        Some(&label) => label,
        None => *labels.entry(name.to_owned()).or_insert_with(|| asm.named_label(name)),
    }
}

fn target(asm: &mut Asm, labels: &mut HashMap<String, Label>, target: &Target<Infallible>) -> JumpTo {
    match target {
        Target::Label(name) => JumpTo::Label(label(asm, labels, name)),
        Target::Relative(slots) => JumpTo::Relative(*slots),
        Target::Rust(never) => match *never {},
    }
}

/// The same calls of the builder that the macro writes down.
fn emit(asm: &mut Asm, labels: &mut HashMap<String, Label>, stmt: &Stmt<Infallible>) {
    let whole = |operand: &Side<Infallible>| match operand {
        Side::Reg(reg) => Operand::Reg(*reg),
        Side::Imm(imm) => Operand::Imm(value(imm)),
    };
    let half = |operand: &Side<Infallible>| match operand {
        Side::Reg(reg) => Operand::Reg(WReg::from(*reg)),
        Side::Imm(imm) => Operand::Imm(value(imm)),
    };
    let _ = match stmt {
        Stmt::Label(name) => {
            let label = label(asm, labels, name);
            asm.bind(label)
        }
        Stmt::Splice(never) => match *never {},
        Stmt::Alu { op, wide: true, dst, src } => asm.alu(*op, *dst, whole(src)),
        Stmt::Alu { op, wide: false, dst, src } => asm.alu(*op, WReg::from(*dst), half(src)),
        Stmt::Movsx { wide: true, dst, src, bits } => asm.movsx(*dst, *src, *bits),
        Stmt::Movsx { wide: false, dst, src, bits } => asm.movsx(WReg::from(*dst), WReg::from(*src), *bits),
        Stmt::AddrSpaceCast { dst, src, to, from } => asm.addr_space_cast(*dst, *src, *to, *from),
        Stmt::Neg { wide: true, dst } => asm.neg(*dst),
        Stmt::Neg { wide: false, dst } => asm.neg(WReg::from(*dst)),
        Stmt::Endian { order, dst, bits } => asm.endian(*order, *dst, *bits),
        Stmt::Load { size, signed: false, dst, from } => asm.load(*size, *dst, place(from)),
        Stmt::Load { size, signed: true, dst, from } => asm.load_sx(*size, *dst, place(from)),
        Stmt::Store { size, to, src: Side::Reg(src) } => asm.store(*size, place(to), *src),
        Stmt::Store { size, to, src: Side::Imm(src) } => asm.store(*size, place(to), Src::Imm(value(src))),
        Stmt::Atomic { size, op, to, src } => asm.atomic(*op, *size, place(to), *src),
        Stmt::LoadAcquire { size, dst, from } => asm.load_acquire(*size, *dst, place(from)),
        Stmt::StoreRelease { size, to, src } => asm.store_release(*size, place(to), *src),
        Stmt::LoadAbs { size, offset } => asm.load_abs(*size, value(offset)),
        Stmt::LoadInd { size, index, offset } => asm.load_ind(*size, *index, value(offset)),
        Stmt::LoadImm64 { dst, value: imm } => asm.load_imm64(*dst, value(imm)),
        Stmt::LoadMap { dst, map: name } => asm.load_map(*dst, map(name)),
        Stmt::LoadMapValue { dst, map: name, offset } => asm.load_map_value(*dst, map(name), value(offset)),
        Stmt::LoadFunc { dst, name } => asm.load_func(*dst, name.clone()),
        Stmt::LoadPseudo { dst, pseudo, lower, upper } => asm.load_pseudo(*dst, *pseudo, *lower, *upper),
        Stmt::Jump { cond: None, to } => {
            let to = target(asm, labels, to);
            asm.goto(to)
        }
        Stmt::Jump { cond: Some(cond), to } => {
            let to = target(asm, labels, to);
            if cond.wide {
                asm.jump(cond.op, cond.left, whole(&cond.right), to)
            } else {
                asm.jump(cond.op, WReg::from(cond.left), half(&cond.right), to)
            }
        }
        Stmt::Gotol(to) => {
            let to = target(asm, labels, to);
            asm.gotol(to)
        }
        Stmt::MayGoto(to) => {
            let to = target(asm, labels, to);
            asm.may_goto(to)
        }
        Stmt::Call(Callee::Helper(helper)) => asm.call(*helper),
        Stmt::Call(Callee::Rust(never)) => match *never {},
        Stmt::Call(Callee::Function(name)) => asm.call_func(name.clone()),
        Stmt::Call(Callee::Relative(slots)) => asm.call_relative(*slots),
        Stmt::Call(Callee::KfuncId(id)) => asm.call_kfunc_id(*id),
        Stmt::Call(Callee::Kfunc(name)) => asm.call_kfunc(name.clone()),
        Stmt::Call(Callee::Reg(function)) => asm.callx(*function),
        Stmt::Exit => asm.exit(),
        Stmt::Raw { code, dst, src, off, imm } => asm.raw(Insn::new(Opcode(*code), *dst, *src, *off, *imm)),
    };
}
