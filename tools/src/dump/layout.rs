//! Where the blocks of a function are drawn: in layers, so that all ways but those of loops lead down, and each way that passes a
//! layer has a place of its own in it. All lengths are in pixels.

/// Between neighbours of a layer.
const GAP: i32 = 24;
/// Between layers, where the lines bend.
pub const BEND: i32 = 44;
/// Between lines that go around all blocks.
const LANE: i32 = 12;
/// How often the places are improved; more changes little.
const ROUNDS: usize = 8;
/// The most places that lines may take in layers which they pass: what needs more cannot be looked at either.
const MOST: usize = 20_000;

/// A drawing: each box's upper left corner, each line's points, in the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Upper left corners.
    pub boxes: Vec<(i32, i32)>,
    /// The points of lines: the first is at the lower side of a box, the last at the upper side of one; between two that follow each
    /// other it bends if they are in the gap between layers.
    pub lines: Vec<Vec<(i32, i32)>>,
    /// How wide and how high all of it is.
    pub size: (i32, i32),
}

/// A line from a box to another.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// The box that it leaves.
    pub from: usize,
    /// The box that it enters.
    pub to: usize,
    /// Whether it goes around, as what leads back must. All others, taken together, form no circle.
    pub around: bool,
}

/// A box, or where a line passes a layer.
#[derive(Clone, Copy, Debug, Default)]
struct Item {
    layer: usize,
    x: i32,
    width: i32,
}

/// Finds places for boxes of these widths and heights; none if the lines would need too many.
pub fn layout(boxes: &[(i32, i32)], lines: &[Line]) -> Option<Layout> {
    let layers_of = layers(boxes.len(), lines);
    let mut items: Vec<Item> =
        boxes.iter().zip(&layers_of).map(|(&(width, _), &layer)| Item { layer, x: 0, width }).collect();
    // A line is the chain of items that it connects.
    let mut chains = Vec::with_capacity(lines.len());
    for line in lines {
        let mut chain = vec![line.from];
        if !line.around {
            for layer in layers_of[line.from] + 1..layers_of[line.to] {
                chain.push(items.len());
                items.push(Item { layer, x: 0, width: LANE });
            }
            if items.len() > boxes.len() + MOST {
                return None;
            }
        }
        chain.push(line.to);
        chains.push(chain);
    }
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); layers_of.iter().max().map_or(0, |last| last + 1)];
    for (number, item) in items.iter().enumerate() {
        rows[item.layer].push(number);
    }
    let (mut up, mut down) = (vec![Vec::new(); items.len()], vec![Vec::new(); items.len()]);
    for chain in chains.iter().zip(lines).filter(|(_, line)| !line.around).map(|(chain, _)| chain) {
        for pair in chain.windows(2) {
            down[pair[0]].push(pair[1]);
            up[pair[1]].push(pair[0]);
        }
    }
    arrange(&mut items, &mut rows, &up, &down);
    Some(draw(boxes, lines, &items, &rows, &chains))
}

/// The layer of each box: below all that lead to it.
fn layers(count: usize, lines: &[Line]) -> Vec<usize> {
    let mut waiting = vec![0; count];
    for line in lines.iter().filter(|line| !line.around) {
        waiting[line.to] += 1;
    }
    let mut layers = vec![0; count];
    let mut ready: Vec<usize> = (0..count).filter(|&number| waiting[number] == 0).collect();
    while let Some(number) = ready.pop() {
        for line in lines.iter().filter(|line| line.from == number && !line.around) {
            layers[line.to] = layers[line.to].max(layers[number] + 1);
            waiting[line.to] -= 1;
            if waiting[line.to] == 0 {
                ready.push(line.to);
            }
        }
    }
    layers
}

/// Orders each layer by where the neighbours are, then moves its items as near to them as they can be.
fn arrange(items: &mut [Item], rows: &mut [Vec<usize>], up: &[Vec<usize>], down: &[Vec<usize>]) {
    for row in rows.iter() {
        pack(items, row);
    }
    for round in 0..2 * ROUNDS {
        let neighbours = if round % 2 == 0 { up } else { down };
        let mut order: Vec<usize> = (0..rows.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for layer in order {
            let row = &mut rows[layer];
            if round < ROUNDS {
                let mut order: Vec<(i32, usize)> = row
                    .iter()
                    .enumerate()
                    .map(|(place, &number)| (wanted(items, number, &neighbours[number]), place))
                    .collect();
                order.sort_unstable();
                *row = order.into_iter().map(|(_, place)| row[place]).collect();
                pack(items, row);
            }
            settle(items, row, neighbours);
        }
    }
}

/// The middle of an item's neighbours, or its own.
fn wanted(items: &[Item], number: usize, neighbours: &[usize]) -> i32 {
    let middle = |number: usize| items[number].x + items[number].width / 2;
    let count = i32::try_from(neighbours.len()).unwrap_or(i32::MAX);
    let sum: i32 = neighbours.iter().map(|&number| middle(number)).sum();
    if count == 0 { middle(number) } else { sum / count }
}

/// Side by side from the left.
fn pack(items: &mut [Item], row: &[usize]) {
    let mut x = 0;
    for &number in row {
        items[number].x = x;
        x += items[number].width + GAP;
    }
}

/// Between as far left and as far right as the wishes of all allow, which keeps order and gaps.
fn settle(items: &mut [Item], row: &[usize], neighbours: &[Vec<usize>]) {
    let wishes: Vec<i32> =
        row.iter().map(|&number| wanted(items, number, &neighbours[number]) - items[number].width / 2).collect();
    let mut lefts = Vec::with_capacity(row.len());
    let mut least = i32::MIN;
    for (&number, &wish) in row.iter().zip(&wishes) {
        let x = wish.max(least);
        least = x + items[number].width + GAP;
        lefts.push(x);
    }
    let mut most = i32::MAX;
    for (at, &number) in row.iter().enumerate().rev() {
        let x = wishes[at].min(most.saturating_sub(items[number].width));
        most = x - GAP;
        items[number].x = lefts[at] + (x - lefts[at]) / 2;
    }
}

/// Turns places within layers into points.
fn draw(boxes: &[(i32, i32)], lines: &[Line], items: &[Item], rows: &[Vec<usize>], chains: &[Vec<usize>]) -> Layout {
    let left = items.iter().map(|item| item.x).min().unwrap_or(0);
    let right = items.iter().map(|item| item.x + item.width).max().unwrap_or(0) - left;
    let (mut tops, mut y) = (Vec::with_capacity(rows.len()), BEND / 2);
    for row in rows {
        let height = row.iter().filter_map(|&number| boxes.get(number)).map(|size| size.1).max().unwrap_or(0);
        tops.push((y, y + height));
        y += height + BEND;
    }
    let place = |number: usize| (items[number].x - left, tops[items[number].layer].0);
    // Where lines leave and enter a box, from left to right by where they come from and go to.
    let port = |number: usize, this: usize, leaves: bool| {
        let mut all: Vec<(i32, usize)> = Vec::new();
        for (at, (line, chain)) in lines.iter().zip(chains).enumerate() {
            let (end, next) = if leaves { (line.from, chain[1]) } else { (line.to, chain[chain.len() - 2]) };
            if end == number {
                let towards = if line.around { i32::MAX } else { place(next).0 + items[next].width / 2 };
                all.push((towards, at));
            }
        }
        all.sort_unstable();
        let index = |at: usize| i32::try_from(at + 1).unwrap_or(i32::MAX);
        let rank = all.iter().position(|&(_, at)| at == this).unwrap_or(0);
        place(number).0 + items[number].width * index(rank) / (index(all.len()))
    };
    let mut lane = right;
    let mut points = Vec::with_capacity(lines.len());
    for (at, (line, chain)) in lines.iter().zip(chains).enumerate() {
        let (start, end) = (port(line.from, at, true), port(line.to, at, false));
        let (from, to) = (tops[items[line.from].layer], tops[items[line.to].layer]);
        let bottom = from.0 + boxes[line.from].1;
        let mut line_points = vec![(start, bottom)];
        if line.around {
            lane += LANE;
            line_points.extend([(start, from.1 + 10), (lane, from.1 + 10), (lane, to.0 - 14), (end, to.0 - 14)]);
        } else {
            if bottom != from.1 {
                line_points.push((start, from.1));
            }
            for &pass in &chain[1..chain.len() - 1] {
                let (x, top) = place(pass);
                line_points.extend([(x, top), (x, tops[items[pass].layer].1)]);
            }
        }
        line_points.push((end, to.0));
        points.push(line_points);
    }
    Layout { boxes: (0..boxes.len()).map(place).collect(), lines: points, size: (lane + LANE, y - BEND / 2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(from: usize, to: usize) -> Line {
        Line { from, to, around: false }
    }

    /// No two boxes overlap, no line that leads down passes through a box, and nothing is outside.
    fn check(boxes: &[(i32, i32)], lines: &[Line]) -> Layout {
        let layout = layout(boxes, lines).expect("few lines");
        let rects: Vec<[i32; 4]> =
            boxes.iter().zip(&layout.boxes).map(|(&(w, h), &(x, y))| [x, y, x + w, y + h]).collect();
        for (at, one) in rects.iter().enumerate() {
            assert!(one[0] >= 0 && one[1] >= 0 && one[2] <= layout.size.0 && one[3] <= layout.size.1, "{layout:?}");
            for two in &rects[..at] {
                let apart = one[2] < two[0] || two[2] < one[0] || one[3] < two[1] || two[3] < one[1];
                assert!(apart, "{one:?} {two:?}");
            }
        }
        for (line, points) in lines.iter().zip(&layout.lines) {
            let (first, last) = (points[0], points[points.len() - 1]);
            assert_eq!((first.1, last.1), (rects[line.from][3], rects[line.to][1]));
            for pair in points.windows(2).filter(|_| !line.around) {
                assert!(pair[0].1 <= pair[1].1, "{points:?}");
                // Where a line does not bend it goes straight down past its layer.
                let passes = |rect: &&[i32; 4]| {
                    rect[0] < pair[0].0 && pair[0].0 < rect[2] && rect[1] < pair[1].1 && pair[0].1 < rect[3]
                };
                if pair[0].0 == pair[1].0 {
                    assert_eq!(rects.iter().filter(passes).count(), 0, "{points:?} {rects:?}");
                }
            }
        }
        layout
    }

    #[test]
    fn a_diamond_is_symmetric_and_a_long_way_goes_past_what_is_between() {
        let boxes = [(100, 20), (100, 40), (100, 20), (100, 20)];
        let layout = check(&boxes, &[down(0, 1), down(0, 2), down(1, 3), down(2, 3)]);
        assert_eq!(layout.boxes[0].0, layout.boxes[3].0);
        assert_eq!(layout.boxes[1].1, layout.boxes[2].1);
        let layout = check(&boxes, &[down(0, 1), down(1, 2), down(2, 3), down(0, 3)]);
        assert_eq!(layout.lines[3].len(), 6);
    }

    #[test]
    fn loops_go_around_the_right_side() {
        let lines = [down(0, 1), Line { from: 1, to: 0, around: true }, Line { from: 1, to: 1, around: true }];
        let layout = check(&[(50, 20), (80, 20)], &lines);
        assert!(layout.lines[1].iter().any(|&(x, _)| x > 80));
        assert_ne!(layout.lines[1][2], layout.lines[2][2]);
    }

    #[test]
    fn nothing_and_what_is_apart_have_places_too() {
        assert_eq!(layout(&[], &[]).map(|layout| layout.boxes.len()), Some(0));
        check(&[(10, 10), (20, 10), (30, 10)], &[]);
    }

    /// Any way down that a program may have.
    #[test]
    fn any_graph_has_a_drawing_without_overlap() {
        let mut state: u32 = 1;
        let mut next = |most: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            usize::try_from(state >> 16).unwrap_or(0) % most
        };
        for _ in 0..60 {
            let count = 2 + next(25);
            let boxes: Vec<(i32, i32)> =
                (0..count).map(|number| (40 + 10 * i32::try_from(number).unwrap_or(0), 20)).collect();
            let lines: Vec<Line> = (0..2 * count)
                .map(|_| (next(count), next(count)))
                .map(|(one, two)| Line { from: one, to: two, around: two <= one })
                .collect();
            check(&boxes, &lines);
        }
        let many: Vec<Line> = (1..300).map(|to| down(to - 1, to)).chain((0..200).map(|_| down(0, 299))).collect();
        assert_eq!(layout(&vec![(10, 10); 300], &many), None);
    }
}
