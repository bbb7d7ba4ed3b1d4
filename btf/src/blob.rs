//! A blob of BTF: header, types, strings.

use std::borrow::Cow;
use std::sync::Arc;

use crate::Error;
use crate::c::by_name;
use crate::types::{Kind, Type, TypeId};

/// Bytes that someone keeps, be it a vector or a mapping.
pub type Bytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

const MAGIC: u16 = 0xeb9f;
/// The least header there is; newer ones are longer.
const HEADER: usize = 24;

/// The types of a kernel, a module or a program. Cloning it shares the bytes.
#[derive(Clone)]
pub struct Btf(Arc<Blob>);

struct Blob {
    bytes: Bytes,
    /// The types of the kernel that those of a module come after.
    base: Option<Btf>,
    big_endian: bool,
    /// Where each type begins, in bytes from the start of the blob; the first of them is type `first_id`.
    offsets: Vec<u32>,
    first_id: u32,
    /// Which of them are structures and unions, so that those are found without a look at the others.
    aggregates: Vec<u32>,
    strings: (usize, usize),
    first_string: u32,
}

impl std::fmt::Debug for Btf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Btf")
            .field("types", &self.len())
            .field("big_endian", &self.0.big_endian)
            .finish_non_exhaustive()
    }
}

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
fn layout(kind: Kind) -> Option<(usize, usize)> {
    kind.words().map(|(fixed, each)| (fixed.len() * 4, each.len() * 4))
}

impl Btf {
    /// Reads a blob as the kernel has it in /sys/kernel/btf/vmlinux, in either byte order.
    ///
    /// # Errors
    /// Bytes that are not BTF, or not all of it.
    pub fn parse(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Self, Error> {
        Self::indexed(Arc::new(bytes), None)
    }

    /// Reads a blob whose types come after those of `base`, as in /sys/kernel/btf/nf_conntrack.
    ///
    /// # Errors
    /// As [`Btf::parse`].
    pub fn parse_split(bytes: impl AsRef<[u8]> + Send + Sync + 'static, base: &Self) -> Result<Self, Error> {
        Self::indexed(Arc::new(bytes), Some(base.clone()))
    }

    fn indexed(bytes: Bytes, base: Option<Self>) -> Result<Self, Error> {
        let data = (*bytes).as_ref();
        let len = data.len();
        let truncated = |what, at| Error::Truncated { what, at, len };
        let magic = *data.first_chunk().ok_or(truncated("the header", 0))?;
        let big_endian = match (u16::from_le_bytes(magic), u16::from_be_bytes(magic)) {
            (MAGIC, _) => false,
            (_, MAGIC) => true,
            (magic, _) => return Err(Error::Magic(magic)),
        };
        let reader = Reader { bytes: data, big_endian };
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
        let types = section("the type section", 2)?;
        let strings = section("the string section", 4)?;
        // Linux 7.1 describes its kinds in a section of their own.
        let layouts = if header >= 32 { section("the layout section", 6)? } else { (0, 0) };
        let described = |kind: u8| {
            let at = layouts.0 + usize::from(kind) * 4;
            let sizes = data.get(at..at + 2).filter(|_| at + 4 <= layouts.1)?;
            Some((usize::from(sizes[0]), usize::from(sizes[1])))
        };
        let mut known = [None; 128];
        for (kind, known) in (0..).zip(&mut known) {
            *known = layout(Kind(kind)).or_else(|| described(kind));
        }

        // The strings of a base begin with the empty one.
        if base.is_none() && data.get(strings.0..strings.1).and_then(<[u8]>::first).is_some_and(|&first| first != 0) {
            return Err(Error::NoBase);
        }
        let (first_id, first_string) = match &base {
            Some(base) => (base.end(), base.end_of_strings()),
            None => (1, 0),
        };
        // Most types of a kernel take 24 bytes or more; the rest is a matter of growing once.
        let mut offsets = Vec::with_capacity((types.1 - types.0) / 24);
        let mut aggregates = Vec::with_capacity((types.1 - types.0) / 400);
        let mut at = types.0;
        // Errors are made only where there is one: this runs for every type of a kernel.
        while at < types.1 {
            let head = data.get(at..types.1).and_then(|rest| rest.first_chunk::<12>());
            let &[.., a, b, c, d, _, _, _, _] = head.ok_or_else(|| truncated("a type", at))?;
            let info = if big_endian { u32::from_be_bytes([a, b, c, d]) } else { u32::from_le_bytes([a, b, c, d]) };
            let kind = Kind::of(info);
            let Some((fixed, each)) = known[usize::from(kind.0)] else {
                let id = first_id.saturating_add(u32::try_from(offsets.len()).unwrap_or(u32::MAX));
                return Err(Error::Kind { kind: kind.0, id });
            };
            let elements = usize::try_from(Kind::elements(info)).unwrap_or(usize::MAX);
            let next = at.saturating_add(12 + fixed).saturating_add(elements.saturating_mul(each));
            if next > types.1 {
                return Err(truncated("a type's members", at));
            }
            if is_aggregate(kind) {
                aggregates.push(u32::try_from(offsets.len()).unwrap_or(u32::MAX));
            }
            offsets.push(u32::try_from(at).map_err(|_| truncated("a type", at))?);
            at = next;
        }
        offsets.shrink_to_fit();
        Ok(Self(Arc::new(Blob {
            bytes: bytes.clone(),
            base,
            big_endian,
            offsets,
            first_id,
            aggregates,
            strings,
            first_string,
        })))
    }

    /// The blob.
    pub fn as_bytes(&self) -> &[u8] {
        (*self.0.bytes).as_ref()
    }

    /// The number after the last type's.
    pub(crate) fn end(&self) -> u32 {
        self.0.first_id.saturating_add(u32::try_from(self.0.offsets.len()).unwrap_or(u32::MAX))
    }

    fn end_of_strings(&self) -> u32 {
        let (start, end) = self.0.strings;
        self.0.first_string.saturating_add(u32::try_from(end - start).unwrap_or(u32::MAX))
    }

    /// The bytes of the header, of the types and of the strings, without those of the base.
    pub fn section_sizes(&self) -> [usize; 3] {
        let end = |index: Option<&u32>| index.and_then(|&at| usize::try_from(at).ok());
        let (start, stop) = self.0.strings;
        let types = self.types().map(|ty| ty.encoded_len()).sum();
        [end(self.0.offsets.first()).unwrap_or(start), types, stop - start]
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
        self.0.offsets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.offsets.is_empty()
    }

    /// Whether the blob was made for a big-endian machine.
    pub fn is_big_endian(&self) -> bool {
        self.0.big_endian
    }

    /// Every type, without those of the base.
    pub fn types(&self) -> impl Iterator<Item = Type<'_>> {
        (self.0.first_id..self.end()).filter_map(|id| self.get(TypeId(id)))
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
        if id.0 < self.0.first_id {
            return match &self.0.base {
                Some(base) => base.get(id),
                None => Some(Type { btf: self, id, name_off: 0, info: 0, size: 0, tail: &[] }),
            };
        }
        let index = usize::try_from(id.0 - self.0.first_id).ok()?;
        let at = |index: usize| self.0.offsets.get(index).and_then(|&at| usize::try_from(at).ok());
        // What is after the last type belongs to other sections; decoding stops at the number of elements.
        let blob = self.as_bytes();
        let bytes = blob.get(at(index)?..at(index + 1).unwrap_or(blob.len()))?;
        let (&[a, b, c, d, e, f, g, h, i, j, k, l], tail) = bytes.split_first_chunk::<12>()?;
        let words = [[a, b, c, d], [e, f, g, h], [i, j, k, l]];
        let [name_off, info, size] = words.map(if self.0.big_endian { u32::from_be_bytes } else { u32::from_le_bytes });
        Some(Type { btf: self, id, name_off, info, size, tail })
    }

    /// A word of a type's tail.
    pub(crate) fn word(&self, bytes: &[u8], index: usize) -> u32 {
        Reader { bytes, big_endian: self.0.big_endian }.u32(index * 4).unwrap_or_default()
    }

    /// A string of the blob or of its base; empty where there is none.
    pub(crate) fn string(&self, offset: u32) -> &[u8] {
        self.known_string(offset).unwrap_or_default()
    }

    /// A string of the blob or of its base, if its offset is that of one.
    pub(crate) fn known_string(&self, offset: u32) -> Option<&[u8]> {
        if offset < self.0.first_string {
            return self.0.base.as_ref()?.known_string(offset);
        }
        let (start, end) = self.0.strings;
        let offset = usize::try_from(offset - self.0.first_string).ok()?;
        let tail = self.as_bytes().get(start.checked_add(offset)?..end)?;
        tail.iter().position(|&byte| byte == 0).map(|end| &tail[..end])
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
                let byte = at.filter(|&at| at < end).and_then(|at| self.as_bytes().get(at));
                byte.is_some_and(|&byte| byte != 0)
            }
        }
    }

    /// Whether the string at an offset is this one; without looking for its end first.
    pub(crate) fn string_is(&self, offset: u32, text: &[u8]) -> bool {
        if offset < self.0.first_string {
            return self.0.base.as_ref().is_some_and(|base| base.string_is(offset, text));
        }
        let (start, end) = self.0.strings;
        let strings = self.as_bytes().get(start..end).unwrap_or_default();
        begins_at(strings, offset - self.0.first_string, text)
    }

    /// The first type of this name whose kind is one of `kinds`. A module's own types come first, then the kernel's.
    pub fn find(&self, name: &str, kinds: &[Kind]) -> Option<Type<'_>> {
        if name.is_empty() {
            return None;
        }
        // This runs for thousands of types, so whatever is the same for all of them is done once.
        let Blob { first_string, strings: (start, end), .. } = *self.0;
        let reader = Reader { bytes: self.as_bytes(), big_endian: self.0.big_endian };
        let strings = reader.bytes.get(start..end).unwrap_or_default();
        let wanted = kinds.iter().fold(0, |wanted: u128, kind| wanted | 1_u128.checked_shl(kind.0.into()).unwrap_or(0));
        let matches = |index: u32| {
            let at = self.0.offsets.get(usize::try_from(index).ok()?).and_then(|&at| usize::try_from(at).ok())?;
            if wanted.checked_shr(Kind::of(reader.u32(at + 4)?).0.into())? & 1 == 0 {
                return None;
            }
            let at = reader.u32(at)?;
            let is_name = match at.checked_sub(first_string) {
                Some(at) => begins_at(strings, at, name.as_bytes()),
                None => self.string_is(at, name.as_bytes()),
            };
            is_name.then_some(index)
        };
        let all = 0..u32::try_from(self.0.offsets.len()).unwrap_or(u32::MAX);
        let found = if kinds.iter().all(|&kind| is_aggregate(kind)) {
            self.0.aggregates.iter().copied().find_map(matches)
        } else {
            all.into_iter().find_map(matches)
        };
        match found {
            Some(index) => self.ty(TypeId(self.0.first_id + index)).ok(),
            None => self.0.base.as_ref().and_then(|base| base.find(name, kinds)),
        }
    }
}

/// Whether this string begins there, and ends where it ends.
#[inline(always)]
fn begins_at(strings: &[u8], at: u32, text: &[u8]) -> bool {
    let tail = usize::try_from(at).ok().and_then(|at| strings.get(at..)).unwrap_or_default();
    tail.get(text.len()) == Some(&0) && tail.starts_with(text)
}

/// What most look-ups are for; one type in ten is one.
fn is_aggregate(kind: Kind) -> bool {
    matches!(kind, Kind::STRUCT | Kind::UNION)
}
