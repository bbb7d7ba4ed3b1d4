//! Attributes of declarations, by what they are attributes of.

use crate::Btf;
use crate::types::{Kind, TypeId};

/// The declaration tags of a blob.
#[derive(Default)]
pub(super) struct Tags {
    /// The type and the number of the member or parameter, or else `u32::MAX`, as halves of one number; and the tag. Sorted.
    known: Vec<(u64, u64)>,
}

impl Tags {
    pub(super) fn new(btf: &Btf) -> Self {
        let all = (1..btf.end()).filter_map(|id| btf.ty(TypeId(id)).ok());
        let tags = all.filter(|ty| ty.kind() == Kind::DECL_TAG);
        let mut known: Vec<_> =
            tags.map(|ty| (u64::from(ty.size) << 32 | u64::from(ty.word(0)), ty.id.0.into())).collect();
        known.sort_unstable();
        Self { known }
    }

    /// Whether a declaration as a whole has this one.
    pub(super) fn has(&self, btf: &Btf, id: TypeId, name: &[u8]) -> bool {
        self.of(id, None).into_iter().any(|tag| btf.ty(tag).is_ok_and(|tag| btf.string_is(tag.name_off, name)))
    }

    /// The tags of a declaration as a whole, or of one of its members or parameters.
    pub(super) fn of(&self, id: TypeId, component: Option<usize>) -> Vec<TypeId> {
        let component = component.map_or(u32::MAX, |index| u32::try_from(index).unwrap_or(u32::MAX - 1));
        let key = u64::from(id.0) << 32 | u64::from(component);
        let start = self.known.partition_point(|&(known, _)| known < key);
        let same = self.known[start..].iter().take_while(|&&(known, _)| known == key);
        same.map(|&(_, tag)| half(tag)).collect()
    }

    /// What has this tag as a whole, such as the functions that programs may call.
    pub(super) fn holders(&self, btf: &Btf, name: &[u8]) -> Vec<TypeId> {
        let is_it = |tag: u64| btf.ty(half(tag)).is_ok_and(|tag| btf.string_is(tag.name_off, name));
        let is_whole = |key: u64| key & u64::from(u32::MAX) == u64::from(u32::MAX);
        let holders = self.known.iter().filter(|&&(key, tag)| is_whole(key) && is_it(tag));
        holders.map(|&(key, _)| half(key >> 32)).collect()
    }
}

fn half(number: u64) -> TypeId {
    TypeId(u32::try_from(number).unwrap_or_default())
}
