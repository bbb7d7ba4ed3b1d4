//! Probes of a program's own functions: this one's, so that nothing else has to be there.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use bpfkit_asm::{Asm, bpf};
use bpfkit_loader::{
    Attach, Elf, Event, Feature, Link, MapSpec, Maps, PerfBuffer, PerfOptions, Prog, ProgSpec, Target, Tasks,
};

use super::probe::{Probe, program, record};
use crate::guest::case::{Case, Ctx, Failure};
use crate::{ensure, skip};

pub const CASES: &[Case] = &[
    Case { name: "loader::uprobe_by_pmu_delivers_an_argument", run: |ctx| uprobe(ctx, false) },
    Case { name: "loader::uprobe_by_tracefs_delivers_an_argument", run: |ctx| uprobe(ctx, true) },
    Case { name: "loader::uretprobe_by_pmu_delivers_the_result", run: |ctx| uretprobe(ctx, false) },
    Case { name: "loader::uretprobe_by_tracefs_delivers_the_result", run: |ctx| uretprobe(ctx, true) },
    Case { name: "loader::uprobes_of_one_program_by_pmu", run: |ctx| many_places(ctx, false) },
    Case { name: "loader::uprobes_of_one_program_by_tracefs", run: |ctx| many_places(ctx, true) },
    Case { name: "loader::uprobes_by_one_link_have_cookies", run: one_link },
    Case { name: "loader::uprobe_of_one_process_by_pmu", run: |ctx| one_process(ctx, false) },
    Case { name: "loader::uprobe_of_one_process_by_tracefs", run: |ctx| one_process(ctx, true) },
    Case { name: "loader::uprobe_of_an_odd_path_by_pmu", run: |ctx| odd_path(ctx, false) },
    Case { name: "loader::uprobe_of_an_odd_path_by_tracefs", run: |ctx| odd_path(ctx, true) },
    Case { name: "loader::uprobe_where_it_cannot_be_is_refused", run: misplaced },
];

/// What is probed: with the C calling convention, so that argument and result are where the context has them.
#[inline(never)]
extern "C" fn probed(number: u64) -> u64 {
    std::hint::black_box(number).wrapping_mul(3)
}

fn call(number: u64) -> u64 {
    let probed: extern "C" fn(u64) -> u64 = std::hint::black_box(probed);
    probed(number)
}

/// Where a function is in this program's file: its address, by the mapping that holds it.
pub fn place_of(function: extern "C" fn(u64) -> u64) -> Result<(PathBuf, u64), Failure> {
    let address = u64::try_from(function as usize).unwrap_or_default();
    let maps = fs::read_to_string("/proc/self/maps")?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let offset = maps.lines().find_map(|line| {
        // 55d0c0a00000-55d0c0b00000 r-xp 00012000 08:01 1234  /init
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let (start, end, offset) = (number(start)?, number(end)?, number(words.nth(1)?)?);
        (start..end).contains(&address).then(|| address - start + offset)
    });
    match offset {
        Some(offset) => Ok((fs::read_link("/proc/self/exe")?, offset)),
        None => Err(Failure::Fail(format!("no mapping holds {address:#x}"))),
    }
}

fn target(ctx: &Ctx, tracefs: bool) -> Result<Target, Failure> {
    let target = ctx.target()?;
    if tracefs {
        return Ok(ctx.target_builder().without(Feature::UprobePmu).running()?);
    }
    if !target.has(Feature::UprobePmu) {
        skip!("this kernel has no uprobe PMU");
    }
    Ok(target)
}

fn check_way(probe: &Probe, tracefs: bool) -> Result<(), Failure> {
    let word = if tracefs { "tracefs" } else { "PMU" };
    ensure!(probe.how().contains(word), "attached by {:?} instead of by {word}", probe.how());
    Ok(())
}

fn uprobe(ctx: &mut Ctx, tracefs: bool) -> Result<(), Failure> {
    let (path, offset) = place_of(probed)?;
    let attach = Attach::Uprobe { path, offset };
    let mut probe = Probe::start(&target(ctx, tracefs)?, attach, bpf! { r7 = *(u64 *)(r6 + ctx.arg1); })?;
    check_way(&probe, tracefs)?;
    call(0x1234_5678_9abc);
    probe.expect(0x1234_5678_9abc)
}

fn uretprobe(ctx: &mut Ctx, tracefs: bool) -> Result<(), Failure> {
    let (path, offset) = place_of(probed)?;
    let attach = Attach::Uretprobe { path, offset };
    let mut probe = Probe::start(&target(ctx, tracefs)?, attach, bpf! { r7 = *(u64 *)(r6 + ctx.ret); })?;
    check_way(&probe, tracefs)?;
    let result = call(111_111);
    ensure!(result == 333_333);
    probe.expect(result)
}

/// A second place for the same program.
#[inline(never)]
extern "C" fn probed_too(number: u64) -> u64 {
    std::hint::black_box(number).wrapping_mul(5)
}

/// Attaches one program to several places of this program's own file, and reads the numbers and processes that it sends.
struct Attached {
    prog: Prog,
    links: Vec<Link>,
    rings: PerfBuffer,
    target: Target,
}

impl Attached {
    fn load(target: Target) -> Result<Attached, Failure> {
        let nowhere = Attach::Uprobe { path: PathBuf::from("nowhere"), offset: 0 };
        Self::load_for(target, nowhere, bpf! { r7 = *(u64 *)(r6 + ctx.arg1); })
    }

    fn load_for(target: Target, attach: Attach, number: Asm) -> Result<Attached, Failure> {
        let mut maps = Maps::new();
        maps.create(&MapSpec::perf_event_array("events"), &target)?;
        let prog = ProgSpec::new("probe", attach, program(number))?.load(&target, &maps)?;
        let events = maps.get("events").ok_or_else(|| Failure::Fail("no map".to_owned()))?;
        let rings = PerfBuffer::open(events, PerfOptions::default())?;
        Ok(Attached { prog, links: Vec::new(), rings, target })
    }

    fn attach(&mut self, path: PathBuf, offset: u64, tasks: Tasks) -> Result<(), Failure> {
        let link = self.prog.attach_to(&Attach::Uprobe { path, offset }, tasks, &self.target)?;
        self.links.push(link);
        Ok(())
    }

    /// What was sent so far: processes and numbers.
    fn sent(&mut self) -> Result<Vec<(u64, u64)>, Failure> {
        let mut sent = Vec::new();
        self.rings.finish(&mut |event| {
            if let Event::Sample(sample) = event {
                sent.extend(record(sample.data));
            }
        })?;
        Ok(sent)
    }
}

/// One program of the kernel runs at each place, and its count of runs that were missed is one.
fn many_places(ctx: &mut Ctx, tracefs: bool) -> Result<(), Failure> {
    let mut attached = Attached::load(target(ctx, tracefs)?)?;
    for function in [probed as extern "C" fn(u64) -> u64, probed_too] {
        let (path, offset) = place_of(function)?;
        attached.attach(path, offset, Tasks::All)?;
    }
    let me = u64::from(std::process::id());
    call(7001);
    let too: extern "C" fn(u64) -> u64 = std::hint::black_box(probed_too);
    too(7002);
    let sent = attached.sent()?;
    ensure!(sent == [(me, 7001), (me, 7002)], "{sent:?}");
    let ids = attached.links.iter().map(|link| Ok(link.prog().info()?.id)).collect::<Result<Vec<u32>, Failure>>()?;
    ensure!(ids.len() == 2 && ids[0] == ids[1], "two programs: {ids:?}");
    ensure!(Link::missed_by(&attached.links) == attached.links[0].missed().unwrap_or_default());
    // The places are told apart, and detached one by one.
    let places: Vec<String> = attached.links.iter().map(Link::to_string).collect();
    ensure!(places[0] != places[1] && places.iter().all(|place| place.contains("uprobe on /")), "{places:?}");
    attached.links.remove(0);
    call(7003);
    too(7004);
    let sent = attached.sent()?;
    ensure!(sent == [(me, 7004)], "{sent:?}");
    Ok(())
}

/// One program at two functions, and at their returns another, each by one link, whose places have cookies. No process can be named.
fn one_link(ctx: &mut Ctx) -> Result<(), Failure> {
    if !ctx.target()?.has(Feature::UprobeMulti) {
        skip!("one link for many uprobes came with Linux 6.6");
    }
    let ((path, first), (_, second)) = (place_of(probed)?, place_of(probed_too)?);
    let too: extern "C" fn(u64) -> u64 = std::hint::black_box(probed_too);
    let me = u64::from(std::process::id());
    for at_return in [false, true] {
        let place = |path| Attach::UprobeMulti { path, places: vec![(first, 71), (second, 1 << 40)], at_return };
        let cookie = bpf! {
            r1 = r6;
            call bpf_get_attach_cookie;
            r7 = r0;
        };
        let mut attached = Attached::load_for(ctx.target()?, place(path.clone()), cookie)?;
        attached.links.push(attached.prog.attach_to(&place(path.clone()), Tasks::All, &attached.target)?);
        call(1);
        too(2);
        let sent = attached.sent()?;
        ensure!(sent == [(me, 71), (me, 1 << 40)], "{sent:?}");
        ensure!(attached.links[0].to_string().contains("by BPF_LINK_CREATE"), "{}", attached.links[0]);
        attached.links.clear();
        call(3);
        ensure!(attached.sent()?.is_empty());
        for (path, tasks, why) in
            [(path.clone(), Tasks::Process(1), "every kernel"), ("/none".into(), Tasks::All, "/none")]
        {
            let refused = attached.prog.attach_to(&place(path), tasks, &attached.target).err();
            let error = refused.map_or_else(String::new, |error| error.to_string());
            ensure!(error.contains(why), "{error}");
        }
    }
    Ok(())
}

/// Another process runs the same function of the same file, and is seen only where everybody is. The function is `main`, which a
/// child begins with.
fn one_process(ctx: &mut Ctx, tracefs: bool) -> Result<(), Failure> {
    let elf = Elf::open("/proc/self/exe")?;
    let main = elf.functions(&["main"])?;
    let main = main.first().ok_or_else(|| Failure::Fail("this program has no main".to_owned()))?.offset;
    let me = std::process::id();
    for (tasks, is_seen) in [(Tasks::All, true), (Tasks::Process(me), false)] {
        let mut attached = Attached::load(target(ctx, tracefs)?)?;
        attached.attach(elf.place(), main, tasks)?;
        let (path, offset) = place_of(probed)?;
        attached.attach(path, offset, tasks)?;
        call(7005);
        // Without arguments it does nothing else.
        let mut child = Command::new("/proc/self/exe").arg("connect").spawn()?;
        let child_pid = u64::from(child.id());
        child.wait()?;
        let sent = attached.sent()?;
        ensure!(sent.contains(&(u64::from(me), 7005)), "{tasks:?}: {sent:?}");
        ensure!(sent.iter().any(|(pid, _)| *pid == child_pid) == is_seen, "{tasks:?}: {sent:?}");
    }
    Ok(())
}

/// Text in uprobe_events is divided at spaces, ends at `#`, and takes `:` for a separator.
fn odd_path(ctx: &mut Ctx, tracefs: bool) -> Result<(), Failure> {
    let (path, offset) = place_of(probed)?;
    for name in ["a b", "a#b", "a:0x10", "a\nb", "a(b)", "tab\tbed", "größe"] {
        let link = ctx.directory().join(name);
        std::os::unix::fs::symlink(&path, &link)?;
        let mut attached = Attached::load(target(ctx, tracefs)?)?;
        attached.attach(link, offset, Tasks::All)?;
        call(7006);
        let sent = attached.sent()?;
        ensure!(sent == [(u64::from(std::process::id()), 7006)], "{name:?}: {sent:?}");
    }
    Ok(())
}

fn misplaced(ctx: &mut Ctx) -> Result<(), Failure> {
    let attached = Attached::load(ctx.target()?)?;
    let raw = Attach::RawTracepoint { name: "sys_enter".to_owned() };
    let kprobe = Attach::Kprobe { symbol: "tcp_close".to_owned(), offset: 0 };
    for (place, tasks, part) in
        [(&raw, Tasks::All, "is a program for a uprobe"), (&kprobe, Tasks::Process(1), "only uprobes")]
    {
        let error = attached.prog.attach_to(place, tasks, &attached.target).map(drop);
        let said = error.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(said.contains(part), "{place}: {said:?}");
    }
    let (path, offset) = place_of(probed)?;
    let gone = attached.prog.attach_to(&Attach::Uprobe { path, offset }, Tasks::Process(4_194_303), &attached.target);
    let said = gone.map(drop).err().map(|error| crate::guest::case::chain(&error)).unwrap_or_default();
    ensure!(said.contains("No such process"), "{said:?}");
    Ok(())
}
