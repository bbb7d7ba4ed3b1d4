//! A program that other processes are to see.

use bpfkit_asm::bpf;
use bpfkit_loader::{Attach, CType, Error, Linkage, MapSpec, Maps, Prog, ProgSpec, Prototype, Target};

/// Loads a program of two functions, with the map `cells`, whose statements stand in this file. It is attached to nothing.
///
/// # Errors
/// What the kernel says.
pub fn load(target: &Target) -> Result<(Prog, Maps), Error> {
    let mut maps = Maps::new();
    maps.create(&MapSpec::array("cells", 8, 1), target)?;
    let entry = bpf! {
        r1 = map[cells];
        call bpf_ktime_get_ns;
        r0 ^= 0x12345678;
        r1 = r0;
        call second;
        exit;
    };
    let second = bpf! {
        r0 = r1;
        r0 &= 1;
        exit;
    };
    let spec = ProgSpec::new("shown_to_others", Attach::None, entry)?;
    let proto = Prototype::int().param("number", CType::U64);
    let spec = spec.func_with("second", proto, Linkage::Static, second)?;
    Ok((spec.load(target, &maps)?, maps))
}
