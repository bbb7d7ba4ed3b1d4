//! The control flow of a program, drawn.

use std::fmt::Write;

use super::super::cfg::{Block, Graph, Way};
use super::super::layout::{self, Layout, Line};
use super::super::listing::{Listing, Row};
use crate::escape::Html;

/// A line of text, and what a letter takes of it at least, in pixels.
const LINE: i32 = 14;
const LETTER: i32 = 7;
/// Around the text of a block.
const PAD: i32 = 6;
/// Between functions, and above the first, where its name stands.
const APART: i32 = 30;
/// The most blocks that are drawn; `--format dot` has all.
const MOST: usize = 2000;

/// Draws the program; none if it is too large to be looked at. `anchor` is what its slots are linked by.
pub fn draw(listing: &Listing, anchor: &str) -> Option<String> {
    let graph = Graph::of(listing);
    if graph.blocks.len() > MOST {
        return None;
    }
    let drawing = Drawing::of(listing, &graph)?;
    let mut svg = String::new();
    drawing.write(&mut svg, anchor);
    Some(svg)
}

/// The functions, one below the other.
struct Drawing<'a> {
    listing: &'a Listing,
    graph: &'a Graph,
    /// Of each block, where it is and how large.
    boxes: Vec<[i32; 4]>,
    functions: Vec<Function>,
    width: i32,
    height: i32,
}

struct Function {
    /// The first of its blocks.
    first: usize,
    y: i32,
    layout: Layout,
    /// The edges that its lines are.
    edges: Vec<usize>,
}

impl<'a> Drawing<'a> {
    fn of(listing: &'a Listing, graph: &'a Graph) -> Option<Self> {
        let mut drawing = Self { listing, graph, boxes: Vec::new(), functions: Vec::new(), width: 0, height: 0 };
        for blocks in graph.blocks.chunk_by(|one, two| one.function == two.function) {
            let first = drawing.boxes.len();
            let sizes: Vec<(i32, i32)> = blocks.iter().map(|block| size(listing, block)).collect();
            let inside =
                |block: Option<usize>| block.and_then(|to| to.checked_sub(first)).filter(|&to| to < sizes.len());
            let (mut edges, mut lines) = (Vec::new(), Vec::new());
            for (number, edge) in graph.edges.iter().enumerate().filter(|(_, edge)| edge.way != Way::Call) {
                if let (Some(from), Some(to)) = (inside(Some(edge.from)), inside(edge.to)) {
                    edges.push(number);
                    lines.push(Line { from, to, around: edge.back });
                }
            }
            let layout = layout::layout(&sizes, &lines)?;
            let y = drawing.height + APART;
            let boxes = layout.boxes.iter().zip(&sizes);
            drawing.boxes.extend(boxes.map(|(at, size)| [at.0 + PAD, at.1 + y, size.0, size.1]));
            drawing.width = drawing.width.max(layout.size.0 + 2 * PAD);
            drawing.height = y + layout.size.1;
            drawing.functions.push(Function { first, y, layout, edges });
        }
        let calls = graph.edges.iter().filter(|edge| edge.way == Way::Call).count();
        drawing.width += PAD * i32::try_from(calls).unwrap_or(0);
        Some(drawing)
    }

    fn write(&self, svg: &mut String, anchor: &str) {
        let (width, height) = (self.width + PAD, self.height + PAD);
        let name = Html(&self.listing.name);
        let _ = write!(
            svg,
            "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"group\" \
             aria-label=\"Control flow of {name}\">"
        );
        for function in &self.functions {
            self.function(function, svg);
        }
        self.calls(svg);
        for (number, (block, place)) in self.graph.blocks.iter().zip(&self.boxes).enumerate() {
            self.block(number, block, *place, anchor, svg);
        }
        svg.push_str("</svg>");
    }

    fn function(&self, function: &Function, svg: &mut String) {
        let Function { first, y, layout, edges } = function;
        let number = self.graph.blocks[*first].function;
        let name = self.listing.functions.get(number).map_or(&self.listing.name, |function| &function.name);
        let (width, height) = (layout.size.0 + PAD, layout.size.1 + APART - 2 * PAD);
        let _ = write!(
            svg,
            "<rect class=\"func\" x=\"1\" y=\"{}\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>\
             <text class=\"name\" x=\"{}\" y=\"{}\">{}</text>",
            y - APART + PAD,
            2 * PAD,
            y - PAD,
            Html(name)
        );
        for (&number, points) in edges.iter().zip(&layout.lines) {
            let points: Vec<(i32, i32)> = points.iter().map(|&(x, at)| (x + PAD, at + y)).collect();
            self.edge(number, &points, svg);
        }
    }

    fn edge(&self, number: usize, points: &[(i32, i32)], svg: &mut String) {
        let edge = &self.graph.edges[number];
        let class = match edge.way {
            _ if edge.back => "back",
            Way::Taken => "taken",
            _ => "next",
        };
        let [start, .., end] = points else { return };
        let mut path = format!("M{} {}", start.0, start.1);
        for pair in points.windows(2) {
            let ((x1, y1), (x2, y2)) = (pair[0], pair[1]);
            let middle = (y1 + y2) / 2;
            let _ = match edge.back || x1 == x2 {
                true => write!(path, "L{x2} {y2}"),
                false => write!(path, "C{x1} {middle} {x2} {middle} {x2} {y2}"),
            };
        }
        let width = 10 + edge.heat * edge.heat * (if edge.heat == 100 { 25 } else { 10 }) / 10_000;
        let to = edge.to.and_then(|to| self.first(to)).map_or(0, |row| row.slot);
        let from = self.listing.rows[self.graph.blocks[edge.from].rows.end - 1].slot;
        let _ = write!(
            svg,
            "<g class=\"{class}\"><path d=\"{path}\" stroke-width=\"{}.{}\"><title>{}: {from} to {to}, {}</title></path><path class=\"head\" d=\"M{} {}l-4-8h8z\"/>",
            width / 10,
            width % 10,
            edge.label(),
            edge.visits.map_or_else(|| format!("{} instructions", edge.length), |visits| format!("{visits} visits")),
            end.0,
            end.1
        );
        // The left of two ways is named at its left, so that the names are apart.
        let place = self.boxes[edge.from];
        let (x, anchor) = if start.0 < place[0] + place[2] / 2 { (-4, "end") } else { (4, "start") };
        let _ = write!(
            svg,
            "<text text-anchor=\"{anchor}\" x=\"{}\" y=\"{}\">{}</text></g>",
            start.0 + x,
            start.1 + 11,
            edge.label()
        );
    }

    fn first(&self, block: usize) -> Option<&Row> {
        self.listing.rows.get(self.graph.blocks.get(block)?.rows.start)
    }

    fn block(&self, number: usize, block: &Block, [x, y, width, height]: [i32; 4], anchor: &str, svg: &mut String) {
        let rows = &self.listing.rows[block.rows.clone()];
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return };
        let _ = write!(
            svg,
            "<a class=\"block\" href=\"#{anchor}/{}\" aria-label=\"Block of slots {} to {}\">\
             <rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>",
            first.slot, first.slot, last.slot
        );
        let mut at = y;
        for row in rows {
            for label in &row.labels {
                at += LINE;
                let _ = write!(svg, "<text class=\"label\" x=\"{}\" y=\"{at}\">{}:</text>", x + PAD, Html(label));
            }
            at += LINE;
            let (slot, text) = (row.slot, Html(short(&row.text)));
            let _ = write!(svg, "<text data-s=\"{slot}\" x=\"{}\" y=\"{at}\">{slot}: {text}</text>", x + PAD);
        }
        svg.push_str("</a>");
        // What leaves the function, or the program, ends at once.
        let outside = |edge: &&super::super::cfg::Edge| {
            edge.from == number
                && edge.way != Way::Call
                && edge.to.is_none_or(|to| self.graph.blocks[to].function != block.function)
        };
        for (shift, edge) in (0..).zip(self.graph.edges.iter().filter(outside)) {
            let (x, y) = (x + 30 + 90 * shift, y + height);
            let to =
                edge.to.and_then(|to| self.first(to)).map_or("no instruction".to_owned(), |row| row.slot.to_string());
            let _ = write!(
                svg,
                "<g class=\"back\"><path d=\"M{x} {y}v10\" stroke-width=\"2\"/><text x=\"{}\" y=\"{}\">{}: {to}</text></g>",
                x + 4,
                y + 11,
                edge.label()
            );
        }
    }

    /// Calls go around at the right, each in a lane of its own.
    fn calls(&self, svg: &mut String) {
        let calls = self.graph.edges.iter().filter(|edge| edge.way == Way::Call);
        let count = self.graph.edges.iter().filter(|edge| edge.way == Way::Call).count();
        let mut lane = self.width - PAD * i32::try_from(count).unwrap_or(0);
        for edge in calls {
            let Some(to) = edge.to else { continue };
            lane += PAD;
            let ([x, y, width, height], callee) = (self.boxes[edge.from], self.graph.blocks[to].function);
            let Some(function) = self.functions.iter().find(|func| self.graph.blocks[func.first].function == callee)
            else {
                continue;
            };
            let (end, right) = (function.y - PAD - 4, function.layout.size.0 + PAD + 1);
            let _ = write!(
                svg,
                "<g class=\"call\"><path d=\"M{} {}H{lane}V{end}H{right}\" stroke-width=\"1\"><title>call</title></path>\
                 <path class=\"head\" d=\"M{right} {end}l8-4v8z\"/></g>",
                x + width,
                y + height / 2
            );
        }
    }
}

/// How much room the text of a block takes.
fn size(listing: &Listing, block: &Block) -> (i32, i32) {
    let rows = &listing.rows[block.rows.clone()];
    let letters = |row: &Row| format!("{}: {}", row.slot, short(&row.text)).chars().count();
    let wide = rows.iter().flat_map(|row| row.labels.iter().map(|label| label.len() + 1).chain([letters(row)])).max();
    let lines: usize = rows.iter().map(|row| 1 + row.labels.len()).sum();
    let pixels = |count: usize| i32::try_from(count).unwrap_or(i32::MAX / 100);
    (pixels(wide.unwrap_or(0)).min(500) * LETTER + 2 * PAD, pixels(lines) * LINE + PAD)
}

/// An instruction without the number of its opcode, which the listing has.
fn short(text: &str) -> &str {
    text.split_once(") ").map_or(text, |(_, text)| text)
}
