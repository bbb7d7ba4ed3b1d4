//! Damaged types, through all that prints them: no panic, and an end in bounded time and length.

use std::time::{Duration, Instant};

use bpfkit_btf::{Btf, Builder, Header, TypeId};
use bpfkit_tests::programs::{fixture, printed};

/// Prints all there is, and how long that is.
fn print(bytes: &[u8]) -> usize {
    let Ok(btf) = Btf::parse(bytes.to_vec()) else { return 0 };
    let mut header = Header::new(&btf);
    let mut length = 0;
    while let Some(piece) = header.next_piece() {
        length += piece.len();
    }
    let mut text = String::new();
    for ty in btf.types().take(40) {
        ty.write_raw(&mut text);
        let one = Header::annotated(&btf, ty.id).len();
        assert!(one < 4 << 20, "{one} bytes for one type");
        length = length.max(one).max(ty.flat_members().len());
    }
    length
}

#[test]
fn any_word_of_a_small_blob_may_be_wrong() {
    let good = std::fs::read(fixture("btf/shapes.btf")).unwrap();
    let started = Instant::now();
    for at in (24..good.len()).step_by(4).take_while(|_| started.elapsed() < Duration::from_secs(60)) {
        for value in [0, 1, 2, 7, 40, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 4 << 24 | 0xffff, 13 << 24 | 9] {
            let mut bytes = good.clone();
            let end = (at + 4).min(bytes.len());
            let word: [u8; 4] = u32::to_le_bytes(value);
            bytes[at..end].copy_from_slice(&word[..end - at]);
            let length = print(&bytes);
            assert!(length < 4 << 20, "{length} bytes for word {at} being {value:#x}");
        }
    }
}

#[test]
fn any_byte_of_a_kernels_types_may_be_wrong() {
    let good = std::fs::read(fixture("btf/7.2.btf")).unwrap();
    let started = Instant::now();
    // Steps that have no factor in common with the words of types.
    for at in (24..good.len()).step_by(509).take_while(|_| started.elapsed() < Duration::from_secs(60)) {
        let mut bytes = good.clone();
        bytes[at] ^= 0xff;
        print(&bytes);
    }
}

#[test]
fn two_files_of_which_one_is_wrong_are_compared() {
    let good = std::fs::read(fixture("btf/shapes.btf")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("damaged");
    let whole = fixture("btf/shapes.btf");
    let mut different = 0;
    for at in (24..good.len()).step_by(7) {
        let mut bytes = good.clone();
        bytes[at] = bytes[at].wrapping_add(1);
        std::fs::write(&file, bytes).unwrap();
        for line in
            [format!("btf diff {} {}", whole.display(), file.display()), format!("btf stats {}", file.display())]
        {
            different += usize::from(printed(&line).is_ok_and(|text| text.contains("different")));
        }
    }
    assert!(different > 20, "{different}");
}

#[test]
fn types_that_are_made_to_be_long_end() {
    // Each structure without a name has the one before it twice: 2^60 members.
    let mut types = Builder::new();
    let mut last = types.int("int", 4, true);
    for size in 0..60 {
        last = types.strukt("", 8 + size, &[("a", last, 0), ("b", last, 4)]);
    }
    types.typedef("huge", last);
    // Pointers to pointers, without end; a structure that is its own member; prototypes that take themselves; a name for itself.
    let next =
        |types: &Builder, by: u32| TypeId(u32::try_from(Btf::parse(types.finish()).unwrap().len()).unwrap() + by);
    let own = next(&types, 1);
    types.ptr(own);
    let own = next(&types, 1);
    types.strukt("", 16, &[("self", own, 0)]);
    let own = next(&types, 1);
    types.strukt("holder", 16, &[("self", own, 0), ("far", TypeId(9999), 8)]);
    let own = next(&types, 1);
    types.func_proto(&[("p", own), ("q", own)], own);
    types.typedef("taker", own);
    let own = next(&types, 1);
    types.typedef("itself", own);
    let own = next(&types, 1);
    types.array(own, own, u32::MAX);
    types.typedef("rows", own);
    types.strukt("wide", u32::MAX, &[("first", TypeId(1), 0), ("first", TypeId(1), 0), ("last", TypeId(1), 1 << 28)]);
    // A chain of names.
    let mut link = TypeId(1);
    for index in 0..20_000 {
        link = types.typedef(&format!("link{index}"), link);
    }
    let mut pointer = link;
    for _ in 0..1000 {
        pointer = types.ptr(pointer);
    }
    types.strukt("end", 16, &[("link", link, 0), ("pointer", pointer, 8)]);
    let started = Instant::now();
    let bytes = types.finish();
    let length = print(&bytes);
    assert!(length > 20_000 && length < 64 << 20, "{length}");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}
