//! The difference as a page: the programs of both sides, line beside line.

use super::Made;
use super::change::{Difference, Kind, Line};
use super::print::outside;
use crate::Error;
use crate::dump::listing::{Listing, Row};
use crate::dump::page;
use crate::escape::Html;
use crate::output::Output;

/// Prints the difference as a page.
///
/// # Errors
/// As [`Output::line`].
pub fn print(one: &Made<'_>, two: &Made<'_>, differences: &[Difference<'_>], output: &mut Output) -> Result<(), Error> {
    let title = format!("{} and {}", one.name(), two.name());
    let anchors = page::anchors(differences.iter().map(|difference| difference.name));
    let names: Vec<(&str, &str)> =
        anchors.iter().map(String::as_str).zip(differences.iter().map(|difference| difference.name)).collect();
    page::fill(&title, &names, output, |part, output| match part {
        "listings" => differences
            .iter()
            .zip(&anchors)
            .try_for_each(|(difference, anchor)| section(one, two, difference, anchor, output)),
        "reference" => outside(one, two).iter().try_for_each(|line| output.line(&format!("<p>{}</p>", Html(line)))),
        _ => output.bytes(b"[]"),
    })
}

fn section(
    one: &Made<'_>,
    two: &Made<'_>,
    difference: &Difference<'_>,
    anchor: &str,
    output: &mut Output,
) -> Result<(), Error> {
    let name = Html(difference.name);
    output.line(&format!(
        "<section class=\"program\" id=\"{anchor}\" aria-labelledby=\"{anchor}/name\">\n\
         <h2 id=\"{anchor}/name\">{name}</h2>"
    ))?;
    for (made, listing) in [(one, difference.one), (two, difference.two)] {
        let side = Html(made.name());
        let what = match (listing, &difference.why) {
            (Some(Listing { attach, .. }), _) => {
                format!("{}, {} slots", Html(attach), listing.map_or(0, Listing::slots))
            }
            (None, Some(why)) => format!("not there: {}", Html(why)),
            (None, None) => "not there".to_owned(),
        };
        output.line(&format!("<p><b>{side}</b>: {what}</p>"))?;
    }
    if difference.is_same() {
        output.line("<p>Both are the same, byte for byte.</p>")?;
    }
    output.line(&format!(
        "<div class=\"panes alone\"><div class=\"listing\" role=\"region\" tabindex=\"0\" aria-label=\"Both sides of {name}\">\n\
         <table><thead><tr><th scope=\"col\" class=\"slot\">Line</th><th scope=\"col\" class=\"left\">{}</th>\
         <th scope=\"col\" class=\"mark\">Change</th><th scope=\"col\" class=\"right\">{}</th>\
         <th scope=\"col\" class=\"why\">Why</th><th scope=\"col\" class=\"src\">Source</th></tr></thead>\n<tbody>",
        Html(one.name()),
        Html(two.name())
    ))?;
    // What only one side has is shown too.
    let only = |listing: &Option<&'_ Listing>| listing.map_or(0, |listing| listing.rows.len());
    let alone = if difference.lines.is_empty() { only(&difference.one).max(only(&difference.two)) } else { 0 };
    for number in 0..alone {
        let row = |listing: Option<&'_ Listing>| listing.and_then(|listing| listing.rows.get(number)).cloned();
        let (left, right) = (row(difference.one), row(difference.two));
        let kind = if left.is_some() { Kind::Removed } else { Kind::Added };
        let row = Line { kind, one: left.as_ref(), two: right.as_ref(), why: None };
        output.line(&line(number, &row, anchor))?;
    }
    for (number, row) in difference.lines.iter().enumerate() {
        output.line(&line(number, row, anchor))?;
    }
    output.line("</tbody></table></div></div>\n</section>")
}

fn line(number: usize, line: &Line<'_>, anchor: &str) -> String {
    let (class, mark) = match line.kind {
        Kind::Same => ("equal", ""),
        Kind::Distance => ("moved", "distance"),
        Kind::Changed => ("changed", "changed"),
        Kind::Removed => ("removed", "only left"),
        Kind::Added => ("added", "only right"),
    };
    let cell = |row: Option<&Row>| row.map_or(String::new(), |row| format!("{}: {}", row.slot, Html(&row.text)));
    let source = line.one.or(line.two).map_or(String::new(), page::source);
    format!(
        "<tr id=\"{anchor}/{number}\" class=\"{class}\"><th scope=\"row\" class=\"slot\"><a href=\"#{anchor}/{number}\">{number}</a></th>\
         <td class=\"left\"><code>{}</code></td><td class=\"mark\">{mark}</td><td class=\"right\"><code>{}</code></td>\
         <td class=\"why\">{}</td><td class=\"src\">{source}</td></tr>",
        cell(line.one),
        cell(line.two),
        Html(line.why.as_deref().unwrap_or_default())
    )
}
