//! Programs of a text at work: attached, or run by the kernel on request.

use std::time::Instant;

use bpfkit_loader::confine::Capabilities;
use bpfkit_loader::{
    Attach, Link, MapType, Maps, Printed, Prog, ProgSpec, ProgType, TestInput, TracePipe, UpdateMode, undisturbed,
};

use super::{Args, Document, bytes, spaced};
use crate::error::Chain;
use crate::options::Options;
use crate::output::Output;
use crate::session::Session;
use crate::tool::Attached;
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
    let is_placed = |program: &ProgSpec| !matches!(program.attach, Attach::None | Attach::Trial { .. });
    let (placed, tried): (Vec<_>, Vec<_>) = programs.into_iter().partition(is_placed);
    let mut session = Session::new()?;
    let started = Instant::now();
    let mut attached = Attached { links: Vec::new(), rings: None, maps, keep: Capabilities::NONE };
    attached.attach(&placed, &target)?;
    for program in &tried {
        try_out(args, &program.load(&target, &attached.maps)?, output)?;
    }
    if !placed.is_empty() {
        let options = Options { verbose: args.verbose, duration: args.duration, ..Options::default() };
        let mut hows: Vec<&str> = attached.links.iter().map(Link::how).collect();
        hows.dedup();
        attached.tell(&options, &target, &hows.join(", "), started);
        let pipe = TracePipe::open(&target);
        drop(target);
        output.flush()?;
        attached.confine(&options)?;
        match pipe {
            Ok(mut pipe) => session.watch(&mut pipe, args.duration, output, say)?,
            Err(error) => {
                report::say(format_args!("what programs print is not shown: {}", Chain(&error)));
                session.idle(args.duration, output)?;
            }
        }
        report::count(attached.detach(), "runs missed: the kernel could not run a program");
    }
    show(document, &attached.maps, output)?;
    output.flush()
}

/// Prints what programs have printed.
fn say(pipe: &mut TracePipe, output: &mut Output) -> Result<(), Error> {
    let mut result = Ok(());
    pipe.drain(|Printed { cpu, time, text }| {
        if result.is_ok() {
            let (seconds, micros) = (time / 1_000_000_000, time / 1_000 % 1_000_000);
            result = output.line(&format!("{seconds}.{micros:06} [{cpu:03}] {}", Escaped(text.as_bytes())));
        }
    })?;
    result
}

/// Has the kernel run a program.
fn try_out(args: &Args, program: &Prog, output: &mut Output) -> Result<(), Error> {
    let spec = program.spec();
    let given = |text: &Option<String>| text.as_deref().map(given).transpose();
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
    let number = match *bytes {
        [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]).into(),
        [a, b, c, d, e, f, g, h] => u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        _ => return spaced(bytes),
    };
    format!("{} ({number})", spaced(bytes))
}
