//! A type as JSON has it, with the keys of `bpftool -j btf dump`.

use std::fmt::Write;

use bpfkit_btf::{Kind, Type, TypeId};

/// An object that is being written. Kinds have so many different keys that a structure for serde would be all options.
struct Object<'o> {
    out: &'o mut String,
    is_first: bool,
}

impl<'o> Object<'o> {
    fn new(out: &'o mut String) -> Self {
        out.push('{');
        Self { out, is_first: true }
    }

    #[inline(never)]
    fn key(&mut self, key: &str) {
        let comma = if std::mem::take(&mut self.is_first) { "" } else { "," };
        let _ = write!(self.out, "{comma}\"{key}\":");
    }

    #[inline(never)]
    fn number(&mut self, key: &str, number: i128) {
        self.key(key);
        let _ = write!(self.out, "{number}");
    }

    #[inline(never)]
    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        self.out.push_str(&serde_json::Value::from(text).to_string());
    }

    fn name(&mut self, name: &str) {
        self.text("name", if name.is_empty() { "(anon)" } else { name });
    }

    fn id(&mut self, key: &str, id: Option<TypeId>) {
        self.number(key, id.unwrap_or_default().0.into());
    }

    fn end(self) {
        self.out.push('}');
    }
}

/// The object of a type, in one line.
pub(super) fn row(ty: &Type<'_>) -> String {
    let mut out = String::new();
    let mut row = Object::new(&mut out);
    let kind = ty.kind();
    row.id("id", Some(ty.id));
    row.text("kind", kind.constant());
    row.name(&ty.name());
    if matches!(kind, Kind::ENUM | Kind::ENUM64) {
        row.text("encoding", if ty.flag() { "SIGNED" } else { "UNSIGNED" });
    }
    let has_size = matches!(kind, Kind::INT | Kind::FLOAT | Kind::STRUCT | Kind::UNION | Kind::DATASEC);
    if has_size || matches!(kind, Kind::ENUM | Kind::ENUM64) {
        row.number("size", ty.size().unwrap_or_default().into());
    }
    match kind {
        Kind::INT => {
            if let Some(int) = ty.int() {
                row.number("bits_offset", int.offset.into());
                row.number("nr_bits", int.bits.into());
                row.text("encoding", ty.encoding_name().unwrap_or_default());
            }
        }
        Kind::ARRAY => {
            row.id("type_id", ty.target());
            row.id("index_type_id", ty.index_type());
            row.number("nr_elems", ty.array_len().unwrap_or_default().into());
        }
        Kind::FWD => row.text("fwd_kind", if ty.flag() { "union" } else { "struct" }),
        Kind::FUNC_PROTO => row.id("ret_type_id", ty.target()),
        _ if ty.target().is_some() => row.id("type_id", ty.target()),
        _ => {}
    }
    if let Some(linkage) = ty.linkage_name() {
        row.text("linkage", linkage);
    }
    if let Some(component) = ty.component() {
        row.number("component_idx", component.into());
    }
    elements(ty, row);
    out
}

/// Members, values, parameters or variables, and the end of the object.
fn elements(ty: &Type<'_>, mut row: Object<'_>) {
    let (key, count) = match ty.kind() {
        Kind::STRUCT | Kind::UNION => ("members", ty.members().count()),
        Kind::ENUM | Kind::ENUM64 => ("values", ty.values().count()),
        Kind::FUNC_PROTO => ("params", ty.params().count()),
        Kind::DATASEC => ("vars", ty.variables().count()),
        _ => return row.end(),
    };
    row.number("vlen", i128::try_from(count).unwrap_or_default());
    row.key(key);
    let mut list = vec![String::new(); count];
    for (member, out) in ty.members().zip(&mut list) {
        let mut element = Object::new(out);
        element.name(&member.name);
        element.id("type_id", Some(member.ty));
        element.number("bits_offset", member.bit_offset.into());
        if let Some(bits) = member.bits {
            element.number("bitfield_size", bits.into());
        }
        element.end();
    }
    for ((name, value), out) in ty.values().zip(&mut list) {
        let mut element = Object::new(out);
        element.name(&name);
        element.number("val", if ty.flag() { value.into() } else { value.cast_unsigned().into() });
        element.end();
    }
    for (param, out) in ty.params().zip(&mut list) {
        let mut element = Object::new(out);
        element.name(&param.name);
        element.id("type_id", Some(param.ty));
        element.end();
    }
    for ((id, offset, size), out) in ty.variables().zip(&mut list) {
        let mut element = Object::new(out);
        element.id("type_id", Some(id));
        element.number("offset", offset.into());
        element.number("size", size.into());
        element.end();
    }
    let _ = write!(row.out, "[{}]", list.join(","));
    row.end();
}
