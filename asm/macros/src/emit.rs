//! Statements as calls of the builder.

use std::collections::BTreeMap;
use std::fmt::Write;

use bpfkit_asm_syntax::{
    Callee, Map, Mistake, Offset, Operand, Place, Reference, Reg, Size, Statement, Stmt, Target, Token, Value,
};
use proc_macro::{Delimiter, Group, Span, TokenStream, TokenTree};

/// Where the builder is.
const A: &str = "::bpfkit_asm";

/// Text of the expansion. The user's expressions are names in it, until the text has become tokens: so they keep their places.
struct Writer {
    text: String,
    rust: Vec<TokenStream>,
    labels: BTreeMap<String, usize>,
}

/// The expansion of a block.
pub fn block(statements: &[Statement<TokenStream, Span>], tokens: &[Token<TokenStream, Span>]) -> TokenStream {
    let mut writer =
        Writer { text: format!("let mut __bpf = {A}::Asm::new();"), rust: Vec::new(), labels: BTreeMap::new() };
    for statement in statements {
        if let Stmt::Label(name) = &statement.stmt {
            let n = writer.labels.len();
            writer.labels.insert(name.clone(), n);
            writer.write(format_args!("let __label_{n} = __bpf.named_label({name:?});"));
        }
    }
    for statement in statements {
        if !matches!(statement.stmt, Stmt::Label(_) | Stmt::Splice(_)) {
            let (file, line, column) = (statement.span.file(), statement.span.line(), statement.span.column());
            let text = source_text(&tokens[statement.tokens.clone()]);
            writer.write(format_args!("__bpf.at({A}::Source::at({file:?}, {line}, {column}, {text:?}));"));
        }
        if let Some(reference) = &statement.reference {
            let (variant, rest) = match reference {
                Reference::Map(name) => ("Map", format!("{name:?}.to_owned()")),
                Reference::MapValue(name, offset) => ("MapValue", format!("{name:?}.to_owned(), {offset}")),
                Reference::Func(name) => ("Func", format!("{name:?}.to_owned()")),
                Reference::Kfunc(name) => ("Kfunc", format!("{name:?}.to_owned()")),
            };
            writer.write(format_args!("__bpf.refer({A}::Reference::{variant}({rest}));"));
        }
        writer.statement(&statement.stmt);
    }
    writer.text.push_str("__bpf");
    let expansion: TokenStream = writer.text.parse().unwrap_or_default();
    TokenTree::Group(Group::new(Delimiter::Brace, writer.fill(expansion))).into()
}

/// The expansion of a block with mistakes: each is an error at its token, and the block is still one of type `Asm`.
pub fn complaints(mistakes: &[Mistake<Span>]) -> TokenStream {
    let errors = mistakes.iter().flat_map(|mistake| {
        let text = match &mistake.help {
            Some(help) => format!("{}\n\n  help: {help}", mistake.message),
            None => mistake.message.clone(),
        };
        let error: TokenStream = format!("::core::compile_error! {{ {text:?} }}").parse().unwrap_or_default();
        respan(error, mistake.span)
    });
    let block = errors.chain(format!("{A}::Asm::new()").parse::<TokenStream>().unwrap_or_default());
    TokenTree::Group(Group::new(Delimiter::Brace, block.collect())).into()
}

/// The same tokens at another place, by which the compiler underlines what is wrong with them.
fn respan(tokens: TokenStream, place: Span) -> TokenStream {
    tokens
        .into_iter()
        .map(|mut token| {
            if let TokenTree::Group(group) = &token {
                token = Group::new(group.delimiter(), respan(group.stream(), place)).into();
            }
            token.set_span(place);
            token
        })
        .collect()
}

/// The statement as it was written, spaces within lines kept.
fn source_text(tokens: &[Token<TokenStream, Span>]) -> String {
    let mut text = String::new();
    let mut end: Option<(usize, usize)> = None;
    for token in tokens {
        let (start, stop) = (token.span.start(), token.span.end());
        if let Some((line, column)) = end {
            let gap = if start.line() == line { start.column().saturating_sub(column) } else { 1 };
            text.extend(std::iter::repeat_n(' ', gap));
        }
        text.push_str(&token.span.source_text().unwrap_or_default());
        end = Some((stop.line(), stop.column()));
    }
    text
}

fn reg(reg: Reg) -> String {
    format!("{A}::Reg::R{}", reg.n())
}

fn reg_of(wide: bool, reg: Reg) -> String {
    if wide { self::reg(reg) } else { format!("{A}::WReg::W{}", reg.n()) }
}

fn size(size: Size) -> String {
    format!("{A}::Size::{size:?}")
}

impl Writer {
    fn write(&mut self, arguments: std::fmt::Arguments<'_>) {
        // A String takes everything.
        let _ = self.text.write_fmt(arguments);
    }

    /// A name that stands for an expression.
    fn rust(&mut self, tokens: &TokenStream) -> String {
        self.rust.push(tokens.clone());
        format!("__rust_{}", self.rust.len() - 1)
    }

    /// Puts the expressions where their names are.
    fn fill(&self, tokens: TokenStream) -> TokenStream {
        tokens
            .into_iter()
            .flat_map(|token| match &token {
                TokenTree::Ident(ident) => {
                    let name = ident.to_string();
                    let n = name.strip_prefix("__rust_").and_then(|n| n.parse::<usize>().ok());
                    match n.and_then(|n| self.rust.get(n)) {
                        Some(tokens) => tokens.clone(),
                        None => token.into(),
                    }
                }
                TokenTree::Group(group) => {
                    let mut filled = Group::new(group.delimiter(), self.fill(group.stream()));
                    filled.set_span(group.span());
                    TokenTree::Group(filled).into()
                }
                _ => token.into(),
            })
            .collect()
    }

    fn value(&mut self, value: &Value<TokenStream>) -> String {
        match value {
            Value::Int(int) => format!("{A}::Imm::Int({int}_i128)"),
            Value::Field(path) => format!("{A}::Imm::Field({A}::FieldPath::new({path:?}))"),
            Value::SizeOf(path) => format!("{A}::Imm::SizeOf({A}::FieldPath::new({path:?}))"),
            Value::Ctx(word) => format!("{A}::Imm::Ctx(::std::borrow::Cow::Borrowed({word:?}))"),
            Value::Rust(tokens) => {
                // At the place of the expression, as it is the expression that may be of a wrong type.
                let place = tokens.clone().into_iter().next().map_or_else(Span::call_site, |token| token.span());
                let from = format!("{A}::Imm::from").parse().unwrap_or_default();
                let call = TokenTree::Group(Group::new(Delimiter::Parenthesis, tokens.clone()));
                let imm = respan(from, Span::call_site().located_at(place)).into_iter().chain([call]).collect();
                self.rust(&imm)
            }
        }
    }

    fn operand(&mut self, wide: bool, operand: &Operand<TokenStream>) -> String {
        match operand {
            Operand::Reg(reg) => reg_of(wide, *reg),
            Operand::Imm(value) => self.value(value),
        }
    }

    fn place(&mut self, Place { base, offset: Offset(terms) }: &Place<TokenStream>) -> String {
        let mut text = format!("{A}::Mem::at({})", reg(*base));
        for (minus, value) in terms {
            let value = self.value(value);
            text.push_str(&format!(".{}({value})", if *minus { "minus" } else { "plus" }));
        }
        text
    }

    fn map(&mut self, map: &Map<TokenStream>) -> String {
        match map {
            Map::Name(name) => format!("{A}::MapRef::new({name:?})"),
            Map::Rust(tokens) => self.rust(tokens),
        }
    }

    fn target(&mut self, target: &Target<TokenStream>) -> String {
        match target {
            // The grammar has checked that the block has the label.
            Target::Label(name) => format!("__label_{}", self.labels.get(name).copied().unwrap_or_default()),
            Target::Relative(slots) => format!("{A}::JumpTo::Relative({slots})"),
            Target::Rust(tokens) => self.rust(tokens),
        }
    }

    fn statement(&mut self, stmt: &Stmt<TokenStream>) {
        let call = match stmt {
            Stmt::Label(name) => format!("bind(__label_{})", self.labels.get(name).copied().unwrap_or_default()),
            Stmt::Splice(tokens) => format!("splice({})", self.rust(tokens)),
            Stmt::Alu { op, wide, dst, src } => {
                let src = self.operand(*wide, src);
                format!("alu({A}::AluOp::{op:?}, {}, {src})", reg_of(*wide, *dst))
            }
            Stmt::Movsx { wide, dst, src, bits } => {
                format!("movsx({}, {}, {bits})", reg_of(*wide, *dst), reg_of(*wide, *src))
            }
            Stmt::AddrSpaceCast { dst, src, to, from } => {
                format!("addr_space_cast({}, {}, {to}, {from})", reg(*dst), reg(*src))
            }
            Stmt::Neg { wide, dst } => format!("neg({})", reg_of(*wide, *dst)),
            Stmt::Endian { order, dst, bits } => format!("endian({A}::ByteOrder::{order:?}, {}, {bits})", reg(*dst)),
            Stmt::Load { size: width, signed, dst, from } => {
                let from = self.place(from);
                format!("{}({}, {}, {from})", if *signed { "load_sx" } else { "load" }, size(*width), reg(*dst))
            }
            Stmt::Store { size: width, to, src } => {
                let (to, src) = (self.place(to), self.operand(true, src));
                format!("store({}, {to}, {src})", size(*width))
            }
            Stmt::Atomic { size: width, op, to, src } => {
                let to = self.place(to);
                format!("atomic({A}::AtomicOp::{op:?}, {}, {to}, {})", size(*width), reg(*src))
            }
            Stmt::LoadAcquire { size: width, dst, from } => {
                let from = self.place(from);
                format!("load_acquire({}, {}, {from})", size(*width), reg(*dst))
            }
            Stmt::StoreRelease { size: width, to, src } => {
                let to = self.place(to);
                format!("store_release({}, {to}, {})", size(*width), reg(*src))
            }
            Stmt::LoadAbs { size: width, offset } => {
                let offset = self.value(offset);
                format!("load_abs({}, {offset})", size(*width))
            }
            Stmt::LoadInd { size: width, index, offset } => {
                let offset = self.value(offset);
                format!("load_ind({}, {}, {offset})", size(*width), reg(*index))
            }
            Stmt::LoadImm64 { dst, value } => {
                let value = self.value(value);
                format!("load_imm64({}, {value})", reg(*dst))
            }
            Stmt::LoadMap { dst, map } => {
                let map = self.map(map);
                format!("load_map({}, {map})", reg(*dst))
            }
            Stmt::LoadMapValue { dst, map, offset } => {
                let (map, offset) = (self.map(map), self.value(offset));
                format!("load_map_value({}, {map}, {offset})", reg(*dst))
            }
            Stmt::LoadFunc { dst, name } => format!("load_func({}, {name:?})", reg(*dst)),
            Stmt::LoadPseudo { dst, pseudo, lower, upper } => {
                format!("load_pseudo({}, {A}::Pseudo::{pseudo:?}, {lower}, {upper})", reg(*dst))
            }
            Stmt::Jump { cond: None, to } => format!("goto({})", self.target(to)),
            Stmt::Jump { cond: Some(cond), to } => {
                let right = self.operand(cond.wide, &cond.right);
                let to = self.target(to);
                format!("jump({A}::JmpOp::{:?}, {}, {right}, {to})", cond.op, reg_of(cond.wide, cond.left))
            }
            Stmt::Gotol(to) => format!("gotol({})", self.target(to)),
            Stmt::MayGoto(to) => format!("may_goto({})", self.target(to)),
            Stmt::Call(Callee::Helper(helper)) => format!("call({A}::Helper({}))", helper.0),
            Stmt::Call(Callee::Rust(tokens)) => format!("call({})", self.rust(tokens)),
            Stmt::Call(Callee::Function(name)) => format!("call_func({name:?})"),
            Stmt::Call(Callee::Relative(slots)) => format!("call_relative({slots})"),
            Stmt::Call(Callee::KfuncId(id)) => format!("call_kfunc_id({id})"),
            Stmt::Call(Callee::Kfunc(name)) => format!("call_kfunc({name:?})"),
            Stmt::Call(Callee::Reg(function)) => format!("callx({})", reg(*function)),
            Stmt::Exit => "exit()".to_owned(),
            Stmt::Raw { code, dst, src, off, imm } => {
                format!("raw({A}::Insn::new({A}::Opcode({code}), {dst}, {src}, {off}, {imm}))")
            }
        };
        self.write(format_args!("__bpf.{call};"));
    }
}
