//! The counter that a probe's author looks at to know whether somebody traces, where the kernel does not raise it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::Error;
use crate::elf::FileId;
use crate::mapped::map_file;
use crate::privilege::Other;

/// A semaphore of a process that this raised by one; dropping it lowers it again. A tracer that is killed leaves it raised, and
/// one that changes it at the same moment may be overwritten: for both the kernel's own way was made.
#[derive(Debug)]
pub(crate) struct Semaphore {
    /// This process's memory, even when another gets its number.
    memory: File,
    address: u64,
}

impl Semaphore {
    /// Raises the one that is at this place of a file.
    pub(super) fn raise(pid: u32, path: &Path, offset: u64) -> Result<Self, Error> {
        let failed =
            |error| Error::lacking(Other::Process, format!("cannot raise a semaphore of process {pid}"), error);
        let missing = || io::Error::new(io::ErrorKind::NotFound, "the process has not mapped it where it may write");
        // Before it is asked where in it: should the process become another program meanwhile, or its number another process's, this
        // is still the memory of the one that was there, and no place that it has chosen is written in the other's.
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem")).map_err(failed)?;
        let address = address(pid, path, offset)?.ok_or_else(|| failed(missing()))?;
        let semaphore = Self { memory, address };
        semaphore.change(|count| count.wrapping_add(1)).map_err(failed)?;
        Ok(semaphore)
    }

    fn change(&self, change: impl FnOnce(u16) -> u16) -> io::Result<()> {
        let mut count = [0; 2];
        self.memory.read_exact_at(&mut count, self.address)?;
        self.memory.write_all_at(&change(u16::from_ne_bytes(count)).to_ne_bytes(), self.address)
    }
}

impl Drop for Semaphore {
    fn drop(&mut self) {
        // A process that has ended has none.
        let _ = self.change(|count| count.saturating_sub(1));
    }
}

/// A mapping of a file that the process may write without changing the file.
#[derive(Debug, PartialEq, Eq)]
struct Mapping<'a> {
    /// `55d0c0a00000-55d0c0b00000`, by which /proc/PID/map_files has it.
    range: &'a str,
    start: u64,
    end: u64,
    /// Bytes from the start of the file.
    offset: u64,
}

impl<'a> Mapping<'a> {
    /// `55d0c0a00000-55d0c0b00000 rw-p 00012000 08:01 1234     /usr/bin/cat`
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split(' ');
        let (range, access, offset) = (words.next()?, words.next()?, words.next()?);
        let (start, end) = range.split_once('-')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let mapping = Self { range, start: hex(start)?, end: hex(end)?, offset: hex(offset)? };
        (access == "rw-p" && mapping.start < mapping.end).then_some(mapping)
    }

    /// Where a place of the file is in memory, if it is in this mapping.
    fn address(&self, offset: u64) -> Option<u64> {
        let within = offset.checked_sub(self.offset)?;
        (within < self.end - self.start).then(|| self.start + within)
    }
}

/// Where a place of a file is in memory, if this line of a table of mappings has it where the process may write.
pub(crate) fn own_memory(line: &str, offset: u64) -> Option<u64> {
    Mapping::parse(line)?.address(offset)
}

/// Where a process has a place of a file in memory of its own that it may write.
fn address(pid: u32, path: &Path, offset: u64) -> Result<Option<u64>, Error> {
    let id = |path: &Path| fs::metadata(path).map(|metadata| FileId::of(&metadata));
    let wanted = id(path).map_err(|error| Error::io(format!("cannot look at {}", path.display()), error))?;
    let maps = format!("/proc/{pid}/maps");
    let text = fs::read(&maps).map_err(|error| Error::lacking(Other::Process, format!("cannot read {maps}"), error))?;
    let text = String::from_utf8_lossy(&text);
    let mut found = text
        .lines()
        .filter_map(Mapping::parse)
        .filter_map(|mapping| Some((mapping.address(offset)?, map_file(pid, mapping.range))));
    Ok(found.find(|(_, file)| id(file).is_ok_and(|found| found == wanted)).map(|(address, _)| address))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The descriptor of the memory is asked for before anything is asked about the process, which may be another one by then.
    #[test]
    fn the_memory_is_opened_before_its_mappings_are_read() {
        // No process has this number: what is told is what was asked for first.
        let error = Semaphore::raise(u32::MAX >> 1, Path::new("/none"), 0).map(drop).unwrap_err().to_string();
        assert!(error.starts_with("cannot raise a semaphore of process"), "{error}");
    }

    /// Who writes into what was opened does not write into the program that the process has become meanwhile.
    #[test]
    fn a_process_that_becomes_another_program_is_not_written_to() {
        use std::io::{BufRead as _, BufReader, Write as _};
        use std::process::{Command, Stdio};

        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo first; read line; exec /bin/sh -c 'echo second; read line'"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut says = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut hears = child.stdin.take().unwrap();
        assert_eq!(says.next().as_deref(), Some("first"));
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{}/mem", child.id())).unwrap();
        hears.write_all(b"go\n").unwrap();
        assert_eq!(says.next().as_deref(), Some("second"));
        // The same file may lie at the same address as before: its place is of no use in what was opened.
        let maps = fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
        let address = maps.lines().find_map(Mapping::parse).unwrap().start;
        let refused = Semaphore { memory, address }.change(|count| count.wrapping_add(1));
        drop(hears);
        child.wait().unwrap();
        assert!(refused.is_err(), "the memory of the program that ended was written to");
    }

    #[test]
    fn a_place_of_a_file_is_found_in_the_mapping_that_holds_it() {
        let line = "55d0c0a00000-55d0c0a02000 rw-p 00012000 08:01 1234                       /a dir/with spaces";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!(mapping.address(0x12004), Some(0x55d0_c0a0_0004));
        assert_eq!(mapping.address(0x13fff), Some(0x55d0_c0a0_1fff));
        assert_eq!((mapping.address(0x11fff), mapping.address(0x14000)), (None, None));
        for other in ["r--p", "rw-s", "r-xp", ""] {
            assert_eq!(Mapping::parse(&line.replace("rw-p", other)), None, "{other}");
        }
        assert_eq!(Mapping::parse("2000-1000 rw-p 0 08:01 1 /x"), None);
        for end in 0..line.len() {
            let _ = Mapping::parse(&line[..end]).map(|mapping| mapping.address(u64::MAX));
        }
    }
}
