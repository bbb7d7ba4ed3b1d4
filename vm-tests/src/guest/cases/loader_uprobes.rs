//! Probes of a program's own functions: this one's, so that nothing else has to be there.

use std::fs;
use std::path::PathBuf;

use bpfkit_asm::bpf;
use bpfkit_loader::{Attach, Feature, Target};

use super::probe::Probe;
use crate::guest::case::{Case, Ctx, Failure};
use crate::{ensure, skip};

pub const CASES: &[Case] = &[
    Case { name: "loader::uprobe_by_pmu_delivers_an_argument", run: |ctx| uprobe(ctx, false) },
    Case { name: "loader::uprobe_by_tracefs_delivers_an_argument", run: |ctx| uprobe(ctx, true) },
    Case { name: "loader::uretprobe_by_pmu_delivers_the_result", run: |ctx| uretprobe(ctx, false) },
    Case { name: "loader::uretprobe_by_tracefs_delivers_the_result", run: |ctx| uretprobe(ctx, true) },
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
