//! One exec, as the programs hand it over.

use crate::escape;
use crate::event::Bytes;

// What a program works on, in a map's value. The two pointers are the system call's own and are not sent; the event begins
// after them, and ends where its strings do.
pub const FILENAME: i32 = 0;
pub const ARGV: i32 = 8;
/// Bytes of the two pointers.
pub const POINTERS: u32 = 16;
pub const EVENT: i32 = 16;
pub const PID: i32 = EVENT;
pub const PPID: i32 = EVENT + 4;
pub const COMM: i32 = EVENT + 8;
pub const UID: i32 = EVENT + 24;
pub const RET: i32 = EVENT + 28;
/// A bit for each string that could not be read: the name is bit 0, `argv[0]` bit 1 and so on.
pub const HOLES: i32 = EVENT + 32;
/// How many elements of argv follow, holes included.
pub const COUNT: i32 = EVENT + 40;
/// Bytes of all strings, with their NULs.
pub const USED: i32 = EVENT + 44;
/// Where the walk over argv ended, as [`End`].
pub const END: i32 = EVENT + 48;
/// Whether an interpreter was run for the file: 0 or 1, and 2 where no program could tell.
pub const SCRIPT: i32 = EVENT + 52;
pub const MNTNS: i32 = EVENT + 56;
/// Where the name is among the strings.
pub const NAME: i32 = EVENT + 60;
pub const STRINGS: i32 = EVENT + 64;
/// Bytes of an event before its strings.
pub const HEADER: u32 = 64;

/// The most bytes of an argument that are shown.
const SHOWN: usize = 128;
/// The most bytes of a string that a program copies: one more than is shown, which tells that there are more, and a NUL.
pub const STRING: u32 = 130;

/// The most arguments that can be asked for. What a program copies of argv is that and two elements more, and each has its bit
/// in [`HOLES`].
pub const MOST_ARGS: u32 = 60;

/// What is in [`PPID`] where no program could tell.
pub const NO_PPID: u32 = u32::MAX;

/// Where a walk over argv ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// After as many elements as are copied; there are more.
    Limit,
    /// At its end.
    Null,
    /// At a part that could not be read: nobody knows how many follow.
    Unreadable,
}

impl End {
    /// The number that programs write.
    pub const fn code(self) -> i32 {
        match self {
            Self::Limit => 0,
            Self::Null => 1,
            Self::Unreadable => 2,
        }
    }

    fn of(code: u32) -> Option<Self> {
        [Self::Limit, Self::Null, Self::Unreadable].into_iter().find(|end| end.code().unsigned_abs() == code)
    }
}

/// A string of at most 128 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Its bytes, or the first of them.
    pub bytes: Vec<u8>,
    /// Whether it is longer than that.
    pub is_cut: bool,
}

impl Arg {
    /// The whole string, or as many whole characters of it as are shown.
    pub fn new(bytes: &[u8]) -> Self {
        let Some((shown, _)) = bytes.split_at_checked(SHOWN).filter(|(_, rest)| !rest.is_empty()) else {
            return Self { bytes: bytes.to_vec(), is_cut: false };
        };
        // What is no text at all is cut where it is; of a character that was cut through nothing is left.
        let end = match std::str::from_utf8(shown) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => shown.len(),
        };
        Self { bytes: shown[..end].to_vec(), is_cut: true }
    }
}

/// An exec. A string is none where it could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Process.
    pub pid: u32,
    /// Its parent, where that is known.
    pub ppid: Option<u32>,
    /// Its name, after the exec if that succeeded.
    pub comm: Vec<u8>,
    /// Its user.
    pub uid: u32,
    /// 0, or the negative number of an error.
    pub ret: i32,
    /// The inode number of its mount namespace, where that was asked for and is known.
    pub mntns: Option<u32>,
    /// What was to be run.
    pub name: Option<Arg>,
    /// The argument vector: the new program's own (`is_image`), else the one that was asked for.
    pub argv: Vec<Option<Arg>>,
    /// What follows that.
    pub end: End,
    /// Whether an interpreter was run for the file, so that the new program's argv begins with it. None where that is not known.
    pub is_script: Option<bool>,
    /// Whether argv is the new program's.
    pub is_image: bool,
}

impl Event {
    /// Reads what a program sent. `is_image` tells where it read argv.
    pub fn parse(bytes: &[u8], is_image: bool) -> Option<Self> {
        let mut bytes = Bytes(bytes);
        let (pid, ppid) = (bytes.u32()?, bytes.u32()?);
        let comm = bytes.comm()?;
        let uid = bytes.u32()?;
        let ret = i32::from_ne_bytes(bytes.array()?);
        let holes = bytes.u64()?;
        let (count, used) = (bytes.u32()?, usize::try_from(bytes.u32()?).ok()?);
        if count > MOST_ARGS + 2 {
            return None;
        }
        let end = End::of(bytes.u32()?)?;
        let is_script = match bytes.u32()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        };
        let (mntns, name_at) = (bytes.u32()?, usize::try_from(bytes.u32()?).ok()?);
        let strings = bytes.take(used)?;
        let is_hole = |bit: u32| holes.checked_shr(bit).unwrap_or_default() & 1 != 0;
        let name = if is_hole(0) { None } else { Some(Arg::new(escape::comm(strings.get(name_at..)?))) };
        let mut rest = strings;
        let mut argv = Vec::new();
        for bit in 1..=count {
            argv.push(if is_hole(bit) {
                None
            } else {
                let length = rest.iter().position(|&byte| byte == 0)?;
                let (string, next) = rest.split_at(length);
                rest = &next[1..];
                Some(Arg::new(string))
            });
        }
        Some(Self {
            pid,
            ppid: (ppid != NO_PPID).then_some(ppid),
            comm,
            uid,
            ret,
            mntns: (mntns != 0).then_some(mntns),
            name,
            argv,
            end,
            is_script,
            is_image,
        })
    }

    /// Whether something could not be read.
    pub fn has_holes(&self) -> bool {
        self.name.is_none() || self.end == End::Unreadable || self.argv.contains(&None)
    }

    /// What is shown: the file, and the arguments but `argv[0]`; at most this many. Whether there are more.
    ///
    /// The argv of a script's interpreter is `INTERPRETER [OPTION] FILE ARGUMENT..`, and that of an interpreter which is a
    /// script itself begins with its own. All that is left out, as it was not asked for.
    pub fn arguments(&self, most: usize) -> (Vec<Option<&Arg>>, bool) {
        let is_name = |arg: &Option<Arg>| arg.is_some() && *arg == self.name;
        let file = self.argv.iter().skip(1).position(is_name);
        let first = match (self.is_script.filter(|_| self.is_image), file) {
            (Some(true), Some(file)) => file + 2,
            // An interpreter that is given no file, as by binfmt_misc: its own argv tells more than nothing.
            (Some(true), None) => 0,
            // Few programs that are not scripts have another name for themselves and are given their file.
            (None, Some(file)) if file < 10 && self.is_image && !self.argv.first().is_some_and(is_name) => file + 2,
            _ => 1,
        };
        let rest = self.argv.get(first..).unwrap_or_default();
        let mut all: Vec<Option<&Arg>> = vec![self.name.as_ref()];
        all.extend(rest.iter().map(Option::as_ref));
        if self.end == End::Unreadable {
            all.push(None);
        }
        let more = all.len() > most || self.end != End::Null;
        all.truncate(most);
        (all, more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of an event with this name after these elements of argv.
    fn bytes(argv: &[&[u8]], name: &[u8], holes: u64, end: u32, script: u32) -> Vec<u8> {
        let strings: Vec<u8> = argv.iter().flat_map(|arg| [arg, &b"\0"[..]].concat()).collect();
        let name_at = u32::try_from(strings.len()).unwrap();
        let strings = [&strings, name, b"\0"].concat();
        let count = u32::try_from(argv.len()).unwrap() + holes.count_ones();
        let used = u32::try_from(strings.len()).unwrap();
        let numbers = [count, used, end, script, 0, name_at].map(u32::to_ne_bytes).concat();
        let head = [[7_u32, NO_PPID].map(u32::to_ne_bytes).concat(), b"comm\0 any old thi".to_vec()].concat();
        [&head[..24], &5_u32.to_ne_bytes(), &(-2_i32).to_ne_bytes(), &holes.to_ne_bytes(), &numbers, &strings, &[0; 5]]
            .concat()
    }

    fn shown(event: &Event, most: usize) -> (Vec<String>, bool) {
        let (shown, more) = event.arguments(most);
        let text =
            |arg: Option<&Arg>| arg.map_or("?".to_owned(), |arg| String::from_utf8_lossy(&arg.bytes).into_owned());
        (shown.into_iter().map(text).collect(), more)
    }

    #[test]
    fn what_a_program_sent_is_read() {
        let event = Event::parse(&bytes(&[b"ls", b"", b"-l"], b"/bin/ls", 0, 1, 0), true).unwrap();
        assert_eq!((event.pid, event.ppid, event.uid, event.ret), (7, None, 5, -2));
        assert_eq!(event.comm, b"comm");
        assert_eq!(shown(&event, 20), (vec!["/bin/ls".to_owned(), String::new(), "-l".to_owned()], false));
        assert_eq!(shown(&event, 2), (vec!["/bin/ls".to_owned(), String::new()], true));
        assert!(!event.has_holes());
    }

    #[test]
    fn holes_keep_their_places() {
        // argv[1] could not be read, and left no bytes.
        let event = Event::parse(&bytes(&[b"ls", b"b"], b"/bin/ls", 1 << 2, 1, 0), true).unwrap();
        assert_eq!(shown(&event, 20), (["/bin/ls", "?", "b"].map(str::to_owned).to_vec(), false));
        assert!(event.has_holes());
        let event = Event::parse(&bytes(&[b"ls"], b"/bin/ls", 0, 2, 0), true).unwrap();
        assert_eq!(shown(&event, 20), (["/bin/ls", "?"].map(str::to_owned).to_vec(), true));
    }

    #[test]
    fn a_script_is_shown_as_it_was_asked_for() {
        let argv: [&[u8]; 6] = [b"/usr/bin/env", b"-S", b"/bin/sh", b"./x.sh", b"a", b"./x.sh"];
        let event = Event::parse(&bytes(&argv, b"./x.sh", 0, 1, 1), true).unwrap();
        assert_eq!(shown(&event, 20), (["./x.sh", "a", "./x.sh"].map(str::to_owned).to_vec(), false));
        // The same words of one that is no script.
        let event = Event::parse(&bytes(&argv, b"./x.sh", 0, 1, 0), true).unwrap();
        assert_eq!(shown(&event, 20).0.len(), 6);
        // Nobody knows, but it looks like one; and one that does not.
        let event = Event::parse(&bytes(&argv, b"./x.sh", 0, 1, 2), true).unwrap();
        assert_eq!(shown(&event, 20).0, ["./x.sh", "a", "./x.sh"]);
        let event = Event::parse(&bytes(&[b"sh", b"a"], b"/bin/sh", 0, 1, 2), true).unwrap();
        assert_eq!(shown(&event, 20).0, ["/bin/sh", "a"]);
        // Nothing says where the file is.
        let event = Event::parse(&bytes(&[b"wine", b"C:\\x"], b"./x.exe", 0, 1, 1), true).unwrap();
        assert_eq!(shown(&event, 20).0, ["./x.exe", "wine", "C:\\x"]);
    }

    #[test]
    fn a_string_is_cut_between_characters_after_128_bytes() {
        assert_eq!(Arg::new(&[b'a'; 128]), Arg { bytes: vec![b'a'; 128], is_cut: false });
        assert_eq!(Arg::new(&[b'a'; 129]), Arg { bytes: vec![b'a'; 128], is_cut: true });
        let text = "é".repeat(65);
        assert_eq!(Arg::new(&text.as_bytes()[..129]).bytes.len(), 128);
        assert_eq!(Arg::new(format!("x{text}").as_bytes()).bytes.len(), 127);
        assert_eq!(Arg::new(&[0xff; 129]).bytes.len(), 128);
    }

    #[test]
    fn no_bytes_whatever_do_harm() {
        let good = bytes(&[b"ls", b"-l"], b"/bin/ls", 0, 1, 0);
        for end in 0..good.len() {
            let _ = Event::parse(&good[..end], true);
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                if let Some(event) = Event::parse(&bad, true) {
                    let _ = event.arguments(20);
                }
            }
        }
    }
}
