//! Writing BTF.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crate::types::{Kind, TypeId};

/// Types that become a blob, in this machine's byte order unless told otherwise. What is added twice is there once.
#[derive(Clone, Debug)]
pub struct Builder {
    types: Vec<u32>,
    count: u32,
    big_endian: bool,
    strings: Vec<u8>,
    /// Where strings are, by their hashes alone, as there may be a million. Of several with one hash the first is found again.
    known: HashMap<u64, u32>,
    hasher: RandomState,
    equal: HashMap<Vec<u32>, TypeId>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::with_byte_order(cfg!(target_endian = "big"))
    }
}

impl Builder {
    /// No types but `void`.
    pub fn new() -> Self {
        Self::default()
    }

    /// No types but `void`, for a machine of that byte order.
    pub fn with_byte_order(big_endian: bool) -> Self {
        let mut builder = Self {
            types: Vec::new(),
            count: 0,
            big_endian,
            strings: Vec::new(),
            known: HashMap::new(),
            hasher: RandomState::new(),
            equal: HashMap::new(),
        };
        // What has no name has the first.
        builder.string("");
        builder
    }

    /// Where a string is in the string section; equal strings are kept once. A NUL ends it early.
    pub fn string(&mut self, text: impl AsRef<[u8]>) -> u32 {
        let text = text.as_ref().split(|&byte| byte == 0).next().unwrap_or_default();
        let hash = self.hasher.hash_one(text);
        let is_there = |&offset: &u32| {
            let rest = usize::try_from(offset).ok().and_then(|offset| self.strings.get(offset..));
            rest.and_then(|rest| rest.strip_prefix(text)).is_some_and(|rest| rest.first() == Some(&0))
        };
        if let Some(offset) = self.known.get(&hash).copied().filter(is_there) {
            return offset;
        }
        // A blob of 4 GiB cannot be loaded anyway, so what lies behind is as good as nameless.
        let offset = u32::try_from(self.strings.len()).unwrap_or_default();
        self.strings.extend(text);
        self.strings.push(0);
        self.known.entry(hash).or_insert(offset);
        offset
    }

    /// Appends a type as it is; `info` is kind, flag and number of elements.
    pub(crate) fn raw(&mut self, name: impl AsRef<[u8]>, info: u32, size: u32, tail: &[u32]) -> TypeId {
        let name = self.string(name);
        self.types.extend([name, info, size]);
        self.types.extend(tail);
        self.count += 1;
        TypeId(self.count)
    }

    /// Appends a type as it is, from the offset of its name on.
    pub(crate) fn words(&mut self, words: &[u32]) {
        self.types.extend(words);
        self.count += 1;
    }

    /// A type that is there once, however often it is asked for.
    fn ty(&mut self, kind: Kind, name: &str, elements: usize, size: u32, tail: &[u32]) -> TypeId {
        let elements = u32::try_from(elements).unwrap_or(u32::MAX) & 0xffff;
        let info = u32::from(kind.0) << 24 | elements;
        let words = [&[self.string(name), info, size], tail].concat();
        if let Some(&known) = self.equal.get(&words) {
            return known;
        }
        let id = self.raw(name, info, size, tail);
        self.equal.insert(words, id);
        id
    }

    /// An integer of `size` bytes.
    pub fn int(&mut self, name: &str, size: u8, signed: bool) -> TypeId {
        self.ty(Kind::INT, name, 0, size.into(), &[(u32::from(signed) << 24) | (u32::from(size) * 8)])
    }

    /// A pointer.
    pub fn ptr(&mut self, to: TypeId) -> TypeId {
        self.ty(Kind::PTR, "", 0, to.0, &[])
    }

    /// A typedef.
    pub fn typedef(&mut self, name: &str, of: TypeId) -> TypeId {
        self.ty(Kind::TYPEDEF, name, 0, of.0, &[])
    }

    /// An array; `index` is an integer type.
    pub fn array(&mut self, of: TypeId, index: TypeId, len: u32) -> TypeId {
        self.ty(Kind::ARRAY, "", 0, 0, &[of.0, index.0, len])
    }

    /// A structure of `size` bytes; each member has its name, type and offset in bytes.
    pub fn strukt(&mut self, name: &str, size: u32, members: &[(&str, TypeId, u32)]) -> TypeId {
        let tail: Vec<u32> = members
            .iter()
            .flat_map(|&(name, ty, offset)| [self.string(name), ty.0, offset.saturating_mul(8)])
            .collect();
        self.ty(Kind::STRUCT, name, members.len(), size, &tail)
    }

    /// A structure of which nothing is known but its name.
    pub fn fwd(&mut self, name: &str) -> TypeId {
        self.ty(Kind::FWD, name, 0, 0, &[])
    }

    /// A prototype; each parameter has its name and type.
    pub fn func_proto(&mut self, params: &[(&str, TypeId)], ret: TypeId) -> TypeId {
        let tail: Vec<u32> = params.iter().flat_map(|&(name, ty)| [self.string(name), ty.0]).collect();
        self.ty(Kind::FUNC_PROTO, "", params.len(), ret.0, &tail)
    }

    /// A static function.
    pub fn func(&mut self, name: &str, proto: TypeId) -> TypeId {
        self.ty(Kind::FUNC, name, 0, proto.0, &[])
    }

    /// A global function, which the kernel verifies on its own; Linux 5.6 and newer take it.
    pub fn global_func(&mut self, name: &str, proto: TypeId) -> TypeId {
        self.ty(Kind::FUNC, name, 1, proto.0, &[])
    }

    /// A floating-point number of so many bytes.
    pub fn float(&mut self, name: &str, size: u32) -> TypeId {
        self.ty(Kind::FLOAT, name, 0, size, &[])
    }

    /// An attribute of a type, which stands between a pointer and what it points to.
    pub fn type_tag(&mut self, tag: &str, of: TypeId) -> TypeId {
        self.ty(Kind::TYPE_TAG, tag, 0, of.0, &[])
    }

    /// An attribute of a declaration as a whole.
    pub fn decl_tag(&mut self, tag: &str, of: TypeId) -> TypeId {
        self.ty(Kind::DECL_TAG, tag, 0, of.0, &[u32::MAX])
    }

    /// An enumeration of 64-bit values.
    pub fn enum64(&mut self, name: &str, values: &[(&str, u64)]) -> TypeId {
        let tail: Vec<u32> = values
            .iter()
            .flat_map(|&(name, value)| {
                let [low, high] =
                    [value & u64::from(u32::MAX), value >> 32].map(|half| u32::try_from(half).unwrap_or(0));
                [self.string(name), low, high]
            })
            .collect();
        self.ty(Kind::ENUM64, name, values.len(), 8, &tail)
    }

    /// A global variable.
    pub fn var(&mut self, name: &str, ty: TypeId) -> TypeId {
        self.ty(Kind::VAR, name, 0, ty.0, &[1])
    }

    /// A section of `size` bytes; each variable has its type, its offset and its size in bytes.
    pub fn datasec(&mut self, name: &str, size: u32, variables: &[(TypeId, u32, u32)]) -> TypeId {
        let tail: Vec<u32> =
            variables.iter().flat_map(|&(variable, offset, size)| [variable.0, offset, size]).collect();
        self.ty(Kind::DATASEC, name, variables.len(), size, &tail)
    }

    /// The blob.
    pub fn finish(&self) -> Vec<u8> {
        let types = u32::try_from(self.types.len() * 4).unwrap_or(u32::MAX);
        let strings = u32::try_from(self.strings.len()).unwrap_or(u32::MAX);
        let mut blob = Vec::with_capacity(24 + self.types.len() * 4 + self.strings.len());
        let half = |half: u16| if self.big_endian { half.to_be_bytes() } else { half.to_le_bytes() };
        let word = |word: &u32| if self.big_endian { word.to_be_bytes() } else { word.to_le_bytes() };
        blob.extend(half(0xeb9f));
        blob.extend([1, 0]);
        blob.extend([24, 0, types, types, strings].iter().chain(&self.types).flat_map(word));
        blob.extend(&self.strings);
        blob
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Btf;

    #[test]
    fn equal_types_are_there_once() {
        let mut types = Builder::new();
        let int = types.int("int", 4, true);
        assert_eq!(types.int("int", 4, true), int);
        assert_ne!(types.int("int", 4, false), int);
        let pointer = types.ptr(int);
        assert_eq!(types.ptr(int), pointer);
        assert_ne!(types.ptr(pointer), pointer);
        assert_eq!(Btf::parse(types.finish()).unwrap().types().count(), 4);
    }

    #[test]
    fn equal_strings_are_there_once_and_end_at_a_nul() {
        let mut types = Builder::new();
        let [empty, one, other] = ["", "one", "on"].map(|text| types.string(text));
        assert_eq!((empty, one, other), (0, 1, 5));
        assert_eq!(["on", "one", "", "one\0more"].map(|text| types.string(text)), [other, one, empty, one]);
        // Another text that happens to have the hash of a known one is not taken for that.
        let hash = types.hasher.hash_one("another".as_bytes());
        types.known.insert(hash, one);
        assert_eq!(types.string("another"), 8);
    }

    #[test]
    fn a_section_holds_variables() {
        let mut types = Builder::new();
        let int = types.int("int", 4, true);
        let [first, second] = ["first", "second"].map(|name| types.var(name, int));
        types.datasec(".data", 12, &[(first, 0, 4), (second, 8, 4)]);
        let btf = Btf::parse(types.finish()).unwrap();
        assert_eq!(btf.find(".data", &[Kind::DATASEC]).unwrap().size().unwrap(), 12);
        assert_eq!(btf.find("second", &[Kind::VAR]).unwrap().target(), Some(int));
    }
}
