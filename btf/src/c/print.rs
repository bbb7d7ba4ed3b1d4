//! Definitions: what is in a structure, a union or an enumeration.

use std::collections::HashMap;

use super::declare::Label;
use super::ident;
use super::layout::{Layouts, Slot};
use super::names::Names;
use super::notes::Notes;
use super::tags::Tags;
use crate::Btf;
use crate::types::{Kind, Type, TypeId};

/// How deeply structures without names, and prototypes in prototypes, may be nested.
const DEPTH: usize = 32;
/// From so many bits on a gap is filled by an array rather than by bit fields.
const WIDE: u64 = 256 * 8;

/// Where a declaration stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) indent: usize,
    /// The bits of the outermost structure before this one.
    pub(super) base: u64,
    depth: usize,
}

impl Place {
    pub(super) const OUTSIDE: Self = Self { indent: 0, base: 0, depth: DEPTH };

    /// The place in something that is here; none where that would be too deep.
    pub(super) fn inner(self) -> Option<Self> {
        Some(Self { depth: self.depth.checked_sub(1)?, ..self })
    }
}

/// Spells types into a buffer.
pub(super) struct Printer<'a> {
    pub(super) out: Vec<u8>,
    pub(super) btf: &'a Btf,
    pub(super) names: Names,
    pub(super) tags: Tags,
    /// How much may still be printed: types without names are printed wherever they are used, and broken ones may use each other
    /// so often that it would not end.
    pub(super) left: usize,
    /// What is remarked on the layout, where it is.
    pub(super) notes: Option<Notes>,
    pub(super) layouts: Layouts,
    /// Enumerations without a name whose values have been declared.
    valued: HashMap<u64, u32>,
    pads: u64,
}

impl<'a> Printer<'a> {
    pub(super) fn new(btf: &'a Btf, names: Names, tags: Tags, notes: Option<Notes>) -> Self {
        // A kernel's types declare less than one thing for every 16 bytes; the remarks are on one type.
        let left = (1 << 14) + if notes.is_none() { btf.as_bytes().len() / 8 } else { 0 };
        Self {
            out: Vec::new(),
            btf,
            names,
            tags,
            left,
            notes,
            layouts: Layouts::new(),
            valued: HashMap::new(),
            pads: 0,
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn indent(&mut self, indent: usize) {
        self.out.resize(self.out.len() + indent, b'\t');
    }

    /// Whether a compiler knows a type without being told.
    pub(super) fn is_built_in(&self, ty: &Type<'_>) -> bool {
        matches!(ty.kind(), Kind::INT | Kind::FLOAT) && ident::is_built_in(ty.btf.string(ty.name_off), ty.size)
    }

    /// Whether an enumeration without a name has been declared.
    pub(super) fn has_values_of(&self, id: TypeId) -> bool {
        self.valued.contains_key(&id.0.into())
    }

    /// The name of a type that is no pointer, array or function; the whole of it where it has none.
    pub(super) fn type_name(&mut self, ty: &Type<'a>, place: Place) {
        let is_named = ty.is_named();
        match ty.kind() {
            Kind::VOID => self.text("void"),
            Kind::STRUCT | Kind::UNION if is_named => self.tagged(ty.kind().name(), ty),
            Kind::STRUCT | Kind::UNION => self.aggregate(ty, false, place),
            Kind::FWD => self.tagged(if ty.flag() { "union" } else { "struct" }, ty),
            Kind::ENUM | Kind::ENUM64 if is_named => self.tagged("enum", ty),
            Kind::ENUM | Kind::ENUM64 => {
                if self.valued.insert(ty.id.0.into(), 0).is_none() {
                    self.enumeration(ty, place);
                } else {
                    // Its values are declared where it was first; they can be declared once.
                    self.text(ident::integer(ty.size, ty.flag()).unwrap_or("int"));
                    self.text(" /* an enum without a name that was before */");
                }
            }
            Kind::INT | Kind::FLOAT if self.is_built_in(ty) => {
                self.out.extend_from_slice(ty.btf.string(ty.name_off));
            }
            Kind::INT | Kind::FLOAT | Kind::TYPEDEF if is_named => self.names.push(&mut self.out, ty),
            _ => self.text("int /* broken: no type of an object */"),
        }
    }

    pub(super) fn tagged(&mut self, word: &str, ty: &Type<'_>) {
        self.text(word);
        self.out.push(b' ');
        self.names.push(&mut self.out, ty);
    }

    /// A structure or union with all its members.
    pub(super) fn aggregate(&mut self, ty: &Type<'a>, with_name: bool, place: Place) {
        if with_name && ty.is_named() {
            self.tagged(ty.kind().name(), ty);
        } else {
            self.text(ty.kind().name());
        }
        let Some(inner) = place.inner().filter(|_| self.left > 0) else {
            self.text(" {} /* left out: nested too deeply */");
            return;
        };
        let inner = Place { indent: place.indent + 1, ..inner };
        self.text(" {\n");
        let (layout, slots) = self.layouts.of(ty);
        let is_union = ty.kind() == Kind::UNION;
        // An unnamed bit field of a smaller type than this does not change where the structure may be.
        let unit = if layout.is_packed { 64 } else { u64::from(layout.align.min(8)) * 8 };
        let mut at = 0;
        for slot in &slots {
            if self.left == 0 {
                break;
            }
            let before = if is_union { 0 } else { at };
            let is_misplaced = slot.start < before || is_union && slot.start != 0;
            let Some(shape) = self.shape(ty, slot).filter(|_| !is_misplaced) else {
                if is_misplaced {
                    self.spend();
                    self.indent(inner.indent);
                    self.text("/* left out: a member that is where another one is */\n");
                }
                continue;
            };
            if let Some(mut notes) = self.notes.take() {
                notes.before(&mut self.out, inner, before, slot.start);
                self.notes = Some(notes);
            }
            if !is_union {
                self.pad(at, slot.start, unit, inner, &|at| slot.natural(at, layout.is_packed) == slot.start);
            }
            self.member(ty, slot, shape, inner);
            at = slot.end().max(at);
        }
        let size = u64::from(ty.size) * 8;
        let align = u64::from(layout.align) * 8;
        if let Some(mut notes) = self.notes.take() {
            notes.after(&mut self.out, inner, at, size);
            self.notes = Some(notes);
        }
        let largest = slots.iter().map(|slot| slot.align).max().unwrap_or(8);
        if is_union && at.next_multiple_of(align) < size {
            self.padding(size / 8, inner);
        } else if !is_union {
            self.pad(at, size, unit, inner, &|at| at.next_multiple_of(align) >= size);
        }
        if let Some(notes) = self.notes.as_ref().filter(|_| place.indent == 0) {
            notes.sums(&mut self.out, ty, &slots);
        }
        self.indent(place.indent);
        self.out.push(b'}');
        if layout.is_packed {
            self.text(" __attribute__((packed))");
        }
        if is_union && align > largest {
            self.text(" __attribute__((aligned(");
            ident::number(&mut self.out, layout.align.into());
            self.text(")))");
        }
        self.decl_tags(ty.id, None);
    }

    /// How a member is printed; none where it has no name that C could know it by.
    fn shape(&self, ty: &Type<'a>, slot: &Slot) -> Option<Shape<'a>> {
        let name = ty.btf.string(slot.name);
        if !name.is_empty() || slot.width.is_some() {
            return Some(Shape::Named(name));
        }
        // The kernel is compiled with extensions that let the members of a structure with a name be members of the one around it;
        // without them only a structure without a name is that.
        let part = ty.btf.ty(slot.ty).and_then(Type::resolved).ok()?;
        matches!(part.kind(), Kind::STRUCT | Kind::UNION).then_some(Shape::Part(part))
    }

    fn member(&mut self, ty: &Type<'a>, slot: &Slot, shape: Shape<'a>, place: Place) {
        let start = self.out.len();
        self.indent(place.indent);
        let within = Place { base: place.base + slot.start, ..place };
        match shape {
            Shape::Part(part) => self.aggregate(&part, false, within),
            Shape::Named(b"") => self.declare(slot.ty, Label::None, within),
            Shape::Named(name) => self.declare(slot.ty, Label::Word(name), within),
        }
        if let Some(width) = slot.width {
            self.text(": ");
            ident::number(&mut self.out, width);
        }
        self.decl_tags(ty.id, Some(slot.index));
        self.out.push(b';');
        if let Some(notes) = &self.notes {
            notes.member(&mut self.out, start, place.base, slot);
        }
        self.out.push(b'\n');
    }

    /// Fills what a compiler would not leave free by itself, until it would put at `end` what comes next.
    fn pad(&mut self, at: u64, end: u64, unit: u64, place: Place, is_there: &dyn Fn(u64) -> bool) {
        const UNITS: [(u64, &str); 4] = [(8, "char"), (16, "short"), (32, "int"), (64, "long")];
        let mut at = at;
        while at < end && !is_there(at) {
            self.spend();
            if end - at > WIDE && at.is_multiple_of(8) {
                self.padding((end - at) / 8, place);
                at += (end - at) / 8 * 8;
                continue;
            }
            let fits = UNITS.iter().find(|(bits, _)| at % bits + (end - at) <= *bits).filter(|(bits, _)| *bits <= unit);
            let largest = UNITS.iter().rev().find(|(bits, _)| *bits <= unit);
            let &(bits, word) = fits.or(largest).unwrap_or(&UNITS[0]);
            let width = (bits - at % bits).min(end - at);
            self.indent(place.indent);
            self.text(word);
            self.text(": ");
            ident::number(&mut self.out, width);
            self.text(";\n");
            at += width;
        }
    }

    /// One line less that may be printed.
    pub(super) fn spend(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    fn padding(&mut self, bytes: u64, place: Place) {
        self.pads += 1;
        self.indent(place.indent);
        self.text("unsigned char ___pad");
        ident::number(&mut self.out, self.pads);
        self.out.push(b'[');
        ident::number(&mut self.out, bytes);
        self.text("];\n");
    }

    /// An enumeration with all its values.
    pub(super) fn enumeration(&mut self, ty: &Type<'a>, place: Place) {
        if !ty.is_named() {
            self.text("enum");
        } else {
            self.tagged("enum", ty);
        }
        self.text(" {\n");
        let count = ty.elements();
        for (index, (_, value)) in ty.values().enumerate().take(self.left) {
            self.spend();
            self.indent(place.indent + 1);
            self.names.push_value(&mut self.out, ty, index);
            self.text(" = ");
            self.value(ty, value);
            self.text(",\n");
        }
        if count == 0 {
            // C has no enumeration without values, and none whose size is known but not its values.
            self.indent(place.indent + 1);
            self.text("___no_values_");
            ident::number(&mut self.out, ty.id.0.into());
            self.text(",\n");
        }
        self.indent(place.indent);
        self.out.push(b'}');
        match ty.size {
            1 => self.text(" __attribute__((mode(QI)))"),
            2 => self.text(" __attribute__((mode(HI)))"),
            8 => self.text(" __attribute__((mode(DI)))"),
            _ => {}
        }
        self.decl_tags(ty.id, None);
    }

    fn value(&mut self, ty: &Type<'_>, value: i64) {
        let is_wide = ty.kind() == Kind::ENUM64;
        if ty.flag() && value < 0 {
            if value == i64::MIN {
                // The number without its sign is too large for any signed type.
                self.text("-9223372036854775807LL - 1");
                return;
            }
            self.out.push(b'-');
            ident::number(&mut self.out, value.unsigned_abs());
        } else {
            ident::number(&mut self.out, value.cast_unsigned());
        }
        self.text(match (is_wide, ty.flag()) {
            (true, true) => "LL",
            (true, false) => "ULL",
            (false, _) => "",
        });
    }

    /// The attributes of a declaration.
    pub(super) fn decl_tags(&mut self, id: TypeId, component: Option<usize>) {
        for tag in self.tags.of(id, component) {
            if let Ok(tag) = self.btf.ty(tag) {
                self.text(" ");
                self.tag(&tag);
            }
        }
    }

    /// A whole definition, with its semicolon, from the beginning of a line.
    pub(super) fn define(&mut self, ty: &Type<'a>) {
        self.pads = 0;
        let name = ty.btf.string(ty.name_off);
        match ty.kind() {
            Kind::STRUCT | Kind::UNION => self.aggregate(ty, true, Place::OUTSIDE),
            Kind::ENUM | Kind::ENUM64 => {
                self.valued.insert(ty.id.0.into(), 0);
                self.enumeration(ty, Place::OUTSIDE);
            }
            Kind::TYPEDEF => {
                self.text("typedef ");
                self.declare(ty.target().unwrap_or_default(), Label::Type(*ty), Place::OUTSIDE);
                self.decl_tags(ty.id, None);
            }
            Kind::FWD => self.type_name(ty, Place::OUTSIDE),
            Kind::INT | Kind::FLOAT => self.number_type(ty),
            Kind::FUNC => {
                self.text("extern ");
                self.declare(ty.target().unwrap_or_default(), Label::Symbol(name), Place::OUTSIDE);
                if self.tags.has(self.btf, ty.id, b"bpf_kfunc") {
                    let is_fast = self.tags.has(self.btf, ty.id, b"bpf_fastcall");
                    self.text(if is_fast { " __bpf_fastcall __weak __ksym" } else { " __weak __ksym" });
                }
            }
            Kind::VAR => {
                self.text("extern ");
                self.declare(ty.target().unwrap_or_default(), Label::Symbol(name), Place::OUTSIDE);
            }
            _ => self.declare(ty.id, Label::None, Place::OUTSIDE),
        }
        self.text(";\n");
    }

    /// A number that compilers do not know, by one that they do.
    fn number_type(&mut self, ty: &Type<'_>) {
        if self.is_built_in(ty) {
            self.out.extend_from_slice(ty.btf.string(ty.name_off));
            return;
        }
        let encoding = ty.word(0) >> 24;
        let is_signed = ty.kind() == Kind::INT && encoding & 1 != 0;
        self.text("typedef ");
        match ident::integer(ty.size, is_signed) {
            // BTF_INT_BOOL
            Some(_) if ty.kind() == Kind::INT && encoding & 4 != 0 && ty.size == 1 => self.text("_Bool"),
            Some(word) => self.text(word),
            None => {
                self.text("struct {\n\tunsigned char bytes[");
                ident::number(&mut self.out, ty.size.into());
                self.text("];\n}");
            }
        }
        self.out.push(b' ');
        self.names.push(&mut self.out, ty);
    }
}

/// How a member is printed.
#[derive(Clone, Copy)]
enum Shape<'a> {
    /// By its name, which only a bit field may lack.
    Named(&'a [u8]),
    /// A structure or union whose members are those of the one around it.
    Part(Type<'a>),
}
