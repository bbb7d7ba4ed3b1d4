//! `bpfkit dump`, for kernels that are not here.

use bpfkit_tests::programs::{check_refused, fixture, printed};
use clap::CommandFactory;
use serde_json::Value;

/// What `bpfkit dump` with these flags prints for Linux 5.10.
fn dump(flags: &str) -> Result<String, bpfkit::Error> {
    printed(&format!("dump {flags} --kernel 5.10 --btf {}", fixture("btf/5.10.btf").display()))
}

/// Those of `dump` may stand behind the tool, and so must not be called like one of the tool's own.
#[test]
fn no_two_options_of_a_command_have_one_name() {
    bpfkit::cli::Cli::command().debug_assert();
}

#[test]
fn a_listing_has_slot_bytes_notation_source_and_field() {
    let text = dump("tcpconnect --probe kprobe -P 80 --program v4_connect_r").unwrap();
    let find = |part: &str| text.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}: {text}"));
    let first = text.lines().next().unwrap();
    let slots = first.strip_prefix("// v4_connect_r: kretprobe on tcp_v4_connect; type kprobe, licence GPL, ").unwrap();
    let slots: usize = slots.strip_suffix(" slots").unwrap().parse().unwrap();
    assert_eq!(find("// map sockets"), "// map sockets: hash, key 8 bytes, value 8 bytes, at most 10240");
    let field = find("skc_portpair");
    assert!(field.contains(": 070300000c000000  (07) r3 += 12  "), "{field}");
    assert!(field.contains("; flow.rs:"), "{field}");
    assert!(field.ends_with("[sock.__sk_common.skc_portpair: __portpair at 12, 4 bytes]"), "{field}");
    let call = find("call bpf_get_current_pid_tgid");
    assert!(call.ends_with("[u64 bpf_get_current_pid_tgid(void)]"), "{call}");
    // The second slot of a wide constant is one, too.
    let listed = text.lines().filter_map(|line| line.trim().split_once(": ")?.0.parse::<usize>().ok());
    assert!(listed.eq(0..slots), "{text}");
}

/// The option of the tools and the command show the same.
#[test]
fn ebpf_is_dump() {
    let flags = format!("--kernel 5.10 --btf {}", fixture("btf/5.10.btf").display());
    assert_eq!(printed(&format!("tcpconnect --ebpf {flags}")).unwrap(), dump("tcpconnect").unwrap());
}

#[test]
fn json_has_an_object_a_program_with_all_of_it() {
    let text = dump("--format json tcpconnect --probe kprobe").unwrap();
    assert_eq!(text, dump("tcpconnect --probe kprobe --json").unwrap());
    let programs: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = programs.iter().filter_map(|program| program["name"].as_str()).collect();
    assert_eq!(names, ["v4_connect_r", "v4_connect", "v6_connect_r", "v6_connect"]);
    let instructions = programs[0]["instructions"].as_array().unwrap();
    let of = |key: &str| instructions.iter().find(|insn| !insn[key].is_null()).unwrap_or_else(|| panic!("{key}"));
    assert_eq!(of("function")["function"], "v4_connect_r");
    assert_eq!(of("map")["map"], "sockets");
    assert_eq!(of("map")["bytes"], "18110000000000000000000000000000");
    assert_eq!(of("field")["field"]["path"], "sock.__sk_common.skc_portpair");
    assert_eq!(of("field")["field"]["offset"], 12);
    assert_eq!(of("context")["context"]["member"], "ret");
    assert_eq!(of("helper")["helper"], "bpf_get_current_pid_tgid#14");
    assert_eq!(of("prototype")["prototype"], "u64 bpf_get_current_pid_tgid(void)");
    let jump = of("to");
    let out = instructions.iter().find(|insn| insn["slot"] == jump["to"]).expect("a jump goes to an instruction");
    assert!(out["labels"].as_array().is_some_and(|labels| labels.iter().any(|label| label == "out")), "{out}");
    assert!(of("source")["source"]["file"].as_str().unwrap().ends_with("programs.rs"));
}

#[test]
fn wrong_usage_is_refused() {
    check_refused("dump", &[("", "TOOL"), ("nothing", "nothing"), ("tcpconnect --format xml", "xml")]);
    let error = dump("tcpconnect --probe kprobe --program v4").unwrap_err().to_string();
    assert!(error.contains("no program `v4`; there are v4_connect_r, v4_connect,"), "{error}");
}

/// One graph a program, which names each instruction once; graphviz itself reads it where it is installed.
#[test]
fn dot_has_a_graph_a_program_with_a_cluster_a_function() {
    let text = dump("--format dot bpf2bpf").unwrap();
    let accept = text.split("\n}\n").find(|graph| graph.starts_with("digraph \"accept\"")).expect("accept");
    for part in [
        "  subgraph cluster_0 {\n    label=\"accept\";",
        "  subgraph cluster_1 {\n    label=\"handle_new_connection\";",
        "[label=\"call\" style=dotted];",
        "[label=\"taken\"];",
        "[label=\"fallthrough\" penwidth=2.5];",
        "(18) r2 = map[events]\\l",
    ] {
        assert!(accept.contains(part), "{part}: {accept}");
    }
    let slots = |text: &str| text.matches("\\l").count();
    let json: Vec<Value> =
        dump("--format json bpf2bpf").unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let parts = json.iter().flat_map(|program| program["instructions"].as_array().unwrap());
    let expected: usize = parts.map(|insn| 1 + insn["labels"].as_array().map_or(0, Vec::len)).sum();
    assert_eq!(slots(&text), expected);

    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    match std::process::Command::new("dot").arg("-Tplain").arg(file.path()).output() {
        Err(error) => println!("skipped: graphviz's dot: {error}"),
        Ok(read) => {
            assert!(read.status.success() && read.stderr.is_empty(), "{read:?}");
            let plain = String::from_utf8(read.stdout).unwrap();
            assert_eq!(plain.lines().filter(|line| line.starts_with("graph ")).count(), json.len());
        }
    }
}
