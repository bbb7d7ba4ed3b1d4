//! What an entry of each kind is in BTF.

use gimli::constants as dw;

use super::entry::{Entries, Entry, Unit};
use super::graph::Node;
use super::load::{Loader, is_named_type};
use crate::Error;
use crate::types::Kind;

/// How deeply structures may be written within each other.
const DEPTH: usize = 64;

impl<'s> Loader<'s> {
    /// Reads the type of an entry, and goes on behind its children. What is no type is passed over.
    pub(super) fn define(
        &mut self,
        unit: &Unit<'s>,
        entries: &mut Entries<'_, 's>,
        entry: &Entry<'s>,
        depth: usize,
    ) -> Result<(), Error> {
        match entry.tag {
            dw::DW_TAG_structure_type
            | dw::DW_TAG_class_type
            | dw::DW_TAG_interface_type
            | dw::DW_TAG_union_type
            | dw::DW_TAG_enumeration_type
                if entry.is_declaration || entry.signature.is_some() =>
            {
                self.declaration(unit, entry)?;
                entries.skip_children(entry)
            }
            dw::DW_TAG_structure_type | dw::DW_TAG_class_type | dw::DW_TAG_interface_type => {
                self.aggregate(unit, entries, entry, Kind::STRUCT, depth)
            }
            dw::DW_TAG_union_type => self.aggregate(unit, entries, entry, Kind::UNION, depth),
            dw::DW_TAG_enumeration_type => self.enumeration(unit, entries, entry),
            dw::DW_TAG_array_type => self.array(entries, entry),
            dw::DW_TAG_subroutine_type => {
                let id = self.id(entry.at);
                let ret = self.target(entry.ty)?;
                let params = self.parameters(unit, entries, entry)?;
                self.set(id, Node::new(Kind::FUNC_PROTO, 0, ret), &params);
                Ok(())
            }
            dw::DW_TAG_subprogram if entry.is_function() => self.function(unit, entries, entry),
            _ => {
                self.plain(unit, entry)?;
                entries.skip_children(entry)
            }
        }
    }

    /// A type without parts.
    fn plain(&mut self, unit: &Unit<'s>, entry: &Entry<'s>) -> Result<(), Error> {
        let kind = match entry.tag {
            dw::DW_TAG_base_type => return self.number(unit, entry),
            dw::DW_TAG_pointer_type | dw::DW_TAG_reference_type | dw::DW_TAG_rvalue_reference_type => Kind::PTR,
            dw::DW_TAG_const_type => Kind::CONST,
            dw::DW_TAG_volatile_type => Kind::VOLATILE,
            dw::DW_TAG_restrict_type => Kind::RESTRICT,
            dw::DW_TAG_typedef => Kind::TYPEDEF,
            // For BTF they are what they are made of.
            dw::DW_TAG_atomic_type | dw::DW_TAG_packed_type | dw::DW_TAG_unspecified_type => Kind::VOID,
            _ => return Ok(()),
        };
        let id = self.id(entry.at);
        let name = if kind == Kind::TYPEDEF { self.name(unit, entry)? } else { 0 };
        let target = self.target(entry.ty)?;
        self.set(id, Node::new(kind, name, target), &[]);
        Ok(())
    }

    fn number(&mut self, unit: &Unit<'s>, entry: &Entry<'s>) -> Result<(), Error> {
        let id = self.id(entry.at);
        let name = self.name(unit, entry)?;
        let size = size(entry)?;
        let bits = size.saturating_mul(8).min(128);
        let encoding = entry.encoding.unwrap_or(dw::DW_ATE_unsigned);
        let sign = match encoding {
            dw::DW_ATE_signed | dw::DW_ATE_signed_char => 1,
            dw::DW_ATE_boolean => 4,
            _ => 0,
        };
        if matches!(encoding, dw::DW_ATE_float | dw::DW_ATE_complex_float) {
            self.set(id, Node::new(Kind::FLOAT, name, size), &[]);
        } else {
            self.set(id, Node::new(Kind::INT, name, size), &[sign << 24 | bits]);
        }
        Ok(())
    }

    /// A structure, union or enumeration that is defined elsewhere.
    fn declaration(&mut self, unit: &Unit<'s>, entry: &Entry<'s>) -> Result<(), Error> {
        let id = self.id(entry.at);
        let name = self.name(unit, entry)?;
        let node = match entry.tag {
            _ if entry.signature.is_some() => Node::new(Kind::VOID, 0, self.target(entry.signature)?),
            _ if name == 0 => Node::default(),
            // BTF has no forward declaration of them, but takes one without values for that.
            dw::DW_TAG_enumeration_type => Node::new(Kind::ENUM, name, 4),
            tag => Node::new(Kind::FWD, name, 0).with_flag(tag == dw::DW_TAG_union_type),
        };
        self.set(id, node, &[]);
        Ok(())
    }

    fn aggregate(
        &mut self,
        unit: &Unit<'s>,
        entries: &mut Entries<'_, 's>,
        entry: &Entry<'s>,
        kind: Kind,
        depth: usize,
    ) -> Result<(), Error> {
        let id = self.id(entry.at);
        let name = self.name(unit, entry)?;
        let mut members = Vec::new();
        let mut child = Entry::default();
        while entry.has_children && entries.next(&mut child)? {
            if child.tag == dw::DW_TAG_member && !child.is_external && !child.is_declaration {
                let name = self.name(unit, &child)?;
                let target = self.target(child.ty)?;
                let (bit, bits) = place(&child, self.debug.is_big_endian)?;
                members.push((name, target, bit, bits));
                entries.skip_children(&child)?;
            } else if is_named_type(child.tag) && depth < DEPTH {
                self.define(unit, entries, &child, depth + 1)?;
            } else {
                entries.skip_children(&child)?;
            }
        }
        let has_bits = members.iter().any(|&(.., bits)| bits != 0);
        let mut tail = Vec::with_capacity(members.len() * 3);
        for (name, target, bit, bits) in members {
            // With the flag there are 24 bits for an offset; whatever is behind the first two megabytes is left out.
            if !has_bits || bit < 1 << 24 {
                tail.extend([name, target, bits << 24 | bit]);
            }
        }
        self.set(id, Node::new(kind, name, size(entry)?).with_flag(has_bits), &tail);
        Ok(())
    }

    fn enumeration(&mut self, unit: &Unit<'s>, entries: &mut Entries<'_, 's>, entry: &Entry<'s>) -> Result<(), Error> {
        let id = self.id(entry.at);
        let name = self.name(unit, entry)?;
        let mut values = Vec::new();
        let mut child = Entry::default();
        while entry.has_children && entries.next(&mut child)? {
            if child.tag == dw::DW_TAG_enumerator {
                values.push((self.name(unit, &child)?, child.value.unwrap_or_default()));
            }
            entries.skip_children(&child)?;
        }
        let is_signed = values.iter().any(|&(_, value)| value < 0);
        let fits = |value: i128| if is_signed { i32::try_from(value).is_ok() } else { u32::try_from(value).is_ok() };
        let is_wide = !values.iter().all(|&(_, value)| fits(value));
        let mut tail = Vec::with_capacity(values.len() * 3);
        for (name, value) in values {
            let [a, b, c, d, e, f, g, h, ..] = value.to_le_bytes();
            tail.extend([name, u32::from_le_bytes([a, b, c, d])]);
            tail.extend(is_wide.then_some(u32::from_le_bytes([e, f, g, h])));
        }
        let kind = if is_wide { Kind::ENUM64 } else { Kind::ENUM };
        self.set(id, Node::new(kind, name, size(entry)?).with_flag(is_signed), &tail);
        Ok(())
    }

    /// An array of arrays where there are several dimensions.
    fn array(&mut self, entries: &mut Entries<'_, 's>, entry: &Entry<'s>) -> Result<(), Error> {
        let id = self.id(entry.at);
        let mut lengths = Vec::new();
        let mut child = Entry::default();
        while entry.has_children && entries.next(&mut child)? {
            if child.tag == dw::DW_TAG_subrange_type {
                let count = child.count.or(child.upper_bound.map(|bound| bound.wrapping_add(1)));
                // One of unknown length has no bound. No array of more than 4 GB fits BTF.
                lengths.push(count.and_then(|count| u32::try_from(count).ok()).unwrap_or_default());
            }
            entries.skip_children(&child)?;
        }
        let mut of = self.target(entry.ty)?;
        if self.index == 0 {
            let name = self.names.intern(b"__ARRAY_SIZE_TYPE__")?;
            self.index = self.unnamed(Node::new(Kind::INT, name, 4), &[32]);
        }
        let node = Node::new(Kind::ARRAY, 0, 0);
        let first = lengths.first().copied().unwrap_or_default();
        for &length in lengths.iter().skip(1).rev() {
            of = self.unnamed(node, &[of, self.index, length]);
        }
        self.set(id, node, &[of, self.index, first]);
        Ok(())
    }

    /// Name and type of each parameter.
    fn parameters(
        &mut self,
        unit: &Unit<'s>,
        entries: &mut Entries<'_, 's>,
        entry: &Entry<'s>,
    ) -> Result<Vec<u32>, Error> {
        let mut params = Vec::new();
        let mut child = Entry::default();
        while entry.has_children && entries.next(&mut child)? {
            match child.tag {
                dw::DW_TAG_formal_parameter => {
                    params.extend([self.name(unit, &child)?, self.target(child.ty)?]);
                }
                dw::DW_TAG_unspecified_parameters => params.extend([0, 0]),
                // The parameters of a function are in front of its variables and blocks, which are the most of it.
                dw::DW_TAG_variable | dw::DW_TAG_lexical_block | dw::DW_TAG_inlined_subroutine
                    if Entries::has_sibling(entry) && entries.skip_to_sibling(entry)? =>
                {
                    return Ok(params);
                }
                _ => {}
            }
            entries.skip_children(&child)?;
        }
        Ok(params)
    }

    /// A function of which there is code. Its prototype is that of what it is a copy of, if it is one: the copy may lack
    /// parameters.
    fn function(&mut self, unit: &Unit<'s>, entries: &mut Entries<'_, 's>, entry: &Entry<'s>) -> Result<(), Error> {
        let original = entry.origin.map(|origin| self.original(unit, origin)).transpose()?;
        let (name, ret, params) = match original {
            Some(original) => {
                entries.skip_children(entry)?;
                let Some((unit, entry)) = original else { return Ok(()) };
                let mut entries = Entries::at(&unit, entry.at)?;
                entries.next(&mut Entry::default())?;
                let params = self.parameters(&unit, &mut entries, &entry)?;
                (self.name(&unit, &entry)?, self.target(entry.ty)?, params)
            }
            None => (self.name(unit, entry)?, self.target(entry.ty)?, self.parameters(unit, entries, entry)?),
        };
        let id = self.id(entry.at);
        let proto = self.unnamed(Node::new(Kind::FUNC_PROTO, 0, ret), &params);
        // All are static, as in the kernel's own types: old kernels know nothing else.
        let node = if name == 0 { Node::default() } else { Node::new(Kind::FUNC, name, proto) };
        self.set(id, node, &[]);
        Ok(())
    }
}

fn size(entry: &Entry<'_>) -> Result<u32, Error> {
    u32::try_from(entry.size.unwrap_or_default()).map_err(|_| Error::Malformed("types of 4 GB or more"))
}

/// Where a member begins, in bits, and how many it has, or 0 where it is no bit field.
fn place(member: &Entry<'_>, big_endian: bool) -> Result<(u32, u32), Error> {
    const FAR: Error = Error::Malformed("members beyond 512 MB");
    let base = member.location.unwrap_or_default().checked_mul(8).ok_or(FAR)?;
    let bits = member.bit_size.unwrap_or_default();
    let within = match (member.data_bit_offset, member.bit_offset) {
        (Some(bit), _) => i64::try_from(bit).map_err(|_| FAR)?,
        // Old DWARF counts from the most significant bit of a unit of memory.
        (None, Some(above)) if big_endian => above,
        (None, Some(above)) => {
            let unit = member.size.ok_or(Error::Malformed("bit fields without the size of their unit"))?;
            let end = unit.checked_mul(8).and_then(|end| i64::try_from(end).ok()).ok_or(FAR)?;
            let bits = i64::try_from(bits).map_err(|_| FAR)?;
            end.checked_sub(bits).and_then(|start| start.checked_sub(above)).ok_or(FAR)?
        }
        (None, None) => 0,
    };
    let bit = base.checked_add_signed(within).and_then(|bit| u32::try_from(bit).ok()).ok_or(FAR)?;
    Ok((bit, u32::try_from(bits).ok().filter(|&bits| bits < 256).ok_or(FAR)?))
}
