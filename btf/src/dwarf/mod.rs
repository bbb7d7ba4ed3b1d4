//! BTF out of DWARF, for kernels that have no BTF of their own.
//!
//! Each compile unit of a kernel describes every type that it has seen: ten thousand types, of which the next unit has most
//! again. So units are read one at a time, and of each only what is new is kept.
//!
//! Two structures, unions or enumerations are taken for the same if they have the same name and the same shape: size, and for
//! each member name, place and type. A type that is held by value is compared by all it is made of; a structure that is behind a
//! pointer by its name alone. So the layout of two types that are merged is equal down to the last bit, cycles need no care, and
//! it does not matter that one unit only has a forward declaration of what a pointer leads to. What it costs: where two
//! structures of one name differ, a structure with a pointer to "the" one is kept once, and its pointer leads to that of
//! the unit that was read first. All other types are the same if what they refer to is.
//!
//! At the end, forward declarations become the structure, where there is one of that name and kind; with several they stay.
//! Functions are those of which there is code, with the prototype of their source. Types within the body of a function are left
//! out unless something outside of it refers to them.

mod define;
mod digest;
mod entry;
mod graph;
mod load;
mod merge;
mod names;
mod sections;

use object::ReadRef;

use self::load::{Loader, Wanted};
use self::merge::Merged;
use self::sections::Sections;
use crate::cut::{cut, root_names};
use crate::{Btf, Error};

/// Makes BTF out of a linked ELF file's DWARF of the versions 2 to 5: of all types, or of those that `roots` name, as [`cut`]
/// takes them; roots that are not there are passed over.
pub(crate) fn read<'d, R: ReadRef<'d>>(data: R, roots: Option<&[&str]>) -> Result<Btf, Error> {
    let sections = Sections::read(data)?;
    let mut loader = Loader::new(sections.debug())?;
    let mut wanted = match roots {
        Some(roots) => {
            let names = roots.iter().flat_map(|root| root_names(root));
            let numbers = names.map(|name| Ok((loader.names.intern(name.as_bytes())?, [false; 3])));
            Some(numbers.collect::<Result<Wanted, Error>>()?)
        }
        None => None,
    };
    let mut merged = Merged::new();
    // Rust's bindings repeat the kernel's structures under their names with other members: C's are to be found first.
    let mut rust = Vec::new();
    for unit in 0..loader.units() {
        if loader.load(unit, false, wanted.as_mut())? {
            merged.add(&mut loader)?;
        } else {
            rust.push(unit);
        }
    }
    for unit in rust {
        loader.load(unit, true, wanted.as_mut())?;
        merged.add(&mut loader)?;
    }
    let btf = merged.btf(loader.names.all(), loader.is_big_endian())?;
    if btf.is_empty() && roots.is_none() {
        return Err(Error::NoDwarf);
    }
    match roots {
        Some(roots) => Btf::parse(cut(&btf, &btf.present(roots))?),
        None => Ok(btf),
    }
}
