#![no_main]

bpfkit_fuzz::target!("usdt");
