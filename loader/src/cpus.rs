//! Which CPUs there are.

use crate::Error;

/// The CPUs that may ever be there: the length of a per-CPU value.
///
/// # Errors
/// When the kernel's list cannot be read.
pub fn possible() -> Result<Vec<u32>, Error> {
    read("/sys/devices/system/cpu/possible")
}

/// The CPUs that run now.
///
/// # Errors
/// When the kernel's list cannot be read.
pub fn online() -> Result<Vec<u32>, Error> {
    read("/sys/devices/system/cpu/online")
}

fn read(path: &str) -> Result<Vec<u32>, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(format!("cannot read {path}"), error))?;
    parse(text.trim()).ok_or_else(|| Error::Format { path: path.to_owned(), found: text.chars().take(80).collect() })
}

/// `0-3,8`, in order. More CPUs than Linux can have are no list.
pub(crate) fn parse(text: &str) -> Option<Vec<u32>> {
    const MOST: u32 = 1 << 16;
    let mut cpus = Vec::new();
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST || cpus.last().is_some_and(|&before| before >= first) {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_ranges_are_read_and_garbage_is_not() {
        assert_eq!(parse("0-1,4,6-7"), Some(vec![0, 1, 4, 6, 7]));
        assert_eq!(parse("0"), Some(vec![0]));
        for garbage in ["", "x", "3-1", "0-4294967295", "0,,1", "-", "3,1", "0-3,3", "0-65535,0-65535"] {
            assert_eq!(parse(garbage), None, "{garbage}");
        }
    }
}
