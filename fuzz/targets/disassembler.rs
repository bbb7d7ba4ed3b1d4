#![no_main]

bpfkit_fuzz::target!("disassembler");
