//! The kernel's tracing directory: where it is, what tracepoints look like, and probes that are set by text.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use bpfkit_btf::{Btf, Kind};

use crate::Error;
use crate::origin::Origin;
use crate::sys::mount;

/// Where it is mounted when it has to be, on kernels that cannot mount it out of sight.
const PLACE: &std::ffi::CStr = c"/sys/kernel/tracing";

/// The tracing directory.
#[derive(Debug)]
pub(crate) struct Tracefs {
    root: PathBuf,
    /// Keeps a mount that is nowhere in the tree.
    _detached: Option<OwnedFd>,
}

impl Tracefs {
    /// Finds where it is mounted, or mounts it for this process alone where that is allowed.
    pub(crate) fn open(may_mount: bool) -> Result<Self, Error> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")
            .map_err(|error| Error::io("cannot read /proc/self/mountinfo", error))?;
        if let Some(root) = find(&mounts) {
            match fs::metadata(root.join("events")) {
                Ok(_) => return Ok(Self { root, _detached: None }),
                // Another mount of it would be no more open.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    return Err(Error::io(format!("{} is for root only", root.display()), error));
                }
                Err(_) => {}
            }
        }
        if !may_mount {
            let what = "tracefs is not mounted (mount -t tracefs tracefs /sys/kernel/tracing)";
            return Err(Error::io(what, ErrorKind::NotFound.into()));
        }
        // Before Linux 5.2 it has to be mounted for all to see. It is taken out of the tree at once, and lives as long as the
        // descriptor: so nothing stays if this process is killed.
        let fd = mount::detached(c"tracefs").or_else(|_| {
            mount::at(c"tracefs", PLACE)?;
            let root = File::options().read(true).custom_flags(libc::O_PATH).open(Path::new("/sys/kernel/tracing"));
            mount::unmount(PLACE)?;
            root.map(OwnedFd::from)
        });
        let fd = fd.map_err(|error| Error::privileged("cannot mount tracefs, which is not mounted", error))?;
        let root = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        Ok(Self { root, _detached: Some(fd) })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn read(&self, name: &str) -> Result<String, Error> {
        let bytes = fs::read(self.path(name))
            .map_err(|error| Error::privileged(format!("cannot read {name} in tracefs"), error))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The layout of a tracepoint's record.
    pub(crate) fn format(&self, category: &str, name: &str) -> Result<Format, Error> {
        let path = format!("events/{category}/{name}/format");
        let text = self.read(&path)?;
        Format::parse(&text).ok_or_else(|| Error::Format { path, found: text.chars().take(80).collect() })
    }

    /// The number by which perf knows a tracepoint.
    pub(crate) fn id(&self, category: &str, name: &str) -> Result<u64, Error> {
        let path = format!("events/{category}/{name}/id");
        let text = self.read(&path)?;
        text.trim().parse().map_err(|_| Error::Format { path, found: text.chars().take(80).collect() })
    }

    /// Sets a probe; it goes when the value is dropped. `kind` is `kprobe` or `uprobe`; `return_probe` tells `r` from `p`.
    pub(crate) fn set_probe(&self, kind: &'static str, return_probe: bool, place: &str) -> Result<TextProbe, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("p{}_{}_{number}", std::process::id(), start_time(std::process::id()).unwrap_or_default());
        let list = self.path(&format!("{kind}_events"));
        let letter = if return_probe { 'r' } else { 'p' };
        let list = append(&list, &format!("{letter}:{GROUP}/{name} {place}\n"))
            .map_err(|error| Error::privileged(format!("cannot write {letter} {place} to {kind}_events"), error))?;
        Ok(TextProbe { list, name })
    }

    /// Removes the probes of processes of this program that were killed.
    pub(crate) fn remove_stale(&self) {
        for kind in ["kprobe_events", "uprobe_events"] {
            let list = self.path(kind);
            let Ok(text) = fs::read_to_string(&list) else { continue };
            for name in text.lines().filter_map(ours) {
                if !is_alive(name) {
                    let _ = append(&list, &format!("-:{GROUP}/{name}\n"));
                }
            }
        }
    }
}

/// The group of our probes.
const GROUP: &str = "bpfkit";

/// Adds a line to a list, which stays open.
fn append(list: &Path, line: &str) -> std::io::Result<File> {
    let mut list = OpenOptions::new().append(true).open(list)?;
    list.write_all(line.as_bytes())?;
    Ok(list)
}

/// The name of one of our probes in a line of kprobe_events: `p:bpfkit/p12_345_0 tcp_close`.
pub(crate) fn ours(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(':')?;
    rest.strip_prefix(GROUP)?.strip_prefix('/')?.split_whitespace().next()
}

/// Whether the process that set the probe still runs: the same number, started at the same time.
fn is_alive(name: &str) -> bool {
    let mut parts = name.trim_start_matches('p').split('_');
    let pid = parts.next().and_then(|pid| pid.parse().ok());
    let started: Option<u64> = parts.next().and_then(|time| time.parse().ok());
    pid.and_then(start_time).is_some_and(|time| Some(time) == started)
}

/// When a process was started, in ticks: the 22nd field of /proc/PID/stat, the 20th after the name in parentheses.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// A probe that was set by text.
#[derive(Debug)]
pub(crate) struct TextProbe {
    /// Open, as a mount that only this process sees may go before the probe does.
    list: File,
    name: String,
}

impl TextProbe {
    /// The number by which perf knows it.
    pub(crate) fn id(&self, tracefs: &Tracefs) -> Result<u64, Error> {
        tracefs.id(GROUP, &self.name)
    }
}

impl Drop for TextProbe {
    fn drop(&mut self) {
        let _ = self.list.write_all(format!("-:{GROUP}/{}\n", self.name).as_bytes());
    }
}

/// The directory in a table of mounts; its own file system is preferred to the one within debugfs.
pub(crate) fn find(mounts: &str) -> Option<PathBuf> {
    let of_kind = |wanted: &str| {
        mounts.lines().find_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let root = before.split(' ').nth(3)?;
            let place = before.split(' ').nth(4)?;
            (after.split(' ').next()? == wanted && root == "/").then(|| PathBuf::from(unescape(place)))
        })
    };
    of_kind("tracefs").or_else(|| of_kind("debugfs").map(|root| root.join("tracing")))
}

/// `\040` stands for a space, and so on.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|code| u8::from_str_radix(code, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

/// The layout of a tracepoint's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    fields: Vec<FormatField>,
    origin: Origin,
}

/// A field of a tracepoint's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatField {
    /// Its name.
    pub name: String,
    /// Bytes from the start of the record.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

impl Format {
    /// Where it came from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&FormatField> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Reads lines such as `field:int newstate; offset:20; size:4; signed:1;`, with tabs between their parts.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut fields = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| line.starts_with("field:")) {
            let mut parts = line.split(';').map(str::trim);
            let declaration = parts.next()?.strip_prefix("field:")?;
            let mut number = |key: &str| parts.next()?.strip_prefix(key)?.strip_prefix(':')?.parse().ok();
            let (offset, size) = (number("offset")?, number("size")?);
            let word = declaration.split(|c: char| c.is_whitespace() || c == '*').rfind(|word| !word.is_empty())?;
            let name = word.split('[').next().filter(|name| !name.is_empty())?.to_owned();
            fields.push(FormatField { name, offset, size });
        }
        (!fields.is_empty()).then_some(Self { fields, origin: Origin::Tracefs })
    }

    /// The record of a tracepoint that has been the same in all of mainline's kernels from 4.18 on.
    pub(crate) fn known(category: &str, name: &str) -> Option<Self> {
        let field = |name: &str, offset| FormatField { name: name.to_owned(), offset, size: 4 };
        // The name's field is where in the record it is, __data_loc.
        let fields = vec![field("filename", 8), field("pid", 12), field("old_pid", 16)];
        ((category, name) == ("sched", "sched_process_exec")).then_some(Self { fields, origin: Origin::Fixed })
    }

    /// The name of the record's type.
    pub(crate) fn record(name: &str) -> String {
        // DEFINE_EVENT of include/trace/events/net.h.
        let class = if name == "netif_receive_skb" { "net_dev_template" } else { name };
        format!("trace_event_raw_{class}")
    }

    /// The record's type, `struct trace_event_raw_NAME`, where the kernel's types have it. Tracepoints that record the same share
    /// one, by the name of their class.
    pub(crate) fn from_btf(btf: &Btf, name: &str) -> Result<Self, Error> {
        let name = Self::record(name);
        let record = btf.find(&name, &[Kind::STRUCT]).ok_or(bpfkit_btf::Error::NoType(name))?;
        let fields = record.members().map(|member| {
            // Where in the record a string is has the name of the string in tracefs.
            Ok(FormatField {
                name: member.name.trim_start_matches("__data_loc_").to_owned(),
                offset: member.bit_offset / 8,
                size: btf.ty(member.ty)?.size()?,
            })
        });
        Ok(Self { fields: fields.collect::<Result<_, bpfkit_btf::Error>>()?, origin: Origin::Types })
    }
}

#[cfg(test)]
mod tests {
    use bpfkit_asm::Version;
    use bpfkit_btf::Builder;

    use super::*;
    use crate::Target;

    const TEXT: &str = "name: x\nID: 5\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
        \tfield:const void * skaddr;\toffset:8;\tsize:8;\tsigned:0;\n\tfield:__u8 saddr[4];\toffset:32;\tsize:4;\tsigned:0;\n";

    #[test]
    fn a_format_is_read() {
        let format = Format::parse(TEXT).unwrap();
        assert_eq!(format.field("skaddr"), Some(&FormatField { name: "skaddr".into(), offset: 8, size: 8 }));
        assert_eq!(format.field("saddr").map(|field| field.offset), Some(32));
        assert_eq!(format.field("daddr"), None);
    }

    /// As kernels with patches for real time have it, and some vendors' of 4.18.
    #[test]
    fn types_that_have_a_record_are_believed_more_than_what_mainline_has() {
        let at = |types: Option<Btf>| {
            let target = Target::offline(types, Version::new(4, 18));
            let format = target.tracepoint("sched", "sched_process_exec").unwrap();
            (format.field("filename").unwrap().offset, format.field("pid").unwrap().offset, format.origin())
        };
        assert_eq!(at(None), (8, 12, Origin::Fixed));
        let mut types = Builder::new();
        let int = types.int("int", 4, true);
        let record = [("__data_loc_filename", int, 16), ("pid", int, 20), ("old_pid", int, 24)];
        assert_eq!(at(Some(Btf::parse(types.finish()).unwrap())), (8, 12, Origin::Fixed), "cut to what has no record");
        types.strukt("trace_event_raw_sched_process_exec", 28, &record);
        assert_eq!(at(Some(Btf::parse(types.finish()).unwrap())), (16, 20, Origin::Types));
    }

    #[test]
    fn garbage_is_no_format_and_does_no_harm() {
        for text in [
            "",
            "field:",
            "field:int x;",
            "field:int x;\toffset:-1;\tsize:4;",
            "field:;\toffset:0;\tsize:1;",
            "field:[4];\toffset:0;\tsize:4;",
        ] {
            assert_eq!(Format::parse(text), None, "{text:?}");
        }
        for end in 0..TEXT.len() {
            let _ = Format::parse(&TEXT[..end]);
        }
    }

    #[test]
    fn the_directory_is_found_where_it_is_mounted() {
        let debugfs = "24 1 0:7 / /sys/kernel/debug rw - debugfs debugfs rw\n";
        let tracefs = "25 1 0:12 / /mnt/with\\040space rw - tracefs tracefs rw\n";
        assert_eq!(find(debugfs), Some(PathBuf::from("/sys/kernel/debug/tracing")));
        assert_eq!(find(&[debugfs, tracefs].concat()), Some(PathBuf::from("/mnt/with space")));
        assert_eq!(find("garbage\n - \n"), None);
    }

    #[test]
    fn probes_of_dead_processes_are_told_from_those_of_live_ones() {
        let pid = std::process::id();
        let started = start_time(pid).unwrap();
        assert!(is_alive(&format!("p{pid}_{started}_0")));
        assert!(!is_alive(&format!("p{pid}_{}_0", started + 1)));
        assert!(!is_alive("p4194303_1_0"));
        assert!(!is_alive("garbage"));
        assert_eq!(ours("r16:bpfkit/p1_2_3 tcp_close"), Some("p1_2_3"));
        assert_eq!(ours("p:other/p1_2_3 tcp_close"), None);
    }
}
