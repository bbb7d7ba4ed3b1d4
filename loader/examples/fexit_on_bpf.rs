//! Watches a function of another BPF program: with what it is called, and what it returns (Linux 5.5).

use bpfkit_asm::bpf;
use bpfkit_loader::{Attach, CType, Error, Link, Linkage, MapSpec, Maps, ProgSpec, Prototype, Target};

/// A program that calls `int thousandth(u64 number)` with the number of each system call.
pub fn watched() -> Result<ProgSpec, Error> {
    let attach = Attach::RawTracepoint { name: "sys_enter".to_owned() };
    let main = bpf! {
        r1 = *(u64 *)(r1 + ctx.arg2);
        call thousandth;
        r0 = 0;
        exit;
    };
    let thousandth = bpf! {
        r0 = r1;
        r0 += 1000;
        exit;
    };
    let proto = Prototype::int().param("number", CType::U64);
    ProgSpec::new("watched", attach, main)?.func_with("thousandth", proto, Linkage::Static, thousandth)
}

/// Keeps the last argument and result in the map `last`.
pub fn watch(target: &Target) -> Result<(Maps, [Link; 2]), Error> {
    let mut maps = Maps::new();
    maps.create(&MapSpec::array("last", 16, 1), target)?;
    let code = bpf! {
        r2 = *(u64 *)(r1 + ctx.arg1);
        r3 = *(u64 *)(r1 + ctx.ret);
        r1 = map[last][0];
        *(u64 *)(r1 + 0) = r2;
        *(u64 *)(r1 + 8) = r3;
        r0 = 0;
        exit;
    };
    let spec = watched()?;
    let watcher = ProgSpec::new("watcher", Attach::FexitProg(spec.function("thousandth")?), code)?;
    let watched = spec.load(target, &maps)?;
    let watcher = watcher.load_onto(target, &maps, &watched)?.attach(target)?;
    Ok((maps, [watcher, watched.attach(target)?]))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (maps, _links) = watch(&Target::running()?)?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    let mut last = [0; 16];
    maps.get("last").ok_or("no map")?.lookup(&[0; 4], &mut last)?;
    println!("argument and result {last:?}");
    Ok(())
}
