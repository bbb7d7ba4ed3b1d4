//! What the kernel does before the first uprobe, begun early.

use super::probe::pmu;
use crate::feature::Feature;
use crate::sys::perf;
use crate::sys::process::Twin;
use crate::target::Target;

/// The wait for the first uprobe, which goes by while this process finds out what to probe.
///
/// A uprobe stops all copying of address spaces (`register_for_each_vma` of kernel/events/uprobes.c writes under `dup_mmap_sem`), and
/// before the kernel may do so it waits until every CPU has seen that it is about to: `synchronize_rcu` in `rcu_sync_enter`, two to
/// five ticks. All who ask meanwhile wait for the same end, and who asks soon after it does not wait. So a copy of this process
/// asks at once, for a place that nobody comes by, and keeps that until it is let go.
#[derive(Debug)]
pub struct HeadStart(Twin);

impl HeadStart {
    /// Begins it, where the kernel has uprobes by perf's PMU (Linux 4.17) and lets this process have them. Without it they take longer,
    /// and nothing else.
    pub fn of_uprobes(target: &Target) -> Option<Self> {
        let (kind, _) = target.has(Feature::UprobePmu).then(|| pmu("uprobe"))?.ok()?;
        perf::probe_apart(kind, c"/proc/self/exe").ok().map(Self)
    }

    /// Lets the copy end, which takes it as long again, once all is attached. Dropping this waits for it.
    pub fn end(&mut self) {
        self.0.let_go();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_copy_has_a_uprobe_until_it_is_let_go() {
        let of = |feature: Option<Feature>| {
            let builder = feature.into_iter().fold(Target::builder(), crate::TargetBuilder::without);
            HeadStart::of_uprobes(&builder.running().unwrap())
        };
        assert!(of(Some(Feature::UprobePmu)).is_none());
        if !crate::attach::may_probe_files() {
            eprintln!("skipped: it takes CAP_PERFMON to probe files");
            return;
        }
        let mut head_start = of(None).expect("no head start");
        let place = format!("/proc/{}/fd", head_start.0.pid());
        let has_event = || {
            let links = fs::read_dir(&place).into_iter().flatten().flatten();
            links
                .filter_map(|entry| fs::read_link(entry.path()).ok())
                .any(|link| link.ends_with("anon_inode:[perf_event]"))
        };
        let started = Instant::now();
        while !has_event() {
            assert!(started.elapsed() < Duration::from_secs(60), "it has no event");
            std::thread::sleep(Duration::from_millis(1));
        }
        head_start.end();
        drop(head_start);
        assert!(!fs::exists(&place).unwrap());
    }
}
