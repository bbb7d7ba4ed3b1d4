//! Where a compiler would put the members of a structure, so that what it would do by itself is told from what it has to be made do.

use crate::Btf;
use crate::field::old_bit_field;
use crate::types::{Kind, Type, TypeId};

/// How deeply structures may be nested in each other.
const DEPTH: usize = 128;

/// A member, as it is placed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// Which member it is.
    pub(super) index: usize,
    /// The offset of its name.
    pub(super) name: u32,
    pub(super) ty: TypeId,
    /// In bits from the start of the structure.
    pub(super) start: u64,
    /// How many bits it has where it is a bit field.
    pub(super) width: Option<u64>,
    /// The bits of its type.
    pub(super) size: u64,
    /// The bits that its type's addresses are multiples of.
    pub(super) align: u64,
}

impl Slot {
    /// The first bit after it.
    pub(super) fn end(&self) -> u64 {
        self.start.saturating_add(self.width.unwrap_or(self.size))
    }

    /// Where a compiler puts it when all before it end at `at`.
    pub(super) fn natural(&self, at: u64, is_packed: bool) -> u64 {
        match self.width {
            // Bits do not go over the border of two units of their type.
            Some(width) if is_packed || at % self.size + width <= self.size => at,
            Some(_) => at.next_multiple_of(self.size),
            None => at.next_multiple_of(if is_packed { 8 } else { self.align }),
        }
    }
}

/// What of a structure's or union's layout is not the sum of its members'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// The bytes that its addresses are multiples of, as far as its members tell.
    pub(super) align: u32,
    /// Whether the members are closer than their types would have them.
    pub(super) is_packed: bool,
}

/// The layouts that were looked at so far.
pub(super) struct Layouts {
    /// By the number of the type.
    known: Vec<Option<Layout>>,
}

impl Layouts {
    pub(super) fn new() -> Self {
        Self { known: Vec::new() }
    }

    /// The members of a structure or union in the order of their places, and what else there is to its layout.
    pub(super) fn of(&mut self, ty: &Type<'_>) -> (Layout, Vec<Slot>) {
        let slots = self.slots_within(ty, DEPTH);
        let known = usize::try_from(ty.id.0).ok().and_then(|index| self.known.get_mut(index));
        let layout = match known {
            Some(known) => *known.get_or_insert_with(|| layout(ty, &slots)),
            None => layout(ty, &slots),
        };
        (layout, slots)
    }

    fn within(&mut self, ty: &Type<'_>, depth: usize) -> Layout {
        let index = usize::try_from(ty.id.0).unwrap_or(usize::MAX);
        if let Some(&Some(known)) = self.known.get(index) {
            return known;
        }
        if depth == 0 {
            return Layout { align: 1, is_packed: false };
        }
        if self.known.len() <= index {
            self.known.resize(usize::try_from(ty.btf.end()).unwrap_or_default().max(index + 1), None);
        }
        // What has itself as a member, as only broken types do, finds this.
        self.known[index] = Some(Layout { align: 1, is_packed: false });
        let slots = self.slots_within(ty, depth - 1);
        let layout = layout(ty, &slots);
        self.known[index] = Some(layout);
        layout
    }

    fn slots_within(&mut self, ty: &Type<'_>, depth: usize) -> Vec<Slot> {
        let mut slots = Vec::with_capacity(ty.member_count());
        for index in 0..ty.member_count() {
            let [name, id, offset] = ty.element(index, 3);
            let (start, bits) = if ty.flag() { (offset & 0x00ff_ffff, offset >> 24) } else { (offset, 0) };
            let id = TypeId(id);
            let old = ty.btf.ty(id).and_then(Type::resolved).ok().and_then(old_bit_field);
            let (start, bits) =
                old.map_or((start.into(), bits), |(offset, bits)| (u64::from(start) + u64::from(offset), bits));
            let size = ty.btf.ty(id).and_then(Type::size).map_or(0, |size| u64::from(size) * 8);
            // No type has more bits in a field than it has itself.
            let width = (bits != 0).then_some(u64::from(bits).min(size)).filter(|&width| width != 0);
            let align = u64::from(self.align(ty.btf, id, depth)) * 8;
            slots.push(Slot { index, name, ty: id, start, width, size, align });
        }
        // Rust's compiler puts members elsewhere than they were written.
        if !slots.is_sorted_by_key(|slot| slot.start) {
            let mut order: Vec<(u64, u64)> = slots.iter().map(|slot| slot.start).zip(0..).collect();
            order.sort_unstable();
            let at = |&(_, index): &(u64, u64)| usize::try_from(index).ok().and_then(|index| slots.get(index)).copied();
            slots = order.iter().filter_map(at).collect();
        }
        slots
    }

    /// The bytes that the addresses of a type are multiples of.
    fn align(&mut self, btf: &Btf, id: TypeId, depth: usize) -> u32 {
        let mut next = id;
        for _ in 0..DEPTH {
            let Ok(ty) = btf.ty(next).and_then(Type::resolved) else { return 1 };
            return match ty.kind() {
                Kind::ARRAY => {
                    next = ty.target().unwrap_or_default();
                    continue;
                }
                Kind::PTR => 8,
                Kind::STRUCT | Kind::UNION => self.within(&ty, depth).align,
                Kind::INT | Kind::FLOAT | Kind::ENUM | Kind::ENUM64 if ty.size.is_power_of_two() && ty.size <= 16 => {
                    ty.size
                }
                _ => 1,
            };
        }
        1
    }
}

/// What the members of a structure or union make of its layout.
fn layout(ty: &Type<'_>, slots: &[Slot]) -> Layout {
    let bits = u64::from(ty.size) * 8;
    let most = slots.iter().map(|slot| slot.align).max().unwrap_or(8);
    let crosses = |slot: &Slot| match slot.width {
        Some(width) => slot.start % slot.size + width > slot.size,
        None => !slot.start.is_multiple_of(slot.align),
    };
    let is_packed = bits % most != 0 || slots.iter().any(crosses);
    let mut align = if is_packed { 1 } else { u32::try_from(most / 8).unwrap_or(1) };
    if ty.kind() == Kind::UNION && !is_packed {
        // Only its alignment makes a union larger than its largest member.
        let largest = slots.iter().map(Slot::end).max().unwrap_or(0).div_ceil(8);
        let size = u64::from(ty.size);
        while largest.next_multiple_of(align.into()) < size && size % (u64::from(align) * 2) == 0 {
            align *= 2;
        }
    }
    Layout { align, is_packed }
}
