//! How much stack functions take that call each other, as check_max_stack_depth in kernel/bpf/verifier.c counts it.

use std::ops::Range;

use bpfkit_asm::{Class, Insn};

/// MAX_BPF_STACK, of a function and its callers together.
pub(crate) const MOST: u32 = 512;
/// MAX_CALL_FRAMES
const FRAMES: usize = 8;

/// What is wrong with the calls of a program, and at which slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// The function that this calls would take the stack to so many bytes.
    Bytes(usize, u32),
    /// The function that this calls would be one too many under way, as it always is where functions call themselves.
    Frames(usize),
}

/// Follows all calls from the first of these functions.
pub(crate) fn check(insns: &[Insn], functions: &[Range<usize>]) -> Result<(), Overflow> {
    let own: Vec<u32> = functions.iter().map(|function| depth(&insns[function.clone()])).collect();
    follow(insns, functions, &own, 0, 0, 1)
}

fn follow(
    insns: &[Insn],
    functions: &[Range<usize>],
    own: &[u32],
    caller: usize,
    above: u32,
    frames: usize,
) -> Result<(), Overflow> {
    let Some(function) = functions.get(caller) else { return Ok(()) };
    let here = above + own[caller];
    for slot in function.clone().filter(|&slot| insns[slot].is_local_call()) {
        let start = i64::try_from(slot).unwrap_or(i64::MAX) + 1 + i64::from(insns[slot].imm);
        let Some(callee) = functions.iter().position(|callee| i64::try_from(callee.start) == Ok(start)) else {
            continue;
        };
        if frames == FRAMES {
            return Err(Overflow::Frames(slot));
        }
        if here + own[callee] > MOST {
            return Err(Overflow::Bytes(slot, here + own[callee]));
        }
        follow(insns, functions, own, callee, here, frames + 1)?;
    }
    Ok(())
}

/// What a function takes, rounded up to 32. One that takes nothing counts as 32 too.
fn depth(insns: &[Insn]) -> u32 {
    bytes(insns).max(1).next_multiple_of(32)
}

/// What a function takes: down to the lowest byte that it accesses or takes the address of.
pub(crate) fn bytes(insns: &[Insn]) -> u32 {
    let accessed = insns.iter().filter(|insn| {
        let base = match insn.code.class() {
            Class::Ldx => insn.src(),
            Class::St | Class::Stx => insn.dst(),
            _ => return false,
        };
        base == 10
    });
    // r2 = r10; r2 += -8;
    let addresses = insns.windows(2).filter_map(|pair| {
        let [copy, add] = pair else { return None };
        let is_address = copy.code.0 == 0xbf && copy.src() == 10 && add.code.0 == 0x07 && add.dst() == copy.dst();
        is_address.then_some(add.imm)
    });
    let lowest = accessed.map(|insn| i32::from(insn.off)).chain(addresses).min().unwrap_or_default();
    lowest.min(0).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use crate::{Attach, ProgSpec, Target};
    use bpfkit_asm::{Asm, Version, bpf};

    fn check(main: Asm, called: Asm) -> Result<(), String> {
        let spec = ProgSpec::new("main", Attach::None, main).unwrap().func("called", called).unwrap();
        let target = Target::offline(None, Version::new(5, 0));
        spec.link(&target).unwrap().check(&target).map_err(|error| error.to_string())
    }

    fn main() -> Asm {
        bpf! {
            *(u64 *)(r10 - 256) = 0;
            call called;
            exit;
        }
    }

    #[test]
    fn the_stack_of_callers_counts_with_that_of_the_called() {
        let called = |at: i32| {
            bpf! {
                r2 = r10;
                r2 += {at};
                r0 = 0;
                exit;
            }
        };
        assert_eq!(check(main(), called(-256)), Ok(()));
        let error = check(main(), called(-257)).unwrap_err();
        assert!(error.contains("instruction 1") && error.contains("544 bytes of stack"), "{error}");
    }

    #[test]
    fn a_function_does_not_call_itself() {
        let called = bpf! {
            call called;
            exit;
        };
        let plain = bpf! {
            call called;
            exit;
        };
        let error = check(plain, called).unwrap_err();
        assert!(error.contains("8 functions"), "{error}");
    }
}
