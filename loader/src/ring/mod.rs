//! Perf rings: what programs send by `bpf_perf_event_output`.

mod buffer;
mod merge;
mod record;

pub(crate) use merge::Merge;

pub use buffer::{Event, PerfBuffer, PerfOptions, Sample, UNSENT_FULL, UNSENT_NO_RING};
