//! The members of a structure as its users know them, those of its unnamed parts among them.

use crate::field::old_bit_field;
use crate::types::{Kind, Type, TypeId};

/// How deeply unnamed structures may be nested.
const DEPTH: usize = 32;
/// How many members are looked at: unnamed parts that hold each other twice would double them at every level, even if none has a name.
const MEMBERS: usize = 1 << 16;

/// A member, placed within the whole structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatMember {
    /// Its name; where it is within a named member that has an unnamed structure as its type, that of the other one is in front,
    /// with `[]` where there are several: `sk_ll.napi`, `rows[].first`.
    pub path: String,
    /// Where it begins, in bits from the start of the structure; of several, the first.
    pub bit_offset: u64,
    /// How many bits a bit field has.
    pub bits: Option<u32>,
    /// What it is.
    pub ty: TypeId,
    /// Whether it is within an array, so that there are several of it.
    pub is_repeated: bool,
}

impl Type<'_> {
    /// The members of a structure or union, with those of its unnamed parts instead of these, and those of members that have a
    /// type without a name after each of them. Of types that hold each other without end, some.
    pub fn flat_members(&self) -> Vec<FlatMember> {
        let mut flat = Flat { found: Vec::new(), left: MEMBERS };
        flat.add(self, "", 0, false, DEPTH);
        flat.found
    }
}

/// What is listed so far.
struct Flat {
    found: Vec<FlatMember>,
    /// How many members may still be looked at.
    left: usize,
}

impl Flat {
    fn add(&mut self, holder: &Type<'_>, prefix: &str, base: u64, is_repeated: bool, depth: usize) {
        for member in holder.members() {
            let Some(left) = self.left.checked_sub(1).filter(|_| depth > 0) else { return };
            self.left = left;
            let mut bit_offset = base.saturating_add(member.bit_offset.into());
            let mut bits = member.bits;
            let resolved = holder.btf.ty(member.ty).and_then(Type::resolved);
            if let Some((offset, width)) = resolved.as_ref().ok().copied().and_then(old_bit_field) {
                bit_offset = bit_offset.saturating_add(offset.into());
                bits = Some(width);
            }
            if member.name.is_empty() {
                if let Ok(part) = resolved {
                    self.add(&part, prefix, bit_offset, is_repeated, depth - 1);
                }
                continue;
            }
            let path = format!("{prefix}{}", member.name);
            self.found.push(FlatMember { path: path.clone(), bit_offset, bits, ty: member.ty, is_repeated });
            let Some((part, dimensions)) = unnamed(holder.btf.ty(member.ty).ok()) else { continue };
            let path = format!("{path}{}.", "[]".repeat(dimensions));
            self.add(&part, &path, bit_offset, is_repeated || dimensions > 0, depth - 1);
        }
    }
}

/// The structure or union without a name that a member has or is an array of; and how many dimensions.
fn unnamed(mut ty: Option<Type<'_>>) -> Option<(Type<'_>, usize)> {
    let mut dimensions = 0;
    for _ in 0..DEPTH {
        let here = ty?;
        match here.kind() {
            Kind::ARRAY => dimensions += 1,
            Kind::CONST | Kind::VOLATILE | Kind::TYPE_TAG => {}
            Kind::STRUCT | Kind::UNION => return here.name().is_empty().then_some((here, dimensions)),
            _ => return None,
        }
        ty = here.btf.ty(here.target()?).ok();
    }
    None
}
