//! Memory that is shared with the kernel.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bpfkit_btf::Source;
use memmap2::{Advice, Mmap, MmapOptions, MmapRaw};

use super::process::page_size;
use super::{call, done};

/// Maps a file of sysfs, such as the kernel's types. What else may have been mounted in its place is no file to be mapped: who cuts it
/// meanwhile would kill this process.
pub(crate) fn map_file(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    if file_system(&file)? != libc::SYSFS_MAGIC {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let length = usize::try_from(file.metadata()?.len()).unwrap_or_default();
    // The kernel takes private mappings only (btf_sysfs_vmlinux_mmap in kernel/bpf/sysfs_btf.c).
    // SAFETY: it is a file of sysfs, which nobody can write to or cut, and the kernel never changes its own types.
    call("mmap", || unsafe { MmapOptions::new().len(length).map_copy_read_only(&file) })
}

/// What kind of file system a file is in.
fn file_system(file: &File) -> io::Result<libc::c_long> {
    let mut found = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the descriptor is open, and there is room for the structure that the kernel writes.
    call("fstatfs", || done(unsafe { libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) }))?;
    // SAFETY: the kernel has filled it.
    Ok(unsafe { found.assume_init() }.f_type)
}

/// A file that does not change, of which those pages are read that are asked for.
#[derive(Debug)]
pub(crate) struct PagedFile {
    file: File,
    memory: MmapRaw,
    size: usize,
    /// The size of a page is two to the power of this: bytes are asked for so often that it must not be asked for each time.
    shift: u32,
    /// Which pages were read.
    read: Vec<AtomicBool>,
    /// Held while one is read.
    reading: Mutex<()>,
}

impl PagedFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = usize::try_from(file.metadata()?.len()).unwrap_or_default();
        let memory = call("mmap", || MmapOptions::new().len(size.max(1)).map_anon())?;
        // A huge page would take as much memory as half of the file. A kernel that has none refuses the advice, and Miri has no such call.
        if !cfg!(miri) {
            let _ = memory.advise(Advice::NoHugePage);
        }
        let page = page_size();
        let read = std::iter::repeat_with(AtomicBool::default).take(size.div_ceil(page)).collect();
        let shift = page.trailing_zeros();
        Ok(Self { file, memory: memory.into(), size, shift, read, reading: Mutex::default() })
    }

    /// Reads a page, unless somebody else has.
    fn fill(&self, number: usize) -> Option<()> {
        let _alone = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if self.read[number].load(Ordering::Relaxed) {
            return Some(());
        }
        let at = number << self.shift;
        let length = (1 << self.shift).min(self.size - at);
        // SAFETY: the page, or as much of it as the file has, is within the mapping, which lives as long as `self`. Nobody else has
        // it: it is handed out only after it is marked as read, and until then the lock is held.
        let room = unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().add(at), length) };
        self.file.read_exact_at(room, u64::try_from(at).ok()?).ok()?;
        self.read[number].store(true, Ordering::Release);
        Some(())
    }
}

impl Source for PagedFile {
    fn size(&self) -> usize {
        self.size
    }

    fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        let length = range.end.checked_sub(range.start).filter(|_| range.end <= self.size)?;
        if length != 0 {
            let last = (range.end - 1) >> self.shift;
            let mut number = range.start >> self.shift;
            while number <= last {
                // The Acquire pairs with the Release of who has read it.
                if !self.read[number].load(Ordering::Acquire) {
                    self.fill(number)?;
                }
                number += 1;
            }
        }
        // SAFETY: the range is within the mapping, and its pages were read, so that nobody writes to them any more.
        Some(unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(range.start), length) })
    }
}

/// Where `struct perf_event_mmap_page` of include/uapi/linux/perf_event.h has the kernel's and the reader's position.
const HEAD: usize = 1024;
const TAIL: usize = 1032;

/// A perf ring: a page of positions, then a power of two of pages of records.
#[derive(Debug)]
pub(crate) struct RingMap {
    memory: MmapRaw,
    page: usize,
    size: usize,
}

impl RingMap {
    /// Maps the ring of an event. `pages` is a power of two.
    pub(crate) fn new(event: &OwnedFd, pages: usize) -> io::Result<Self> {
        let page = page_size();
        let size = pages.checked_mul(page).ok_or(io::Error::from_raw_os_error(libc::EINVAL))?;
        let memory = call("mmap", || MmapOptions::new().len(size + page).map_raw(event))?;
        Ok(Self { memory, page, size })
    }

    /// A ring that no kernel writes to: it holds these bytes, as many as fit, and the reader is at position `from`.
    pub(crate) fn holding(bytes: &[u8], from: u64, pages: usize) -> io::Result<Self> {
        let page = page_size();
        let size = pages.checked_next_power_of_two().and_then(|pages| pages.checked_mul(page));
        let size = size.ok_or(io::Error::from_raw_os_error(libc::EINVAL))?;
        let mut memory = MmapOptions::new().len(size + page).map_anon()?;
        let bytes = &bytes[..bytes.len().min(size)];
        let start = usize::try_from(from % (size as u64)).unwrap_or_default();
        let (first, second) = bytes.split_at(bytes.len().min(size - start));
        memory[page + start..][..first.len()].copy_from_slice(first);
        memory[page..][..second.len()].copy_from_slice(second);
        let ring = Self { memory: MmapRaw::from(memory), page, size };
        ring.set_tail(from);
        ring.position(HEAD).store(from.wrapping_add(bytes.len() as u64), Ordering::Release);
        Ok(ring)
    }

    fn position(&self, at: usize) -> &AtomicU64 {
        // SAFETY: the first page is mapped as long as `self` lives, and the place is aligned, as a page is. The kernel writes
        // it by single stores, which an atomic may share.
        unsafe { AtomicU64::from_ptr(self.memory.as_mut_ptr().add(at).cast()) }
    }

    /// How far the kernel has written. What is before it can be read: the Acquire pairs with the kernel's barrier before it
    /// stores the position.
    pub(crate) fn head(&self) -> u64 {
        self.position(HEAD).load(Ordering::Acquire)
    }

    /// How far the reader has read. Only this process writes it.
    pub(crate) fn tail(&self) -> u64 {
        self.position(TAIL).load(Ordering::Relaxed)
    }

    /// Whether so much of it is full that a record may have found no room, which has 64 KiB at most.
    pub(crate) fn is_crowded(&self) -> bool {
        let used = usize::try_from(self.head().wrapping_sub(self.tail())).unwrap_or(usize::MAX);
        used > 0 && self.size.saturating_sub(used) < (self.size / 2).max(1 << 16)
    }

    /// Lets the kernel overwrite what is before `tail`: the Release keeps our reads before it.
    pub(crate) fn set_tail(&self, tail: u64) {
        self.position(TAIL).store(tail, Ordering::Release);
    }

    /// Appends the bytes from one position up to another, at most as many as the ring holds, in order.
    pub(crate) fn copy(&self, from: u64, to: u64, out: &mut Vec<u8>) {
        let length = usize::try_from(to.wrapping_sub(from)).unwrap_or(usize::MAX).min(self.size);
        // The size is a power of two, so the remainder is right after the position has wrapped, too.
        let start = usize::try_from(from % (self.size as u64)).unwrap_or_default();
        let first = length.min(self.size - start);
        // SAFETY: the records begin after the first page, and `start + first` and `length - first` are within their size. The
        // kernel writes only beyond `head` until `set_tail` lets it, and the caller passes positions between the two, so
        // nobody writes these bytes while they are copied.
        unsafe {
            let data = self.memory.as_ptr().add(self.page);
            out.extend_from_slice(std::slice::from_raw_parts(data.add(start), first));
            out.extend_from_slice(std::slice::from_raw_parts(data, length - first));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ring: &RingMap) -> Vec<u8> {
        let mut out = Vec::new();
        ring.copy(ring.tail(), ring.head(), &mut out);
        out
    }

    #[test]
    fn bytes_come_out_in_order_wherever_they_begin() {
        let bytes: Vec<u8> = (0..100).collect();
        for from in [0, 1, 4095, 4096 - 50, 4096 * 7 + 4000, u64::MAX - 30] {
            let ring = RingMap::holding(&bytes, from, 1).unwrap();
            assert_eq!((ring.tail(), ring.head()), (from, from.wrapping_add(100)));
            assert_eq!(read(&ring), bytes, "{from}");
            ring.set_tail(ring.head());
            assert!(read(&ring).is_empty());
        }
    }

    #[test]
    fn a_ring_is_crowded_where_the_largest_record_may_not_fit() {
        let held = |bytes: usize, pages| RingMap::holding(&vec![0; bytes], 0, pages).unwrap().is_crowded();
        assert!(!held(100 << 10, 64) && held(160 << 10, 64), "half of 256 KiB");
        assert!(!held(60 << 10, 32) && held(65 << 10, 32), "64 KiB of 128");
        assert!(held(1, 4) && !held(0, 4), "a small one with anything in it");
        assert!(held(4096, 1));
    }

    /// Asked for in any order, across pages and up to the end, which is within one.
    #[test]
    fn of_a_file_those_pages_are_read_that_are_asked_for() {
        let page = page_size();
        let bytes: Vec<u8> = (0..page * 9 / 2).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let place = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(place.path(), &bytes).unwrap();
        let file = PagedFile::open(place.path()).unwrap();
        assert_eq!(file.size(), bytes.len());
        let read = || file.read.iter().filter(|is_read| is_read.load(Ordering::Relaxed)).count();
        let first = file.bytes(page * 4..bytes.len()).unwrap();
        for (range, pages) in
            [(3..3, 1), (5..7, 2), (0..page, 2), (page - 1..page + 1, 3), (1..page * 2, 3), (0..bytes.len(), 5)]
        {
            assert_eq!(file.bytes(range.clone()).unwrap(), &bytes[range.clone()], "{range:?}");
            assert_eq!(read(), pages, "{range:?}");
        }
        assert_eq!(first, &bytes[page * 4..]);
        let beyond = bytes.len() + 1;
        assert!(file.bytes(0..beyond).is_none() && file.bytes(beyond..beyond).is_none());
        // A file that was cut has less than it said.
        let cut = PagedFile::open(place.path()).unwrap();
        std::fs::write(place.path(), &bytes[..page]).unwrap();
        assert!(cut.bytes(0..page).is_some() && cut.bytes(0..page + 1).is_none());
        std::fs::write(place.path(), b"").unwrap();
        assert_eq!(PagedFile::open(place.path()).unwrap().bytes(0..0), Some(&[][..]));
    }

    /// The kernel's positions are believed no further than the ring is long.
    #[test]
    fn positions_that_cannot_be_are_no_harm() {
        let ring = RingMap::holding(&[7; 4096], 0, 1).unwrap();
        for (tail, head) in [(0, u64::MAX), (u64::MAX, 4), (10, 9), (5, 5 + 4097), (0, 1 << 63)] {
            let mut out = Vec::new();
            ring.copy(tail, head, &mut out);
            assert!(out.len() <= 4096 && out.iter().all(|&byte| byte == 7));
        }
    }

    #[test]
    fn only_files_of_sysfs_are_mapped() {
        let other = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(other.path(), [0; 4096]).unwrap();
        assert_eq!(map_file(other.path()).unwrap_err().kind(), io::ErrorKind::Unsupported);
    }

    /// A writer beside the reader, as the kernel is one: it writes what is free, and tells by the position how far it came.
    #[test]
    fn a_writer_and_a_reader_share_the_memory() {
        // Miri walks each byte.
        const RECORDS: u8 = if cfg!(miri) { 12 } else { 40 };
        const RECORD: usize = 700;
        let ring = RingMap::holding(&[], 0, 1).unwrap();
        let size = ring.size as u64;
        let write = |number: u8, at: u64| {
            for byte in 0..RECORD as u64 {
                let place = usize::try_from((at + byte) % size).unwrap();
                // SAFETY: the place is within the ring's records, and the reader, who has told that it is beyond it, does not look
                // at it before the position is stored below.
                unsafe { ring.memory.as_mut_ptr().add(ring.page + place).write(number) };
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut head = 0;
                for number in 0..RECORDS {
                    while head + RECORD as u64 - ring.position(TAIL).load(Ordering::Acquire) > size {
                        std::thread::yield_now();
                    }
                    write(number, head);
                    head += RECORD as u64;
                    ring.position(HEAD).store(head, Ordering::Release);
                }
            });
            let (mut out, mut expected) = (Vec::new(), Vec::new());
            while out.len() < RECORD * usize::from(RECORDS) {
                let head = ring.head();
                ring.copy(ring.tail(), head, &mut out);
                ring.set_tail(head);
                std::thread::yield_now();
            }
            (0..RECORDS).for_each(|number| expected.extend([number; RECORD]));
            assert!(out == expected);
        });
    }
}
