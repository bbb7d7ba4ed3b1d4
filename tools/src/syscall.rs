//! The arguments of system calls, at a kprobe on the functions that they enter.

use bpfkit_asm::{Asm, Imm, Mem, Reg, Size, bpf};
use bpfkit_loader::{SyscallSymbol, Target};

use crate::read;

/// Writes the argument of this number, from 1 to 6, of the system call to the 8 bytes of stack at r10 + `to`.
///
/// It expects the context of a kprobe on the call's function in r6; r6 to r9 survive.
pub fn argument(target: &Target, symbol: &SyscallSymbol, number: u32, to: i32) -> Asm {
    if symbol.wrapped {
        return bpf! {
            r3 = *(u64 *)(r6 + ctx.arg1);               // struct pt_regs *: the user's registers
            // No number but these has a place, and the constant of one that has none fits no instruction.
            r3 += {target.arch().syscall_argument(number).unwrap_or(u32::MAX)};
            {read::kernel(target, to, 8)};
        };
    }
    let mut code = Asm::new();
    code.load(Size::DW, Reg::R1, Mem::at(Reg::R6).plus(Imm::Ctx(format!("arg{number}").into())));
    code.splice(bpf! { *(u64 *)(r10 + {to}) = r1; });
    code
}
