//! What may be in the way where the kernel refuses for want of privilege.

use std::fs;

use bpfkit_asm::Version;

use crate::kernel;

const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYSLOG: u32 = 34;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What this process and this machine allow; what cannot be read is left out.
#[derive(Clone, Debug, Default)]
struct Means {
    /// `CapEff` in /proc/self/status.
    caps: u64,
    version: Option<Version>,
    /// /proc/sys/kernel/cap_last_cap: the last capability that the kernel has. Some of 4.18 have those that came with Linux 5.8.
    last_cap: Option<u32>,
    /// /proc/sys/kernel/unprivileged_bpf_disabled: 0 allows some types of programs to everybody.
    unprivileged_disabled: Option<String>,
    /// /proc/sys/kernel/perf_event_paranoid.
    paranoid: Option<i32>,
    /// As [`crate::lsm::lockdown`] has it.
    lockdown: Option<String>,
    /// Whether root here is root of a user namespace only, whose capabilities do not count for BPF.
    is_inner: bool,
    /// Bytes that may be locked; none where there is no limit.
    memlock: Option<u64>,
}

/// What to do about a refusal, as far as it can be told.
pub(crate) fn hint() -> Option<String> {
    Means::now()?.hint()
}

/// What takes a capability that is none of BPF's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Other {
    /// What CAP_BPF and CAP_PERFMON did not take over: numbers of programs, maps and types.
    Administration,
    /// Mappings and memory of a process of somebody else (PTRACE_MODE_READ in ptrace(2)).
    Process,
    /// A file that is not for everybody.
    File,
}

/// What to do about a refusal of that.
pub(crate) fn other_hint(other: Other) -> Option<String> {
    let means = Means::now()?;
    let (cap, text) = match other {
        Other::Administration => (CAP_SYS_ADMIN, "it takes root: CAP_SYS_ADMIN"),
        Other::Process => (CAP_SYS_PTRACE, "it takes root, or CAP_SYS_PTRACE"),
        Other::File => (CAP_DAC_READ_SEARCH, "it takes root, or CAP_DAC_READ_SEARCH"),
    };
    if means.has(cap) { means.hint() } else { Some(text.to_owned()) }
}

/// Why this process is not shown the kernel's addresses: kallsyms_show_value in kernel/ksyms_common.c.
pub(crate) fn addresses() -> String {
    let restrict = setting("/proc/sys/kernel/kptr_restrict");
    let paranoid = setting("/proc/sys/kernel/perf_event_paranoid");
    hidden_addresses(restrict.as_deref(), paranoid.as_deref(), Means::now().is_some_and(|means| means.has(CAP_SYSLOG)))
}

fn hidden_addresses(restrict: Option<&str>, paranoid: Option<&str>, may_syslog: bool) -> String {
    match (restrict, paranoid) {
        (Some("1"), _) if !may_syslog => "it takes CAP_SYSLOG, as kernel.kptr_restrict is 1".to_owned(),
        (Some("0"), Some(level)) if !may_syslog => {
            format!("it takes CAP_SYSLOG, as kernel.perf_event_paranoid is {level}")
        }
        (Some(level), _) if level != "0" && level != "1" => {
            format!("kernel.kptr_restrict is {level}, which hides addresses from everybody")
        }
        _ => "the kernel hides its addresses from this process".to_owned(),
    }
}

fn setting(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Whether nothing else would work either: whoever has the two capabilities may be refused perf events and load programs that
/// need none.
pub(crate) fn is_final() -> bool {
    Means::now().is_some_and(|means| means.is_final())
}

impl Means {
    fn now() -> Option<Self> {
        let read = setting;
        let status = read("/proc/self/status")?;
        let caps = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        let limits = read("/proc/self/limits").unwrap_or_default();
        let memlock = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
        Some(Self {
            caps: u64::from_str_radix(caps.trim(), 16).ok()?,
            version: kernel::version(),
            last_cap: read("/proc/sys/kernel/cap_last_cap").and_then(|cap| cap.parse().ok()),
            unprivileged_disabled: read("/proc/sys/kernel/unprivileged_bpf_disabled"),
            paranoid: read("/proc/sys/kernel/perf_event_paranoid").and_then(|level| level.parse().ok()),
            lockdown: crate::lsm::lockdown(true),
            is_inner: read("/proc/self/uid_map").is_some_and(|map| !covers_all(&map)),
            memlock: memlock.and_then(|line| line.split_whitespace().next()?.parse().ok()),
        })
    }

    fn has(&self, cap: u32) -> bool {
        self.caps >> cap & 1 != 0
    }

    fn is_final(&self) -> bool {
        let is_half_root = !self.has(CAP_SYS_ADMIN) && self.has(CAP_BPF) && self.has(CAP_PERFMON);
        !is_half_root && self.hint().is_some()
    }

    fn memlock_hint(&self) -> Option<String> {
        self.memlock.map(|bytes| {
            format!(
                "before Linux 5.11 maps and programs are locked memory, of which {bytes} bytes are allowed: ulimit -l"
            )
        })
    }

    fn hint(&self) -> Option<String> {
        let charges_memory = self.version.is_none_or(|version| version >= Version::new(5, 11));
        if self.has(CAP_SYS_ADMIN) {
            return match &self.lockdown {
                _ if self.is_inner => Some(
                    "this process is root of a user namespace only, whose capabilities do not count for BPF".to_owned(),
                ),
                Some(mode) if mode != "none" => {
                    Some(format!("the kernel is locked down for {mode}: /sys/kernel/security/lockdown"))
                }
                _ if !charges_memory => self.memlock_hint(),
                _ => None,
            };
        }
        if self.last_cap.is_some_and(|last| last < CAP_BPF) {
            return Some("it takes root: before Linux 5.8 CAP_SYS_ADMIN, which this process lacks".to_owned());
        }
        let missing: Vec<&str> = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")]
            .into_iter()
            .filter_map(|(cap, name)| (!self.has(cap)).then_some(name))
            .collect();
        match (missing.as_slice(), &self.unprivileged_disabled, self.paranoid) {
            // Debian and Ubuntu have a level that mainline does not have, and heed no CAP_PERFMON there.
            ([], _, Some(level @ 3..)) => {
                Some(format!("kernel.perf_event_paranoid is {level}, which leaves perf events to CAP_SYS_ADMIN"))
            }
            ([], ..) if !charges_memory => self.memlock_hint(),
            ([], ..) => None,
            (missing, Some(level), _) if level != "0" => Some(format!(
                "it takes root, or {}; kernel.unprivileged_bpf_disabled is {level}",
                missing.join(" and ")
            )),
            (missing, ..) => Some(format!("it takes root, or {}", missing.join(" and "))),
        }
    }
}

/// Whether a table of user numbers is that of the machine, where each number stands for itself.
fn covers_all(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: u64 = (1 << 41) - 1;

    fn means(caps: u64, minor: u16) -> Means {
        let last_cap = Some(if minor < 8 { 37 } else { 40 });
        Means { caps, version: Some(Version::new(5, minor)), last_cap, ..Means::default() }
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_else() {
        let unprivileged = Means { unprivileged_disabled: Some("2".to_owned()), ..means(0, 10) };
        assert_eq!(
            unprivileged.hint().unwrap(),
            "it takes root, or CAP_BPF and CAP_PERFMON; kernel.unprivileged_bpf_disabled is 2"
        );
        let half = Means { unprivileged_disabled: Some("0".to_owned()), ..means(1 << CAP_BPF, 10) };
        assert_eq!(half.hint().unwrap(), "it takes root, or CAP_PERFMON");
        // The two were split off CAP_SYS_ADMIN by Linux 5.8.
        let both = 1 << CAP_BPF | 1 << CAP_PERFMON;
        assert!(means(both, 4).hint().unwrap().contains("CAP_SYS_ADMIN"));
        // As RHEL 8's 4.18 has them.
        assert_eq!(Means { last_cap: Some(40), ..means(both, 4) }.hint(), None);
    }

    #[test]
    fn a_refusal_of_those_who_have_the_capabilities_has_other_reasons() {
        assert_eq!(means(ROOT, 11).hint(), None);
        let limited = Means { memlock: Some(65536), ..means(ROOT, 10) };
        assert!(limited.hint().unwrap().contains("65536 bytes are allowed: ulimit -l"));
        assert_eq!(Means { memlock: Some(65536), ..means(ROOT, 11) }.hint(), None);
        assert_eq!(means(ROOT, 4).hint(), None);
        let locked = Means { lockdown: Some("confidentiality".to_owned()), ..means(ROOT, 15) };
        assert!(locked.hint().unwrap().contains("locked down for confidentiality"));
        assert_eq!(Means { lockdown: Some("none".to_owned()), ..means(ROOT, 15) }.hint(), None);
        assert!(Means { is_inner: true, ..means(ROOT, 15) }.hint().unwrap().contains("user namespace"));
        let debian = Means { paranoid: Some(3), ..means(1 << CAP_BPF | 1 << CAP_PERFMON, 10) };
        assert!(debian.hint().unwrap().contains("perf_event_paranoid is 3"));
        let half_limited = Means { memlock: Some(65536), ..means(1 << CAP_BPF | 1 << CAP_PERFMON, 10) };
        assert!(half_limited.hint().unwrap().contains("ulimit -l"));
        // It may still use fentry and raw tracepoints, which are no perf events.
        assert!(!debian.is_final());
        assert!(limited.is_final() && locked.is_final() && !means(ROOT, 15).is_final());
    }

    #[test]
    fn what_hides_addresses_is_named() {
        assert!(hidden_addresses(Some("2"), Some("1"), true).contains("kptr_restrict is 2"));
        assert!(hidden_addresses(Some("1"), Some("1"), false).contains("CAP_SYSLOG, as kernel.kptr_restrict is 1"));
        assert!(
            hidden_addresses(Some("0"), Some("2"), false).contains("CAP_SYSLOG, as kernel.perf_event_paranoid is 2")
        );
        // As in a user namespace, whose capabilities do not count.
        assert!(hidden_addresses(Some("1"), Some("2"), true).contains("hides its addresses"));
        assert!(hidden_addresses(None, None, false).contains("hides its addresses"));
    }

    #[test]
    fn the_kernels_tables_are_read() {
        assert!(covers_all("         0          0 4294967295"));
        assert!(!covers_all("         0       1000          1"));
        assert!(Means::now().is_some());
    }
}
