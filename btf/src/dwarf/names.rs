//! Names by number: a name that many units have is looked at once.

use std::collections::HashMap;

use gimli::{AttributeValue, DebugStrOffset, DebugStrOffsetsBase, Format};

use super::sections::{Debug, Slice};
use crate::Error;

/// The longest name that is kept; what is behind is cut off. A name of a kernel's has 511 bytes at most.
const LONGEST: usize = 4096;
/// How often the bytes of the sections may be used over: a name may be the end of another, but not all of them of each other.
const REUSE: usize = 8;

/// Names and their numbers; 0 is the empty one.
pub(super) struct Names<'s> {
    numbers: HashMap<&'s [u8], u32>,
    names: Vec<&'s [u8]>,
    /// The number of the name at each byte of `.debug_str`, or 0. The linker has made each of them one of a kind.
    known: Vec<u32>,
    /// How many more bytes of names are taken.
    left: usize,
}

impl<'s> Names<'s> {
    pub(super) fn new(debug: &Debug<'s>) -> Self {
        Self {
            numbers: HashMap::from([(&b""[..], 0)]),
            names: vec![b""],
            known: Vec::new(),
            left: debug.names_len.saturating_mul(REUSE).saturating_add(LONGEST),
        }
    }

    /// The number of the name that an attribute gives.
    pub(super) fn number(
        &mut self,
        debug: &Debug<'s>,
        value: &AttributeValue<Slice<'s>>,
        format: Format,
        base: DebugStrOffsetsBase<usize>,
    ) -> Result<u32, Error> {
        let wrong = |error| Error::dwarf("a name", error);
        match *value {
            AttributeValue::String(name) => self.intern(name.slice()),
            AttributeValue::DebugStrRef(at) => self.in_section(debug, at),
            AttributeValue::DebugLineStrRef(at) => {
                let name = debug.line_names.get_str(at).map_err(wrong)?;
                self.intern(name.slice())
            }
            AttributeValue::DebugStrOffsetsIndex(index) => {
                // gimli multiplies it before it looks whether it is in there.
                if index.0 >= debug.name_offsets_len {
                    return Err(Error::dwarf("a name", gimli::Error::UnexpectedEof(gimli::ReaderOffsetId(0))));
                }
                let at = debug.name_offsets.get_str_offset(format, base, index).map_err(wrong)?;
                self.in_section(debug, at)
            }
            // Names that dwz has moved to another file.
            _ => Err(Error::Supplementary),
        }
    }

    fn in_section(&mut self, debug: &Debug<'s>, at: DebugStrOffset) -> Result<u32, Error> {
        if let Some(&number) = self.known.get(at.0).filter(|&&number| number != 0) {
            return Ok(number);
        }
        let name = debug.names.get_str(at).map_err(|error| Error::dwarf("a name", error))?;
        let number = self.intern(name.slice())?;
        if self.known.len() <= at.0 {
            self.known.resize(at.0 + 1, 0);
        }
        self.known[at.0] = number;
        Ok(number)
    }

    /// The number of a name.
    pub(super) fn intern(&mut self, name: &'s [u8]) -> Result<u32, Error> {
        let name = &name[..name.len().min(LONGEST)];
        if let Some(&number) = self.numbers.get(name) {
            return Ok(number);
        }
        self.left = self.left.checked_sub(name.len()).ok_or(Error::Malformed("more names than there is room for"))?;
        let number = u32::try_from(self.names.len()).map_err(|_| Error::Malformed("too many names"))?;
        self.names.push(name);
        self.numbers.insert(name, number);
        Ok(number)
    }

    /// All names, in the order of their numbers.
    pub(super) fn all(&self) -> &[&'s [u8]] {
        &self.names
    }
}
