//! Types: of the kernel, of object files, out of DWARF.

use crate::meter::within;
use bpfkit_btf::{Archive, Btf, BtfExt, Header, Kind, TypeId, cut};

/// The most types of which each is printed by itself.
const PRINTED: usize = 40;

/// BTF, whole or split, either byte order: iterated, resolved, printed in each form, cut, and read again.
pub(super) fn btf(bytes: &[u8]) {
    if Archive::begins(bytes) {
        return archive(bytes);
    }
    let Ok(btf) = within(10, bytes.len(), || Btf::parse(bytes.to_vec())) else {
        let _ = Btf::read(bytes.to_vec(), None);
        return;
    };
    walk(&btf);
    let mut names: Vec<String> = btf.types().take(PRINTED).map(|ty| ty.name().into_owned()).collect();
    names.retain(|name| !name.is_empty());
    shrink(&btf, &names);
    // The same bytes as a module's types, after themselves.
    if let Ok(split) = Btf::parse_split(bytes.to_vec(), &btf) {
        walk(&split);
    }
    if let Ok(ext) = BtfExt::parse(bytes, &btf) {
        for name in &names {
            assert!(ext.funcs(name).len() <= bytes.len() && ext.lines(name).len() <= bytes.len());
        }
    }
    if let Some(half) = bytes.len().checked_div(2)
        && let Ok(ext) = BtfExt::parse(&bytes[half..], &btf)
    {
        let _ = ext.lines(".text");
    }
}

/// An archive, as far as it says that it is small: it is inflated, so that what it takes has nothing to do with its length.
fn archive(bytes: &[u8]) {
    let says = bytes.get(12..16).and_then(|word| Some(u32::from_le_bytes(word.try_into().ok()?)));
    if says.is_none_or(|size| size < 1 << 20)
        && let Ok(archive) = Archive::parse(bytes)
    {
        let releases: Vec<&str> = archive.releases().collect();
        for release in releases.iter().take(PRINTED) {
            if let Ok(btf) = archive.find(|known| known == *release) {
                walk(&btf);
            }
        }
    }
}

/// Everything that can be asked of types.
fn walk(btf: &Btf) {
    let mut header = Header::new(btf);
    let mut length = 0;
    while let Some(piece) = header.next_piece() {
        length += piece.len();
        assert!(length < 64 << 20, "a header without an end");
    }
    let all: usize = btf.section_sizes().iter().sum();
    assert!(all <= 3 * btf.as_bytes().len(), "{all} bytes of sections");
    let mut text = String::new();
    let mut count = 0;
    for ty in btf.types() {
        count += 1;
        assert!(btf.ty(ty.id).is_ok_and(|found| found.id == ty.id));
        assert!(ty.encoded_len() <= btf.as_bytes().len());
        let elements = ty.members().count() + ty.values().count() + ty.params().count() + ty.variables().count();
        assert!(elements <= btf.as_bytes().len(), "{elements} elements");
        let _ = (ty.size(), ty.resolved().map(|ty| ty.id), ty.target(), ty.int(), ty.array_len(), ty.component());
        if count > PRINTED {
            continue;
        }
        text.clear();
        ty.write_raw(&mut text);
        assert!(text.is_ascii(), "{text:?}");
        let name = ty.name();
        // A spelling has names as they are, and who prints it escapes them.
        assert!(btf.spell(ty.id).len() < (1 << 18) + btf.as_bytes().len());
        for printed in [Header::annotated(btf, ty.id), Header::declaration(btf, ty.id, "name")] {
            assert!(printed.len() < 8 << 20 && super::is_harmless(&printed), "{printed:?}");
        }
        let flat = ty.flat_members();
        if let Some(found) = btf.find(&name, &[ty.kind()]) {
            assert_eq!((found.name(), found.kind()), (name.clone(), ty.kind()));
        }
        for member in ty.members().take(8) {
            if let Ok(field) = btf.field(&format!("{name}.{}", member.name)) {
                assert!(flat.is_empty() || field.offset <= u32::MAX / 8 + 1, "{field:?}");
            }
        }
    }
    assert_eq!(count, btf.len());
    let _ = btf.field("task_struct.mm|task_struct.nothing[3].x");
    let _ = (btf.nearest("task_struct", &[Kind::STRUCT]), btf.ty(TypeId(u32::MAX)).is_err());
}

/// What is cut out of types is types, and has the members where they were.
fn shrink(btf: &Btf, names: &[String]) {
    let paths: Vec<String> = btf
        .types()
        .take(PRINTED)
        .filter(|ty| matches!(ty.kind(), Kind::STRUCT | Kind::UNION))
        .flat_map(|ty| ty.members().take(2).map(move |member| format!("{}.{}", ty.name(), member.name)))
        .collect();
    let roots: Vec<&str> = names.iter().chain(&paths).map(String::as_str).collect();
    let roots = btf.present(&roots);
    let Ok(small) = cut(btf, &roots) else { return };
    let small = Btf::parse(small).expect("what is cut can be read");
    assert_eq!(small.is_big_endian(), btf.is_big_endian());
    for path in roots.into_iter().filter(|root| root.contains('.')) {
        if let (Ok(old), Ok(new)) = (btf.field(path), small.field(path)) {
            assert_eq!((old.offset, old.size), (new.offset, new.size), "{path}");
        }
    }
    // What was cut is as small as it gets.
    let names: Vec<String> = small.types().map(|ty| ty.name().into_owned()).collect();
    assert!(names.len() <= btf.len() + 1, "{} types of {}", names.len(), btf.len());
}

/// DWARF to types, whose output is read again.
pub(super) fn dwarf(bytes: &[u8]) {
    for roots in [None, Some(&["node", "list.next", "outer"][..])] {
        if let Ok(btf) = within(64, bytes.len(), || Btf::from_dwarf(bytes, roots)) {
            let again = Btf::parse(btf.as_bytes().to_vec()).expect("what is written can be read");
            assert_eq!(again.len(), btf.len());
            for ty in btf.types() {
                for id in ty.target().into_iter().chain(ty.members().map(|member| member.ty)) {
                    assert!(btf.ty(id).is_ok(), "type {} has {id:?}, which is not there", ty.id.0);
                }
                let _ = ty.size();
            }
        }
    }
    let _ = Btf::from_elf(bytes);
}
