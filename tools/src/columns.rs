//! Rows of a table that is printed as it grows.

use std::fmt::Write;

/// One column: its title and the least width it has.
#[derive(Clone, Copy, Debug)]
struct Column {
    /// What the header says.
    title: &'static str,
    /// The least number of characters.
    width: usize,
}

/// Lays out rows. A cell that is too long widens its column from there on, so that what follows it stays in line: an IPv6
/// address does not push the ports of every later row about.
#[derive(Clone, Debug)]
pub struct Columns {
    columns: Vec<Column>,
    line: String,
}

impl Columns {
    /// A table of these columns: their titles and least widths.
    pub fn new(columns: impl IntoIterator<Item = (&'static str, usize)>) -> Self {
        let columns = columns.into_iter().map(|(title, width)| Column { title, width });
        Self { columns: columns.collect(), line: String::new() }
    }

    /// A table of those of these columns that are to be shown.
    pub fn shown(columns: impl IntoIterator<Item = (bool, &'static str, usize)>) -> Self {
        let shown = columns.into_iter().filter(|(is_shown, ..)| *is_shown);
        Self::new(shown.map(|(_, title, width)| (title, width)))
    }

    /// The header, without a line feed.
    pub fn header(&mut self) -> &str {
        let titles: Vec<_> = self.columns.iter().map(|column| column.title.to_owned()).collect();
        self.row(&titles)
    }

    /// A row of one cell a column, without a line feed. The last cell is not padded.
    pub fn row(&mut self, cells: &[String]) -> &str {
        self.line.clear();
        let last = cells.len().saturating_sub(1);
        for (n, (cell, column)) in cells.iter().zip(&mut self.columns).enumerate() {
            if n == last {
                self.line.push_str(cell);
            } else {
                column.width = column.width.max(cell.chars().count());
                let width = column.width;
                let _ = write!(self.line, "{cell:<width$} ");
            }
        }
        &self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(texts: [&str; 3]) -> [String; 3] {
        texts.map(str::to_owned)
    }

    #[test]
    fn a_long_cell_widens_its_column_for_the_rows_after_it() {
        let mut table = Columns::new([("PID", 5), ("ADDR", 6), ("PORT", 4)]);
        assert_eq!(table.header(), "PID   ADDR   PORT");
        assert_eq!(table.row(&cells(["1", "::1", "80"])), "1     ::1    80");
        assert_eq!(table.row(&cells(["2", "fe80::1:2:3", "81"])), "2     fe80::1:2:3 81");
        assert_eq!(table.row(&cells(["3", "::1", "82"])), "3     ::1         82");
    }
}
