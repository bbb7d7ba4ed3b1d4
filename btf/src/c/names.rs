//! Names that are each given once, where the types of a kernel have them several times.

use std::borrow::Cow;
use std::collections::HashMap;

use super::ident;
use crate::Btf;
use crate::types::{Kind, Type, TypeId};

/// The numbers that are appended to names, as bpftool does: the second `struct node` is `node___2`.
#[derive(Default)]
pub(super) struct Names {
    /// By [`key`].
    numbers: HashMap<u64, u32>,
}

/// What a number is kept by: the type, and for a value of an enumeration which one it is, from 1.
fn key(id: TypeId, value: usize) -> u64 {
    u64::from(id.0) << 32 | u64::try_from(value).unwrap_or_default()
}

/// One name space: of each name, the last number that was given with it.
struct Space<'a>(HashMap<Cow<'a, [u8]>, u32>);

impl<'a> Space<'a> {
    /// The number for one more of a name: 1 where the name can stay as it is.
    fn add(&mut self, name: &'a [u8]) -> u32 {
        let name = clean(name);
        let least = u32::from(ident::is_reserved(&name));
        let mut number = self.0.get(&name).copied().unwrap_or(least) + 1;
        // A name of its own may look like one that has been numbered.
        while number > 1 && self.0.contains_key(&numbered(&name, number)) {
            number += 1;
        }
        if number > 1 {
            self.0.insert(numbered(&name, number), 1);
        }
        self.0.insert(name, number);
        number
    }
}

fn numbered(name: &[u8], number: u32) -> Cow<'static, [u8]> {
    let mut text = name.to_vec();
    text.extend(format!("___{number}").into_bytes());
    text.into()
}

/// The name as it is printed.
fn clean(name: &[u8]) -> Cow<'_, [u8]> {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if name.iter().all(is_letter) && !name.first().is_some_and(u8::is_ascii_digit) {
        return name.into();
    }
    let mut out = Vec::new();
    ident::push(&mut out, name);
    out.into()
}

impl Names {
    /// The names of all types. Those of functions that are declared stay as they are, as the linker knows them by these.
    pub(super) fn new(btf: &Btf, functions: &[TypeId]) -> Self {
        let mut names = Self::default();
        let mut tags = Space(HashMap::with_capacity(1 << 14));
        let mut words = Space(HashMap::with_capacity(1 << 16));
        for function in functions.iter().filter_map(|&id| btf.ty(id).ok()) {
            words.add(btf.string(function.name_off));
        }
        let all = || (1..btf.end()).filter_map(|id| btf.ty(TypeId(id)).ok());
        // A forward declaration is one of the structure or union that has the same name, if there is any.
        let mut forward = [HashMap::new(), HashMap::new()];
        for ty in all().filter(|ty| ty.kind() == Kind::FWD) {
            forward[usize::from(ty.flag())].insert(clean(btf.string(ty.name_off)), 0);
        }
        for ty in all().filter(Type::is_named) {
            let name = btf.string(ty.name_off);
            let number = match ty.kind() {
                Kind::STRUCT | Kind::UNION | Kind::ENUM | Kind::ENUM64 => tags.add(name),
                Kind::TYPEDEF => words.add(name),
                Kind::INT | Kind::FLOAT if !ident::is_built_in(name, ty.size) => words.add(name),
                _ => continue,
            };
            names.keep(key(ty.id, 0), number);
            if matches!(ty.kind(), Kind::STRUCT | Kind::UNION) {
                let same = forward[usize::from(ty.kind() == Kind::UNION)].get_mut(&clean(name));
                if let Some(first) = same.filter(|first| **first == 0) {
                    *first = number;
                }
            }
        }
        for ty in all() {
            match ty.kind() {
                Kind::FWD => {
                    let name = btf.string(ty.name_off);
                    if let Some(number) = forward[usize::from(ty.flag())].get_mut(&clean(name)) {
                        if *number == 0 {
                            *number = tags.add(name);
                        }
                        names.keep(key(ty.id, 0), *number);
                    }
                }
                Kind::ENUM | Kind::ENUM64 => {
                    for index in 0..ty.elements() {
                        let number = words.add(btf.string(value_name(&ty, index)));
                        names.keep(key(ty.id, index + 1), number);
                    }
                }
                _ => {}
            }
        }
        names
    }

    fn keep(&mut self, key: u64, number: u32) {
        if number > 1 {
            self.numbers.insert(key, number);
        }
    }

    /// Appends the name of a type.
    pub(super) fn push(&self, out: &mut Vec<u8>, ty: &Type<'_>) {
        ident::push(out, ty.btf.string(ty.name_off));
        suffix(out, self.numbers.get(&key(ty.id, 0)));
    }

    /// Appends the name of a value of an enumeration.
    pub(super) fn push_value(&self, out: &mut Vec<u8>, ty: &Type<'_>, index: usize) {
        ident::push(out, ty.btf.string(value_name(ty, index)));
        suffix(out, self.numbers.get(&key(ty.id, index + 1)));
    }
}

fn suffix(out: &mut Vec<u8>, number: Option<&u32>) {
    if let Some(&number) = number {
        out.extend_from_slice(b"___");
        ident::number(out, number.into());
    }
}

fn value_name(ty: &Type<'_>, index: usize) -> u32 {
    ty.element(index, if ty.kind() == Kind::ENUM64 { 3 } else { 2 })[0]
}
