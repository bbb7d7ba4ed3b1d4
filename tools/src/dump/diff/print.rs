//! The difference for people and for programs.

use bpfkit_loader::Feature;
use serde::Serialize;

use super::Made;
use super::change::{Difference, Kind, Line, decisive};
use crate::Error;
use crate::dump::listing::{Listing, MapUse, Row};
use crate::output::Output;

/// The columns of one side, without its slot.
const WIDTH: usize = 68;
/// What both take, with the mark between them.
const COLUMNS: usize = 160;
/// How many lines that are the same are shown on either side of one that is not.
const AROUND: usize = 3;

/// Prints the difference as two columns, which fit 160.
pub fn text(one: &Made<'_>, two: &Made<'_>, differences: &[Difference<'_>], output: &mut Output) -> Result<(), Error> {
    output.line(&format!("// < {}", one.name()))?;
    output.line(&format!("// > {}", two.name()))?;
    output.line(
        "// <, >: only that side has it; |: they differ; ~: a jump to the same place, over more or fewer slots",
    )?;
    for line in outside(one, two) {
        output.line(&format!("// {line}"))?;
    }
    if differences.iter().all(Difference::is_same) {
        return output.line("// the programs are the same, byte for byte");
    }
    for difference in differences {
        let Difference { name, why, .. } = difference;
        let why = why.as_ref().map_or(String::new(), |why| format!(", {why}"));
        match (difference.one, difference.two) {
            (Some(one), Some(two)) if difference.is_same() => {
                output.line(&format!("\n// {name}: the same, {} slots, {}", one.slots(), two.attach))?;
            }
            (Some(one), Some(two)) => {
                let attach = if one.attach == two.attach {
                    one.attach.clone()
                } else {
                    format!("{} -> {}", one.attach, two.attach)
                };
                output.line(&format!("\n// {name}: {attach}; {} -> {} slots", one.slots(), two.slots()))?;
                lines(&difference.lines, output)?;
            }
            (Some(only), None) => output.line(&alone('<', only, &why))?,
            (None, Some(only)) => output.line(&alone('>', only, &why))?,
            (None, None) => {}
        }
    }
    Ok(())
}

/// What differs besides instructions: what one kernel has and the other lacks, and maps.
pub(super) fn outside(one: &Made<'_>, two: &Made<'_>) -> Vec<String> {
    let say = |has: bool| if has { "yes" } else { "no" };
    let answers = decisive(one, two).into_iter().map(|(feature, first, second)| {
        let (slug, since, first, second) = (feature.slug(), feature.since(), say(first), say(second));
        format!("asked of the kernel: {slug} ({feature}, Linux {since}): < {first}, > {second}")
    });
    answers.chain(maps(one, two)).collect()
}

fn alone(mark: char, listing: &Listing, why: &str) -> String {
    format!("\n// {}: only {mark}: {}; {} slots{why}", listing.name, listing.attach, listing.slots())
}

/// Which lines are shown: those that differ with some around them, jumps over another distance by themselves, and what would be
/// left out alone.
fn shown(lines: &[Line<'_>]) -> Vec<bool> {
    let mut shown = vec![false; lines.len()];
    for (index, line) in lines.iter().enumerate() {
        let around = match line.kind {
            Kind::Same if line.why.is_none() => continue,
            Kind::Distance => 0,
            _ => AROUND,
        };
        shown[index.saturating_sub(around)..(index + around + 1).min(lines.len())].fill(true);
    }
    for index in 1..shown.len().saturating_sub(1) {
        shown[index] |= shown[index - 1] && shown[index + 1];
    }
    shown
}

/// The lines of a program.
fn lines(lines: &[Line<'_>], output: &mut Output) -> Result<(), Error> {
    let mut left_out = 0;
    for (line, is_shown) in lines.iter().zip(shown(lines)) {
        if !is_shown {
            left_out += 1;
            continue;
        }
        rest(&mut left_out, output)?;
        let mark = match line.kind {
            Kind::Same => ' ',
            Kind::Distance => '~',
            Kind::Changed => '|',
            Kind::Removed => '<',
            Kind::Added => '>',
        };
        let row = format!("{} {mark} {}", cell(line.one), cell(line.two));
        output.line(row.trim_end())?;
        if let Some(why) = &line.why {
            let source = line.one.or(line.two).and_then(|row| row.source.as_ref());
            let place = source.map_or(String::new(), |source| {
                let file = source.file_name();
                format!(" ({file}:{}", source.line)
            });
            let text = source.map_or(String::new(), |source| format!(" `{}`)", source.text));
            let reason = format!("       ; {why}{place}");
            let is_short = reason.chars().count() + text.chars().count() <= COLUMNS;
            let text = if is_short || text.is_empty() { text.as_str() } else { ")" };
            output.line(&format!("{reason}{text}"))?;
        }
    }
    rest(&mut left_out, output)
}

fn rest(left_out: &mut usize, output: &mut Output) -> Result<(), Error> {
    match std::mem::take(left_out) {
        0 => Ok(()),
        1 => output.line("       ... 1 instruction is the same"),
        more => output.line(&format!("       ... {more} instructions are the same")),
    }
}

/// A row in its column.
fn cell(row: Option<&Row>) -> String {
    let Some(row) = row else { return " ".repeat(WIDTH + 7) };
    let text: String = row.text.chars().take(WIDTH).collect();
    format!("{:>5}: {text:<WIDTH$}", row.slot)
}

/// What differs between the maps that the programs of both sides use.
fn maps(one: &Made<'_>, two: &Made<'_>) -> Vec<String> {
    let all = |made: &Made<'_>| {
        let mut maps: Vec<MapUse> = Vec::new();
        for map in made.listings.iter().flat_map(|listing| &listing.maps) {
            if !maps.iter().any(|known| known.name == map.name) {
                maps.push(map.clone());
            }
        }
        maps
    };
    let (one, two) = (all(one), all(two));
    let describe = |map: &MapUse| {
        format!("{}, key {} bytes, value {} bytes, at most {}", map.kind, map.key_size, map.value_size, map.max_entries)
    };
    let mut lines = Vec::new();
    for map in &one {
        match two.iter().find(|other| other.name == map.name) {
            Some(other) if describe(other) != describe(map) => {
                lines.push(format!("map {}: {} -> {}", map.name, describe(map), describe(other)));
            }
            Some(_) => {}
            None => lines.push(format!("map {}: only <: {}", map.name, describe(map))),
        }
    }
    for map in two.iter().filter(|map| !one.iter().any(|other| other.name == map.name)) {
        lines.push(format!("map {}: only >: {}", map.name, describe(map)));
    }
    lines
}

#[derive(Serialize)]
struct Json<'a> {
    left: &'a str,
    right: &'a str,
    same: bool,
    /// What one kernel has and the other lacks, of what was asked for.
    features: Vec<Answer>,
    maps: Vec<String>,
    programs: Vec<Program<'a>>,
}

#[derive(Serialize)]
struct Answer {
    feature: &'static str,
    since: String,
    left: bool,
    right: bool,
}

#[derive(Serialize)]
struct Program<'a> {
    name: &'a str,
    same: bool,
    left: Option<Half<'a>>,
    right: Option<Half<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    lines: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Half<'a> {
    attach: &'a str,
    slots: usize,
}

#[derive(Serialize)]
struct Entry<'a> {
    change: Kind,
    left: Option<Insn<'a>>,
    right: Option<Insn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

#[derive(Serialize)]
struct Insn<'a> {
    slot: usize,
    text: &'a str,
}

/// Prints the difference as one object.
pub fn json(one: &Made<'_>, two: &Made<'_>, differences: &[Difference<'_>], output: &mut Output) -> Result<(), Error> {
    let answer = |(feature, left, right): (Feature, bool, bool)| Answer {
        feature: feature.slug(),
        since: feature.since().to_string(),
        left,
        right,
    };
    output.json(&Json {
        left: &one.side.words,
        right: &two.side.words,
        same: differences.iter().all(Difference::is_same),
        features: decisive(one, two).into_iter().map(answer).collect(),
        maps: maps(one, two),
        programs: differences.iter().map(program).collect(),
    })
}

fn program<'a>(difference: &'a Difference<'a>) -> Program<'a> {
    let half = |listing: &'a Listing| Half { attach: &listing.attach, slots: listing.slots() };
    let insn = |row: &'a Row| Insn { slot: row.slot, text: &row.text };
    let entry = |line: &'a Line<'a>| {
        let source = line.one.or(line.two).and_then(|row| row.source.as_ref());
        Entry {
            change: line.kind,
            left: line.one.map(insn),
            right: line.two.map(insn),
            why: line.why.as_deref(),
            source: source.map(|source| format!("{}:{}:{}", source.file, source.line, source.column)),
        }
    };
    Program {
        name: difference.name,
        same: difference.is_same(),
        left: difference.one.map(half),
        right: difference.two.map(half),
        why: difference.why.as_deref(),
        lines: difference.lines.iter().map(entry).collect(),
    }
}
