//! A door for tests and fuzzers to what reads bytes from outside: no promise is made of it, and nobody else should come in.

use crate::attach::own_memory;
use crate::kallsyms::{Symbols, begins, search};
use crate::loaded::{LoadedCode, answered};
use crate::ring::{Event, Merge};
use crate::sys::map::RingMap;
use crate::tracefs::Format;
use crate::{Error, cpus, kernel, lsm, mapped, trace_pipe, tracefs};

/// What comes out of the ring of a CPU that holds these bytes, from position `from` of the reader on, in order of time. `pages` is
/// how large the ring is.
///
/// # Panics
/// Where no memory can be mapped.
pub fn ring(bytes: &[u8], from: u64, pages: usize, mut on_event: impl FnMut(Event<'_>)) -> usize {
    let ring = RingMap::holding(bytes, from, pages).expect("memory for a ring");
    let mut merge = Merge::default();
    merge.take(0, &ring, &mut |count| on_event(Event::Lost { cpu: 0, count }));
    // A second look finds nothing, as the reader has told that it was here.
    merge.take(0, &ring, &mut |_| panic!("the ring was read before"));
    merge.hand_over(u64::MAX, &mut on_event)
}

/// The addresses and the variants of a function in a list such as /proc/kallsyms.
///
/// # Panics
/// Never: reading from memory does not fail.
pub fn kallsyms_find(list: &[u8], name: &str) -> (Vec<u64>, Vec<String>) {
    let symbol = search(list, name).expect("memory can be read");
    (symbol.addresses, symbol.variants)
}

/// Whether such a list has functions whose names begin so; nothing where it is empty.
///
/// # Panics
/// Never: reading from memory does not fail.
pub fn kallsyms_has(list: &[u8], prefix: &str) -> Option<bool> {
    begins(list, prefix).expect("memory can be read")
}

/// Such a list to name addresses by.
pub fn symbols(list: &[u8]) -> Symbols {
    Symbols::new(list.to_vec(), None)
}

/// The layout of a tracepoint's record, of its file `format`.
pub fn format(text: &str) -> Option<Format> {
    Format::parse(text)
}

/// What else is read of tracefs: a table of mounts, our own probes in a list of them, what programs print.
pub fn tracefs(text: &str) -> usize {
    let found = tracefs::find(text).map_or(0, |path| path.as_os_str().len());
    found + text.lines().map(|line| tracefs::ours(line).map_or(0, str::len)).sum::<usize>() + printed(text)
}

/// How many lines of a text are ones that programs printed.
fn printed(text: &str) -> usize {
    text.lines().filter_map(trace_pipe::parse).map(|printed| 1 + printed.text.len()).sum()
}

/// A list of CPUs such as `0-3,8`.
pub fn cpus(text: &str) -> Option<Vec<u32>> {
    cpus::parse(text)
}

/// How long the paths are of the files that a process has mapped to run them, by its table of mappings; and where it may write what a
/// file has at `offset`.
///
/// # Panics
/// Never: reading from memory does not fail.
pub fn maps(table: &[u8], offset: u64) -> (usize, Vec<u64>) {
    let text = String::from_utf8_lossy(table);
    let places = text.lines().filter_map(|line| own_memory(line, offset)).collect();
    let files = mapped::parse(1, table, |_| true).expect("memory can be read");
    (files.iter().map(|file| file.path.as_os_str().len()).sum(), places)
}

/// The version in the vDSO's note, and from the text of `uname -r`.
pub fn versions(bytes: &[u8]) -> (Option<u32>, Option<u32>) {
    (kernel::note(bytes), kernel::code(&String::from_utf8_lossy(bytes)))
}

/// The word in brackets of a file such as `lockdown`.
pub fn chosen(text: &str) -> Option<&str> {
    lsm::chosen(text)
}

/// What is made of the kernel's answer about a loaded program, of which these bytes are the numbers, the lists, the types and
/// the list of symbols.
///
/// # Errors
/// None: the list of symbols is in memory.
pub fn loaded(bytes: &[u8]) -> Result<LoadedCode, Error> {
    answered(bytes)
}
