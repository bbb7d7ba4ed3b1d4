//! `bpfkit btf dump`, `type`, `field`, `func`, `diff` and `stats`, from the command line to what is printed.

use std::path::Path;
use std::process::Command;

use bpfkit::Chain;
use bpfkit_btf::{Btf, Builder, Header, TypeId, cut};
use bpfkit_tests::cc::Compiler;
use bpfkit_tests::programs::{check_file, fixture, printed};

fn run(line: &str) -> Result<String, String> {
    printed(line).map_err(|error| Chain(&error).to_string())
}

fn btf(name: &str) -> String {
    fixture(&format!("btf/{name}.btf")).display().to_string()
}

/// Compares with a file in the tree, which `BLESS=1` rewrites.
fn check(name: &str, text: &str) {
    check_file(&format!("shown/{name}"), text);
}

#[test]
fn all_that_c_can_say_of_a_layout_is_shown_as_committed() {
    let shapes = btf("shapes");
    check("shapes.h", &run(&format!("btf dump {shapes}")).unwrap());
    check("shapes.raw", &run(&format!("btf dump -f raw {shapes}")).unwrap());
    check("shapes.json", &run(&format!("btf dump --format json {shapes}")).unwrap());
    check("later.txt", &run(&format!("btf type later {shapes}")).unwrap());
    check("holes.txt", &run(&format!("btf type holes {shapes}")).unwrap());
    check("stats.txt", &run(&format!("btf stats -n 3 {}", btf("6.12"))).unwrap());
}

#[test]
fn json_has_every_type_and_can_be_read() {
    let file = btf("6.12");
    let text = run(&format!("btf dump -f json {file}")).unwrap();
    let all = Btf::from_file(&file).unwrap();
    assert_eq!(text.lines().count(), all.len());
    for (line, ty) in text.lines().zip(all.types()) {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((row["id"].as_u64(), row["kind"].as_str()), (Some(ty.id.0.into()), Some(ty.kind().constant())));
        let elements = ["members", "values", "params", "vars"].iter().find_map(|key| row[key].as_array());
        assert_eq!(row["vlen"].as_u64(), elements.map(|list| u64::try_from(list.len()).unwrap()), "{line}");
    }
}

#[test]
fn names_that_clash_or_are_words_of_c_get_numbers() {
    let mut types = Builder::new();
    let int = types.int("int", 4, true);
    let long = types.int("long", 4, true);
    let odd = types.int("i24", 3, true);
    let flag = types.strukt("while", 4, &[("default", int, 0)]);
    let first = types.strukt("node", 4, &[("a", int, 0)]);
    let second = types.strukt("node", 8, &[("a", first, 0), ("b", long, 4)]);
    types.strukt("node___2", 4, &[("c", odd, 0)]);
    types.typedef("node", second);
    types.typedef("node", flag);
    types.enum64("node", &[("node", 1), ("ONE", 1 << 40)]);
    types.enum64("", &[("ONE", 2)]);
    let forward = types.fwd("node");
    let pointer = types.ptr(forward);
    let proto = types.func_proto(&[("register", pointer), ("", TypeId(0))], TypeId(0));
    let callback = types.ptr(proto);
    types.typedef("call::back<T>", callback);
    let kfunc = types.func("bpf_do_it", proto);
    types.decl_tag("bpf_kfunc", kfunc);
    types.decl_tag("bpf_fastcall", kfunc);
    let btf = Btf::parse(types.finish()).unwrap();
    let mut header = Header::new(&btf);
    let mut text = String::new();
    while let Some(piece) = header.next_piece() {
        text.push_str(piece);
    }
    check("names.h", &text);
    for compiler in Compiler::all() {
        compiler.run(&["-fsyntax-only"], &fixture("shown/names.h")).unwrap();
    }
}

#[test]
fn a_type_is_found_by_name_and_kind_and_compared_over_kernels() {
    let kernels = ["5.10", "6.12", "7.2"].map(btf).join(" ");
    let text = run(&format!("btf type in6_addr {kernels}")).unwrap();
    assert!(
        text.starts_with("// 5.10\nstruct in6_addr {\n") && text.ends_with("// 6.12: as in 5.10\n// 7.2: as in 5.10\n"),
        "{text}"
    );
    assert!(
        text.contains("__u8 u6_addr8[16];") && text.contains("/* size: 16, cachelines: 1, members: 1 */"),
        "{text}"
    );
    let whole = run(&format!("btf type sock --deps {}", btf("6.12"))).unwrap();
    assert!(whole.contains("struct sock_common {\n") && whole.trim_end().ends_with("};"), "{whole}");
    assert!(whole.find("struct sock_common {\n") < whole.find("struct sock {\n"));
    let miss = |name: &str| run(&format!("btf type {name} {}", btf("6.12"))).unwrap_err();
    assert_eq!(miss("sk_buf"), "there is no type `sk_buf`; did you mean `sk_buff`?");
    assert!(miss("no_such_type_at_all_here").starts_with("there is no type"), "{}", miss("no_such_type_at_all_here"));
}

#[test]
fn a_member_is_a_table_over_kernels_that_tells_what_changed() {
    let kernels = ["7.2", "5.10", "6.12"].map(btf).join(" ");
    let text = run(&format!("btf field task_struct.__state|task_struct.state {kernels}")).unwrap();
    check("field.txt", &text);
    let json = run(&format!("btf field sk_buff.pkt_type --json {kernels}")).unwrap();
    let rows: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kernels: Vec<_> = rows.iter().map(|row| row["kernel"].as_str().unwrap()).collect();
    assert_eq!(kernels, ["5.10", "6.12", "7.2"]);
    assert_eq!((rows[0]["bits"]["size"].as_u64(), rows[0]["type"].as_str()), (Some(3), Some("__u8")));
    let one = run(&format!("btf field sock.__sk_common.skc_dport {}", btf("6.12"))).unwrap();
    assert_eq!(one, "OFFSET SIZE TYPE\n12     2    __be16\n");
    let gone = run(&format!("btf field sock.no_such {}", btf("6.12"))).unwrap_err();
    assert!(gone.starts_with("no field `sock.no_such`: struct sock has no member"), "{gone}");
    let nowhere = run(&format!("btf field sock.no_such {} {}", btf("6.12"), btf("7.2"))).unwrap_err();
    assert!(nowhere.starts_with("in none of the 2 kernels: no field"), "{nowhere}");
}

#[test]
fn a_function_is_shown_with_the_places_of_its_arguments() {
    let kernels = ["5.10", "6.12", "7.2"].map(btf).join(" ");
    check("func.txt", &run(&format!("btf func tcp_v4_connect --arch x86_64 {kernels}")).unwrap());
    let arm = run(&format!("btf func tcp_v4_connect --arch aarch64 {}", btf("6.12"))).unwrap();
    assert!(arm.contains("    x1 8 uaddr ") && arm.contains("    x0 4 return "), "{arm}");
    let json = run(&format!("btf func tcp_v4_connect --json --arch bpf {kernels}")).unwrap();
    let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!((last["changed"].as_bool(), last["arguments"][0]["place"].as_str()), (Some(true), Some("r1")));
    let miss = run(&format!("btf func tcp_v4_conect {}", btf("6.12"))).unwrap_err();
    assert!(miss.ends_with("did you mean `tcp_v4_connect`?"), "{miss}");
}

#[test]
fn large_arguments_and_results_are_where_the_calling_convention_has_them() {
    let mut types = Builder::new();
    let long = types.int("long", 8, true);
    let two = types.strukt("two", 16, &[("a", long, 0), ("b", long, 8)]);
    let three = types.strukt("three", 24, &[("a", long, 0), ("b", two, 8)]);
    let params: Vec<(&str, TypeId)> =
        [("a", two), ("b", three), ("c", long), ("d", long), ("e", two), ("f", long), ("rest", TypeId(0))].to_vec();
    let proto = types.func_proto(&params, three);
    types.func("many", proto);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("many.btf");
    std::fs::write(&file, types.finish()).unwrap();
    let places = |arch: &str| -> Vec<String> {
        let json = run(&format!("btf func many --json --arch {arch} {}", file.display())).unwrap();
        let row: serde_json::Value = serde_json::from_str(&json).unwrap();
        let all = row["arguments"].as_array().unwrap().iter().chain([&row["result"]]);
        all.map(|argument| argument["place"].as_str().unwrap().to_owned()).collect()
    };
    // rdi points to where the result goes; e does not fit into r9 alone, which f has then.
    assert_eq!(places("x86_64"), ["rsi:rdx", "stack+0", "rcx", "r8", "stack+24", "r9", "", "memory"]);
    assert_eq!(places("aarch64"), ["x0:x1", "*x2", "x3", "x4", "x5:x6", "x7", "", "memory"]);
}

#[test]
fn what_is_different_is_told_by_name() {
    check("diff.txt", &run(&format!("btf diff {} {}", btf("6.12"), btf("7.2"))).unwrap());
    let same = run(&format!("btf diff {} {}", btf("6.12"), btf("6.12"))).unwrap();
    assert_eq!(same, "nothing is different\n");
    // Other numbers for the same types are no difference.
    let whole = Btf::from_file(btf("6.12")).unwrap();
    let (some, all) = (cut(&whole, &["sk_buff"]).unwrap(), cut(&whole, &["task_struct", "sk_buff"]).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let [some_file, all_file] = ["some", "all"].map(|name| directory.path().join(name));
    std::fs::write(&some_file, &some).unwrap();
    std::fs::write(&all_file, &all).unwrap();
    let (some, all) = (Btf::parse(some).unwrap(), Btf::parse(all).unwrap());
    assert_ne!(some.named("sk_buff")[0].id, all.named("sk_buff")[0].id);
    let line = format!("btf diff {} {}", some_file.display(), all_file.display());
    assert_eq!(run(&format!("{line} --type sk_buff")).unwrap(), "nothing is different\n");
    let json = run(&format!("{line} --json --type task_struct")).unwrap();
    let row: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((row["change"].as_str(), row["kind"].as_str()), (Some("added"), Some("struct")));
    assert!(run(&format!("{line} --type no_such")).unwrap_err().contains("neither file has a type `no_such`"));
}

#[test]
fn archives_and_directories_are_several_kernels() {
    let directory = tempfile::tempdir().unwrap();
    let (kernels, archive) = (directory.path().join("kernels"), directory.path().join("archive"));
    std::fs::create_dir(&kernels).unwrap();
    for kernel in ["5.10", "6.12", "7.2"] {
        std::fs::copy(btf(kernel), kernels.join(format!("{kernel}.btf"))).unwrap();
    }
    run(&format!("btf archive {} -o {}", kernels.display(), archive.display())).unwrap();
    let of = |path: &Path| run(&format!("btf field sock.__sk_common.skc_family {}", path.display())).unwrap();
    assert_eq!(of(&kernels), of(&archive));
    assert_eq!(of(&archive).lines().count(), 4);
    let several = run(&format!("btf dump {}", archive.display())).unwrap_err();
    assert!(several.contains("the types of 3 kernels, and one is wanted"), "{several}");
}

#[test]
fn what_cannot_be_shown_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let whole = std::fs::read(btf("6.12")).unwrap();
    let mut unknown = std::fs::read(btf("shapes")).unwrap();
    unknown[24 + 7] = 99;
    let pipe = directory.path().join("pipe").display().to_string();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let huge = file("huge", &whole);
    std::fs::File::options().write(true).open(&huge).unwrap().set_len(1 << 40).unwrap();
    for (path, part) in [
        // Neither is waited for, nor read without an end.
        (pipe, "it is no regular file"),
        ("/dev/zero".to_owned(), "it is no regular file"),
        (huge, "it is larger than types are"),
        (file("empty", b""), "truncated BTF: the header"),
        (file("half", &whole[..whole.len() / 2]), "truncated BTF"),
        (file("text", b"no types in here"), "not BTF"),
        (file("unknown", &unknown), "of kind 99, which is unknown and not described"),
        (directory.path().display().to_string(), "is a directory, and one file is wanted"),
        ("/no/such/file".to_owned(), "No such file"),
        (std::env::current_exe().unwrap().display().to_string(), "no .BTF section"),
    ] {
        // The test's own binary has DWARF, unless it was built without.
        match run(&format!("btf dump {path}")) {
            Err(error) => assert!(error.contains(part), "{path}: {error}"),
            Ok(text) => assert!(part == "no .BTF section" && text.contains("#endif"), "{path}"),
        }
    }
}

#[test]
fn a_modules_types_are_shown_on_their_base() {
    let mut types = Builder::new();
    let int = types.int("int", 4, true);
    types.strukt("point", 8, &[("x", int, 0), ("y", int, 4)]);
    let base = types.finish();
    let strings = u32::from_le_bytes(base[20..24].try_into().unwrap());
    // One structure, of the base's `point` and with a name of its own.
    let words = [24, 0, 24, 24, 14, strings, 4 << 24 | 1, 8, strings + 7, 2, 0_u32];
    let mut module = vec![0x9f, 0xeb, 1, 0];
    module.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    module.extend(b"circle\0centre\0");
    let directory = tempfile::tempdir().unwrap();
    let [base_file, module_file] = ["base", "module"].map(|name| directory.path().join(name));
    std::fs::write(&base_file, base).unwrap();
    std::fs::write(&module_file, module).unwrap();
    let (base, module) = (base_file.display(), module_file.display());
    let text = run(&format!("btf dump {module} --base {base}")).unwrap();
    let (point, circle) = (text.find("struct point {\n\tint x;"), text.find("struct circle {\n\tstruct point centre;"));
    assert!(point.is_some() && point < circle, "{text}");
    assert_eq!(
        run(&format!("btf dump -f raw {module} --base {base}")).unwrap().lines().next().unwrap(),
        "[3] STRUCT 'circle' size=8 vlen=1"
    );
    let field = run(&format!("btf field circle.centre.y --base {base} {module}")).unwrap();
    assert_eq!(field.lines().last().unwrap(), "4      4    int");
    let alone = run(&format!("btf dump {module}")).unwrap_err();
    assert!(alone.contains("need those as their base"), "{alone}");
    assert!(run(&format!("btf dump --base {base}")).unwrap_err().contains("--base needs the file of the module"));
}
