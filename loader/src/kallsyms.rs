//! /proc/kallsyms: which functions the kernel has.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::ops::ControlFlow;

use crate::Error;

/// What the list says of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Symbol {
    /// Where it is, once for each function of that name; 0 where the kernel hides it.
    pub addresses: Vec<u64>,
    /// Copies that the compiler made of it or of parts of it, such as `name.isra.0`.
    pub variants: Vec<String>,
}

fn open() -> Result<File, Error> {
    File::open("/proc/kallsyms").map_err(|error| Error::io("cannot open /proc/kallsyms", error))
}

fn unread(error: io::Error) -> Error {
    Error::io("cannot read /proc/kallsyms", error)
}

/// Looks a function up.
///
/// # Errors
/// When the list cannot be read.
pub(crate) fn find(name: &str) -> Result<Symbol, Error> {
    search(BufReader::with_capacity(1 << 16, open()?), name).map_err(unread)
}

/// The names under which the running kernel has a function: its own, if it has kept that, and those of copies and parts that the
/// compiler made, such as `name.isra.0` and `name.constprop.0`. Nothing where the list is hidden from this process.
///
/// # Errors
/// When the list cannot be read.
pub fn function_names(name: &str) -> Result<Vec<String>, Error> {
    let symbol = find(name)?;
    let own = (!symbol.addresses.is_empty()).then(|| name.to_owned());
    Ok(own.into_iter().chain(symbol.variants).collect())
}

/// Insists that there is such a function, unless the list is empty, as it is for those who may not see it.
///
/// # Errors
/// That there is none, and what there is instead.
pub(crate) fn require(name: &str) -> Result<Symbol, Error> {
    let symbol = find(name)?;
    if !symbol.addresses.is_empty() {
        return Ok(symbol);
    }
    Err(Error::NoSymbol { symbol: name.to_owned(), variants: symbol.variants })
}

/// Whether the kernel has functions whose names begin in this way; nothing where the list is empty, as it is for those who may not
/// see it. It is read up to the first of them.
///
/// # Errors
/// When the list cannot be read.
pub(crate) fn has_any(prefix: &str) -> Result<Option<bool>, Error> {
    // The kernel writes a page of it at a time, and those that are asked for come soon.
    begins(BufReader::new(open()?), prefix).map_err(unread)
}

pub(crate) fn begins(mut list: impl BufRead, prefix: &str) -> io::Result<Option<bool>> {
    let mut is_empty = true;
    let mut line = Vec::with_capacity(128);
    while list.read_until(b'\n', &mut line)? != 0 {
        if parse(&line).is_some_and(|(_, found)| found.starts_with(prefix.as_bytes())) {
            return Ok(Some(true));
        }
        is_empty = false;
        line.clear();
    }
    Ok((!is_empty).then_some(false))
}

/// Lines are `ffffffff81000000 T name` and, for modules, a tab and `[module]`.
pub(crate) fn search(mut list: impl BufRead, name: &str) -> io::Result<Symbol> {
    let mut symbol = Symbol::default();
    let mut line = Vec::with_capacity(128);
    while list.read_until(b'\n', &mut line)? != 0 {
        let found = parse(&line).filter(|(_, found)| found.starts_with(name.as_bytes()));
        if let Some((address, found)) = found {
            match &found[name.len()..] {
                [] => symbol.addresses.push(address),
                [b'.', ..] => symbol.variants.push(String::from_utf8_lossy(found).into_owned()),
                _ => {}
            }
        }
        line.clear();
    }
    Ok(symbol)
}

/// Functions only: their letter is t, T, w or W.
fn parse(line: &[u8]) -> Option<(u64, &[u8])> {
    let space = line.iter().position(|&byte| byte == b' ')?;
    let [_, b't' | b'T' | b'w' | b'W', b' ', name @ ..] = &line[space..] else { return None };
    let end = name.iter().position(|byte| byte.is_ascii_whitespace()).unwrap_or(name.len());
    let address = std::str::from_utf8(&line[..space]).ok()?;
    Some((u64::from_str_radix(address, 16).ok()?, &name[..end]))
}

/// The name of a key in a list that is sorted by it.
pub(crate) fn find_by<K: Ord + Copy>(names: &[(K, String)], key: K) -> Option<&str> {
    let at = names.binary_search_by_key(&key, |&(key, _)| key).ok()?;
    Some(&names[at].1)
}

/// The list, to name addresses by. It is long, and is read no further than to what is asked for.
#[derive(Debug)]
pub struct Symbols(RefCell<List>);

#[derive(Debug)]
struct List {
    /// What was read.
    text: Vec<u8>,
    /// Where the rest is.
    rest: Option<File>,
}

impl List {
    /// The line that begins there, without its end; none behind the last.
    fn line(&mut self, start: usize) -> io::Result<Option<&[u8]>> {
        // The last line may have no end, behind which the next would begin.
        let mut seen = start.min(self.text.len());
        loop {
            if let Some(length) = self.text[seen..].iter().position(|&byte| byte == b'\n') {
                return Ok(Some(&self.text[start..seen + length]));
            }
            seen = self.text.len();
            let Some(rest) = &mut self.rest else { break };
            if rest.take(1 << 16).read_to_end(&mut self.text)? == 0 {
                self.rest = None;
            }
        }
        Ok((start < seen).then(|| &self.text[start..]))
    }
}

impl Symbols {
    /// Opens the list.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open() -> Result<Self, Error> {
        open().map(|file| Self::new(Vec::new(), Some(file)))
    }

    pub(crate) fn new(text: Vec<u8>, rest: Option<File>) -> Self {
        Self(RefCell::new(List { text, rest }))
    }

    /// Shows the functions, one after the other, until somebody has seen enough.
    fn each(&self, mut shown: impl FnMut(u64, &[u8]) -> ControlFlow<()>) -> Result<(), Error> {
        let mut list = self.0.borrow_mut();
        let mut start = 0;
        while let Some(line) = list.line(start).map_err(unread)? {
            if parse(line).is_some_and(|(address, name)| shown(address, name).is_break()) {
                break;
            }
            start += line.len() + 1;
        }
        Ok(())
    }

    /// Where the kernel counts helpers from; none where addresses are hidden.
    pub(crate) fn call_base(&self) -> Result<Option<u64>, Error> {
        let mut base = None;
        self.each(|address, name| {
            if name != b"__bpf_call_base" {
                return ControlFlow::Continue(());
            }
            base = Some(address).filter(|&address| address != 0);
            ControlFlow::Break(())
        })?;
        Ok(base)
    }

    /// The functions that begin at these addresses, as far as the list has them, by address.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn names(&self, addresses: &[u64]) -> Result<Vec<(u64, String)>, Error> {
        let mut wanted: Vec<(u64, Option<String>)> = addresses.iter().map(|&address| (address, None)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut left = wanted.len();
        if left != 0 {
            self.each(|address, name| {
                if let Ok(at) = wanted.binary_search_by_key(&address, |&(address, _)| address)
                    // Of several names for one place, the first that the list has.
                    && wanted[at].1.is_none()
                {
                    wanted[at].1 = Some(String::from_utf8_lossy(name).into_owned());
                    left -= 1;
                }
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        }
        Ok(wanted.into_iter().filter_map(|(address, name)| Some((address, name?))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[u8] = b"ffffffff81000000 T _stext\nffffffff81000010 t tcp_close\nffffffff81000020 d tcp_close\n\
        ffffffff81000030 t tcp_close\t[mod]\nffffffff81000040 t tcp_close.isra.0\nffffffff81000050 T tcp_close_state\n";

    #[test]
    fn every_function_of_a_name_is_found_and_its_copies_too() {
        let symbol = search(LIST, "tcp_close").unwrap();
        assert_eq!(symbol.addresses, [0xffff_ffff_8100_0010, 0xffff_ffff_8100_0030]);
        assert_eq!(symbol.variants, ["tcp_close.isra.0"]);
        assert_eq!(search(LIST, "tcp").unwrap(), Symbol::default());
    }

    #[test]
    fn functions_are_found_by_how_their_names_begin() {
        assert_eq!(begins(LIST, "tcp_close").unwrap(), Some(true));
        assert_eq!(begins(LIST, "close").unwrap(), Some(false));
        assert_eq!(begins(&b"ffffffff81000020 d tcp_close\n"[..], "tcp").unwrap(), Some(false), "that is data");
        assert_eq!(begins(&b""[..], "tcp").unwrap(), None);
    }

    const MORE: &[u8] = b"ffffffff81000060 T __bpf_call_base\nffffffff81000060 t other\n\
        ffffffffc0000000 t bpf_prog_6deef7357e7b4530\t[bpf]\n";

    #[test]
    fn addresses_are_named_by_the_function_that_begins_there() {
        let symbols = Symbols::new([LIST, MORE].concat(), None);
        assert_eq!(symbols.call_base().unwrap(), Some(0xffff_ffff_8100_0060));
        let named = |addresses: &[u64]| symbols.names(addresses).unwrap();
        // What is at 20 is data, and nothing is at 1.
        let some = [0xffff_ffff_c000_0000, 0xffff_ffff_8100_0010, 0xffff_ffff_8100_0020, 0xffff_ffff_8100_0010, 1];
        let names: Vec<String> = named(&some).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["tcp_close", "bpf_prog_6deef7357e7b4530"]);
        assert_eq!(named(&[0xffff_ffff_8100_0060]), [(0xffff_ffff_8100_0060, "__bpf_call_base".to_owned())]);
        assert_eq!(named(&[]), []);
        let hidden = Symbols::new(b"0000000000000000 T __bpf_call_base".to_vec(), None);
        assert_eq!(hidden.call_base().unwrap(), None);
        assert_eq!(hidden.names(&[1]).unwrap(), [], "the last line has no end");
    }

    #[test]
    fn the_list_is_read_as_far_as_it_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kallsyms");
        let text: Vec<u8> = (1..20_000).flat_map(|at| format!("{at:016x} t at_{at:x}\n").into_bytes()).collect();
        std::fs::write(&path, &text).unwrap();
        let symbols = Symbols::new(Vec::new(), File::open(&path).ok());
        let name = |at: u64| vec![(at, format!("at_{at:x}"))];
        assert_eq!(symbols.names(&[0x10]).unwrap(), name(0x10));
        let read = symbols.0.borrow().text.len();
        assert!(read < text.len() / 4, "{read} of {}", text.len());
        // The first again, and one that comes later; a line may be in two of the parts that are read.
        for at in (1..20_000).rev().step_by(997) {
            assert_eq!(symbols.names(&[at]).unwrap(), name(at));
        }
        assert_eq!(symbols.names(&[20_000, 2]).unwrap(), name(2));
        assert_eq!(symbols.0.borrow().text, text);
    }

    #[test]
    fn garbage_is_passed_over() {
        for end in 0..LIST.len() {
            let _ = search(&LIST[..end], "tcp_close").unwrap();
        }
        assert_eq!(
            search(&b"\xff\xfe t tcp_close\nzz T tcp_close\n\n T\n"[..], "tcp_close").unwrap(),
            Symbol::default()
        );
    }
}
