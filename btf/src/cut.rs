//! Cutting a kernel's types down to the few that are needed.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{Kind, Type, TypeId, Word};
use crate::write::Builder;
use crate::{Btf, Error};

/// The name spaces of C, of which a root is looked for in each: `struct stat` is kept beside the function `stat`.
const NAME_SPACES: [&[Kind]; 3] =
    [&[Kind::STRUCT, Kind::UNION], &[Kind::TYPEDEF, Kind::ENUM, Kind::ENUM64, Kind::INT, Kind::FLOAT], &[Kind::FUNC]];

/// Cuts a blob down to what `roots` name: structures, unions, typedefs, enumerations and functions, with all they are made of.
///
/// A root may be the path of a field, as [`Btf::field`] takes it; the structure that it begins at is kept with all its members.
/// What is only pointed to becomes a forward declaration, unless it is a root. The order of the types stays, so equal input
/// gives equal output, and a cut of a cut is the same.
///
/// # Errors
/// A root that is not there; types that are broken, or of a kind that is not known.
pub fn cut(btf: &Btf, roots: &[&str]) -> Result<Vec<u8>, Error> {
    let mut named = BTreeSet::new();
    for root in roots {
        let found = named_by(btf, root);
        if found.is_empty() {
            return Err(Error::NoType((*root).to_owned()));
        }
        named.extend(found);
    }
    // Every type that is kept, and whether it is needed in full; the name is enough of others.
    let mut kept = BTreeMap::<TypeId, bool>::new();
    let mut todo: Vec<(TypeId, bool)> = named.iter().map(|&id| (id, true)).collect();
    while let Some((id, full)) = todo.pop() {
        let ty = btf.ty(id)?;
        let full = full || named.contains(&id) || !can_be_a_name(&ty);
        // A type that was met behind a pointer is met again where it is a member.
        if id.0 == 0 || kept.get(&id).is_some_and(|&known| known || !full) {
            continue;
        }
        kept.insert(id, full);
        if full || !is_tagged(&ty) {
            let by_value = full && !matches!(ty.kind(), Kind::PTR | Kind::FUNC_PROTO);
            todo.extend(references(&ty)?.into_iter().map(|id| (id, by_value)));
        }
    }
    let numbers: BTreeMap<TypeId, u32> = kept.keys().copied().zip(1..).collect();
    let number = |id: TypeId| numbers.get(&id).copied().unwrap_or_default();
    let mut out = Builder::with_byte_order(btf.is_big_endian());
    for (&id, &full) in &kept {
        let ty = btf.ty(id)?;
        if full || !is_tagged(&ty) {
            copy(&ty, &mut out, number)?;
        } else {
            let flag = u32::from(ty.kind() == Kind::UNION) << 31;
            out.raw(&ty.name(), flag | u32::from(Kind::FWD.0) << 24, 0, &[]);
        }
    }
    Ok(out.finish())
}

/// The types that a root names: one of each name space, for each of its alternatives.
fn named_by(btf: &Btf, root: &str) -> Vec<TypeId> {
    let names = root.split('|').map(|path| path.split(['.', '[']).next().unwrap_or_default().trim());
    names.flat_map(|name| NAME_SPACES.iter().filter_map(move |kinds| Some(btf.find(name, kinds)?.id))).collect()
}

/// Whether a forward declaration can stand for it.
fn is_tagged(ty: &Type<'_>) -> bool {
    matches!(ty.kind(), Kind::STRUCT | Kind::UNION) && !ty.name().is_empty()
}

/// Whether it matters that it is only pointed to: to itself, or to what it is another name of.
fn can_be_a_name(ty: &Type<'_>) -> bool {
    const ALIASES: [Kind; 5] = [Kind::TYPEDEF, Kind::CONST, Kind::VOLATILE, Kind::RESTRICT, Kind::TYPE_TAG];
    is_tagged(ty) || ALIASES.contains(&ty.kind())
}

/// The words of a type after its name and `info`, and what each is.
fn words(ty: &Type<'_>) -> Result<Vec<(Word, u32)>, Error> {
    let (fixed, each) = ty.kind().words().ok_or(Error::Kind { kind: ty.kind().0, id: ty.id.0 })?;
    let size = if ty.kind() == Kind::ARRAY || ty.target().is_none() { Word::Number } else { Word::Type };
    let tail = fixed.iter().chain((0..ty.elements()).flat_map(|_| each));
    Ok([(size, ty.size)].into_iter().chain(tail.enumerate().map(|(at, &word)| (word, ty.word(at)))).collect())
}

/// The types that a type is made of.
fn references(ty: &Type<'_>) -> Result<Vec<TypeId>, Error> {
    Ok(words(ty)?.into_iter().filter(|(word, _)| *word == Word::Type).map(|(_, id)| TypeId(id)).collect())
}

/// Appends a type, with other numbers for those it refers to.
fn copy(ty: &Type<'_>, out: &mut Builder, number: impl Fn(TypeId) -> u32) -> Result<(), Error> {
    let mut copied = words(ty)?;
    for (word, value) in &mut copied {
        match word {
            Word::Type => *value = number(TypeId(*value)),
            Word::Text => *value = out.string(&String::from_utf8_lossy(ty.btf.string(*value))),
            Word::Number => {}
        }
    }
    let words: Vec<u32> = copied.into_iter().map(|(_, value)| value).collect();
    out.raw(&ty.name(), ty.info, words[0], &words[1..]);
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
        assert!(matches!(cut(&full, &["gone.x|lost"]), Err(Error::NoType(root)) if root == "gone.x|lost"));
    }

    #[test]
    fn a_big_endian_blob_stays_one() {
        let full = Btf::parse(types(true).finish()).unwrap();
        let cut = Btf::parse(cut(&full, &["outer"]).unwrap()).unwrap();
        assert!(cut.is_big_endian());
        assert_eq!(cut.field("outer.holders[1].v.a").unwrap().offset, 20);
    }
}
