//! The verifier's logs of several kernels, taken apart. Those in `fixtures/verifier` were printed by the kernels themselves (see
//! `examples/verifier_logs.rs`); those of 4.18 and 5.4 stand here, after `print_verifier_state` of these versions.

use std::fs;
use std::io::{Read, Seek};
use std::time::{Duration, Instant};

use bpfkit::Output;
use bpfkit::dump::{print_text, verifier};
use bpfkit_asm::{Version, list};
use bpfkit_loader::verifier::{Diagnosis, PathEnd, Place, Value, Verdict, Walk};
use bpfkit_loader::{Linked, ProgSpec, Target};
use bpfkit_tests::programs::{check_refused, printed};
use bpfkit_tests::verifier::{Refused, accepted, logs, map, refused};

const KERNELS: [&str; 6] = ["5.10", "6.1", "6.12", "6.18", "7.2", "7.3-rc"];

fn fixture(kernel: &str) -> String {
    fs::read_to_string(format!("{}/fixtures/verifier/{kernel}.log", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The log of a program, of the second level where there is one.
fn log(kernel: &str, name: &str) -> String {
    let text = fixture(kernel);
    let of = |wanted: u32| {
        logs(&text).find(|&(known, level, _)| known == name && level == wanted).map(|(.., log)| log.to_owned())
    };
    of(2).or_else(|| of(1)).unwrap_or_else(|| panic!("{kernel} has no log of {name}"))
}

fn linked(spec: &ProgSpec) -> Linked {
    spec.link(&Target::offline(None, Version::new(6, 12))).unwrap()
}

fn each_program() -> Vec<ProgSpec> {
    accepted().into_iter().chain(refused().into_iter().map(|refused| refused.spec)).collect()
}

fn words(walk: &Walk, slot: usize, place: Place) -> Option<String> {
    let held = walk.before(slot)?.places.get(&place)?.clone();
    Some(held.first.in_words())
}

/// What is said of what is known at an instruction does not depend on the kernel that says it.
#[test]
fn every_kernel_knows_the_same_at_each_instruction() {
    let known = [
        (0, Place::Reg(1), "a pointer to the context"),
        (0, Place::Reg(10), "the address of the top of the stack frame"),
        (2, Place::Slot(-8), "4 bytes not written, then 4 bytes of zero"),
        (6, Place::Reg(2), "a pointer 4 bytes below the top of the stack frame"),
        (9, Place::Reg(6), "a pointer to the context"),
        (10, Place::Reg(1), "any number"),
        (11, Place::Reg(1), "a number from 0 to 100"),
        (12, Place::Reg(1), "a number from 5 to 100"),
        (15, Place::Reg(3), "a number of 32 bits"),
        (16, Place::Slot(-16), "4 bytes not written, then 4 bytes of any value"),
        (17, Place::Slot(-24), "a pointer to the context"),
        (19, Place::Reg(4), "a number from 0 to 7"),
    ];
    for kernel in KERNELS {
        let walk = Walk::parse(&log(kernel, "branches"));
        for (slot, place, expected) in known {
            let found = words(&walk, slot, place);
            // From Linux 7.0 on a kernel forgets what nobody reads any more.
            let forgotten = kernel.starts_with('7') && [10, 11, 12].contains(&slot) && found.is_none();
            assert!(found.as_deref() == Some(expected) || forgotten, "{kernel}, {slot}, {place}: {found:?}");
        }
        let map = if ["5.10", "6.1"].contains(&kernel) { "a map" } else { "the map `values`" };
        let value = format!("a value of {map}, 16 bytes");
        assert_eq!(words(&walk, 7, Place::Reg(0)), Some(format!("a pointer to {value}, or NULL")), "{kernel}");
        assert_eq!(words(&walk, 8, Place::Reg(0)), Some(format!("a pointer to {value}")), "{kernel}");
        assert_eq!(words(&walk, 13, Place::Reg(7)), Some(format!("a pointer 8 bytes into {value}")), "{kernel}");
        let sum = match kernel.starts_with('7') {
            true => format!("a pointer to {value} plus a number from 8 to 15"),
            false => format!("a pointer 8 bytes into {value} plus a number from 0 to 7"),
        };
        assert_eq!(words(&walk, 20, Place::Reg(4)), Some(sum), "{kernel}");
        assert!(walk.words.is_empty(), "{kernel}: {:?}", walk.words);
    }
}

#[test]
fn every_step_has_its_instruction_and_a_state() {
    for kernel in KERNELS {
        for spec in each_program() {
            let walk = Walk::parse(&log(kernel, &spec.name));
            let linked = linked(&spec);
            for listed in list(linked.insns(), &()) {
                let Some(theirs) = walk.insns.get(&listed.slot) else { continue };
                // Where a kernel shows addresses of maps, ours has their numbers; what it does not know it calls so.
                let differs = listed.insn.is_map() || theirs.contains("unknown#");
                assert!(differs || listed.to_string() == *theirs, "{kernel}, {}: {theirs}", spec.name);
            }
            for step in &walk.steps {
                let state = step.before.as_ref();
                assert!(state.is_some(), "{kernel}, {}: nothing is known at {}", spec.name, step.slot);
                assert!(walk.insns.contains_key(&step.slot));
            }
            for &first in walk.at(0) {
                let state = walk.steps[first].before.as_ref().unwrap();
                assert_eq!(state.to_string(), "R1=ctx() R10=fp0", "{kernel}, {}", spec.name);
            }
        }
    }
}

#[test]
fn paths_are_followed_from_their_branches() {
    for kernel in KERNELS {
        let walk = Walk::parse(&log(kernel, "branches"));
        let branch = |slot: usize| walk.at(slot).first().copied();
        let ways: Vec<_> = walk.paths.iter().map(|path| (path.from, path.slot, path.end)).collect();
        let safe = PathEnd::Safe(22);
        let expected =
            [(None, 0, PathEnd::Exit), (branch(11), 22, PathEnd::Exit), (branch(10), 22, safe), (branch(7), 22, safe)];
        assert_eq!(ways, expected, "{kernel}");
        let slots = |step: usize| walk.path_to(step).iter().map(|&step| walk.steps[step].slot).collect::<Vec<_>>();
        let straight = [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11];
        assert_eq!(slots(walk.at(23)[0]), [&straight[..], &[22, 23]].concat(), "{kernel}");
        assert_eq!(
            slots(walk.at(21)[0]),
            [&straight[..], &[12, 13, 14, 15, 16, 17, 18, 19, 20, 21]].concat(),
            "{kernel}"
        );
    }
}

#[test]
fn a_loop_is_visited_as_often_as_it_runs() {
    for kernel in KERNELS {
        let walk = Walk::parse(&log(kernel, "loops"));
        assert_eq!(walk.slots().map(|(_, visits)| visits).collect::<Vec<_>>(), [1, 1, 4, 4, 4, 1], "{kernel}");
        let held = walk.before(2).unwrap().places[&Place::Reg(1)].clone();
        let others: Vec<String> = held.others.iter().map(|value| value.to_string()).collect();
        assert_eq!((held.first.to_string().as_str(), others.join(" ").as_str()), ("0", "1 2 3"), "{kernel}");
        assert!(!held.is_same());
        assert_eq!(walk.after(4).unwrap().visits, 4);
        assert_eq!(walk.end.processed, Some(15), "{kernel}");
    }
}

#[test]
fn frames_of_calls_are_kept_apart() {
    for kernel in KERNELS {
        let walk = Walk::parse(&log(kernel, "calls"));
        let at = |slot: usize| walk.steps[walk.at(slot)[0]].before.clone().unwrap();
        let order: Vec<usize> = walk.steps.iter().map(|step| step.slot).collect();
        assert_eq!(order, [0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 5, 6, 7], "{kernel}");
        assert_eq!(
            order.iter().map(|&slot| at(slot).frame).collect::<Vec<_>>(),
            [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0]
        );
        assert_eq!(walk.paths.len(), 1, "{kernel}");
        let caller = at(9).caller.clone().unwrap();
        assert_eq!((caller.frame, caller.reg(6).unwrap().to_string().as_str()), (0, "ctx()"), "{kernel}");
        assert!(at(5).caller.is_none());
        assert_eq!(at(12).reg(0).unwrap().to_string(), "12");
        assert_eq!(at(5).reg(0).unwrap().to_string(), "12");
        // Newer kernels say in whose frame a pointer is.
        let pointer = at(8).reg(2).unwrap().stack_offset();
        assert_eq!(pointer, Some((if ["5.10", "6.1"].contains(&kernel) { None } else { Some(0) }, -8)), "{kernel}");
    }
}

#[test]
fn every_refusal_is_explained_and_traced_to_its_cause() {
    for kernel in KERNELS {
        for refused in refused() {
            let Refused { name, titles, slot, place, because, ref spec } = refused;
            let walk = Walk::parse(&log(kernel, name));
            let diagnosis = Diagnosis::of(&walk, linked(spec).insns());
            let diagnosis = diagnosis.unwrap_or_else(|| panic!("{kernel} says of {name}: {:?}", walk.words));
            // Only the report says which function has no end.
            let slot = if name == "no_end" && !diagnosis.by_kernel { None } else { Some(slot) };
            assert_eq!(diagnosis.slot, slot, "{kernel}, {name}: {diagnosis}");
            assert_eq!(
                diagnosis.place.map(|place| place.to_string()).as_deref(),
                place,
                "{kernel}, {name}: {diagnosis}"
            );
            let causes: Vec<usize> = diagnosis.path.iter().map(|cause| cause.slot).collect();
            assert_eq!(causes, because, "{kernel}, {name}: {diagnosis}");
            assert_eq!(diagnosis.by_kernel, walk.report.is_some());
            if !diagnosis.by_kernel {
                assert!(titles.contains(&diagnosis.title.as_str()), "{kernel}, {name}: {diagnosis}");
            }
            let all = diagnosis.to_string();
            assert!(!all.contains('{') && !diagnosis.suggestion.is_empty(), "{kernel}, {name}: {all}");
        }
    }
}

#[test]
fn the_report_of_linux_7_3_is_read() {
    let walk = Walk::parse(&log("7.3-rc", "wrong_limit"));
    let report = walk.report.unwrap();
    assert_eq!(report.title, "Memory Safety: Access outside bounds");
    assert!(
        report
            .reason
            .starts_with("The verifier cannot prove offset + access_size <= object_size. Here, the maximal bound")
    );
    assert!(report.reason.ends_with("object_size is 16."), "{}", report.reason);
    assert_eq!(report.slot, Some(10));
    assert_eq!(report.path.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [5, 6, 8, 9]);
    assert_eq!(report.path[1].1, "branch: took the false branch of this conditional, goto not followed");
    assert_eq!(
        report.suggestion,
        "Add or adjust a bounds check that proves offset + access_size stays within the object."
    );
    assert_eq!(walk.end.processed, Some(10));
    // Not every refusal has one.
    assert_eq!(Walk::parse(&log("7.3-rc", "misaligned")).report, None);
}

/// Linux 4.18: no precision, no frames of pointers but the call's number, the stack by types only, and all in one line at the end.
const OF_4_18: &str = "\
0: R1=ctx(id=0,off=0,imm=0) R10=fp0,call_-1
0: (bf) r6 = r1
1: R1=ctx(id=0,off=0,imm=0) R6=ctx(id=0,off=0,imm=0) R10=fp0,call_-1
1: (62) *(u32 *)(r10 -4) = 0
2: R1=ctx(id=0,off=0,imm=0) R6=ctx(id=0,off=0,imm=0) R10=fp0,call_-1 fp-8=0
2: (7b) *(u64 *)(r10 -16) = r6
3: R1=ctx(id=0,off=0,imm=0) R6=ctx(id=0,off=0,imm=0) R10=fp0,call_-1 fp-8=0 fp-16=ctx
3: (85) call bpf_get_prandom_u32#7
4: R0=inv(id=0,umax_value=4294967295,var_off=(0x0; 0xffffffff)) R6=ctx(id=0,off=0,imm=0) R10=fp0,call_-1 fp-8=0 fp-16=ctx
4: (15) if r0 == 0x5 goto pc+2
 R0=inv(id=0,umax_value=4294967295,var_off=(0x0; 0xffffffff)) R6=ctx(id=0,off=0,imm=0) R10=fp0,call_-1 fp-8=0 fp-16=ctx
5: R0=inv(id=0,umax_value=4294967295,var_off=(0x0; 0xffffffff)) R6=ctx(id=0,off=0,imm=0) R10=fp0,call_-1 fp-8=0 fp-16=ctx
5: (b7) r0 = 0
6: R0=inv0 R6=ctx(id=0,off=0,imm=0) R10=fp0,call_-1 fp-8=0 fp-16=ctx
6: (95) exit

from 4 to 7: R0=inv5 R6=ctx(id=0,off=0,imm=0) R10=fp0,call_-1 fp-8=0 fp-16=ctx
7: (0f) r0 += r3
R3 !read_ok
processed 9 insns (limit 131072), stack depth 16
";

#[test]
fn logs_of_4_18_are_understood() {
    let walk = Walk::parse(OF_4_18);
    assert_eq!(walk.steps.iter().map(|step| step.slot).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(walk.steps[0].before.as_ref().unwrap().to_string(), "R1=ctx() R10=fp0");
    let last = walk.steps[7].before.as_ref().unwrap();
    assert_eq!(last.to_string(), "R0=5 R6=ctx() R10=fp0 fp-8=0 fp-16=ctx()");
    assert_eq!(walk.steps[7].previous, Some(4));
    assert_eq!(walk.last_path(), [0, 1, 2, 3, 4, 7]);
    assert_eq!((walk.end.processed, walk.end.limit, walk.end.stack.as_slice()), (Some(9), Some(131_072), &[16][..]));
    assert_eq!(walk.words, ["R3 !read_ok"]);
    assert_eq!(walk.after(3).unwrap().places[&Place::Reg(0)].first.in_words(), "a number of 32 bits");
    assert!(!walk.after(3).unwrap().places.contains_key(&Place::Reg(1)));
}

/// Linux 5.4: marks of use and of precision, and all paths in a log of the first level.
const OF_5_4: &str = "\
0: (85) call bpf_get_prandom_u32#7
1: (15) if r0 == 0x5 goto pc+3
 R0_w=inv(id=0) R10=fp0
2: (b7) r1 = 8
3: (b7) r0 = 0
4: (95) exit

from 1 to 5: R0_w=inv5 R10=fp0
5: (bf) r1 = r10
6: (0f) r1 += r0
last_idx 6 first_idx 0
regs=1 stack=0 before 5: (bf) r1 = r10
regs=1 stack=0 before 1: (15) if r0 == 0x5 goto pc+3
7: (71) r0 = *(u8 *)(r1 -6)
invalid stack off=-1 size=1
processed 8 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
";

#[test]
fn logs_of_5_4_are_understood() {
    let walk = Walk::parse(OF_5_4);
    assert_eq!(walk.steps.iter().map(|step| step.slot).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(walk.last_path(), [0, 1, 5, 6, 7]);
    assert_eq!(walk.steps[5].before.as_ref().unwrap().to_string(), "R0=5 R10=fp0");
    assert_eq!(walk.steps[6].before, None, "nothing is said of it");
    assert_eq!(walk.words, ["invalid stack off=-1 size=1"]);
    let marks = walk.steps[5].before.as_ref().unwrap().get(Place::Reg(0)).unwrap().live;
    assert!(marks.written && !marks.read);
}

/// What the conventions of each kernel have in common, in the newest one and in words.
#[test]
fn values_of_every_kernel_are_spelt_in_one_way() {
    let of = [
        ("inv(id=0)", "scalar()", "any number"),
        ("scalar()", "scalar()", "any number"),
        ("invP5", "P5", "the number 5"),
        ("P5", "P5", "the number 5"),
        ("-28", "-28", "the number -28"),
        ("0xffffffff80000000", "0xffffffff80000000", "the number -2147483648"),
        ("inv(id=3,smin_value=-5,smax_value=7)", "scalar(id=3,smin=-5,smax=7)", "a number from -5 to 7"),
        (
            "scalar(smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))",
            "scalar(smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))",
            "a number from 0 to 255",
        ),
        (
            "inv(id=0,umax_value=255,var_off=(0x0; 0xff),s32_min_value=0,s32_max_value=255,u32_max_value=255)",
            "scalar(umax=smax32=umax32=255,smin32=0,var_off=(0x0; 0xff))",
            "a number from 0 to 255",
        ),
        (
            "scalar(smin=smin32=0,smax=umax=smax32=umax32=0xffff,var_off=(0x0; 0xffff))",
            "scalar(smin=smin32=0,smax=umax=smax32=umax32=0xffff,var_off=(0x0; 0xffff))",
            "a number of 16 bits",
        ),
        (
            "scalar(smin=0x8000000000000001,smax32=0x7ffffff8,var_off=(0x0; 0xfffffffffffffff8))",
            "scalar(smin=0x8000000000000001,smax32=0x7ffffff8,var_off=(0x0; 0xfffffffffffffff8))",
            "a number of at least -0x7fffffffffffffff, a multiple of 8",
        ),
        ("scalar(umin=1)", "scalar(umin=1)", "a number of at least 1, or a negative one"),
        ("scalar(id=2+4,umax=9)", "scalar(id=2+4,umax=9)", "a number from 0 to 9"),
        ("fp-8", "fp-8", "a pointer 8 bytes below the top of the stack frame"),
        ("fp0,call_-1", "fp0", "the address of the top of the stack frame"),
        ("fp[1]-16", "fp[1]-16", "a pointer 16 bytes below the top of the stack frame 1"),
        ("fp", "fp", "a pointer somewhere into the stack frame"),
        (
            "fp(off=-64,umax=8,var_off=(0x0; 0xf))",
            "fp(off=-64,umax=8,var_off=(0x0; 0xf))",
            "a pointer -64 bytes and a number from 0 to 8 from the top of the stack frame",
        ),
        ("ctx(id=0,off=8,imm=0)", "ctx(off=8)", "a pointer 8 bytes into the context"),
        (
            "map_value(id=0,off=0,ks=4,vs=16,imm=10)",
            "map_value(ks=4,vs=16,off=16)",
            "a pointer 16 bytes into a value of a map, 16 bytes",
        ),
        (
            "map_value(map=m,ks=4,vs=16,imm=10)",
            "map_value(map=m,ks=4,vs=16,off=10)",
            "a pointer 10 bytes into a value of the map `m`, 16 bytes",
        ),
        (
            "map_value_or_null(id=1,map=m,ks=4,vs=16)",
            "map_value_or_null(id=1,map=m,ks=4,vs=16)",
            "a pointer to a value of the map `m`, 16 bytes, or NULL",
        ),
        (
            "pkt(id=0,off=14,r=34,imm=0)",
            "pkt(off=14,r=34)",
            "a pointer 14 bytes into the packet, 34 bytes known to be there",
        ),
        ("pkt_end()", "pkt_end()", "the end of the packet"),
        (
            "trusted_ptr_task_struct(off=16)",
            "trusted_ptr_task_struct(off=16)",
            "a pointer 16 bytes into a task_struct of the kernel, alive while the program runs",
        ),
        (
            "rcu_ptr_or_null_sock(id=4,ref_obj_id=2)",
            "rcu_ptr_or_null_sock(id=4,ref_obj_id=2)",
            "a pointer to a sock of the kernel, alive until the RCU lock is released, or NULL",
        ),
        ("rdonly_mem(sz=8)", "rdonly_mem(sz=8)", "a pointer to 8 bytes of memory, not to be written"),
        ("sock_or_null(id=1,ref_obj_id=1)", "sock_or_null(id=1,ref_obj_id=1)", "a pointer to a sock, or NULL"),
        (
            "something_new(id=1,flavour=sweet)",
            "something_new(id=1,flavour=sweet)",
            "`something_new(id=1,flavour=sweet)`",
        ),
        ("scalar(flavour=sweet)", "scalar(flavour=sweet)", "any number"),
    ];
    for (text, spelt, words) in of {
        let value = Value::parse(text);
        assert_eq!((value.to_string().as_str(), value.in_words().as_str()), (spelt, words), "{text}");
        assert_eq!(Value::parse(spelt).to_string(), spelt, "what is spelt anew is read alike");
    }
    let slots = [
        ("mmmmmmmm", "8 bytes of any value"),
        ("0000????", "4 bytes not written, then 4 bytes of zero"),
        ("map_value", "a pointer to a value of a map, 0 bytes"),
        ("????scalar(id=1,umax=3)", "a number from 0 to 3 in the lower 4 bytes"),
        ("mmmm5", "the number 5 in the lower 4 bytes"),
        ("0", "the number 0"),
        ("dynptr_ringbuf(id=3,ref_id=2)", "a dynptr to ringbuf memory"),
        ("iter_num(ref_id=1,state=active,depth=0)", "an iterator over num"),
    ];
    for (text, words) in slots {
        let value = Value::parse_slot(text);
        assert_eq!(value.in_words(), words, "{text}");
        assert_eq!(Value::parse_slot(&value.to_string()), value, "{text}");
    }
}

/// What is torn, mixed up or made up is no reason to stop.
#[test]
fn strange_logs_do_no_harm() {
    let logs: Vec<String> = KERNELS.iter().map(|kernel| fixture(kernel)).collect();
    let insns = linked(&accepted()[0]).insns().to_vec();
    // xorshift: the same changes in every run.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |most: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % u64::try_from(most.max(1)).unwrap()).unwrap()
    };
    let mut steps = 0;
    for _ in 0..600 {
        let lines: Vec<&str> = logs[next(logs.len())].lines().collect();
        let from = next(lines.len());
        let mut bytes = lines[from..(from + 40).min(lines.len())].join("\n").into_bytes();
        for _ in 0..next(20) {
            bytes.extend(b"\n0: ");
            let at = next(bytes.len());
            match next(4) {
                0 => bytes[at] = b"0123456789:=;(_)-fpRr \n{}|"[next(26)],
                1 => drop(bytes.drain(at..(at + next(9)).min(bytes.len()))),
                2 => bytes.truncate(at.max(1)),
                _ => bytes.extend(b"99999999999999999999: (95) exit\nto caller at 3:\n R0=5\nframe9: R1=P".iter()),
            }
        }
        let walk = Walk::parse(&String::from_utf8_lossy(&bytes));
        steps += walk.steps.len();
        for (slot, _) in walk.slots() {
            let _ = (walk.before(slot), walk.after(slot));
        }
        let _ = (walk.last_path(), Diagnosis::of(&walk, &insns));
    }
    assert!(steps > 2000, "{steps} steps were understood");
}

/// A log of 16 MB takes a tenth of a second in a release build; here it is a debug build on a machine that is busy.
#[test]
fn the_time_grows_with_the_length_alone() {
    for kernel in ["5.10", "6.12"] {
        let one = log(kernel, "loops");
        let parse = |bytes: usize| {
            let text = one.repeat(bytes / one.len());
            let begin = Instant::now();
            let walk = Walk::parse(&text);
            (begin.elapsed(), walk.steps.len())
        };
        let (short, steps) = parse(256 << 10);
        let (long, more) = parse(2 << 20);
        assert!((steps * 7..=steps * 9).contains(&more), "{steps} and {more}");
        assert!(long < short * 40 + Duration::from_secs(1), "{kernel}: {short:?} for 256 KB, {long:?} for 2 MB");
    }
}

/// The listing of a program with what a kernel says of it.
fn listing(kernel: &str, spec: &ProgSpec, refused: bool, full: bool) -> String {
    let error = refused.then(|| std::io::Error::from_raw_os_error(13));
    let verdict = Verdict::new(linked(spec), log(kernel, &spec.name), error);
    let listing = verifier::annotated(&verdict, &[map()], full);
    let mut file = tempfile::tempfile().unwrap();
    let mut output = Output::file(file.try_clone().unwrap());
    print_text(&listing, &mut output).unwrap();
    output.flush().unwrap();
    let mut text = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut text)).unwrap();
    text
}

/// What follows an instruction in a listing.
fn under<'a>(text: &'a str, insn: &str) -> Vec<&'a str> {
    let lines = text.lines().skip_while(|line| !line.contains(insn)).skip(1);
    lines.take_while(|line| line.starts_with("        ")).map(str::trim).collect()
}

#[test]
fn a_listing_shows_what_each_instruction_reads_and_changes() {
    let programs = accepted();
    for kernel in KERNELS {
        let text = listing(kernel, &programs[0], false, false);
        assert!(text.lines().any(|line| line.starts_with("// the verifier takes it: 2")), "{kernel}: {text}");
        let read = ["| R1: a number from 0 to 100", "> R1: a number from 5 to 100"];
        let shown = under(&text, "if r1 s< 0x5 goto");
        // What nobody reads any more is not known after it.
        assert!(shown == read || kernel.starts_with('7') && shown[0] == read[0], "{kernel}: {shown:?}");
        assert_eq!(under(&text, "(07) r2 += -4")[1], "> R2: a pointer 4 bytes below the top of the stack frame");
        let looped = listing(kernel, &programs[2], false, false);
        let added = ["| 4 visits", "| R1: the number 0; or the number 1; or the number 2; or the number 3"];
        assert_eq!(under(&looped, "(07) r1 += 1")[..2], added, "{kernel}");
        let full = listing(kernel, &programs[0], false, true);
        assert_eq!(under(&full, "(bf) r6 = r1"), ["| R1=ctx() R10=fp0", "> R1=ctx() R6=ctx() R10=fp0"], "{kernel}");
    }
}

#[test]
fn a_refused_program_is_shown_along_the_path_that_was_refused() {
    for kernel in KERNELS {
        let refused = refused();
        let find = |name: &str| &refused.iter().find(|refused| refused.name == name).unwrap().spec;
        let text = listing(kernel, find("may_be_null"), true, false);
        let (header, path) = text.split_once("(62) *(u32 *)(r10 -4) = 0").unwrap();
        assert!(header.contains("// the verifier refuses it (Permission denied (os error 13)): "), "{kernel}: {text}");
        let words = if kernel == "5.10" || kernel.starts_with('6') {
            "//   R6 invalid mem access 'map_value_or_null'"
        } else {
            "//   R6 invalid mem access"
        };
        assert!(header.contains(words) && header.contains("// to do: "), "{kernel}: {header}");
        assert!(header.contains("//      6: R6 is a copy of R0: a pointer to a value of"), "{kernel}: {header}");
        let marked: Vec<&str> = path.lines().filter(|line| line.starts_with('>')).collect();
        assert_eq!(marked.len(), 1, "{kernel}: {path}");
        assert!(marked[0].starts_with(">    7: 7960000000000000  (79) r0 = *(u64 *)(r6 +0)"), "{kernel}: {marked:?}");
        assert!(under(path, ">    7")[0].ends_with(", or NULL"), "{kernel}: {path}");
        // A loop is shown round by round, and what was never reached is not shown.
        let endless = listing(kernel, find("endless"), true, false);
        assert!(endless.matches("call bpf_get_prandom_u32").count() >= 3, "{kernel}: {endless}");
        assert!(!endless.contains("(95) exit"), "{kernel}: {endless}");
    }
}

#[test]
fn the_verifier_is_asked_where_it_runs_and_answers_where_there_is_room() {
    let error = printed("dump tcpconnect --verifier --kernel 5.4").unwrap_err().to_string();
    assert!(error.contains("cannot ask that of Linux 5.4"), "{error}");
    for form in ["c", "raw", "obj"] {
        let error = printed(&format!("dump tcpconnect --verifier --format {form}")).unwrap_err().to_string();
        assert!(error.contains("it takes --format text, json, dot or html"), "{error}");
    }
    let error = printed("dump tcpconnect --verifier --diff 5.4 --diff 6.1").unwrap_err().to_string();
    assert!(error.contains("does not go with --diff"), "{error}");
    check_refused("dump tcpconnect", &[("--full", "--verifier")]);
}

#[test]
fn of_words_without_an_end_the_last_ones_are_kept() {
    let log: String = (0..5000).map(|n| format!("word {n}\n")).chain(["R3 !read_ok\n".to_owned()]).collect();
    let walk = Walk::parse(&log);
    assert!((500..=1000).contains(&walk.words.len()), "{}", walk.words.len());
    assert_eq!(walk.words.last().map(String::as_str), Some("R3 !read_ok"));
    assert_eq!(walk.words[walk.words.len() - 2], "word 4999");
}
