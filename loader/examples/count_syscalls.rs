//! Counts the system calls of a second: a whole program.

use bpfkit_asm::bpf;
use bpfkit_loader::{Attach, MapSpec, Maps, ProgSpec, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target = Target::running()?;
    let mut maps = Maps::new();
    maps.create(&MapSpec::array("count", 8, 1), &target)?;
    let code = bpf! {
        *(u32 *)(r10 - 4) = 0;              // the key
        r1 = map[count];
        r2 = r10;
        r2 += -4;
        call bpf_map_lookup_elem;
        if r0 == 0 goto out;
        r1 = 1;
        lock *(u64 *)(r0 + 0) += r1;
    out:
        r0 = 0;
        exit;
    };
    let attach = Attach::RawTracepoint { name: "sys_enter".into() };
    let _link = ProgSpec::new("count", attach, code)?.load(&target, &maps)?.attach(&target)?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    let mut count = [0; 8];
    maps.get("count").ok_or("no map")?.lookup(&[0; 4], &mut count)?;
    println!("{} system calls in a second", u64::from_ne_bytes(count));
    Ok(())
}
