//! Types in the form of BTF, before they are a blob: with names and types by numbers of our own.

use crate::types::{Kind, Word};

/// One type: what BTF has of it, and where its tail is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Node {
    pub(super) name: u32,
    /// Kind, flag and number of elements. Kind 0 with a `size` is another name of that type.
    pub(super) info: u32,
    /// Bytes, or the number of another type.
    pub(super) size: u32,
    tail: (u32, u32),
}

/// Types by number; 0 is `void`.
pub(super) struct Graph {
    nodes: Vec<Node>,
    words: Vec<u32>,
}

/// The most elements that a type may have in a kernel before Linux 7.1. What is beyond is left out.
const ELEMENTS: usize = 0xffff;

impl Node {
    pub(super) fn new(kind: Kind, name: u32, size: u32) -> Self {
        Self { name, info: u32::from(kind.0) << 24, size, tail: (0, 0) }
    }

    pub(super) fn with_flag(mut self, flag: bool) -> Self {
        self.info |= u32::from(flag) << 31;
        self
    }

    pub(super) fn with_size(mut self, size: u32) -> Self {
        self.size = size;
        self
    }

    pub(super) fn kind(&self) -> Kind {
        Kind::of(self.info)
    }

    /// A structure, union or enumeration, here or elsewhere.
    pub(super) fn has_tag(&self) -> bool {
        matches!(self.kind(), Kind::STRUCT | Kind::UNION | Kind::ENUM | Kind::ENUM64 | Kind::FWD)
    }

    /// One of which only the name is known.
    pub(super) fn is_forward(&self) -> bool {
        self.kind() == Kind::FWD || self.kind() == Kind::ENUM && Kind::elements(self.info) == 0 && self.name != 0
    }

    /// What C has one name space of tags for, and BTF three kinds.
    pub(super) fn tag(&self) -> (Kind, u32) {
        let kind = match self.kind() {
            Kind::FWD if self.info >> 31 != 0 => Kind::UNION,
            Kind::FWD => Kind::STRUCT,
            Kind::ENUM64 => Kind::ENUM,
            kind => kind,
        };
        (kind, self.name)
    }

    /// Whether `size` is the number of a type.
    pub(super) fn is_reference(&self) -> bool {
        !matches!(
            self.kind(),
            Kind::INT | Kind::FLOAT | Kind::ARRAY | Kind::STRUCT | Kind::UNION | Kind::ENUM | Kind::ENUM64 | Kind::FWD
        )
    }
}

impl Graph {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::default()], words: Vec::new() }
    }

    /// Forgets all but `void`.
    pub(super) fn clear(&mut self) {
        self.nodes.truncate(1);
        self.words.clear();
    }

    /// A number for a type that is to come.
    pub(super) fn reserve(&mut self) -> u32 {
        self.nodes.push(Node::default());
        u32::try_from(self.nodes.len() - 1).unwrap_or_default()
    }

    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn node(&self, id: u32) -> Node {
        usize::try_from(id).ok().and_then(|id| self.nodes.get(id)).copied().unwrap_or_default()
    }

    /// What follows the first three words of a type.
    pub(super) fn tail(&self, node: &Node) -> &[u32] {
        let (start, end) = node.tail;
        usize::try_from(start).ok().zip(usize::try_from(end).ok()).map_or(&[], |(start, end)| &self.words[start..end])
    }

    /// Says what a type is; `tail` is as [`Kind::words`] tells, and the number of elements follows from it.
    pub(super) fn set(&mut self, id: u32, mut node: Node, tail: &[u32]) {
        let (fixed, each) = node.kind().words().unwrap_or_default();
        let room = fixed.len() + each.len() * ELEMENTS;
        let tail = &tail[..tail.len().min(room)];
        if !each.is_empty() {
            let elements = tail.len().saturating_sub(fixed.len()) / each.len();
            node.info = node.info & 0xff00_0000 | u32::try_from(elements).unwrap_or_default();
        }
        let start = u32::try_from(self.words.len());
        self.words.extend(tail);
        let end = u32::try_from(self.words.len());
        // 16 GB of types are more than any blob takes: the rest is left empty.
        node.tail = start.ok().zip(end.ok()).unwrap_or_default();
        if let Some(slot) = usize::try_from(id).ok().and_then(|id| self.nodes.get_mut(id)) {
            *slot = node;
        }
    }

    /// The words after `info`, and what each of them is.
    pub(super) fn described(&self, node: &Node) -> impl Iterator<Item = (Word, u32)> + use<'_> {
        let (fixed, each) = node.kind().words().unwrap_or_default();
        let size = if node.is_reference() { Word::Type } else { Word::Number };
        let tail = fixed.iter().chain(each.iter().cycle()).zip(self.tail(node));
        [(size, node.size)].into_iter().chain(tail.map(|(&word, &value)| (word, value)))
    }
}
