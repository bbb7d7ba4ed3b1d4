#![no_main]

bpfkit_fuzz::target!("verifier");
