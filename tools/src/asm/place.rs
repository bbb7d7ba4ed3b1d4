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
        assert!(trial(&words("xdpp")).unwrap_err().contains("did you mean xdp?"));
        assert!(trial(&words("xdp many")).unwrap_err().contains("not a number"));
    }
}
