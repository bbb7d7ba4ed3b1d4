//! Records of a ring, from their bytes.

/// PERF_RECORD_LOST of include/uapi/linux/perf_event.h.
const LOST: u32 = 2;
/// PERF_RECORD_SAMPLE
const SAMPLE: u32 = 9;
/// `struct perf_event_header`: type, flags, size.
const HEADER: usize = 8;

/// One record of a ring whose samples have time and raw data (PERF_SAMPLE_TIME | PERF_SAMPLE_RAW).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// What a program sent. The kernel pads the data, so it may be longer than what was sent.
    Sample { time: u64, data: &'a [u8] },
    /// Records that found no room.
    Lost { count: u64 },
    /// A kind that is of no interest, such as one of throttling.
    Other,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|long| u64::from_ne_bytes(*long))
}

/// The first record and what follows it; nothing when the bytes are no whole record.
pub(super) fn parse(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let kind = word(bytes, 0)?;
    let size = usize::from(u16::from_ne_bytes(*bytes.get(6..)?.first_chunk()?));
    if size < HEADER || size > bytes.len() {
        return None;
    }
    let (record, rest) = bytes.split_at(size);
    let body = &record[HEADER..];
    let record = match kind {
        // Of a clock that was to write anything (`PerfBuffer::tell_last`).
        SAMPLE if body.is_empty() => Record::Other,
        SAMPLE => {
            let size = usize::try_from(word(body, 8)?).ok()?;
            Record::Sample { time: long(body, 0)?, data: body.get(12..)?.get(..size)? }
        }
        LOST => Record::Lost { count: long(body, 8)? },
        _ => Record::Other,
    };
    Some((record, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, body: &[u8]) -> Vec<u8> {
        let size = u16::try_from(HEADER + body.len()).unwrap();
        [&kind.to_ne_bytes()[..], &[0, 0], &size.to_ne_bytes(), body].concat()
    }

    fn sample(time: u64, data: &[u8]) -> Vec<u8> {
        let size = u32::try_from(data.len()).unwrap();
        record(SAMPLE, &[&time.to_ne_bytes()[..], &size.to_ne_bytes(), data].concat())
    }

    #[test]
    fn records_follow_each_other() {
        let lost = record(LOST, &[7_u64.to_ne_bytes(), 12_u64.to_ne_bytes()].concat());
        let bytes = [sample(5, b"data"), lost, record(5, &[0; 8])].concat();
        let (first, rest) = parse(&bytes).unwrap();
        assert_eq!(first, Record::Sample { time: 5, data: b"data" });
        let (second, rest) = parse(rest).unwrap();
        assert_eq!(second, Record::Lost { count: 12 });
        assert_eq!(parse(rest), Some((Record::Other, &[][..])));
        assert_eq!(parse(&record(SAMPLE, &[])), Some((Record::Other, &[][..])), "a tick has nothing but its header");
    }

    #[test]
    fn no_bytes_whatever_do_harm() {
        let bytes = [sample(5, b"data"), sample(6, &[0; 20])].concat();
        for end in 0..bytes.len() {
            let _ = parse(&bytes[..end]);
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 7, 8, 0x7f, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                let mut rest = &bytes[..];
                while let Some((_, next)) = parse(rest) {
                    assert!(next.len() < rest.len());
                    rest = next;
                }
            }
        }
    }
}
