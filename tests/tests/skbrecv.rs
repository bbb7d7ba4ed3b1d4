//! The programs of `bpfkit skbrecv` for other kernels.

use bpfkit_asm::{Version, list};
use bpfkit_btf::{Btf, Builder};
use bpfkit_loader::Target;
use bpfkit_tests::programs::{check_listings, check_refused, check_rules, programs, target};

const LINES: [&str; 6] = [
    "skbrecv --probe kprobe",
    "skbrecv --probe kprobe -i any",
    "skbrecv --probe kprobe -i exactly",
    "skbrecv --probe kprobe -i sixteen_bytes_1",
    "skbrecv --probe kprobe --printk",
    "skbrecv --probe tracepoint",
];

#[test]
fn every_program_keeps_the_rules_of_every_kernel() {
    assert_eq!(check_rules(Version::new(4, 18), &LINES), 17 * LINES.len());
}

#[test]
fn listings_are_the_committed_ones() {
    check_listings("skbrecv-4.18", &target(Version::new(4, 18), "5.10"), &LINES[4..]);
    check_listings("skbrecv-7.2", &target(Version::new(7, 2), "7.2"), &LINES);
}

/// Types as of Linux 4.18, where the first argument is the packet itself, and as of 5.8, where it is a pointer to that.
#[test]
fn the_prototype_decides_how_often_a_pointer_is_followed() {
    let reads = |indirect: bool| {
        let mut types = Builder::new();
        let int = types.int("unsigned int", 4, false);
        let members = [("dev", int, 0), ("len", int, 8), ("protocol", int, 12)];
        let skb = types.strukt("sk_buff", 16, &members);
        types.strukt("net_device", 16, &[("name", int, 0)]);
        let mut first = types.ptr(skb);
        if indirect {
            first = types.ptr(first);
        }
        let proto = types.func_proto(&[("skb", first), ("pfmemalloc", int)], int);
        types.func("__netif_receive_skb_core", proto);
        let target = Target::offline(Some(Btf::parse(types.finish()).unwrap()), Version::new(5, 8));
        let linked = programs(LINES[1], &target).unwrap()[0].link(&target).unwrap();
        list(linked.insns(), &linked).filter(|insn| insn.to_string().contains("bpf_probe_read_kernel")).count()
    };
    assert_eq!((reads(false), reads(true)), (4, 5));
}

/// Types that lack the function, as those of Debian's 6.1 do, where the compiler left only a copy of another name.
#[test]
fn types_that_lack_the_function_mean_its_copy_or_the_tracepoint() {
    let names = |line: &str, version| {
        let mut types = Builder::new();
        let int = types.int("unsigned int", 4, false);
        types.strukt("sk_buff", 16, &[("dev", int, 0), ("len", int, 8), ("protocol", int, 12)]);
        types.strukt("net_device", 16, &[("name", int, 0)]);
        let record = [("skbaddr", int, 64), ("len", int, 128), ("__data_loc_name", int, 160)];
        types.strukt("trace_event_raw_net_dev_template", 24, &record);
        let target = Target::offline(Some(Btf::parse(types.finish()).unwrap()), version);
        let programs = programs(line, &target).map_err(|error| bpfkit::Chain(&error).to_string())?;
        let linked = programs[0].link(&target).unwrap();
        let reads = list(linked.insns(), &linked).filter(|insn| insn.to_string().contains("bpf_probe_read")).count();
        Ok::<_, String>((programs[0].attach.to_string(), reads))
    };
    let (new, old) = (Version::new(6, 1), Version::new(5, 4));
    // One read more than where the function is given the packet itself, and three more than by the tracepoint, whose record has all but
    // the protocol.
    for line in ["skbrecv -i any", LINES[1]] {
        assert_eq!(names(line, new).unwrap(), ("kprobe on __netif_receive_skb_core.constprop.0".to_owned(), 5));
    }
    assert_eq!(names("skbrecv -i any", old).unwrap(), ("tracepoint net:netif_receive_skb".to_owned(), 2));
    let error = names(LINES[1], old).unwrap_err();
    assert!(error.contains("__netif_receive_skb_core"), "no guess before the copy's arguments are known: {error}");
}

#[test]
fn without_the_prototype_it_is_an_error_and_no_guess() {
    let target = Target::offline(None, Version::new(4, 18));
    let error = programs(LINES[0], &target).map(drop).unwrap_err();
    assert!(bpfkit::Chain(&error).to_string().contains("--btf"), "{error}");
}

#[test]
fn wrong_usage_is_refused() {
    check_refused("skbrecv", &[("-i eth/0", "no device has such a name"), ("-i sixteen-bytes-it", "15 bytes")]);
}
