//! kprobes and uprobes: by the PMU that perf has for them (Linux 4.17), else by text in tracefs.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::attach::Attach;
use crate::error::Tried;
use crate::feature::Feature;
use crate::link::Link;
use crate::prog::{Prog, Tasks};
use crate::sys::perf;
use crate::target::Target;
use crate::tracefs::TextProbe;
use crate::{Error, kallsyms};

/// A PMU as sysfs describes it: its number, and the bit of `config` that asks for returns.
pub(super) fn pmu(name: &str) -> Result<(u32, u64), Error> {
    let read = |file: &str| -> Result<(String, String), Error> {
        let path = format!("/sys/bus/event_source/devices/{name}/{file}");
        let text = std::fs::read_to_string(&path).map_err(|error| Error::io(format!("cannot read {path}"), error))?;
        Ok((text.trim().to_owned(), path))
    };
    let (kind, path) = read("type")?;
    let kind = kind.parse().map_err(|_| Error::Format { path, found: kind })?;
    let (format, path) = read("format/retprobe")?;
    let bit: Option<u32> = format.strip_prefix("config:").and_then(|bit| bit.parse().ok());
    let mask = bit.and_then(|bit| 1_u64.checked_shl(bit));
    Ok((kind, mask.ok_or(Error::Format { path, found: format })?))
}

/// Lets the program run at an event.
fn connect(prog: &Prog, event: OwnedFd) -> Result<OwnedFd, Error> {
    let what = |what: &str| format!("cannot {what} the program `{}`", prog.spec.name);
    perf::set_bpf(event.as_fd(), prog.as_fd()).map_err(|error| Error::privileged(what("connect"), error))?;
    perf::enable(event.as_fd()).map_err(|error| Error::privileged(what("start"), error))?;
    Ok(event)
}

/// At a kernel function.
pub(super) fn kernel(prog: Prog, target: &Target, at: &Attach, symbol: &str, offset: u64) -> Result<Link, Error> {
    let at_return = at.is_return();
    target.remove_stale_probes();
    let mut tried = Tried::new();
    if target.has(Feature::KprobePmu) {
        match by_pmu(symbol, offset, at_return).and_then(|event| connect(&prog, event)) {
            Ok(event) => return Ok(Link::new(prog, vec![event], "perf PMU kprobe", tried)),
            Err(error) if error.is_permission() => return Err(error),
            Err(error) => tried.push(super::entry("perf PMU kprobe", &error)),
        }
    } else {
        tried.push(("perf PMU kprobe".to_owned(), "the kernel has none".to_owned()));
    }
    let by_name = if offset == 0 { symbol.to_owned() } else { format!("{symbol}+{offset}") };
    let event = text_event(&prog, target, at, Tasks::All, &by_name).or_else(|error| {
        // The list of functions tells best what is wrong: a missing one is ENOENT or, from Linux 6.11 on, EINVAL, as much else is.
        // It is long, so it is not read before something is wrong.
        match kallsyms::require(symbol)?.addresses.as_slice() {
            // From Linux 6.6 on a name that several functions have is refused; the first of them is meant.
            [first, _, ..] if *first != 0 => {
                text_event(&prog, target, at, Tasks::All, &format!("{:#x}", first.saturating_add(offset)))
            }
            _ => Err(error),
        }
    });
    match event {
        Err(error @ Error::NoSymbol { .. }) => Err(error),
        event => linked(prog, at, event, tried),
    }
}

fn by_pmu(symbol: &str, offset: u64, at_return: bool) -> Result<OwnedFd, Error> {
    let (kind, return_mask) = pmu("kprobe")?;
    let config = if at_return { return_mask } else { 0 };
    let what = format!("cannot probe {symbol}");
    let name = CString::new(symbol).map_err(|error| Error::io(&what, error.into()))?;
    let result = match perf::probe(kind, config, &name, offset, Tasks::All) {
        // From Linux 6.6 on a name that several functions have is refused; the first of them is meant.
        Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {
            match kallsyms::find(symbol)?.addresses.first() {
                Some(&address) if address != 0 => perf::probe_address(kind, config, address.saturating_add(offset)),
                _ => Err(error),
            }
        }
        result => result,
    };
    result.map_err(|error| Error::privileged(what, error))
}

/// A place in a file.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub path: &'a Path,
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Bytes from the start of the file to a counter that the kernel raises meanwhile.
    pub semaphore: Option<u64>,
}

/// At a place in a file.
pub(super) fn user(prog: Prog, target: &Target, at: &Attach, tasks: Tasks, place: Place<'_>) -> Result<Link, Error> {
    target.remove_stale_probes();
    let Place { path, offset, semaphore } = place;
    let mut tried = Tried::new();
    if target.has(Feature::UprobePmu) {
        let event = pmu("uprobe").and_then(|(kind, return_mask)| {
            let what = format!("cannot probe {}+{offset:#x}", path.display());
            let name =
                CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| Error::io(&what, error.into()))?;
            let config = if at.is_return() { return_mask } else { 0 };
            let config = config | semaphore.map_or(Ok(0), semaphore_config)?;
            perf::probe(kind, config, &name, offset, tasks).map_err(|error| Error::privileged(what, error))
        });
        match event.and_then(|event| connect(&prog, event)) {
            Ok(event) => return Ok(Link::new(prog, vec![event], "perf PMU uprobe", tried)),
            Err(error) if error.is_permission() => return Err(error),
            Err(error) => tried.push(super::entry("perf PMU uprobe", &error)),
        }
    } else {
        tried.push(("perf PMU uprobe".to_owned(), "the kernel has none".to_owned()));
    }
    let (plain, _open) = plain_path(path)?;
    let semaphore = semaphore.map_or(String::new(), |offset| format!("({offset:#x})"));
    let event = text_event(&prog, target, at, tasks, &format!("{plain}:{offset:#x}{semaphore}"));
    linked(prog, at, event, tried)
}

/// Whether the kernel says that it has no function of this name, when it is asked to probe it: much sooner than by its list. What
/// else it may say tells nothing.
pub fn lacks_function(symbol: &str) -> bool {
    let Ok(name) = CString::new(symbol) else { return true };
    let is_missing = |error: std::io::Error| error.raw_os_error() == Some(libc::ENOENT);
    pmu("kprobe").is_ok_and(|(kind, _)| perf::probe(kind, 0, &name, 0, Tasks::All).is_err_and(is_missing))
}

/// Whether this thread may attach to places in files through the PMU. The kernel looks at the path after that: at `/` there is no
/// code.
pub(crate) fn may_probe_files() -> bool {
    let refused = |error: std::io::Error| matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES));
    pmu("uprobe").is_ok_and(|(kind, _)| !perf::probe(kind, 0, c"/", 0, Tasks::All).is_err_and(refused))
}

/// Where `config` has the offset of a semaphore, which is of 32 bits: `config:32-63`.
fn semaphore_config(offset: u64) -> Result<u64, Error> {
    let path = "/sys/bus/event_source/devices/uprobe/format/ref_ctr_offset";
    let format = std::fs::read_to_string(path).map_err(|error| Error::io(format!("cannot read {path}"), error))?;
    let bits = format.trim().strip_prefix("config:").and_then(|bits| bits.split_once('-'));
    let shift = bits.and_then(|(first, _)| first.parse().ok()).filter(|&shift: &u32| shift < u64::BITS);
    let shift = shift.ok_or_else(|| Error::Format { path: path.to_owned(), found: format.trim().to_owned() })?;
    let config = offset << shift;
    let why = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "that is more than the kernel takes");
    let is_whole = config >> shift == offset;
    is_whole.then_some(config).ok_or_else(|| Error::io(format!("cannot count in a semaphore at {offset:#x}"), why()))
}

/// A path that the text of uprobe_events can hold: it is divided at white space, ends at `#`, and gives `:` and `(` a meaning.
/// Any other file is named by a descriptor, which lives as long as the second value.
fn plain_path(path: &Path) -> Result<(String, Option<File>), Error> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._+-,@=%~".contains(c);
    if let Some(text) = path.to_str()
        && text.chars().all(is_plain)
    {
        return Ok((text.to_owned(), None));
    }
    let file = File::options().read(true).custom_flags(libc::O_PATH).open(path);
    let file = file.map_err(|error| Error::privileged(format!("cannot open {}", path.display()), error))?;
    Ok((format!("/proc/self/fd/{}", file.as_raw_fd()), Some(file)))
}

/// The kind of a probe that is set by text, and how that is told.
fn text_kind(at: &Attach) -> (&'static str, &'static str) {
    if at.is_user() { ("uprobe", "tracefs uprobe_events") } else { ("kprobe", "tracefs kprobe_events") }
}

/// Has the program run at a place that is given to tracefs as text.
fn text_event(
    prog: &Prog,
    target: &Target,
    at: &Attach,
    tasks: Tasks,
    place: &str,
) -> Result<(OwnedFd, TextProbe), Error> {
    let tracefs = target.tracefs()?;
    target.require(if at.is_user() { Feature::UprobeTracefs } else { Feature::KprobeTracefs })?;
    let text = tracefs.set_probe(text_kind(at).0, at.is_return(), place)?;
    let event = perf::tracepoint(text.id(tracefs)?, tasks, 0);
    let event = event.map_err(|error| Error::privileged(format!("cannot open the event of {place}"), error))?;
    Ok((connect(prog, event)?, text))
}

fn linked(
    prog: Prog,
    at: &Attach,
    event: Result<(OwnedFd, TextProbe), Error>,
    mut tried: Tried,
) -> Result<Link, Error> {
    let how = text_kind(at).1;
    match event {
        Ok((event, text)) => Ok(Link::new(prog, vec![event], how, tried).with_text(text)),
        Err(error) => {
            tried.push(super::entry(how, &error));
            Err(super::failed(at, tried))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_text_cannot_hold_is_named_by_a_descriptor() {
        assert!(
            matches!(plain_path(Path::new("/usr/lib/libc-2.31.so")), Ok((path, None)) if path == "/usr/lib/libc-2.31.so")
        );
        let directory = std::env::temp_dir().join(format!("bpfkit plain:#({})\n", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let (text, open) = plain_path(&directory).unwrap();
        let found = std::fs::canonicalize(&text).unwrap();
        std::fs::remove_dir(&directory).unwrap();
        assert!(open.is_some() && found == directory, "{text}");
        assert!(plain_path(Path::new("/no such file")).unwrap_err().to_string().contains("/no such file"));
    }
}
