//! Memory that is shared with the kernel.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Mmap, MmapOptions, MmapRaw};

use super::process::page_size;

/// Maps a file of the kernel's, such as its types.
pub(crate) fn map_file(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or_default();
    // The kernel takes private mappings only (btf_sysfs_vmlinux_mmap in kernel/bpf/sysfs_btf.c).
    // SAFETY: the kernel never changes its own types, and nobody else can write to or cut a file of sysfs.
    unsafe { MmapOptions::new().len(length).map_copy_read_only(&file) }
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
        let memory = MmapOptions::new().len(size + page).map_raw(event)?;
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
