//! Programs of a text at work: attached, or run by the kernel on request.

use std::time::Instant;

use bpfkit_loader::{
    Attach, MapType, Maps, Printed, Prog, ProgType, Target, TestInput, TracePipe, UpdateMode, undisturbed,
};

use super::{Args, Document, bytes, spaced};
use crate::output::Output;
use crate::session::Session;
use crate::{Error, Escaped, input, report};

/// The types of programs that are given a packet when the kernel runs them on request.
const WITH_PACKET: [ProgType; 12] = [
    ProgType::SOCKET_FILTER,
    ProgType::SCHED_CLS,
    ProgType::SCHED_ACT,
    ProgType::XDP,
    ProgType::CGROUP_SKB,
    ProgType::LWT_IN,
    ProgType::LWT_OUT,
    ProgType::LWT_XMIT,
    ProgType::LWT_SEG6LOCAL,
    ProgType::SK_SKB,
    ProgType::FLOW_DISSECTOR,
    ProgType::NETFILTER,
];

/// How many elements of a map are shown.
const SHOWN: usize = 64;

/// What the kernel says of programs that it does not run on request: ENOTSUPP, which no C library has, and EOPNOTSUPP.
const NOT_RUN: [i32; 2] = [524, libc::EOPNOTSUPP];

/// Loads the programs of a document and shows what they do.
///
/// # Errors
/// What the kernel says to a map or a program; each way of attaching that was tried.
pub fn run(args: &Args, document: &Document, output: &mut Output) -> Result<(), Error> {
    let target = args.target()?;
    let programs = args.programs(document)?;
    let mut maps = Maps::new();
    for map in &document.maps {
        maps.create(&map.spec, &target)?;
        if let Some(made) = maps.get(&map.spec.name).filter(|_| !map.data.is_empty()) {
            made.update(&0_u32.to_ne_bytes(), &map.data, UpdateMode::Any)?;
        }
    }
    // Those that are run on request come after those that wait for something, which they may cause.
    let (tried, placed): (Vec<_>, Vec<_>) =
        programs.iter().partition(|program| matches!(program.attach, Attach::None | Attach::Trial { .. }));
    let session = Session::new()?;
    let load = |program: &bpfkit_loader::ProgSpec| program.load(&target, &maps);
    let placed = placed.into_iter().map(load).collect::<Result<Vec<_>, _>>()?;
    let tried = tried.into_iter().map(load).collect::<Result<Vec<_>, _>>()?;
    let started = Instant::now();
    let waits = !placed.is_empty();
    let links = placed.into_iter().map(|program| program.attach(&target)).collect::<Result<Vec<_>, _>>()?;
    if args.verbose && waits {
        links.iter().for_each(report::say);
        let hows: Vec<&str> = links.iter().map(bpfkit_loader::Link::how).collect();
        report::say(format_args!(
            "attached by {} after {:.1} ms",
            hows.join(", "),
            started.elapsed().as_secs_f64() * 1e3
        ));
    }
    for program in &tried {
        try_out(args, program, output)?;
    }
    if waits {
        wait(args, session, &target, output)?;
    }
    drop(links);
    show(document, &maps, output)?;
    output.flush()
}

/// Has the kernel run a program.
fn try_out(args: &Args, program: &Prog, output: &mut Output) -> Result<(), Error> {
    let spec = program.spec();
    let given = |text: &Option<String>| text.as_deref().map(|text| given(text)).transpose();
    let takes_packet = WITH_PACKET.contains(&spec.attach.prog_type());
    let data = given(&args.data)?.unwrap_or_else(|| if takes_packet { vec![0; 64] } else { Vec::new() });
    let context = given(&args.context)?.unwrap_or_default();
    // Types that take no packet refuse a number as well.
    let repeat = if data.is_empty() && args.repeat == 1 { 0 } else { args.repeat };
    let input = TestInput { data, context, repeat };
    let run = match program.test_run(&input) {
        Err(bpfkit_loader::Error::Io { source, .. })
            if source.raw_os_error().is_some_and(|code| NOT_RUN.contains(&code)) =>
        {
            let kind = spec.attach.prog_type();
            let kind = kind.name().map_or_else(|| kind.0.to_string(), str::to_owned);
            return output.line(&format!(
                "{}: loaded, and not run: the kernel runs no {kind} program on request; `.attach` says where it belongs",
                spec.name
            ));
        }
        run => run?,
    };
    let signed = run.result.cast_signed();
    let result = if signed < 0 { format!("{} ({signed})", run.result) } else { run.result.to_string() };
    let times = if args.repeat == 1 { "once".to_owned() } else { format!("{} times", args.repeat) };
    output.line(&format!("{}: returned {result}; run {times}, {} ns each", spec.name, run.each.as_nanos()))?;
    for (what, before, after) in [("packet", &input.data, &run.data), ("context", &input.context, &run.context)] {
        if before == after {
            continue;
        }
        output.line(&format!("{}: {what} of {} bytes, was {}", spec.name, after.len(), before.len()))?;
        for (n, line) in after.chunks(16).enumerate() {
            output.line(&format!("  {:04x}: {}", n * 16, spaced(line)))?;
        }
    }
    Ok(())
}

/// Bytes of the command line: in hexadecimal, or those of a file.
fn given(text: &str) -> Result<Vec<u8>, Error> {
    match text.strip_prefix('@') {
        Some(file) => input::read(file.as_ref()),
        None => bytes(text).map_err(Error::Request),
    }
}

/// Shows what programs print, until it is time to stop.
fn wait(args: &Args, mut session: Session, target: &Target, output: &mut Output) -> Result<(), Error> {
    output.flush()?;
    let mut pipe = match TracePipe::open(target) {
        Ok(pipe) => pipe,
        Err(error) => {
            report::say(format_args!("what programs print is not shown: {}", crate::Chain(&error)));
            return session.idle(args.duration, output);
        }
    };
    session.watch(&mut pipe, args.duration, output, |pipe, output| {
        let mut result = Ok(());
        pipe.drain(|Printed { cpu, time, text }| {
            if result.is_ok() {
                let (seconds, micros) = (time / 1_000_000_000, time / 1_000 % 1_000_000);
                result = output.line(&format!("{seconds}.{micros:06} [{cpu:03}] {}", Escaped(text.as_bytes())));
            }
        })?;
        result
    })
}

/// Shows what the maps hold.
fn show(document: &Document, maps: &Maps, output: &mut Output) -> Result<(), Error> {
    for map in &document.maps {
        let Some(made) = maps.get(&map.spec.name) else { continue };
        let info = made.info();
        // Of these a system call says nothing, or takes out what it says.
        let is_silent = info.key_size == 0
            || matches!(info.kind, MapType::PERF_EVENT_ARRAY | MapType::PROG_ARRAY | MapType::CGROUP_ARRAY);
        // What a compiler put there is not news.
        if is_silent || map.spec.name.starts_with(".rodata") {
            continue;
        }
        let elements = undisturbed(|| {
            let mut elements = Vec::new();
            for key in made.keys() {
                let key = key?;
                let values = if info.kind.is_per_cpu() {
                    made.lookup_percpu(&key)?
                } else {
                    let mut value = vec![0; usize::try_from(info.value_size).unwrap_or_default()];
                    made.lookup(&key, &mut value)?.then(|| vec![value])
                };
                // Of arrays, every element is there; what was never written is no news.
                let is_written = |values: &Vec<Vec<u8>>| values.iter().flatten().any(|&byte| byte != 0);
                let is_array = matches!(info.kind, MapType::ARRAY | MapType::PERCPU_ARRAY);
                if let Some(values) = values.filter(|values| !is_array || is_written(values)) {
                    elements.push((key, values));
                }
            }
            Ok::<_, bpfkit_loader::Error>(elements)
        })?;
        let plural = if elements.len() == 1 { "" } else { "s" };
        output.line(&format!("map {}: {} element{plural}", map.spec.name, elements.len()))?;
        for (key, values) in elements.iter().take(SHOWN) {
            let values: Vec<String> = values.iter().map(|value| spaced_number(value)).collect();
            output.line(&format!("  {}: {}", spaced_number(key), values.join(", ")))?;
        }
        if elements.len() > SHOWN {
            output.line(&format!("  and {} more", elements.len() - SHOWN))?;
        }
    }
    Ok(())
}

/// Bytes, and what they are as a number where they may be one.
fn spaced_number(bytes: &[u8]) -> String {
    let number = match bytes {
        &[a, b, c, d] => u32::from_ne_bytes([a, b, c, d]).into(),
        &[a, b, c, d, e, f, g, h] => u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        _ => return spaced(bytes),
    };
    format!("{} ({number})", spaced(bytes))
}
