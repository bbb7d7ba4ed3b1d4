//! What /proc tells of a process.

use std::collections::BTreeMap;
use std::fs;

/// The number behind a name in a text of lines such as `VmHWM:    1234 kB`.
fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The most memory that a process had resident, in bytes.
pub fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    number(&status, "VmHWM").map(|kib| kib * 1024)
}

/// The nanoseconds that the threads of a process ran; those that have ended are not among them.
pub fn cpu_time(pid: u32) -> Option<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let of = |path: std::path::PathBuf| {
        fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse::<u64>().ok()
    };
    Some(tasks.flatten().filter_map(|task| of(task.path())).sum())
}

/// How often the BPF programs that a process holds ran, and for how many nanoseconds, by their numbers. The kernel counts where
/// kernel.bpf_stats_enabled is 1.
pub fn programs(pid: u32) -> BTreeMap<u64, (u64, u64)> {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return BTreeMap::new() };
    let of = |path| {
        let text = fs::read_to_string(path).ok()?;
        Some((number(&text, "prog_id")?, (number(&text, "run_cnt")?, number(&text, "run_time_ns")?)))
    };
    files.flatten().filter_map(|file| of(file.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_own_memory_and_time() {
        let pid = std::process::id();
        assert!(peak_memory(pid).is_some_and(|bytes| bytes > 4096));
        assert!(cpu_time(pid).is_some_and(|time| time > 0));
        assert!(programs(pid).is_empty());
    }

    #[test]
    fn a_name_is_not_found_within_another() {
        let text = "VmPeak:\t  10 kB\nrun_cnt_all:\t1\nrun_cnt:\t7\n";
        assert_eq!(number(text, "VmPeak"), Some(10));
        assert_eq!(number(text, "run_cnt"), Some(7));
        assert_eq!(number(text, "Peak"), None);
    }
}
