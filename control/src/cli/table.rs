//! Columns of text, aligned; as wide as they must be and no wider.

use std::fmt;

/// To which side a column's cells go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table under construction.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Column {
    align: Align,
    width: usize,
}

#[derive(Debug)]
enum Line {
    Cells(Vec<String>),
    /// Spans all columns and does not widen any.
    Text(String),
}

impl Table {
    /// A table whose columns have these alignments and least widths.
    pub fn new(columns: &[(Align, usize)]) -> Self {
        let columns = columns
            .iter()
            .map(|&(align, width)| Column { align, width });
        Self {
            columns: columns.collect(),
            lines: Vec::new(),
        }
    }

    /// Adds a line of cells, one a column.
    pub fn cells<const N: usize>(&mut self, cells: [impl Into<String>; N]) {
        self.row(cells.into_iter().map(Into::into).collect());
    }

    /// Adds a line of cells; missing ones stay empty.
    pub fn row(&mut self, cells: Vec<String>) {
        for (column, cell) in self.columns.iter_mut().zip(&cells) {
            column.width = column.width.max(cell.chars().count());
        }
        self.lines.push(Line::Cells(cells));
    }

    /// Adds a line that is no row.
    pub fn text(&mut self, text: impl Into<String>) {
        self.lines.push(Line::Text(text.into()));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            let text = match line {
                Line::Text(text) => text.clone(),
                Line::Cells(cells) => {
                    let cells = self.columns.iter().zip(cells);
                    let padded = cells.map(|(Column { align, width }, cell)| match align {
                        Align::Left => format!("{cell:<width$}"),
                        Align::Right => format!("{cell:>width$}"),
                    });
                    padded.collect::<Vec<_>>().join(" ")
                }
            };
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// The words of a text in lines of at most that width; a longer word has a line of its own.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_grow_and_text_does_not_count() {
        let mut table = Table::new(&[(Align::Left, 3), (Align::Right, 3)]);
        table.text("a long line of text");
        table.cells(["x", "1"]);
        table.cells(["long", "12345"]);
        assert_eq!(
            table.to_string(),
            "a long line of text\nx        1\nlong 12345\n"
        );
    }
}
