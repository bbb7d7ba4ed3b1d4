//! A program whose holes are filled for a kernel: still a value.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use bpfkit_asm::{Fixup, Helper, Insn, Names, SourceRef, Sources, Version, list};
use bpfkit_btf::{Builder, Kind};

use crate::feature::Feature;
use crate::filled::Filled;
use crate::func::{Func, Linkage, Place};
use crate::map::{Maps, with_memlock};
use crate::origin::Found;
use crate::prog::{Prog, ProgSpec};
use crate::sys::bpf::{self, ProgInput, ProgLoad};
use crate::target::Target;
use crate::verifier::{Rejection, Verdict, has_instructions};
use crate::{Error, ctx, kernel};

/// How much room the verifier is given for its log at first.
const LOG_FIRST: usize = 64 << 10;
/// The most that every kernel takes, `UINT_MAX >> 8`: before Linux 5.2 a byte more is EINVAL, and no log at all.
const LOG_MOST: usize = (16 << 20) - 1;
/// The most that is asked for to explain a rejection: what does not fit is explained without what the verifier knew.
const LOG_DETAIL: usize = 4 << 20;

/// A program for one kernel; only the numbers of its maps are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    spec: ProgSpec,
    insns: Vec<Insn>,
    /// Where each function begins.
    funcs: Vec<(usize, String)>,
    sources: Sources,
    labels: Vec<(usize, String)>,
    maps: BTreeMap<usize, String>,
    callees: BTreeMap<usize, String>,
    filled: BTreeMap<usize, Filled>,
    attach_btf_id: u32,
    /// Where the numbers in `filled` came from.
    found: Vec<Found>,
}

impl Names for Linked {
    fn map(&self, slot: usize) -> Option<&str> {
        self.maps.get(&slot).map(String::as_str)
    }

    fn function(&self, slot: usize) -> Option<&str> {
        self.callees.get(&slot).map(String::as_str)
    }
}

impl Linked {
    /// `place` is where the running kernel has the function of another program that this one belongs to.
    pub(crate) fn new(spec: &ProgSpec, target: &Target, place: Option<&Place>) -> Result<Self, Error> {
        let mut linked = Self {
            spec: spec.clone(),
            insns: Vec::new(),
            funcs: Vec::new(),
            sources: Sources::default(),
            labels: Vec::new(),
            maps: BTreeMap::new(),
            callees: BTreeMap::new(),
            filled: BTreeMap::new(),
            attach_btf_id: 0,
            found: Vec::new(),
        };
        let mut fixups = Vec::new();
        for Func { name, code, .. } in &spec.funcs {
            let base = linked.insns.len();
            let code = code.resolved();
            linked.funcs.push((base, name.clone()));
            linked.insns.extend(code.insns());
            linked.sources.append(code.sources());
            linked.labels.extend(code.labels().iter().map(|(slot, label)| (base + slot, label.clone())));
            fixups.extend(code.fixups().iter().map(|(slot, fixup)| (base + slot, fixup.clone())));
        }
        for (slot, fixup) in fixups {
            linked.fill(slot, &fixup, target, place)?;
        }
        linked.found = linked.origins(target);
        linked.attach_btf_id = place.map_or_else(|| linked.attach_id(target), |place| Ok(place.btf_id))?;
        Ok(linked)
    }

    /// Where what filled the holes came from, in the order of the alphabet.
    fn origins(&self, target: &Target) -> Vec<Found> {
        let mut context = None;
        let found: BTreeSet<Found> = self
            .filled
            .values()
            .map(|filled| match filled {
                Filled::Offset(field) => (target.origin(), format!("{} {}", field.path, field.offset)),
                Filled::Size(field) => (target.origin(), format!("size of {} {}", field.path, field.size)),
                Filled::Context { word, offset } => {
                    let (origin, of) = context.get_or_insert_with(|| ctx::origin(&self.spec, target));
                    (*origin, format!("{of}{word} {offset}"))
                }
            })
            .collect();
        found.into_iter().collect()
    }

    /// The type of the kernel by whose number it knows where the program belongs; 0 where it knows otherwise.
    fn attach_id(&self, target: &Target) -> Result<u32, Error> {
        let Some((kind, name)) = self.spec.attach.kernel_type() else { return Ok(0) };
        let feature = self.spec.attach.feature().unwrap_or(Feature::Fentry);
        target.note(&name);
        let found = target.numbered_btf(feature)?.find(&name, &[kind]);
        found.map(|found| found.id.0).ok_or_else(|| bpfkit_btf::Error::NoType(name).into())
    }

    fn fill(&mut self, slot: usize, fixup: &Fixup, target: &Target, place: Option<&Place>) -> Result<(), Error> {
        let unknown =
            |what, name: &str| Error::Unknown { what, name: name.to_owned(), program: self.spec.name.clone() };
        match fixup {
            Fixup::Map(map) | Fixup::MapValue(map) => {
                self.maps.insert(slot, map.as_str().to_owned());
            }
            Fixup::FieldOff(path) | Fixup::FieldImm(path) | Fixup::FieldSize(path) => {
                let field = target.field(path.as_str())?;
                match fixup {
                    Fixup::FieldOff(_) => self.add_off(slot, field.offset, path.as_str())?,
                    Fixup::FieldImm(_) => self.add_imm(slot, field.offset, path.as_str())?,
                    _ => self.add_imm(slot, field.size, path.as_str())?,
                }
                let filled = if matches!(fixup, Fixup::FieldSize(_)) { Filled::Size } else { Filled::Offset };
                self.filled.insert(slot, filled(field));
            }
            Fixup::CtxOff(word) | Fixup::CtxImm(word) => {
                let offset = ctx::offset(&self.spec, word, target, place)?;
                if matches!(fixup, Fixup::CtxOff(_)) {
                    self.add_off(slot, offset, word)?;
                } else {
                    self.add_imm(slot, offset, word)?;
                }
                self.filled.insert(slot, Filled::Context { word: word.clone().into_owned(), offset });
            }
            Fixup::Call(name) | Fixup::Func(name) => {
                let start = self.funcs.iter().find(|(_, known)| known == name).map(|&(start, _)| start);
                let start = start.ok_or_else(|| unknown("function", name))?;
                // Distances are counted from the next slot, for a constant of two slots from its second.
                let distance = i64::try_from(start).unwrap_or(i64::MAX) - i64::try_from(slot).unwrap_or(i64::MAX) - 1;
                self.insns[slot].imm = i32::try_from(distance)
                    .map_err(|_| Error::TooFar { what: format!("function `{name}`"), value: distance })?;
                self.callees.insert(slot, name.clone().into_owned());
            }
            Fixup::Kfunc(name) => {
                target.note(name);
                let func = target
                    .numbered_btf(Feature::Kfunc)?
                    .find(name, &[Kind::FUNC])
                    .ok_or_else(|| unknown("kernel function", name))?;
                self.insns[slot].imm = i32::try_from(func.id.0).map_err(|_| Error::TooFar {
                    what: format!("kernel function `{name}`"),
                    value: func.id.0.into(),
                })?;
                self.callees.insert(slot, name.clone().into_owned());
            }
            // Code that is resolved has none.
            Fixup::Reference(_) => {}
        }
        Ok(())
    }

    fn add_off(&mut self, slot: usize, offset: u32, what: &str) -> Result<(), Error> {
        let value = i64::from(self.insns[slot].off) + i64::from(offset);
        let too_far = |_| Error::TooFar { what: what.to_owned(), value };
        self.insns[slot].off = i16::try_from(value).map_err(too_far)?;
        Ok(())
    }

    fn add_imm(&mut self, slot: usize, offset: u32, what: &str) -> Result<(), Error> {
        let value = i64::from(self.insns[slot].imm) + i64::from(offset);
        let too_far = |_| Error::TooFar { what: what.to_owned(), value };
        self.insns[slot].imm = i32::try_from(value).map_err(too_far)?;
        Ok(())
    }

    /// The slots.
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }

    /// The program that it was made from.
    pub fn spec(&self) -> &ProgSpec {
        &self.spec
    }

    /// Where each slot was written.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Where each function begins.
    pub fn funcs(&self) -> &[(usize, String)] {
        &self.funcs
    }

    /// The labels by slot, in order.
    pub fn labels(&self) -> &[(usize, String)] {
        &self.labels
    }

    /// What filled the holes, by slot.
    pub fn filled(&self) -> &BTreeMap<usize, Filled> {
        &self.filled
    }

    /// The maps, by the slot that loads their address.
    pub fn maps(&self) -> &BTreeMap<usize, String> {
        &self.maps
    }

    /// The names of the functions that the slots call, or whose addresses they take: of the program or of the kernel.
    pub fn callees(&self) -> &BTreeMap<usize, String> {
        &self.callees
    }

    /// Checks the rules of the kernel that it was linked for, as far as they can be told without it.
    ///
    /// # Errors
    /// A type of program that the kernel lacks; the first rule that is broken, and where.
    pub fn check(&self, target: &Target) -> Result<(), Error> {
        self.spec.attach.feature().map_or(Ok(()), |feature| target.require(feature))?;
        crate::check::check(self, target).map_err(Error::Violation)
    }

    /// Loads it.
    ///
    /// # Errors
    /// A map that is not there; what the verifier says, with the place in the source.
    pub fn load(self, target: &Target, maps: &Maps) -> Result<Prog, Error> {
        if let Some(func) = self.spec.attach.onto() {
            let (name, program) = (func.program.clone(), self.spec.name.clone());
            return Err(Error::Unknown { what: "the loaded program", name, program });
        }
        let spec = self.spec.clone();
        self.load_at(target, maps, None).map_err(|error| spec.lacking(target, error))
    }

    /// Loads it, for a function of the program `onto` where there is one.
    pub(crate) fn load_at(self, target: &Target, maps: &Maps, onto: Option<BorrowedFd<'_>>) -> Result<Prog, Error> {
        let bytes = self.bytes(maps)?;
        let locked = || {
            let is_locked = self.reads_kernel() && target.lockdown() == Some("confidentiality");
            is_locked.then(|| {
                let what = format!("cannot load the program `{}`, which reads the kernel's memory", self.spec.name);
                Error::privileged(what, std::io::Error::from_raw_os_error(libc::EPERM))
            })
        };
        // Such a kernel takes the program before Linux 5.14, and has it read zeros.
        if target.version() < Version::new(5, 14)
            && let Some(error) = locked()
        {
            return Err(error);
        }
        let license = [self.spec.license.as_bytes(), b"\0"].concat();
        let attributes = self.attributes();
        let plain = ProgInput { insns: &bytes, license: &license, attach_prog: onto, ..Default::default() };
        let types = if target.has(Feature::ProgBtf) { self.types(target) } else { None };
        let input = types.as_ref().map_or(plain, |types| types.add_to(plain));
        let load = |input: ProgInput<'_>| with_memlock(|| bpf::prog_load(attributes, input, &mut []));
        let result = match load(input) {
            // The source lines are for people: a kernel that does not like them runs the program without.
            Err(_) if types.is_some() && !self.needs_types(target) => load(plain),
            result => result,
        };
        match result {
            Ok(fd) => Ok(Prog { fd: fd.into(), spec: self.spec.into(), found: self.found.into() }),
            // A newer one refuses the helper as if it were unknown.
            Err(error) => Err(locked().unwrap_or_else(|| self.rejected(attributes, input, plain, error))),
        }
    }

    fn reads_kernel(&self) -> bool {
        const READS: [Helper; 4] =
            [Helper::PROBE_READ, Helper::PROBE_READ_STR, Helper::PROBE_READ_KERNEL, Helper::PROBE_READ_KERNEL_STR];
        self.insns.iter().filter_map(|insn| insn.helper()).any(|helper| READS.contains(&helper))
    }

    /// What the verifier finds out about the program, instruction by instruction. Nothing is attached, and nothing stays.
    ///
    /// # Errors
    /// A map that is not there, want of privilege. That the program is refused is none: the verdict tells it.
    pub fn walk(&self, target: &Target, maps: &Maps) -> Result<Verdict, Error> {
        if let Some(func) = self.spec.attach.onto() {
            let (name, program) = (func.program.clone(), self.spec.name.clone());
            return Err(Error::Unknown { what: "the loaded program", name, program });
        }
        self.walk_at(target, maps, None).map_err(|error| self.spec.lacking(target, error))
    }

    /// The same, for a function of the program `onto` where there is one.
    pub(crate) fn walk_at(&self, target: &Target, maps: &Maps, onto: Option<BorrowedFd<'_>>) -> Result<Verdict, Error> {
        let bytes = self.bytes(maps)?;
        let license = [self.spec.license.as_bytes(), b"\0"].concat();
        let plain = ProgInput { insns: &bytes, license: &license, attach_prog: onto, ..Default::default() };
        // Source lines are not asked for: ours are at hand, and old kernels have none.
        let types = if self.needs_types(target) || onto.is_some() { self.types(target) } else { None };
        let input = types.as_ref().map_or(plain, |types| types.add_to(plain));
        let (log, result) = Self::ask(ProgLoad { log_level: Self::EVERY_STATE, ..self.attributes() }, input, LOG_MOST);
        match result {
            Err(error) if log.trim().is_empty() => {
                let what = format!("cannot ask the verifier about the program `{}`", self.spec.name);
                Err(Error::privileged(what, error))
            }
            result => Ok(Verdict::new(self.clone(), log, result.err())),
        }
    }

    /// The instructions as the kernel takes them, with the numbers of the maps.
    fn bytes(&self, maps: &Maps) -> Result<Vec<u8>, Error> {
        let mut insns = self.insns.clone();
        for (&slot, name) in &self.maps {
            let program = || self.spec.name.clone();
            let map = maps.get(name);
            let map = map.ok_or_else(|| Error::Unknown { what: "map", name: name.clone(), program: program() })?;
            insns[slot].imm = map.as_fd().as_raw_fd();
        }
        Ok(insns.iter().flat_map(|insn| insn.to_ne_bytes()).collect())
    }

    fn attributes(&self) -> ProgLoad {
        ProgLoad {
            prog_type: self.spec.attach.prog_type().0,
            kern_version: kernel::version_code().unwrap_or_default(),
            prog_name: bpf::object_name(&self.spec.name),
            expected_attach_type: self.spec.attach.expected(),
            attach_btf_id: self.attach_btf_id,
            ..Default::default()
        }
    }

    /// BPF_LOG_LEVEL2, and BPF_LOG_STATS (Linux 5.2) for the stack that each function takes. Before that any level above 1 is the same.
    const EVERY_STATE: u32 = 2 | 4;

    /// Loads with a log that grows until it is whole, or up to `most`; what was loaded goes at once.
    fn ask(attributes: ProgLoad, input: ProgInput<'_>, most: usize) -> (String, std::io::Result<()>) {
        let mut size = LOG_FIRST;
        loop {
            let mut log = vec![0; size];
            let result = bpf::prog_load(attributes, input, &mut log).map(drop);
            let is_cut = |error: &std::io::Error| error.raw_os_error() == Some(libc::ENOSPC);
            if size < most && result.as_ref().is_err_and(is_cut) {
                size = (size * 4).min(most);
                continue;
            }
            let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
            return (String::from_utf8_lossy(&log[..end]).into_owned(), result);
        }
    }

    /// Asks the verifier again, and has it say why. With the source lines it quotes them, unless it is them that it refuses and so
    /// never comes to the instructions.
    fn rejected(
        &self,
        attributes: ProgLoad,
        input: ProgInput<'_>,
        plain: ProgInput<'_>,
        error: std::io::Error,
    ) -> Error {
        let cannot = |error| {
            let what = format!("cannot load the program `{}`, {}", self.spec.name, self.spec.attach);
            Error::privileged(what, error)
        };
        // It is not the verifier that says so, and it might take the program with the next descriptor that is free.
        if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EINTR | libc::EAGAIN))
        {
            return cannot(error);
        }
        let ask = |input| Self::ask(ProgLoad { log_level: 1, ..attributes }, input, LOG_MOST).0;
        let (mut input, mut log) = (input, ask(input));
        if input.btf.is_some() && !has_instructions(&log) {
            (input, log) = (plain, ask(plain));
        }
        if log.trim().is_empty() {
            return cannot(error);
        }
        let detail = || Some(Self::ask(ProgLoad { log_level: Self::EVERY_STATE, ..attributes }, input, LOG_DETAIL).0);
        Error::Rejected(Box::new(Rejection::new(self, error, log, detail)))
    }

    /// Whether the kernel must be told the functions' types: it refuses a function's address without them, and a program that
    /// replaces a function; and without them a function is not global.
    fn needs_types(&self, target: &Target) -> bool {
        let has_global = self.spec.funcs.iter().any(|func| func.linkage == Linkage::Global);
        self.insns.iter().any(|insn| insn.is_func_address()) || has_global && target.has(Feature::GlobalFunc)
    }

    /// The slots at which another source line begins. The kernel wants one at each function's start; more of the same line tell
    /// nothing.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, Option<SourceRef<'_>>)> {
        let mut last = None;
        list(&self.insns, &()).filter_map(move |listed| {
            let source = self.sources.get(listed.slot);
            let is_start = self.funcs.iter().any(|&(start, _)| start == listed.slot);
            (last.replace(source) != Some(source) || is_start).then_some((listed.slot, source))
        })
    }

    /// Types, functions and source lines for the kernel, where it takes them.
    fn types(&self, target: &Target) -> Option<Types> {
        let mut types = Builder::new();
        let mut func_info = Vec::new();
        let kind = self.spec.attach.context_of();
        for ((start, _), func) in self.funcs.iter().zip(&self.spec.funcs) {
            let func = func.add_to(&mut types, kind, target.has(Feature::GlobalFunc));
            func_info.extend(u32::try_from(*start).ok()?.to_ne_bytes());
            func_info.extend(func.0.to_ne_bytes());
        }
        let mut line_info = Vec::new();
        for (slot, source) in self.lines() {
            let slot = u32::try_from(slot).ok()?;
            line_info.extend([slot].into_iter().chain(line(&mut types, source)).flat_map(u32::to_ne_bytes));
        }
        let fd = with_memlock(|| bpf::btf_load(&types.finish())).ok()?;
        Some(Types { fd, func_info, line_info })
    }

    /// The listing of some slots, for people.
    pub(crate) fn excerpt(&self, slots: std::ops::Range<usize>, mark: usize) -> String {
        let lines = list(&self.insns, self)
            .filter(|listed| slots.contains(&listed.slot))
            .map(|listed| format!("{} {:>4}: {listed}", if listed.slot == mark { ">" } else { " " }, listed.slot));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// What `struct bpf_line_info` says of a line: its file, its text, and where it is there.
pub(crate) fn line(types: &mut Builder, source: Option<SourceRef<'_>>) -> [u32; 3] {
    let (file, text, line, column) = match source {
        Some(SourceRef { file, text, line, column }) => (file, text, line, column),
        None => ("generated", "", 1, 1),
    };
    [types.string(file), types.string(text), line.min(0x003f_ffff) << 10 | column.min(0x3ff)]
}

struct Types {
    fd: OwnedFd,
    func_info: Vec<u8>,
    line_info: Vec<u8>,
}

impl Types {
    fn add_to<'a>(&'a self, input: ProgInput<'a>) -> ProgInput<'a> {
        ProgInput { func_info: &self.func_info, line_info: &self.line_info, btf: Some(self.fd.as_fd()), ..input }
    }
}

// Linux before 5.2 refuses a byte more (bpf_verifier_log, `log->len_total > UINT_MAX >> 8`).
const _: () = assert!(LOG_MOST <= (u32::MAX >> 8) as usize && LOG_FIRST < LOG_MOST);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Attach;
    use bpfkit_asm::bpf;

    /// A file made for the same kernel, as by `pahole -J` or by cutting, need not number its types as the kernel does.
    #[test]
    fn functions_have_the_running_kernels_numbers_whatever_file_the_types_are_from() {
        let Ok(own) = bpfkit_btf::Btf::from_file("/sys/kernel/btf/vmlinux") else {
            eprintln!("skipped: this kernel shows no types");
            return;
        };
        let file = std::env::temp_dir().join(format!("bpfkit-linked-{}.btf", std::process::id()));
        std::fs::write(&file, bpfkit_btf::cut(&own, &["tcp_close", "sock"]).unwrap()).unwrap();
        let code = bpf! {
            r0 = 0;
            exit;
        };
        let attach = Attach::Fentry { func: "tcp_close".to_owned() };
        let spec = ProgSpec::new("numbered", attach, code).unwrap();
        let target = Target::builder().btf_file(&file).running().unwrap();
        let linked = spec.link(&target);
        std::fs::remove_file(&file).unwrap();
        let number = own.find("tcp_close", &[Kind::FUNC]).unwrap().id.0;
        assert_eq!(linked.unwrap().attach_btf_id, number);
    }
}
