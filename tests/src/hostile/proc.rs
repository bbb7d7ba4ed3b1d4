//! Files of /proc and /sys.

use bpfkit_loader::fuzzing;

/// Tables of mappings, lists of CPUs, versions, status files.
pub(super) fn proc(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines() {
        if let Some(cpus) = fuzzing::cpus(line.trim()) {
            assert!(cpus.is_sorted_by(|a, b| a < b), "{cpus:?}");
            assert_eq!(fuzzing::cpus(&spelled(&cpus)), Some(cpus));
        }
        let (_, code) = fuzzing::versions(line.as_bytes());
        assert!(code.is_none_or(|code| code < 1 << 24), "{code:?}");
    }
    let (paths, places) = fuzzing::maps(bytes, 0x1000);
    assert!(paths <= bytes.len() && places.len() <= bytes.len());
    let _ = (fuzzing::versions(bytes), fuzzing::chosen(&text), bpfkit::fuzzing::status(&text));
    if let Some(word) = fuzzing::chosen(&text) {
        assert!(!word.contains(']') && text.contains(&format!("[{word}]")));
    }
}

/// `0-1,3`
fn spelled(cpus: &[u32]) -> String {
    let ranges = cpus.chunk_by(|a, b| a + 1 == *b);
    let ranges = ranges.map(|range| match range {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    ranges.collect::<Vec<_>>().join(",")
}
