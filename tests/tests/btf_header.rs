//! Types as C: compilers take the header, and lay out every structure as the types say.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use bpfkit_btf::{Btf, Header, Kind, Type};
use bpfkit_tests::cc::Compiler;
use bpfkit_tests::programs::fixture;

/// The cuts in the tree, the types of the kernel that runs, and whole kernels where somebody has put them below `target`.
fn blobs() -> Vec<(String, Btf)> {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/btf-fixtures");
    let mut files: Vec<PathBuf> = ["5.10", "6.12", "7.2"].map(|kernel| fixture(&format!("btf/{kernel}.btf"))).to_vec();
    files.push(fixture("btf/shapes.btf"));
    files.push("/sys/kernel/btf/vmlinux".into());
    files.extend(whole.read_dir().into_iter().flatten().flatten().map(|entry| entry.path()));
    let there = files.into_iter().filter(|file| file.exists());
    there.map(|file| (file.display().to_string(), Btf::from_file(&file).unwrap())).collect()
}

fn header(btf: &Btf) -> String {
    let mut header = Header::new(btf);
    let mut text = String::new();
    while let Some(piece) = header.next_piece() {
        text.push_str(piece);
    }
    text
}

/// Types whose members are checked, with the names they have in the header.
fn checked(btf: &Btf) -> BTreeMap<String, Type<'_>> {
    let header = Header::new(btf);
    let is_unnamed = |ty: &Type<'_>| matches!(ty.kind(), Kind::STRUCT | Kind::UNION) && ty.name().is_empty();
    btf.types()
        .filter_map(|ty| {
            let name = header.name(&ty)?;
            match ty.kind() {
                // Of a typedef, only what has no name of its own.
                Kind::TYPEDEF => ty.resolved().ok().filter(is_unnamed).map(|ty| (name, ty)),
                _ => Some((name, ty)),
            }
        })
        .collect()
}

/// One assertion a line, of the size of each type, and of the offset and size of each of their members that is no bit field.
fn assertions(btf: &Btf) -> (String, usize) {
    let mut text = String::from(
        "#define SIZE(t, n) _Static_assert(sizeof(t) == n, #t);\n\
         #define AT(t, m, o, n) _Static_assert(__builtin_offsetof(t, m) == o && sizeof(((t *)0)->m) == n, #t \".\" #m);\n",
    );
    let mut count = 0;
    for (name, ty) in checked(btf) {
        let _ = writeln!(text, "SIZE({name}, {})", ty.size().unwrap());
        for member in ty.flat_members().iter().filter(|member| member.bits.is_none()) {
            let size = btf.ty(member.ty).unwrap().size().unwrap();
            let (path, offset) = (member.path.replace("[]", "[0]"), member.bit_offset / 8);
            let _ = writeln!(text, "AT({name}, {path}, {offset}, {size})");
            count += 1;
        }
    }
    (text, count)
}

#[test]
fn compilers_lay_out_every_structure_as_the_types_say() {
    let compilers = Compiler::all();
    if compilers.is_empty() {
        eprintln!("skipped: there is no C compiler");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (name, btf) in blobs() {
        let (assertions, count) = assertions(&btf);
        assert!(count > 40, "{name}: only {count} members");
        let file = directory.path().join("header.c");
        std::fs::write(&file, header(&btf) + &assertions).unwrap();
        for compiler in &compilers {
            compiler.run(&["-fsyntax-only"], &file).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

#[test]
fn a_compiler_notices_a_wrong_offset() {
    let Some(compiler) = Compiler::all().into_iter().next() else {
        eprintln!("skipped: there is no C compiler");
        return;
    };
    let btf = Btf::from_file(fixture("btf/shapes.btf")).unwrap();
    let (assertions, _) = assertions(&btf);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("header.c");
    std::fs::write(&file, header(&btf) + &assertions.replacen(", 0, ", ", 8, ", 1)).unwrap();
    let error = compiler.run(&["-fsyntax-only"], &file).unwrap_err();
    assert!(error.contains("static assertion"), "{error}");
}

/// Bit fields have no offset that C could tell, but the compiler's debugging information has.
#[test]
fn the_compiler_has_every_bit_field_where_the_types_have_it() {
    let gcc = Compiler::all().into_iter().find(|compiler| compiler.target.is_none());
    let Some(compiler) = gcc else {
        eprintln!("skipped: there is no C compiler");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    for (name, btf) in blobs() {
        let (source, library) = (directory.path().join("header.c"), directory.path().join("header.so"));
        std::fs::write(&source, header(&btf)).unwrap();
        let output = library.display().to_string();
        let flags = ["-g", "-fno-eliminate-unused-debug-types", "-shared", "-nostdlib", "-fPIC", "-o", &output];
        compiler.run(&flags, &source).unwrap_or_else(|error| panic!("{name}: {error}"));
        let compiled = Btf::from_dwarf_file(&library, None).unwrap();
        let kinds = [Kind::STRUCT, Kind::UNION];
        let mut bit_fields = 0;
        for (c_name, ty) in checked(&btf) {
            let Some(bare) = c_name.strip_prefix("struct ").or_else(|| c_name.strip_prefix("union ")) else { continue };
            let again = compiled.find(bare, &kinds).unwrap_or_else(|| panic!("{name}: the compiler has no {c_name}"));
            let places = |ty: Type<'_>| {
                let is_own = |path: &str| !path.starts_with("___pad") && !path.contains(".___pad");
                let members = ty.flat_members().into_iter().filter(|member| is_own(&member.path));
                members.map(|member| (member.path, member.bit_offset, member.bits)).collect::<Vec<_>>()
            };
            let expected = places(ty);
            bit_fields += expected.iter().filter(|(.., bits)| bits.is_some()).count();
            assert_eq!(places(again), expected, "{name}: {c_name}");
        }
        assert!(bit_fields > 8, "{name}: only {bit_fields}");
    }
}
