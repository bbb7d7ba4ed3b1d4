//! Types, decoded when they are looked at.

use std::borrow::Cow;

use crate::{Btf, Error};

/// The number of a type; 0 is `void`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub u32);

/// What kind of type it is: `BTF_KIND_*` in include/uapi/linux/btf.h. The set is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u8);

macro_rules! kinds {
    ($($name:ident $number:literal $text:literal)*) => {
        impl Kind {
            $(#[doc = $text] pub const $name: Self = Self($number);)*

            /// Its name in C or in the format's documentation.
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($number => $text,)*
                    _ => "unknown",
                }
            }

            /// Its constant's name, without `BTF_KIND_`.
            pub fn constant(self) -> &'static str {
                match self.0 {
                    $($number => stringify!($name),)*
                    _ => "UNKNOWN",
                }
            }
        }
    };
}

kinds! {
    VOID 0 "void" INT 1 "int" PTR 2 "pointer" ARRAY 3 "array" STRUCT 4 "struct" UNION 5 "union" ENUM 6 "enum" FWD 7 "forward"
    TYPEDEF 8 "typedef" VOLATILE 9 "volatile" CONST 10 "const" RESTRICT 11 "restrict" FUNC 12 "function"
    FUNC_PROTO 13 "function prototype" VAR 14 "variable" DATASEC 15 "data section" FLOAT 16 "float" DECL_TAG 17 "declaration tag"
    TYPE_TAG 18 "type tag" ENUM64 19 "enum64"
}

/// What a word after a type's first three is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// The offset of a string.
    Text,
    /// The number of a type.
    Type,
    Number,
}

impl Kind {
    /// What follows the three words that every type has: some words, and some for each of its elements. None where the kind is not known.
    pub(crate) const fn words(self) -> Option<(&'static [Word], &'static [Word])> {
        use Word::{Number, Text, Type};
        Some(match self {
            Self::INT | Self::VAR | Self::DECL_TAG => (&[Number], &[]),
            Self::ARRAY => (&[Type, Type, Number], &[]),
            Self::STRUCT | Self::UNION => (&[], &[Text, Type, Number]),
            Self::DATASEC => (&[], &[Type, Number, Number]),
            Self::ENUM64 => (&[], &[Text, Number, Number]),
            Self::ENUM => (&[], &[Text, Number]),
            Self::FUNC_PROTO => (&[], &[Text, Type]),
            Self::PTR
            | Self::FWD
            | Self::TYPEDEF
            | Self::VOLATILE
            | Self::CONST
            | Self::RESTRICT
            | Self::FUNC
            | Self::FLOAT
            | Self::TYPE_TAG => (&[], &[]),
            _ => return None,
        })
    }

    /// Linux 7.1 gave kinds the bits up to 30; before, those above 28 were zero.
    pub(crate) const fn of(info: u32) -> Self {
        let [.., kind] = info.to_le_bytes();
        Self(kind & 0x7f)
    }

    /// The number of members, parameters or values; 24 bits since Linux 7.1, of which the upper 8 were zero before.
    pub(crate) const fn elements(info: u32) -> u32 {
        info & 0x00ff_ffff
    }
}

/// A type of a blob.
#[derive(Clone, Copy, Debug)]
pub struct Type<'a> {
    pub(crate) btf: &'a Btf,
    /// Its number.
    pub id: TypeId,
    pub(crate) name_off: u32,
    pub(crate) info: u32,
    /// Bytes, or the number of another type.
    pub(crate) size: u32,
    pub(crate) tail: &'a [u8],
}

/// A member of a structure or union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Empty where the member is anonymous.
    pub name: Cow<'a, str>,
    /// What it is.
    pub ty: TypeId,
    /// Where it begins, in bits from the start of the structure.
    pub bit_offset: u32,
    /// How many bits a bit field has.
    pub bits: Option<u32>,
}

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// Empty where it has none.
    pub name: Cow<'a, str>,
    /// What it is; `void` stands for `...`.
    pub ty: TypeId,
}

/// The size of a pointer. BTF does not say; BPF's own are 64 bits, and so are those of the machines this is for.
const POINTER: u32 = 8;
/// How many types may lead to one.
const DEPTH: usize = 64;

impl<'a> Type<'a> {
    /// What kind of type it is.
    pub fn kind(&self) -> Kind {
        Kind::of(self.info)
    }

    /// Its name; empty where it has none.
    pub fn name(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.raw_name())
    }

    /// Its name as it is, which may be no UTF-8.
    pub(crate) fn raw_name(&self) -> &'a [u8] {
        self.btf.string(self.name_off)
    }

    /// The flag of its kind: bit fields of a structure are encoded in the new way, an enumeration is signed, a forward declaration is
    /// of a union, a tag is an attribute.
    pub fn flag(&self) -> bool {
        self.info >> 31 != 0
    }

    /// Whether it has a name.
    pub(crate) fn is_named(&self) -> bool {
        self.name_off != 0 && self.btf.begins_string(self.name_off)
    }

    pub(crate) fn elements(&self) -> usize {
        // The lower bits of a function are its linkage.
        let has_elements = self.kind().words().is_some_and(|(_, each)| !each.is_empty());
        if has_elements { usize::try_from(Kind::elements(self.info)).unwrap_or_default() } else { 0 }
    }

    /// The bytes it takes in the blob.
    pub fn encoded_len(&self) -> usize {
        match self.kind().words() {
            Some((fixed, each)) => 12 + 4 * (fixed.len() + self.elements() * each.len()),
            None => 12 + self.tail.len(),
        }
    }

    /// A word of what follows its first three.
    pub(crate) fn word(&self, index: usize) -> u32 {
        self.btf.word(self.tail, index)
    }

    pub(crate) fn element(&self, index: usize, words: usize) -> [u32; 3] {
        let word = |n| if n < words { self.word(index * words + n) } else { 0 };
        [word(0), word(1), word(2)]
    }

    /// The type that it points to, names, qualifies, tags or returns, or that an array is of.
    pub fn target(&self) -> Option<TypeId> {
        match self.kind() {
            Kind::ARRAY => Some(TypeId(self.word(0))),
            Kind::PTR
            | Kind::TYPEDEF
            | Kind::VOLATILE
            | Kind::CONST
            | Kind::RESTRICT
            | Kind::FUNC
            | Kind::FUNC_PROTO
            | Kind::VAR
            | Kind::DECL_TAG
            | Kind::TYPE_TAG => Some(TypeId(self.size)),
            _ => None,
        }
    }

    /// Whether a function is one that the kernel verifies on its own, and lets another program replace.
    pub fn is_global_func(&self) -> bool {
        // BTF_FUNC_GLOBAL, in the bits that count the elements of other kinds.
        self.kind() == Kind::FUNC && self.info & 0xffff == 1
    }

    /// Who sees a function or variable: 0 its own file, 1 all, 2 those that have it from elsewhere.
    pub fn linkage(&self) -> Option<u32> {
        match self.kind() {
            Kind::FUNC => Some(self.info & 0xffff),
            Kind::VAR => Some(self.word(0)),
            _ => None,
        }
    }

    /// Which member or parameter a declaration tag is of; -1 where it is of all.
    pub fn component(&self) -> Option<i32> {
        (self.kind() == Kind::DECL_TAG).then(|| self.word(0).cast_signed())
    }

    /// The variables of a section: what each is, its offset and its size in bytes.
    pub fn variables(&self) -> impl Iterator<Item = (TypeId, u32, u32)> + use<'a> {
        let ty = *self;
        let count = if self.kind() == Kind::DATASEC { self.elements() } else { 0 };
        (0..count).map(move |index| {
            let [id, offset, size] = ty.element(index, 3);
            (TypeId(id), offset, size)
        })
    }

    /// The type that an array's index has.
    pub fn index_type(&self) -> Option<TypeId> {
        (self.kind() == Kind::ARRAY).then(|| TypeId(self.word(1)))
    }

    /// The number of elements of an array.
    pub fn array_len(&self) -> Option<u32> {
        (self.kind() == Kind::ARRAY).then(|| self.word(2))
    }

    /// The bits of an integer, and whether it is signed.
    pub fn int(&self) -> Option<Int> {
        let word = self.word(0);
        (self.kind() == Kind::INT).then_some(Int {
            bits: word & 0xff,
            offset: word >> 16 & 0xff,
            signed: word >> 24 & 1 != 0,
            encoding: word >> 24 & 0xf,
        })
    }

    /// How many members a structure or union has.
    pub(crate) fn member_count(&self) -> usize {
        if matches!(self.kind(), Kind::STRUCT | Kind::UNION) { self.elements() } else { 0 }
    }

    pub(crate) fn member(&self, index: usize) -> Member<'a> {
        let [name, id, offset] = self.element(index, 3);
        // With the flag, the upper 8 bits are the size of a bit field.
        let (bit_offset, bits) = if self.flag() { (offset & 0x00ff_ffff, offset >> 24) } else { (offset, 0) };
        let name = String::from_utf8_lossy(self.btf.string(name));
        Member { name, ty: TypeId(id), bit_offset, bits: (bits != 0).then_some(bits) }
    }

    /// The members of a structure or union.
    pub fn members(&self) -> impl Iterator<Item = Member<'a>> + use<'a> {
        let ty = *self;
        (0..self.member_count()).map(move |index| ty.member(index))
    }

    /// The values of an enumeration. Those above `i64::MAX` come out negative; and those below zero as their 32 bits where the
    /// types were made before Linux 6.0, which did not tell signed ones.
    pub fn values(&self) -> impl Iterator<Item = (Cow<'a, str>, i64)> + use<'a> {
        let ty = *self;
        let count = if matches!(self.kind(), Kind::ENUM | Kind::ENUM64) { self.elements() } else { 0 };
        (0..count).map(move |index| {
            let wide = ty.kind() == Kind::ENUM64;
            let [name, low, high] = ty.element(index, if wide { 3 } else { 2 });
            let value = match (wide, ty.flag()) {
                (true, _) => (u64::from(high) << 32 | u64::from(low)).cast_signed(),
                (false, true) => low.cast_signed().into(),
                (false, false) => low.into(),
            };
            (String::from_utf8_lossy(ty.btf.string(name)), value)
        })
    }

    /// The parameters of a function's prototype.
    pub fn params(&self) -> impl Iterator<Item = Param<'a>> + use<'a> {
        let ty = *self;
        let count = if self.kind() == Kind::FUNC_PROTO { self.elements() } else { 0 };
        (0..count).map(move |index| {
            let [name, id, _] = ty.element(index, 2);
            Param { name: String::from_utf8_lossy(ty.btf.string(name)), ty: TypeId(id) }
        })
    }

    /// The type behind typedefs, qualifiers and tags.
    ///
    /// # Errors
    /// A chain without end, or to a type that is not there.
    pub fn resolved(self) -> Result<Self, Error> {
        let mut ty = self;
        for _ in 0..DEPTH {
            match ty.kind() {
                Kind::TYPEDEF | Kind::VOLATILE | Kind::CONST | Kind::RESTRICT | Kind::TYPE_TAG | Kind::VAR => {
                    ty = self.btf.ty(TypeId(ty.size))?;
                }
                _ => return Ok(ty),
            }
        }
        Err(Error::TooDeep(self.id.0))
    }

    /// Its size in bytes; functions and `void` have none.
    ///
    /// # Errors
    /// As [`Type::resolved`], and an array that is larger than memory.
    pub fn size(self) -> Result<u32, Error> {
        let mut factor = 1_u32;
        let mut ty = self;
        for _ in 0..DEPTH {
            ty = ty.resolved()?;
            let size = match ty.kind() {
                Kind::ARRAY => {
                    factor = factor.checked_mul(ty.array_len().unwrap_or_default()).ok_or(Error::TooDeep(self.id.0))?;
                    ty = self.btf.ty(ty.target().unwrap_or_default())?;
                    continue;
                }
                Kind::PTR => POINTER,
                Kind::INT | Kind::STRUCT | Kind::UNION | Kind::ENUM | Kind::ENUM64 | Kind::FLOAT | Kind::DATASEC => {
                    ty.size
                }
                _ => 0,
            };
            return factor.checked_mul(size).ok_or(Error::TooDeep(self.id.0));
        }
        Err(Error::TooDeep(self.id.0))
    }
}

/// How an integer is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int {
    /// The number of bits that count.
    pub bits: u32,
    /// Where they begin, in old encodings of bit fields.
    pub offset: u32,
    /// Whether it is signed.
    pub signed: bool,
    /// `BTF_INT_SIGNED` 1, `BTF_INT_CHAR` 2, `BTF_INT_BOOL` 4.
    pub encoding: u32,
}

impl Btf {
    /// The prototype of a function of the kernel.
    ///
    /// # Errors
    /// When there is no such function.
    pub fn func_proto(&self, function: &str) -> Result<Type<'_>, Error> {
        let func = self.find(function, &[Kind::FUNC]).ok_or_else(|| Error::NoType(function.to_owned()))?;
        func.btf.ty(TypeId(func.size))
    }

    /// The prototype that a typedef of a pointer to functions stands for, such as `btf_trace_sched_switch`.
    ///
    /// # Errors
    /// When there is no such typedef, or when it is of something else.
    pub fn typedef_proto(&self, name: &str) -> Result<Type<'_>, Error> {
        let none = || Error::NoType(name.to_owned());
        let typedef = self.find(name, &[Kind::TYPEDEF]).ok_or_else(none)?;
        let pointer = typedef.resolved()?;
        let proto = pointer.btf.ty(pointer.target().ok_or_else(none)?)?;
        (proto.kind() == Kind::FUNC_PROTO).then_some(proto).ok_or_else(none)
    }
}
