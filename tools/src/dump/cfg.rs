//! The control flow of a program: its basic blocks, and the ways between them. Rows may come from anywhere, so a jump may go
//! where no instruction is; such an edge has no end.

use std::ops::Range;

use bpfkit_asm::Opcode;

use super::listing::{Listing, Row};

/// The blocks of a program and the ways between them.
#[derive(Clone, Debug)]
pub struct Graph {
    /// In the order of their instructions.
    pub blocks: Vec<Block>,
    /// In the order of the blocks that they leave.
    pub edges: Vec<Edge>,
}

/// Instructions that run one after the other: entered at the first, left after the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Which of the listing's rows.
    pub rows: Range<usize>,
    /// Which of the listing's functions has it; 0 where the listing has none.
    pub function: usize,
}

/// A way from the end of a block, or from a call in it, to the start of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The block that is left.
    pub from: usize,
    /// The block that is entered; none where there is no instruction.
    pub to: Option<usize>,
    /// Why the processor goes there.
    pub way: Way,
    /// Whether it closes a loop.
    pub back: bool,
    /// How many instructions the longest way through it has, from an entry to an exit, with each loop gone through once.
    pub length: usize,
    /// How often the verifier went along it at most, where it was asked.
    pub visits: Option<usize>,
    /// Those visits in hundredths of the most, else the length in hundredths of the longest in its function.
    pub heat: usize,
}

/// Why the processor goes along an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Nothing jumped, or the condition was false.
    Fallthrough,
    /// A jump, or a condition that was true.
    Taken,
    /// A function of the program is called, or its address is taken for a helper that calls it.
    Call,
}

impl Edge {
    /// What it is, in words.
    pub const fn label(&self) -> &'static str {
        match self.way {
            _ if self.back => "back edge",
            Way::Fallthrough => "fallthrough",
            Way::Taken => "taken",
            Way::Call => "call",
        }
    }
}

impl Graph {
    /// The control flow of a program.
    pub fn of(listing: &Listing) -> Self {
        let rows = &listing.rows;
        let mut is_start = vec![false; rows.len() + 1];
        is_start[0] = true;
        for start in listing.functions.iter().filter_map(|func| index(rows, func.slot)) {
            is_start[start] = true;
        }
        for (at, row) in rows.iter().enumerate().filter(|(_, row)| ends_block(row)) {
            is_start[at + 1] = true;
            if let Some(to) = row.to.and_then(|to| index(rows, to)) {
                is_start[to] = true;
            }
        }
        let starts: Vec<usize> = (0..rows.len()).filter(|&row| is_start[row]).collect();
        let ends = starts.iter().skip(1).copied().chain([rows.len()]);
        let function = |row: usize| {
            let before = listing.functions.iter().take_while(|function| function.slot <= rows[row].slot);
            before.count().saturating_sub(1)
        };
        let blocks: Vec<Block> = starts
            .iter()
            .zip(ends)
            .map(|(&start, end)| Block { rows: start..end, function: function(start) })
            .collect();
        let mut graph = Self { edges: edges(rows, &blocks), blocks };
        let order = graph.mark_loops();
        graph.measure(&order);
        graph.count(rows);
        graph
    }

    /// The blocks that may follow, each with the number of the edge to it; calls come back, and so are none of these.
    fn followers(&self) -> Vec<Vec<(usize, usize)>> {
        let mut followers = vec![Vec::new(); self.blocks.len()];
        for (number, edge) in self.edges.iter().enumerate().filter(|(_, edge)| edge.way != Way::Call) {
            followers[edge.from].extend(edge.to.map(|to| (number, to)));
        }
        followers
    }

    /// Marks the edges that lead back to a block which the walk is still in, and gives the blocks in an order in which all
    /// other edges lead forwards. Without recursion: a program may have a million blocks.
    fn mark_loops(&mut self) -> Vec<usize> {
        let followers = self.followers();
        let (mut seen, mut open) = (vec![false; self.blocks.len()], vec![false; self.blocks.len()]);
        let mut order = Vec::with_capacity(self.blocks.len());
        for root in 0..self.blocks.len() {
            if seen[root] {
                continue;
            }
            (seen[root], open[root]) = (true, true);
            let mut walk = vec![(root, 0)];
            while let Some((block, next)) = walk.last_mut() {
                let Some(&(number, to)) = followers[*block].get(*next) else {
                    open[*block] = false;
                    order.push(*block);
                    walk.pop();
                    continue;
                };
                *next += 1;
                self.edges[number].back = open[to];
                if !seen[to] {
                    (seen[to], open[to]) = (true, true);
                    walk.push((to, 0));
                }
            }
        }
        order.reverse();
        order
    }

    /// Takes the verifier's visits where it was asked. It tells those of instructions: an edge has at most those of either end.
    fn count(&mut self, rows: &[Row]) {
        let visits = |row: usize| rows.get(row).and_then(|row| row.known.as_ref()).map(|known| known.visits);
        let most = (0..rows.len()).filter_map(visits).max().unwrap_or(0);
        if most == 0 {
            return;
        }
        for edge in &mut self.edges {
            let end = edge.to.and_then(|to| visits(self.blocks[to].rows.start)).unwrap_or(0);
            let here = visits(self.blocks[edge.from].rows.end - 1).unwrap_or(0).min(end);
            edge.visits = Some(here);
            edge.heat = here * 100 / most;
        }
    }

    /// Finds the longest way through each edge.
    fn measure(&mut self, order: &[usize]) {
        let followers = self.followers();
        let size = |block: usize| self.blocks[block].rows.len();
        let forwards =
            |block: usize| followers[block].iter().filter(|(number, _)| !self.edges[*number].back).map(|&(_, to)| to);
        // To the end of a block, from an entry; and from its start, to an exit.
        let mut before: Vec<usize> = (0..self.blocks.len()).map(size).collect();
        let mut after = before.clone();
        for &block in order {
            for to in forwards(block) {
                before[to] = before[to].max(before[block] + size(to));
            }
        }
        for &block in order.iter().rev() {
            after[block] = size(block) + forwards(block).map(|to| after[to]).max().unwrap_or(0);
        }
        for edge in &mut self.edges {
            edge.length = before[edge.from] + edge.to.map_or(0, |to| after[to]);
        }
        let mut longest = vec![1; self.blocks.last().map_or(0, |block| block.function + 1)];
        for edge in self.edges.iter().filter(|edge| edge.way != Way::Call) {
            let most: &mut usize = &mut longest[self.blocks[edge.from].function];
            *most = edge.length.max(*most);
        }
        for edge in &mut self.edges {
            edge.heat = (edge.length * 100 / longest[self.blocks[edge.from].function]).min(100);
        }
    }
}

/// The row that begins at a slot.
fn index(rows: &[Row], slot: usize) -> Option<usize> {
    rows.binary_search_by_key(&slot, |row| row.slot).ok()
}

fn is_call(row: &Row) -> bool {
    row.insn.refers_to_function()
}

fn ends_block(row: &Row) -> bool {
    row.insn.jump().is_some() || row.insn.code == Opcode::EXIT
}

fn edges(rows: &[Row], blocks: &[Block]) -> Vec<Edge> {
    let block_at = |row: usize| blocks.binary_search_by_key(&row, |block| block.rows.start).ok();
    let mut edges = Vec::new();
    for (from, block) in blocks.iter().enumerate() {
        let mut leave = |to, way| edges.push(Edge { from, to, way, back: false, length: 0, visits: None, heat: 0 });
        let target = |row: &Row| row.to.and_then(|to| index(rows, to)).and_then(block_at);
        for row in rows[block.rows.clone()].iter().filter(|row| is_call(row)) {
            leave(target(row), Way::Call);
        }
        let last = &rows[block.rows.end - 1];
        if !matches!(last.insn.code, Opcode::EXIT | Opcode::JA | Opcode::JA32) {
            leave(block_at(block.rows.end), Way::Fallthrough);
        }
        if last.insn.jump().is_some() {
            leave(target(last), Way::Taken);
        }
    }
    edges
}

#[cfg(test)]
mod tests {
    use bpfkit_asm::{Asm, Insn, Version};
    use bpfkit_loader::{Attach, ProgSpec, Target};

    use super::super::verifier::Known;
    use super::*;

    fn listing(text: &str) -> Listing {
        let attach = Attach::RawTracepoint { name: "sys_enter".into() };
        let spec =
            ProgSpec::new("program", attach, Asm::parse(text, "program").expect("a program")).expect("a program");
        Listing::of(&spec.link(&Target::offline(None, Version::new(6, 12))).expect("a program"), &[])
    }

    fn edges(graph: &Graph) -> Vec<(usize, Option<usize>, &'static str, usize)> {
        graph.edges.iter().map(|edge| (edge.from, edge.to, edge.label(), edge.length)).collect()
    }

    #[test]
    fn a_branch_has_two_ways_that_meet() {
        let graph = Graph::of(&listing("r0 = 0; if r1 == 0 goto out; r0 = 1; r0 += 1; out: exit;"));
        let rows: Vec<Range<usize>> = graph.blocks.iter().map(|block| block.rows.clone()).collect();
        assert_eq!(rows, [0..2, 2..4, 4..5]);
        let expected = [(0, Some(1), "fallthrough", 5), (0, Some(2), "taken", 3), (1, Some(2), "fallthrough", 5)];
        assert_eq!(edges(&graph), expected);
    }

    #[test]
    fn a_loop_has_a_back_edge_and_a_jump_over_nothing_two_equal_ways() {
        let graph =
            Graph::of(&listing("r0 = 0; again: r0 += 1; if r0 < 9 goto again; if r0 == 3 goto out; out: exit;"));
        let expected = [
            (0, Some(1), "fallthrough", 5),
            (1, Some(2), "fallthrough", 5),
            (1, Some(1), "back edge", 7),
            (2, Some(3), "fallthrough", 5),
            (2, Some(3), "taken", 5),
        ];
        assert_eq!(edges(&graph), expected);
    }

    #[test]
    fn jumps_out_of_the_program_and_into_a_constant_end_nowhere() {
        let mut program = listing("r1 = 0x123456789 ll; if r1 == 0 goto out; goto out; out: r0 = 0; exit;");
        program.rows[1].to = Some(1);
        program.rows[2].to = None;
        program.rows.truncate(4);
        let ends: Vec<_> = edges(&Graph::of(&program)).into_iter().map(|(from, to, ..)| (from, to)).collect();
        assert_eq!(ends, [(0, Some(1)), (0, None), (1, None), (2, None)]);
        program.rows.clear();
        assert!(Graph::of(&program).blocks.is_empty());
    }

    #[test]
    fn the_verifier_s_visits_are_what_makes_an_edge_hot() {
        let mut program = listing("r0 = 0; if r1 == 0 goto out; r0 = 1; out: exit;");
        for (row, visits) in program.rows.iter_mut().zip([1, 1, 0, 4]) {
            row.known = Some(Known { visits, ..Known::default() });
        }
        let graph = Graph::of(&program);
        let heat: Vec<_> = graph.edges.iter().map(|edge| (edge.visits, edge.heat)).collect();
        assert_eq!(heat, [(Some(0), 0), (Some(1), 25), (Some(0), 0)]);
    }

    /// What no compiler wrote: any bytes are a program for the graph, and each row is in one block.
    #[test]
    fn any_bytes_have_a_graph() {
        let model = listing("exit;");
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        for _ in 0..200 {
            let mut program = model.clone();
            let mut slot = 0;
            program.rows = (0..100)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    let [code, regs, near, _, imm, rest @ ..] = state.to_le_bytes();
                    let code = [code, 0x05, 0x15, 0x85, 0x18, 0xb7][usize::from(rest[0] % 6)];
                    let insn = Insn::from_le_bytes([code, regs, near, if near > 127 { 255 } else { 0 }, imm, 0, 0, 0]);
                    let mut row = model.rows[0].clone();
                    (row.slot, row.insn, row.to) = (slot, insn, insn.destination(slot));
                    row.second = insn.is_wide().then_some(insn);
                    slot += 1 + usize::from(insn.is_wide());
                    row
                })
                .collect();
            let graph = Graph::of(&program);
            let rows: Vec<usize> = graph.blocks.iter().flat_map(|block| block.rows.clone()).collect();
            assert!(rows.into_iter().eq(0..100));
            for edge in &graph.edges {
                assert!(edge.from < graph.blocks.len() && edge.to.is_none_or(|to| to < graph.blocks.len()));
            }
        }
    }
}
