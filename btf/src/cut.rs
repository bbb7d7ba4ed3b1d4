//! Cutting a kernel's types down to the few that are needed.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::types::{Kind, Type, TypeId};
use crate::write::Builder;
use crate::{Btf, Error};

/// Cuts a blob down to what `roots` name: structures, unions, typedefs, enumerations and functions, with all they are made of.
///
/// A structure that is only pointed to becomes a forward declaration, unless it is a root. Equal input gives equal output.
///
/// # Errors
/// A root that is not there; types that are broken.
pub fn cut(btf: &Btf, roots: &[&str]) -> Result<Vec<u8>, Error> {
    const ROOTS: [Kind; 7] =
        [Kind::STRUCT, Kind::UNION, Kind::FUNC, Kind::TYPEDEF, Kind::ENUM, Kind::ENUM64, Kind::INT];
    let mut whole = HashSet::new();
    let mut queue = VecDeque::new();
    for root in roots {
        let ty = btf.find(root, &ROOTS).ok_or_else(|| Error::NoType((*root).to_owned()))?;
        whole.insert(ty.id);
        queue.push_back((ty.id, false));
    }
    // In order of discovery; true where only the name is needed.
    let mut kept: Vec<(TypeId, bool)> = Vec::new();
    let mut seen = HashMap::<(TypeId, bool), u32>::new();
    while let Some((id, pointed)) = queue.pop_front() {
        let ty = btf.ty(id)?;
        let is_aggregate = matches!(ty.kind(), Kind::STRUCT | Kind::UNION) && !ty.name().is_empty();
        let forward = pointed && is_aggregate && !whole.contains(&id);
        if id.0 == 0 || seen.contains_key(&(id, forward)) {
            continue;
        }
        let number = u32::try_from(kept.len() + 1).unwrap_or(u32::MAX);
        seen.insert((id, forward), number);
        kept.push((id, forward));
        if !forward {
            // Behind a pointer a name is enough, also through typedefs and qualifiers.
            let behind = matches!(ty.kind(), Kind::PTR | Kind::FUNC_PROTO)
                || pointed && !matches!(ty.kind(), Kind::STRUCT | Kind::UNION | Kind::ARRAY);
            queue.extend(references(&ty).into_iter().map(|id| (id, behind)));
        }
    }
    let number = |id: TypeId, behind: bool| match id.0 {
        0 => 0,
        _ => seen
            .get(&(id, behind))
            .or_else(|| seen.get(&(id, false)))
            .or_else(|| seen.get(&(id, true)))
            .copied()
            .unwrap_or(0),
    };
    let mut out = Builder::new();
    for &(id, forward) in &kept {
        debug_assert_eq!(out.next_id().0, seen[&(id, forward)]);
        let ty = btf.ty(id)?;
        if forward {
            let flag = u32::from(ty.kind() == Kind::UNION) << 31;
            out.raw(&ty.name(), flag | u32::from(Kind::FWD.0) << 24, 0, &[]);
        } else {
            copy(&ty, &mut out, |id| number(id, matches!(ty.kind(), Kind::PTR | Kind::FUNC_PROTO)));
        }
    }
    Ok(out.finish())
}

/// The types that a type is made of.
fn references(ty: &Type<'_>) -> Vec<TypeId> {
    let mut ids: Vec<TypeId> = ty.target().into_iter().collect();
    if ty.kind() == Kind::ARRAY {
        ids.push(TypeId(ty.element(0, 3)[1]));
    }
    ids.extend(ty.members().map(|member| member.ty));
    ids.extend(ty.params().map(|param| param.ty));
    ids
}

/// Appends a type, with other numbers for those it refers to.
fn copy(ty: &Type<'_>, out: &mut Builder, number: impl Fn(TypeId) -> u32) {
    let elements = usize::try_from(Kind::elements(ty.info)).unwrap_or_default();
    let size = if ty.kind() == Kind::ARRAY { 0 } else { ty.target().map_or(ty.size, &number) };
    let string = |out: &mut Builder, offset: u32| out.string(&String::from_utf8_lossy(ty.btf.string(offset)));
    let tail: Vec<u32> = match ty.kind() {
        Kind::INT => vec![ty.element(0, 1)[0]],
        Kind::ARRAY => {
            let [of, index, len] = ty.element(0, 3);
            vec![number(TypeId(of)), number(TypeId(index)), len]
        }
        Kind::STRUCT | Kind::UNION => (0..elements)
            .flat_map(|index| {
                let [name, id, offset] = ty.element(index, 3);
                [string(out, name), number(TypeId(id)), offset]
            })
            .collect(),
        Kind::FUNC_PROTO => (0..elements)
            .flat_map(|index| {
                let [name, id, _] = ty.element(index, 2);
                [string(out, name), number(TypeId(id))]
            })
            .collect(),
        Kind::ENUM => (0..elements)
            .flat_map(|index| {
                let [name, value, _] = ty.element(index, 2);
                [string(out, name), value]
            })
            .collect(),
        Kind::ENUM64 => (0..elements)
            .flat_map(|index| {
                let [name, low, high] = ty.element(index, 3);
                [string(out, name), low, high]
            })
            .collect(),
        _ => Vec::new(),
    };
    out.raw(&ty.name(), ty.info, size, &tail);
}
