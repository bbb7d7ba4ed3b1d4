//! Files that processes have mapped to run them: programs and libraries, in whatever root directory or mount namespace the
//! process lives, and even after they were deleted or replaced.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::elf::{Elf, FileId};
use crate::privilege::Other;
use crate::sys::process::code_mapping;

/// A file of which a process runs a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedFile {
    /// The process.
    pub pid: u32,
    /// Its path as the kernel shows it: from the root of the reader or of the process. It may have gone, or be another file's now.
    pub path: PathBuf,
    /// Whether the kernel says that it was deleted.
    pub is_deleted: bool,
    /// The mapping, as the kernel writes it: `7f1234560000-7f1234580000`.
    range: String,
    /// The device and the inode of the mapping, which on some file systems (btrfs, overlayfs) are not those of stat(2).
    inode: (u32, u32, u64),
}

/// The processes that there are, but for the kernel's own threads where that can be told at no cost.
///
/// # Errors
/// When /proc cannot be read.
pub fn processes() -> Result<Vec<u32>, Error> {
    let cannot = |error| Error::io("cannot list the processes in /proc", error);
    let pid = |entry: io::Result<fs::DirEntry>| match entry {
        Ok(entry) => Ok(entry.file_name().to_str().and_then(|name| name.parse().ok())),
        Err(error) => Err(cannot(error)),
    };
    fs::read_dir("/proc").map_err(cannot)?.filter_map(|entry| pid(entry).transpose()).collect()
}

/// Whether this thread may open files by the kernel's links to what is mapped: CAP_CHECKPOINT_RESTORE (Linux 5.9) or CAP_SYS_ADMIN.
pub(crate) fn may_open_mapped() -> bool {
    let mut links = fs::read_dir("/proc/self/map_files").into_iter().flatten().flatten();
    links.next().is_some_and(|link| fs::metadata(link.path()).is_ok())
}

impl MappedFile {
    /// The files of which a process runs a part, and whose name (the last part of the path) is `wanted`: each once. A process that
    /// has ended has none.
    ///
    /// # Errors
    /// When the kernel does not let this process look.
    pub fn of(pid: u32, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<Self>, Error> {
        let read = |maps: File| {
            // Text for each mapping is what takes the kernel long.
            query(pid, &maps, &wanted).or_else(|_| parse(pid, BufReader::with_capacity(ROOM, maps), &wanted))
        };
        match File::open(format!("/proc/{pid}/maps")).and_then(read) {
            Err(error) if is_gone(&error) => Ok(Vec::new()),
            files => {
                files.map_err(|error| Error::lacking(Other::Process, format!("cannot read /proc/{pid}/maps"), error))
            }
        }
    }

    /// Opens the very file that is mapped.
    ///
    /// The kernel has a link to it (Linux 4.3), which works for whoever may look at all processes. Else it is looked for at its
    /// path, in this root directory and in that of the process, and has to be the same inode.
    ///
    /// # Errors
    /// When the process has ended meanwhile, and when neither way leads to the file.
    pub fn open(&self) -> Result<Elf, Error> {
        let elf = match Elf::open(map_file(self.pid, &self.range)) {
            Ok(elf) => elf,
            Err(error) => self.open_by_path().map_err(|_| error)?,
        };
        Ok(elf.named(self.to_string()))
    }

    /// Which file [`MappedFile::open`] would open, without opening it.
    pub fn id(&self) -> Option<FileId> {
        let link = fs::metadata(map_file(self.pid, &self.range));
        let id = link.ok().map(|metadata| FileId::of(&metadata));
        id.or_else(|| self.open_by_path().ok().map(|elf| elf.id()))
    }

    fn open_by_path(&self) -> Result<Elf, Error> {
        let mut refused = None;
        let below = self.path.strip_prefix("/").unwrap_or(&self.path);
        for path in [self.path.clone(), Path::new(&format!("/proc/{}/root", self.pid)).join(below)] {
            match Elf::open(&path) {
                Ok(elf) if self.is(elf.id()) => return Ok(elf),
                Ok(_) => refused = None,
                Err(error) => refused = Some(error),
            }
        }
        let replaced = || Error::NotElf { path: self.to_string(), why: "its path is another file's now".to_owned() };
        Err(refused.unwrap_or_else(replaced))
    }

    fn is(&self, id: FileId) -> bool {
        let (major, minor, ino) = self.inode;
        id == FileId { dev: libc::makedev(major, minor), ino }
    }
}

/// The path, and whose it is where others may mean another file by it.
impl std::fmt::Display for MappedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let deleted = if self.is_deleted { ", deleted" } else { "" };
        write!(f, "{} (process {}{deleted})", self.path.display(), self.pid)
    }
}

/// The kernel hands out a page of a table at most. It is not kept: a process may have 65,530 mappings, each with a path of 4 KB.
const ROOM: usize = 16 * 1024;

/// The most files of a process that are told: large programs have some hundred.
const MOST: usize = 4096;

/// The kernel's link to the file that is mapped at a range of `/proc/PID/maps`, where addresses have eight digits at least, as
/// those of a program that is linked for a fixed address; in the link's name they have no zeros in front.
pub(crate) fn map_file(pid: u32, range: &str) -> PathBuf {
    let plain = |text: &str| u64::from_str_radix(text, 16).map_or_else(|_| text.to_owned(), |at| format!("{at:x}"));
    let (start, end) = range.split_once('-').unwrap_or((range, ""));
    PathBuf::from(format!("/proc/{pid}/map_files/{}-{}", plain(start), plain(end)))
}

/// A process that ended while one looked at it.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// Asks for one mapping after the other, code of files alone (Linux 6.11).
fn query(pid: u32, maps: &File, wanted: impl Fn(&[u8]) -> bool) -> io::Result<Vec<MappedFile>> {
    let mut files: Vec<MappedFile> = Vec::new();
    // PATH_MAX; of longer ones the kernel has none to tell.
    let mut room = [0; 4096];
    let mut address = 0;
    while let Some(mapping) = code_mapping(maps.as_fd(), address, &mut room)? {
        let path = room.get(..mapping.path_size).unwrap_or_default();
        if files.iter().all(|known| known.inode != mapping.inode)
            && let Some((path, is_deleted)) = named(path, &wanted)
        {
            let path = PathBuf::from(OsStr::from_bytes(path));
            let range = format!("{:x}-{:x}", mapping.start, mapping.end);
            files.push(MappedFile { pid, path, is_deleted, range, inode: mapping.inode });
        }
        // What ends where it began, or before, would be asked for without end.
        if files.len() >= MOST || mapping.end <= address {
            break;
        }
        address = mapping.end;
    }
    Ok(files)
}

/// A path without the word of its file's deletion, and whether it had that, if its last part is wanted.
fn named(path: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Option<(&[u8], bool)> {
    let (path, is_deleted) = match path.strip_suffix(b" (deleted)") {
        Some(path) => (path, true),
        None => (path, false),
    };
    let slash = path.iter().rposition(|&byte| byte == b'/')?;
    wanted(&path[slash + 1..]).then_some((path, is_deleted))
}

/// Reads lines such as `7f1234560000-7f1234580000 r-xp 00026000 08:01 1234  /usr/lib/libc.so.6 (deleted)`.
pub(crate) fn parse(pid: u32, mut maps: impl BufRead, wanted: impl Fn(&[u8]) -> bool) -> io::Result<Vec<MappedFile>> {
    let mut files: Vec<MappedFile> = Vec::new();
    let mut line = Vec::new();
    while files.len() < MOST && maps.read_until(b'\n', &mut line)? != 0 {
        files.extend(file(pid, &line, &wanted).filter(|file| files.iter().all(|known| known.inode != file.inode)));
        line.clear();
    }
    Ok(files)
}

/// The file of a line, if it is wanted and may be run.
fn file(pid: u32, line: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Option<MappedFile> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    // What is before the path has no slash, so that most lines are dismissed by their last word.
    let (fields, path) = line.split_at(line.iter().position(|&byte| byte == b'/')?);
    let (path, is_deleted) = named(path, wanted)?;
    let (range, inode) = fields_of(fields)?;
    let path = PathBuf::from(OsStr::from_bytes(&unescape(path)));
    Some(MappedFile { pid, path, is_deleted, range, inode })
}

/// Range, device and inode of a mapping that may be run.
fn fields_of(fields: &[u8]) -> Option<(String, (u32, u32, u64))> {
    let mut words = std::str::from_utf8(fields).ok()?.split_ascii_whitespace();
    let (range, rights, device) = (words.next()?, words.next()?, words.nth(1)?);
    let (major, minor) = device.split_once(':')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    let inode = words.next()?.parse().ok()?;
    rights.contains('x').then_some((range.to_owned(), (number(major)?, number(minor)?, inode)))
}

/// The kernel writes a line feed in a path as `\012`, and nothing else that way.
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        let (byte, after) = rest.strip_prefix(b"\\012").map_or((*first, tail), |after| (b'\n', after));
        plain.push(byte);
        rest = after;
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &[u8] = b"\
55d0c0a00000-55d0c0b00000 r-xp 00012000 08:01 1234                       /usr/bin/cat\n\
7f0000000000-7f0000001000 r--p 00000000 fe:0a 77                         /usr/lib/libc.so.6\n\
7f0000001000-7f0000002000 r-xp 00001000 fe:0a 77                         /usr/lib/libc.so.6\n\
7f0000002000-7f0000003000 r-xp 00002000 fe:0a 77                         /usr/lib/libc.so.6\n\
7f0000004000-7f0000005000 r-xp 00000000 00:1f 99                         /odd \\012dir/libc.so.6 (deleted)\n\
7ffc00000000-7ffc00001000 r-xp 00000000 00:00 0                          [vdso]\n";

    fn libc(name: &[u8]) -> bool {
        name == b"libc.so.6"
    }

    #[test]
    fn each_file_is_there_once_by_the_part_that_is_run() {
        let files = parse(7, MAPS, libc).unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!((files[0].range.as_str(), files[0].inode), ("7f0000001000-7f0000002000", (0xfe, 0x0a, 77)));
        assert_eq!(files[0].to_string(), "/usr/lib/libc.so.6 (process 7)");
        assert!(files[0].is(FileId { dev: libc::makedev(0xfe, 0x0a), ino: 77 }));
        assert!(!files[0].is(FileId { dev: libc::makedev(0xfe, 0x0b), ino: 77 }));
        assert_eq!(files[1].path, PathBuf::from("/odd \ndir/libc.so.6"));
        assert!(files[1].is_deleted && !files[0].is_deleted);
    }

    #[test]
    fn a_program_at_a_fixed_address_is_found_by_its_link() {
        assert_eq!(map_file(7, "00400000-00401000"), Path::new("/proc/7/map_files/400000-401000"));
        assert_eq!(map_file(7, "7f0000000000-7f0000001000"), Path::new("/proc/7/map_files/7f0000000000-7f0000001000"));
        assert_eq!(map_file(7, "00000000-00001000"), Path::new("/proc/7/map_files/0-1000"));
    }

    #[test]
    fn lines_that_were_cut_do_no_harm() {
        for end in 0..MAPS.len() {
            let _ = parse(7, &MAPS[..end], |_| true);
        }
        for garbage in
            [&b"/"[..], b"a b c d e /libc.so.6", b"0-1 r-xp 0 zz:zz 1 /libc.so.6", b"\xff-\xff r-xp 0 1:1 1 /libc.so.6"]
        {
            assert_eq!(parse(7, garbage, libc).unwrap(), []);
        }
    }

    #[test]
    fn a_process_that_maps_very_many_files_has_so_many() {
        let line = |inode: u32| format!("7f0000001000-7f0000002000 r-xp 0 1:1 {inode} /{inode}/libc.so.6\n");
        let maps: String = (0..5000).map(line).collect();
        assert_eq!(parse(7, maps.as_bytes(), libc).unwrap().len(), MOST);
    }

    /// The program that runs this test is mapped by it. Both ways to the file lead to the same one.
    #[test]
    fn a_mapped_file_is_found_by_the_kernels_link_and_by_its_path() {
        let exe = fs::read_link("/proc/self/exe").unwrap();
        let name = exe.file_name().unwrap().as_bytes().to_owned();
        let files = MappedFile::of(std::process::id(), |found| found == name).unwrap();
        let [file] = files.as_slice() else { panic!("{files:?}") };
        let id = FileId::of(&fs::metadata("/proc/self/exe").unwrap());
        assert_eq!(file.open_by_path().map(|elf| elf.id()).ok(), Some(id).filter(|&id| file.is(id)));
        // Who may not follow the link has the path.
        assert_eq!(file.open().unwrap().id(), id);
        assert_eq!(file.id(), Some(id));
        let other = MappedFile { inode: (file.inode.0, file.inode.1, file.inode.2 + 1), ..file.clone() };
        assert!(other.open_by_path().unwrap_err().to_string().contains("another file's now"));
    }

    #[test]
    fn what_the_kernel_is_asked_for_is_what_the_table_has() {
        let maps = || File::open("/proc/self/maps").unwrap();
        let asked = match query(7, &maps(), |_| true) {
            Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => {
                eprintln!("skipped: that came with Linux 6.11");
                return;
            }
            asked => asked.unwrap(),
        };
        let read = parse(7, BufReader::new(maps()), |_| true).unwrap();
        let of = |file: &MappedFile| (map_file(7, &file.range), file.path.clone(), file.is_deleted, file.inode);
        assert!(!asked.is_empty());
        assert_eq!(asked.iter().map(of).collect::<Vec<_>>(), read.iter().map(of).collect::<Vec<_>>());
        assert_eq!(query(7, &maps(), |name| name == b"no such").unwrap(), []);
    }

    #[test]
    fn a_process_that_is_not_there_has_mapped_nothing() {
        assert_eq!(MappedFile::of(4_194_303, |_| true).unwrap(), []);
        assert!(processes().unwrap().contains(&std::process::id()));
    }
}
