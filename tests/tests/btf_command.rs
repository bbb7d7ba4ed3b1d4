//! `bpfkit btf`, from the command line to the file, and tools that take what it made.

use std::path::Path;

use bpfkit::Chain;
use bpfkit_asm::Version;
use bpfkit_btf::{Archive, Btf};
use bpfkit_tests::programs::{fixture, parse, printed, target};

/// Runs a line without a shell.
fn run(line: &str) -> Result<(), String> {
    printed(line).map(drop).map_err(|error| Chain(&error).to_string())
}

fn path(name: &str) -> String {
    fixture(name).display().to_string()
}

#[test]
fn dwarf_becomes_btf() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mixed.btf");
    run(&format!("btf from-dwarf {} -o {}", path("dwarf/mixed.so"), file.display())).unwrap();
    assert_eq!(Btf::from_file(&file).unwrap().field("parts.high").unwrap().offset, 12);
    // Nothing in there is needed by a tool.
    run(&format!("btf from-dwarf --only-tools {} -o {}", path("dwarf/mixed.so"), file.display())).unwrap();
    assert!(Btf::from_file(&file).unwrap().is_empty());
}

#[test]
fn a_cut_has_the_roots_that_were_given_or_those_of_the_tools() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cut.btf");
    let cut = |input: &str, roots: &str| run(&format!("btf min {} -o {} {roots}", path(input), file.display()));
    cut("btf/6.12.btf", "in6_addr sock.sk_rcvlowat").unwrap();
    let btf = Btf::from_file(&file).unwrap();
    assert!(btf.field("in6_addr.in6_u").is_ok() && btf.field("sock.__sk_common.skc_family").is_err());
    cut("btf/6.12.btf", "").unwrap();
    let btf = Btf::from_file(&file).unwrap();
    assert!(btf.field("sock.__sk_common.skc_v6_daddr").is_ok() && btf.field("in6_addr.in6_u").is_err());
    cut("dwarf/mixed.so", "bits.d").unwrap();
    assert_eq!(Btf::from_file(&file).unwrap().field("bits.d").unwrap().bits.unwrap().offset, 32);
    let missing = cut("btf/6.12.btf", "no_such_type").unwrap_err();
    assert!(missing.contains("no_such_type"), "{missing}");
    let foreign = cut("dwarf/mixed.so", "").unwrap_err();
    assert!(foreign.contains("none of the types that the tools need"), "{foreign}");
}

#[test]
fn an_archive_serves_each_of_its_kernels() {
    let directory = tempfile::tempdir().unwrap();
    let kernels = directory.path().join("kernels");
    std::fs::create_dir(&kernels).unwrap();
    std::fs::copy(fixture("btf/5.10.btf"), kernels.join("5.10.0-43-cloud-amd64.btf")).unwrap();
    std::fs::copy(fixture("btf/6.12.btf"), kernels.join("vmlinux-6.12.0")).unwrap();
    let archive = directory.path().join("archive");
    let line = format!("btf archive {} 7.2.1={} -o {}", kernels.display(), path("btf/7.2.btf"), archive.display());
    run(&line).unwrap();
    let read = Archive::parse(&std::fs::read(&archive).unwrap()).unwrap();
    assert_eq!(read.releases().collect::<Vec<_>>(), ["5.10.0-43-cloud-amd64", "6.12.0", "7.2.1"]);
    // By `--kernel`, which does not know the rest of the release.
    for (version, types) in [("5.10", "5.10"), ("7.2", "7.2")] {
        let line = format!("tcpconnect --probe kprobe --ebpf --kernel {version} --btf {}", archive.display());
        let cli = parse(&line).unwrap();
        let tool = cli.command.tool().unwrap();
        let by_archive = tool.options().target().unwrap();
        let insns = |target: &bpfkit_loader::Target| {
            let programs = tool.programs(target).unwrap();
            programs.iter().map(|program| program.link(target).unwrap().insns().to_vec()).collect::<Vec<_>>()
        };
        let version: Version = version.parse().unwrap();
        assert_eq!(insns(&by_archive), insns(&target(version, types)), "{version}");
    }
    let other = format!("tcpconnect --ebpf --kernel 4.18 --btf {}", archive.display());
    let error = parse(&other).unwrap().command.tool().unwrap().options().target().map(drop).unwrap_err();
    assert!(Chain(&error).to_string().contains("none of the 3 releases"), "{}", Chain(&error));
}

#[test]
fn two_kernels_of_one_release_with_different_types_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("archive");
    let line = |second: &str| {
        format!("btf archive 5.10.0={} 5.10.0={} -o {}", path("btf/5.10.btf"), path(second), archive.display())
    };
    let error = run(&line("btf/6.12.btf")).unwrap_err();
    assert!(error.contains("two kernels 5.10.0"), "{error}");
    run(&line("btf/5.10.btf")).unwrap();
}

#[test]
fn what_cannot_be_read_or_written_is_named() {
    let absent = Path::new("/no/such/directory/file");
    for line in [
        format!("btf from-dwarf {} -o /dev/null", absent.display()),
        format!("btf min {} -o {}", path("btf/5.10.btf"), absent.display()),
        format!("btf archive {} -o /dev/null", absent.display()),
    ] {
        let error = run(&line).unwrap_err();
        assert!(error.contains("/no/such/directory") && error.contains("No such file"), "{line}: {error}");
    }
    let no_dwarf = run(&format!("btf from-dwarf {} -o /dev/null", path("btf/5.10.btf"))).unwrap_err();
    assert!(no_dwarf.contains("5.10.btf") && no_dwarf.contains("ELF"), "{no_dwarf}");
}
