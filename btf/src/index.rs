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
    pub known: [Option<[u8; 2]>; KINDS],
}

/// As many kinds as there is room for.
pub(crate) const KINDS: usize = 128;

/// Some of the kinds.
#[derive(PartialEq, Eq)]
pub(crate) struct Kinds([bool; KINDS]);

impl Kinds {
    pub const ALL: Self = Self([true; KINDS]);
    const NONE: Self = Self([false; KINDS]);

    pub fn have(&self, info: u32) -> bool {
        self.0[usize::from(Kind::of(info).0)]
    }
}

impl From<&[Kind]> for Kinds {
    fn from(kinds: &[Kind]) -> Self {
        let mut all = Self::NONE;
        for kind in kinds {
            if let Some(is_one) = all.0.get_mut(usize::from(kind.0)) {
                *is_one = true;
            }
        }
        all
    }
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

    /// The bytes that a type takes; nothing for a kind that nobody knows.
    #[inline(always)] // a call takes longer than what it does
    fn size(&self, info: u32) -> Option<u64> {
        let [fixed, each] = self.known[usize::from(Kind::of(info).0)]?;
        Some(12 + u64::from(fixed) + u64::from(Kind::elements(info)) * u64::from(each))
    }
}

/// A type's head.
struct Head {
    /// Its place among all types.
    index: u32,
    /// Where it begins.
    at: u32,
    name: u32,
    info: u32,
}

/// Goes from type to type.
struct Walk<'a> {
    source: &'a dyn Source,
    section: &'a Section,
    /// Where the next one begins.
    at: usize,
    /// Its place among all types.
    index: u32,
}

impl Walk<'_> {
    /// Looks at types until one is the last that is needed. Whether there was such a one.
    fn each(&mut self, end: usize, mut is_last: impl FnMut(Head) -> bool) -> Result<bool, Error> {
        // Errors are made only where there is one: this runs for every type of a kernel.
        let truncated = |what, at| Error::Truncated { what, at, len: self.source.size() };
        while self.at < end {
            let mut window = self.source.bytes(self.at..end.min(self.at + WINDOW)).unwrap_or_default();
            if window.len() < 12 {
                return Err(truncated("a type", self.at));
            }
            while let Some(&[name @ .., a, b, c, d, _, _, _, _]) = window.first_chunk::<12>() {
                let info = self.section.u32([a, b, c, d]);
                let Some(size) = self.section.size(info) else {
                    let id = self.section.first_id.saturating_add(self.index);
                    return Err(Error::Kind { kind: Kind::of(info).0, id });
                };
                let Some(size) = usize::try_from(size).ok().filter(|&size| size <= end - self.at) else {
                    return Err(truncated("a type's members", self.at));
                };
                let Ok(at) = u32::try_from(self.at) else { return Err(truncated("a type", self.at)) };
                let head = Head { index: self.index, at, name: self.section.u32(name), info };
                self.at += size;
                self.index += 1;
                if is_last(head) {
                    return Ok(true);
                }
                window = window.get(size..).unwrap_or_default();
            }
        }
        Ok(false)
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
        self.extend(source, section, &Kinds::NONE, &mut |_| false).map(drop)?;
        self.offsets.shrink_to_fit();
        Ok(())
    }

    /// Looks at more types, until one of these kinds is the last that is needed, by its name. Whether there was such a one.
    pub fn extend(
        &mut self,
        source: &dyn Source,
        section: &Section,
        kinds: &Kinds,
        is_last: &mut dyn FnMut(u32) -> bool,
    ) -> Result<bool, Error> {
        let Self { offsets, aggregates, next } = self;
        // Most types of a kernel take 24 bytes or more; the rest is a matter of growing once.
        let left = section.range.1 - *next;
        offsets.reserve(left / 24);
        aggregates.reserve(left / 400);
        let index = u32::try_from(offsets.len()).unwrap_or(u32::MAX);
        let mut walk = Walk { source, section, at: *next, index };
        // They are kept by the hundred, as adding to a vector takes longer than all else.
        let (mut places, mut count) = ([0; 256], 0);
        let is_found = walk.each(section.range.1, |Head { index, at, name, info }| {
            if is_aggregate(Kind::of(info)) {
                aggregates.push(Aggregate { index, name, info });
            }
            if count == places.len() {
                offsets.extend_from_slice(&places);
                count = 0;
            }
            places[count] = at;
            count += 1;
            kinds.have(info) && is_last(name)
        });
        *next = walk.at;
        offsets.extend_from_slice(&places[..count]);
        is_found
    }

    /// The place of the first of these kinds that is wanted, by its name, among those that were looked at.
    pub fn find(
        &self,
        source: &dyn Source,
        section: &Section,
        kinds: &Kinds,
        is_it: &mut dyn FnMut(u32) -> bool,
    ) -> Option<u32> {
        let mut walk = Walk { source, section, at: section.range.0, index: 0 };
        let is_found = walk.each(self.next, |head| kinds.have(head.info) && is_it(head.name));
        is_found.is_ok_and(|is_found| is_found).then(|| walk.index - 1)
    }
}
