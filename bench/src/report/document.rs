//! Sections made of text, tables and plots, and their Markdown.

use std::fmt::Write as _;

use super::plot::Plot;

/// Tells people who open the file where it comes from.
const HEAD: &str = "# Results\n\nMade by `pollux-bench report`, which `scripts/bench` calls after measuring: edit neither \
                    this file nor the plots.\n";

/// A part of the report.
#[derive(Debug)]
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// What stands below it.
    pub blocks: Vec<Block>,
    /// The commands whose figures it shows.
    pub commands: Vec<String>,
}

/// What a section is made of.
#[derive(Debug)]
pub enum Block {
    /// A paragraph of Markdown.
    Text(String),
    /// Rows and columns.
    Table(Table),
    /// A picture.
    Plot(Plot),
}

/// A table. The first columns are words, the others figures.
#[derive(Debug)]
pub struct Table {
    /// Columns of words.
    words: usize,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these headings, so many of which stand over words.
    pub fn new(words: usize, header: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            words,
            header: header.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// One row more.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Nothing below the headings.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule = |(column, _)| if column < self.words { "---" } else { "---:" };
        let rules: Vec<&str> = self.header.iter().enumerate().map(rule).collect();
        let mut text = line(&self.header);
        let _ = writeln!(text, "|{}|", rules.join("|"));
        text.extend(self.rows.iter().map(|row| line(row)));
        text
    }
}

/// The whole report; plots are in a folder beside it.
pub fn markdown(sections: &[Section], plots: &str) -> String {
    let mut text = HEAD.to_owned();
    for section in sections {
        let _ = writeln!(text, "\n## {}", section.title);
        for block in &section.blocks {
            let block = match block {
                Block::Text(paragraph) => format!("{paragraph}\n"),
                Block::Table(table) => table.markdown(),
                Block::Plot(plot) => {
                    format!("![{}]({plots}/{})\n", plot.title, plot.file_name())
                }
            };
            let _ = write!(text, "\n{block}");
        }
        if !section.commands.is_empty() {
            let commands: String = section
                .commands
                .iter()
                .map(|line| format!("    {line}\n"))
                .collect();
            let _ = write!(text, "\nMeasured by:\n\n{commands}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_with_its_commands() {
        let mut table = Table::new(1, ["what", "ns"]);
        table.row(["a|b", "1.0"]);
        let section = Section {
            title: "Cost",
            blocks: vec![Block::Text("Of one.".to_owned()), Block::Table(table)],
            commands: vec!["pollux-bench table --json".to_owned()],
        };
        let text = markdown(&[section], "results");
        let (_, section) = text.split_once("\n\n## ").unwrap();
        assert_eq!(
            section,
            "Cost\n\nOf one.\n\n| what | ns |\n|---|---:|\n| a\\|b | 1.0 |\n\nMeasured by:\n\n    pollux-bench table --json\n"
        );
    }
}
