//! Replaces a function of a BPF program that runs (Linux 5.6).

use bpfkit_asm::{Asm, bpf};
use bpfkit_loader::{Attach, Error, Link, Linkage, MapSpec, Maps, ProgSpec, Prototype, Target};

/// The function, and what it is replaced by.
fn gives(number: i32) -> Asm {
    bpf! {
        r0 = {number};
        exit;
    }
}

/// A program that keeps in the map `answer` what `int answer(void)` gave at the last system call: 1.
pub fn ask(target: &Target) -> Result<(Maps, ProgSpec, Link), Error> {
    let mut maps = Maps::new();
    maps.create(&MapSpec::array("answer", 8, 1), target)?;
    let main = bpf! {
        call answer;
        r1 = map[answer][0];
        *(u64 *)(r1 + 0) = r0;
        r0 = 0;
        exit;
    };
    let attach = Attach::Tracepoint { category: "raw_syscalls".to_owned(), name: "sys_enter".to_owned() };
    let spec = ProgSpec::new("ask", attach, main)?.func_with("answer", Prototype::int(), Linkage::Global, gives(1))?;
    let link = spec.load(target, &maps)?.attach(target)?;
    Ok((maps, spec, link))
}

/// Lets the function give another number for as long as the link is kept.
pub fn replace(target: &Target, asking: &ProgSpec, link: &Link, number: i32) -> Result<Link, Error> {
    let spec = ProgSpec::new("replacement", Attach::Freplace(asking.function("answer")?), gives(number))?;
    spec.load_onto(target, &Maps::new(), link.prog())?.attach(target)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target = Target::running()?;
    let (maps, spec, link) = ask(&target)?;
    let answer = || -> Result<u64, Box<dyn std::error::Error>> {
        let mut value = [0; 8];
        maps.get("answer").ok_or("no map")?.lookup(&[0; 4], &mut value)?;
        Ok(u64::from_ne_bytes(value))
    };
    println!("it gives {}", answer()?);
    let _replacement = replace(&target, &spec, &link, 42)?;
    println!("it gives {}", answer()?);
    Ok(())
}
