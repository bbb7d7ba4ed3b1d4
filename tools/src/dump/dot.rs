//! The control flow of a program for graphviz: `bpfkit dump TOOL --format dot | dot -Tsvg -O`.

use std::fmt::Write;

use super::cfg::{Graph, Way};
use super::listing::{Listing, Row};
use crate::Error;
use crate::escape::Escaped;
use crate::output::Output;

/// Prints a program as a graph: a node for each basic block, a cluster for each function.
///
/// # Errors
/// As [`Output::line`].
pub fn print(listing: &Listing, output: &mut Output) -> Result<(), Error> {
    let graph = Graph::of(listing);
    let Listing { name, attach, .. } = listing;
    output.line(&format!("digraph {} {{", quoted(name)))?;
    output.line(&format!("  graph [label={} labelloc=t fontname=monospace];", quoted(&format!("{name}: {attach}"))))?;
    output.line("  node [shape=box fontname=monospace fontsize=10];\n  edge [fontname=monospace fontsize=9];")?;
    let mut blocks = graph.blocks.iter().enumerate().peekable();
    while let Some((_, first)) = blocks.peek() {
        let number = first.function;
        output.line(&format!("  subgraph cluster_{number} {{"))?;
        let function = listing.functions.get(number).map_or(name, |function| &function.name);
        output.line(&format!("    label={};", quoted(function)))?;
        while let Some((at, block)) = blocks.next_if(|(_, block)| block.function == number) {
            output.line(&format!(
                "    b{at} [label=\"{}\"];",
                listing.rows[block.rows.clone()].iter().map(lines).collect::<String>()
            ))?;
        }
        output.line("  }")?;
    }
    for (at, edge) in graph.edges.iter().enumerate() {
        let mut style = match edge.way {
            _ if edge.back => " style=dashed constraint=false",
            Way::Call => " style=dotted",
            _ if edge.heat == 100 => " penwidth=2.5",
            _ => "",
        }
        .to_owned();
        let to = edge.to.map_or_else(|| format!("outside{at}"), |to| format!("b{to}"));
        if edge.to.is_none() {
            output.line(&format!("  {to} [label=\"no instruction\" shape=plaintext fontcolor=red];"))?;
            style.push_str(" color=red");
        }
        output.line(&format!("  b{} -> {to} [label=\"{}\"{style}];", edge.from, edge.label()))?;
    }
    output.line("}")
}

/// An instruction behind its labels, each line set to the left.
fn lines(row: &Row) -> String {
    let mut text = String::new();
    for label in &row.labels {
        let _ = write!(text, "{}:\\l", inner(label));
    }
    let _ = write!(text, "{}: {}\\l", row.slot, inner(&row.text));
    text
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", inner(text))
}

/// The inside of a string: a quotation mark would end it, and a backslash begins what graphviz replaces.
fn inner(text: &str) -> String {
    Escaped(text.as_bytes()).to_string().replace('\\', "\\\\").replace('"', "\\\"")
}
