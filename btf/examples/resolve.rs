//! How long it takes to open the running kernel's types and to find fields in them:
//! `cargo run --release -p bpfkit-btf --example resolve [FILE [PATH..]]`
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Instant;

const PATHS: [&str; 8] = [
    "sock.__sk_common.skc_portpair",
    "sock.__sk_common.skc_addrpair",
    "sock.__sk_common.skc_v6_daddr",
    "sock.__sk_common.skc_v6_rcv_saddr",
    "task_struct.nsproxy",
    "nsproxy.mnt_ns",
    "mnt_namespace.ns.inum",
    "sk_buff.dev",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let file = arguments.first().map_or("/sys/kernel/btf/vmlinux", String::as_str);
    let paths: Vec<&str> =
        if arguments.len() > 1 { arguments[1..].iter().map(String::as_str).collect() } else { PATHS.to_vec() };
    for round in 0..5 {
        let start = Instant::now();
        let btf = match bpfkit_btf::Btf::from_file(file) {
            Ok(btf) => btf,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        };
        let opened = start.elapsed();
        for path in &paths {
            match btf.field(path) {
                Ok(field) if round == 0 => {
                    println!("{path}: {} at {}, {} bytes", field.type_name, field.offset, field.size);
                }
                Ok(_) => {}
                Err(error) => println!("{error}"),
            }
        }
        println!(
            "opened {} types in {opened:?}, found {} fields in {:?}",
            btf.len(),
            paths.len(),
            start.elapsed() - opened
        );
    }
    ExitCode::SUCCESS
}
