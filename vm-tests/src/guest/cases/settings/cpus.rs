//! CPUs that go and come back.

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use bpfkit_loader::online_cpus;
use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::{CaseResult, can_trace};
use crate::guest::case::{Ctx, Doing as _, Failure};
use crate::guest::packets::ping;
use crate::guest::sys;
use crate::guest::tool::Tool;
use crate::{ensure, skip};

/// After so long a tool has seen that a CPU came or went.
pub(super) const LOOKED: Duration = Duration::from_millis(1500);

/// A CPU that can be taken offline, brought back in the end.
struct Offline(PathBuf);

impl Offline {
    const CPU: usize = 1;

    fn new(ctx: &Ctx) -> Result<Self, Failure> {
        let switch = PathBuf::from(format!("/sys/devices/system/cpu/cpu{}/online", Self::CPU));
        if !ctx.is_vm() || !switch.exists() {
            skip!("there is no second CPU that may be taken offline");
        }
        if !can_trace(ctx, "icmpecho")? {
            skip!("icmpecho has no probe here");
        }
        Ok(Self(switch))
    }

    fn take(&self) -> CaseResult {
        fs::write(&self.0, "0").doing(|| "take the CPU offline".to_owned())
    }

    fn back(&self) -> CaseResult {
        fs::write(&self.0, "1").doing(|| "bring the CPU back".to_owned())
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        let _ = self.back();
    }
}

/// Pings on one CPU. The kernel answers in the context of the sender.
pub(super) fn ping_on(cpu: usize, seq: u16) -> CaseResult {
    sys::stay_on_cpu(cpu)?;
    ping("127.0.0.1".parse()?, 4711, seq)?;
    let mut all = CpuSet::new();
    online_cpus()?.into_iter().filter_map(|cpu| usize::try_from(cpu).ok()).for_each(|cpu| all.set(cpu));
    Ok(sched_setaffinity(None, &all)?)
}

/// The sequence numbers that were shown for a CPU, and how many events the tool says were lost.
fn shown(mut tool: Tool, cpu: usize) -> Result<(Vec<u16>, usize), Failure> {
    sleep(Duration::from_millis(150));
    let (status, out, err) = tool.stop(Signal::INT)?;
    ensure!(status.success(), "{status}: {err}");
    let rows = out.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|row| row.get(1) == Some(&cpu.to_string().as_str()));
    let lost = err.lines().find(|line| line.contains("events lost"));
    let lost = lost.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or_default();
    Ok((rows.filter_map(|row| row.last()?.parse().ok()).collect(), lost))
}

/// What happens on a CPU that came back is seen again after a while, and what was not seen until then is told.
pub(super) fn offline(ctx: &mut Ctx, time: Duration) -> CaseResult {
    let cpu = Offline::new(ctx)?;
    let tool = Tool::start(ctx, "icmpecho", &["-4"])?;
    ping_on(Offline::CPU, 1)?;
    cpu.take()?;
    sleep(time);
    cpu.back()?;
    ping_on(Offline::CPU, 2)?;
    sleep(LOOKED);
    ping_on(Offline::CPU, 3)?;
    let (seen, lost) = shown(tool, Offline::CPU)?;
    ensure!(seen.contains(&1) && seen.contains(&3), "{seen:?}, {lost} lost");
    ensure!(seen.len() + lost == 3, "{seen:?} and {lost} lost are not three");
    Ok(())
}

pub(super) fn late(ctx: &mut Ctx) -> CaseResult {
    let cpu = Offline::new(ctx)?;
    cpu.take()?;
    let tool = Tool::start(ctx, "icmpecho", &["-4"])?;
    cpu.back()?;
    ping_on(Offline::CPU, 1)?;
    sleep(LOOKED);
    ping_on(Offline::CPU, 2)?;
    let (seen, lost) = shown(tool, Offline::CPU)?;
    ensure!(seen.contains(&2), "{seen:?}, {lost} lost");
    ensure!(seen.len() + lost == 2, "{seen:?} and {lost} lost are not two");
    Ok(())
}
