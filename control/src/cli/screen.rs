//! How wide the screen is that a table goes to.

use std::env;
use std::io::{self, IsTerminal};

/// What texts are wrapped to where there is no screen.
const TEXT_COLUMNS: usize = 80;

/// Lines of text that are longer are hard to read.
const TEXT_COLUMNS_MAX: usize = 120;

/// Where output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Screen {
    /// Its columns; none when a program reads, which wants each row in one line, however long.
    columns: Option<usize>,
}

impl Screen {
    /// That of standard output: what `COLUMNS` says, else what the terminal does, if it is one.
    pub fn of_output() -> Self {
        let said = env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
        let asked = || {
            let (columns, _) = io::stdout()
                .is_terminal()
                .then(ratatui::crossterm::terminal::size)?
                .ok()?;
            Some(usize::from(columns))
        };
        Self {
            columns: said.or_else(asked).filter(|columns| *columns > 0),
        }
    }

    /// One of this width.
    #[cfg(test)]
    pub fn of(columns: usize) -> Self {
        Self {
            columns: Some(columns),
        }
    }

    /// The columns that a table has; none: any number.
    pub fn columns(self) -> Option<usize> {
        self.columns
    }

    /// The columns that texts are wrapped to.
    pub fn text_columns(self) -> usize {
        let columns = self.columns.unwrap_or(TEXT_COLUMNS);
        columns.clamp(TEXT_COLUMNS, TEXT_COLUMNS_MAX)
    }
}
