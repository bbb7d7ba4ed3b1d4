//! Perf rings: what programs send by `bpf_perf_event_output`.

mod buffer;
mod record;

pub use buffer::{Event, PerfBuffer, PerfOptions, Sample, UNSENT_FULL, UNSENT_NO_RING};
