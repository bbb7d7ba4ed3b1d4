//! Samples of several rings, in order of time.

use std::ops::Range;

use super::buffer::{Event, Sample};
use super::record::{Record, parse};
use crate::sys::map::RingMap;

/// A sample that was copied out of its ring.
#[derive(Clone, Debug)]
struct Pending {
    time: u64,
    cpu: u32,
    data: Range<usize>,
}

/// What was taken out of the rings and not yet handed over.
#[derive(Debug, Default)]
pub(crate) struct Merge {
    pending: Vec<Pending>,
    /// Their bytes.
    bytes: Vec<u8>,
    scratch: Vec<u8>,
}

impl Merge {
    /// Takes all that a CPU's ring holds, which may be overwritten then. `on_lost` is told how many events found no room there.
    pub(crate) fn take(&mut self, cpu: u32, ring: &RingMap, on_lost: &mut dyn FnMut(u64)) {
        let (tail, head) = (ring.tail(), ring.head());
        if tail == head {
            return;
        }
        self.scratch.clear();
        ring.copy(tail, head, &mut self.scratch);
        ring.set_tail(head);
        let mut rest = &self.scratch[..];
        while let Some((record, next)) = parse(rest) {
            rest = next;
            match record {
                Record::Sample { time, data } => {
                    let start = self.bytes.len();
                    self.bytes.extend_from_slice(data);
                    self.pending.push(Pending { time, cpu, data: start..self.bytes.len() });
                }
                Record::Lost { count } => on_lost(count),
                Record::Other => {}
            }
        }
    }

    /// Hands over, by time, what is not younger than `fence`, and how many that was; the rest stays.
    pub(crate) fn hand_over(&mut self, fence: u64, on_event: &mut dyn FnMut(Event<'_>)) -> usize {
        let Self { pending, bytes, .. } = self;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(time: u64, data: [u8; 4]) -> Vec<u8> {
        [&9_u32.to_ne_bytes()[..], &[0, 0], &24_u16.to_ne_bytes(), &time.to_ne_bytes(), &4_u32.to_ne_bytes(), &data]
            .concat()
    }

    #[test]
    fn samples_of_several_rings_come_in_order_of_time_up_to_the_fence() {
        let first = [sample(1, *b"aaaa"), sample(5, *b"eeee")].concat();
        let lost = [&2_u32.to_ne_bytes()[..], &[0, 0], &24_u16.to_ne_bytes(), &[0; 8], &7_u64.to_ne_bytes()].concat();
        let second = [sample(2, *b"bbbb"), lost, sample(9, *b"iiii")].concat();
        // The second one goes across the end of its memory.
        let rings = [RingMap::holding(&first, 0, 1).unwrap(), RingMap::holding(&second, 4080, 1).unwrap()];
        let (mut merge, mut count) = (Merge::default(), 0);
        for (cpu, ring) in (0..).zip(&rings) {
            merge.take(cpu, ring, &mut |lost| count += lost);
            assert_eq!(ring.tail(), ring.head());
        }
        assert_eq!(count, 7);
        let mut hand_over = |fence| {
            let mut seen = Vec::new();
            let ready = merge.hand_over(fence, &mut |event| {
                let Event::Sample(sample) = event else { panic!("{event:?}") };
                seen.push((sample.cpu, sample.time, sample.data.to_vec()));
            });
            assert_eq!(ready, seen.len());
            seen
        };
        assert_eq!(hand_over(2), [(0, 1, b"aaaa".to_vec()), (1, 2, b"bbbb".to_vec())]);
        assert_eq!(hand_over(4), []);
        assert_eq!(hand_over(u64::MAX), [(0, 5, b"eeee".to_vec()), (1, 9, b"iiii".to_vec())]);
    }
}
