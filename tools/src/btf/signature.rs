//! Types told apart by what they are, and not by their numbers, which are others in every kernel.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use bpfkit_btf::{Btf, Kind, Type, TypeId};

/// How deeply types are looked into.
const DEPTH: usize = 48;

/// Numbers that are the same for the same types of two blobs.
pub(super) struct Signatures<'a> {
    btf: &'a Btf,
    known: Vec<Option<u64>>,
}

impl<'a> Signatures<'a> {
    pub(super) fn new(btf: &'a Btf) -> Self {
        Self { btf, known: Vec::new() }
    }

    /// What a type is to who refers to it: by its name where it has one, else by all that is in it. A forward declaration is the
    /// structure that it declares.
    pub(super) fn of(&mut self, id: TypeId) -> u64 {
        self.within(id, DEPTH)
    }

    /// What is in a type.
    pub(super) fn contents(&mut self, ty: &Type<'a>) -> u64 {
        self.inside(ty, DEPTH)
    }

    fn within(&mut self, id: TypeId, depth: usize) -> u64 {
        let index = usize::try_from(id.0).unwrap_or(usize::MAX);
        if let Some(&Some(known)) = self.known.get(index) {
            return known;
        }
        let Ok(ty) = self.btf.ty(id) else { return 1 };
        if depth == 0 {
            return 2;
        }
        if self.known.len() <= index {
            self.known.resize((index + 1).next_power_of_two(), None);
        }
        // What leads back to itself finds this.
        self.known[index] = Some(3);
        let name = ty.name();
        let tag = match ty.kind() {
            _ if name.is_empty() => None,
            Kind::FWD => Some(if ty.flag() { Kind::UNION } else { Kind::STRUCT }),
            Kind::ENUM64 => Some(Kind::ENUM),
            Kind::STRUCT | Kind::UNION | Kind::ENUM | Kind::TYPEDEF | Kind::FUNC | Kind::VAR => Some(ty.kind()),
            _ => None,
        };
        let signature = match tag {
            Some(kind) => hash(&(kind, name)),
            None => self.inside(&ty, depth - 1),
        };
        self.known[index] = Some(signature);
        signature
    }

    fn inside(&mut self, ty: &Type<'a>, depth: usize) -> u64 {
        let mut hasher = DefaultHasher::new();
        let kind = if ty.kind() == Kind::ENUM64 { Kind::ENUM } else { ty.kind() };
        kind.hash(&mut hasher);
        match kind {
            Kind::STRUCT | Kind::UNION => {
                ty.size().ok().hash(&mut hasher);
                for member in ty.members() {
                    let size = self.btf.ty(member.ty).and_then(Type::size).ok();
                    (member.name, member.bit_offset, member.bits, size).hash(&mut hasher);
                    self.within(member.ty, depth).hash(&mut hasher);
                }
            }
            Kind::ENUM => {
                ty.size().ok().hash(&mut hasher);
                ty.values().for_each(|value| value.hash(&mut hasher));
            }
            Kind::FUNC_PROTO => {
                // The names of parameters are for who reads them.
                ty.params().for_each(|param| self.within(param.ty, depth).hash(&mut hasher));
                self.within(ty.target().unwrap_or_default(), depth).hash(&mut hasher);
            }
            Kind::ARRAY => {
                ty.array_len().hash(&mut hasher);
                self.within(ty.target().unwrap_or_default(), depth).hash(&mut hasher);
            }
            Kind::INT | Kind::FLOAT => {
                let int = ty.int().map(|int| (int.bits, int.offset, int.encoding));
                (ty.name(), ty.size().ok(), int).hash(&mut hasher);
            }
            _ => {
                ty.name().hash(&mut hasher);
                if let Some(target) = ty.target() {
                    self.within(target, depth).hash(&mut hasher);
                }
            }
        }
        hasher.finish()
    }
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
