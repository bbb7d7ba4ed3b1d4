//! Counts the TCP connections that were established in a second, at a tracepoint whose arguments have types (Linux 5.5).

use bpfkit_asm::bpf;
use bpfkit_loader::{Attach, Error, Link, MapSpec, Maps, ProgSpec, Target};

const TCP_ESTABLISHED: i32 = 1;

/// Counts in the map `established`, and keeps the last one's local port beside.
pub fn count_connections(target: &Target) -> Result<(Maps, Link), Error> {
    let mut maps = Maps::new();
    maps.create(&MapSpec::array("established", 16, 1), target)?;
    let code = bpf! {
        r2 = *(u64 *)(r1 + ctx.arg3);                       // inet_sock_set_state(sk, oldstate, newstate)
        if r2 != TCP_ESTABLISHED goto out;
        r3 = *(u64 *)(r1 + ctx.arg1);
        r3 = *(u16 *)(r3 + sock.__sk_common.skc_num);       // no helper: the kernel knows that r3 is a struct sock
        r1 = map[established][0];
        *(u64 *)(r1 + 8) = r3;
        r2 = 1;
        lock *(u64 *)(r1 + 0) += r2;
    out:
        r0 = 0;
        exit;
    };
    let attach = Attach::TpBtf { name: "inet_sock_set_state".to_owned() };
    let link = ProgSpec::new("connections", attach, code)?.load(target, &maps)?.attach(target)?;
    Ok((maps, link))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (maps, _link) = count_connections(&Target::running()?)?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    let mut value = [0; 16];
    maps.get("established").ok_or("no map")?.lookup(&[0; 4], &mut value)?;
    println!("{} connections a second", u128::from_ne_bytes(value) & u128::from(u64::MAX));
    Ok(())
}
