//! What libbpf calls the section of a program, from which it learns the program's type and where it is attached.

use std::path::Path;

use crate::attach::Attach;
use crate::kind::ProgType;

impl Attach {
    /// The section's name. For a function of another program, `onto` is what that is called in the object.
    ///
    /// Uprobes that are named by an offset in a file have no more than their type: libbpf finds functions by name, and leaves
    /// other places to `bpf_program__attach_uprobe_opts`. So it is with ticks, whose events the caller opens. What belongs to
    /// another program is loaded on demand (`?`), as it must first be given that program: `bpf_program__set_attach_target`.
    pub(crate) fn section(&self, onto: &str) -> String {
        let (kind, place) = match self {
            Self::None => ("socket", ""),
            Self::Trial { kind, expected } => {
                let of_kind = SECTIONS.iter().filter(|(_, known, _)| known == kind);
                let found = of_kind.clone().find(|(.., known)| known == expected).or_else(|| of_kind.clone().next());
                (found.map_or_else(|| kind.name().unwrap_or("unknown"), |(name, ..)| *name), "")
            }
            Self::Kprobe { symbol, .. } => ("kprobe", symbol.as_str()),
            Self::Kretprobe { symbol } => ("kretprobe", symbol.as_str()),
            Self::Uprobe { path, offset } => ("uprobe", function(path, *offset)),
            Self::Uretprobe { path, offset } => ("uretprobe", function(path, *offset)),
            Self::UprobeMulti { at_return: false, .. } => ("uprobe.multi", ""),
            Self::UprobeMulti { at_return: true, .. } => ("uretprobe.multi", ""),
            Self::Usdt { .. } => ("uprobe", ""),
            Self::Tracepoint { category, name } => return ["tracepoint", category, name].join("/"),
            Self::RawTracepoint { name } => ("raw_tracepoint", name.as_str()),
            Self::Fentry { func } => ("fentry", func.as_str()),
            Self::Fexit { func } => ("fexit", func.as_str()),
            Self::FmodRet { func } => ("fmod_ret", func.as_str()),
            Self::FentryProg(_) => ("?fentry", onto),
            Self::FexitProg(_) => ("?fexit", onto),
            Self::Freplace(_) => ("?freplace", onto),
            Self::Lsm { hook } => ("lsm", hook.as_str()),
            Self::TpBtf { name } => ("tp_btf", name.as_str()),
            Self::PerfEvent { .. } => ("perf_event", ""),
        };
        let mut section = kind.to_owned();
        if !place.is_empty() {
            section = [kind, place].join("/");
        }
        if let Self::Kprobe { offset: offset @ 1.., .. } = self {
            section.push_str(&format!("+{offset}"));
        }
        section
    }

    /// Where the programs of a section belong, by its name as libbpf reads it.
    pub fn of_section(name: &str) -> Option<Self> {
        let (kind, place) = name.split_once('/').unwrap_or((name, ""));
        let whole = || (!place.is_empty() && !place.contains(['/', '*', '?', ' '])).then(|| place.to_owned());
        let attach = match kind {
            "kprobe" => whole().and_then(|place| match place.split_once('+') {
                Some((symbol, offset)) => {
                    Some(Self::Kprobe { symbol: symbol.to_owned(), offset: offset.parse().ok()? })
                }
                None => Some(Self::Kprobe { symbol: place, offset: 0 }),
            }),
            "kretprobe" => whole().map(|symbol| Self::Kretprobe { symbol }),
            "tracepoint" | "tp" => place
                .split_once('/')
                .map(|(category, name)| Self::Tracepoint { category: category.to_owned(), name: name.to_owned() }),
            "raw_tracepoint" | "raw_tp" => whole().map(|name| Self::RawTracepoint { name }),
            "fentry" => whole().map(|func| Self::Fentry { func }),
            "fexit" => whole().map(|func| Self::Fexit { func }),
            "fmod_ret" => whole().map(|func| Self::FmodRet { func }),
            "lsm" => whole().map(|hook| Self::Lsm { hook }),
            "tp_btf" => whole().map(|name| Self::TpBtf { name }),
            _ => None,
        };
        attach.or_else(|| {
            let is = |known: &str| {
                name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '_']))
            };
            let found = SECTIONS.iter().rev().find(|(known, ..)| is(known));
            found.map(|&(_, kind, expected)| Self::Trial { kind, expected })
        })
    }
}

/// Sections whose programs are of a type, and verified for an attach type, wherever they are attached: a part of the table in
/// Documentation/bpf/libbpf/program_types.rst. What comes later is more special.
const SECTIONS: [(&str, ProgType, u32); 42] = [
    ("socket", ProgType::SOCKET_FILTER, 0),
    ("kprobe", ProgType::KPROBE, 0),
    ("kretprobe", ProgType::KPROBE, 0),
    ("uprobe", ProgType::KPROBE, 0),
    ("uretprobe", ProgType::KPROBE, 0),
    ("usdt", ProgType::KPROBE, 0),
    ("tc", ProgType::SCHED_CLS, 0),
    ("tcx", ProgType::SCHED_CLS, 0),
    ("classifier", ProgType::SCHED_CLS, 0),
    ("action", ProgType::SCHED_ACT, 0),
    ("tracepoint", ProgType::TRACEPOINT, 0),
    ("tp", ProgType::TRACEPOINT, 0),
    ("raw_tracepoint", ProgType::RAW_TRACEPOINT, 0),
    ("raw_tp", ProgType::RAW_TRACEPOINT, 0),
    ("raw_tracepoint.w", ProgType::RAW_TRACEPOINT_WRITABLE, 0),
    ("raw_tp.w", ProgType::RAW_TRACEPOINT_WRITABLE, 0),
    ("xdp", ProgType::XDP, 37),
    ("perf_event", ProgType::PERF_EVENT, 0),
    ("lwt_in", ProgType::LWT_IN, 0),
    ("lwt_out", ProgType::LWT_OUT, 0),
    ("lwt_xmit", ProgType::LWT_XMIT, 0),
    ("lwt_seg6local", ProgType::LWT_SEG6LOCAL, 0),
    ("sockops", ProgType::SOCK_OPS, 3),
    ("sk_skb", ProgType::SK_SKB, 0),
    ("sk_msg", ProgType::SK_MSG, 7),
    ("lirc_mode2", ProgType::LIRC_MODE2, 11),
    ("flow_dissector", ProgType::FLOW_DISSECTOR, 17),
    ("cgroup_skb/ingress", ProgType::CGROUP_SKB, 0),
    ("cgroup_skb/egress", ProgType::CGROUP_SKB, 1),
    ("cgroup/skb", ProgType::CGROUP_SKB, 0),
    ("cgroup/sock", ProgType::CGROUP_SOCK, 2),
    ("cgroup/dev", ProgType::CGROUP_DEVICE, 6),
    ("cgroup/bind4", ProgType::CGROUP_SOCK_ADDR, 8),
    ("cgroup/bind6", ProgType::CGROUP_SOCK_ADDR, 9),
    ("cgroup/connect4", ProgType::CGROUP_SOCK_ADDR, 10),
    ("cgroup/connect6", ProgType::CGROUP_SOCK_ADDR, 11),
    ("cgroup/sendmsg4", ProgType::CGROUP_SOCK_ADDR, 14),
    ("cgroup/sendmsg6", ProgType::CGROUP_SOCK_ADDR, 15),
    ("cgroup/sysctl", ProgType::CGROUP_SYSCTL, 18),
    ("sk_lookup", ProgType::SK_LOOKUP, 36),
    ("syscall", ProgType::SYSCALL, 0),
    ("netfilter", ProgType::NETFILTER, 45),
];

/// A path that goes on with a function's name, as in `libc.so.6:getaddrinfo`; nothing for another.
fn function(path: &Path, offset: u64) -> &str {
    let is_function = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.contains(':'));
    if is_function && offset == 0 { path.to_str().unwrap_or_default() } else { "" }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_uprobe_by_name_is_attached_by_libbpf_and_one_by_offset_is_not() {
        let uprobe = |path: &str, offset| Attach::Uprobe { path: PathBuf::from(path), offset }.section("");
        assert_eq!(uprobe("libc.so.6:getaddrinfo", 0), "uprobe/libc.so.6:getaddrinfo");
        assert_eq!(uprobe("/usr/lib/libc.so.6:getaddrinfo", 0), "uprobe//usr/lib/libc.so.6:getaddrinfo");
        assert_eq!(uprobe("/usr/lib/libc.so.6", 4096), "uprobe");
        assert_eq!(uprobe("/a:b/libc.so.6", 0), "uprobe");
        let path = PathBuf::from("/bin/x");
        let usdt = Attach::Usdt { path, probe: "a:b".to_owned(), offset: 1, semaphore: None };
        assert_eq!(usdt.section(""), "uprobe");
    }

    #[test]
    fn a_place_within_a_function_is_named_by_its_offset() {
        let kprobe = |offset| Attach::Kprobe { symbol: "tcp_close".to_owned(), offset }.section("");
        assert_eq!((kprobe(0).as_str(), kprobe(21).as_str()), ("kprobe/tcp_close", "kprobe/tcp_close+21"));
    }

    #[test]
    fn sections_of_object_files_have_the_places_that_libbpf_gives_them() {
        let lines = |attach: Option<Attach>| attach.map(|attach| attach.to_string());
        for (section, line) in [
            ("kprobe/tcp_connect", "kprobe on tcp_connect"),
            ("tp/sched/sched_switch", "tracepoint sched:sched_switch"),
            ("fexit/tcp_close", "fexit on tcp_close"),
            ("xdp", "nothing (xdp)"),
            ("xdp/frags", "nothing (xdp)"),
            ("xdp_drop", "nothing (xdp)"),
            ("socket", "nothing (socket_filter)"),
            ("cgroup/connect4", "nothing (cgroup_sock_addr)"),
            ("cgroup_skb/egress", "nothing (cgroup_skb)"),
            ("kprobe", "nothing (kprobe)"),
            ("uprobe//bin/sh:main", "nothing (kprobe)"),
            ("tc", "nothing (sched_cls)"),
        ] {
            assert_eq!(lines(Attach::of_section(section)).as_deref(), Some(line), "{section}");
        }
        for unknown in [".text", "", "nothing", "xdpx"] {
            assert_eq!(Attach::of_section(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_type_alone_has_the_section_that_has_it() {
        for section in ["socket", "xdp", "tc", "cgroup/connect6", "cgroup_skb/egress", "syscall"] {
            assert_eq!(Attach::of_section(section).map(|attach| attach.section("")).as_deref(), Some(section));
        }
        assert_eq!(Attach::Trial { kind: ProgType(1000), expected: 0 }.section(""), "unknown");
    }
}
