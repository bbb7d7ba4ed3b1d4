//! The instructions that read an argument.

use bpfkit_asm::{AluOp, Asm, Mem, Reg, Size, Source};

use super::arg::{Arg, Place};
use super::register::Register;
use crate::read::ReadHelpers;
use crate::target::Target;

/// As [`super::Usdt::read_arg`] says. Listings quote `text`, as other instructions are quoted with their source.
pub(super) fn code(arg: &Arg, text: &str, target: &Target, to: Reg, ctx: Reg, scratch: i32) -> Asm {
    let mut code = Asm::new();
    code.at(Source { file: "usdt".into(), line: 1, column: 1, text: text.to_owned().into() });
    let size = arg.size.unsigned_abs();
    match arg.place {
        Place::Const(value) => {
            // The same shifts that registers get, done here.
            let shift = 64 - 8 * u32::from(size);
            let upper = value << shift;
            let value = if arg.size < 0 { upper >> shift } else { (upper.cast_unsigned() >> shift).cast_signed() };
            match i32::try_from(value) {
                Ok(value) => code.mov(to, value),
                Err(_) => code.load_imm64(to, value),
            };
        }
        Place::Reg(register) => {
            let size = size.min(register.size);
            code.load(width(size), to, Mem::at(ctx).plus(u32::from(register.offset)));
            extend(&mut code, to, size, arg.size < 0);
        }
        Place::Mem { base, index, .. } => {
            let helper = ReadHelpers::of(target).user;
            address(&mut code, arg.place, ctx);
            // A 32-bit program's addresses wrap at 32 bits.
            if base.or(index.map(|index| index.register)).is_some_and(|register| register.size < 8) {
                code.lsh(Reg::R3, 32).rsh(Reg::R3, 32);
            }
            code.mov(Reg::R2, size).mov(Reg::R1, Reg::R10).add(Reg::R1, scratch).call(helper);
            code.load(width(size), to, Mem::at(Reg::R10).plus(scratch));
            extend(&mut code, to, size, arg.size < 0);
        }
    }
    code
}

/// Puts an address into r3, by way of r2.
fn address(code: &mut Asm, place: Place, ctx: Reg) {
    let Place::Mem { base, index, disp } = place else { return };
    let whole = |code: &mut Asm, to, register: Register, signed| {
        code.load(width(register.size), to, Mem::at(ctx).plus(u32::from(register.offset)));
        extend(code, to, register.size, signed);
    };
    match base {
        Some(base) => whole(code, Reg::R3, base, false),
        None => {
            code.mov(Reg::R3, 0);
        }
    }
    if let Some(index) = index {
        whole(code, Reg::R2, index.register, index.signed);
        code.lsh(Reg::R2, index.scale.trailing_zeros()).add(Reg::R3, Reg::R2);
    }
    match i32::try_from(disp) {
        Ok(0) => {}
        Ok(disp) => {
            code.add(Reg::R3, disp);
        }
        Err(_) => {
            code.load_imm64(Reg::R2, disp).add(Reg::R3, Reg::R2);
        }
    }
}

/// A load of so many bytes fills the upper ones with zeros.
fn width(size: u8) -> Size {
    match size {
        1 => Size::B,
        2 => Size::H,
        4 => Size::W,
        _ => Size::DW,
    }
}

/// Spreads the sign of a number of so many bytes over the register. Without a sign nothing is to be done after a load.
fn extend(code: &mut Asm, register: Reg, size: u8, signed: bool) {
    let shift = 64 - 8 * u32::from(size);
    if signed && shift > 0 {
        code.lsh(register, shift).alu(AluOp::Arsh, register, shift);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Arch;
    use crate::{Attach, Error, ProgSpec, Usdt, usdt::Location};
    use bpfkit_asm::{Version, list};

    fn usdt(arguments: &str) -> Usdt {
        let location = Location { address: 0x1000, offset: Some(0x1000) };
        Usdt {
            path: std::path::Path::new("/bin/traced").into(),
            provider: "provider".to_owned(),
            name: "name".to_owned(),
            location,
            semaphore: None,
            arguments: arguments.to_owned(),
            arch: Some(Arch::X86_64),
        }
    }

    /// The instructions that read one argument on a kernel of this version, after a check of its rules.
    fn listing(text: &str, version: Version) -> Vec<String> {
        let (target, usdt) = (Target::offline(None, version), usdt(text));
        let mut code = Asm::new();
        code.mov(Reg::R6, Reg::R1);
        code.splice(usdt.read_arg(0, &target, Reg::R7, Reg::R6, -8).unwrap());
        code.mov(Reg::R0, 0).exit();
        let linked = ProgSpec::new("reads", usdt.attach().unwrap(), code).unwrap().link(&target).unwrap();
        linked.check(&target).unwrap();
        let texts: Vec<String> = list(linked.insns(), &linked).map(|insn| insn.to_string()).collect();
        texts[1..texts.len() - 2].to_vec()
    }

    #[test]
    fn arguments_are_read_by_the_instructions_that_every_kernel_has() {
        let old = Version::new(4, 18);
        for (text, expected) in [
            ("8@%rdi", &["(79) r7 = *(u64 *)(r6 +112)"][..]),
            ("4@%edi", &["(61) r7 = *(u32 *)(r6 +112)"]),
            // Half a register is all there is of a number of four bytes, whatever the other half holds.
            ("4@%rdi", &["(61) r7 = *(u32 *)(r6 +112)"]),
            ("-4@%edi", &["(61) r7 = *(u32 *)(r6 +112)", "(67) r7 <<= 32", "(c7) r7 s>>= 32"]),
            ("-1@%ah", &["(71) r7 = *(u8 *)(r6 +81)", "(67) r7 <<= 56", "(c7) r7 s>>= 56"]),
            ("-8@%r15", &["(79) r7 = *(u64 *)(r6 +0)"]),
            ("8@$5", &["(b7) r7 = 5"]),
            ("-4@$-1", &["(b7) r7 = -1"]),
            ("4@$-1", &["(18) r7 = 0xffffffff"]),
            ("-1@$255", &["(b7) r7 = -1"]),
            ("1@$511", &["(b7) r7 = 255"]),
            (
                "-2@-20(%rbp,%rcx,4)",
                &[
                    "(79) r3 = *(u64 *)(r6 +32)",
                    "(79) r2 = *(u64 *)(r6 +88)",
                    "(67) r2 <<= 2",
                    "(0f) r3 += r2",
                    "(07) r3 += -20",
                    "(b7) r2 = 2",
                    "(bf) r1 = r10",
                    "(07) r1 += -8",
                    "(85) call bpf_probe_read#4",
                    "(69) r7 = *(u16 *)(r10 -8)",
                    "(67) r7 <<= 48",
                    "(c7) r7 s>>= 48",
                ],
            ),
            (
                "4@8(%esp)",
                &[
                    "(61) r3 = *(u32 *)(r6 +152)",
                    "(07) r3 += 8",
                    "(67) r3 <<= 32",
                    "(77) r3 >>= 32",
                    "(b7) r2 = 4",
                    "(bf) r1 = r10",
                    "(07) r1 += -8",
                    "(85) call bpf_probe_read#4",
                    "(61) r7 = *(u32 *)(r10 -8)",
                ],
            ),
        ] {
            assert_eq!(listing(text, old), expected, "{text}");
        }
        let far = listing("8@0x7fff00000000(,%rax,8)", Version::new(5, 5));
        assert!(far.contains(&"(b7) r3 = 0".to_owned()), "{far:?}");
        assert!(far.contains(&"(18) r2 = 0x7fff00000000".to_owned()), "{far:?}");
        assert!(far.contains(&"(85) call bpf_probe_read_user#112".to_owned()), "{far:?}");
    }

    #[test]
    fn an_argument_that_cannot_be_read_is_told_by_number_and_probe() {
        let target = Target::offline(None, Version::new(6, 12));
        let refused = |usdt: &Usdt, n| {
            let code: Result<Asm, Error> = usdt.read_arg(n, &target, Reg::R7, Reg::R6, -8);
            code.map(drop).unwrap_err().to_string()
        };
        let two = usdt("8@%rdi 8f@%xmm0");
        assert_eq!(refused(&two, 2), "cannot read argument 2 of provider:name: it has 2");
        assert!(refused(&two, 1).contains("\"8f@%xmm0\": it is a floating-point number"));
        assert!(two.read_arg(0, &target, Reg::R7, Reg::R6, -8).is_ok());
        let foreign = Usdt { arch: Some(Arch::Aarch64), ..usdt("8@x0") };
        assert!(refused(&foreign, 0).contains("another architecture than X86_64"));
        let unknown = Usdt { arch: None, ..usdt("8@%r2") };
        assert!(refused(&unknown, 0).contains("architecture are not known"));
        assert!(matches!(two.attach().unwrap(), Attach::Usdt { offset: 0x1000, semaphore: None, .. }));
    }
}
