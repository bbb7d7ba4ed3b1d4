//! The rings of all CPUs as one stream.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::record::{Record, parse};
use crate::map::{Map, UpdateMode};
use crate::sys::map::RingMap;
use crate::sys::perf;
use crate::sys::process::{Epoll, monotonic, page_size};
use crate::{Error, cpus};

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
    _event: OwnedFd,
}

/// A sample that was copied out of its ring.
#[derive(Clone, Debug)]
struct Pending {
    time: u64,
    cpu: u32,
    data: Range<usize>,
}

/// How often it is looked whether a CPU came online.
const NEW_CPUS: Duration = Duration::from_secs(1);

/// The rings of all CPUs, read in order of time.
#[derive(Debug)]
pub struct PerfBuffer {
    rings: Vec<Ring>,
    epoll: Epoll,
    map: Map,
    options: PerfOptions,
    looked: Instant,
    /// Samples that are younger than the last fence, and their bytes.
    pending: Vec<Pending>,
    bytes: Vec<u8>,
    scratch: Vec<u8>,
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
            pending: Vec::new(),
            bytes: Vec::new(),
            scratch: Vec::new(),
        };
        for cpu in cpus::online()? {
            buffer.add(cpu)?;
        }
        Ok(buffer)
    }

    fn add(&mut self, cpu: u32) -> Result<(), Error> {
        let failed = |what: &str| {
            let what = format!("cannot {what} the perf ring of CPU {cpu}");
            move |error| Error::privileged(what, error)
        };
        let size = self.options.pages.saturating_mul(page_size());
        let watermark = u32::try_from(size / self.options.wake_at).unwrap_or(u32::MAX);
        let event = perf::bpf_output(cpu, watermark).map_err(failed("open"))?;
        let memory = RingMap::new(&event, self.options.pages).map_err(failed("map"))?;
        self.epoll.add(event.as_fd()).map_err(failed("wait for"))?;
        perf::enable(event.as_fd()).map_err(failed("enable"))?;
        self.map.update_fd(cpu, &event, UpdateMode::Any)?;
        self.rings.push(Ring { cpu, memory, _event: event });
        Ok(())
    }

    /// Hands over what is there now, without waiting: samples in order of time over all CPUs.
    ///
    /// A sample that is younger than this call stays until the next, as an older one may still be on its way on another CPU.
    ///
    /// # Errors
    /// When a CPU came online and its ring cannot be made.
    pub fn drain(&mut self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<usize, Error> {
        if self.looked.elapsed() >= NEW_CPUS {
            self.looked = Instant::now();
            for cpu in cpus::online()? {
                if !self.rings.iter().any(|ring| ring.cpu == cpu) {
                    self.add(cpu)?;
                }
            }
        }
        Ok(self.read_until(monotonic(), on_event))
    }

    /// Hands over everything that is there.
    ///
    /// # Errors
    /// None so far.
    pub fn finish(&mut self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<usize, Error> {
        Ok(self.read_until(u64::MAX, on_event))
    }

    fn read_until(&mut self, fence: u64, on_event: &mut dyn FnMut(Event<'_>)) -> usize {
        let Self { rings, pending, bytes, scratch, .. } = self;
        for ring in rings {
            let (tail, head) = (ring.memory.tail(), ring.memory.head());
            if tail == head {
                continue;
            }
            scratch.clear();
            ring.memory.copy(tail, head, scratch);
            ring.memory.set_tail(head);
            let mut rest = &scratch[..];
            while let Some((record, next)) = parse(rest) {
                rest = next;
                match record {
                    Record::Sample { time, data } => {
                        let start = bytes.len();
                        bytes.extend_from_slice(data);
                        pending.push(Pending { time, cpu: ring.cpu, data: start..bytes.len() });
                    }
                    Record::Lost { count } => on_event(Event::Lost { cpu: ring.cpu, count }),
                    Record::Other => {}
                }
            }
        }
        // Each CPU's samples are in order, so that this merges runs.
        pending.sort_by_key(|sample| sample.time);
        let ready = pending.partition_point(|sample| sample.time <= fence);
        for sample in &pending[..ready] {
            let Pending { time, cpu, data } = sample;
            on_event(Event::Sample(Sample { cpu: *cpu, time: *time, data: &bytes[data.clone()] }));
        }
        pending.drain(..ready);
        let mut kept = Vec::new();
        for sample in &mut *pending {
            let start = kept.len();
            kept.extend_from_slice(&bytes[sample.data.clone()]);
            sample.data = start..kept.len();
        }
        bytes.clear();
        bytes.extend_from_slice(&kept);
        ready
    }
}

impl AsFd for PerfBuffer {
    /// Readable when a ring has reached its watermark.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
