//! The rules of a kernel that can be told without it.

use std::fmt;
use std::ops::Range;

use bpfkit_asm::{Class, Insn, Mode, Opcode, Source, SourceRef, Version, list};

use crate::attach::Attach;
use crate::feature::Feature;
use crate::flow::{Flaw, Flow};
use crate::held::{self, Odd};
use crate::linked::Linked;
use crate::stack::{self, Overflow};
use crate::target::Target;

/// A rule that a program breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The program.
    pub program: String,
    /// The slot.
    pub slot: usize,
    /// The instruction, in the kernel's notation.
    pub insn: String,
    /// Where it was written.
    pub source: Option<Source>,
    /// The rule.
    pub rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, slot, insn, rule, .. } = self;
        write!(f, "program `{program}`, instruction {slot}, {insn}: {rule}")?;
        self.source.as_ref().map_or(Ok(()), |source| write!(f, " at {source}"))
    }
}

/// BPF_MAXINSNS of kernels before 5.2.
const MOST_INSNS: usize = 4096;
/// MAX_BPF_STACK, of each function.
const STACK: i32 = 512;
/// The most that a program at a uprobe may have on its stack from Linux 6.13 on, where one that has more is given a stack for each CPU
/// (BPF_PRIV_STACK_MIN_SIZE is 64, in steps of 16). It shares that with the same program of another task, which may preempt it there.
const UPROBE_STACK: u32 = 48;
/// The first kernel with such stacks.
const PRIVATE_STACK: Version = Version::new(6, 13);
/// The first kernel whose verifier takes a number to which the address of a map's value is added. Before commit 0962590e5533 (also in
/// 4.18.17 and 4.19.2) it forgets the map, follows a null pointer at the next use, and dies holding its lock: from then on nobody
/// loads a program.
const SUMS: Version = Version::new(4, 20);

pub(crate) fn check(linked: &Linked, target: &Target) -> Result<(), Box<Violation>> {
    let insns = linked.insns();
    let violation = |slot: usize, rule: String| {
        let insn = list(insns, linked).find(|listed| listed.slot == slot);
        Box::new(Violation {
            program: linked.spec().name.clone(),
            slot,
            insn: insn.map_or(String::new(), |insn| insn.to_string()),
            source: linked.sources().get(slot).map(SourceRef::to_source),
            rule,
        })
    };
    if insns.len() > MOST_INSNS && !target.has(Feature::LargePrograms) {
        let rule = format!("{} instructions are more than the {MOST_INSNS} before Linux 5.2", insns.len());
        return Err(violation(MOST_INSNS, rule));
    }
    for listed in list(insns, linked) {
        let (slot, insn) = (listed.slot, listed.insn);
        if let Some(feature) = needs(insn)
            && !target.has(feature)
        {
            return Err(violation(slot, format!("{feature} need Linux {}", feature.since())));
        }
        if let Some(helper) = insn.helper()
            && !target.has_helper(linked.spec().attach.prog_type(), helper)
        {
            let rule = match helper.since() {
                Some(since) if since > target.version() => format!("{helper} needs Linux {since}"),
                Some(_) => format!("{helper} is not for programs of this type, or this kernel was built without"),
                None => format!("{helper} needs a newer Linux"),
            };
            return Err(violation(slot, rule));
        }
        let base = match insn.code.class() {
            Class::Ldx => insn.src(),
            Class::St | Class::Stx => insn.dst(),
            _ => continue,
        };
        let (first, end) = (i32::from(insn.off), i32::from(insn.off) + bytes(insn.code));
        if base == 10 && (first < -STACK || end > 0) {
            return Err(violation(slot, format!("{first} to {end} is not within the {STACK} bytes of stack")));
        }
    }
    let functions: Vec<_> = functions(linked).collect();
    stack::check(insns, &functions).map_err(|overflow| match overflow {
        Overflow::Bytes(slot, bytes) => {
            violation(slot, format!("with this call {bytes} bytes of stack are in use, more than {}", stack::MOST))
        }
        Overflow::Frames(slot) => violation(slot, "more than 8 functions would be under way".to_owned()),
    })?;
    if linked.spec().attach.is_user() && target.version() >= PRIVATE_STACK {
        for function in &functions {
            let bytes = stack::bytes(&insns[function.clone()]);
            if bytes > UPROBE_STACK {
                let rule = format!(
                    "{bytes} bytes of stack are more than the {UPROBE_STACK} that a task has for itself at a uprobe from Linux {PRIVATE_STACK} on"
                );
                return Err(violation(function.start, rule));
            }
        }
    }
    for function in &functions {
        for odd in held::odd(insns, function.clone(), function.start == 0) {
            match odd {
                Odd::Sum(slot) if target.version() < SUMS => {
                    let rule = format!("Linux before {SUMS} crashes where an address in a map is added to a number");
                    return Err(violation(slot, format!("{rule}: add the number to the address")));
                }
                Odd::Unaligned(slot, bytes) if matches!(linked.spec().attach, Attach::Tracepoint { .. }) => {
                    let rule = format!("{bytes} bytes of a tracepoint's record are read only at a multiple of {bytes}");
                    return Err(violation(slot, rule));
                }
                Odd::Sum(_) | Odd::Unaligned(..) => {}
            }
        }
    }
    for function in functions {
        match Flow::of(insns, function) {
            Ok(Flow { loop_at: Some((slot, start)) }) if !target.has(Feature::BoundedLoops) => {
                let since = Feature::BoundedLoops.since();
                return Err(violation(slot, format!("bounded loops, as this one from {start}, need Linux {since}")));
            }
            Ok(_) => {}
            Err(Flaw::Astray(slot)) => return Err(violation(slot, "it leads out of its function".to_owned())),
            Err(Flaw::Unreachable(slot)) => {
                return Err(violation(slot, "it is never reached, which the verifier refuses".to_owned()));
            }
        }
    }
    Ok(())
}

/// What a kernel must have for an instruction of this form.
pub fn needs(insn: Insn) -> Option<Feature> {
    let code = insn.code;
    match code.class() {
        Class::Jmp32 if code == Opcode::JA32 => Some(Feature::IsaV4),
        Class::Jmp32 => Some(Feature::Jmp32),
        Class::Jmp if code == Opcode::JCOND => Some(Feature::MayGoto),
        Class::Jmp if code == Opcode::CALL && insn.src() == 2 => Some(Feature::Kfunc),
        Class::Ldx if code.mode() == Some(Mode::Memsx) => Some(Feature::IsaV4),
        Class::Stx if code.mode() == Some(Mode::Atomic) => match insn.imm {
            0 => None,
            0x100 | 0x110 => Some(Feature::LoadAcquire),
            _ => Some(Feature::AtomicFetch),
        },
        Class::Alu64 if code.op() == 0xd0 => Some(Feature::IsaV4),
        // Signed division and sign-extending moves are told by their offset.
        Class::Alu | Class::Alu64 if insn.off != 0 => Some(Feature::IsaV4),
        Class::Ld if insn.is_func_address() => Some(Feature::FuncPointer),
        Class::Ld if insn.is_map() && insn.src() == 2 => Some(Feature::MapValue),
        _ => None,
    }
}

/// Where each function begins and ends.
fn functions(linked: &Linked) -> impl Iterator<Item = Range<usize>> + '_ {
    let ends = linked.funcs().iter().skip(1).map(|&(start, _)| start).chain([linked.insns().len()]);
    linked.funcs().iter().map(|&(start, _)| start).zip(ends).map(|(start, end)| start..end)
}

/// How many bytes a load or a store accesses.
pub(crate) fn bytes(code: Opcode) -> i32 {
    match code.0 & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProgSpec;
    use bpfkit_asm::{Asm, Helper, JmpOp, JumpTo, Mem, Reg, Size, WReg};

    /// What breaks the rules of a kernel in a program of `make`.
    fn broken(minor: u16, make: impl FnOnce(&mut Asm)) -> Option<String> {
        let mut asm = Asm::new();
        make(&mut asm);
        asm.mov(Reg::R0, 0).exit();
        let target = Target::offline(None, Version::new(5, minor));
        let linked = ProgSpec::new("rules", Attach::None, asm).unwrap().link(&target).unwrap();
        linked.check(&target).err().map(|error| error.to_string())
    }

    #[test]
    fn what_came_later_is_refused_with_the_version_that_brought_it() {
        let jmp32 = |asm: &mut Asm| {
            asm.jump(JmpOp::Eq, WReg::W1, 0, JumpTo::Relative(0));
        };
        assert_eq!(
            broken(0, jmp32).unwrap(),
            "program `rules`, instruction 0, (16) if w1 == 0x0 goto pc+0: 32-bit comparisons need Linux 5.1"
        );
        assert_eq!(broken(1, jmp32), None);
        let helper = |asm: &mut Asm| {
            asm.call(Helper::PROBE_READ_KERNEL);
        };
        assert!(broken(4, helper).unwrap().ends_with("bpf_probe_read_kernel#113 needs Linux 5.5"));
        assert_eq!(broken(5, helper), None);
        let round = |asm: &mut Asm| {
            asm.mov(Reg::R0, 0).add(Reg::R0, 1).jump(JmpOp::Lt, Reg::R0, 4, JumpTo::Relative(-2));
        };
        assert!(broken(2, round).unwrap().contains("instruction 2") && broken(3, round).is_none());
    }

    #[test]
    fn an_address_in_a_map_is_added_to_a_number_only_where_that_does_not_crash() {
        let broken = |version: Version| {
            let code = bpfkit_asm::bpf! {
                *(u32 *)(r10 - 4) = 0;
                r1 = map[values];
                r2 = r10;
                r2 += -4;
                call bpf_map_lookup_elem;
                if r0 == 0 goto out;
                r1 = *(u32 *)(r0 + 0);
                r1 &= 7;
                r1 += r0;
                r1 = *(u8 *)(r1 + 0);
            out:
                r0 = 0;
                exit;
            };
            let target = Target::offline(None, version);
            let linked = ProgSpec::new("sum", Attach::None, code).unwrap().link(&target).unwrap();
            linked.check(&target).err().map(|error| error.to_string())
        };
        let error = broken(Version::new(4, 19)).unwrap();
        assert!(error.contains("Linux before 4.20 crashes") && error.contains("(0f) r1 += r0"), "{error}");
        assert_eq!(broken(Version::new(4, 20)), None);
    }

    #[test]
    fn an_access_is_within_the_stack_with_all_its_bytes() {
        let store = |off: i32| {
            move |asm: &mut Asm| {
                asm.store(Size::DW, Mem::at(Reg::R10).plus(off), 0);
            }
        };
        assert_eq!((broken(10, store(-8)), broken(10, store(-512))), (None, None));
        for off in [-4, 0, -520] {
            assert!(broken(10, store(off)).unwrap().contains("512 bytes of stack"), "{off}");
        }
    }

    /// At a uprobe, by a store and by an address that a helper is given.
    #[test]
    fn a_program_that_can_be_preempted_has_a_stack_of_its_own() {
        let check = |version: Version, attach: Attach, depth: i32, by_address: bool| {
            let mut asm = Asm::new();
            if by_address {
                asm.mov(Reg::R1, Reg::R10).add(Reg::R1, -depth);
            } else {
                asm.store(Size::W, Mem::at(Reg::R10).minus(depth), 0);
            }
            asm.mov(Reg::R0, 0).exit();
            let target = Target::offline(None, version);
            let linked = ProgSpec::new("rules", attach, asm).unwrap().link(&target).unwrap();
            linked.check(&target).err().map(|error| error.to_string())
        };
        let (old, new) = (Version::new(6, 12), Version::new(6, 13));
        let uprobe = || Attach::Uretprobe { path: "/bin/true".into(), offset: 1 };
        let kprobe = || Attach::Kprobe { symbol: "tcp_close".to_owned(), offset: 0 };
        for by_address in [false, true] {
            assert_eq!(check(new, uprobe(), 48, by_address), None);
            assert_eq!(check(old, uprobe(), 64, by_address), None);
            // Nothing preempts a program at a kprobe.
            assert_eq!(check(new, kprobe(), 64, by_address), None);
            assert!(check(new, uprobe(), 52, by_address).unwrap().contains("52 bytes of stack are more than the 48"));
        }
    }

    #[test]
    fn dead_code_and_a_missing_end_are_found() {
        let dead = |asm: &mut Asm| {
            asm.goto(JumpTo::Relative(1)).mov(Reg::R1, 0);
        };
        assert!(broken(10, dead).unwrap().contains("instruction 1, (b7) r1 = 0: it is never reached"));
        let far = |asm: &mut Asm| {
            asm.goto(JumpTo::Relative(2));
        };
        assert!(broken(10, far).unwrap().contains("leads out of its function"));
    }
}
