//! What libbpf calls the section of a program, from which it learns the program's type and where it is attached.

use std::path::Path;

use crate::prog::Attach;

impl Attach {
    /// The section's name. For a function of another program, `onto` is what that is called in the object.
    ///
    /// Uprobes that are named by an offset in a file have no more than their type: libbpf finds functions by name, and leaves
    /// other places to `bpf_program__attach_uprobe_opts`. So it is with ticks, whose events the caller opens. What belongs to
    /// another program is loaded on demand (`?`), as it must first be given that program: `bpf_program__set_attach_target`.
    pub(crate) fn section(&self, onto: &str) -> String {
        let (kind, place) = match self {
            Self::None => ("socket", ""),
            Self::Trial { kind, .. } => (kind.name().unwrap_or("socket"), ""),
            Self::Kprobe { symbol, .. } => ("kprobe", symbol.as_str()),
            Self::Kretprobe { symbol } => ("kretprobe", symbol.as_str()),
            Self::Uprobe { path, offset } => ("uprobe", function(path, *offset)),
            Self::Uretprobe { path, offset } => ("uretprobe", function(path, *offset)),
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
}

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
}
