//! Programs whose way through the verifier is known: some that it takes, and some that it refuses, each for a reason.

use bpfkit_asm::{Asm, bpf};
use bpfkit_loader::{Attach, MapSpec, Maps, ProgSpec, Target};

/// A program that every kernel refuses.
#[derive(Debug)]
pub struct Refused {
    /// What it is called.
    pub name: &'static str,
    /// What goes wrong, in the words of the kernels that have no report of their own; they do not agree in all cases.
    pub titles: &'static [&'static str],
    /// The instruction that is refused.
    pub slot: usize,
    /// The register or slot of the stack that it is about.
    pub place: Option<&'static str>,
    /// The instructions that made that what it is.
    pub because: &'static [usize],
    /// The program.
    pub spec: ProgSpec,
}

/// The map that they use.
pub fn map() -> MapSpec {
    MapSpec::hash("values", 4, 16, 8)
}

/// The maps that they use, made.
///
/// # Errors
/// What the kernel says.
pub fn maps(target: &Target) -> Result<Maps, bpfkit_loader::Error> {
    let mut maps = Maps::new();
    maps.create(&map(), target)?;
    Ok(maps)
}

fn filter(name: &str, code: Asm) -> ProgSpec {
    ProgSpec::new(name, Attach::None, code).expect("the program can be assembled")
}

fn with_function(name: &str, code: Asm, function: &str, called: Asm) -> ProgSpec {
    filter(name, code).func(function, called).expect("the function can be assembled")
}

/// The value of key 0, in r0.
fn lookup() -> Asm {
    bpf! {
        *(u32 *)(r10 - 4) = 0;
        r1 = map[values];
        r2 = r10;
        r2 += -4;
        call bpf_map_lookup_elem;
    }
}

/// Programs that every kernel takes; the last one needs loops.
pub fn accepted() -> Vec<ProgSpec> {
    let branches = bpf! {
        r6 = r1;                            // 0
        {lookup()};                         // 1 to 6
        if r0 == 0 goto out;                // 7
        r7 = r0;                            // 8
        r1 = *(u64 *)(r7 + 0);              // 9
        if r1 > 100 goto out;               // 10
        if r1 s< 5 goto out;                // 11
        r7 += 8;                            // 12
        *(u8 *)(r7 + 0) = 1;                // 13
        r3 = *(u32 *)(r6 + 0);              // 14
        *(u32 *)(r10 - 12) = r3;            // 15
        *(u64 *)(r10 - 24) = r6;            // 16
        r4 = r3;                            // 17
        r4 &= 7;                            // 18
        r4 += r7;                           // 19
        r0 = *(u8 *)(r4 + 0);               // 20
        exit;                               // 21
    out:
        r0 = 1;                             // 22
        exit;                               // 23
    };
    let calls = bpf! {
        r6 = r1;                            // 0
        r1 = 7;                             // 1
        r2 = r10;                           // 2
        r2 += -8;                           // 3
        call store;                         // 4
        r1 = *(u32 *)(r6 + 0);              // 5
        r0 += r1;                           // 6
        exit;                               // 7
    };
    let store = bpf! {
        *(u64 *)(r2 + 0) = r1;              // 8
        r6 = 5;                             // 9
        r0 = r1;                            // 10
        r0 += r6;                           // 11
        exit;                               // 12
    };
    let loops = bpf! {
        r0 = 0;                             // 0
        r1 = 0;                             // 1
    again:
        r1 += 1;                            // 2
        r0 += r1;                           // 3
        if r1 < 4 goto again;               // 4
        exit;                               // 5
    };
    vec![filter("branches", branches), with_function("calls", calls, "store", store), filter("loops", loops)]
}

const BOUNDS: &str = "access outside of bounds";
const STACK: [&str; 2] = ["access outside of the stack", "stack not written"];

/// Programs that every kernel refuses.
///
/// # Panics
/// When one of them cannot be assembled.
pub fn refused() -> Vec<Refused> {
    let refuse = |name, titles, slot, place, because, code| Refused {
        name,
        titles,
        slot,
        place,
        because,
        spec: filter(name, code),
    };
    let mut all = vec![
        refuse("unwritten", &["unreadable register"], 1, Some("R3"), &[], bpf! { r0 = 0; r0 += r3; exit; }),
        refuse(
            "skipped",
            &["unreadable register"],
            4,
            Some("R3"),
            &[1],
            bpf! {
                r0 = *(u32 *)(r1 + 0);
                if r0 == 7 goto out;
                r3 = 1;
                r0 = r3;
            out:
                r0 += r3;
                exit;
            },
        ),
        refuse(
            "used_up",
            &["unreadable register"],
            2,
            Some("R3"),
            &[1],
            bpf! {
                r3 = 5;
                call bpf_get_prandom_u32;
                r0 += r3;
                exit;
            },
        ),
        refuse("no_result", &["unreadable register"], 1, Some("R0"), &[], bpf! { r1 = 0; exit; }),
        refuse(
            "may_be_null",
            &["pointer that may be NULL"],
            7,
            Some("R6"),
            &[5, 6],
            bpf! {
                {lookup()};
                r6 = r0;
                r0 = *(u64 *)(r6 + 0);
                exit;
            },
        ),
        refuse(
            "number",
            &["a number used as a pointer"],
            2,
            Some("R1"),
            &[0, 1],
            bpf! {
                r1 = 5;
                r1 += 3;
                r0 = *(u64 *)(r1 + 0);
                exit;
            },
        ),
        refuse(
            "beyond",
            &[BOUNDS],
            7,
            Some("R0"),
            &[5, 6],
            bpf! {
                {lookup()};
                if r0 == 0 goto out;
                r1 = *(u64 *)(r0 + 16);
            out:
                r0 = 0;
                exit;
            },
        ),
        refuse(
            "no_limit",
            &["offset without limits"],
            8,
            Some("R0"),
            &[5, 6],
            bpf! {
                {lookup()};
                if r0 == 0 goto out;
                r1 = *(u64 *)(r0 + 0);
                r0 += r1;
                r1 = *(u8 *)(r0 + 0);
            out:
                r0 = 0;
                exit;
            },
        ),
        refuse(
            "wrong_limit",
            &[BOUNDS],
            10,
            Some("R0"),
            &[5, 6, 9],
            bpf! {
                {lookup()};
                if r0 == 0 goto out;
                r1 = *(u64 *)(r0 + 0);
                if r1 > 16 goto out;
                r0 += r1;
                r1 = *(u8 *)(r0 + 0);
            out:
                r0 = 0;
                exit;
            },
        ),
        refuse("below_the_frame", &STACK, 0, None, &[], bpf! { *(u64 *)(r10 - 520) = 0; r0 = 0; exit; }),
        refuse(
            "key_above_the_frame",
            &STACK,
            4,
            None,
            &[],
            bpf! {
                r1 = map[values];
                r2 = r10;
                r2 += -2;
                call bpf_map_lookup_elem;
                r0 = 0;
                exit;
            },
        ),
        refuse(
            "misaligned",
            &["misaligned access"],
            1,
            None,
            &[],
            bpf! {
                r1 = 0;
                *(u64 *)(r10 - 12) = r1;
                r0 = 0;
                exit;
            },
        ),
        refuse(
            "spilled",
            &["offset that is not constant"],
            5,
            Some("R3"),
            &[0, 1, 3, 4],
            bpf! {
                *(u64 *)(r10 - 8) = r1;
                r2 = *(u64 *)(r10 - 8);
                r0 = *(u32 *)(r2 + 0);
                r3 = r2;
                r3 += r0;
                r0 = *(u32 *)(r3 + 0);
                exit;
            },
        ),
        refuse(
            "endless",
            &["endless loop", "loop"],
            1,
            None,
            &[],
            bpf! {
                r6 = 0;
            again:
                call bpf_get_prandom_u32;
                if r0 != 5 goto again;
                r0 = 0;
                exit;
            },
        ),
        refuse("unreachable", &["unreachable instruction"], 2, None, &[], bpf! { r0 = 0; exit; r0 = 1; exit; }),
        refuse("no_end", &["no end"], 0, None, &[], bpf! { r0 = 0; }),
        refuse("no_helper", &["helper not allowed"], 0, None, &[], bpf! { call bpf_get_stackid; exit; }),
        refuse("unknown_helper", &["no such helper"], 0, None, &[], bpf! { call 9999; exit; }),
        refuse(
            "no_map",
            &["wrong argument"],
            3,
            Some("R1"),
            &[0],
            bpf! {
                r1 = 5;
                r2 = r10;
                r2 += -4;
                call bpf_map_lookup_elem;
                r0 = 0;
                exit;
            },
        ),
        refuse(
            "no_such_member",
            &["no such member of the context"],
            0,
            Some("R1"),
            &[],
            bpf! {
                r0 = *(u64 *)(r1 + 4000);
                exit;
            },
        ),
        refuse("product", &["arithmetic with a pointer"], 0, Some("R1"), &[], bpf! { r1 *= 5; r0 = 0; exit; }),
        refuse("sum", &["arithmetic with two pointers"], 0, Some("R1"), &[], bpf! { r1 += r10; r0 = 0; exit; }),
    ];
    let caller = bpf! {
        r1 = 3;
        call next;
        r0 = *(u64 *)(r0 + 0);
        exit;
    };
    let called = bpf! {
        r0 = r1;
        r0 += 1;
        exit;
    };
    all.push(Refused {
        name: "from_a_function",
        titles: &["a number used as a pointer"],
        slot: 2,
        place: Some("R0"),
        because: &[0, 1, 4, 5, 6],
        spec: with_function("from_a_function", caller, "next", called),
    });
    let size = bpf! {
        call bpf_get_prandom_u32;
        r2 = r0;
        r1 = r10;
        r1 += -64;
        r3 = r10;
        call bpf_probe_read;
        r0 = 0;
        exit;
    };
    all.push(Refused {
        name: "any_size",
        titles: &["size without limits"],
        slot: 5,
        place: Some("R2"),
        because: &[0, 1],
        spec: ProgSpec::new("any_size", Attach::Kprobe { symbol: "tcp_close".to_owned(), offset: 0 }, size)
            .expect("the program can be assembled"),
    });
    all
}

/// The logs in a file of `tests/fixtures/verifier`, by the program's name and the level.
pub fn logs(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.split("@@@@ ").filter_map(|section| {
        let (title, log) = section.split_once('\n')?;
        let (name, level) = title.split_once(" level ")?;
        Some((name, level.parse().ok()?, log))
    })
}
