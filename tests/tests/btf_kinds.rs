//! Every kind of type, in both byte orders, and blobs that are made to hurt.

use std::time::{Duration, Instant};

use bpfkit_btf::{BitField, Btf, Builder, Kind, TypeId, cut};

/// The strings of [`Words`], one after another; [`at`] tells where each is.
const STRINGS: &str = "\0int\0s\0a\0b\0e\0ONE\0BIG\0f\0v\0.data\0tag\0t\0old\0fwd\0p\0c\0";

fn at(text: &str) -> u32 {
    let found = STRINGS.find(&format!("\0{text}\0")).unwrap_or_else(|| panic!("no string {text:?}"));
    u32::try_from(found + 1).unwrap()
}

const fn info(kind: Kind, elements: u32) -> u32 {
    (kind.0 as u32) << 24 | elements
}

const FLAG: u32 = 1 << 31;

/// One type of each kind; its number is its place, from 1.
fn every_kind() -> Vec<Vec<u32>> {
    vec![
        vec![at("int"), info(Kind::INT, 0), 4, 1 << 24 | 32], // 1
        vec![0, info(Kind::PTR, 0), 1],                       // 2
        vec![0, info(Kind::ARRAY, 0), 0, 1, 1, 3],            // 3
        vec![at("s"), info(Kind::STRUCT, 2), 24, at("a"), 2, 0, at("b"), 3, 64], // 4
        vec![at("b"), info(Kind::UNION, 2), 12, at("a"), 1, 0, at("b"), 3, 0], // 5
        vec![at("e"), FLAG | info(Kind::ENUM, 2), 4, at("ONE"), 1, at("BIG"), u32::MAX], // 6
        vec![at("fwd"), FLAG | info(Kind::FWD, 0), 0],        // 7
        vec![at("t"), info(Kind::TYPEDEF, 0), 4],             // 8
        vec![0, info(Kind::VOLATILE, 0), 8],                  // 9
        vec![0, info(Kind::CONST, 0), 9],                     // 10
        vec![0, info(Kind::RESTRICT, 0), 2],                  // 11
        vec![at("f"), info(Kind::FUNC, 1), 13],               // 12
        vec![0, info(Kind::FUNC_PROTO, 2), 1, at("p"), 10, 0, 0], // 13
        vec![at("v"), info(Kind::VAR, 0), 10, 1],             // 14
        vec![at(".data"), info(Kind::DATASEC, 1), 24, 14, 0, 24], // 15
        vec![at("f"), info(Kind::FLOAT, 0), 8],               // 16
        vec![at("tag"), info(Kind::DECL_TAG, 0), 4, u32::MAX], // 17
        vec![at("tag"), info(Kind::TYPE_TAG, 0), 4],          // 18
        vec![at("e"), info(Kind::ENUM64, 2), 8, at("ONE"), 1, 0, at("BIG"), 2, 1], // 19
        vec![0, info(Kind::PTR, 0), 18],                      // 20
        vec![at("c"), info(Kind::STRUCT, 1), 24, at("a"), 10, 0], // 21
    ]
}

fn blob(types: &[Vec<u32>], big_endian: bool) -> Vec<u8> {
    let words: Vec<u32> = types.concat();
    let len = u32::try_from(words.len() * 4).unwrap();
    let head = [24, 0, len, len, u32::try_from(STRINGS.len()).unwrap()];
    let word = |word: &u32| if big_endian { word.to_be_bytes() } else { word.to_le_bytes() };
    let mut bytes = if big_endian { vec![0xeb, 0x9f, 1, 0] } else { vec![0x9f, 0xeb, 1, 0] };
    bytes.extend(head.iter().chain(&words).flat_map(word));
    bytes.extend(STRINGS.as_bytes());
    bytes
}

#[test]
fn every_kind_is_read_in_both_byte_orders() {
    for big_endian in [false, true] {
        let btf = Btf::parse(blob(&every_kind(), big_endian)).unwrap();
        assert_eq!((btf.len(), btf.is_big_endian()), (21, big_endian));
        let ty = |id| btf.ty(TypeId(id)).unwrap();
        for (id, kind, name, spelt, size, target) in [
            (0, Kind::VOID, "", "void", 0, None),
            (1, Kind::INT, "int", "int", 4, None),
            (2, Kind::PTR, "", "int *", 8, Some(1)),
            (3, Kind::ARRAY, "", "int[3]", 12, Some(1)),
            (4, Kind::STRUCT, "s", "struct s", 24, None),
            (5, Kind::UNION, "b", "union b", 12, None),
            (6, Kind::ENUM, "e", "enum e", 4, None),
            (7, Kind::FWD, "fwd", "union fwd", 0, None),
            (8, Kind::TYPEDEF, "t", "t", 24, Some(4)),
            (9, Kind::VOLATILE, "", "volatile t", 24, Some(8)),
            (10, Kind::CONST, "", "const volatile t", 24, Some(9)),
            (11, Kind::RESTRICT, "", "int *", 8, Some(2)),
            (12, Kind::FUNC, "f", "int (const volatile t, ...)", 0, Some(13)),
            (13, Kind::FUNC_PROTO, "", "int (const volatile t, ...)", 0, Some(1)),
            (14, Kind::VAR, "v", "const volatile t", 24, Some(10)),
            (15, Kind::DATASEC, ".data", ".data", 24, None),
            (16, Kind::FLOAT, "f", "f", 8, None),
            (17, Kind::DECL_TAG, "tag", "tag", 0, Some(4)),
            (18, Kind::TYPE_TAG, "tag", "struct s", 24, Some(4)),
            (19, Kind::ENUM64, "e", "enum e", 8, None),
            (20, Kind::PTR, "", "struct s *", 8, Some(18)),
        ] {
            let ty = ty(id);
            assert_eq!((ty.kind(), &*ty.name(), ty.size().unwrap()), (kind, name, size), "type {id}");
            assert_eq!((btf.spell(ty.id), ty.target()), (spelt.to_owned(), target.map(TypeId)), "type {id}");
        }
        let int = ty(1).int().unwrap();
        assert_eq!((int.bits, int.offset, int.signed), (32, 0, true));
        assert_eq!(ty(3).array_len(), Some(3));
        let members: Vec<_> = ty(4).members().map(|member| (member.name.into_owned(), member.bit_offset)).collect();
        assert_eq!(members, [("a".to_owned(), 0), ("b".to_owned(), 64)]);
        let values = |id| ty(id).values().map(|(name, value)| (name.into_owned(), value)).collect::<Vec<_>>();
        assert_eq!(values(6), [("ONE".to_owned(), 1), ("BIG".to_owned(), -1)]);
        assert_eq!(values(19), [("ONE".to_owned(), 1), ("BIG".to_owned(), 2 | 1 << 32)]);
        let proto = btf.func_proto("f").unwrap();
        assert_eq!(proto.params().map(|param| param.ty.0).collect::<Vec<_>>(), [10, 0]);
        // Through a qualified typedef, by index, and by way of the union.
        assert_eq!(btf.field("c.a.b[2]").unwrap().offset, 16);
        assert_eq!(btf.field("t.b").unwrap().size, 12);
        assert_eq!(btf.field("b.b[1]").unwrap().offset, 4);
        // A cut keeps the byte order, and what it keeps reads the same.
        let part = Btf::parse(cut(&btf, &["c", "f", "e", "b"]).unwrap()).unwrap();
        assert_eq!((part.is_big_endian(), part.field("c.a.b[2]").unwrap().offset), (big_endian, 16));
        assert_eq!(part.find("e", &[Kind::ENUM]).unwrap().values().count(), 2);
    }
}

#[test]
fn bit_fields_are_read_in_the_old_and_in_the_new_encoding() {
    for big_endian in [false, true] {
        let types = [
            vec![at("int"), info(Kind::INT, 0), 4, 32],
            // Old: an integer of 3 bits that begins 2 bits into its 4 bytes.
            vec![at("int"), info(Kind::INT, 0), 4, 2 << 16 | 3],
            vec![at("old"), info(Kind::STRUCT, 2), 8, at("a"), 1, 0, at("b"), 2, 32],
            // New: offset and size are both in the member; the type may be an alias.
            [
                [at("s"), FLAG | info(Kind::STRUCT, 3), 8].to_vec(),
                [at("a"), 1, 0, at("b"), 1, 5 << 24 | 35, at("c"), 5, 7 << 24 | 40].to_vec(),
            ]
            .concat(),
            vec![at("t"), info(Kind::TYPEDEF, 0), 1],
        ];
        let btf = Btf::parse(blob(&types, big_endian)).unwrap();
        let bits = |path: &str| {
            let field = btf.field(path).unwrap();
            (field.offset, field.size, field.bits)
        };
        assert_eq!(bits("old.a"), (0, 4, None));
        assert_eq!(bits("old.b"), (4, 4, Some(BitField { offset: 34, size: 3 })));
        assert_eq!(bits("s.a"), (0, 4, None));
        assert_eq!(bits("s.b"), (4, 4, Some(BitField { offset: 35, size: 5 })));
        assert_eq!(bits("s.c"), (4, 4, Some(BitField { offset: 40, size: 7 })));
    }
}

#[test]
fn a_packed_bit_field_across_two_units_has_all_of_its_bytes() {
    let types = [
        vec![at("int"), info(Kind::INT, 0), 4, 32],
        vec![at("s"), FLAG | info(Kind::STRUCT, 1), 8, at("a"), 1, 10 << 24 | 28],
    ];
    let field = Btf::parse(blob(&types, false)).unwrap().field("s.a").unwrap();
    assert_eq!((field.offset, field.size), (3, 2));
    assert_eq!(field.bits, Some(BitField { offset: 28, size: 10 }));
}

#[test]
fn structures_that_hold_each_other_twice_are_refused_in_bounded_time() {
    let mut types = Builder::new();
    for next in 2..32 {
        let name = if next == 2 { "bomb" } else { "" };
        types.strukt(name, 4, &[("", TypeId(next), 0), ("", TypeId(next), 0)]);
    }
    types.int("int", 4, true);
    let btf = Btf::parse(types.finish()).unwrap();
    let start = Instant::now();
    assert!(btf.field("bomb.x").unwrap_err().to_string().contains("too deeply"));
    assert!(btf.spell(TypeId(1)).len() < 100);
    cut(&btf, &["bomb"]).unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn a_name_outside_of_the_strings_is_told() {
    let types = [vec![at("int"), info(Kind::INT, 0), 4, 32], vec![at("s"), info(Kind::STRUCT, 1), 4, 0xffff, 1, 0]];
    let error = Btf::parse(blob(&types, false)).unwrap().field("s.a").unwrap_err().to_string();
    assert_eq!(error, "BTF type 2 has a name at byte 65535 of the strings, which is not there");
}

#[test]
fn a_member_is_suggested_where_one_was_misspelt() {
    let mut types = Builder::new();
    let int = types.int("int", 4, true);
    let inner = types.strukt("", 8, &[("skc_dport", int, 0), ("skc_num", int, 4)]);
    types.strukt("sock", 8, &[("", inner, 0)]);
    let btf = Btf::parse(types.finish()).unwrap();
    for (wrong, end) in [
        ("skc_dprot", "has no member `skc_dprot`, but `skc_dport`"),
        ("skc_dpor", "but `skc_dport`"),
        ("num", "but `skc_num`"),
        ("zebra", "struct sock has no member `zebra`"),
    ] {
        let text = btf.field(&format!("sock.{wrong}")).unwrap_err().to_string();
        assert!(text.ends_with(end), "{text}");
    }
}

/// Looks at all there is.
fn walk(bytes: Vec<u8>) {
    let Ok(btf) = Btf::parse(bytes) else { return };
    for ty in btf.types() {
        let _ = (ty.size(), ty.resolved().map(|ty| ty.id), btf.spell(ty.id), ty.target(), ty.int(), ty.array_len());
        let _ = (ty.members().count(), ty.params().count(), ty.values().count());
        for member in ["a", "b", "zebra", "a.b[2]", "b[1]"] {
            let _ = btf.field(&format!("{}.{member}", ty.name()));
        }
    }
    if let Ok(part) = cut(&btf, &["s", "f", "c"]) {
        assert!(Btf::parse(part).is_ok());
    }
}

#[test]
fn no_flipped_bit_does_harm() {
    for big_endian in [false, true] {
        let bytes = blob(&every_kind(), big_endian);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            walk(bytes);
        }
        for end in 0..bytes.len() {
            assert!(Btf::parse(bytes[..end].to_vec()).is_err(), "{end}");
        }
    }
}
