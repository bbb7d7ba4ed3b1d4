//! The strings of a blob.

use std::borrow::Cow;

use super::Btf;

/// The most bytes of a string. The kernel takes names of 511, and lines of source have some hundred. A name may be that of each
/// member of each structure, so that a long one would be looked at and printed as often.
const STRING: usize = 2048;

impl Btf {
    /// What the strings of a module that comes after this begin at.
    pub(super) fn end_of_strings(&self) -> u32 {
        let (start, end) = self.0.strings;
        self.0.first_string.saturating_add(u32::try_from(end - start).unwrap_or(u32::MAX))
    }

    /// A string of the blob or of its base; empty where there is none.
    pub(crate) fn string(&self, offset: u32) -> &[u8] {
        self.known_string(offset).unwrap_or_default()
    }

    /// A string of the blob or of its base, if its offset is that of one. What is longer than any is cut.
    pub(crate) fn known_string(&self, offset: u32) -> Option<&[u8]> {
        if offset < self.0.first_string {
            return self.0.base.as_ref()?.known_string(offset);
        }
        let (start, end) = self.0.strings;
        let at = start.checked_add(usize::try_from(offset - self.0.first_string).ok()?).filter(|&at| at <= end)?;
        // As little as has its end is asked for.
        let mut most = 64;
        loop {
            let tail = self.0.source.bytes(at..end.min(at.saturating_add(most)))?;
            match tail.iter().position(|&byte| byte == 0) {
                Some(length) => return Some(&tail[..length]),
                None if tail.len() < most => return None,
                None if most == STRING => return Some(tail),
                None => most = STRING.min(most * 16),
            }
        }
    }

    /// The string at an offset of the string section, as a program's source lines refer to them; none where none begins.
    pub fn text(&self, offset: u32) -> Option<Cow<'_, str>> {
        self.known_string(offset).map(String::from_utf8_lossy)
    }

    /// Whether there is a string at an offset that is not empty; without looking for its end.
    pub(crate) fn begins_string(&self, offset: u32) -> bool {
        match offset.checked_sub(self.0.first_string) {
            None => self.0.base.as_ref().is_some_and(|base| base.begins_string(offset)),
            Some(offset) => {
                let (start, end) = self.0.strings;
                let at = usize::try_from(offset).ok().and_then(|offset| start.checked_add(offset));
                let byte = at.filter(|&at| at < end).and_then(|at| self.0.source.bytes(at..at + 1));
                byte.is_some_and(|byte| byte != [0])
            }
        }
    }

    /// Whether the string at an offset is this one; without looking for its end first.
    pub(crate) fn string_is(&self, offset: u32, text: &[u8]) -> bool {
        if offset < self.0.first_string {
            return self.0.base.as_ref().is_some_and(|base| base.string_is(offset, text));
        }
        let (start, end) = self.0.strings;
        let at = usize::try_from(offset - self.0.first_string).ok().and_then(|offset| start.checked_add(offset));
        let string = at.and_then(|at| {
            let end = at.checked_add(text.len() + 1).filter(|&last| last <= end)?;
            self.0.source.bytes(at..end)
        });
        string.is_some_and(|string| string.split_last() == Some((&0, text)))
    }
}
