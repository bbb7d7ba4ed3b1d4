//! Programs of a few bytes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::exe;
use crate::guest::case::{Ctx, Failure};

fn half(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn whole(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Makes a program of these bytes, and says where it is.
fn kept(ctx: &Ctx, name: &str, program: &[u8]) -> Result<String, Failure> {
    let path = ctx.directory().join(name);
    fs::write(&path, program)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path.display().to_string())
}

/// A program that ends at once, for who runs many: one of a few bytes is begun much sooner than this one by an emulated processor.
pub(super) fn brief(ctx: &Ctx) -> Result<String, Failure> {
    if !cfg!(target_arch = "x86_64") {
        return exe();
    }
    let code = [0xb8, 0x3c, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]; // eax = 60; edi = 0; syscall: exit(0)
    let length: u32 = 120 + 9;
    let program = [
        &b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"[..],
        &half(&[2, 62]),                                       // ET_EXEC, EM_X86_64
        &whole(&[1, 0x0040_0078, 0, 64, 0, 0, 0, 0]),          // entry, program headers
        &half(&[64, 56, 1, 0, 0, 0]),                          // sizes and numbers of headers
        &whole(&[1, 5, 0, 0, 0x0040_0000, 0, 0x0040_0000, 0]), // PT_LOAD, to be read and run
        &whole(&[length, 0, length, 0, 0x1000, 0]),
        &code,
    ]
    .concat();
    kept(ctx, "brief", &program)
}

/// A program of 32 bits that ends at once, for x86.
pub(super) fn of_32_bits(ctx: &Ctx) -> Result<String, Failure> {
    let code = [0x31, 0xc0, 0x40, 0x31, 0xdb, 0xcd, 0x80]; // eax = 1; ebx = 0; int 0x80: exit(0)
    let length: u32 = 84 + 7;
    let program = [
        &b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0"[..],
        &half(&[2, 3]),                                                       // ET_EXEC, EM_386
        &whole(&[1, 0x0804_8054, 52, 0, 0]),                                  // entry, program headers
        &half(&[52, 32, 1, 0, 0, 0]),                                         // sizes and numbers of headers
        &whole(&[1, 0, 0x0804_8000, 0x0804_8000, length, length, 5, 0x1000]), // PT_LOAD
        &code,
    ]
    .concat();
    kept(ctx, "narrow", &program)
}
