//! The order of declarations: each after what it needs.

use super::print::Printer;
use super::tags::Tags;
use crate::Btf;
use crate::types::{Kind, Type, TypeId, Word};

/// How much of a type is needed by what refers to it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// It may be named: C lets a structure be named before it is declared, but no other type.
    Name,
    /// It must have been declared: a structure that is first named in a prototype is another one outside.
    Declared,
    /// Its size must be known.
    Whole,
}

impl Need {
    const fn bit(self) -> u8 {
        match self {
            Self::Name => 1,
            Self::Declared => 2,
            Self::Whole => 4,
        }
    }
}

/// A type whose needs are being met.
struct Step {
    id: TypeId,
    need: Need,
    /// How many of them have been.
    met: usize,
}

/// What of each type has been asked for so far.
pub(super) struct Met(Vec<u8>);

/// The bit of a structure that has been declared without its members.
const FORWARD: u8 = 8;
/// The bit of a type that has been defined.
const DEFINED: u8 = 16;

impl Met {
    pub(super) fn new(btf: &Btf) -> Self {
        Self(vec![0; usize::try_from(btf.end()).unwrap_or_default()])
    }

    fn has(&self, id: TypeId, bit: u8) -> bool {
        usize::try_from(id.0).ok().and_then(|index| self.0.get(index)).is_some_and(|bits| bits & bit != 0)
    }

    /// Sets a bit, and tells whether it was there.
    fn set(&mut self, id: TypeId, bit: u8) -> bool {
        let Some(bits) = usize::try_from(id.0).ok().and_then(|index| self.0.get_mut(index)) else { return true };
        let was_there = *bits & bit != 0;
        *bits |= bit;
        was_there
    }

    /// Prints the definition of a type after all that it needs.
    pub(super) fn define(&mut self, id: TypeId, printer: &mut Printer<'_>) {
        self.meet(id, Need::Whole, printer);
        // Values without an enumeration's name are of use by themselves, unless some structure has them.
        let Ok(ty) = printer.btf.ty(id) else { return };
        if is_enum(&ty) && !ty.is_named() && !printer.has_values_of(id) {
            print_definition(&ty, printer);
        }
    }

    /// Prints the declaration of a function after the types in it.
    pub(super) fn declare_function(&mut self, id: TypeId, printer: &mut Printer<'_>) {
        let Ok(ty) = printer.btf.ty(id) else { return };
        self.meet(ty.target().unwrap_or_default(), Need::Declared, printer);
        printer.define(&ty);
    }

    /// Goes through what a type needs, and what that needs, without recursion: types may be nested as deeply as they like.
    fn meet(&mut self, id: TypeId, need: Need, printer: &mut Printer<'_>) {
        let mut steps = Vec::new();
        if !self.set(id, need.bit()) {
            steps.push(Step { id, need, met: 0 });
        }
        while let Some(step) = steps.last_mut() {
            let Ok(ty) = printer.btf.ty(step.id) else {
                steps.pop();
                continue;
            };
            let next = needed(&ty, step.need, step.met);
            step.met += 1;
            match next {
                // Who is on the way already is not waited for: only broken types need themselves.
                Some((id, need)) if id.0 != 0 && !self.set(id, need.bit()) => steps.push(Step { id, need, met: 0 }),
                Some(_) => {}
                None => {
                    let need = step.need;
                    steps.pop();
                    self.print(&ty, need, printer);
                }
            }
        }
    }

    /// Prints what has a name, once.
    fn print(&mut self, ty: &Type<'_>, need: Need, printer: &mut Printer<'_>) {
        let is_whole = need == Need::Whole;
        match ty.kind() {
            Kind::STRUCT | Kind::UNION if ty.is_named() && is_whole && !self.set(ty.id, DEFINED) => {
                print_definition(ty, printer);
            }
            Kind::STRUCT | Kind::UNION | Kind::FWD
                if ty.is_named() && need != Need::Name && !self.has(ty.id, DEFINED) && !self.set(ty.id, FORWARD) =>
            {
                let is_union = ty.kind() == Kind::UNION || ty.kind() == Kind::FWD && ty.flag();
                printer.tagged(if is_union { "union" } else { "struct" }, ty);
                printer.text(";\n\n");
            }
            Kind::ENUM | Kind::ENUM64 | Kind::TYPEDEF | Kind::INT | Kind::FLOAT
                if ty.is_named() && !printer.is_built_in(ty) && !self.set(ty.id, DEFINED) =>
            {
                print_definition(ty, printer);
            }
            _ => {}
        }
    }
}

/// Prints a definition and the empty line after it.
fn print_definition(ty: &Type<'_>, printer: &mut Printer<'_>) {
    let Ok(ty) = printer.btf.ty(ty.id) else { return };
    // Since C23 these are words of the language.
    let name = ty.btf.string(ty.name_off);
    let is_word = ty.kind() == Kind::TYPEDEF && name == b"bool"
        || is_enum(&ty) && ty.values().any(|(name, _)| name == "true" || name == "false");
    if is_word {
        printer.text("#if !defined(__STDC_VERSION__) || __STDC_VERSION__ < 202311L\n");
    }
    printer.define(&ty);
    printer.text(if is_word { "#endif\n\n" } else { "\n" });
}

/// What a type needs, one after the other.
fn needed(ty: &Type<'_>, need: Need, index: usize) -> Option<(TypeId, Need)> {
    let target = ty.target().unwrap_or_default();
    let first = index == 0;
    match ty.kind() {
        Kind::PTR if first => Some((target, if need == Need::Whole { Need::Name } else { need })),
        Kind::CONST | Kind::VOLATILE | Kind::RESTRICT | Kind::TYPE_TAG if first => Some((target, need)),
        // Even a pointer to an array needs the size of an element.
        Kind::ARRAY if first => Some((target, Need::Whole)),
        Kind::FUNC_PROTO if first => Some((target, Need::Declared)),
        Kind::FUNC_PROTO => (index <= ty.elements()).then(|| (TypeId(ty.element(index - 1, 2)[1]), Need::Declared)),
        // The name comes first, as what is behind it may need the name.
        Kind::TYPEDEF if need == Need::Whole => [(ty.id, Need::Name), (target, need)].get(index).copied(),
        Kind::TYPEDEF if first => Some((target, Need::Name)),
        // What has no name is printed where it is used.
        Kind::STRUCT | Kind::UNION if need == Need::Whole || !ty.is_named() => {
            (index < ty.member_count()).then(|| (TypeId(ty.element(index, 3)[1]), Need::Whole))
        }
        _ => None,
    }
}

fn is_enum(ty: &Type<'_>) -> bool {
    matches!(ty.kind(), Kind::ENUM | Kind::ENUM64)
}

/// All types that are defined by themselves, in the order that they are printed in where nothing speaks against it: values without
/// an enumeration, enumerations, numbers, the rest; each by name.
pub(super) fn roots(btf: &Btf) -> Vec<TypeId> {
    let mut is_part = vec![false; usize::try_from(btf.end()).unwrap_or_default()];
    for ty in btf.types() {
        let Some((fixed, each)) = ty.kind().words() else { continue };
        let mut note = |id: u32| {
            if let Some(part) = usize::try_from(id).ok().and_then(|index| is_part.get_mut(index)) {
                *part = true;
            }
        };
        if ty.kind() != Kind::ARRAY && ty.target().is_some() && ty.kind() != Kind::DECL_TAG {
            note(ty.size);
        }
        for (index, _) in fixed.iter().enumerate().filter(|(_, word)| **word == Word::Type) {
            note(ty.word(index));
        }
        for element in 0..ty.elements() {
            for (index, _) in each.iter().enumerate().filter(|(_, word)| **word == Word::Type) {
                note(ty.word(fixed.len() + element * each.len() + index));
            }
        }
    }
    let is_part = |ty: &Type<'_>| usize::try_from(ty.id.0).is_ok_and(|index| is_part[index]);
    let mut ranks: [Vec<(&[u8], TypeId)>; 5] = Default::default();
    for ty in btf.types() {
        let name = btf.string(ty.name_off);
        let (rank, name) = match ty.kind() {
            // What has an enumeration without a name declares its values, if it is printed at all.
            Kind::ENUM | Kind::ENUM64 if name.is_empty() => {
                (if is_part(&ty) { 4 } else { 0 }, btf.string(ty.element(0, 2)[0]))
            }
            Kind::ENUM | Kind::ENUM64 => (1, name),
            Kind::INT | Kind::FLOAT => (2, name),
            Kind::STRUCT | Kind::UNION | Kind::TYPEDEF => (3, name),
            _ => continue,
        };
        ranks[rank].push((name, ty.id));
    }
    ranks.iter_mut().flat_map(|rank| by_name(rank)).collect()
}

/// In the order of their names, and of their numbers where they have the same.
pub(crate) fn by_name(types: &mut [(&[u8], TypeId)]) -> Vec<TypeId> {
    types.sort_unstable();
    types.iter().map(|&(_, id)| id).collect()
}

/// The functions of the kernel that BPF programs may call, by name.
pub(super) fn functions(btf: &Btf, tags: &Tags) -> Vec<TypeId> {
    let holders = tags.holders(btf, b"bpf_kfunc").into_iter().filter_map(|id| btf.ty(id).ok());
    let functions = holders.filter(|ty| ty.kind() == Kind::FUNC);
    let mut named: Vec<(&[u8], TypeId)> = functions.map(|ty| (btf.string(ty.name_off), ty.id)).collect();
    let mut found = by_name(&mut named);
    found.dedup_by_key(|id| btf.ty(*id).map(|ty| btf.string(ty.name_off)).unwrap_or_default());
    found
}
