//! The types of all units, each once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::digest::{Digest, Print};
use super::graph::{Graph, Node};
use super::load::Loader;
use crate::types::{Kind, Word};
use crate::{Btf, Builder, Error};

/// How many steps it may take from a type to what it is made of.
const DEPTH: usize = 512;

/// Types that are all different.
pub(super) struct Merged {
    graph: Graph,
    /// Structures, unions and enumerations by name and shape; all others by what they refer to.
    known: HashMap<Print, u32>,
    /// Types of other units that a unit referred to, by their place.
    foreign: HashMap<usize, Known>,
}

/// What is known of a type of another unit.
#[derive(Clone, Copy)]
struct Known {
    shape: Print,
    mention: Print,
    id: u32,
}

/// How a fingerprint treats what has a tag.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// By all it is made of.
    Shape,
    /// By its name: as it looks from behind a pointer.
    Mention,
}

#[derive(Clone, Copy, Default)]
enum Memo {
    #[default]
    Unknown,
    /// Being made: whoever meets it again goes in circles.
    Begun,
    Known(Print),
}

/// A unit's types on their way.
struct Merge<'m> {
    from: &'m Graph,
    shapes: Vec<Memo>,
    mentions: Vec<Memo>,
    /// The numbers of the types here; 0 while they are not known.
    ids: Vec<u32>,
    /// Structures and unions that nobody had before.
    fresh: Vec<u32>,
}

fn index(id: u32) -> usize {
    usize::try_from(id).unwrap_or_default()
}

impl Merged {
    pub(super) fn new() -> Self {
        Self { graph: Graph::new(), known: HashMap::new(), foreign: HashMap::new() }
    }

    /// Adds the types that were loaded.
    pub(super) fn add(&mut self, loader: &mut Loader<'_>) -> Result<(), Error> {
        let from = &loader.graph;
        let count = index(from.len());
        let mut merge = Merge {
            from,
            shapes: vec![Memo::default(); count],
            mentions: vec![Memo::default(); count],
            ids: vec![0; count],
            fresh: Vec::new(),
        };
        for (id, place) in loader.foreign() {
            if let Some(known) = self.foreign.get(&place) {
                merge.shapes[index(id)] = Memo::Known(known.shape);
                merge.mentions[index(id)] = Memo::Known(known.mention);
                merge.ids[index(id)] = known.id;
            }
        }
        // In their order, so that the numbers are those of the order in the file.
        for id in 1..from.len() {
            merge.print(id, Look::Shape, DEPTH)?;
            self.take(&mut merge, id)?;
            while let Some(id) = merge.fresh.pop() {
                self.fill(&mut merge, id)?;
            }
        }
        for (id, place) in loader.foreign() {
            let shape = merge.print(id, Look::Shape, DEPTH)?;
            let mention = merge.print(id, Look::Mention, DEPTH)?;
            self.foreign.insert(place, Known { shape, mention, id: merge.ids[index(id)] });
        }
        let places: Vec<usize> = loader.foreign().map(|(_, place)| place).collect();
        loader.settle(places);
        Ok(())
    }

    /// The number of a unit's type here.
    fn take(&mut self, merge: &mut Merge<'_>, id: u32) -> Result<u32, Error> {
        if id == 0 || merge.ids[index(id)] != 0 {
            return Ok(merge.ids[index(id)]);
        }
        let node = merge.from.node(id);
        let is_filled_later = matches!(node.kind(), Kind::STRUCT | Kind::UNION);
        let number = if node.kind() == Kind::VOID {
            self.take(merge, node.size)?
        } else if is_filled_later {
            match self.known.entry(merge.print(id, Look::Shape, DEPTH)?) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(place) => {
                    merge.fresh.push(id);
                    *place.insert(self.graph.reserve())
                }
            }
        } else {
            // Before the walk, that it comes to an end.
            merge.print(id, Look::Mention, DEPTH)?;
            let (node, tail) = self.translated(merge, &node)?;
            intern(&mut self.known, &mut self.graph, node, &tail)
        };
        merge.ids[index(id)] = number;
        Ok(number)
    }

    /// A node with the numbers that its types have here.
    fn translated(&mut self, merge: &mut Merge<'_>, node: &Node) -> Result<(Node, Vec<u32>), Error> {
        let mut words = Vec::new();
        for (word, value) in merge.from.described(node) {
            words.push(if word == Word::Type { self.take(merge, value)? } else { value });
        }
        let size = words.remove(0);
        Ok((node.with_size(size), words))
    }

    /// Writes down the members of a structure that has a number already, so that its members may refer to it.
    fn fill(&mut self, merge: &mut Merge<'_>, id: u32) -> Result<(), Error> {
        let (node, tail) = self.translated(merge, &merge.from.node(id))?;
        self.graph.set(merge.ids[index(id)], node, &tail);
        Ok(())
    }

    /// The blob. Forward declarations of what is defined once have become that; of what is defined several times they stay.
    pub(super) fn finish(self, names: &[&[u8]], big_endian: bool) -> Result<Vec<u8>, Error> {
        let mut definitions = HashMap::new();
        for id in 1..self.graph.len() {
            let node = self.graph.node(id);
            if node.has_tag() && node.name != 0 && !node.is_forward() {
                definitions.entry(node.tag()).and_modify(|only| *only = 0).or_insert(id);
            }
        }
        let mut settle =
            Settle { graph: &self.graph, definitions, ids: vec![0; index(self.graph.len())], known: HashMap::new() };
        // Whoever is still its own number then is what stays.
        let ids: Vec<u32> = (0..self.graph.len()).map(|id| settle.settle(id)).collect();
        let kept: Vec<u32> = (1..self.graph.len()).filter(|&id| ids[index(id)] == id).collect();
        let mut numbers = vec![0; ids.len()];
        for (number, &id) in (1..).zip(&kept) {
            numbers[index(id)] = number;
        }
        let mut out = Builder::with_byte_order(big_endian);
        let mut offsets = vec![None; names.len()];
        let mut string = |out: &mut Builder, name: u32| {
            let text = || out.string(names[index(name)]);
            *offsets[index(name)].get_or_insert_with(text)
        };
        let mut words = Vec::new();
        for id in kept {
            let node = self.graph.node(id);
            words.clear();
            words.extend([string(&mut out, node.name), node.info]);
            for (word, value) in self.graph.described(&node) {
                words.push(match word {
                    Word::Type => numbers[index(ids[index(value)])],
                    Word::Text => string(&mut out, value),
                    Word::Number => value,
                });
            }
            out.words(&words);
        }
        Ok(out.finish())
    }
}

/// Whether two types are the same, once forward declarations have become what they stand for.
struct Settle<'g> {
    graph: &'g Graph,
    /// The only definition of each tag; 0 where there are several.
    definitions: HashMap<(Kind, u32), u32>,
    ids: Vec<u32>,
    known: HashMap<Print, u32>,
}

impl Settle<'_> {
    /// The number of the type that this one is the same as. Each step but one to a structure leads to one that is smaller by
    /// all that its fingerprint was made of, so it ends.
    fn settle(&mut self, id: u32) -> u32 {
        if id == 0 || self.ids[index(id)] != 0 {
            return self.ids[index(id)];
        }
        let node = self.graph.node(id);
        let settled = if node.is_forward() {
            self.definitions.get(&node.tag()).copied().filter(|&only| only != 0).unwrap_or(id)
        } else if matches!(node.kind(), Kind::STRUCT | Kind::UNION) {
            id
        } else {
            let graph = self.graph;
            let mut digest = head(&node);
            for (word, value) in graph.described(&node) {
                digest.add(if word == Word::Type { self.settle(value) } else { value });
            }
            *self.known.entry(digest.finish()).or_insert(id)
        };
        self.ids[index(id)] = settled;
        settled
    }
}

/// A fingerprint that begins with a node's own numbers.
fn head(node: &Node) -> Digest {
    let mut digest = Digest::of(node.info);
    digest.add(node.name);
    digest
}

/// The number of a type that is told from others by its words.
fn intern(known: &mut HashMap<Print, u32>, graph: &mut Graph, node: Node, tail: &[u32]) -> u32 {
    let mut digest = head(&node);
    digest.add(node.size);
    tail.iter().for_each(|&word| digest.add(word));
    *known.entry(digest.finish()).or_insert_with(|| {
        let id = graph.reserve();
        graph.set(id, node, tail);
        id
    })
}

impl Merge<'_> {
    /// The fingerprint of a type.
    fn print(&mut self, id: u32, look: Look, depth: usize) -> Result<Print, Error> {
        let from = self.from;
        let node = from.node(id);
        // What looks alike from everywhere is looked at once. No pointer leads to a structure without a name but right to it.
        let look = match node.kind() {
            Kind::PTR | Kind::FUNC_PROTO | Kind::INT | Kind::FLOAT | Kind::FWD => Look::Mention,
            Kind::STRUCT | Kind::UNION | Kind::ENUM | Kind::ENUM64 if node.name == 0 => Look::Shape,
            _ => look,
        };
        let memo = |merge: &mut Self, memo| match look {
            Look::Shape => std::mem::replace(&mut merge.shapes[index(id)], memo),
            Look::Mention => std::mem::replace(&mut merge.mentions[index(id)], memo),
        };
        match memo(self, Memo::Begun) {
            Memo::Known(print) => {
                memo(self, Memo::Known(print));
                return Ok(print);
            }
            Memo::Begun => return Err(Error::Malformed("types that are made of themselves")),
            Memo::Unknown => {}
        }
        let depth = depth.checked_sub(1).ok_or(Error::Malformed("types that are nested too deeply"))?;
        let is_mention = node.is_forward() || look == Look::Mention && node.has_tag() && node.name != 0;
        let print = if id == 0 {
            Digest::of(0).finish()
        } else if node.kind() == Kind::VOID {
            self.print(node.size, look, depth)?
        } else if is_mention {
            let (kind, name) = node.tag();
            let mut digest = Digest::of(u32::from(kind.0));
            digest.add(name);
            digest.finish()
        } else {
            let mut digest = head(&node);
            for (word, value) in from.described(&node) {
                match word {
                    Word::Type => digest.add_print(self.print(value, look, depth)?),
                    Word::Text | Word::Number => digest.add(value),
                }
            }
            digest.finish()
        };
        memo(self, Memo::Known(print));
        Ok(print)
    }
}

impl Merged {
    /// The types as they can be looked at.
    pub(super) fn btf(self, names: &[&[u8]], big_endian: bool) -> Result<Btf, Error> {
        Btf::parse(self.finish(names, big_endian)?)
    }
}
