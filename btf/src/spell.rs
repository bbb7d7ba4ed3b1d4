//! Types as C spells them.

use crate::Btf;
use crate::types::{Kind, TypeId};

/// How deeply a type is spelt out.
const DEPTH: usize = 16;

impl Btf {
    /// The C spelling of a type, such as `struct sock *` or `__be16`. What is broken is spelt `?`.
    pub fn spell(&self, id: TypeId) -> String {
        self.spell_at(id, DEPTH)
    }

    fn spell_at(&self, id: TypeId, depth: usize) -> String {
        let Some(ty) = self.ty(id).ok().filter(|_| depth != 0) else { return "?".to_owned() };
        let name = ty.name();
        let inner = || self.spell_at(ty.target().unwrap_or_default(), depth - 1);
        let tagged = |tag: &str| if name.is_empty() { format!("{tag} {{..}}") } else { format!("{tag} {name}") };
        match ty.kind() {
            Kind::VOID => "void".to_owned(),
            Kind::STRUCT => tagged("struct"),
            Kind::UNION => tagged("union"),
            Kind::FWD => tagged(if ty.flag() { "union" } else { "struct" }),
            Kind::ENUM | Kind::ENUM64 => tagged("enum"),
            Kind::PTR => {
                let inner = inner();
                if inner.ends_with('*') { format!("{inner}*") } else { format!("{inner} *") }
            }
            Kind::CONST => format!("const {}", inner()),
            Kind::VOLATILE => format!("volatile {}", inner()),
            Kind::RESTRICT | Kind::TYPE_TAG | Kind::VAR => inner(),
            Kind::ARRAY => format!("{}[{}]", inner(), ty.array_len().unwrap_or_default()),
            Kind::FUNC_PROTO => {
                let params: Vec<_> = ty.params().map(|param| self.spell_at(param.ty, depth - 1)).collect();
                format!("{} ({})", inner(), params.join(", "))
            }
            _ => name.into_owned(),
        }
    }
}
