//! Entries of debugging information, one after the other, with the few attributes that say something of types.

use std::rc::Rc;

use gimli::{
    Abbreviation, Abbreviations, AttributeValue, DebugInfoOffset, DebugStrOffsetsBase, DwTag, EntriesRaw, UnitHeader,
    UnitOffset, UnitType, constants as dw,
};

use super::sections::{Debug, Slice};
use crate::Error;

/// A compile unit, ready to be read.
#[derive(Clone)]
pub(super) struct Unit<'s> {
    pub(super) header: UnitHeader<Slice<'s>>,
    abbreviations: Rc<Abbreviations>,
    /// Where the unit begins in `.debug_info`.
    pub(super) start: usize,
    pub(super) name_base: DebugStrOffsetsBase<usize>,
    pub(super) language: Option<gimli::DwLang>,
}

/// Where an entry refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A place in `.debug_info`.
    At(usize),
    /// The unit of this signature.
    Signature(u64),
}

/// What an entry says. Numbers are as they are in the file.
#[derive(Clone)]
pub(super) struct Entry<'s> {
    /// Where it is in `.debug_info`.
    pub(super) at: usize,
    pub(super) tag: DwTag,
    pub(super) has_children: bool,
    sibling: Option<UnitOffset>,
    pub(super) name: Option<AttributeValue<Slice<'s>>>,
    pub(super) ty: Option<Target>,
    /// What it is a copy or the definition of.
    pub(super) origin: Option<Target>,
    /// The unit that a declaration is defined in.
    pub(super) signature: Option<Target>,
    pub(super) size: Option<u64>,
    pub(super) encoding: Option<dw::DwAte>,
    pub(super) is_declaration: bool,
    pub(super) is_external: bool,
    /// Whether there is code of it.
    has_code: bool,
    /// Whether it stands for the copies of a function that are in others.
    is_inline: bool,
    /// Bytes from the start of the structure.
    pub(super) location: Option<u64>,
    /// Bits from the most significant one of a unit of `size` bytes.
    pub(super) bit_offset: Option<i64>,
    /// Bits from the start of the structure.
    pub(super) data_bit_offset: Option<u64>,
    pub(super) bit_size: Option<u64>,
    /// The number of elements, or one less than that.
    pub(super) count: Option<u64>,
    pub(super) upper_bound: Option<u64>,
    pub(super) value: Option<i128>,
    name_base: Option<DebugStrOffsetsBase<usize>>,
    language: Option<dw::DwLang>,
    /// Whether what it describes is in another file.
    is_split: bool,
}

impl Default for Entry<'_> {
    fn default() -> Self {
        Self {
            at: 0,
            tag: DwTag(0),
            has_children: false,
            sibling: None,
            name: None,
            ty: None,
            origin: None,
            signature: None,
            size: None,
            encoding: None,
            is_declaration: false,
            is_external: false,
            has_code: false,
            is_inline: false,
            location: None,
            bit_offset: None,
            data_bit_offset: None,
            bit_size: None,
            count: None,
            upper_bound: None,
            value: None,
            name_base: None,
            language: None,
            is_split: false,
        }
    }
}

impl Entry<'_> {
    /// Whether it is a function that the program has: one with code, or one that shares the code of another that is equal.
    pub(super) fn is_function(&self) -> bool {
        let is_shared = !self.is_inline && self.origin.is_none();
        self.tag == dw::DW_TAG_subprogram && !self.is_declaration && (self.has_code || is_shared)
    }
}

impl<'s> Unit<'s> {
    /// Reads what the unit's entries are abbreviated by, and its first entry.
    pub(super) fn open(debug: &Debug<'s>, header: UnitHeader<Slice<'s>>) -> Result<Self, Error> {
        let wrong = |error| Error::dwarf("a unit", error);
        let abbreviations = Rc::new(header.abbreviations(&debug.abbrev).map_err(wrong)?);
        let start = header.debug_info_offset().map_or(0, |offset| offset.0);
        let mut unit = Self { header, abbreviations, start, name_base: DebugStrOffsetsBase(0), language: None };
        let mut root = Entry::default();
        if Entries::all(&unit)?.next(&mut root)? {
            if root.is_split {
                return Err(Error::Split);
            }
            unit.name_base = root.name_base.unwrap_or(unit.name_base);
            unit.language = root.language;
        }
        Ok(unit)
    }

    /// The signature of a unit that holds one type, and where the type is.
    pub(super) fn signature(header: &UnitHeader<Slice<'s>>) -> Option<(u64, usize)> {
        match header.type_() {
            UnitType::Type { type_signature, type_offset } => {
                Some((type_signature.0, type_offset.to_debug_info_offset(header)?.0))
            }
            _ => None,
        }
    }
}

/// Entries from some place of a unit to its end.
pub(super) struct Entries<'u, 's> {
    unit: &'u Unit<'s>,
    raw: EntriesRaw<'u, Slice<'s>>,
}

impl<'u, 's> Entries<'u, 's> {
    /// From the unit's own entry on.
    pub(super) fn all(unit: &'u Unit<'s>) -> Result<Self, Error> {
        Self::from(unit, None)
    }

    /// From the entry at this place of `.debug_info` on.
    pub(super) fn at(unit: &'u Unit<'s>, at: usize) -> Result<Self, Error> {
        let offset = DebugInfoOffset(at).to_unit_offset(&unit.header);
        Self::from(unit, Some(offset.ok_or(Error::Malformed("references to outside of their unit"))?))
    }

    fn from(unit: &'u Unit<'s>, offset: Option<UnitOffset>) -> Result<Self, Error> {
        let raw = unit.header.entries_raw(&unit.abbreviations, offset);
        Ok(Self { unit, raw: raw.map_err(|error| Error::dwarf("an entry", error))? })
    }

    fn abbreviation(&mut self) -> Result<Option<&'u Abbreviation>, Error> {
        // The last entries of a unit may lack the zeros that end lists of children.
        if self.raw.is_empty() {
            return Ok(None);
        }
        self.raw.read_abbreviation().map_err(|error| Error::dwarf("an entry", error))
    }

    /// Reads the next entry; false where a list of children ends.
    pub(super) fn next(&mut self, entry: &mut Entry<'s>) -> Result<bool, Error> {
        let at = self.unit.start + self.raw.next_offset().0;
        let Some(abbreviation) = self.abbreviation()? else { return Ok(false) };
        *entry = Entry { at, tag: abbreviation.tag(), has_children: abbreviation.has_children(), ..Entry::default() };
        for &spec in abbreviation.attributes() {
            let attribute = self.raw.read_attribute_inline(spec).map_err(|error| Error::dwarf("an entry", error))?;
            let value = attribute.raw_value();
            match attribute.name() {
                dw::DW_AT_name => entry.name = Some(value),
                dw::DW_AT_type => entry.ty = Some(self.target(&value)?),
                dw::DW_AT_abstract_origin | dw::DW_AT_specification => entry.origin = Some(self.target(&value)?),
                dw::DW_AT_signature => entry.signature = Some(self.target(&value)?),
                dw::DW_AT_sibling => {
                    if let AttributeValue::UnitRef(offset) = value {
                        entry.sibling = Some(offset);
                    }
                }
                dw::DW_AT_byte_size => entry.size = value.udata_value(),
                dw::DW_AT_encoding => entry.encoding = value.u8_value().map(dw::DwAte),
                dw::DW_AT_declaration => entry.is_declaration = matches!(value, AttributeValue::Flag(true)),
                dw::DW_AT_external => entry.is_external = matches!(value, AttributeValue::Flag(true)),
                dw::DW_AT_low_pc | dw::DW_AT_ranges => entry.has_code = true,
                dw::DW_AT_inline => entry.is_inline = !matches!(value.udata_value(), None | Some(0)),
                dw::DW_AT_data_member_location => entry.location = location(&value),
                dw::DW_AT_bit_offset => entry.bit_offset = value.sdata_value(),
                dw::DW_AT_data_bit_offset => entry.data_bit_offset = value.udata_value(),
                dw::DW_AT_bit_size => entry.bit_size = value.udata_value(),
                dw::DW_AT_count => entry.count = value.udata_value(),
                dw::DW_AT_upper_bound => entry.upper_bound = bound(&value),
                dw::DW_AT_const_value => entry.value = constant(&value),
                dw::DW_AT_str_offsets_base => {
                    if let AttributeValue::SecOffset(base) = value {
                        entry.name_base = Some(DebugStrOffsetsBase(base));
                    }
                }
                dw::DW_AT_dwo_name | dw::DW_AT_GNU_dwo_name => entry.is_split = true,
                dw::DW_AT_language => {
                    let number = value.udata_value().and_then(|number| u16::try_from(number).ok());
                    entry.language = number.map(dw::DwLang);
                }
                _ => {}
            }
        }
        Ok(true)
    }

    /// Goes on behind the children of an entry that was just read.
    pub(super) fn skip_children(&mut self, entry: &Entry<'_>) -> Result<(), Error> {
        if !entry.has_children {
            return Ok(());
        }
        if self.skip_to_sibling(entry)? {
            return Ok(());
        }
        let mut depth = 1_usize;
        while depth > 0 && !self.raw.is_empty() {
            match self.abbreviation()? {
                Some(abbreviation) => {
                    let skipped = self.raw.skip_attributes(abbreviation.attributes());
                    skipped.map_err(|error| Error::dwarf("an entry", error))?;
                    depth += usize::from(abbreviation.has_children());
                }
                None => depth -= 1,
            }
        }
        Ok(())
    }

    /// Goes to what an entry says is behind its children, where it says so. A step back would go in circles.
    pub(super) fn skip_to_sibling(&mut self, entry: &Entry<'_>) -> Result<bool, Error> {
        let Some(sibling) = entry.sibling.filter(|sibling| sibling.0 >= self.raw.next_offset().0) else {
            return Ok(false);
        };
        self.raw = Self::from(self.unit, Some(sibling))?.raw;
        Ok(true)
    }

    /// Whether an entry tells where its children end.
    pub(super) fn has_sibling(entry: &Entry<'_>) -> bool {
        entry.sibling.is_some()
    }

    fn target(&self, value: &AttributeValue<Slice<'s>>) -> Result<Target, Error> {
        match *value {
            AttributeValue::UnitRef(offset) => {
                let at = self.unit.start.checked_add(offset.0);
                at.map(Target::At).ok_or(Error::Malformed("references to outside of their unit"))
            }
            AttributeValue::DebugInfoRef(offset) => Ok(Target::At(offset.0)),
            AttributeValue::DebugTypesRef(signature) => Ok(Target::Signature(signature.0)),
            _ => Err(Error::Supplementary),
        }
    }
}

/// Where a member is: a number, or in DWARF 2 an expression that adds one.
fn location(value: &AttributeValue<Slice<'_>>) -> Option<u64> {
    let bytes = match value {
        AttributeValue::Block(block) => block.slice(),
        AttributeValue::Exprloc(expression) => expression.0.slice(),
        value => return value.udata_value(),
    };
    let [operation, number @ ..] = bytes else { return None };
    // Seven bits a byte, the lowest first.
    let number = number.iter().rev().try_fold(0_u64, |sum, byte| Some(sum.checked_mul(128)? | u64::from(byte & 0x7f)));
    number.filter(|_| *operation == dw::DW_OP_plus_uconst.0)
}

/// The last index of an array. Old compilers write -1 for one without elements, in as few bytes as that takes.
fn bound(value: &AttributeValue<Slice<'_>>) -> Option<u64> {
    match value {
        AttributeValue::Sdata(-1) => Some(u64::MAX),
        AttributeValue::Data4(u32::MAX) => Some(u64::MAX),
        value => value.udata_value(),
    }
}

/// The value of an enumerator: negative ones have a form of their own.
fn constant(value: &AttributeValue<Slice<'_>>) -> Option<i128> {
    match value {
        AttributeValue::Sdata(value) => Some((*value).into()),
        value => value.udata_value().map(i128::from),
    }
}
