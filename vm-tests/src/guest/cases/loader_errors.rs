//! What the loader says when something cannot be: enough to act on.

use bpfkit_asm::{Asm, bpf};
use bpfkit_loader::{Attach, Error, Feature, MapSpec, Maps, ProgSpec};

use crate::guest::case::{Case, Ctx, Failure, chain};
use crate::{ensure, ensure_eq, skip};

pub const CASES: &[Case] = &[
    Case { name: "loader::rejection_quotes_reason_listing_and_source", run: rejection },
    Case { name: "loader::rejection_of_a_long_program_is_not_cut", run: long_rejection },
    Case { name: "loader::rejection_inside_a_function_names_its_instruction", run: function_rejection },
    Case { name: "loader::missing_map_is_named", run: missing_map },
    Case { name: "loader::missing_function_is_named", run: missing_function },
    Case { name: "loader::missing_tracepoint_is_named", run: missing_tracepoint },
    Case { name: "loader::missing_btf_says_where_it_was_looked_for", run: missing_btf },
    Case { name: "loader::missing_member_is_named", run: missing_member },
];

fn socket_filter(code: Asm) -> Result<ProgSpec, Failure> {
    Ok(ProgSpec::new("broken", Attach::None, code)?)
}

/// The error of a load that must fail.
fn refused(ctx: &Ctx, spec: &ProgSpec) -> Result<Error, Failure> {
    match spec.load(&ctx.target()?, &Maps::new()) {
        Err(error) => Ok(error),
        Ok(_) => Err(Failure::Fail("the program was loaded".to_owned())),
    }
}

fn contains(error: &Error, words: &[&str]) -> Result<(), Failure> {
    let text = chain(error);
    for word in words {
        ensure!(text.contains(word), "no {word:?} in: {text}");
    }
    Ok(())
}

fn rejection(ctx: &mut Ctx) -> Result<(), Failure> {
    let line = line!() + 3;
    let spec = socket_filter(bpf! {
        r0 = 0;
        r0 = *(u64 *)(r2 + 0);
        exit;
    })?;
    let error = refused(ctx, &spec)?;
    contains(&error, &["R2 !read_ok", "r0 = *(u64 *)(r2 +0)", &format!("loader_errors.rs:{line}")])?;
    let Error::Rejected(rejection) = error else { return Err(Failure::Fail(format!("{error:?}"))) };
    ensure_eq!(rejection.slot, Some(1));
    ensure_eq!(rejection.source.as_ref().map(|source| source.line), Some(line));
    ensure_eq!(
        rejection.source.as_ref().map(|source| source.text.trim_end_matches(';')),
        Some("r0 = *(u64 *)(r2 + 0)")
    );
    Ok(())
}

/// The log of this program has more than the first 64 KiB that a loader may offer.
fn long_rejection(ctx: &mut Ctx) -> Result<(), Failure> {
    let mut code = Asm::new();
    for _ in 0..3001 {
        code.splice(bpf! { *(u64 *)(r10 - 8) = 0; });
    }
    code.splice(bpf! {
        r0 = r5;
        exit;
    });
    let error = refused(ctx, &socket_filter(code)?)?;
    contains(&error, &["R5 !read_ok"])?;
    let Error::Rejected(rejection) = error else { return Err(Failure::Fail(format!("{error:?}"))) };
    ensure_eq!(rejection.slot, Some(3001));
    Ok(())
}

fn function_rejection(ctx: &mut Ctx) -> Result<(), Failure> {
    let spec = socket_filter(bpf! {
        r1 = 1;
        call inner;
        exit;
    })?
    .func(
        "inner",
        bpf! {
            r0 = r1;
            r0 += r3;
            exit;
        },
    )?;
    let error = refused(ctx, &spec)?;
    contains(&error, &["R3 !read_ok", "r0 += r3"])?;
    let Error::Rejected(rejection) = error else { return Err(Failure::Fail(format!("{error:?}"))) };
    ensure_eq!(rejection.slot, Some(4));
    Ok(())
}

fn missing_map(ctx: &mut Ctx) -> Result<(), Failure> {
    let spec = socket_filter(bpf! {
        r1 = map[absent];
        r0 = 0;
        exit;
    })?;
    contains(&refused(ctx, &spec)?, &["absent", "broken"])
}

fn missing_function(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    if !target.has(Feature::Kprobes) {
        skip!("this kernel has no kprobes");
    }
    let attach = Attach::Kprobe { symbol: "tcp_v4_conect".to_owned(), offset: 0 };
    let spec = ProgSpec::new(
        "typo",
        attach,
        bpf! {
            r0 = 0;
            exit;
        },
    )?;
    match spec.load(&target, &Maps::new())?.attach(&target) {
        Err(error) => contains(&error, &["tcp_v4_conect"]),
        Ok(link) => Err(Failure::Fail(format!("it was attached: {link}"))),
    }
}

fn missing_tracepoint(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    let attach = Attach::Tracepoint { category: "sock".to_owned(), name: "inet_sock_set_stat".to_owned() };
    let spec = ProgSpec::new(
        "typo",
        attach,
        bpf! {
            r0 = 0;
            exit;
        },
    )?;
    match spec.load(&target, &Maps::new()).and_then(|prog| prog.attach(&target)) {
        Err(error) => contains(&error, &["inet_sock_set_stat"]),
        Ok(link) => Err(Failure::Fail(format!("it was attached: {link}"))),
    }
}

fn missing_btf(ctx: &mut Ctx) -> Result<(), Failure> {
    let file = ctx.directory().join("absent.btf");
    let target = bpfkit_loader::Target::builder().btf_file(&file).running()?;
    let Err(error) = target.field("sock.sk_family") else { return Err(Failure::Fail("it was found".to_owned())) };
    contains(&error, &["--btf", "No such file"])?;

    // A file that is no BTF is an error too, and no reason to take another place's.
    std::fs::write(&file, b"\x9f\xeb\x01 and no more")?;
    let target = bpfkit_loader::Target::builder().btf_file(&file).running()?;
    ensure!(target.btf().is_err(), "a torn file was taken");

    // The tracepoint's fields are in tracefs, so that a program by tracepoint needs no BTF.
    let attach = Attach::Tracepoint { category: "sock".to_owned(), name: "inet_sock_set_state".to_owned() };
    let code = bpf! {
        r0 = *(u16 *)(r1 + ctx.dport);
        exit;
    };
    ProgSpec::new("no_btf", attach, code)?.load(&target, &Maps::new())?;
    Ok(())
}

fn missing_member(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    if target.btf().is_err() {
        skip!("there is no BTF");
    }
    let Err(error) = target.field("sock.__sk_common.skc_dprot") else {
        return Err(Failure::Fail("it was found".to_owned()));
    };
    contains(&error, &["skc_dprot"])?;
    // A name of more than 15 bytes is for the kernel to cut, not to refuse.
    MapSpec::hash("a_name_that_is_longer_than_fifteen", 4, 4, 1).create(&target)?;
    Ok(())
}
