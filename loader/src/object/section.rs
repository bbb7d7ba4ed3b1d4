//! What libbpf calls the section of a program, from which it learns the program's type and where it is attached.

use crate::prog::Attach;

impl Attach {
    /// The section's name. For a function of another program, `onto` is what that is called in the object.
    ///
    /// Uprobes that are named by an offset in a file have no more than their type: libbpf finds functions by name, and leaves
    /// other places to `bpf_program__attach_uprobe_opts`. So it is with ticks, whose events the caller opens. What belongs to
    /// another program is loaded on demand (`?`), as it must first be given that program: `bpf_program__set_attach_target`.
    pub(crate) fn section(&self, onto: &str) -> String {
        match self {
            Self::None => "socket".to_owned(),
            Self::Kprobe { symbol, offset: 0 } => format!("kprobe/{symbol}"),
            Self::Kprobe { symbol, offset } => format!("kprobe/{symbol}+{offset}"),
            Self::Kretprobe { symbol } => format!("kretprobe/{symbol}"),
            Self::Uprobe { path, offset: 0 } if is_function(path) => format!("uprobe/{}", path.display()),
            Self::Uretprobe { path, offset: 0 } if is_function(path) => format!("uretprobe/{}", path.display()),
            Self::Uprobe { .. } | Self::Usdt { .. } => "uprobe".to_owned(),
            Self::Uretprobe { .. } => "uretprobe".to_owned(),
            Self::Tracepoint { category, name } => format!("tracepoint/{category}/{name}"),
            Self::RawTracepoint { name } => format!("raw_tracepoint/{name}"),
            Self::Fentry { func } => format!("fentry/{func}"),
            Self::Fexit { func } => format!("fexit/{func}"),
            Self::FmodRet { func } => format!("fmod_ret/{func}"),
            Self::FentryProg(_) => format!("?fentry/{onto}"),
            Self::FexitProg(_) => format!("?fexit/{onto}"),
            Self::Freplace(_) => format!("?freplace/{onto}"),
            Self::Lsm { hook } => format!("lsm/{hook}"),
            Self::TpBtf { name } => format!("tp_btf/{name}"),
            Self::PerfEvent { .. } => "perf_event".to_owned(),
        }
    }
}

/// Whether a path goes on with a function's name, as in `libc.so.6:getaddrinfo`.
fn is_function(path: &std::path::Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.contains(':'))
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
}
