//! Where each type of a blob begins.

use crate::Error;
use crate::source::Source;
use crate::types::Kind;

/// How much is looked at in one go: a page, which is what the kernel hands out of its types by one read.
const WINDOW: usize = 4096;

/// What it takes to get from one type to the next.
pub(crate) struct Section {
    pub big_endian: bool,
    /// Bytes from the start of the blob to the first type, and to what is after the last.
    pub range: (usize, usize),
    pub first_id: u32,
    /// Bytes that follow a type's head: so many, and so many for each element. By kind.
    pub known: [Option<(usize, usize)>; 128],
}

/// The types that were looked at so far, which are the first ones.
#[derive(Clone, Default)]
pub(crate) struct Index {
    /// Where each begins, in bytes from the start of the blob.
    pub offsets: Vec<u32>,
    /// Which of them are structures and unions, so that those are found without a look at the types themselves.
    pub aggregates: Vec<Aggregate>,
    /// Where the first begins that was not looked at.
    pub next: usize,
}

/// A structure or union: its place among all types, and its first two words, which are its name and what it is.
#[derive(Clone, Copy)]
pub(crate) struct Aggregate {
    pub index: u32,
    pub name: u32,
    pub info: u32,
}

/// What most look-ups are for; one type in ten is one.
pub(crate) fn is_aggregate(kind: Kind) -> bool {
    matches!(kind, Kind::STRUCT | Kind::UNION)
}

impl Section {
    pub fn u32(&self, bytes: [u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }
}

impl Index {
    /// Of nothing yet.
    pub fn before(section: &Section) -> Self {
        Self { next: section.range.0, ..Self::default() }
    }

    /// Where a type begins and ends.
    pub fn place(&self, index: usize) -> Option<(usize, usize)> {
        let at = |index: usize| self.offsets.get(index).and_then(|&at| usize::try_from(at).ok());
        Some((at(index)?, at(index + 1).unwrap_or(self.next)))
    }

    /// Looks at all types that are left.
    pub fn complete(&mut self, source: &dyn Source, section: &Section) -> Result<(), Error> {
        // Most types of a kernel take 24 bytes or more; the rest is a matter of growing once.
        let left = section.range.1 - self.next;
        self.offsets.reserve(left / 24);
        self.aggregates.reserve(left / 400);
        self.extend(source, section, &mut |_, _| false).map(drop)?;
        self.offsets.shrink_to_fit();
        Ok(())
    }

    /// Looks at more types, until one is the last that is needed, by its first two words: its name, and what it is. Whether there was
    /// such a one.
    pub fn extend(
        &mut self,
        source: &dyn Source,
        section: &Section,
        is_last: &mut dyn FnMut(u32, u32) -> bool,
    ) -> Result<bool, Error> {
        let end = section.range.1;
        let truncated = |what, at| Error::Truncated { what, at, len: source.size() };
        let (mut window, mut start): (&[u8], usize) = (&[], self.next);
        // Errors are made only where there is one: this runs for every type of a kernel.
        while self.next < end {
            let at = self.next;
            let mut head = window.get(at - start..).and_then(|rest| rest.first_chunk::<12>());
            if head.is_none() {
                start = at;
                window = source.bytes(at..end.min(at + WINDOW)).unwrap_or_default();
                head = window.first_chunk();
            }
            let &[name @ .., a, b, c, d, _, _, _, _] = head.ok_or_else(|| truncated("a type", at))?;
            let info = section.u32([a, b, c, d]);
            let kind = Kind::of(info);
            let Some((fixed, each)) = section.known[usize::from(kind.0)] else {
                let id = section.first_id.saturating_add(u32::try_from(self.offsets.len()).unwrap_or(u32::MAX));
                return Err(Error::Kind { kind: kind.0, id });
            };
            let elements = usize::try_from(Kind::elements(info)).unwrap_or(usize::MAX);
            let next = at.saturating_add(12 + fixed).saturating_add(elements.saturating_mul(each));
            if next > end {
                return Err(truncated("a type's members", at));
            }
            if is_aggregate(kind) {
                let index = u32::try_from(self.offsets.len()).unwrap_or(u32::MAX);
                self.aggregates.push(Aggregate { index, name: section.u32(name), info });
            }
            self.offsets.push(u32::try_from(at).map_err(|_| truncated("a type", at))?);
            self.next = next;
            if is_last(section.u32(name), info) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
