//! Where the paths through a function lead, as check_cfg in kernel/bpf/verifier.c walks them.

use std::ops::Range;

use bpfkit_asm::{Insn, Opcode};

/// What is wrong with the paths, and at which slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The instruction at this slot leads out of its function, or into the middle of another instruction.
    Astray(usize),
    /// No path leads to this slot.
    Unreachable(usize),
}

/// The paths through a function.
#[derive(Debug)]
pub(crate) struct Flow {
    /// The instruction that closes a loop, and where the loop begins. A jump backwards alone is none.
    pub loop_at: Option<(usize, usize)>,
}

/// How far the walk has come with an instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Unseen,
    /// It is on the path that is walked: an edge to it closes a loop.
    OnPath,
    Done,
}

impl Flow {
    /// Walks all paths of the function in these slots.
    pub(crate) fn of(insns: &[Insn], function: Range<usize>) -> Result<Self, Flaw> {
        let slots = insns.get(function.clone()).unwrap_or_default();
        let mut marks = vec![Mark::Unseen; slots.len()];
        let mut loop_at = None;
        // The path, with the number of edges that were taken from each instruction.
        let mut path = vec![(0, 0)];
        if let Some(first) = marks.first_mut() {
            *first = Mark::OnPath;
        }
        while let Some((slot, taken)) = path.last_mut() {
            let at = *slot;
            let Some(&insn) = slots.get(at) else { break };
            let Some(edge) = edges(at, insn).get(*taken).copied() else {
                marks[at] = Mark::Done;
                path.pop();
                continue;
            };
            *taken += 1;
            let Some(next) = edge else { continue };
            let Some(next) = usize::try_from(next).ok().filter(|&next| next < slots.len() && is_start(slots, next))
            else {
                return Err(Flaw::Astray(function.start + at));
            };
            match marks[next] {
                Mark::Unseen => {
                    marks[next] = Mark::OnPath;
                    path.push((next, 0));
                }
                Mark::OnPath => loop_at = loop_at.or(Some((function.start + at, function.start + next))),
                Mark::Done => {}
            }
        }
        let unseen = (0..slots.len()).find(|&slot| marks[slot] == Mark::Unseen && is_start(slots, slot));
        unseen.map_or(Ok(Self { loop_at }), |slot| Err(Flaw::Unreachable(function.start + slot)))
    }
}

/// Whether an instruction begins at this slot. The second slot of a 64-bit constant has the operation 0, which is none.
fn is_start(slots: &[Insn], slot: usize) -> bool {
    slots[slot].code != Opcode(0) || slot == 0 || !slots[slot - 1].is_wide()
}

/// Where an instruction may lead: to the next one, to the target of a jump.
pub(crate) fn edges(slot: usize, insn: Insn) -> [Option<i64>; 2] {
    let next = i64::try_from(slot).unwrap_or(i64::MAX - 2) + 1 + i64::from(insn.is_wide());
    let falls_through = !matches!(insn.code, Opcode::EXIT | Opcode::JA | Opcode::JA32);
    [falls_through.then_some(next), insn.jump().map(|distance| next.saturating_add(distance.into()))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfkit_asm::{Asm, JmpOp, JumpTo, Reg};

    fn flow(make: impl FnOnce(&mut Asm)) -> Result<Flow, Flaw> {
        let mut asm = Asm::new();
        make(&mut asm);
        let code = asm.finish().unwrap();
        Flow::of(code.insns(), 0..code.insns().len())
    }

    #[test]
    fn a_jump_backwards_is_a_loop_only_if_the_path_comes_round() {
        let round = flow(|asm| {
            asm.mov(Reg::R0, 0).add(Reg::R0, 1).jump(JmpOp::Lt, Reg::R0, 4, JumpTo::Relative(-2)).exit();
        });
        assert_eq!(round.unwrap().loop_at, Some((2, 1)));
        // 0: goto 3; 1: r0 = 0; 2: exit; 3: goto 1
        let back = flow(|asm| {
            asm.goto(JumpTo::Relative(2)).mov(Reg::R0, 0).exit().goto(JumpTo::Relative(-3));
        });
        assert_eq!(back.unwrap().loop_at, None);
    }

    #[test]
    fn paths_end_within_their_function() {
        let end = flow(|asm| {
            asm.mov(Reg::R0, 0);
        });
        assert_eq!(end.unwrap_err(), Flaw::Astray(0));
        let inside = flow(|asm| {
            asm.goto(JumpTo::Relative(1)).load_imm64(Reg::R0, 1).exit();
        });
        assert_eq!(inside.unwrap_err(), Flaw::Astray(0));
        let dead = flow(|asm| {
            asm.mov(Reg::R0, 0).exit().load_imm64(Reg::R0, 1).exit();
        });
        assert_eq!(dead.unwrap_err(), Flaw::Unreachable(2));
        assert!(Flow::of(&[], 0..0).is_ok());
    }
}
