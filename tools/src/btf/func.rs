//! `bpfkit btf func`: the prototype of a function, and where its arguments are when it is called.

use bpfkit_btf::{Btf, Header, Kind, Type, TypeId};
use clap::ValueEnum;
use serde::Serialize;

use super::signature::Signatures;
use super::source::Inputs;
use crate::cli::Question;
use crate::output::Output;
use crate::{Columns, Error, Escaped, report};

/// Print the prototype of a function, and where each argument is when it is called
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A function
    name: String,
    #[command(flatten)]
    inputs: Inputs,
    /// The machine, which types do not tell
    #[arg(long, value_enum, default_value_t = Machine::own())]
    arch: Machine,
    /// Print one JSON object a line for each kernel: `kernel`, `prototype`, `arguments` and `result` as `name`, `type`, `size`,
    /// `place`; `changed` since the kernel before
    #[arg(long)]
    json: bool,
}

/// A machine whose calling convention is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Machine {
    /// System V's for x86-64
    #[value(name = "x86_64")]
    X86,
    /// AAPCS64
    #[value(name = "aarch64")]
    Arm,
    /// The one of BPF functions
    Bpf,
}

impl Machine {
    fn own() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Arm } else { Self::X86 }
    }

    fn registers(self) -> (&'static [&'static str], [&'static str; 2]) {
        match self {
            Self::X86 => (&["rdi", "rsi", "rdx", "rcx", "r8", "r9"], ["rax", "rdx"]),
            Self::Arm => (&["x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7"], ["x0", "x1"]),
            Self::Bpf => (&["r1", "r2", "r3", "r4", "r5"], ["r0", "r0"]),
        }
    }
}

/// An argument, or the result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Argument {
    name: String,
    #[serde(rename = "type")]
    type_name: String,
    size: u32,
    place: String,
}

#[derive(Serialize)]
struct Row<'a> {
    kernel: &'a str,
    prototype: Option<&'a str>,
    arguments: &'a [Argument],
    result: Option<&'a Argument>,
    changed: bool,
}

/// A function of one kernel.
struct Function {
    prototype: String,
    arguments: Vec<Argument>,
    result: Argument,
    /// Equal where types and order of arguments are.
    signature: u64,
}

impl Question for Args {
    fn answer(&self, output: &mut Output) -> Result<(), Error> {
        let sources = self.inputs.open()?;
        let functions: Vec<_> = sources.iter().map(|source| (&*source.name, self.find(&source.btf))).collect();
        if functions.iter().all(|(_, function)| function.is_none()) {
            let near = sources.iter().rev().find_map(|source| source.btf.nearest(&self.name, &[Kind::FUNC]));
            let meant = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let text = format!("there is no function `{}` among these types{meant}", self.name);
            return Err(Error::Request(Escaped(text.as_bytes()).to_string()));
        }
        let mut last: Option<&Option<Function>> = None;
        for (kernel, function) in &functions {
            let signature = |function: &Option<Function>| function.as_ref().map(|function| function.signature);
            let changed = last.is_some_and(|last| signature(last) != signature(function));
            if self.json {
                let prototype = function.as_ref().map(|function| &*function.prototype);
                let arguments = function.as_ref().map_or(&[][..], |function| &function.arguments);
                let result = function.as_ref().map(|function| &function.result);
                output.json(&Row { kernel, prototype, arguments, result, changed })?;
            } else {
                let title = Escaped(kernel.as_bytes());
                match (function, last) {
                    (None, None | Some(Some(_))) => output.line(&format!("// {title}: not there"))?,
                    (None, Some(None)) => output.line(&format!("// {title}: not there either"))?,
                    (Some(function), last) => {
                        if functions.len() > 1 {
                            let note = match last {
                                None => "",
                                Some(_) if changed => ": changed",
                                Some(_) => ": the same",
                            };
                            output.line(&format!("// {title}{note}"))?;
                        }
                        if last.is_none() || changed {
                            function.print(output)?;
                        }
                    }
                }
            }
            last = Some(function);
        }
        output.flush()
    }
}

impl Args {
    fn find(&self, btf: &Btf) -> Option<Function> {
        let all: Vec<Type<'_>> = btf.named(&self.name).into_iter().filter(|ty| ty.kind() == Kind::FUNC).collect();
        let func = all.first()?;
        if all.len() > 1 {
            let text = format!("there are {} functions `{}`; this is the first", all.len(), self.name);
            report::say(Escaped(text.as_bytes()));
        }
        let id = func.target()?;
        let proto = btf.ty(id).ok().filter(|ty| ty.kind() == Kind::FUNC_PROTO)?;
        let (registers, results) = self.arch.registers();
        let mut used = 0;
        let mut stack = 0;
        let result = self.result(btf, proto.target().unwrap_or_default(), &results);
        // A result that does not fit into registers is written to where the first argument points.
        if result.place == "memory" && self.arch == Machine::X86 {
            used = 1;
        }
        let mut arguments = Vec::new();
        for (index, param) in proto.params().enumerate() {
            if param.ty.0 == 0 && index > 0 {
                let rest = Argument { name: "...".into(), type_name: String::new(), size: 0, place: String::new() };
                arguments.push(rest);
                break;
            }
            let size = size(btf, param.ty);
            let words = usize::try_from(size.div_ceil(8)).unwrap_or(usize::MAX).max(1);
            let is_large = words > 2;
            let (wanted, by) = if is_large && self.arch != Machine::X86 { (1, "*") } else { (words, "") };
            let place = if is_large && self.arch == Machine::X86 || used + wanted > registers.len() {
                let place = format!("stack+{stack}");
                stack += wanted.saturating_mul(8);
                // System V lets a smaller one behind it have the registers that are left.
                if self.arch != Machine::X86 {
                    used = registers.len();
                }
                place
            } else {
                used += wanted;
                format!("{by}{}", registers[used - wanted..used].join(":"))
            };
            let name = param.name.into_owned();
            arguments.push(Argument { name, type_name: Header::declaration(btf, param.ty, ""), size, place });
        }
        let prototype = Header::declaration(btf, id, &self.name);
        let signature = Signatures::new(btf).of(id);
        Some(Function { prototype, arguments, result, signature })
    }

    fn result(&self, btf: &Btf, id: TypeId, registers: &[&str; 2]) -> Argument {
        let size = size(btf, id);
        let place = match size {
            0 if id.0 == 0 => "-".to_owned(),
            0..=8 => registers[0].to_owned(),
            9..=16 => registers.join(":"),
            _ => "memory".to_owned(),
        };
        Argument { name: "return".to_owned(), type_name: Header::declaration(btf, id, ""), size, place }
    }
}

fn size(btf: &Btf, id: TypeId) -> u32 {
    btf.ty(id).and_then(Type::size).unwrap_or_default()
}

impl Function {
    fn print(&self, output: &mut Output) -> Result<(), Error> {
        output.line(&format!("{};", self.prototype))?;
        let all = || self.arguments.iter().chain([&self.result]);
        let cells = |argument: &Argument| {
            let text = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
            let name = Escaped(argument.name.as_bytes()).to_string();
            [
                "   ".to_owned(),
                text(&argument.place),
                argument.size.to_string(),
                text(&name),
                argument.type_name.clone(),
            ]
        };
        let rows: Vec<[String; 5]> = all().map(cells).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let mut columns = Columns::new((0..5).map(|column| ("", width(column))));
        rows.iter().try_for_each(|row| output.line(columns.row(row).trim_end()))
    }
}
