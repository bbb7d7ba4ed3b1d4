//! Counts what is written to files for a second, at the entry of a kernel function (Linux 5.5).

use bpfkit_asm::bpf;
use bpfkit_loader::{Attach, Error, Link, MapSpec, Maps, ProgSpec, Target};

/// Adds up the bytes that are asked to be written, in the map `bytes`.
pub fn count_writes(target: &Target) -> Result<(Maps, Link), Error> {
    let mut maps = Maps::new();
    maps.create(&MapSpec::array("bytes", 8, 1), target)?;
    let code = bpf! {
        r2 = *(u64 *)(r1 + ctx.arg3);           // vfs_write(file, buf, count, pos)
        r1 = map[bytes][0];
        lock *(u64 *)(r1 + 0) += r2;
        r0 = 0;
        exit;
    };
    let attach = Attach::Fentry { func: "vfs_write".to_owned() };
    let link = ProgSpec::new("count_writes", attach, code)?.load(target, &maps)?.attach(target)?;
    Ok((maps, link))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (maps, _link) = count_writes(&Target::running()?)?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    let mut bytes = [0; 8];
    maps.get("bytes").ok_or("no map")?.lookup(&[0; 4], &mut bytes)?;
    println!("{} bytes a second", u64::from_ne_bytes(bytes));
    Ok(())
}
