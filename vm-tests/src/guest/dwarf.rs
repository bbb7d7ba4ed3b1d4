//! A vmlinux with debugging information, made of the running kernel's own types: what a distribution's debug package would hold.
//!
//! The numbers in it are the kernel's. How compilers write DWARF is the matter of the fixtures in `tests/fixtures/dwarf`; here it is
//! read live, on every kernel.

use std::collections::HashMap;

use bpfkit_btf::{Btf, Error, Kind, Type, TypeId};

/// DW_TAG_*.
mod tag {
    pub const ARRAY: u8 = 0x01;
    pub const ENUMERATION: u8 = 0x04;
    pub const PARAMETER: u8 = 0x05;
    pub const MEMBER: u8 = 0x0d;
    pub const POINTER: u8 = 0x0f;
    pub const UNIT: u8 = 0x11;
    pub const STRUCTURE: u8 = 0x13;
    pub const SUBROUTINE: u8 = 0x15;
    pub const TYPEDEF: u8 = 0x16;
    pub const UNION: u8 = 0x17;
    pub const SUBRANGE: u8 = 0x21;
    pub const BASE: u8 = 0x24;
    pub const CONST: u8 = 0x26;
    pub const ENUMERATOR: u8 = 0x28;
    pub const SUBPROGRAM: u8 = 0x2e;
    pub const VOLATILE: u8 = 0x35;
    pub const RESTRICT: u8 = 0x37;
}

/// DW_AT_*.
mod at {
    pub const NAME: u8 = 0x03;
    pub const BYTE_SIZE: u8 = 0x0b;
    pub const LOW_PC: u8 = 0x11;
    pub const BIT_SIZE: u8 = 0x0d;
    pub const CONST_VALUE: u8 = 0x1c;
    pub const COUNT: u8 = 0x37;
    pub const MEMBER_LOCATION: u8 = 0x38;
    pub const DECLARATION: u8 = 0x3c;
    pub const ENCODING: u8 = 0x3e;
    pub const EXTERNAL: u8 = 0x3f;
    pub const TYPE: u8 = 0x49;
    pub const DATA_BIT_OFFSET: u8 = 0x6b;
}

/// The value of an attribute, by the form it is written in.
enum Value<'a> {
    /// DW_FORM_string
    Text(&'a str),
    /// DW_FORM_udata
    Number(u64),
    /// DW_FORM_data8, of a negative number too
    Wide(i64),
    /// DW_FORM_ref4
    Ref(TypeId),
    /// DW_FORM_flag_present
    Flag,
}

impl Value<'_> {
    fn form(&self) -> u8 {
        match self {
            Self::Text(_) => 0x08,
            Self::Number(_) => 0x0f,
            Self::Wide(_) => 0x07,
            Self::Ref(_) => 0x13,
            Self::Flag => 0x19,
        }
    }
}

/// A unit of DWARF 4.
#[derive(Default)]
struct Unit {
    info: Vec<u8>,
    abbreviations: Vec<u8>,
    /// The number of each form of entry: tag, whether it has children, attributes with their forms.
    forms: HashMap<Vec<u8>, u8>,
    places: HashMap<TypeId, usize>,
    /// Where references are, and to what.
    references: Vec<(usize, TypeId)>,
}

/// The bytes of the unit's header: length, version, place of the abbreviations, size of an address.
const HEADER: usize = 11;

impl Unit {
    /// Appends an entry. A type that is `void`, and a name that is empty, are not written.
    fn entry(&mut self, tag: u8, has_children: bool, attributes: &[(u8, Value<'_>)]) {
        let is_void = |value: &Value<'_>| matches!(value, Value::Ref(TypeId(0)) | Value::Text(""));
        let attributes: Vec<_> = attributes.iter().filter(|(_, value)| !is_void(value)).collect();
        let mut form = vec![tag, u8::from(has_children)];
        form.extend(attributes.iter().flat_map(|(at, value)| [*at, value.form()]));
        form.extend([0, 0]);
        let next = u8::try_from(self.forms.len() + 1).unwrap_or(u8::MAX);
        let number = *self.forms.entry(form.clone()).or_insert_with(|| {
            self.abbreviations.push(next);
            self.abbreviations.extend(form);
            next
        });
        self.info.push(number);
        for (_, value) in attributes {
            match value {
                Value::Text(text) => self.info.extend([text.as_bytes(), b"\0"].concat()),
                Value::Number(number) => self.uleb(*number),
                Value::Wide(number) => self.info.extend(number.to_le_bytes()),
                Value::Ref(id) => {
                    self.references.push((self.info.len(), *id));
                    self.info.extend([0; 4]);
                }
                Value::Flag => {}
            }
        }
    }

    fn uleb(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.info.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.info.push(number.to_le_bytes()[0]);
    }

    fn end_of_children(&mut self) {
        self.info.push(0);
    }

    fn add(&mut self, btf: &Btf, ty: Type<'_>) -> Result<(), Error> {
        self.places.insert(ty.id, HEADER + self.info.len());
        let name = ty.name().into_owned();
        let name = (at::NAME, Value::Text(&name));
        let size = |ty: Type<'_>| Ok::<_, Error>((at::BYTE_SIZE, Value::Number(ty.size()?.into())));
        let target = (at::TYPE, Value::Ref(ty.target().unwrap_or_default()));
        match ty.kind() {
            Kind::INT => {
                // DW_ATE_boolean, signed, unsigned.
                let encoding = match ty.int() {
                    Some(int) if int.encoding & 4 != 0 => 2,
                    Some(int) if int.signed => 5,
                    _ => 7,
                };
                self.entry(tag::BASE, false, &[name, size(ty)?, (at::ENCODING, Value::Number(encoding))]);
            }
            Kind::FLOAT => self.entry(tag::BASE, false, &[name, size(ty)?, (at::ENCODING, Value::Number(4))]),
            Kind::PTR => self.entry(tag::POINTER, false, &[target]),
            Kind::TYPEDEF => self.entry(tag::TYPEDEF, false, &[name, target]),
            Kind::CONST => self.entry(tag::CONST, false, &[target]),
            Kind::VOLATILE => self.entry(tag::VOLATILE, false, &[target]),
            Kind::RESTRICT => self.entry(tag::RESTRICT, false, &[target]),
            // Compilers attach tags to pointers; an alias without a name does as well.
            Kind::TYPE_TAG => self.entry(tag::CONST, false, &[target]),
            Kind::FWD => {
                let tag = if ty.flag() { tag::UNION } else { tag::STRUCTURE };
                self.entry(tag, false, &[name, (at::DECLARATION, Value::Flag)]);
            }
            Kind::STRUCT | Kind::UNION => {
                let tag = if ty.kind() == Kind::UNION { tag::UNION } else { tag::STRUCTURE };
                self.entry(tag, true, &[name, size(ty)?]);
                for member in ty.members() {
                    let (name, ty) = ((at::NAME, Value::Text(&member.name)), (at::TYPE, Value::Ref(member.ty)));
                    match member.bits {
                        Some(bits) => {
                            let offset = (at::DATA_BIT_OFFSET, Value::Number(member.bit_offset.into()));
                            self.entry(
                                tag::MEMBER,
                                false,
                                &[name, ty, (at::BIT_SIZE, Value::Number(bits.into())), offset],
                            );
                        }
                        None => {
                            let offset = (at::MEMBER_LOCATION, Value::Number((member.bit_offset / 8).into()));
                            self.entry(tag::MEMBER, false, &[name, ty, offset]);
                        }
                    }
                }
                self.end_of_children();
            }
            Kind::ENUM | Kind::ENUM64 => {
                self.entry(tag::ENUMERATION, true, &[name, size(ty)?]);
                for (name, value) in ty.values() {
                    self.entry(
                        tag::ENUMERATOR,
                        false,
                        &[(at::NAME, Value::Text(&name)), (at::CONST_VALUE, Value::Wide(value))],
                    );
                }
                self.end_of_children();
            }
            Kind::ARRAY => {
                self.entry(tag::ARRAY, true, &[target]);
                let count = ty.array_len().unwrap_or_default();
                self.entry(tag::SUBRANGE, false, &[(at::COUNT, Value::Number(count.into()))]);
                self.end_of_children();
            }
            Kind::FUNC_PROTO => {
                self.entry(tag::SUBROUTINE, true, &[target]);
                self.parameters(ty);
            }
            Kind::FUNC => {
                let proto = btf.ty(ty.target().unwrap_or_default())?;
                let result = (at::TYPE, Value::Ref(proto.target().unwrap_or_default()));
                let code = (at::LOW_PC, Value::Wide(0x1000));
                self.entry(tag::SUBPROGRAM, true, &[name, (at::EXTERNAL, Value::Flag), code, result]);
                self.parameters(proto);
            }
            // Nothing that a program asks for.
            _ => {
                self.places.remove(&ty.id);
            }
        }
        Ok(())
    }

    fn parameters(&mut self, proto: Type<'_>) {
        for param in proto.params() {
            let attributes = [(at::NAME, Value::Text(&param.name)), (at::TYPE, Value::Ref(param.ty))];
            self.entry(tag::PARAMETER, false, &attributes);
        }
        self.end_of_children();
    }

    /// The two sections.
    fn finish(mut self) -> [Vec<u8>; 2] {
        self.end_of_children();
        for (at, id) in self.references {
            let place = self.places.get(&id).copied().unwrap_or_default();
            self.info[at..at + 4].copy_from_slice(&u32::try_from(place).unwrap_or_default().to_le_bytes());
        }
        let length = u32::try_from(self.info.len() + HEADER - 4).unwrap_or_default();
        let header = [&length.to_le_bytes()[..], &[4, 0, 0, 0, 0, 0, 8]].concat();
        self.abbreviations.push(0);
        [[header, self.info].concat(), self.abbreviations]
    }
}

/// A linked ELF file with DWARF of version 4 of these types, and with this build ID where one is given.
///
/// # Errors
/// Types that are broken.
pub fn vmlinux(btf: &Btf, build_id: Option<&[u8]>) -> Result<Vec<u8>, Error> {
    let mut unit = Unit::default();
    unit.entry(tag::UNIT, true, &[(at::NAME, Value::Text("vmlinux.c"))]);
    for ty in btf.types() {
        unit.add(btf, ty)?;
    }
    let [info, abbreviations] = unit.finish();
    let note = build_id.map(|id| {
        let size = u32::try_from(id.len()).unwrap_or_default();
        [&[4, 0, 0, 0][..], &size.to_le_bytes(), &[3, 0, 0, 0], b"GNU\0", id].concat()
    });
    let mut names = vec![0];
    let mut file = vec![0; 64];
    // Name, type, place and size of each section; SHT_PROGBITS, SHT_NOTE, SHT_STRTAB.
    let mut sections = vec![[0_u64; 4]];
    let mut all = vec![(".debug_info", 1, info), (".debug_abbrev", 1, abbreviations)];
    all.extend(note.map(|note| (".notes", 7, note)));
    let mut add = |name: usize, kind: u64, bytes: &[u8]| {
        file.resize(file.len().next_multiple_of(8), 0);
        sections.push([name as u64, kind, file.len() as u64, bytes.len() as u64]);
        file.extend(bytes);
    };
    for (name, kind, bytes) in all {
        add(names.len(), kind, &bytes);
        names.extend([name.as_bytes(), b"\0"].concat());
    }
    let own = names.len();
    names.extend(b".shstrtab\0");
    add(own, 3, &names);
    file.resize(file.len().next_multiple_of(8), 0);
    let table = file.len() as u64;
    let count = u8::try_from(sections.len()).unwrap_or_default();
    for [name, kind, place, size] in sections {
        for word in [name | kind << 32, 0, 0, place, size, 0, if kind == 7 { 4 } else { 1 }, 0] {
            file.extend(word.to_le_bytes());
        }
    }
    // ET_EXEC for EM_X86_64, and where the table of sections is.
    file[..24].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0");
    file[40..48].copy_from_slice(&table.to_le_bytes());
    file[52..64].copy_from_slice(&[64, 0, 0, 0, 0, 0, 64, 0, count, 0, count - 1, 0]);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfkit_btf::{build_id, cut};

    #[test]
    fn what_is_written_is_read_as_the_same_types() {
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/btf/6.12.btf");
        let btf = Btf::from_file(fixture).expect("types");
        let needed = cut(&btf, &btf.present(bpfkit::roots::ROOTS)).expect("a cut");
        let needed = Btf::parse(needed).expect("types");
        let bytes = vmlinux(&needed, Some(&[0xc0, 0xff])).expect("an ELF file");
        let read = Btf::from_dwarf(&bytes, None).expect("DWARF");
        for path in bpfkit::roots::ROOTS.iter().filter(|path| path.contains('.')) {
            let Ok(known) = needed.field(path) else { continue };
            let found = read.field(path).expect(path);
            assert_eq!((found.offset, found.size), (known.offset, known.size), "{path}");
        }
        let proto = read.func_proto("tcp_v4_connect").expect("a prototype");
        assert_eq!(proto.params().count(), 3);
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("vmlinux");
        std::fs::write(&file, bytes).expect("write");
        assert_eq!(build_id(file).as_deref(), Some("c0ff"));
    }
}
