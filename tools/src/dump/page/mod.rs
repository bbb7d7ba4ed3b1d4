//! The page: one file with all that is known of programs, for a browser. It loads nothing, runs from disk, and its listing can be
//! read without the script, which adds search, cards and the links between listing and graph.

mod reference;
mod svg;

use self::reference::Reference;
use super::listing::{Listing, Row, hex};
use super::loaded::Loaded;
use super::machine::Machine;
use super::verifier::Stop;
use super::{json, states};
use crate::Error;
use crate::escape::Html;
use crate::output::Output;

const TEMPLATE: &str = include_str!("page.html");
/// What may run and how it may look: this script and this style, by their digests, and nothing from elsewhere.
const POLICY: &str = include_str!("policy");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The most instructions that a page may have: a browser holds about ten elements for each.
const MOST: usize = 30_000;

/// A column of the listing: its class, its title, and what it has for a row.
struct Column {
    class: &'static str,
    title: &'static str,
    cell: fn(&Row) -> String,
}

/// In the order in which they are shown. Those that no row has anything for are left out.
const COLUMNS: [Column; 7] = [
    Column { class: "src", title: "Source", cell: source },
    Column { class: "ins", title: "Instruction", cell: |row| format!("<code>{}</code>", Html(&row.text)) },
    Column {
        class: "why",
        title: "Explanation",
        cell: |row| Html(row.explanation.as_deref().unwrap_or_default()).to_string(),
    },
    Column { class: "ref", title: "Refers to", cell: refers },
    Column { class: "ver", title: "Verifier", cell: |row| lines(row.known.iter().flat_map(states::lines)) },
    Column { class: "asm", title: "Machine code", cell: machine },
    Column { class: "hex", title: "Bytes", cell: bytes },
];

/// Prints a page with these programs.
///
/// # Errors
/// More instructions than a browser can show; as [`Output::line`].
pub fn print(title: &str, listings: &[Listing], output: &mut Output) -> Result<(), Error> {
    let count: usize = listings.iter().map(|listing| listing.rows.len()).sum();
    if count > MOST {
        let advice = "--program NAME takes fewer, and the other forms have no limit";
        return Err(Error::Request(format!(
            "{count} instructions are too many for a page, which has {MOST}: {advice}"
        )));
    }
    let anchors = anchors(listings.iter().map(|listing| listing.name.as_str()));
    let names: Vec<(&str, &str)> =
        anchors.iter().map(String::as_str).zip(listings.iter().map(|listing| listing.name.as_str())).collect();
    fill(title, &names, output, |name, output| match name {
        "listings" => listings.iter().zip(&anchors).try_for_each(|(listing, anchor)| section(listing, anchor, output)),
        "reference" => Reference::of(listings, &anchors).print(output),
        _ => data(listings, output),
    })
}

/// Prints the template, with a link for each of the `names`, which are behind what they are linked by; `part` prints what is
/// called `listings`, `reference` and `data` in it.
///
/// # Errors
/// As `part` and [`Output::line`].
pub fn fill(
    title: &str,
    names: &[(&str, &str)],
    output: &mut Output,
    mut part: impl FnMut(&str, &mut Output) -> Result<(), Error>,
) -> Result<(), Error> {
    // The template has the names of its parts in pairs of braces.
    for (at, text) in TEMPLATE.split("{{").enumerate() {
        let (name, text) = if at == 0 { ("", text) } else { text.split_once("}}").unwrap_or(("", text)) };
        match name {
            "" => {}
            "title" => output.bytes(Html(title).to_string().as_bytes())?,
            "policy" => output.bytes(POLICY.trim_end().as_bytes())?,
            "style" => output.bytes(STYLE.as_bytes())?,
            "script" => output.bytes(SCRIPT.as_bytes())?,
            "programs" => {
                for (anchor, name) in names {
                    output.line(&format!("<li><a href=\"#{anchor}\">{}</a></li>", Html(name)))?;
                }
            }
            name => part(name, output)?,
        }
        output.bytes(text.as_bytes())?;
    }
    Ok(())
}

/// What each program is linked by: its name as far as it may stand in an address, with a number where there are several of it.
pub fn anchors<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    // What the template has calls itself by these.
    let mut taken = ["data", "reference", "search", "found"].map(str::to_owned).to_vec();
    let anchor = |name: &str| {
        let safe = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        let name: String = name.chars().map(safe).collect();
        let name = if name.is_empty() { "program".to_owned() } else { name };
        let free = (1..).map(|number| if number == 1 { name.clone() } else { format!("{name}.{number}") });
        let free = free.into_iter().find(|name| !taken.contains(name)).unwrap_or(name);
        taken.push(free.clone());
        free
    };
    names.map(anchor).collect()
}

/// The programs as `--format json` has them.
fn data(listings: &[Listing], output: &mut Output) -> Result<(), Error> {
    output.bytes(b"[")?;
    for (at, listing) in listings.iter().enumerate() {
        if at > 0 {
            output.line(",")?;
        }
        json::print_in_html(listing, output)?;
    }
    output.bytes(b"]")
}

/// A program: what it is, its listing, its graph.
fn section(listing: &Listing, anchor: &str, output: &mut Output) -> Result<(), Error> {
    let Listing { name, kind, attach, license, .. } = listing;
    let slots = listing.slots();
    let [name, kind, attach, license] = [name, kind, attach, license].map(|text| Html(text));
    output.line(&format!(
        "<section class=\"program\" id=\"{anchor}\" aria-labelledby=\"{anchor}/name\">\n<h2 id=\"{anchor}/name\">{name}</h2>\n\
         <p>{attach}. Type {kind}, licence {license}, {slots} slots.</p>"
    ))?;
    let loaded = listing.loaded.iter().flat_map(Loaded::lines);
    for line in loaded.chain(listing.opinion.iter().flat_map(states::about)) {
        output.line(&format!("<p>{}</p>", Html(&line)))?;
    }
    let path = listing.opinion.iter().flat_map(|opinion| &opinion.path);
    let path: Vec<String> = path.map(|Stop { slot, .. }| format!("<a href=\"#{anchor}/{slot}\">{slot}</a>")).collect();
    if !path.is_empty() {
        output.line(&format!("<p>The way to what is refused: {}</p>", path.join(" ")))?;
    }
    output.line(&format!(
        "<div class=\"panes\">\n<div class=\"listing\" role=\"region\" tabindex=\"0\" aria-label=\"Listing of {name}\">"
    ))?;
    table(listing, anchor, output)?;
    output.line(
        "</div>\n<div class=\"side\"><div class=\"card\" aria-live=\"polite\"></div>\n<figure class=\"graph\">",
    )?;
    let visits = listing.rows.iter().any(|row| row.known.as_ref().is_some_and(|known| known.visits > 0));
    let hot = if visits { "where the verifier came most often" } else { "the longest way" };
    output.line(&format!("<figcaption>Control flow of {name}. The thickest line is {hot}.</figcaption>"))?;
    match svg::draw(listing, anchor) {
        Some(svg) => output.line(&svg)?,
        None => output.line("<p>There are too many blocks to draw; <code>--format dot</code> has them all.</p>")?,
    }
    output.line("</figure></div>\n</div>\n</section>")
}

fn table(listing: &Listing, anchor: &str, output: &mut Output) -> Result<(), Error> {
    let is_there = |column: &&Column| listing.rows.iter().any(|row| !(column.cell)(row).is_empty());
    let columns: Vec<&Column> = COLUMNS.iter().filter(is_there).collect();
    output.bytes(b"<table>\n<thead><tr><th scope=\"col\" class=\"slot\">Slot</th>")?;
    for Column { class, title, .. } in &columns {
        output.bytes(format!("<th scope=\"col\" class=\"{class}\">{title}</th>").as_bytes())?;
    }
    output.line("</tr></thead>")?;
    let span = columns.len() + 1;
    for (at, row) in listing.rows.iter().enumerate() {
        let slot = row.slot;
        if let Some(function) = listing.function_at(slot) {
            let end = if at == 0 { "" } else { "</tbody>" };
            let name = Html(&function.name);
            output.line(&format!(
                "{end}<tbody><tr class=\"func\"><th scope=\"rowgroup\" colspan=\"{span}\">{name}:</th></tr>"
            ))?;
        } else if at == 0 {
            output.bytes(b"<tbody>")?;
        }
        for label in &row.labels {
            output.line(&format!("<tr class=\"label\"><td colspan=\"{span}\">{}:</td></tr>", Html(label)))?;
        }
        output.bytes(
            format!("<tr id=\"{anchor}/{slot}\"><th scope=\"row\" class=\"slot\"><a href=\"#{anchor}/{slot}\">{slot}</a></th>")
                .as_bytes(),
        )?;
        for Column { class, cell, .. } in &columns {
            // Slots are linked within their program.
            let cell = cell(row).replace("href=\"#/", &format!("href=\"#{anchor}/"));
            output.bytes(format!("<td class=\"{class}\">{cell}</td>").as_bytes())?;
        }
        output.line("</tr>")?;
    }
    output.line(if listing.rows.is_empty() { "</table>" } else { "</tbody></table>" })
}

pub fn source(row: &Row) -> String {
    let Some(source) = &row.source else { return String::new() };
    let file = source.file_name();
    format!("<code>{}</code> <small>{}:{}</small>", Html(source.text.trim()), Html(file), source.line)
}

fn bytes(row: &Row) -> String {
    let slots: Vec<String> = row.bytes().chunks(8).map(hex).collect();
    format!("<code>{}</code>", slots.join(" "))
}

fn machine(row: &Row) -> String {
    lines(row.machine.iter().map(|Machine { offset, bytes, text }| format!("{offset:>4x}: {bytes:<22} {text}")))
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| Html(&line).to_string()).collect::<Vec<_>>().join("\n")
}

/// Links to what an instruction is about.
fn refers(row: &Row) -> String {
    let to = row.to.map(|to| format!("<a href=\"#/{to}\">slot {to}</a>"));
    let links =
        reference::keys(row).into_iter().map(|key| format!("<a href=\"#{}\">{}</a>", Html(&key.id()), Html(&key.name)));
    links.chain(to).collect::<Vec<_>>().join("<br>")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use bpfkit_asm::{Asm, Source, Version};
    use bpfkit_loader::{Attach, MapSpec, ProgSpec, Target};

    use super::*;

    fn listing() -> Listing {
        let attach = Attach::RawTracepoint { name: "sys_enter".into() };
        let code =
            Asm::parse("r1 = map[counts]; again: r0 = 0; if r1 == 0 goto again; call bpf_ktime_get_ns; exit;", "file");
        let spec = ProgSpec::new("program", attach, code.expect("a program")).expect("a program");
        let linked = spec.link(&Target::offline(None, Version::new(6, 12))).expect("a program");
        Listing::of(&linked, &[MapSpec::array("counts", 8, 1)])
    }

    fn printed(listings: &[Listing]) -> Result<String, Error> {
        let mut file = tempfile::tempfile().expect("a file");
        let mut output = Output::file(file.try_clone().expect("a handle"));
        print("A <title>", listings, &mut output)?;
        output.flush()?;
        let mut text = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut text)).expect("text");
        Ok(text)
    }

    /// Names of programs, maps and files on a system are whatever somebody called them.
    #[test]
    fn names_from_outside_are_no_markup() {
        let mut listing = listing();
        let evil = || "</script><script>alert('\"&')</script><!--".to_owned();
        for text in [&mut listing.name, &mut listing.kind, &mut listing.attach, &mut listing.license] {
            *text = evil();
        }
        listing.functions[0].name = evil();
        listing.maps[0].name = evil();
        for row in &mut listing.rows {
            row.text = evil();
            row.labels.push(evil());
            row.source = Some(Source { file: evil().into(), line: 1, column: 1, text: evil().into() });
        }
        listing.rows[0].map = Some(evil());
        let page = printed(&[listing.clone(), listing]).expect("a page");
        // The data and the script, and no other.
        assert_eq!((page.matches("<script").count(), page.matches("</script").count()), (2, 2));
        assert!(!page.contains("<!--") && !page.contains("A <title>"));
        assert_eq!(page.matches("id=\"--script--script-alert------").count(), 2 + 2 + 2 * 5);
    }

    #[test]
    fn a_page_has_a_limit_and_no_least_size() {
        let mut listing = listing();
        listing.rows = vec![listing.rows[0].clone(); MOST + 1];
        let error = printed(&[listing.clone()]).expect_err("too many").to_string();
        assert!(error.starts_with("30001 instructions are too many for a page"), "{error}");
        listing.rows.clear();
        assert!(printed(&[listing]).expect("a page").contains("</table>"));
        assert!(printed(&[]).expect("a page").contains("[]"));
    }

    /// What is too much to be drawn is not drawn, and takes no time.
    #[test]
    fn a_large_program_has_no_graph() {
        let mut listing = listing();
        let jump = listing.rows[2].clone();
        listing.rows = (0..MOST).map(|slot| Row { slot, to: Some(slot * 7919 % MOST), ..jump.clone() }).collect();
        assert!(printed(&[listing]).expect("a page").contains("There are too many blocks to draw"));
    }
}
