//! Where a program is attached, as far as words depend on it: what its context is, and the types of what it is given.

use bpfkit_btf::{Btf, Type};
use bpfkit_loader::{Arch, Attach, Format, Target};

use super::value::{Member, Thing, Value, pointee};

/// What is known of a program besides its instructions. Nothing has to be.
#[derive(Debug, Default)]
pub struct Place<'a> {
    /// What its context is: `the CPU's registers when tcp_v4_connect returns`.
    pub context: String,
    /// Whose arguments and result the context has: `tcp_v4_connect`.
    subject: Option<String>,
    /// Whether arguments are told apart from a result by where they are; not so at the return of a function, whose registers have
    /// been used for other things since.
    has_arguments: bool,
    /// The arguments: names and types.
    params: Vec<(String, String)>,
    /// Whether r1 is the first of these at the start, and not the context.
    pub is_replacement: bool,
    /// How the members of its context are named, where that is known by their offsets.
    arch: Option<Arch>,
    /// The layout of the tracepoint's record.
    record: Option<Format>,
    btf: Option<&'a Btf>,
}

impl<'a> Place<'a> {
    /// A program that is to be attached there.
    pub fn of(attach: &Attach, target: &'a Target) -> Self {
        let btf = target.btf().ok();
        let at = |when: &str| format!("the CPU's registers {when}");
        let (context, subject, function) = match attach {
            Attach::Kprobe { symbol, offset: 0 } => {
                (at(&format!("when {symbol} is called")), symbol.clone(), symbol.clone())
            }
            Attach::Kprobe { symbol, offset } => (at(&format!("at {symbol}+{offset}")), String::new(), String::new()),
            Attach::Kretprobe { symbol } => (at(&format!("when {symbol} returns")), symbol.clone(), String::new()),
            Attach::Uprobe { .. } | Attach::UprobeMulti { at_return: false, .. } => {
                (at("when the probed function is called"), "the probed function".to_owned(), String::new())
            }
            Attach::Uretprobe { .. } | Attach::UprobeMulti { at_return: true, .. } => {
                (at("when the probed function returns"), "the probed function".to_owned(), String::new())
            }
            Attach::Usdt { probe, .. } => (at(&format!("at the probe {probe}")), String::new(), String::new()),
            Attach::Tracepoint { category, name } => {
                let call =
                    name.split_once('_').filter(|_| category == "syscalls").and_then(|(_, rest)| rest.split_once('_'));
                let subject = call.map_or(String::new(), |(_, call)| format!("the system call {call}"));
                (format!("the record of the tracepoint {category}:{name}"), subject, String::new())
            }
            Attach::RawTracepoint { name } | Attach::TpBtf { name } => {
                let subject = format!("the tracepoint {name}");
                (format!("the arguments of {subject}"), subject, format!("btf_trace_{name}"))
            }
            Attach::Fentry { func } => (format!("the arguments of {func}"), func.clone(), func.clone()),
            Attach::Fexit { func } => (format!("the arguments and the result of {func}"), func.clone(), func.clone()),
            Attach::FmodRet { func } => {
                (format!("the arguments of {func}, and what it is to return so far"), func.clone(), func.clone())
            }
            Attach::Lsm { hook } => {
                let subject = format!("the hook {hook}");
                (format!("the arguments of {subject}, and the decision so far"), subject, format!("bpf_lsm_{hook}"))
            }
            Attach::FentryProg(func) => (format!("the arguments of {func}"), func.func.clone(), String::new()),
            Attach::FexitProg(func) => {
                (format!("the arguments and the result of {func}"), func.func.clone(), String::new())
            }
            Attach::Freplace(func) => (String::new(), func.func.clone(), String::new()),
            Attach::PerfEvent { .. } => (at("at the tick of the clock"), String::new(), String::new()),
            _ => ("what the kernel gives the program".to_owned(), String::new(), String::new()),
        };
        let proto = btf.and_then(|btf| match attach {
            Attach::RawTracepoint { .. } | Attach::TpBtf { .. } => btf.typedef_proto(&function).ok(),
            _ => btf.func_proto(&function).ok(),
        });
        // The first parameter is the tracepoint's own, and no program sees it.
        let hidden = usize::from(matches!(attach, Attach::RawTracepoint { .. } | Attach::TpBtf { .. }));
        let params = |proto: Type<'_>| {
            let params = proto.params().skip(hidden);
            params
                .map(|param| (param.name.into_owned(), btf.map_or_else(String::new, |btf| btf.spell(param.ty))))
                .collect()
        };
        Self {
            context,
            has_arguments: match attach {
                Attach::Kprobe { offset, .. } => *offset == 0,
                Attach::Kretprobe { .. } | Attach::Uretprobe { .. } | Attach::Usdt { .. } => false,
                Attach::UprobeMulti { at_return, .. } => !at_return,
                _ => true,
            },
            subject: Some(subject).filter(|subject| !subject.is_empty()),
            params: proto.map_or_else(Vec::new, params),
            is_replacement: matches!(attach, Attach::Freplace(_)),
            arch: (attach.prog_type() == bpfkit_loader::ProgType::KPROBE).then(|| target.arch()),
            record: match attach {
                Attach::Tracepoint { category, name } => target.tracepoint(category, name).ok(),
                _ => None,
            },
            btf,
        }
    }

    /// A program of which the kernel tells no more than its type: `kprobe`.
    pub fn of_kind(kind: &str) -> Self {
        let context = match kind {
            "kprobe" => "the CPU's registers at the probe",
            "tracepoint" => "the record of the tracepoint",
            "raw_tracepoint" | "tracing" | "lsm" => "the arguments of what is traced",
            _ => "what the kernel gives the program",
        };
        let arch = Arch::running().ok().filter(|_| kind == "kprobe");
        Self { context: context.to_owned(), arch, ..Self::default() }
    }

    /// A member of the context by its name: `arg1`, `ret`, `newstate`.
    pub fn member(&self, word: &str) -> Value {
        let subject = self.subject.as_deref();
        if let Some(number) = word.strip_prefix("arg").and_then(|number| number.parse().ok()) {
            return self.argument(number);
        }
        Value::named(match (word, subject) {
            ("ret", Some(subject)) => format!("the result of {subject}"),
            ("ret", None) => "the result".to_owned(),
            ("sp", _) => "the stack pointer of the probed code".to_owned(),
            ("ip", _) => "the address of the probed instruction".to_owned(),
            (word, _) => format!("`{word}` of the record"),
        })
    }

    /// `len` bytes of a member of the context, the first of which is `from`.
    pub fn member_part(&self, word: &str, from: i64, len: i64) -> Value {
        let member = self.member(word);
        match self.record.as_ref().and_then(|record| record.field(word)) {
            Some(field) => member.part(from, len, field.size.into(), self),
            None => member.part(from, len, from + len, self),
        }
    }

    /// An argument, from 1.
    pub fn argument(&self, number: usize) -> Value {
        if !self.has_arguments {
            return Value::named(format!("the register in which argument {number} is passed"));
        }
        let of = self.subject.as_ref().map_or(String::new(), |subject| format!(" of {subject}"));
        let param = number.checked_sub(1).and_then(|index| self.params.get(index));
        let words = match param {
            Some((name, _)) if !name.is_empty() => format!("`{name}`{of}"),
            _ => format!("argument {number}{of}"),
        };
        let to = param.and_then(|(_, kind)| pointee(kind)).map(Into::into);
        Thing { to, ..Thing::new(words) }.into()
    }

    /// Which argument it is, and its type: `, its argument 1 (struct sock *)`.
    pub fn about(&self, word: &str) -> Option<String> {
        let number: usize = word.strip_prefix("arg")?.parse().ok()?;
        let (name, kind) = self.params.get(number.checked_sub(1)?).filter(|_| self.has_arguments)?;
        (!name.is_empty()).then(|| format!(", its argument {number} ({kind})"))
    }

    /// What lies in the context there, where nothing but the offset is known.
    pub fn context_at(&self, offset: i64) -> Option<Value> {
        let word = self.arch?.word_at(u32::try_from(offset).ok()?)?;
        Some(self.member(word))
    }

    /// A member within another one, by where it is: `skc_dport` in `skc_portpair`.
    pub fn member_in(&self, member: &Member, from: i64, len: i64) -> Option<Member> {
        let btf = self.btf?;
        let (root, _) = member.path.split_once('.')?;
        let wanted = (i64::from(member.offset) + from, len);
        let holder = btf.field(&member.path).ok()?;
        let mut found = Vec::new();
        let types = [bpfkit_btf::Kind::STRUCT, bpfkit_btf::Kind::UNION];
        collect(btf, btf.find(root, &types)?, root, 0, wanted, 8, &mut found);
        let common = |path: &str| path.bytes().zip(holder.path.bytes()).take_while(|(a, b)| a == b).count();
        let best = found.into_iter().rev().max_by_key(|(path, _)| common(path))?;
        Some(Member {
            path: best.0.into(),
            offset: u32::try_from(wanted.0).ok()?,
            size: u32::try_from(len).ok()?,
            kind: best.1.into(),
        })
    }
}

/// Finds the members of a structure that are so many bytes at this offset, with their types.
fn collect(
    btf: &Btf,
    holder: Type<'_>,
    path: &str,
    base: i64,
    wanted: (i64, i64),
    depth: usize,
    found: &mut Vec<(String, String)>,
) {
    let Ok(holder) = holder.resolved() else { return };
    for member in holder.members() {
        let at = base + i64::from(member.bit_offset / 8);
        let Ok(ty) = btf.ty(member.ty) else { continue };
        let size = ty.size().map_or(0, i64::from);
        if member.bits.is_some() || wanted.0 < at || wanted.0 + wanted.1 > at + size {
            continue;
        }
        let path = if member.name.is_empty() { path.to_owned() } else { format!("{path}.{}", member.name) };
        let is_number = ty.resolved().is_ok_and(|ty| ty.members().next().is_none() && ty.array_len().is_none());
        if (at, size) == wanted && !member.name.is_empty() && is_number {
            found.push((path, btf.spell(member.ty)));
        } else if depth > 0 {
            collect(btf, ty, &path, at, wanted, depth - 1, found);
        }
    }
}
