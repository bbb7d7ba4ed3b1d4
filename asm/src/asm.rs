//! The builder: code that is being written.

mod forms;

use std::collections::HashMap;

use bpfkit_asm_syntax::Reg;

pub(crate) use self::forms::ADDR_SPACE_CAST;
use crate::source::Spot;
use crate::{Code, Error, Fixup, Imm, Insn, JumpTo, Label, Mem, Opcode, Source, SourceRef, Sources};

/// How a jump keeps its distance.
#[derive(Clone, Copy, Debug)]
enum Distance {
    Off,
    Imm,
}

/// Code that is being written.
///
/// The methods emit one instruction each, whose pseudo-C their docs show. What cannot be encoded is not emitted: the first such
/// mistake is kept, with its place, and [`Asm::finish`] returns it.
#[derive(Clone, Debug, Default)]
pub struct Asm {
    insns: Vec<Insn>,
    fixups: Vec<(usize, Fixup)>,
    sources: Sources,
    bound: Vec<(Label, usize)>,
    jumps: Vec<(usize, Label, Distance)>,
    names: HashMap<Label, String>,
    here: Option<Spot>,
    error: Option<Error>,
}

impl Asm {
    /// No instructions yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing was written: no instruction and no label.
    pub fn is_empty(&self) -> bool {
        self.insns.is_empty() && self.bound.is_empty() && self.error.is_none()
    }

    /// Says where the instructions that follow were written.
    pub fn at(&mut self, source: Source) -> &mut Self {
        self.at_place((&source).into())
    }

    /// The same, where nobody has a [`Source`] yet.
    pub(crate) fn at_place(&mut self, source: SourceRef<'_>) -> &mut Self {
        self.here = Some(self.sources.add(source));
        self
    }

    /// Gives back the room for more: there may be many of these, and all small.
    pub(crate) fn shrink(&mut self) {
        self.insns.shrink_to_fit();
        self.fixups.shrink_to_fit();
        self.sources.shrink();
        self.bound.shrink_to_fit();
        self.jumps.shrink_to_fit();
        self.names.shrink_to_fit();
    }

    /// A label to jump to, with a name for listings. It stands nowhere until it is bound.
    pub fn named_label(&mut self, name: &str) -> Label {
        let label = Label::fresh();
        self.names.insert(label, name.to_owned());
        label
    }

    /// Puts a label before the instruction that comes next.
    pub fn bind(&mut self, label: Label) -> &mut Self {
        self.bound.push((label, self.insns.len()));
        self
    }

    /// Appends other code. Its jumps to labels of this code, made before, find them.
    pub fn splice(&mut self, code: Self) -> &mut Self {
        let base = self.insns.len();
        // Labels that stand in the code get new identities, so that the same code can be spliced twice.
        let fresh: HashMap<_, _> = code.bound.iter().map(|&(label, ..)| (label, Label::fresh())).collect();
        let renew = |label: Label| fresh.get(&label).copied().unwrap_or(label);
        self.insns.extend(code.insns);
        self.sources.append(&code.sources);
        self.fixups.extend(code.fixups.into_iter().map(|(slot, fixup)| (base + slot, fixup)));
        self.bound.extend(code.bound.into_iter().map(|(label, slot)| (renew(label), base + slot)));
        self.jumps.extend(code.jumps.into_iter().map(|(slot, label, distance)| (base + slot, renew(label), distance)));
        self.names.extend(code.names.into_iter().map(|(label, name)| (renew(label), name)));
        if self.error.is_none() {
            self.error = code.error;
        }
        self
    }

    /// The finished code.
    ///
    /// # Errors
    /// The first mistake; a label that is bound nowhere, or twice; no instruction at all; a jump that is too far.
    pub fn finish(self) -> Result<Code, Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.insns.is_empty() {
            return Err(Error::Empty);
        }
        let mut slots = HashMap::new();
        for &(label, slot) in &self.bound {
            if slots.insert(label, slot).is_some() {
                return Err(Error::BoundTwice { label: self.names.get(&label).cloned().unwrap_or_default() });
            }
        }
        let mut insns = self.insns;
        for (slot, label, distance) in self.jumps {
            let source = || self.sources.get(slot).map(|source| Box::new(source.to_source()));
            let Some(&to) = slots.get(&label) else {
                let label = self.names.get(&label).cloned().unwrap_or_else(|| "unnamed".to_owned());
                return Err(Error::Unbound { label, source: source() });
            };
            let far = signed(to) - signed(slot) - 1;
            let too_far = |range| Error::Range { what: "jump distance", value: far, range, source: source() };
            match distance {
                Distance::Off => insns[slot].off = i16::try_from(far).map_err(|_| too_far(I16))?,
                Distance::Imm => insns[slot].imm = i32::try_from(far).map_err(|_| too_far(I32))?,
            }
        }
        let mut names = self.names;
        let named = self.bound.into_iter().map(|(label, slot)| (slot, names.remove(&label).unwrap_or_default()));
        let mut labels: Vec<_> = named.collect();
        labels.sort_by_key(|&(slot, _)| slot);
        Ok(Code { insns, fixups: self.fixups, sources: self.sources, labels })
    }

    /// Emits `insn` as it is. A second slot is the caller's to emit.
    pub fn raw(&mut self, insn: Insn) -> &mut Self {
        self.insns.push(insn);
        self.sources.push(self.here);
        self
    }

    fn emit(&mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) -> &mut Self {
        self.raw(Insn::new(Opcode(code), dst, src, off, imm))
    }

    fn two_slots(&mut self, dst: Reg, src: u8, lower: i32, upper: i32) -> &mut Self {
        self.emit(Opcode::LD_IMM64.0, dst.n(), src, 0, lower).emit(0, 0, 0, 0, upper)
    }

    fn fixup(&mut self, fixup: Fixup) -> &mut Self {
        self.fixups.push((self.insns.len(), fixup));
        self
    }

    fn fail(&mut self, error: impl FnOnce(Option<Box<Source>>) -> Error) -> &mut Self {
        if self.error.is_none() {
            let here = self.here.map(|spot| Box::new(self.sources.source(spot).to_source()));
            self.error = Some(error(here));
        }
        self
    }

    fn no(&mut self, what: String) -> &mut Self {
        self.fail(|source| Error::Form { what, source })
    }

    /// The constant of the next instruction, checked, with its hole.
    fn imm32(&mut self, what: &'static str, imm: Imm, range: (i128, i128)) -> i32 {
        match imm {
            Imm::Int(value) => {
                if value < range.0 || value > range.1 {
                    self.fail(|source| Error::Range { what, value, range, source });
                    return 0;
                }
                // The range is at most that of i32 and u32 together, which share their bits.
                i32::try_from(value).or_else(|_| u32::try_from(value).map(u32::cast_signed)).unwrap_or_default()
            }
            Imm::Field(path) => {
                self.fixup(Fixup::FieldImm(path));
                0
            }
            Imm::SizeOf(path) => {
                self.fixup(Fixup::FieldSize(path));
                0
            }
            Imm::Ctx(word) => {
                self.fixup(Fixup::CtxImm(word));
                0
            }
        }
    }

    /// The offset of the next instruction, checked, with its hole.
    fn offset(&mut self, mem: &Mem) -> i16 {
        match &mem.hole {
            _ if mem.excess => {
                self.no("address with more than one offset of a member, or with one that is subtracted".to_owned());
            }
            Some(Imm::Field(path)) => {
                self.fixup(Fixup::FieldOff(path.clone()));
            }
            Some(Imm::Ctx(word)) => {
                self.fixup(Fixup::CtxOff(word.clone()));
            }
            Some(_) => {
                self.no("address with the size of a member".to_owned());
            }
            None => {}
        }
        let value = mem.int;
        i16::try_from(value).unwrap_or_else(|_| {
            self.fail(|source| Error::Range { what: "offset", value, range: I16, source });
            0
        })
    }

    fn target(&mut self, to: JumpTo, distance: Distance) -> i32 {
        match to {
            JumpTo::Label(label) => {
                self.jumps.push((self.insns.len(), label, distance));
                0
            }
            JumpTo::Relative(slots) => {
                let range = match distance {
                    Distance::Off => I16,
                    Distance::Imm => I32,
                };
                let value = slots.into();
                if value < range.0 || value > range.1 {
                    self.fail(|source| Error::Range { what: "jump distance", value, range, source });
                }
                slots
            }
        }
    }
}

const I16: (i128, i128) = (i16::MIN as i128, i16::MAX as i128);
const I32: (i128, i128) = (i32::MIN as i128, i32::MAX as i128);
const U32: (i128, i128) = (0, u32::MAX as i128);

/// A number of slots, which fits as memory holds them all.
fn signed(slots: usize) -> i128 {
    i128::try_from(slots).unwrap_or(i128::MAX)
}
