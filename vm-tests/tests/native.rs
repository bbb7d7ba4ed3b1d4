//! The guest's cases on this machine's own kernel: what it cannot do is skipped there, and told.

use std::process::Command;

use bpfkit_vm_tests::runner::build;

/// Runs the cases of these areas, of which more than so many can be run on every kernel. A user who is not root loads nothing, so
/// there the VMs alone have a say.
fn check(areas: &[&str], least: usize) {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !is_root {
        eprintln!("skipped: it takes root to load programs; cargo vm runs these cases");
        return;
    }
    // What the cases run is not what this test is linked with, so nobody has built it yet.
    let lookup = build::lookup().unwrap();
    let bpfkit = build::binary("bpfkit", "bpfkit", &[]).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_guest"))
        .arg("--native")
        .args(areas)
        .envs([("BPFKIT", bpfkit), ("LOOKUP", lookup.dynamic), ("LOOKUP_STATIC", lookup.fixed)])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.lines().filter(|line| line.starts_with("pass ")).count() > least, "{said}");
}

#[test]
fn the_loaders_cases_hold_on_this_kernel_too() {
    check(&["loader::", "asm::", "texts::", "usdt::"], 10);
}

#[test]
fn the_tools_cases_hold_on_this_kernel_too() {
    check(
        &["execsnoop::", "gethostlatency::", "skbrecv::", "tcpconnect::", "writehist::", "icmpecho::", "bpf2bpf::"],
        30,
    );
}

#[test]
fn nothing_stays_behind_on_this_kernel_either() {
    check(&["faults::"], 7);
}

/// The cases whose events nobody else on this machine makes.
#[test]
fn every_event_is_read_or_lost_on_this_kernel_too() {
    check(&["load::every_connect", "load::events_of_a_tracepoint", "load::a_lone_event"], 3);
}
