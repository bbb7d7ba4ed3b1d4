//! Cutting a kernel's types down to the few that are needed.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{Kind, Type, TypeId, Word};
use crate::write::Builder;
use crate::{Btf, Error};

/// The name spaces of C, of which a root is looked for in each: `struct stat` is kept beside the function `stat`.
const NAME_SPACES: [&[Kind]; 3] =
    [&[Kind::STRUCT, Kind::UNION], &[Kind::TYPEDEF, Kind::ENUM, Kind::ENUM64, Kind::INT, Kind::FLOAT], &[Kind::FUNC]];

/// How much of a type is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Extent {
    /// Its name.
    Name,
    /// Its size, and of a structure the members that are on a path.
    Path,
    All,
}

/// What the roots name: types, and members by the number of their structure.
#[derive(Default)]
struct Named {
    types: BTreeSet<TypeId>,
    starts: BTreeSet<TypeId>,
    members: BTreeMap<TypeId, BTreeSet<usize>>,
}

/// Cuts a blob down to what `roots` name: structures, unions, typedefs, enumerations and functions, with all they are made of.
///
/// A root may be the path of a member, as [`Btf::field`] takes it, or several paths separated by `|`, of which those are kept that
/// are there; of the structures on a path the other members are left out, unless they are roots themselves. What is only
/// pointed to becomes a forward declaration, unless it is a root, and an enumeration that only functions take or return loses its
/// values. The order of the types stays, so equal input gives equal output, and a cut of a cut is the same.
///
/// # Errors
/// A root that is not there; types that are broken, or of a kind that is not known.
pub fn cut(btf: &Btf, roots: &[&str]) -> Result<Vec<u8>, Error> {
    let mut named = Named::default();
    for root in roots {
        if !named.add(btf, root) {
            let missing = || Error::NoType((*root).to_owned());
            return Err(btf.field(root).err().filter(|_| root.contains('.')).unwrap_or_else(missing));
        }
    }
    let mut kept = BTreeMap::<TypeId, Extent>::new();
    let mut todo: Vec<(TypeId, Extent)> = named.types.iter().map(|&id| (id, Extent::All)).collect();
    todo.extend(named.starts.iter().map(|&id| (id, Extent::Path)));
    while let Some((id, extent)) = todo.pop() {
        let ty = btf.ty(id)?;
        let extent = match extent {
            _ if named.types.contains(&id) => Extent::All,
            Extent::Name if !can_be_a_name(&ty) => named.least(&ty),
            extent => extent,
        };
        // A type that was met behind a pointer is met again where it is a member.
        if id.0 == 0 || kept.get(&id).is_some_and(|&known| known >= extent) {
            continue;
        }
        kept.insert(id, extent);
        if extent != Extent::Name || !is_tagged(&ty) {
            let behind = if matches!(ty.kind(), Kind::PTR | Kind::FUNC_PROTO) { Extent::Name } else { extent };
            let words = words(&ty, named.members_of(&ty, extent))?;
            let references = words.into_iter().filter(|(word, _)| *word == Word::Type);
            todo.extend(references.map(|(_, id)| (TypeId(id), behind)));
        }
    }
    let numbers: BTreeMap<TypeId, u32> = kept.keys().copied().zip(1..).collect();
    let number = |id: TypeId| numbers.get(&id).copied().unwrap_or_default();
    let mut out = Builder::with_byte_order(btf.is_big_endian());
    for (&id, &extent) in &kept {
        let ty = btf.ty(id)?;
        if extent != Extent::Name || !is_tagged(&ty) {
            copy(&ty, &mut out, named.members_of(&ty, extent), number)?;
        } else {
            let flag = u32::from(ty.kind() == Kind::UNION) << 31;
            out.raw(ty.raw_name(), flag | u32::from(Kind::FWD.0) << 24, 0, &[]);
        }
    }
    Ok(out.finish())
}

impl Named {
    /// Whether a root names anything.
    fn add(&mut self, btf: &Btf, root: &str) -> bool {
        let mut found = false;
        for path in root.split('|').map(str::trim) {
            if path.contains(['.', '[']) {
                let mut steps = Vec::new();
                let Ok(start) = btf.walk(path, &mut steps) else { continue };
                found = true;
                self.starts.insert(start);
                steps.into_iter().for_each(|(holder, index)| {
                    self.members.entry(holder).or_default().insert(index);
                });
            } else {
                for ty in NAME_SPACES.iter().filter_map(|kinds| btf.find(path, kinds)) {
                    found = true;
                    self.types.insert(ty.id);
                }
            }
        }
        found
    }

    /// How much is kept of a type that has no name that could stand for it.
    fn least(&self, ty: &Type<'_>) -> Extent {
        if self.members.contains_key(&ty.id) { Extent::Path } else { Extent::All }
    }

    /// The members of a structure and the values of an enumeration that are kept, where not all are.
    fn members_of(&self, ty: &Type<'_>, extent: Extent) -> Option<&BTreeSet<usize>> {
        const NONE: &BTreeSet<usize> = &BTreeSet::new();
        let is_part = match ty.kind() {
            Kind::STRUCT | Kind::UNION => extent == Extent::Path,
            Kind::ENUM | Kind::ENUM64 => extent != Extent::All,
            _ => false,
        };
        is_part.then(|| self.members.get(&ty.id).unwrap_or(NONE))
    }
}

/// The names that a root begins with, one for each of its alternatives.
pub(crate) fn root_names(root: &str) -> impl Iterator<Item = &str> {
    root.split('|').map(|path| path.split(['.', '[']).next().unwrap_or_default().trim())
}

impl Btf {
    /// Those of some roots for [`cut`] that are there.
    pub fn present<'r>(&self, roots: &[&'r str]) -> Vec<&'r str> {
        roots.iter().copied().filter(|root| Named::default().add(self, root)).collect()
    }
}

/// Whether a forward declaration can stand for it.
fn is_tagged(ty: &Type<'_>) -> bool {
    matches!(ty.kind(), Kind::STRUCT | Kind::UNION) && !ty.name().is_empty()
}

/// Whether it matters that it is only pointed to: to itself, or to what it is another name of.
fn can_be_a_name(ty: &Type<'_>) -> bool {
    const ALIASES: [Kind; 5] = [Kind::TYPEDEF, Kind::CONST, Kind::VOLATILE, Kind::RESTRICT, Kind::TYPE_TAG];
    is_tagged(ty)
        || matches!(ty.kind(), Kind::ENUM | Kind::ENUM64) && !ty.name().is_empty()
        || ALIASES.contains(&ty.kind())
}

/// The words of a type after its name and `info`, and what each is; of all its elements, or of some.
fn words(ty: &Type<'_>, elements: Option<&BTreeSet<usize>>) -> Result<Vec<(Word, u32)>, Error> {
    let (fixed, each) = ty.kind().words().ok_or(Error::Kind { kind: ty.kind().0, id: ty.id.0 })?;
    let size = if ty.kind() == Kind::ARRAY || ty.target().is_none() { Word::Number } else { Word::Type };
    let mut words = vec![(size, ty.size)];
    let mut add = |at: usize, list: &[Word]| {
        words.extend(list.iter().enumerate().map(|(index, &word)| (word, ty.word(at + index))));
    };
    add(0, fixed);
    for element in (0..ty.elements()).filter(|index| elements.is_none_or(|some| some.contains(index))) {
        add(fixed.len() + element * each.len(), each);
    }
    Ok(words)
}

/// Appends a type or some of its elements, with other numbers for those it refers to.
fn copy(
    ty: &Type<'_>,
    out: &mut Builder,
    elements: Option<&BTreeSet<usize>>,
    number: impl Fn(TypeId) -> u32,
) -> Result<(), Error> {
    let mut copied = words(ty, elements)?;
    for (word, value) in &mut copied {
        match word {
            Word::Type => *value = number(TypeId(*value)),
            Word::Text => *value = out.string(ty.btf.string(*value)),
            Word::Number => {}
        }
    }
    let words: Vec<u32> = copied.into_iter().map(|(_, value)| value).collect();
    let info = match elements {
        Some(some) => ty.info & 0xff00_0000 | u32::try_from(some.len()).unwrap_or_default(),
        None => ty.info,
    };
    out.raw(ty.raw_name(), info, words[0], &words[1..]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `outer` points to `inner_t` and has some deep inside; `reverse` has them the other way round.
    fn types(big_endian: bool) -> Builder {
        let mut types = Builder::with_byte_order(big_endian);
        let int = types.int("int", 4, true);
        let inner = types.strukt("inner", 4, &[("a", int, 0)]);
        let alias = types.typedef("inner_t", inner);
        let pointer = types.ptr(alias);
        let far = types.strukt("far", 8, &[("p", pointer, 0)]);
        let to_far = types.ptr(far);
        let holder = types.strukt("holder", 4, &[("v", alias, 0)]);
        let holders = types.array(holder, int, 2);
        types.strukt("outer", 24, &[("p", pointer, 0), ("far", to_far, 8), ("holders", holders, 16)]);
        types.strukt("reverse", 16, &[("holders", holders, 0), ("p", pointer, 8)]);
        let proto = types.func_proto(&[("far", to_far)], int);
        types.func("outer", proto);
        types
    }

    #[test]
    fn what_is_both_pointed_to_and_a_member_is_kept_in_full() {
        let full = Btf::parse(types(false).finish()).unwrap();
        let cut = Btf::parse(cut(&full, &["outer"]).unwrap()).unwrap();
        for path in ["outer.holders[1].v.a", "outer.p", "inner_t.a"] {
            assert_eq!(cut.field(path).unwrap().offset, full.field(path).unwrap().offset, "{path}");
        }
        assert!(cut.find("far", &[Kind::STRUCT]).is_none());
        assert!(cut.find("far", &[Kind::FWD]).is_some());
        assert_eq!(cut.types().filter(|ty| ty.name() == "inner").count(), 1);
        let reverse = Btf::parse(super::cut(&full, &["reverse"]).unwrap()).unwrap();
        assert_eq!(reverse.field("reverse.holders[1].v.a").unwrap().offset, 4);
        // The function of the same name is there too.
        assert_eq!(cut.func_proto("outer").unwrap().params().next().unwrap().name, "far");
    }

    #[test]
    fn a_root_may_be_a_path_with_alternatives() {
        let full = Btf::parse(types(false).finish()).unwrap();
        let path = cut(&full, &["gone.x|far.p|far.q"]).unwrap();
        assert_eq!(path, cut(&full, &["far"]).unwrap());
        assert!(matches!(cut(&full, &["gone.x|lost"]), Err(Error::Path { path, .. }) if path == "gone.x"));
    }

    #[test]
    fn a_big_endian_blob_stays_one() {
        let full = Btf::parse(types(true).finish()).unwrap();
        let cut = Btf::parse(cut(&full, &["outer"]).unwrap()).unwrap();
        assert!(cut.is_big_endian());
        assert_eq!(cut.field("outer.holders[1].v.a").unwrap().offset, 20);
    }
}
