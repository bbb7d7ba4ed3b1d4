//! Which build of a kernel types belong to: by the note in a vmlinux, and by a mark in BTF that was made of one.
//!
//! BTF itself says nothing of the kind. So what is made here ends with a forward declaration, `struct vmlinux_build_id_0123..`, which
//! nothing refers to and every reader of BTF takes.

use std::fmt::Write;
use std::path::Path;

use object::Object;

use crate::input::{Input, Parts};
use crate::types::{Kind, TypeId};
use crate::{Btf, Builder, open_regular};

const MARK: &str = "vmlinux_build_id_";
/// No linker makes longer ones.
const MOST: usize = 64;

/// The build ID in an ELF file's note, in hexadecimal digits.
pub fn build_id(path: impl AsRef<Path>) -> Option<String> {
    let parts = Parts::new(Input::File(open_regular(path.as_ref()).ok()?));
    let file = object::File::parse(&parts).ok()?;
    file.build_id().ok()?.and_then(digits)
}

/// A build ID in hexadecimal digits; none of a length that no linker makes.
pub fn digits(id: &[u8]) -> Option<String> {
    (1..=MOST).contains(&id.len()).then(|| {
        id.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    })
}

impl Btf {
    /// The build ID of the kernel that these types say they are of; most say nothing.
    pub fn build_id(&self) -> Option<String> {
        let last = u32::try_from(self.len()).ok()?;
        let mark = self.ty(TypeId(last)).ok().filter(|ty| ty.kind() == Kind::FWD)?;
        mark.name().strip_prefix(MARK).map(str::to_owned)
    }

    /// The blob with a mark that says which build of a kernel it is of; as it is where it has one, or is not as this crate writes it.
    pub fn marked(&self, build_id: &str) -> Vec<u8> {
        let bytes = self.as_bytes();
        let [header, types, strings] = self.section_sizes();
        let plain = header == 24 && bytes.len() == header + types + strings;
        if !plain || self.build_id().is_some() {
            return bytes.to_vec();
        }
        // A builder writes the mark, and what it wrote is put behind what is there.
        let mut mark = Builder::with_byte_order(self.is_big_endian());
        mark.fwd(&format!("{MARK}{build_id}"));
        let mark = mark.finish();
        let word = |value: usize| {
            let value = u32::try_from(value).unwrap_or(u32::MAX);
            if self.is_big_endian() { value.to_be_bytes() } else { value.to_le_bytes() }
        };
        let (kind, name) = (&mark[24 + 4..24 + 12], &mark[24 + 12 + 1..]);
        let mut marked = bytes[..12].to_vec();
        for value in [types + 12, types + 12, strings + name.len()] {
            marked.extend(word(value));
        }
        marked.extend(&bytes[24..24 + types]);
        marked.extend(word(strings));
        marked.extend(kind);
        marked.extend(&bytes[24 + types..]);
        marked.extend(name);
        marked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_the_same_with_a_mark() {
        for big_endian in [false, true] {
            let mut types = Builder::with_byte_order(big_endian);
            let int = types.int("int", 4, true);
            types.strukt("point", 8, &[("x", int, 0), ("y", int, 4)]);
            let plain = Btf::parse(types.finish()).unwrap();
            assert_eq!(plain.build_id(), None);
            let marked = Btf::parse(plain.marked("00c0ffee")).unwrap();
            assert_eq!(marked.build_id().as_deref(), Some("00c0ffee"));
            assert_eq!((marked.len(), marked.field("point.y").unwrap().offset), (plain.len() + 1, 4));
            assert_eq!(marked.marked("another"), marked.as_bytes(), "a mark stays");
        }
    }

    #[test]
    fn a_build_id_has_digits() {
        assert_eq!(digits(&[0, 0xa5, 0xff]).as_deref(), Some("00a5ff"));
        assert_eq!(digits(&[]), None);
        assert_eq!(digits(&[0; 65]), None);
    }
}
