//! Bytes from outside that are not what they should be: the seeds of the fuzz targets and what these have found, as they are,
//! cut off at every byte, and with bytes changed. What reads them keeps its promises, and takes no more memory than it may.

use std::path::PathBuf;

use bpfkit_tests::hostile::{TARGETS, Target, seeds};
use bpfkit_tests::meter::{self, Meter};
use bpfkit_tests::programs::fixture;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[global_allocator]
static METER: Meter = Meter;

/// The seeds of a target in the tree.
fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target)
}

/// Checks with a message that tells the input, which may be long.
fn check(target: &Target, what: &str, bytes: &[u8]) {
    let caught = std::panic::catch_unwind(|| target.check(bytes));
    assert!(
        caught.is_ok(),
        "{} fails for {what}: {} bytes, {:?}",
        target.name,
        bytes.len(),
        bytes.escape_ascii().to_string()
    );
}

#[test]
fn the_seeds_in_the_tree_are_those_that_are_made() {
    for target in TARGETS {
        let folder = folder(target.name);
        let made = seeds::of(target.name);
        assert!(!made.is_empty(), "{} has no seeds", target.name);
        if std::env::var_os("BLESS").is_some() {
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            made.iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).unwrap());
        }
        let mut known: Vec<(String, Vec<u8>)> = std::fs::read_dir(&folder)
            .expect("BLESS=1 writes it")
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap()))
            .collect();
        known.sort();
        let mut made = made;
        made.sort();
        assert!(known == made, "{}: BLESS=1 writes the seeds anew", target.name);
    }
}

#[test]
fn seeds_keep_every_promise() {
    for target in TARGETS {
        seeds::of(target.name).iter().for_each(|(name, bytes)| check(&target, name, bytes));
        check(&target, "nothing", &[]);
    }
}

/// What fuzzing has found once: `fixtures/fuzz/TARGET-WHAT`.
#[test]
fn what_was_found_stays_mended() {
    let mut count = 0;
    for entry in std::fs::read_dir(fixture("fuzz")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let target = TARGETS.into_iter().find(|target| name.split('-').next() == Some(target.name));
        check(&target.expect("a target"), name, &std::fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count > 0);
}

/// Every cut of what is short, and so many of what is long that it takes no more time.
#[test]
fn seeds_may_be_cut_off_anywhere() {
    for target in TARGETS {
        let all = seeds::of(target.name);
        for (name, bytes) in &all {
            let step = (bytes.len() * all.len() / CUTS).max(1);
            for end in (0..bytes.len()).step_by(step) {
                check(&target, &format!("{name} cut at {end}"), &bytes[..end]);
            }
        }
    }
}

/// So many for each target, or a few more.
const CUTS: usize = 200;

/// Each of the first bytes, where headers are, changed in the ways that matter to lengths and signs.
#[test]
fn each_byte_of_a_header_may_be_wrong() {
    for target in TARGETS {
        let all = seeds::of(target.name);
        for (n, (name, bytes)) in all.iter().enumerate() {
            // Each seed takes its turn, as headers are alike.
            for at in (n..bytes.len().min(64)).step_by(all.len()) {
                for value in [0, 0x7f, 0xff, bytes[at].wrapping_add(1), bytes[at] ^ 0x80] {
                    let mut bytes = bytes.clone();
                    bytes[at] = value;
                    check(&target, &format!("{name} with {value:#x} at {at}"), &bytes);
                }
            }
        }
    }
}

/// Bytes anywhere, changed, put in and taken out.
#[test]
fn bytes_anywhere_may_be_wrong() {
    for target in TARGETS {
        let all = seeds::of(target.name);
        let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8);
        let inputs = (any::<prop::sample::Index>(), prop::collection::vec(change, 1..6));
        let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
        let result = runner.run(&inputs, |(which, changes)| {
            let mut bytes = which.get(&all).1.clone();
            for (at, value, how) in changes {
                let at = at.index(bytes.len().max(1));
                match how {
                    0 => bytes.insert(at.min(bytes.len()), value),
                    1 if !bytes.is_empty() => drop(bytes.remove(at)),
                    _ => bytes.get_mut(at).into_iter().for_each(|byte| *byte = value),
                }
            }
            target.check(&bytes);
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{}: {error}", target.name));
    }
}

#[test]
fn memory_is_counted() {
    assert!(meter::most(|| drop(vec![0_u8; 100_000])).1 >= 100_000);
    let many = || (0..100).for_each(|_| drop(std::hint::black_box(vec![0_u8; 1000])));
    let (((), inner), outer) = meter::most(|| {
        let kept = std::hint::black_box(vec![0_u8; 10_000]);
        let inner = meter::most(many);
        drop(kept);
        inner
    });
    assert!((1000..5000).contains(&inner), "{inner}");
    assert!((11_000..15_000).contains(&outer), "{outer}");
    let hungry = || meter::within(10, 100, || std::hint::black_box(vec![0_u8; 300_000]));
    assert!(std::panic::catch_unwind(hungry).is_err());
}
