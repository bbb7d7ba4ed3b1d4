//! Where programs of texts and object files are attached, in the words of the directives and in those of libbpf's sections.

use std::path::PathBuf;

use bpfkit_loader::{Attach, ProgType};

/// The place of `.attach KIND WORDS..`.
///
/// # Errors
/// What is missing or wrong, without a place in the text.
pub fn attach(words: &[String]) -> Result<Attach, String> {
    let [kind, rest @ ..] = words else { return Err("expected a kind of place, such as kprobe".to_owned()) };
    let one = |what: &str| match rest {
        [one] => Ok(one.clone()),
        _ => Err(format!("expected {what} after `{kind}`, and nothing else")),
    };
    let file = || match rest {
        [path, offset] => Ok((PathBuf::from(path), number(offset)?)),
        _ => Err(format!("expected a file and an offset in it after `{kind}`")),
    };
    Ok(match kind.as_str() {
        "kprobe" => {
            let place = one("a function")?;
            let (symbol, offset) = match place.split_once('+') {
                Some((symbol, offset)) => (symbol.to_owned(), number(offset)?),
                None => (place, 0),
            };
            Attach::Kprobe { symbol, offset }
        }
        "kretprobe" => Attach::Kretprobe { symbol: one("a function")? },
        "uprobe" => {
            let (path, offset) = file()?;
            Attach::Uprobe { path, offset }
        }
        "uretprobe" => {
            let (path, offset) = file()?;
            Attach::Uretprobe { path, offset }
        }
        "tracepoint" => {
            let place = one("category:name")?;
            let Some((category, name)) = place.split_once(':') else {
                return Err("expected category:name after `tracepoint`, such as sched:sched_switch".to_owned());
            };
            Attach::Tracepoint { category: category.to_owned(), name: name.to_owned() }
        }
        "raw_tracepoint" => Attach::RawTracepoint { name: one("a tracepoint")? },
        "fentry" => Attach::Fentry { func: one("a function")? },
        "fexit" => Attach::Fexit { func: one("a function")? },
        "fmod_ret" => Attach::FmodRet { func: one("a function")? },
        "lsm" => Attach::Lsm { hook: one("a hook")? },
        "tp_btf" => Attach::TpBtf { name: one("a tracepoint")? },
        "perf_event" => Attach::PerfEvent { hertz: number(&one("ticks a second")?)? },
        _ => return Err(format!("there is no kind of place `{kind}`; there are {}", KINDS.join(", "))),
    })
}

const KINDS: [&str; 12] = [
    "kprobe",
    "kretprobe",
    "uprobe",
    "uretprobe",
    "tracepoint",
    "raw_tracepoint",
    "fentry",
    "fexit",
    "fmod_ret",
    "lsm",
    "tp_btf",
    "perf_event",
];

/// A number, decimal or hexadecimal.
///
/// # Errors
/// What is none.
pub fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("`{text}` is not a number"))
}

/// A type of program that is not attached, of `.type NAME [NUMBER]`; the number is the attach type that it is verified for.
///
/// # Errors
/// As [`attach`].
pub fn trial(words: &[String]) -> Result<Attach, String> {
    let [name, rest @ ..] = words else { return Err("expected a type of program, such as xdp".to_owned()) };
    let Some(kind) = ProgType::from_name(name) else {
        let near = bpfkit_asm::suggest(name, ProgType::ALL.iter().map(|&(_, name, _)| name));
        let help = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
        return Err(format!("there is no type of program `{name}`{help}"));
    };
    let expected = match rest {
        [] => 0,
        [one] => u32::try_from(number(one)?).map_err(|error| error.to_string())?,
        _ => return Err("expected the number of an attach type, and nothing else".to_owned()),
    };
    Ok(Attach::Trial { kind, expected })
}

/// The directive that says the same.
pub fn directive(attach: &Attach) -> Option<String> {
    Some(match attach {
        Attach::Trial { kind, expected: 0 } => format!(".type {}", kind.name()?),
        Attach::Trial { kind, expected } => format!(".type {} {expected}", kind.name()?),
        Attach::Kprobe { symbol, offset: 0 } => format!(".attach kprobe {symbol}"),
        Attach::Kprobe { symbol, offset } => format!(".attach kprobe {symbol}+{offset}"),
        Attach::Kretprobe { symbol } => format!(".attach kretprobe {symbol}"),
        Attach::Tracepoint { category, name } => format!(".attach tracepoint {category}:{name}"),
        Attach::RawTracepoint { name } => format!(".attach raw_tracepoint {name}"),
        Attach::Fentry { func } => format!(".attach fentry {func}"),
        Attach::Fexit { func } => format!(".attach fexit {func}"),
        Attach::FmodRet { func } => format!(".attach fmod_ret {func}"),
        Attach::Lsm { hook } => format!(".attach lsm {hook}"),
        Attach::TpBtf { name } => format!(".attach tp_btf {name}"),
        _ => return None,
    })
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

/// Where the programs of a section belong, by its name as libbpf reads it.
pub fn of_section(name: &str) -> Option<Attach> {
    let (kind, place) = name.split_once('/').unwrap_or((name, ""));
    let whole = || (!place.is_empty() && !place.contains(['/', '*', '?', ' '])).then(|| place.to_owned());
    let attach = match kind {
        "kprobe" => whole().and_then(|place| attach(&[kind.to_owned(), place]).ok()),
        "kretprobe" => whole().map(|symbol| Attach::Kretprobe { symbol }),
        "tracepoint" | "tp" => place
            .split_once('/')
            .map(|(category, name)| Attach::Tracepoint { category: category.to_owned(), name: name.to_owned() }),
        "raw_tracepoint" | "raw_tp" => whole().map(|name| Attach::RawTracepoint { name }),
        "fentry" => whole().map(|func| Attach::Fentry { func }),
        "fexit" => whole().map(|func| Attach::Fexit { func }),
        "fmod_ret" => whole().map(|func| Attach::FmodRet { func }),
        "lsm" => whole().map(|hook| Attach::Lsm { hook }),
        "tp_btf" => whole().map(|name| Attach::TpBtf { name }),
        _ => None,
    };
    attach.or_else(|| {
        let is =
            |known: &str| name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '_']));
        let found = SECTIONS.iter().rev().find(|(known, ..)| is(known));
        found.map(|&(_, kind, expected)| Attach::Trial { kind, expected })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_directive_says_what_was_read() {
        for text in [
            "kprobe tcp_connect",
            "kprobe tcp_connect+4",
            "kretprobe tcp_connect",
            "tracepoint sched:sched_switch",
            "raw_tracepoint sched_switch",
            "fentry tcp_close",
            "fexit tcp_close",
            "fmod_ret security_file_open",
            "lsm file_open",
            "tp_btf sched_switch",
        ] {
            assert_eq!(directive(&attach(&words(text)).unwrap()), Some(format!(".attach {text}")));
        }
        for text in ["xdp 37", "socket_filter"] {
            assert_eq!(directive(&trial(&words(text)).unwrap()), Some(format!(".type {text}")));
        }
        assert_eq!(attach(&words("perf_event 99")), Ok(Attach::PerfEvent { hertz: 99 }));
        let uprobe = |path: &str| Attach::Uprobe { path: PathBuf::from(path), offset: 0x40 };
        assert_eq!(attach(&words("uprobe /bin/sh 0x40")), Ok(uprobe("/bin/sh")));
        assert!(matches!(attach(&words("uretprobe /bin/sh 64")), Ok(Attach::Uretprobe { offset: 64, .. })));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, part) in [
            ("kprobe", "expected a function"),
            ("kprobe a b", "and nothing else"),
            ("kprobe a+b", "`b` is not a number"),
            ("tracepoint sched", "category:name"),
            ("uprobe /bin/sh", "an offset"),
            ("kprob f", "there are kprobe, kretprobe"),
        ] {
            let error = attach(&words(text)).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(trial(&words("xpd")).unwrap_err().contains("did you mean xdp?"));
        assert!(trial(&words("xdp many")).unwrap_err().contains("not a number"));
    }

    #[test]
    fn sections_of_object_files_have_the_places_that_libbpf_gives_them() {
        for (section, line) in [
            ("kprobe/tcp_connect", ".attach kprobe tcp_connect"),
            ("tp/sched/sched_switch", ".attach tracepoint sched:sched_switch"),
            ("fexit/tcp_close", ".attach fexit tcp_close"),
            ("xdp", ".type xdp 37"),
            ("xdp/frags", ".type xdp 37"),
            ("xdp_drop", ".type xdp 37"),
            ("socket", ".type socket_filter"),
            ("cgroup/connect4", ".type cgroup_sock_addr 10"),
            ("cgroup_skb/egress", ".type cgroup_skb 1"),
            ("kprobe", ".type kprobe"),
            ("uprobe//bin/sh:main", ".type kprobe"),
            ("tc", ".type sched_cls"),
        ] {
            assert_eq!(of_section(section).as_ref().and_then(directive).as_deref(), Some(line), "{section}");
        }
        for unknown in [".text", "", "nothing", "xdpx"] {
            assert_eq!(of_section(unknown), None, "{unknown}");
        }
    }
}
