//! /proc/kallsyms: which functions the kernel has.

use std::fs::File;
use std::io::{BufRead, BufReader};

use crate::Error;

/// What the list says of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Symbol {
    /// Where it is, once for each function of that name; 0 where the kernel hides it.
    pub addresses: Vec<u64>,
    /// Copies that the compiler made of it or of parts of it, such as `name.isra.0`.
    pub variants: Vec<String>,
}

/// Looks a function up.
///
/// # Errors
/// When the list cannot be read.
pub(crate) fn find(name: &str) -> Result<Symbol, Error> {
    let file = File::open("/proc/kallsyms").map_err(|error| Error::io("cannot open /proc/kallsyms", error))?;
    search(BufReader::with_capacity(1 << 16, file), name)
        .map_err(|error| Error::io("cannot read /proc/kallsyms", error))
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
    let cannot = |what: &str| format!("cannot {what} /proc/kallsyms");
    let file = File::open("/proc/kallsyms").map_err(|error| Error::io(cannot("open"), error))?;
    // The kernel writes a page of it at a time, and those that are asked for come soon.
    begins(BufReader::new(file), prefix).map_err(|error| Error::io(cannot("read"), error))
}

pub(crate) fn begins(mut list: impl BufRead, prefix: &str) -> std::io::Result<Option<bool>> {
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
pub(crate) fn search(mut list: impl BufRead, name: &str) -> std::io::Result<Symbol> {
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

/// The list as it was at one time, to name addresses by.
#[derive(Clone, Debug, Default)]
pub struct Symbols(pub(crate) Vec<u8>);

impl Symbols {
    /// Reads the list.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read() -> Result<Self, Error> {
        std::fs::read("/proc/kallsyms").map(Self).map_err(|error| Error::io("cannot read /proc/kallsyms", error))
    }

    /// The functions, one after the other.
    fn functions(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.0.split(|&byte| byte == b'\n').filter_map(parse)
    }

    /// Where the kernel counts helpers from; none where addresses are hidden.
    pub(crate) fn call_base(&self) -> Option<u64> {
        let base = self.functions().find(|(_, name)| *name == b"__bpf_call_base");
        base.map(|(address, _)| address).filter(|&address| address != 0)
    }

    /// The functions that begin at these addresses, as far as the list has them, by address.
    pub fn names(&self, addresses: &[u64]) -> Vec<(u64, String)> {
        let mut sorted = addresses.to_vec();
        sorted.sort_unstable();
        let known = |&(address, _): &(u64, &[u8])| sorted.binary_search(&address).is_ok();
        let name = |(address, name): (u64, &[u8])| (address, String::from_utf8_lossy(name).into_owned());
        let mut names: Vec<(u64, String)> = self.functions().filter(known).map(name).collect();
        // Of several names for one place, the first that the list has.
        names.sort_by_key(|&(address, _)| address);
        names.dedup_by_key(|&mut (address, _)| address);
        names
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

    #[test]
    fn addresses_are_named_by_the_function_that_begins_there() {
        let symbols = Symbols(
            [LIST, b"ffffffff81000060 T __bpf_call_base\nffffffffc0000000 t bpf_prog_6deef7357e7b4530\t[bpf]\n"]
                .concat(),
        );
        assert_eq!(symbols.call_base(), Some(0xffff_ffff_8100_0060));
        let names = symbols.names(&[0xffff_ffff_8100_0010, 0xffff_ffff_8100_0020, 0xffff_ffff_c000_0000, 1]);
        let names: Vec<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
        // What is at 20 is data, and nothing is at 1.
        assert_eq!(names, ["tcp_close", "bpf_prog_6deef7357e7b4530"]);
        assert_eq!(Symbols(b"0000000000000000 T __bpf_call_base\n".to_vec()).call_base(), None);
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
