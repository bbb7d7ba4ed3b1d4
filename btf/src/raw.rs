//! Types as lines of text, as `bpftool btf dump` prints them.

use std::fmt::Write;

use crate::types::{Kind, Type};

impl Type<'_> {
    /// Appends the lines of a type: its number, its kind and all that is in it.
    pub fn write_raw(&self, out: &mut String) {
        let name = |out: &mut String, offset: u32| push_name(self, out, offset);
        let element = |out: &mut String, offset: u32| {
            out.push_str("\n\t'");
            name(out, offset);
            out.push('\'');
        };
        let _ = write!(out, "[{}] {} '", self.id.0, self.kind().constant());
        name(out, self.name_off);
        out.push('\'');
        let size = self.size;
        let _ = match self.kind() {
            Kind::INT => {
                let word = self.word(0);
                let (offset, bits) = (word >> 16 & 0xff, word & 0xff);
                let encoding = self.encoding_name().unwrap_or_default();
                write!(out, " size={size} bits_offset={offset} nr_bits={bits} encoding={encoding}")
            }
            Kind::PTR | Kind::CONST | Kind::VOLATILE | Kind::RESTRICT | Kind::TYPEDEF | Kind::TYPE_TAG => {
                write!(out, " type_id={size}")
            }
            Kind::ARRAY => {
                let [ty, index, len] = self.element(0, 3);
                write!(out, " type_id={ty} index_type_id={index} nr_elems={len}")
            }
            Kind::FWD => write!(out, " fwd_kind={}", if self.flag() { "union" } else { "struct" }),
            Kind::FUNC => write!(out, " type_id={size} linkage={}", self.linkage_name().unwrap_or_default()),
            Kind::VAR => write!(out, " type_id={size}, linkage={}", self.linkage_name().unwrap_or_default()),
            Kind::FLOAT => write!(out, " size={size}"),
            Kind::DECL_TAG => write!(out, " type_id={size} component_idx={}", self.component().unwrap_or_default()),
            Kind::STRUCT | Kind::UNION | Kind::DATASEC => write!(out, " size={size} vlen={}", self.elements()),
            Kind::ENUM | Kind::ENUM64 => {
                let encoding = if self.flag() { "SIGNED" } else { "UNSIGNED" };
                write!(out, " encoding={encoding} size={size} vlen={}", self.elements())
            }
            Kind::FUNC_PROTO => write!(out, " ret_type_id={size} vlen={}", self.elements()),
            Kind(number) => write!(out, " kind={number}"),
        };
        for index in 0..self.elements() {
            let _ = match self.kind() {
                Kind::STRUCT | Kind::UNION => {
                    let [text, ty, offset] = self.element(index, 3);
                    element(out, text);
                    let (offset, bits) = if self.flag() { (offset & 0x00ff_ffff, offset >> 24) } else { (offset, 0) };
                    let _ = write!(out, " type_id={ty} bits_offset={offset}");
                    if bits == 0 { Ok(()) } else { write!(out, " bitfield_size={bits}") }
                }
                Kind::ENUM => {
                    let [text, value, _] = self.element(index, 2);
                    element(out, text);
                    if self.flag() { write!(out, " val={}", value.cast_signed()) } else { write!(out, " val={value}") }
                }
                Kind::ENUM64 => {
                    let [text, low, high] = self.element(index, 3);
                    element(out, text);
                    let value = u64::from(high) << 32 | u64::from(low);
                    if self.flag() {
                        write!(out, " val={}LL", value.cast_signed())
                    } else {
                        write!(out, " val={value}ULL")
                    }
                }
                Kind::FUNC_PROTO => {
                    let [text, ty, _] = self.element(index, 2);
                    element(out, text);
                    write!(out, " type_id={ty}")
                }
                Kind::DATASEC => {
                    let [ty, offset, size] = self.element(index, 3);
                    let _ = write!(out, "\n\ttype_id={ty} offset={offset} size={size}");
                    if let Ok(ty) = self.btf.ty(crate::TypeId(ty)) {
                        let _ = write!(out, " ({} '", ty.kind().constant());
                        name(out, ty.name_off);
                        out.push_str("')");
                    }
                    Ok(())
                }
                _ => Ok(()),
            };
        }
        out.push('\n');
    }

    /// An integer's encoding, in bpftool's words.
    pub fn encoding_name(&self) -> Option<&'static str> {
        Some(match self.int()?.encoding {
            0 => "(none)",
            1 => "SIGNED",
            2 => "CHAR",
            4 => "BOOL",
            _ => "UNKN",
        })
    }

    /// Who sees a function or variable, in bpftool's words.
    pub fn linkage_name(&self) -> Option<&'static str> {
        Some(match self.linkage()? {
            0 => "static",
            1 => "global",
            2 => "extern",
            _ => "(unknown)",
        })
    }
}

/// Appends a name; what could do harm to a terminal as `\xNN`.
fn push_name(ty: &Type<'_>, out: &mut String, offset: u32) {
    match ty.btf.known_string(offset) {
        _ if offset == 0 => out.push_str("(anon)"),
        None => out.push_str("(invalid)"),
        Some(name) => name.iter().for_each(|&byte| match byte {
            b' '..=b'~' => out.push(byte.into()),
            _ => drop(write!(out, "\\x{byte:02x}")),
        }),
    }
}
