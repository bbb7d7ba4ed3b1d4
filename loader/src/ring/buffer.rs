//! The rings of all CPUs as one stream.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::merge::Merge;
use crate::map::{Map, UpdateMode};
use crate::sys::map::RingMap;
use crate::sys::perf;
use crate::sys::process::{Epoll, monotonic, on_cpu, page_size};
use crate::{Error, cpus};

/// The element of a program's counters for what it could not send because the CPU has no ring.
pub const UNSENT_NO_RING: u32 = 0;
/// That for what it could not send because the ring was full.
pub const UNSENT_FULL: u32 = 1;

/// How rings are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerfOptions {
    /// Pages of each CPU's ring, a power of two.
    pub pages: usize,
    /// The reader is woken when a ring is filled to this part: `1 / wake_at`. Who reads at least every 100 ms anyway is then
    /// woken a few times for many events, and not once for each.
    pub wake_at: usize,
}

impl Default for PerfOptions {
    fn default() -> Self {
        Self { pages: 64, wake_at: 4 }
    }
}

/// What a program sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample<'a> {
    /// On which CPU.
    pub cpu: u32,
    /// When, in nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// Its bytes; the kernel pads them, so they may be up to 7 bytes longer than what was sent.
    pub data: &'a [u8],
}

/// What a ring holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// What a program sent.
    Sample(Sample<'a>),
    /// The ring of a CPU was full, and this many events did not find room.
    Lost {
        /// Which CPU's.
        cpu: u32,
        /// How many.
        count: u64,
    },
}

/// One CPU's ring. The memory goes before the event that it belongs to.
#[derive(Debug)]
struct Ring {
    cpu: u32,
    memory: RingMap,
    event: OwnedFd,
    /// Whether something may have found no room in it, of which it has not told.
    may_have_lost: bool,
}

impl Ring {
    /// Has something written to it each millisecond, for as long as the descriptor is open.
    fn ticking(&self) -> std::io::Result<OwnedFd> {
        let clock = perf::ticks(self.cpu)?;
        perf::set_output(clock.as_fd(), self.event.as_fd())?;
        perf::enable(clock.as_fd())?;
        Ok(clock)
    }
}

/// How often it is looked whether a CPU came online, and whether programs could not send.
const LOOK: Duration = Duration::from_secs(1);

/// How long a clock may take to write to a ring.
const TICK: Duration = Duration::from_millis(200);

/// The rings of all CPUs, read in order of time.
#[derive(Debug)]
pub struct PerfBuffer {
    rings: Vec<Ring>,
    epoll: Epoll,
    map: Map,
    options: PerfOptions,
    looked: Instant,
    /// Where programs count what they could not send, and how many of each CPU's were told.
    unsent: Option<(Map, Vec<[u64; 2]>)>,
    /// What the rings told of loss, by CPU.
    lost: BTreeMap<u32, u64>,
    /// Samples that are younger than the last fence.
    merge: Merge,
}

impl PerfBuffer {
    /// Makes a ring for each CPU that runs, and puts it into the map, by which programs find it.
    ///
    /// # Errors
    /// A number of pages that is no power of two, memory that cannot be locked, what the kernel says to perf_event_open.
    pub fn open(map: &Map, options: PerfOptions) -> Result<Self, Error> {
        let failed = |error| Error::io("cannot open the perf rings", error);
        if !options.pages.is_power_of_two() || options.wake_at == 0 {
            return Err(failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, "pages must be a power of two")));
        }
        let map = map.try_clone().map_err(failed)?;
        let mut buffer = Self {
            rings: Vec::new(),
            epoll: Epoll::new().map_err(failed)?,
            map,
            options,
            looked: Instant::now(),
            unsent: None,
            lost: BTreeMap::new(),
            merge: Merge::default(),
        };
        buffer.renew(&[])?;
        Ok(buffer)
    }

    /// Tells of what programs could not send from what they count themselves, in an array of two u64 for each CPU:
    /// [`UNSENT_NO_RING`] and [`UNSENT_FULL`]. That is exact at any time. What the rings themselves tell of loss comes with the next
    /// event that finds room, or in the end ([`PerfBuffer::finish`]); it counts before Linux 5.1, where programs are not told that a
    /// ring is full.
    ///
    /// A CPU that goes offline takes its ring with it: the kernel closes the event for good, and the CPU has none when it comes
    /// back. Such a ring is made again once something is missing.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn watch(&mut self, unsent: &Map) -> Result<(), Error> {
        let map = unsent.try_clone().map_err(|error| Error::io("cannot watch what is not sent", error))?;
        let told = counts(&map)?;
        self.unsent = Some((map, told));
        Ok(())
    }

    /// Hands over what was counted since the last look; the CPUs that have no ring.
    fn tell_unsent(&mut self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<Vec<u32>, Error> {
        let Some((map, told)) = &mut self.unsent else { return Ok(Vec::new()) };
        let now = counts(map)?;
        let mut without = Vec::new();
        for ((cpu, now), told) in cpus::possible()?.into_iter().zip(now).zip(told) {
            let now = with_told(now, self.lost.get(&cpu).copied().unwrap_or(0));
            let count = now.iter().zip(&*told).map(|(now, told)| now.saturating_sub(*told)).sum();
            if count > 0 {
                on_event(Event::Lost { cpu, count });
            }
            if now[0] > told[0] {
                without.push(cpu);
            }
            *told = now;
        }
        Ok(without)
    }

    /// Whether the calling thread may do what it takes to read on when a CPU comes online: open a ring, and tell the map of it.
    pub(crate) fn may_renew(&self) -> bool {
        let Some(Ring { cpu, event, .. }) = self.rings.first() else { return false };
        perf::bpf_output(*cpu, 1).is_ok() && self.map.update_fd(*cpu, event, UpdateMode::Any).is_ok()
    }

    /// Makes the rings that are missing, and again those that are dead.
    fn renew(&mut self, dead: &[u32]) -> Result<(), Error> {
        self.rings.retain(|ring| !dead.contains(&ring.cpu));
        for cpu in cpus::online()? {
            if !self.rings.iter().any(|ring| ring.cpu == cpu) {
                self.add(cpu)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, cpu: u32) -> Result<(), Error> {
        let failed = |what: &str| {
            let what = format!("cannot {what} the perf ring of CPU {cpu}");
            move |error| Error::privileged(what, error)
        };
        let size = self.options.pages.saturating_mul(page_size());
        let watermark = u32::try_from(size / self.options.wake_at).unwrap_or(u32::MAX);
        let event = match perf::bpf_output(cpu, watermark) {
            // It has just gone offline again.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
            result => result.map_err(failed("open"))?,
        };
        let memory = RingMap::new(&event, self.options.pages).map_err(failed("map"))?;
        self.epoll.add(event.as_fd()).map_err(failed("wait for"))?;
        perf::enable(event.as_fd()).map_err(failed("enable"))?;
        self.map.update_fd(cpu, &event, UpdateMode::Any)?;
        self.rings.push(Ring { cpu, memory, event, may_have_lost: false });
        Ok(())
    }

    /// Hands over what is there now, without waiting: samples in order of time over all CPUs.
    ///
    /// A sample that is younger than this call stays until the next, as an older one may still be on its way on another CPU.
    ///
    /// # Errors
    /// When a CPU came online and its ring cannot be made.
    pub fn drain(&mut self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<usize, Error> {
        let read = self.read_until(monotonic(), on_event);
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            // What a dead ring held was read just now, and nothing is added to it.
            let dead = self.tell_unsent(on_event)?;
            self.renew(&dead)?;
        }
        Ok(read)
    }

    /// Hands over everything that is there, and how many events were lost to the last one.
    ///
    /// # Errors
    /// When what was not sent cannot be told.
    pub fn finish(&mut self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<usize, Error> {
        let mut read = self.read_until(u64::MAX, on_event);
        if self.tell_last()? {
            read += self.read_until(u64::MAX, on_event);
        }
        self.tell_unsent(on_event)?;
        Ok(read)
    }

    /// Has the rings tell of their last losses, as they do with the next record that finds room: a tick of the CPU's clock. Whether one
    /// may have. Where programs know of losses themselves they have counted them; before Linux 5.1 they do not.
    fn tell_last(&mut self) -> Result<bool, Error> {
        let counted = self.unsent.as_ref().map_or(Ok(Vec::new()), |(map, _)| counts(map))?;
        let is_counted = counted.iter().any(|[_, full]| *full > 0);
        let may_have_lost = |ring: &mut Ring| std::mem::take(&mut ring.may_have_lost) && !is_counted;
        let silent = self.rings.iter_mut().filter_map(|ring| may_have_lost(ring).then_some(&*ring));
        // Where a clock is refused, the losses stay unknown.
        let clocks: Vec<(&Ring, OwnedFd)> = silent.filter_map(|ring| Some((ring, ring.ticking().ok()?))).collect();
        let end = Instant::now() + TICK;
        for (Ring { cpu, memory, .. }, _) in &clocks {
            // A CPU that has nothing to do may not tick at all (seen in a VM of Linux 6.18), so that it is given this to do.
            on_cpu(*cpu, || {
                while memory.head() == memory.tail() && Instant::now() < end {
                    std::hint::spin_loop();
                }
            });
        }
        Ok(!clocks.is_empty())
    }

    fn read_until(&mut self, fence: u64, on_event: &mut dyn FnMut(Event<'_>)) -> usize {
        let Self { rings, merge, unsent, lost, .. } = self;
        for Ring { cpu, memory, may_have_lost, .. } in rings {
            *may_have_lost |= memory.is_crowded();
            merge.take(*cpu, memory, &mut |count| {
                if unsent.is_none() {
                    on_event(Event::Lost { cpu: *cpu, count });
                }
                *lost.entry(*cpu).or_insert(0) += count;
            });
        }
        merge.hand_over(fence, on_event)
    }
}

/// What a CPU's programs counted, and what its ring told, which is nearly the same; but before Linux 5.1 `bpf_perf_event_output`
/// answers 0 where a ring is full: `perf_event_output` in kernel/events/core.c had no result.
fn with_told([none, full]: [u64; 2], by_ring: u64) -> [u64; 2] {
    [none, full.max(by_ring)]
}

/// What was not sent: of each CPU, because it had no ring, and because that was full.
fn counts(map: &Map) -> Result<Vec<[u64; 2]>, Error> {
    let of = |key: u32| {
        let values = map.lookup_percpu(&key.to_ne_bytes())?.unwrap_or_default();
        let number = |value: &Vec<u8>| value.first_chunk().map_or(0, |count| u64::from_ne_bytes(*count));
        Ok::<Vec<u64>, Error>(values.iter().map(number).collect())
    };
    Ok(of(UNSENT_NO_RING)?.into_iter().zip(of(UNSENT_FULL)?).map(|(none, full)| [none, full]).collect())
}

impl AsFd for PerfBuffer {
    /// Readable when a ring has reached its watermark.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_once_by_whoever_knows_of_it() {
        // Programs know at once, the ring with its next event.
        assert_eq!(with_told([1, 5], 0), [1, 5]);
        assert_eq!(with_told([1, 5], 3), [1, 5]);
        // Before Linux 5.1 the ring alone knows.
        assert_eq!(with_told([1, 0], 4), [1, 4]);
    }
}
