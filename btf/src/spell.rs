//! Types as C spells them.

use crate::Btf;
use crate::types::{Kind, TypeId};

/// How deeply a type is spelt out.
const DEPTH: usize = 16;
/// How many types one spelling may look at: prototypes that take each other would otherwise double it at every step.
const TYPES: usize = 256;
/// A name that is so long counts for another type.
const NAME: usize = 256;

impl Btf {
    /// The C spelling of a type, such as `struct sock *`, `__be16` or `int (*)(void *)`. What is broken is spelt `?`.
    pub fn spell(&self, id: TypeId) -> String {
        self.declare(id, String::new(), DEPTH, &mut { TYPES })
    }

    /// Wraps a type around what has been spelt of a declarator, from the place of the name outwards, as C has it.
    fn declare(&self, id: TypeId, inner: String, depth: usize, types: &mut usize) -> String {
        let around = |word: &str| {
            // `int[2]`, but `int *` and `int (int)`.
            let space = if inner.is_empty() || inner.starts_with('[') { "" } else { " " };
            format!("{word}{space}{inner}")
        };
        let Some(left) = types.checked_sub(1).filter(|_| depth != 0) else { return around("?") };
        *types = left;
        let Ok(ty) = self.ty(id) else { return around("?") };
        let name = ty.name();
        *types = types.saturating_sub(name.len() / NAME);
        let tagged =
            |tag: &str| around(&if name.is_empty() { format!("{tag} {{..}}") } else { format!("{tag} {name}") });
        let target = ty.target().unwrap_or_default();
        // Arrays and functions bind closer than `*`.
        let closer = || if inner.starts_with('*') { format!("({inner})") } else { inner.clone() };
        let depth = depth - 1;
        match ty.kind() {
            Kind::VOID => around("void"),
            Kind::STRUCT => tagged("struct"),
            Kind::UNION => tagged("union"),
            Kind::FWD => tagged(if ty.flag() { "union" } else { "struct" }),
            Kind::ENUM | Kind::ENUM64 => tagged("enum"),
            Kind::PTR => self.declare(target, format!("*{inner}"), depth, types),
            Kind::CONST | Kind::VOLATILE => {
                // The qualifier of a pointer is behind its `*`, any other in front of all.
                let word = ty.kind().name();
                if self.ty(target).is_ok_and(|ty| ty.kind() == Kind::PTR) {
                    self.declare(target, around(word), depth, types)
                } else {
                    format!("{word} {}", self.declare(target, inner, depth, types))
                }
            }
            Kind::RESTRICT | Kind::TYPE_TAG | Kind::VAR | Kind::FUNC => self.declare(target, inner, depth, types),
            Kind::ARRAY => {
                let inner = format!("{}[{}]", closer(), ty.array_len().unwrap_or_default());
                self.declare(target, inner, depth, types)
            }
            Kind::FUNC_PROTO => {
                let mut params = Vec::new();
                for (index, param) in ty.params().enumerate() {
                    if *types == 0 {
                        break;
                    }
                    // The last one may stand for `...`.
                    let rest = param.ty.0 == 0 && index != 0;
                    *types -= usize::from(rest);
                    let param =
                        if rest { "...".to_owned() } else { self.declare(param.ty, String::new(), depth, types) };
                    params.push(param);
                }
                let params = if params.is_empty() { "void".to_owned() } else { params.join(", ") };
                self.declare(target, format!("{}({params})", closer()), depth, types)
            }
            _ => around(&name),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Btf, Builder, TypeId};

    #[test]
    fn types_are_spelt_as_c_has_them() {
        let mut types = Builder::new();
        let int = types.int("int", 4, true);
        let sock = types.strukt("sock", 4, &[("a", int, 0)]);
        let pair = types.array(int, int, 2);
        let pairs = types.array(pair, int, 3);
        let pointer = types.ptr(sock);
        let pointers = types.array(pointer, int, 4);
        let to_pair = types.ptr(pair);
        let proto = types.func_proto(&[("sk", pointer), ("n", int)], int);
        let callback = types.ptr(proto);
        let callbacks = types.array(callback, int, 5);
        let nothing = types.func_proto(&[], TypeId(0));
        let returns = types.func_proto(&[("n", int), ("", TypeId(0))], callback);
        let twice = types.ptr(pointer);
        let steady = types.raw("", 10 << 24, sock.0, &[]);
        let to_steady = types.ptr(steady);
        let steady_pointer = types.raw("", 10 << 24, pointer.0, &[]);
        let unnamed = types.raw("", 5 << 24, 4, &[]);
        let forward = types.raw("later", 1 << 31 | 7 << 24, 0, &[]);
        let btf = Btf::parse(types.finish()).unwrap();
        for (id, text) in [
            (TypeId(0), "void"),
            (pairs, "int[3][2]"),
            (pointer, "struct sock *"),
            (twice, "struct sock **"),
            (pointers, "struct sock *[4]"),
            (to_pair, "int (*)[2]"),
            (proto, "int (struct sock *, int)"),
            (callback, "int (*)(struct sock *, int)"),
            (callbacks, "int (*[5])(struct sock *, int)"),
            (nothing, "void (void)"),
            (returns, "int (*(int, ...))(struct sock *, int)"),
            (steady, "const struct sock"),
            (to_steady, "const struct sock *"),
            (steady_pointer, "struct sock *const"),
            (unnamed, "union {..}"),
            (forward, "union later"),
            (TypeId(99), "?"),
        ] {
            assert_eq!(btf.spell(id), text);
        }
    }

    #[test]
    fn prototypes_that_take_themselves_are_spelt_in_bounded_time() {
        let mut types = Builder::new();
        types.func_proto(&[("", TypeId(1)); 9], TypeId(1));
        let btf = Btf::parse(types.finish()).unwrap();
        let text = btf.spell(TypeId(1));
        assert!(text.contains('?') && text.len() < 1 << 14, "{} bytes", text.len());
    }

    #[test]
    fn what_is_long_is_not_spelt_again_and_again() {
        let mut types = Builder::new();
        // Each takes the one before it and 1000 times nothing, and returns it.
        for before in 0..12 {
            let mut params = [("", TypeId(0)); 1000];
            params[0].1 = TypeId(before);
            types.func_proto(&params, TypeId(before));
        }
        let long = types.strukt(&"long".repeat(10_000), 0, &[]);
        let takes = types.func_proto(&[("", long); 100], long);
        let btf = Btf::parse(types.finish()).unwrap();
        assert!(btf.spell(TypeId(12)).len() < 1 << 14);
        assert!((40_000..200_000).contains(&btf.spell(takes).len()));
    }
}
