//! A program whose holes are filled for a kernel: still a value.

mod load;

use std::collections::{BTreeMap, BTreeSet};

use bpfkit_asm::{Fixup, Insn, Names, SourceRef, Sources, list};
use bpfkit_btf::Kind;

pub(crate) use self::load::line;
use crate::feature::Feature;
use crate::filled::Filled;
use crate::func::{Func, Place};
use crate::origin::Found;
use crate::prog::ProgSpec;
use crate::target::Target;
use crate::{Error, ctx};

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

    /// The labels in front of a slot.
    pub fn labels_at(&self, slot: usize) -> impl Iterator<Item = &str> {
        // They are in the order of their slots.
        let first = self.labels.partition_point(|(at, _)| *at < slot);
        self.labels[first..].iter().take_while(move |(at, _)| *at == slot).map(|(_, label)| label.as_str())
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

    /// The listing of some slots, for people.
    pub(crate) fn excerpt(&self, slots: std::ops::Range<usize>, mark: usize) -> String {
        let lines = list(&self.insns, self)
            .filter(|listed| slots.contains(&listed.slot))
            .map(|listed| format!("{} {:>4}: {listed}", if listed.slot == mark { ">" } else { " " }, listed.slot));
        lines.collect::<Vec<_>>().join("\n")
    }
}

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
