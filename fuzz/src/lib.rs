//! What the fuzz targets share: the allocator that counts, and the one line that each of them is.
#![deny(unsafe_code)]

pub use libfuzzer_sys;

/// Counts, so that a target can say how much memory it may take.
#[global_allocator]
static METER: bpfkit_tests::meter::Meter = bpfkit_tests::meter::Meter;

/// The target of this name, of `bpfkit_tests::hostile::TARGETS`.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        $crate::libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bpfkit_tests::hostile::named($name).check(bytes));
    };
}
