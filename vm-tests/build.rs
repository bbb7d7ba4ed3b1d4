//! Has the guest linked for a fixed address. A case is a process of its own and starts others, hundreds on each kernel, and each
//! would relocate itself on an emulated processor first: tens of thousands of pointers, on pages that are copied for it.
#![forbid(unsafe_code)]

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu") {
        for option in ["-no-pie", "-static", "-Wl,--strip-debug"] {
            println!("cargo::rustc-link-arg-bin=guest={option}");
        }
    }
}
