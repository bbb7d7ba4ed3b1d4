//! Files that are not what they seem: how long they are, where their parts lie, whether they are files at all.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use bpfkit_btf::build_id;
use bpfkit_tests::meter::{self, Meter};
use bpfkit_tests::programs::printed;

#[global_allocator]
static METER: Meter = Meter;

/// An ELF file of 64 bits with sections of this type, which are all as long and begin one byte after the other.
fn overlapping(kind: u32, count: u16, length: u64) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([3_u16, 62].map(u16::to_le_bytes).concat());
    file.extend(1_u32.to_le_bytes());
    file.extend([0, 0, 64].map(u64::to_le_bytes).concat());
    file.extend(0_u32.to_le_bytes());
    file.extend([64, 0, 0, 64, count, 0].map(u16::to_le_bytes).concat());
    let first = 64 + 64 * u64::from(count);
    for n in 0..u64::from(count) {
        // The first one is no section.
        let words = [if n == 0 { 0 } else { u64::from(kind) << 32 }, 0, 0, first + n, length, 0, 4, 0];
        file.extend(words.map(u64::to_le_bytes).concat());
    }
    file.resize(file.len() + usize::try_from(length).unwrap() + usize::from(count), 0);
    file
}

#[test]
fn sections_that_lie_one_on_the_other_are_not_each_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes");
    let file = overlapping(7, 600, 1 << 20);
    std::fs::write(&path, &file).unwrap();
    let (found, most) = meter::most(|| build_id(&path));
    assert_eq!(found, None);
    // What may be read is twice the file, and 16 MiB.
    assert!(most < 20 << 20, "{most} bytes for a file of {}", file.len());
}

#[test]
fn nobody_waits_for_a_pipe_in_place_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_eq!(build_id(&pipe), None);
    assert_eq!(build_id("/dev/zero"), None);
    for path in [&*pipe, Path::new("/dev/zero")] {
        for command in ["btf stats", "usdt list"] {
            let error = printed(&format!("{command} {}", path.display())).unwrap_err();
            let why = std::iter::successors(Some(&error as &(dyn Error + 'static)), |&error| error.source())
                .map(ToString::to_string);
            let said = why.collect::<Vec<_>>().join(": ");
            assert!(said.contains("it is no regular file"), "{command}: {said}");
        }
    }
}

/// A file may be as long as it likes without having as many bytes on disk.
#[test]
fn a_file_of_nothing_is_not_read_into_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    for start in [&b"\x9f\xeb\x01\x00"[..], b"bpfkBTF\x01", b"\x7fELF\x02\x01\x01"] {
        std::os::unix::fs::FileExt::write_all_at(&file, start, 0).unwrap();
        let (result, most) = meter::most(|| printed(&format!("btf stats {}", path.display())));
        assert!(result.is_err() && most < 4 << 20, "{most} bytes");
    }
}
