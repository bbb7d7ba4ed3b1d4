//! How long it takes to read the running kernel's types, to open them, and to find fields in them, the best of some rounds:
//! `cargo run --release -p bpfkit-btf --example resolve [FILE [PATH..]]`
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bpfkit_btf::{Btf, Error};

const ROUNDS: usize = 30;

const PATHS: [&str; 20] = [
    "sock.__sk_common.skc_portpair",
    "sock.__sk_common.skc_addrpair",
    "sock.__sk_common.skc_v6_daddr",
    "sock.__sk_common.skc_v6_rcv_saddr",
    "sock.__sk_common.skc_family",
    "sock.__sk_common.skc_state",
    "sock.sk_protocol",
    "inet_sock.inet_sport",
    "task_struct.nsproxy",
    "task_struct.real_parent",
    "task_struct.tgid",
    "task_struct.comm",
    "nsproxy.mnt_ns",
    "mnt_namespace.ns.inum",
    "sk_buff.dev",
    "sk_buff.len",
    "net_device.ifindex",
    "linux_binprm.filename",
    "mm_struct.arg_start",
    "pt_regs.di",
];

/// How long the parts of a round took.
#[derive(Clone, Copy)]
struct Times {
    read: Duration,
    open: Duration,
    find: Duration,
}

fn round(file: &str, paths: &[&str], print: bool) -> Result<Times, Error> {
    let start = Instant::now();
    let bytes = std::fs::read(file).map_err(|error| Error::Io(file.into(), error))?;
    let read = start.elapsed();
    let btf = if bytes.starts_with(b"\x7fELF") { Btf::from_elf(&bytes)? } else { Btf::parse(bytes)? };
    let open = start.elapsed() - read;
    let fields: Vec<_> = paths.iter().map(|path| btf.field(path)).collect();
    let find = start.elapsed() - read - open;
    if print {
        println!("{} types", btf.len());
        for (path, field) in paths.iter().zip(fields) {
            match field {
                Ok(field) => println!("{path}: {} at {}, {} bytes", field.type_name, field.offset, field.size),
                Err(error) => println!("{error}"),
            }
        }
    }
    Ok(Times { read, open, find })
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let file = arguments.first().map_or("/sys/kernel/btf/vmlinux", String::as_str);
    let paths: Vec<&str> =
        if arguments.len() > 1 { arguments[1..].iter().map(String::as_str).collect() } else { PATHS.to_vec() };
    let times: Result<Vec<Times>, Error> = (0..ROUNDS).map(|index| round(file, &paths, index == 0)).collect();
    match times {
        Ok(times) => {
            let best = |part: fn(&Times) -> Duration| times.iter().map(part).min().unwrap_or_default();
            let (read, open, find) = (best(|t| t.read), best(|t| t.open), best(|t| t.find));
            println!("best of {ROUNDS}: read in {read:?}, opened in {open:?}, found {} in {find:?}", paths.len());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
