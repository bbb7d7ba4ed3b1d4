//! Where instructions were written.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

/// Where an instruction was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The file, as the compiler names it.
    pub file: Cow<'static, str>,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// The statement.
    pub text: Cow<'static, str>,
}

impl Source {
    /// A place in a source that the compiler has read.
    pub const fn at(file: &'static str, line: u32, column: u32, text: &'static str) -> Self {
        Self { file: Cow::Borrowed(file), line, column, text: Cow::Borrowed(text) }
    }

    /// The name of its file, without directories.
    pub fn file_name(&self) -> &str {
        self.file.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: `{}`", self.file, self.line, self.column, self.text)
    }
}

/// A [`Source`] whose strings are kept elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceRef<'a> {
    /// The file, as the compiler names it.
    pub file: &'a str,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// The statement.
    pub text: &'a str,
}

impl SourceRef<'_> {
    /// The same with strings of its own.
    pub fn to_source(self) -> Source {
        let Self { file, line, column, text } = self;
        Source { file: file.to_owned().into(), line, column, text: text.to_owned().into() }
    }
}

impl<'a> From<&'a Source> for SourceRef<'a> {
    fn from(Source { file, line, column, text }: &'a Source) -> Self {
        Self { file, line: *line, column: *column, text }
    }
}

/// Where each slot of a program was written. A clone shares what is there, so a program of a million instructions, which goes
/// through several hands, has its text in memory once.
#[derive(Clone, Default)]
pub struct Sources(Arc<Table>);

#[derive(Clone, Default)]
struct Table {
    files: Vec<String>,
    /// All statements, one after the other.
    texts: String,
    slots: Vec<Option<Spot>>,
}

/// A source in a table: no larger than it must be, as there is one for each slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    /// The number of its file, from 1.
    file: NonZeroU32,
    line: u32,
    column: u32,
    /// The bytes of its statement.
    start: u32,
    end: u32,
}

impl Sources {
    /// How many slots there are.
    pub fn len(&self) -> usize {
        self.0.slots.len()
    }

    /// Whether there is no slot.
    pub fn is_empty(&self) -> bool {
        self.0.slots.is_empty()
    }

    /// Where a slot was written, if that is known.
    pub fn get(&self, slot: usize) -> Option<SourceRef<'_>> {
        self.0.slots.get(slot).copied().flatten().map(|spot| self.0.source(spot))
    }

    /// Where each slot was written, in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<SourceRef<'_>>> {
        self.0.slots.iter().map(|spot| spot.map(|spot| self.0.source(spot)))
    }

    /// Adds the slots of code that comes after this.
    pub fn append(&mut self, other: &Self) {
        // What was added for slots to come stays.
        if self.is_empty() && self.0.files.is_empty() {
            self.clone_from(other);
            return;
        }
        let table = Arc::make_mut(&mut self.0);
        table.slots.reserve(other.len());
        for spot in other.iter() {
            let spot = spot.map(|source| table.add(source));
            table.slots.push(spot);
        }
    }

    /// Keeps a source for the slots that follow.
    pub(crate) fn add(&mut self, source: SourceRef<'_>) -> Spot {
        Arc::make_mut(&mut self.0).add(source)
    }

    /// Adds a slot, whose source was added before.
    pub(crate) fn push(&mut self, spot: Option<Spot>) {
        Arc::make_mut(&mut self.0).slots.push(spot);
    }

    /// Gives back the room for more.
    pub(crate) fn shrink(&mut self) {
        if let Some(table) = Arc::get_mut(&mut self.0) {
            table.files.shrink_to_fit();
            table.texts.shrink_to_fit();
            table.slots.shrink_to_fit();
        }
    }

    /// A source that was added.
    pub(crate) fn source(&self, spot: Spot) -> SourceRef<'_> {
        self.0.source(spot)
    }
}

impl Table {
    fn source(&self, Spot { file, line, column, start, end }: Spot) -> SourceRef<'_> {
        let file = usize::try_from(file.get() - 1).ok().and_then(|file| self.files.get(file));
        let text = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let text = text.and_then(|(start, end)| self.texts.get(start..end));
        SourceRef { file: file.map_or("", String::as_str), line, column, text: text.unwrap_or_default() }
    }

    fn add(&mut self, SourceRef { file, line, column, text }: SourceRef<'_>) -> Spot {
        // Most often it is the last one.
        let known = self.files.iter().rposition(|known| known == file).unwrap_or_else(|| {
            self.files.push(file.to_owned());
            self.files.len() - 1
        });
        let file = u32::try_from(known + 1).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
        // Of a program with more than 4 GiB of text the rest has places only.
        let bounds = (u32::try_from(self.texts.len()), u32::try_from(self.texts.len() + text.len()));
        let (start, end) = match bounds {
            (Ok(start), Ok(end)) => (start, end),
            _ => (0, 0),
        };
        if end != 0 {
            self.texts.push_str(text);
        }
        Spot { file, line, column, start, end }
    }
}

/// Equal where they say the same, however they came to be.
impl PartialEq for Sources {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.iter().eq(other.iter())
    }
}

impl Eq for Sources {}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(sources: &mut Sources, file: &str, line: u32, text: &str) {
        let spot = sources.add(SourceRef { file, line, column: 5, text });
        sources.push(Some(spot));
    }

    #[test]
    fn what_was_put_in_comes_out() {
        let mut sources = Sources::default();
        slot(&mut sources, "a.rs", 1, "r0 = 0");
        slot(&mut sources, "b.rs", 7, "");
        sources.push(None);
        slot(&mut sources, "a.rs", 2, "exit");
        let found: Vec<_> = sources.iter().map(|source| source.map(|s| s.to_source().to_string())).collect();
        assert_eq!(
            found,
            [Some("a.rs:1:5: `r0 = 0`"), Some("b.rs:7:5: ``"), None, Some("a.rs:2:5: `exit`")]
                .map(|text| text.map(str::to_owned))
        );
        assert_eq!((sources.len(), sources.get(4)), (4, None));
    }

    #[test]
    fn equal_ones_are_equal_however_they_were_made() {
        let (mut first, mut second, mut whole) = (Sources::default(), Sources::default(), Sources::default());
        slot(&mut first, "a.rs", 1, "r0 = 0");
        slot(&mut second, "b.rs", 2, "exit");
        // A source without a slot, as of a label.
        whole.add(SourceRef { file: "c.rs", line: 1, column: 1, text: "out:" });
        slot(&mut whole, "a.rs", 1, "r0 = 0");
        slot(&mut whole, "b.rs", 2, "exit");
        let before = first.clone();
        first.append(&second);
        assert_eq!(first, whole);
        assert_ne!(first, before);
        assert_eq!(format!("{before:?}"), "[Some(SourceRef { file: \"a.rs\", line: 1, column: 5, text: \"r0 = 0\" })]");
    }

    #[test]
    fn a_slot_takes_twenty_bytes() {
        assert_eq!(size_of::<Option<Spot>>(), 20);
    }
}
