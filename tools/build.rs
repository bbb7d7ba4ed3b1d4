//! Puts the archive of kernel types that `BPFKIT_BTF_ARCHIVE` names into the binary; an empty one where it names none. And has the
//! linker make the binary small: relocations are packed where its own C library unpacks them; a release holds nothing that nobody reads.
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
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
    // The panic strategy is not told to this script. Who builds a static binary has this workspace's profile.
    let is_static =
        env::var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|features| features.split(',').any(|has| has == "crt-static"));
    if is_static && env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        shrink(Path::new(&out));
    }
}

/// A release aborts where it panics, so nothing ever unwinds its stack; but the standard library and C's come with tables for it,
/// a thirteenth of the file.
const NO_UNWINDING: &str =
    "SECTIONS { /DISCARD/ : { *(.eh_frame) *(.gcc_except_table .gcc_except_table.*) } } INSERT AFTER .text;\n";

/// Hands to the linker what it understands of this: to leave tables out that nothing reads, and to keep one of several functions
/// that are the same. Each linker understands something else, and only trying tells which one it is.
fn shrink(out: &Path) {
    let script = out.join("no-unwinding.ld");
    fs::write(&script, NO_UNWINDING).expect("OUT_DIR can be written");
    let script = format!("-Wl,-T,{}", script.display());
    for arguments in [&[&*script, "-Wl,--no-eh-frame-hdr"][..], &["-Wl,--icf=all"]] {
        if links(out, arguments) {
            for argument in arguments {
                println!("cargo::rustc-link-arg-bins={argument}");
            }
        }
    }
}

/// Whether a program can be linked with these arguments, by the compiler, the flags and the linker that the binary will be linked with.
fn links(out: &Path, arguments: &[&str]) -> bool {
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--crate-type=bin", "--crate-name=tried", "-Cpanic=abort", "-"]).arg("--out-dir").arg(out);
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    rustc.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
    rustc.args(env::var("TARGET").map(|target| format!("--target={target}")));
    rustc.args(env::var("RUSTC_LINKER").map(|linker| format!("-Clinker={linker}")));
    rustc.args(arguments.iter().map(|argument| format!("-Clink-arg={argument}")));
    rustc.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = rustc.spawn() else { return false };
    let written = child.stdin.take().is_some_and(|mut source| source.write_all(b"fn main() {}").is_ok());
    let linked = child.wait().is_ok_and(|status| status.success()) && written;
    let _ = fs::remove_file(out.join("tried"));
    linked
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
