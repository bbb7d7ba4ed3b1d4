//! Puts the archive of kernel types that `BPFKIT_BTF_ARCHIVE` names into the binary; an empty one where it names none.
#![forbid(unsafe_code)]

use std::path::Path;
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
}
