//! What the programs of a page are about: members of structures, helpers and maps, each with a card of its own.

use std::fmt::Write;

use bpfkit_asm::Helper;
use bpfkit_loader::Filled;

use super::super::listing::{Listing, MapUse, Row};
use crate::Error;
use crate::escape::Html;
use crate::output::Output;

/// Something that has a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    kind: Kind,
    /// What it is called.
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Field,
    Context,
    Helper,
    Map,
}

impl Kind {
    const ALL: [(Self, &'static str, &'static str); 4] = [
        (Self::Field, "field", "Fields"),
        (Self::Context, "context", "The context"),
        (Self::Helper, "helper", "Helpers"),
        (Self::Map, "map", "Maps"),
    ];
}

impl Key {
    /// What it is linked by.
    pub fn id(&self) -> String {
        let (_, kind, _) = Kind::ALL[usize::from(self.kind as u8)];
        let name: String = self.name.chars().map(|c| if c.is_whitespace() { '-' } else { c }).collect();
        format!("{kind}/{name}")
    }
}

/// What an instruction is about.
pub fn keys(row: &Row) -> Vec<Key> {
    let filled = row.filled.as_ref().and_then(|filled| match filled {
        Filled::Offset(field) | Filled::Size(field) => Some(Key { kind: Kind::Field, name: field.path.clone() }),
        // The same word is elsewhere in the context of another kind of program.
        Filled::Context { word, offset } => Some(Key { kind: Kind::Context, name: format!("ctx.{word} at {offset}") }),
        _ => None,
    });
    let helper = row.helper.map(|helper| Key { kind: Kind::Helper, name: helper_name(helper) });
    let map = row.map.as_ref().map(|map| Key { kind: Kind::Map, name: map.clone() });
    [filled, helper, map].into_iter().flatten().collect()
}

fn helper_name(helper: Helper) -> String {
    helper.name().map_or_else(|| helper.to_string(), str::to_owned)
}

/// The cards in the order in which programs need them, each with the instructions that it is for.
#[derive(Debug, Default)]
pub struct Reference {
    cards: Vec<(Key, Card)>,
}

#[derive(Debug)]
struct Card {
    facts: Vec<(&'static str, String)>,
    /// Links to instructions.
    uses: Vec<String>,
}

impl Reference {
    /// Of all programs of a page.
    pub fn of(listings: &[Listing], anchors: &[String]) -> Self {
        let mut reference = Self::default();
        for (listing, anchor) in listings.iter().zip(anchors) {
            for row in &listing.rows {
                for key in keys(row) {
                    let at = format!("{anchor}/{}", row.slot);
                    match reference.cards.iter_mut().find(|(known, _)| *known == key) {
                        Some((_, card)) => card.uses.push(at),
                        None => {
                            let facts = facts(&key, row, listing);
                            reference.cards.push((key, Card { facts, uses: vec![at] }));
                        }
                    }
                }
            }
        }
        reference
    }

    /// Prints them by kind.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn print(&self, output: &mut Output) -> Result<(), Error> {
        for (kind, _, title) in Kind::ALL {
            let mut cards = self.cards.iter().filter(|(key, _)| key.kind == kind).peekable();
            if cards.peek().is_none() {
                continue;
            }
            output.line(&format!("<h3>{title}</h3>\n<div class=\"cards\">"))?;
            for (key, card) in cards {
                let mut text = format!("<article id=\"{}\"><h4>{}</h4>\n<dl>", Html(&key.id()), Html(&key.name));
                for (name, fact) in &card.facts {
                    let _ = write!(text, "<dt>{name}</dt><dd>{}</dd>", Html(fact));
                }
                text.push_str("<dt>Used at</dt><dd>");
                for at in &card.uses {
                    let _ = write!(text, "<a href=\"#{at}\">{at}</a> ");
                }
                text.push_str("</dd></dl></article>");
                output.line(&text)?;
            }
            output.line("</div>")?;
        }
        Ok(())
    }
}

/// What is to be said of it.
fn facts(key: &Key, row: &Row, listing: &Listing) -> Vec<(&'static str, String)> {
    match (key.kind, &row.filled) {
        (Kind::Field, Some(Filled::Offset(field) | Filled::Size(field))) => {
            let mut facts = vec![
                ("Type", field.type_name.clone()),
                ("Offset", format!("{} bytes", field.offset)),
                ("Size", format!("{} bytes", field.size)),
            ];
            facts.extend(field.bits.map(|bits| ("Bits", format!("{} to {}", bits.offset, bits.offset + bits.size))));
            facts
        }
        (Kind::Context, Some(Filled::Context { offset, .. })) => vec![("Offset", format!("{offset} bytes"))],
        (Kind::Helper, _) => row.helper.map_or_else(Vec::new, helper_facts),
        _ => listing.maps.iter().find(|map| map.name == key.name).map_or_else(Vec::new, map_facts),
    }
}

fn helper_facts(helper: Helper) -> Vec<(&'static str, String)> {
    let mut facts = vec![("Number", helper.0.to_string())];
    facts.extend(helper.since().map(|since| ("Since", format!("Linux {since}"))));
    if let Some(doc) = helper.doc() {
        facts.extend(
            [("Prototype", doc.prototype), ("Does", doc.does), ("Gives", doc.gives)]
                .map(|(name, text)| (name, text.to_owned())),
        );
    }
    facts
}

fn map_facts(map: &MapUse) -> Vec<(&'static str, String)> {
    let most = if map.max_entries == 0 { "one for each CPU".to_owned() } else { map.max_entries.to_string() };
    vec![
        ("Type", map.kind.clone()),
        ("Key", format!("{} bytes", map.key_size)),
        ("Value", format!("{} bytes", map.value_size)),
        ("Elements", most),
    ]
}
