//! Columns of text, aligned; as wide as they must be and no wider.

use std::fmt;

use super::screen::Screen;

/// What a last column of words is wrapped to at least; with less room it has lines of its own.
const TEXT_WIDTH_MIN: usize = 24;

/// A first column is not made narrower.
const NAME_WIDTH_MIN: usize = 16;

/// Where rows go on.
const INDENT: usize = 8;

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
    /// As it was asked for.
    least: usize,
    /// What the widest cell takes.
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
        let columns = columns.iter().map(|&(align, width)| Column {
            align,
            least: width,
            width,
        });
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

impl Table {
    /// The table for a screen. Where it is wider than that, a last column of text is wrapped, or long names stand above
    /// their rows, or rows go on in further lines, all at the same columns.
    pub fn shown(&self, screen: Screen) -> String {
        let widths: Vec<usize> = self.columns.iter().map(|column| column.width).collect();
        let Some(room) = screen.columns().filter(|room| across(&widths) > *room) else {
            return self.rendered(&widths, usize::MAX, usize::MAX);
        };
        if let Some((last, others)) = widths.split_last()
            && self.has_text()
            && let Some(left) = room.checked_sub(across(others) + 1)
            && left >= TEXT_WIDTH_MIN.min(*last)
        {
            return self.rendered(&widths, room, left);
        }
        let mut narrow = widths;
        if let (Some(first), Some(column)) = (narrow.first_mut(), self.columns.first()) {
            *first = column.least.max(NAME_WIDTH_MIN).min(*first);
        }
        self.rendered(&narrow, room, usize::MAX)
    }

    /// Whether the last column is words, which may be parted.
    fn has_text(&self) -> bool {
        let last = self.columns.last();
        last.is_some_and(|column| column.align == Align::Left && column.least == 0)
    }

    fn rendered(&self, widths: &[usize], room: usize, text_width: usize) -> String {
        let mut text = String::new();
        for line in &self.lines {
            match line {
                Line::Text(line) => push_line(&mut text, line),
                Line::Cells(cells) => self.push_row(&mut text, cells, widths, room, text_width),
            }
        }
        text
    }

    fn push_row(
        &self,
        text: &mut String,
        cells: &[String],
        widths: &[usize],
        room: usize,
        text_width: usize,
    ) {
        let mut line = String::new();
        let mut taken = 0;
        let last = widths.len().saturating_sub(1);
        for (place, ((column, width), cell)) in
            self.columns.iter().zip(widths).zip(cells).enumerate()
        {
            if place > 0 {
                // With the blank before it.
                if taken + 1 + width.min(&text_width) > room {
                    push_line(text, &line);
                    line.clear();
                    line.push_str(&" ".repeat(INDENT));
                    taken = INDENT;
                } else {
                    line.push(' ');
                    taken += 1;
                }
            }
            if place == last && text_width != usize::MAX {
                let mut parts = wrapped(cell, text_width).into_iter();
                line.push_str(&parts.next().unwrap_or_default());
                push_line(text, &line);
                for part in parts {
                    push_line(text, &format!("{:taken$}{part}", ""));
                }
                return;
            }
            let cell = match column.align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            };
            // A name that is too long stands alone.
            if place == 0 && cell.chars().count() > *width {
                push_line(text, &cell);
                line.push_str(&" ".repeat(*width));
            } else {
                line.push_str(&cell);
            }
            taken += width;
        }
        push_line(text, &line);
    }
}

/// The columns that so many cells take, blanks between them.
fn across(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + widths.len().saturating_sub(1)
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown(Screen::default()))
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

    #[test]
    fn narrow_screens_keep_columns_under_each_other() {
        let mut table = Table::new(&[(Align::Left, 16), (Align::Right, 5), (Align::Right, 5)]);
        table.cells(["Name", "In", "Out"]);
        table.cells(["a", "1", "2"]);
        table.cells(["[2001:db8:1000:2000::1]:80", "3", "4"]);
        let wide = "\
Name                          In   Out
a                              1     2
[2001:db8:1000:2000::1]:80     3     4
";
        assert_eq!(table.to_string(), wide);
        assert_eq!(table.shown(Screen::of(38)), wide);
        let narrow = "\
Name                In   Out
a                    1     2
[2001:db8:1000:2000::1]:80
                     3     4
";
        assert_eq!(table.shown(Screen::of(37)), narrow);
        let folded = "\
Name                In
          Out
a                    1
            2
[2001:db8:1000:2000::1]:80
                     3
            4
";
        assert_eq!(table.shown(Screen::of(27)), folded);
    }

    #[test]
    fn a_last_column_of_words_is_wrapped() {
        let mut table = Table::new(&[(Align::Left, 4), (Align::Left, 0)]);
        table.cells(["Name", "Why"]);
        table.cells(["a", "one two three four five six seven"]);
        let narrow = "\
Name Why
a    one two three four five
     six seven
";
        assert_eq!(table.shown(Screen::of(30)), narrow);
    }
}
