//! A blob of BTF: header, types, strings.

mod strings;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::Error;
use crate::c::by_name;
use crate::index::{Index, KINDS, Kinds, Section, is_aggregate};
use crate::source::Source;
use crate::types::{Kind, Type, TypeId};

const MAGIC: u16 = 0xeb9f;
/// The least header there is; newer ones are longer.
const HEADER: usize = 24;
/// What is known of a header; 7.1's has a layout section.
const MOST_HEADER: usize = 32;
/// The types of a kernel, a module or a program. Cloning it shares the bytes.
#[derive(Clone)]
pub struct Btf(Arc<Blob>);

struct Blob {
    source: Arc<dyn Source>,
    /// The types of the kernel that those of a module come after.
    base: Option<Btf>,
    section: Section,
    /// All types, once all were looked at.
    whole: OnceLock<Index>,
    /// Else the first ones.
    part: Mutex<Index>,
    /// What was looked for and found: a program names the same structure for each of its members, and the same function again.
    found: Mutex<Vec<Found>>,
    /// Why it ends before its last type, where that was seen late.
    broken: OnceLock<Error>,
    strings: (usize, usize),
    first_string: u32,
}

impl std::fmt::Debug for Btf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Btf")
            .field("types", &self.len())
            .field("big_endian", &self.is_big_endian())
            .finish_non_exhaustive()
    }
}

/// A type that was found by its name.
struct Found {
    name: Box<str>,
    /// Among these kinds.
    kinds: Kinds,
    /// Its place among all types.
    index: u32,
}

/// How many of them are kept: no tool asks for so many names, and what does ask for more asks for each once.
const FOUND: usize = 64;

/// Numbers in a blob's byte order.
#[derive(Clone, Copy)]
struct Reader<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl Reader<'_> {
    #[inline(always)]
    fn u32(self, at: usize) -> Option<u32> {
        let word = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) })
    }
}

/// The bytes of [`Kind::words`].
fn layout(kind: Kind) -> Option<[u8; 2]> {
    let (fixed, each) = kind.words()?;
    Some([u8::try_from(fixed.len() * 4).ok()?, u8::try_from(each.len() * 4).ok()?])
}

impl Btf {
    /// Reads a blob as the kernel has it in /sys/kernel/btf/vmlinux, in either byte order.
    ///
    /// # Errors
    /// Bytes that are not BTF, or not all of it.
    pub fn parse(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Self, Error> {
        Self::begun(Arc::new(bytes), None)?.finished()
    }

    /// Reads a blob whose types come after those of `base`, as in /sys/kernel/btf/nf_conntrack.
    ///
    /// # Errors
    /// As [`Btf::parse`].
    pub fn parse_split(bytes: impl AsRef<[u8]> + Send + Sync + 'static, base: &Self) -> Result<Self, Error> {
        Self::begun(Arc::new(bytes), Some(base.clone()))?.finished()
    }

    /// Reads the header of a blob whose types someone else has checked, as the kernel has its own. Types are looked at when they are asked
    /// for, and only as far as they have to be: the structures that most programs want are among the first.
    ///
    /// # Errors
    /// As [`Btf::parse`], as far as the header tells. Where a type is wrong, there are none after it.
    pub fn trusted(source: impl Source + 'static) -> Result<Self, Error> {
        Self::begun(Arc::new(source), None)
    }

    fn begun(source: Arc<dyn Source>, base: Option<Self>) -> Result<Self, Error> {
        let len = source.size();
        let truncated = |what, at| Error::Truncated { what, at, len };
        let start = source.bytes(0..len.min(MOST_HEADER)).unwrap_or_default();
        let magic = *start.first_chunk().ok_or(truncated("the header", 0))?;
        let big_endian = match (u16::from_le_bytes(magic), u16::from_be_bytes(magic)) {
            (MAGIC, _) => false,
            (_, MAGIC) => true,
            (magic, _) => return Err(Error::Magic(magic)),
        };
        let reader = Reader { bytes: start, big_endian };
        let word = |index: usize| {
            let word = reader.u32(index * 4).and_then(|word| usize::try_from(word).ok());
            word.ok_or(truncated("the header", index * 4))
        };
        let header = word(1)?;
        if header < HEADER {
            return Err(truncated("the header", header));
        }
        let section = |what, index: usize| {
            let start = header.checked_add(word(index)?).ok_or(truncated(what, header))?;
            let end = start.checked_add(word(index + 1)?).filter(|&end| end <= len);
            Ok((start, end.ok_or(truncated(what, start))?))
        };
        let range = section("the type section", 2)?;
        let strings = section("the string section", 4)?;
        // Linux 7.1 describes its kinds in a section of their own.
        let layouts = if header >= MOST_HEADER { section("the layout section", 6)? } else { (0, 0) };
        let described = |kind: u8| {
            let at = layouts.0 + usize::from(kind) * 4;
            if at + 4 <= layouts.1 { source.bytes(at..at + 2)?.first_chunk().copied() } else { None }
        };
        let mut known = [None; KINDS];
        for (kind, known) in (0..).zip(&mut known) {
            *known = layout(Kind(kind)).or_else(|| described(kind));
        }

        // The strings of a base begin with the empty one.
        let first = source.bytes(strings.0..strings.1.min(strings.0 + 1)).and_then(<[u8]>::first);
        if base.is_none() && first.is_some_and(|&first| first != 0) {
            return Err(Error::NoBase);
        }
        let (first_id, first_string) = match &base {
            Some(base) => (base.end(), base.end_of_strings()),
            None => (1, 0),
        };
        let section = Section { big_endian, range, first_id, known };
        let part = Mutex::new(Index::before(&section));
        let (whole, broken) = (OnceLock::new(), OnceLock::new());
        Ok(Self(Arc::new(Blob {
            source,
            base,
            section,
            whole,
            part,
            found: Mutex::default(),
            broken,
            strings,
            first_string,
        })))
    }

    /// It, once all its types were looked at.
    fn finished(self) -> Result<Self, Error> {
        let mut index = self.part().clone();
        index.complete(&*self.0.source, &self.0.section)?;
        let _ = self.0.whole.set(index);
        Ok(self)
    }

    fn part(&self) -> MutexGuard<'_, Index> {
        self.0.part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All its types.
    fn whole(&self) -> &Index {
        self.0.whole.get_or_init(|| {
            let mut index = self.part().clone();
            if let Err(error) = index.complete(&*self.0.source, &self.0.section) {
                let _ = self.0.broken.set(error);
            }
            index
        })
    }

    /// Why it ends before its last type, where it does.
    pub(crate) fn broken(&self) -> Option<&Error> {
        self.0.broken.get()
    }

    /// The blob.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.source.bytes(0..self.0.source.size()).unwrap_or_default()
    }

    /// The number after the last type's.
    pub(crate) fn end(&self) -> u32 {
        self.0.section.first_id.saturating_add(u32::try_from(self.len()).unwrap_or(u32::MAX))
    }

    /// The bytes of the header, of the types and of the strings, without those of the base.
    pub fn section_sizes(&self) -> [usize; 3] {
        let (start, stop) = self.0.strings;
        let types = self.types().map(|ty| ty.encoded_len()).sum();
        [self.whole().place(0).map_or(start, |(start, _)| start), types, stop - start]
    }

    /// All types of this name; the base's come last.
    pub fn named<'b>(&'b self, name: &str) -> Vec<Type<'b>> {
        let is_it =
            |ty: &Type<'b>| !name.is_empty() && ty.name_off != 0 && self.string_is(ty.name_off, name.as_bytes());
        let base = self.0.base.as_ref().map(|base| base.named(name)).unwrap_or_default();
        self.types().filter(is_it).chain(base).collect()
    }

    /// The types of a kind that have a name, without those of the base, by name.
    pub fn by_name(&self, kinds: &[Kind]) -> Vec<Type<'_>> {
        let mut named: Vec<(&[u8], TypeId)> = self
            .types()
            .filter(|ty| kinds.contains(&ty.kind()) && ty.is_named())
            .map(|ty| (self.string(ty.name_off), ty.id))
            .collect();
        by_name(&mut named).into_iter().filter_map(|id| self.ty(id).ok()).collect()
    }

    /// How many types there are, without those of the base and without `void`.
    pub fn len(&self) -> usize {
        self.whole().offsets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.whole().offsets.is_empty()
    }

    /// Whether the blob was made for a big-endian machine.
    pub fn is_big_endian(&self) -> bool {
        self.0.section.big_endian
    }

    /// Every type, without those of the base.
    pub fn types(&self) -> impl Iterator<Item = Type<'_>> {
        (self.0.section.first_id..self.end()).filter_map(|id| self.get(TypeId(id)))
    }

    /// A type by its number; 0 is `void`.
    ///
    /// # Errors
    /// When there is no such type.
    pub fn ty(&self, id: TypeId) -> Result<Type<'_>, Error> {
        // An error is made only where there is one: types are looked up by the million.
        match self.get(id) {
            Some(ty) => Ok(ty),
            None => Err(Error::NoId(id.0)),
        }
    }

    /// A type by its number, if there is one.
    fn get(&self, id: TypeId) -> Option<Type<'_>> {
        let first_id = self.0.section.first_id;
        if id.0 < first_id {
            return match &self.0.base {
                Some(base) => base.get(id),
                None => Some(Type { btf: self, id, name_off: 0, info: 0, size: 0, tail: &[] }),
            };
        }
        let index = usize::try_from(id.0 - first_id).ok()?;
        let place = match self.0.whole.get() {
            Some(whole) => whole.place(index),
            None => {
                let mut part = self.part();
                if let Some(mut before) = index.checked_sub(part.offsets.len()) {
                    self.extend(&mut part, &Kinds::ALL, &mut |_| {
                        let is_it = before == 0;
                        before = before.saturating_sub(1);
                        is_it
                    });
                }
                part.place(index)
            }
        };
        let (start, end) = place?;
        let bytes = self.0.source.bytes(start..end)?;
        let (&[a, b, c, d, e, f, g, h, i, j, k, l], tail) = bytes.split_first_chunk::<12>()?;
        let words = [[a, b, c, d], [e, f, g, h], [i, j, k, l]];
        let [name_off, info, size] =
            words.map(if self.0.section.big_endian { u32::from_be_bytes } else { u32::from_le_bytes });
        Some(Type { btf: self, id, name_off, info, size, tail })
    }

    /// A word of a type's tail.
    pub(crate) fn word(&self, bytes: &[u8], index: usize) -> u32 {
        Reader { bytes, big_endian: self.0.section.big_endian }.u32(index * 4).unwrap_or_default()
    }

    /// Looks at more types, as far as there are any.
    fn extend(&self, part: &mut Index, kinds: &Kinds, is_last: &mut dyn FnMut(u32) -> bool) -> bool {
        part.extend(&*self.0.source, &self.0.section, kinds, is_last).unwrap_or_else(|error| {
            let _ = self.0.broken.set(error);
            // Nothing can be told of what comes after it.
            part.next = self.0.section.range.1;
            false
        })
    }

    /// The first type of this name whose kind is one of `kinds`. A module's own types come first, then the kernel's.
    pub fn find(&self, name: &str, kinds: &[Kind]) -> Option<Type<'_>> {
        if name.is_empty() {
            return None;
        }
        let wanted = Kinds::from(kinds);
        let known = self.0.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.iter().find(|known| *known.name == *name && known.kinds == wanted) {
            return self.ty(TypeId(self.0.section.first_id + known.index)).ok();
        }
        drop(known);
        // Most types differ in their kinds, and their names are not looked at.
        let mut is_it = |name_off: u32| self.string_is(name_off, name.as_bytes());
        let mut among = |index: &Index| {
            if kinds.iter().all(|&kind| is_aggregate(kind)) {
                let mut aggregates = index.aggregates.iter();
                return aggregates.find(|known| wanted.have(known.info) && is_it(known.name)).map(|known| known.index);
            }
            index.find(&*self.0.source, &self.0.section, &wanted, &mut is_it)
        };
        let found = match self.0.whole.get() {
            Some(whole) => among(whole),
            None => {
                let mut part = self.part();
                among(&part).or_else(|| {
                    let is_found = self.extend(&mut part, &wanted, &mut is_it);
                    u32::try_from(part.offsets.len()).ok().filter(|_| is_found)?.checked_sub(1)
                })
            }
        };
        match found {
            Some(index) => {
                let mut known = self.0.found.lock().unwrap_or_else(PoisonError::into_inner);
                if known.len() < FOUND {
                    known.push(Found { name: name.into(), kinds: wanted, index });
                }
                drop(known);
                self.ty(TypeId(self.0.section.first_id + index)).ok()
            }
            None => self.0.base.as_ref().and_then(|base| base.find(name, kinds)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::Builder;

    const TYPES: u32 = 2000;

    /// Structures of one member each, `s1 { int m1; }` and so on, each after a forward declaration.
    fn blob() -> Vec<u8> {
        let mut types = Builder::new();
        let int = types.int("int", 4, true);
        for n in 1..=TYPES {
            types.fwd(&format!("f{n}"));
            types.strukt(&format!("s{n}"), 4, &[(&format!("m{n}"), int, 0)]);
        }
        types.finish()
    }

    /// Bytes that know how far they were looked at.
    struct Watched(Vec<u8>, Arc<AtomicUsize>);

    impl Source for Watched {
        fn size(&self) -> usize {
            self.0.len()
        }

        fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
            self.1.fetch_add(range.len(), Ordering::Relaxed);
            self.0.get(range)
        }
    }

    #[test]
    fn types_that_are_trusted_are_looked_at_as_far_as_they_are_asked_for() {
        let (bytes, seen) = (blob(), Arc::new(AtomicUsize::new(0)));
        let whole = Btf::parse(bytes.clone()).unwrap();
        let btf = Btf::trusted(Watched(bytes.clone(), seen.clone())).unwrap();
        assert!(seen.load(Ordering::Relaxed) < 100);
        for path in ["s5.m5", "s3.m3", "s100.m100"] {
            assert_eq!(btf.field(path).unwrap(), whole.field(path).unwrap());
        }
        assert_eq!(btf.find("f101", &[Kind::FWD]).unwrap().id, TypeId(202));
        assert!(seen.load(Ordering::Relaxed) < bytes.len() / 2, "{seen:?} of {}", bytes.len());
        // By its number, one further on; then one that is not there; then all.
        let id = TypeId(2 * TYPES);
        assert_eq!(btf.ty(id).unwrap().name(), whole.ty(id).unwrap().name());
        assert!(btf.find("f1", &[Kind::STRUCT]).is_none() && btf.find("s1", &[Kind::STRUCT]).is_some());
        assert!(btf.ty(TypeId(2 * TYPES + 2)).is_err() && btf.broken().is_none());
        assert_eq!((btf.len(), btf.section_sizes(), btf.as_bytes()), (whole.len(), whole.section_sizes(), &bytes[..]));
        assert!(btf.types().map(|ty| ty.id).eq(whole.types().map(|ty| ty.id)));
        assert_eq!(btf.field("s2000.m2000").unwrap(), whole.field("s2000.m2000").unwrap());
    }

    #[test]
    fn what_was_found_by_its_name_is_not_looked_for_again() {
        let seen = Arc::new(AtomicUsize::new(0));
        let btf = Btf::trusted(Watched(blob(), seen.clone())).unwrap();
        let took = |name: &str, kind| {
            let before = seen.load(Ordering::Relaxed);
            (btf.find(name, &[kind]).map(|ty| ty.id.0), seen.load(Ordering::Relaxed) - before)
        };
        let (first, again) = (took("s900", Kind::STRUCT), took("s900", Kind::STRUCT));
        assert_eq!((first.0, again.0), (Some(1801), Some(1801)));
        assert!(first.1 > 10_000 && again.1 < 100, "{first:?}, {again:?}");
        // Not what has this name and is something else, nor what is not there.
        assert_eq!((took("f900", Kind::STRUCT).0, took("f900", Kind::FWD).0), (None, Some(1800)));
        assert_eq!(took("s900", Kind::FWD).0, None);
        // More names than are kept.
        for n in (1..=TYPES).chain(1..=TYPES).step_by(17) {
            assert_eq!(took(&format!("s{n}"), Kind::STRUCT).0, Some(2 * n + 1));
        }
        assert!(btf.0.found.lock().unwrap().len() == FOUND);
    }

    #[test]
    fn what_is_wrong_with_them_is_seen_when_it_is_come_to() {
        let mut bytes = blob();
        // The kind of the last type.
        let at = Btf::parse(bytes.clone()).unwrap().whole().place(2 * TYPES as usize).unwrap().0;
        bytes[at + 7] = 31;
        assert!(matches!(Btf::parse(bytes.clone()), Err(Error::Kind { kind: 31, id: 4001 })));
        let btf = Btf::trusted(bytes).unwrap();
        assert_eq!(btf.field("s7.m7").unwrap().offset, 0);
        let said = btf.field("s2000.m2000").unwrap_err().to_string();
        assert!(said.contains("`s2000` among those that can be read") && said.contains("4001"), "{said}");
        assert_eq!(btf.len(), 4000);
        assert!(Btf::trusted(b"not BTF".to_vec()).is_err());
    }
}
