//! Maps of object files: by their types in `.maps`, by `struct bpf_map_def` in `maps`, and data sections, which libbpf makes maps of.

use bpfkit_btf::{Btf, Kind, Type};
use bpfkit_loader::{MapSpec, MapType};

use crate::asm::MapDef;

/// `BPF_F_RDONLY_PROG`
const RDONLY_PROG: u32 = 1 << 7;
/// The most bytes of a section that become a line of a text.
const DATA_MOST: usize = 4 << 20;

/// A map of this name that the types of a file describe, as libbpf reads them: a structure whose members say, by the lengths of
/// arrays and by what they point to, what the map is like.
pub fn by_types(btf: &Btf, name: &str) -> Option<MapSpec> {
    let is_one = |(id, ..): &(bpfkit_btf::TypeId, u32, u32)| btf.ty(*id).is_ok_and(|variable| variable.name() == name);
    let (variable, ..) = btf.find(".maps", &[Kind::DATASEC])?.variables().find(is_one)?;
    let described = btf.ty(variable).ok()?.resolved().ok()?;
    let mut spec = MapSpec { kind: MapType(0), ..MapSpec::hash(name, 0, 0, 0) };
    for member in described.members() {
        let pointed = || -> Option<Type<'_>> { btf.ty(btf.ty(member.ty).ok()?.resolved().ok()?.target()?).ok() };
        let number = || pointed()?.resolved().ok()?.array_len();
        let size = || pointed()?.size().ok();
        match &*member.name {
            "type" => spec.kind = MapType(number()?),
            "max_entries" => spec.max_entries = number()?,
            "map_flags" => spec.flags = number()?,
            "key_size" => spec.key_size = number()?,
            "value_size" => spec.value_size = number()?,
            "key" => spec.key_size = size()?,
            "value" => spec.value_size = size()?,
            _ => {}
        }
    }
    Some(spec)
}

/// A map by its `struct bpf_map_def`: type, size of keys, size of values, most elements, flags.
pub fn by_definition(name: &str, bytes: &[u8], big_endian: bool) -> Option<MapSpec> {
    let word = |n: usize| {
        let word = *bytes.get(n * 4..)?.first_chunk()?;
        Some(if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) })
    };
    let flags = word(4).unwrap_or_default();
    Some(MapSpec { kind: MapType(word(0)?), flags, ..MapSpec::hash(name, word(1)?, word(2)?, word(3)?) })
}

/// The map that a data section becomes: an array whose only value is the section.
///
/// # Errors
/// A section that is too large to be written down.
pub fn of_data(name: &str, size: u64, data: &[u8], is_writable: bool) -> Result<MapDef, String> {
    let size = u32::try_from(size).ok().filter(|_| data.len() <= DATA_MOST);
    let size = size.ok_or_else(|| format!("section {name} is too large for a map"))?;
    let flags = if is_writable { 0 } else { RDONLY_PROG };
    let data = if data.iter().all(|&byte| byte == 0) { Vec::new() } else { data.to_vec() };
    Ok(MapDef { spec: MapSpec { flags, ..MapSpec::array(name, size, 1) }, data })
}
