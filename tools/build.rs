//! Puts the archive of kernel types that `BPFKIT_BTF_ARCHIVE` names into the binary; an empty one where it names none. And has the
//! linker pack the relocations of the binary where its own C library unpacks them.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-env-changed=BPFKIT_BTF_ARCHIVE");
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let archive = env::var("BPFKIT_BTF_ARCHIVE").unwrap_or_default();
    let bytes = if archive.is_empty() {
        Vec::new()
    } else {
        println!("cargo::rerun-if-changed={archive}");
        fs::read(&archive).unwrap_or_else(|error| panic!("BPFKIT_BTF_ARCHIVE={archive}: {error}"))
    };
    fs::write(Path::new(&out).join("btf.archive"), bytes).expect("OUT_DIR can be written");
    // A static binary relocates itself before it does anything: 24 bytes a pointer, or, packed, about one bit.
    if unpacks_relocations() {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Whether the C library that is linked into the binary knows packed relocations (DT_RELR): glibc does from 2.36 on.
fn unpacks_relocations() -> bool {
    let is_native = env::var("TARGET").is_ok() && env::var("TARGET") == env::var("HOST");
    let is_gnu = env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    let Some(output) = Command::new("ldd").arg("--version").output().ok().filter(|_| is_native && is_gnu) else {
        return false;
    };
    // `ldd (Debian GLIBC 2.41-12) 2.41`
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.lines().next().and_then(|line| line.rsplit(' ').next());
    let number = version.and_then(|version| version.strip_prefix("2.")?.parse::<u32>().ok());
    number.is_some_and(|minor| minor >= 36)
}
