//! What a case left in the kernel: programs, maps, links and BTF objects that nobody should hold any more, probes in
//! tracefs, pinned files, mounts and cgroups.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::sys::{self, Object};

/// What there is at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    found: BTreeSet<String>,
    /// Only what has one of these in it; all without any.
    parts: &'static [&'static str],
}

/// How long the kernel may take to free what was closed: it does so after a grace period, and after another what a program held
/// that watched a function of another. Those are long on a busy host.
pub const PATIENCE: Duration = Duration::from_secs(30);

impl Leftovers {
    /// What there is now.
    pub fn now() -> Leftovers {
        Self::named(&[])
    }

    /// What there is now that has one of these in it, on a machine where others come and go.
    pub fn named(parts: &'static [&'static str]) -> Leftovers {
        let mut found = BTreeSet::new();
        for object in Object::ALL {
            // From Linux 5.11 on to 5.17 the kernel's own types have a number as soon as somebody needs them, and keep it.
            let is_left = |id: &u32| object != Object::Btf || !sys::is_kernels_own(*id);
            for id in sys::object_ids(object).into_iter().filter(is_left) {
                found.insert(format!("{} {id} {:?}", object.word(), sys::object_name(object, id).unwrap_or_default()));
            }
        }
        for file in ["kprobe_events", "uprobe_events"] {
            let text = fs::read_to_string(Path::new("/sys/kernel/tracing").join(file)).unwrap_or_default();
            found.extend(text.lines().map(|line| format!("{file} {line:?}")));
        }
        for (word, directory) in [("pinned file", "/sys/fs/bpf"), ("cgroup", "/sys/fs/cgroup")] {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            // The controllers' own files come and go with what other kernels offer; only directories are made by cases.
            let wanted = |entry: &fs::DirEntry| word != "cgroup" || entry.file_type().is_ok_and(|kind| kind.is_dir());
            found.extend(entries.filter(wanted).map(|entry| format!("{word} {}", entry.path().display())));
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        found.extend(mounts.lines().map(|line| format!("mount {line:?}")));
        found.retain(|text| parts.is_empty() || parts.iter().any(|part| text.contains(part)));
        Leftovers { found, parts }
    }

    /// What there is now beyond this.
    pub fn now_beyond(&self) -> BTreeSet<String> {
        Self::named(self.parts).found.difference(&self.found).cloned().collect()
    }

    /// What there is beyond this, after waiting for it to go; `None` is as it should be. What comes later is somebody else's.
    pub fn leak(&self) -> Option<String> {
        let begin = Instant::now();
        let mut more = self.now_beyond();
        while !more.is_empty() {
            if begin.elapsed() > PATIENCE {
                return Some(more.into_iter().collect::<Vec<_>>().join(", "));
            }
            sleep(Duration::from_millis(10));
            let now = Self::named(self.parts).found;
            more.retain(|text| now.contains(text));
        }
        None
    }
}
