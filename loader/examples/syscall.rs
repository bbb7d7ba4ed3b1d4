//! Counts the calls of one system call, and shows the last one's third argument: `syscall write`. What the kernel calls its function
//! differs, and since Linux 4.17 its argument is a pointer to the user's registers.

use bpfkit_asm::{Asm, bpf};
use bpfkit_loader::{Attach, Error, Link, MapSpec, Maps, ProgSpec, ReadHelpers, Target};

/// Begins to count. The map's only element holds the number of calls and the last third argument, as two words of 8 bytes.
pub fn count(target: &Target, name: &str) -> Result<(Maps, Link), Error> {
    let call = target.syscall(name)?;
    let mut maps = Maps::new();
    maps.create(&MapSpec::array("calls", 16, 1), target)?;
    let read = ReadHelpers::of(target).kernel;
    let third = if call.wrapped {
        bpf! {
            r3 = *(u64 *)(r6 + ctx.arg1);               // struct pt_regs *
            r3 += {target.arch().syscall_argument(3).unwrap_or(u32::MAX)};
            r1 = r10;
            r1 += -8;
            r2 = 8;
            call {read};
        }
    } else {
        bpf! {
            r1 = *(u64 *)(r6 + ctx.arg3);
            *(u64 *)(r10 - 8) = r1;
        }
    };
    let mut code: Asm = bpf! { r6 = r1; {third}; };
    code.splice(bpf! {
        *(u32 *)(r10 - 12) = 0;                         // the key
        r1 = map[calls];
        r2 = r10;
        r2 += -12;
        call bpf_map_lookup_elem;
        if r0 == 0 goto out;
        r1 = 1;
        lock *(u64 *)(r0 + 0) += r1;
        r1 = *(u64 *)(r10 - 8);
        *(u64 *)(r0 + 8) = r1;
    out:
        r0 = 0;
        exit;
    });
    let attach = Attach::Kprobe { symbol: call.symbol, offset: 0 };
    let link = ProgSpec::new("syscall", attach, code)?.load(target, &maps)?.attach(target)?;
    Ok((maps, link))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).ok_or("usage: syscall NAME")?;
    let (maps, link) = count(&Target::running()?, &name)?;
    println!("{link}");
    std::thread::sleep(std::time::Duration::from_secs(1));
    let mut value = [0; 16];
    maps.get("calls").ok_or("no map")?.lookup(&[0; 4], &mut value)?;
    let [calls, third] = [0, 8].map(|at| value[at..].first_chunk().map_or(0, |word| u64::from_ne_bytes(*word)));
    println!("{calls} calls, the last with {third:#x} as its third argument");
    Ok(())
}
