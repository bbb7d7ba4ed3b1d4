//! `bpfkit writehist` counts the sizes of write(2) by process and shows them as histograms of powers of two.
//!
//! Counting is done in the kernel: a map holds one counter for each power of two, thread, user and name, so that what comes to
//! user space is a table, however many writes there are. The size is what the process asked for, not what the file took.
//!
//! * `kprobe`: the function of the system call. Since Linux 4.17 it is given a pointer to the user's registers, so the size is
//!   one read away.
//! * `tracepoint`: `syscalls:sys_enter_write`. Linux 7.2 runs it with preemption on, and while one thread is preempted in the
//!   program, other threads' writes on that CPU are missed. They are counted and told, but the kprobe misses none.
//!
//! [Its programs](../../pages/writehist.html), instruction by instruction, where the documentation was built with its pages.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bpfkit_asm::{Asm, bpf};
use bpfkit_loader::{Feature, MapSpec, Maps, ProgSpec, Target, clock, undisturbed};
use serde::Serialize;

use crate::escape::Escaped;
use crate::event::Bytes;
use crate::filter::TaskFilter;
use crate::options::{Options, seconds};
use crate::output::Output;
use crate::session::Session;
use crate::stamp::Stamps;
use crate::tool::{self, Attached, Tool};
use crate::{Error, event, pids, report, syscall};

/// Count the sizes of write(2), as a histogram for each process
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print and begin anew every so many seconds; without it, print once at the end
    #[arg(short, long, value_name = "SECS", value_parser = seconds)]
    pub interval: Option<Duration>,
    /// Show one histogram of all processes
    #[arg(long)]
    pub total: bool,
    /// How to see writes; without it, the first of these that works
    #[arg(long, value_enum)]
    pub probe: Option<Probe>,
    #[allow(missing_docs)] // clap would show it
    #[command(flatten)]
    pub filter: TaskFilter,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub options: Options,
}

const EXAMPLES: &str = "\
Examples:
  bpfkit writehist               a histogram for each process, at Ctrl-C
  bpfkit writehist -i 1          every second
  bpfkit writehist -p 181        of one process
  bpfkit writehist --total       of all processes together";

/// How writes are seen, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Probe {
    /// A kprobe on the function of the system call
    Kprobe,
    /// The tracepoint syscalls:sys_enter_write
    Tracepoint,
}

impl tool::Probe for Probe {
    fn feature(self) -> Option<Feature> {
        match self {
            Self::Tracepoint => None,
            Self::Kprobe => Some(Feature::Kprobes),
        }
    }
}

// The key of the map on the stack of the program, from here up.
const KEY: i32 = -48;
const SLOT: i32 = KEY;
const PID_TGID: i32 = KEY + 8;
const UID_GID: i32 = KEY + 16;
const COMM: i32 = KEY + 24;
const KEY_SIZE: u32 = 40;
/// The first count of a key, above the key.
const ONE: i32 = KEY + 40;
/// 8 bytes below the key.
const SCRATCH: i32 = KEY - 8;

/// Threads times slots that are counted at one time.
const KEYS: u32 = 65_536;
/// More of them than this and idle ones are forgotten.
const MANY: usize = 32_768;
const BPF_NOEXIST: i32 = 1;

/// Whose writes were counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Who {
    pid: u32,
    uid: u32,
    pub(crate) comm: Vec<u8>,
}

/// A key of the map, as the program writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    slot: usize,
    pub(crate) who: Who,
}

impl Key {
    /// Reads the bytes that the program wrote at [`KEY`].
    pub(crate) fn parse(key: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(key);
        let slot = usize::try_from(bytes.u64()?).ok()?;
        let ((pid, _), (_, uid)) = (bytes.halves()?, bytes.halves()?);
        Some(Self { slot, who: Who { pid, uid, comm: bytes.comm()? } })
    }
}

impl Args {
    fn programs_by(&self, target: &Target, probe: Probe) -> Result<Vec<ProgSpec>, Error> {
        let (attach, size) = match probe {
            Probe::Tracepoint => (
                tool::tracepoint("syscalls", "sys_enter_write"),
                bpf! { r7 = *(u64 *)(r6 + ctx.arg3); }, // size_t count
            ),
            Probe::Kprobe => {
                let symbol = target.syscall("write")?;
                let size = bpf! {
                    {syscall::argument(target, &symbol, 3, SCRATCH)};
                    r7 = *(u64 *)(r10 + SCRATCH);
                };
                (tool::kprobe(&symbol.symbol), size)
            }
        };
        Ok(vec![ProgSpec::new("writehist", attach, self.count(target, &size))?])
    }

    /// Counts the size that `size` puts into r7.
    fn count(&self, target: &Target, size: &Asm) -> Asm {
        let mut code = Asm::new();
        let (out, found) = (code.named_label("out"), code.named_label("found"));
        code.splice(bpf! {
            r6 = r1;
            call bpf_get_current_pid_tgid;
            *(u64 *)(r10 + PID_TGID) = r0;
            {self.filter.code(target, SCRATCH, out)};
            {size.clone()};
            {log2()};
            *(u64 *)(r10 + SLOT) = r8;
            {pids::here(target, PID_TGID)};
            call bpf_get_current_uid_gid;
            *(u64 *)(r10 + UID_GID) = r0;
            {event::comm(COMM)};
            r1 = map[counts];
            r2 = r10;
            r2 += KEY;
            call bpf_map_lookup_elem;
            if r0 != 0 goto {found};
            *(u64 *)(r10 + ONE) = 1;
            r1 = map[counts];
            r2 = r10;
            r2 += KEY;
            r3 = r10;
            r3 += ONE;
            r4 = BPF_NOEXIST;
            call bpf_map_update_elem;
            if r0 == 0 goto {out};
            // The key names the thread, so nobody else has made it meanwhile: the map is full.
            {event::drop_one(SCRATCH, out)};
            goto {out};
        });
        code.bind(found);
        code.splice(bpf! {
            r1 = 1;
            lock *(u64 *)(r0 + 0) += r1;
        });
        event::leave(code, out)
    }
}

/// Puts into r8 the place of the highest bit of r7, and spoils r7: 0 for 0 and 1. It takes six comparisons and no loop.
fn log2() -> Asm {
    let mut code = bpf! { r8 = 0; };
    for shift in [32, 16, 8, 4, 2, 1] {
        let mut step = Asm::new();
        let small = step.named_label("small");
        step.splice(bpf! {
            r1 = {(1_u64 << shift) - 1} ll;
            if r7 <= r1 goto {small};
            r7 >>= {shift};
            r8 += {shift};
        });
        step.bind(small);
        code.splice(step);
    }
    code
}

/// The maps, but for those of the filter.
fn own_maps() -> Vec<MapSpec> {
    let counts = MapSpec::hash("counts", KEY_SIZE, 8, KEYS)
        .with_types(&[("slot", 8), ("pid_tgid", 8), ("uid_gid", 8), ("comm", event::TASK_COMM_LEN)], &[("writes", 8)]);
    vec![event::dropped(), counts]
}

impl Tool for Args {
    fn options(&self) -> &Options {
        &self.options
    }

    fn programs(&self, target: &Target) -> Result<Vec<ProgSpec>, Error> {
        tool::likely(self.probe, target).map_or(Ok(Vec::new()), |probe| self.programs_by(target, probe))
    }

    fn maps(&self, _: &Target) -> Result<Vec<MapSpec>, Error> {
        Ok(tool::with_filter(own_maps(), &self.filter))
    }

    fn trace(&self, target: Target, output: &mut Output) -> Result<(), Error> {
        self.filter.check(&target)?;
        let mut session = Session::new()?;
        let mut attached = tool::choose(self.probe, &self.options, &target, |probe| {
            let mut attached = Attached::prepare(own_maps(), self.filter.maps(&target)?, &target, &self.options)?;
            attached.attach(&self.programs_by(&target, probe)?, &target)?;
            Ok(attached)
        })?;
        drop(target);
        attached.confine(&self.options)?;
        if !self.options.json {
            output.line("Tracing write ... Hit Ctrl-C to end")?;
        }
        let (stamps, maps, mut seen) = (Stamps::new(), &attached.maps, Seen::default());
        session.ticks(self.interval, self.options.duration, output, |output| {
            self.print(&undisturbed(|| seen.take(maps))?, &stamps, output)
        })?;
        report::count(event::count_dropped(&attached.maps)?, "writes not counted: the map was full");
        report::count(attached.detach(), "writes missed: the kernel could not run the program");
        Ok(())
    }
}

/// Counts by power of two.
type Slots = BTreeMap<usize, u64>;

/// A histogram as JSON.
#[derive(Serialize)]
struct Row<'a> {
    /// Nanoseconds since 1970.
    time_ns: u64,
    #[serde(flatten)]
    who: Option<JsonWho>,
    writes: u64,
    slots: &'a [JsonSlot],
}

/// A process as JSON.
#[derive(Serialize)]
struct JsonWho {
    pid: u32,
    uid: u32,
    comm: String,
}

/// A bar as JSON; both ends are bytes and belong to it.
#[derive(Serialize)]
struct JsonSlot {
    low: u64,
    high: u64,
    count: u64,
}

impl Args {
    /// Prints what was counted since the last time.
    fn print(&self, counted: &BTreeMap<Who, Slots>, stamps: &Stamps, output: &mut Output) -> Result<(), Error> {
        let now = clock::now();
        if self.interval.is_some() && !self.options.json {
            output.line(&format!("\n{}", stamps.time_of_day(now)))?;
        }
        let mut all = Slots::new();
        for (who, slots) in counted {
            for (&slot, count) in slots {
                *all.entry(slot).or_default() += count;
            }
            if !self.total {
                self.histogram(Some(who), slots, stamps.since_1970(now), output)?;
            }
        }
        if self.total && !all.is_empty() {
            self.histogram(None, &all, stamps.since_1970(now), output)?;
        }
        Ok(())
    }

    fn histogram(&self, who: Option<&Who>, slots: &Slots, time_ns: u64, output: &mut Output) -> Result<(), Error> {
        let comm = |who: &Who| Escaped(&who.comm).to_string();
        if self.options.json {
            let json = |(&slot, &count): (&usize, &u64)| JsonSlot { low: range(slot).0, high: range(slot).1, count };
            let slots: Vec<_> = slots.iter().map(json).collect();
            let who = who.map(|who| JsonWho { pid: who.pid, uid: who.uid, comm: comm(who) });
            let writes = slots.iter().map(|slot| slot.count).sum();
            return output.json(&Row { time_ns, who, writes, slots: &slots });
        }
        output.line("")?;
        match who {
            Some(who) => output.line(&format!("{} (pid {}, uid {})", comm(who), who.pid, who.uid))?,
            None => output.line("all processes")?,
        }
        bars(slots).iter().try_for_each(|line| output.line(line))
    }
}

/// What the counters of the map were when they were last looked at.
#[derive(Debug, Default)]
struct Seen(HashMap<Vec<u8>, u64>);

impl Seen {
    /// What was counted since the last time, by process.
    ///
    /// Counters are left to grow, as what a program adds while one is read and removed would be lost. Only when they have become
    /// many are those removed that did not grow: threads that have ended, most of them.
    fn take(&mut self, maps: &Maps) -> Result<BTreeMap<Who, Slots>, Error> {
        let mut counted = BTreeMap::<Who, Slots>::new();
        let Some(map) = maps.get("counts") else { return Ok(counted) };
        // The keys are collected first, as removing one while walking would begin the walk again.
        let keys = map.keys().collect::<Result<Vec<_>, _>>()?;
        let many = keys.len() > MANY;
        for bytes in keys {
            let mut value = [0; 8];
            let Some(key) = Key::parse(&bytes) else { continue };
            if !map.lookup(&bytes, &mut value)? {
                continue;
            }
            let value = u64::from_ne_bytes(value);
            let last = self.0.get(&bytes).copied().unwrap_or_default();
            if value != last {
                *counted.entry(key.who).or_default().entry(key.slot).or_default() += value.wrapping_sub(last);
                self.0.insert(bytes, value);
            } else if many {
                map.delete(&bytes)?;
                self.0.remove(&bytes);
            }
        }
        Ok(counted)
    }
}

/// The sizes of a slot, both ends included: 0 to 1, 2 to 3, 4 to 7.
fn range(slot: usize) -> (u64, u64) {
    let low = u32::try_from(slot).ok().and_then(|slot| 1_u64.checked_shl(slot)).unwrap_or(u64::MAX);
    (if slot == 0 { 0 } else { low }, low.saturating_sub(1).saturating_add(low))
}

/// Characters of the longest bar.
const WIDTH: u64 = 40;

/// The histogram as bcc's tools draw it: from the smallest size on, up to the largest that was seen.
fn bars(slots: &Slots) -> Vec<String> {
    let last = slots.keys().last().copied().unwrap_or_default();
    let most = slots.values().max().copied().unwrap_or_default().max(1);
    // Sizes above 4 GB need wider columns.
    let (low, high) = if last < 32 { (10, 10) } else { (20, 20) };
    let title = format!("{:>width$}", "bytes", width = low + 4 + high / 2);
    let mut lines = vec![format!("{title:<width$} : count     distribution", width = low + 4 + high)];
    for slot in 0..=last {
        let count = slots.get(&slot).copied().unwrap_or_default();
        let (from, to) = range(slot);
        let stars = usize::try_from(u128::from(count) * u128::from(WIDTH) / u128::from(most)).unwrap_or_default();
        lines.push(format!("{from:>low$} -> {to:<high$} : {count:<8} |{:<40}|", "*".repeat(stars)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_those_that_users_of_bcc_know() {
        let lines = bars(&Slots::from([(0, 1), (2, 40), (3, 20)]));
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[1], "         0 -> 1          : 1        |*                                       |");
        assert_eq!(lines[2], "         2 -> 3          : 0        |                                        |");
        assert_eq!(lines[3], "         4 -> 7          : 40       |****************************************|");
        assert_eq!(lines[4], "         8 -> 15         : 20       |********************                    |");
        assert_eq!(lines[0].find(':'), lines[1].find(':'));
    }

    #[test]
    fn the_largest_size_has_a_bar_too() {
        assert_eq!((range(0), range(1), range(2)), ((0, 1), (2, 3), (4, 7)));
        assert_eq!(range(63), (1 << 63, u64::MAX));
        let lines = bars(&Slots::from([(63, u64::MAX)]));
        assert_eq!(lines.len(), 65);
        assert!(lines[64].contains("9223372036854775808 -> 18446744073709551615"), "{}", lines[64]);
    }

    #[test]
    fn a_key_is_read_as_the_program_writes_it() {
        let words = [5_u64, 7 << 32 | 9, 3 << 32 | 1000].map(u64::to_ne_bytes).concat();
        let bytes = [&words[..], b"dd\0\0\0\0\0\0\0\0\0\0\0\0\0\0"].concat();
        let who = Who { pid: 7, uid: 1000, comm: b"dd".to_vec() };
        assert_eq!(Key::parse(&bytes), Some(Key { slot: 5, who }));
        assert!((0..bytes.len()).all(|end| Key::parse(&bytes[..end]).is_none()));
    }
}
