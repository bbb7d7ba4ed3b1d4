//! From the entries of a unit to a graph of its types.

use std::collections::{HashMap, HashSet};

use gimli::{DebugInfoOffset, DwTag, UnitHeader, constants as dw};

use super::entry::{Entries, Entry, Target, Unit};
use super::graph::{Graph, Node};
use super::names::Names;
use super::sections::{Debug, Slice};
use crate::Error;

/// How deeply name spaces may be written within each other.
const DEPTH: usize = 64;
/// How many steps it may take from a function to what it is a copy of.
const ORIGINS: usize = 8;
/// The fewest bytes that types take on average: one of the smallest is a pointer, a byte and the place of a type. Each takes some
/// hundred bytes here, so that a unit of entries of one byte, which say nothing, would take that many times its size.
const TYPE: usize = 4;
/// How many types a small unit may have all the same.
const BESIDES: usize = 1000;
/// How many units of others are kept open.
const OPEN: usize = 64;

/// Reads units, one at a time.
pub(super) struct Loader<'s> {
    pub(super) debug: Debug<'s>,
    pub(super) names: Names<'s>,
    headers: Vec<UnitHeader<Slice<'s>>>,
    signatures: HashMap<u64, usize>,
    /// Units that others refer to.
    open: HashMap<usize, Unit<'s>>,
    /// The types of the unit at hand, and of others as far as it refers to them.
    pub(super) graph: Graph,
    /// Where each of them is in `.debug_info`, and whether it was read.
    places: Vec<(usize, bool)>,
    /// The numbers of the unit's own types by their place in it.
    own: Vec<u32>,
    /// Where the unit begins and how long it is.
    unit: (usize, usize),
    foreign: HashMap<usize, u32>,
    /// Types of other units that are known already.
    settled: HashSet<usize>,
    /// The type of the indices of arrays, which BTF wants and C does not have.
    pub(super) index: u32,
}

/// The numbers of names that are wanted, and in which of C's name spaces each was found: tags, other types, functions.
pub(super) type Wanted = HashMap<u32, [bool; 3]>;

impl<'s> Loader<'s> {
    pub(super) fn new(debug: Debug<'s>) -> Result<Self, Error> {
        let mut headers = Vec::new();
        let mut signatures = HashMap::new();
        let mut units = debug.info.units();
        while let Some(header) = units.next().map_err(|error| Error::dwarf("a unit", error))? {
            signatures.extend(Unit::signature(&header));
            headers.push(header);
        }
        Ok(Self {
            names: Names::new(&debug),
            debug,
            headers,
            signatures,
            open: HashMap::new(),
            graph: Graph::new(),
            places: vec![(0, true)],
            own: Vec::new(),
            unit: (0, 0),
            settled: HashSet::new(),
            foreign: HashMap::new(),
            index: 0,
        })
    }

    /// How many units there are.
    pub(super) fn units(&self) -> usize {
        self.headers.len()
    }

    /// Whether the file is for a big-endian machine.
    pub(super) fn is_big_endian(&self) -> bool {
        self.debug.is_big_endian
    }

    /// Reads the types of a unit, all or those that are wanted, and whatever they refer to. False, and nothing is read, where
    /// the unit is not of the languages that are asked for: Rust, or all others.
    pub(super) fn load(&mut self, unit: usize, is_rust: bool, wanted: Option<&mut Wanted>) -> Result<bool, Error> {
        let unit = Unit::open(&self.debug, self.headers[unit])?;
        if (unit.language == Some(dw::DW_LANG_Rust)) != is_rust {
            return Ok(false);
        }
        self.graph.clear();
        self.places.truncate(1);
        self.foreign.clear();
        self.own.clear();
        self.index = 0;
        self.unit = (unit.start, unit.header.length_including_self());
        let mut entries = Entries::all(&unit)?;
        let mut root = Entry::default();
        // Assemblers tell the names of functions, but not what they take.
        if entries.next(&mut root)? && root.has_children && unit.language != Some(dw::DW_LANG_Mips_Assembler) {
            match wanted {
                Some(wanted) => self.pick(&unit, &mut entries, wanted, 0)?,
                None => self.scan(&unit, &mut entries, 0)?,
            }
        }
        let mut next = 1;
        while let Some(&(place, known)) = self.places.get(next) {
            self.check_room()?;
            if !known {
                self.fetch(&unit, place)?;
                // What cannot be told, such as an entry that is no type, stays `void`.
                self.places[next].1 = true;
            }
            next += 1;
        }
        Ok(true)
    }

    /// The types of other units that the unit at hand refers to: their numbers, and where they are.
    pub(super) fn foreign(&self) -> impl Iterator<Item = (u32, usize)> + use<'_, 's> {
        self.foreign.iter().map(|(&place, &id)| (id, place))
    }

    /// Types of other units need not be read again.
    pub(super) fn settle(&mut self, places: Vec<usize>) {
        self.settled.extend(places);
    }

    /// Refuses a unit that has more types than it can have bytes for.
    fn check_room(&self) -> Result<(), Error> {
        let most = BESIDES.saturating_add(self.unit.1 / TYPE);
        if self.places.len() > most { Err(Error::Malformed("more types than a unit has room for")) } else { Ok(()) }
    }

    /// Reads all types up to the end of a list of children.
    fn scan(&mut self, unit: &Unit<'s>, entries: &mut Entries<'_, 's>, depth: usize) -> Result<(), Error> {
        let mut entry = Entry::default();
        while entries.next(&mut entry)? {
            self.check_room()?;
            if is_name_space(&entry) && depth < DEPTH {
                self.scan(unit, entries, depth + 1)?;
            } else {
                self.define(unit, entries, &entry, depth)?;
            }
        }
        Ok(())
    }

    /// Notes the types that are wanted, up to the end of a list of children, and passes over all others.
    fn pick(
        &mut self,
        unit: &Unit<'s>,
        entries: &mut Entries<'_, 's>,
        wanted: &mut Wanted,
        depth: usize,
    ) -> Result<(), Error> {
        let mut entry = Entry::default();
        while entries.next(&mut entry)? {
            if is_name_space(&entry) && depth < DEPTH {
                self.pick(unit, entries, wanted, depth + 1)?;
                continue;
            }
            let Some(space) = name_space(&entry) else {
                entries.skip_children(&entry)?;
                continue;
            };
            let name = match (&entry.name, entry.origin) {
                (None, Some(origin)) => match self.original(unit, origin)? {
                    Some((unit, entry)) => self.name(&unit, &entry)?,
                    None => 0,
                },
                _ => self.name(unit, &entry)?,
            };
            match wanted.get_mut(&name).map(|found| &mut found[space]) {
                Some(found) if !*found => {
                    *found = true;
                    self.define(unit, entries, &entry, depth)?;
                }
                _ => entries.skip_children(&entry)?,
            }
        }
        Ok(())
    }

    pub(super) fn name(&mut self, unit: &Unit<'s>, entry: &Entry<'s>) -> Result<u32, Error> {
        match &entry.name {
            Some(name) => self.names.number(&self.debug, name, unit.header.format(), unit.name_base),
            None => Ok(0),
        }
    }

    /// The number of the type at a place.
    pub(super) fn id(&mut self, place: usize) -> u32 {
        let (start, length) = self.unit;
        let own = place.checked_sub(start).filter(|&at| at < length);
        if own.is_some() && self.own.is_empty() {
            self.own.resize(length, 0);
        }
        let slot = match own.and_then(|at| self.own.get_mut(at)) {
            Some(slot) => slot,
            None => self.foreign.entry(place).or_default(),
        };
        if *slot == 0 {
            *slot = self.graph.reserve();
            self.places.push((place, own.is_none() && self.settled.contains(&place)));
        }
        *slot
    }

    /// The number of a type that has no entry.
    pub(super) fn unnamed(&mut self, node: Node, tail: &[u32]) -> u32 {
        let id = self.graph.reserve();
        self.places.push((0, true));
        self.graph.set(id, node, tail);
        id
    }

    pub(super) fn set(&mut self, id: u32, node: Node, tail: &[u32]) {
        self.graph.set(id, node, tail);
        if let Some(place) = usize::try_from(id).ok().and_then(|id| self.places.get_mut(id)) {
            place.1 = true;
        }
    }

    /// The number of the type that an entry refers to; 0 where it has none.
    pub(super) fn target(&mut self, target: Option<Target>) -> Result<u32, Error> {
        Ok(match target {
            Some(target) => {
                let place = self.resolve(target)?;
                self.id(place)
            }
            None => 0,
        })
    }

    fn resolve(&self, target: Target) -> Result<usize, Error> {
        match target {
            Target::At(place) => Ok(place),
            Target::Signature(signature) => self
                .signatures
                .get(&signature)
                .copied()
                .ok_or(Error::Malformed("references to type units that are not there")),
        }
    }

    /// The unit that a place is in.
    fn unit_of(&mut self, unit: &Unit<'s>, place: usize) -> Result<Unit<'s>, Error> {
        if DebugInfoOffset(place).to_unit_offset(&unit.header).is_some() {
            return Ok(unit.clone());
        }
        let start = |header: &UnitHeader<Slice<'s>>| header.debug_info_offset().map_or(0, |offset| offset.0);
        let index = self.headers.partition_point(|header| start(header) <= place).saturating_sub(1);
        if let Some(unit) = self.open.get(&index) {
            return Ok(unit.clone());
        }
        let header = *self.headers.get(index).ok_or(Error::Malformed("references to nowhere"))?;
        let unit = Unit::open(&self.debug, header)?;
        if self.open.len() >= OPEN {
            self.open.clear();
        }
        self.open.insert(index, unit.clone());
        Ok(unit)
    }

    /// Reads one type that was referred to.
    fn fetch(&mut self, unit: &Unit<'s>, place: usize) -> Result<(), Error> {
        let unit = self.unit_of(unit, place)?;
        let mut entries = Entries::at(&unit, place)?;
        let mut entry = Entry::default();
        if entries.next(&mut entry)? {
            self.define(&unit, &mut entries, &entry, 0)?;
        }
        Ok(())
    }

    /// The function that another is a copy or the definition of, as it is named.
    pub(super) fn original(&mut self, unit: &Unit<'s>, origin: Target) -> Result<Option<(Unit<'s>, Entry<'s>)>, Error> {
        let mut place = self.resolve(origin)?;
        for _ in 0..ORIGINS {
            let unit = self.unit_of(unit, place)?;
            let mut entry = Entry::default();
            if !Entries::at(&unit, place)?.next(&mut entry)? {
                break;
            }
            match entry.origin {
                Some(origin) if entry.name.is_none() => place = self.resolve(origin)?,
                _ => return Ok(Some((unit, entry))),
            }
        }
        Ok(None)
    }
}

fn is_name_space(entry: &Entry<'_>) -> bool {
    matches!(entry.tag, dw::DW_TAG_namespace | dw::DW_TAG_module) && entry.has_children
}

pub(super) fn is_named_type(tag: DwTag) -> bool {
    matches!(
        tag,
        dw::DW_TAG_structure_type
            | dw::DW_TAG_class_type
            | dw::DW_TAG_union_type
            | dw::DW_TAG_enumeration_type
            | dw::DW_TAG_typedef
            | dw::DW_TAG_base_type
    )
}

/// Which of [`Wanted`]'s name spaces an entry defines something in.
fn name_space(entry: &Entry<'_>) -> Option<usize> {
    match entry.tag {
        _ if entry.is_declaration || entry.signature.is_some() => None,
        dw::DW_TAG_structure_type | dw::DW_TAG_class_type | dw::DW_TAG_union_type => Some(0),
        dw::DW_TAG_subprogram => entry.is_function().then_some(2),
        tag => is_named_type(tag).then_some(1),
    }
}
