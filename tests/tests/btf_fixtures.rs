//! The parser against pahole on the types of three kernels, and against every kind of damage.

use std::path::{Path, PathBuf};

use bpfkit_btf::{Btf, Kind, cut};

const KERNELS: [&str; 3] = ["5.10", "6.12", "7.2"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/btf").join(name)
}

#[test]
fn every_member_is_where_pahole_finds_it() {
    for kernel in KERNELS {
        let btf = Btf::from_file(fixture(&format!("{kernel}.btf"))).unwrap();
        let expected = std::fs::read_to_string(fixture(&format!("{kernel}.offsets"))).unwrap();
        let mut compared = 0;
        for line in expected.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let field = btf.field(words[0]).unwrap_or_else(|error| panic!("{kernel}: {error}"));
            let numbers: Vec<u32> = words[1..].iter().filter_map(|word| word.parse().ok()).collect();
            if words[1] == "bits" {
                let bits = field.bits.unwrap_or_else(|| panic!("{kernel}: {line}: {field:?}"));
                assert_eq!((bits.offset, bits.size), (numbers[0] * 8 + numbers[1], numbers[2]), "{kernel}: {line}");
            } else {
                assert_eq!((field.offset, field.size), (numbers[0], numbers[1]), "{kernel}: {line}: {field:?}");
            }
            compared += 1;
        }
        assert!(compared > 500, "{kernel}: only {compared} members");
    }
}

#[test]
fn what_bpfkit_takes_for_granted_of_a_socket_is_so() {
    for kernel in KERNELS {
        let btf = Btf::from_file(fixture(&format!("{kernel}.btf"))).unwrap();
        let offset = |path: &str| btf.field(path).unwrap().offset;
        let common = |member: &str| offset(&format!("sock.__sk_common.{member}"));
        assert_eq!(common("skc_dport"), common("skc_portpair"));
        assert_eq!(common("skc_num"), common("skc_portpair") + 2);
        assert_eq!(common("skc_daddr"), common("skc_addrpair"));
        assert_eq!(common("skc_rcv_saddr"), common("skc_addrpair") + 4);
        assert_eq!(btf.func_proto("tcp_v4_connect").unwrap().params().count(), 3);
    }
}

#[test]
fn a_wrong_path_is_told_from_a_wrong_type() {
    let btf = Btf::from_file(fixture("6.12.btf")).unwrap();
    let why = |path: &str| btf.field(path).unwrap_err().to_string();
    assert_eq!(
        why("socket_that_is_not.x"),
        "no field `socket_that_is_not.x`: there is no struct, union or typedef `socket_that_is_not`"
    );
    assert!(why("sock.__sk_common.skc_dports").ends_with("but `skc_dport`"), "{}", why("sock.__sk_common.skc_dports"));
    assert!(why("sk_buff.dev.name").contains("behind a pointer, struct net_device *"), "{}", why("sk_buff.dev.name"));
    assert!(why("sockaddr_in.sin_zero[x]").contains("not made of"), "{}", why("sockaddr_in.sin_zero[x]"));
    assert!(why("in6_addr.in6_u.u6_addr8[16]").contains("16 elements"), "{}", why("in6_addr.in6_u.u6_addr8[16]"));
    assert_eq!(btf.field("in6_addr.in6_u.u6_addr32[3]").unwrap().offset, 12);
    let renamed = btf.field("task_struct.state|task_struct.__state").unwrap();
    assert_eq!(renamed.path, "task_struct.__state");
}

#[test]
fn members_of_an_unnamed_member_of_a_named_structure_are_reached() {
    // Linux 7.2 has `struct ns_tree;` in a union of struct ns_common.
    let btf = Btf::from_file(fixture("7.2.btf")).unwrap();
    assert_eq!(btf.field("ns_common.ns_id").unwrap().offset, 96);
    assert_eq!(btf.field("mnt_namespace.ns.ns_owner_root").unwrap().offset, 96 + 136);
}

#[test]
fn a_cut_of_a_cut_is_the_same_and_a_missing_root_is_named() {
    let btf = Btf::from_file(fixture("7.2.btf")).unwrap();
    let once = cut(&btf, &["sock", "tcp_v4_connect"]).unwrap();
    let again = cut(&Btf::parse(once.clone()).unwrap(), &["sock", "tcp_v4_connect"]).unwrap();
    assert_eq!(once, again);
    assert!(cut(&btf, &["no_such_type"]).unwrap_err().to_string().contains("no_such_type"));
}

/// Looks at all there is, so that damage anywhere would be met.
fn walk(bytes: Vec<u8>) {
    let Ok(btf) = Btf::parse(bytes) else { return };
    for path in ["sock.__sk_common.skc_dport", "point.y", "point.flags", "in6_addr.in6_u.u6_addr32[3]"] {
        let _ = btf.field(path);
    }
    for ty in btf.types() {
        let _ = (ty.size(), btf.spell(ty.id), ty.members().count(), ty.params().count());
    }
    let _ = btf.find("tcp_v4_connect", &[Kind::FUNC]);
    let _ = cut(&btf, &["point"]);
}

/// A blob with a type of each kind that the writer has.
fn small() -> Vec<u8> {
    let mut types = bpfkit_btf::Builder::new();
    let int = types.int("int", 4, true);
    let pointer = types.ptr(int);
    let list = types.array(int, int, 3);
    let point = types.strukt("point", 24, &[("x", int, 0), ("y", list, 4), ("next", pointer, 16)]);
    let name = types.typedef("point_t", point);
    let proto = types.func_proto(&[("p", name), ("n", int)], int);
    types.func("move_point", proto);
    types.finish()
}

#[test]
fn a_blob_that_is_cut_anywhere_does_no_harm() {
    let bytes = small();
    for end in 0..bytes.len() {
        assert!(Btf::parse(bytes[..end].to_vec()).is_err(), "{end}");
    }
    let real = std::fs::read(fixture("6.12.btf")).unwrap();
    for end in (0..real.len()).step_by(977) {
        assert!(Btf::parse(real[..end].to_vec()).is_err(), "{end}");
    }
}

#[test]
fn a_blob_with_any_byte_changed_does_no_harm() {
    let bytes = small();
    for at in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff, bytes[at] ^ 1, bytes[at].wrapping_add(1)] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            walk(bytes);
        }
    }
    let real = std::fs::read(fixture("5.10.btf")).unwrap();
    for at in (0..real.len()).step_by(2203) {
        let mut bytes = real.clone();
        bytes[at] ^= 0xff;
        walk(bytes);
    }
}

/// The same blob for a machine of the other byte order.
fn swapped(bytes: &[u8]) -> Vec<u8> {
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    let strings = usize::try_from(24 + word(16)).unwrap();
    let mut out = vec![bytes[1], bytes[0], bytes[2], bytes[3]];
    for at in (4..strings).step_by(4) {
        out.extend(word(at).swap_bytes().to_ne_bytes());
    }
    out.extend(&bytes[strings..]);
    out
}

#[test]
fn both_byte_orders_are_read_alike() {
    let (native, other) = (small(), swapped(&small()));
    let (native, other) = (Btf::parse(native).unwrap(), Btf::parse(other).unwrap());
    assert_ne!(native.is_big_endian(), other.is_big_endian());
    for path in ["point.x", "point.y[2]", "point.next", "point_t.y"] {
        assert_eq!(native.field(path).unwrap(), other.field(path).unwrap());
    }
    assert_eq!(other.field("point.y[2]").unwrap().offset, 12);
}

#[test]
fn a_longer_header_and_kinds_that_it_describes_are_taken() {
    let bytes = small();
    let types = usize::try_from(u32::from_ne_bytes(bytes[12..16].try_into().unwrap())).unwrap();
    let strings = bytes.len() - 24 - types;
    // A type of kind 21, which the layout section says has 4 bytes and 8 for each element, before the others.
    let unknown: Vec<u8> = [0, 21 << 24 | 2, 0, 7, 1, 2, 3, 4_u32].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let layout: Vec<u8> = (0..22_u8).flat_map(|kind| if kind == 21 { [4, 8, 0, 0] } else { [0; 4] }).collect();
    let header =
        [32, 0, types + unknown.len(), types + unknown.len(), strings, types + unknown.len() + strings, layout.len()];
    let mut long = bytes[..4].to_vec();
    long.extend(header.iter().flat_map(|&word| u32::try_from(word).unwrap().to_ne_bytes()));
    long.extend(&bytes[24..24 + types]);
    long.extend(&unknown);
    long.extend(&bytes[24 + types..]);
    let without = long.clone();
    long.extend(&layout);
    let btf = Btf::parse(long).unwrap();
    assert_eq!(btf.field("point.next").unwrap().offset, 16);
    assert!(Btf::parse(without).is_err());
}

#[test]
fn the_types_of_a_module_build_on_those_of_the_kernel() {
    let base = Btf::parse(small()).unwrap();
    // One structure, which has a member of the base's type 4 and a name of its own.
    let strings = b"\0module\0centre\0";
    let base_strings =
        u32::try_from(small().len()).unwrap() - 24 - u32::from_ne_bytes(small()[12..16].try_into().unwrap());
    let words = [24, 0, 24, 24, 15, base_strings + 1, 4 << 24 | 1, 24, base_strings + 8, 4, 0_u32];
    let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
    bytes.extend([1, 0]);
    bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    bytes.extend(strings);
    let module = Btf::parse_split(bytes, &base).unwrap();
    let field = module.field("module.centre.y[1]").unwrap();
    assert_eq!((field.offset, field.size), (8, 4));
    assert_eq!(module.field("point.next").unwrap().offset, 16);
}

#[test]
fn types_that_go_in_circles_are_errors() {
    let mut types = bpfkit_btf::Builder::new();
    types.typedef("round", bpfkit_btf::TypeId(2));
    types.typedef("about", bpfkit_btf::TypeId(1));
    types.strukt("holder", 4, &[("", bpfkit_btf::TypeId(3), 0)]);
    types.array(bpfkit_btf::TypeId(4), bpfkit_btf::TypeId(4), 9);
    let btf = Btf::parse(types.finish()).unwrap();
    assert!(btf.field("round.x").unwrap_err().to_string().contains("refers to itself"));
    assert!(btf.field("holder.x").unwrap_err().to_string().contains("refers to itself"));
    assert!(btf.ty(bpfkit_btf::TypeId(4)).unwrap().size().is_err());
    assert!(btf.ty(bpfkit_btf::TypeId(99)).is_err());
}

#[test]
fn the_section_of_an_elf_file_is_found_and_other_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("garbage");
    for (bytes, part) in [(&b"\x7fELFgarbage"[..], "ELF"), (b"", "truncated"), (b"MZ and more, long enough", "not BTF")]
    {
        std::fs::write(&path, bytes).unwrap();
        let error = Btf::from_file(&path).unwrap_err();
        let text = bpfkit::Chain(&error).to_string();
        assert!(text.contains(part) && text.contains("garbage"), "{text}");
    }
    // This test's own binary is an ELF file without types.
    let own = std::env::current_exe().unwrap();
    assert!(bpfkit::Chain(&Btf::from_file(own).unwrap_err()).to_string().contains("no .BTF section"));
}
