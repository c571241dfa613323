//! What is wrong in a configuration file, and where. A file is judged as a whole: everything wrong is reported at once.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

/// One thing to mend. Prints as `FILE:LINE: KEY: MESSAGE`, which editors and `grep -n` users can jump to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file as the user named it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// The path of the key, `service[1].server[0].weight`; empty for the file as a whole.
    pub key: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything wrong with one file, in the order of its lines. Never empty when returned as an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

/// A place in the file: the line and the key's path, which is written out only for a problem. A file may have a hundred
/// thousand keys, and nothing wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// The table that has the key; none for the file as a whole.
    pub table: Option<Rc<TablePath>>,
    /// The key; empty for the table itself.
    pub key: &'static str,
}

/// The way to a table, or to an element of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct TablePath {
    /// The table it is in; none for the file as a whole.
    pub parent: Option<Rc<Self>>,
    /// Its key there.
    pub key: Cow<'static, str>,
    /// Which one it is in a list, from 0.
    pub index: Option<usize>,
}

impl fmt::Display for TablePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = &self.parent {
            write!(f, "{parent}.")?;
        }
        f.write_str(&self.key)?;
        match self.index {
            Some(index) => write!(f, "[{index}]"),
            None => Ok(()),
        }
    }
}

impl Place {
    /// Of what the key holds: a table, or one in a list of them.
    #[must_use]
    pub fn inside(&self, index: Option<usize>) -> Self {
        let path = TablePath {
            parent: self.table.clone(),
            key: Cow::Borrowed(self.key),
            index,
        };
        Self {
            line: self.line,
            table: Some(Rc::new(path)),
            key: "",
        }
    }

    /// The path of the key, `service[1].server[0].weight`; empty for the file as a whole.
    pub fn path(&self) -> String {
        match &self.table {
            Some(table) if self.key.is_empty() => table.to_string(),
            Some(table) => format!("{table}.{}", self.key),
            None => self.key.to_owned(),
        }
    }
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub place: Place,
}

/// Collects the problems of one file while it is read and validated.
#[derive(Debug)]
pub struct ProblemList {
    file: String,
    /// Byte offset of the first byte of every line.
    line_starts: Vec<usize>,
    found: RefCell<Vec<Problem>>,
}

impl ProblemList {
    /// An empty list for a file with this text.
    pub fn new(file: &str, text: &str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(index, _)| index + 1);
        Self {
            file: file.to_owned(),
            line_starts: std::iter::once(0).chain(after_newlines).collect(),
            found: RefCell::default(),
        }
    }

    /// The line a span starts in, from 1.
    pub fn line_of(&self, span: &Range<usize>) -> usize {
        self.line_starts
            .partition_point(|start| *start <= span.start)
    }

    /// Adds a problem.
    pub fn add(&self, place: &Place, message: impl fmt::Display) {
        self.found.borrow_mut().push(Problem {
            file: self.file.clone(),
            line: place.line,
            key: place.path(),
            message: message.to_string(),
        });
    }

    /// The value when nothing is wrong, else everything that is.
    ///
    /// # Errors
    /// The problems, if there are any.
    pub fn unless_any<T>(self, value: T) -> Result<T, Problems> {
        let mut found = self.found.into_inner();
        if found.is_empty() {
            return Ok(value);
        }
        found.sort_by_key(|problem| problem.line);
        Err(Problems(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_from_one() {
        let list = ProblemList::new("f", "ab\ncd\n\ne");
        let lines: Vec<usize> = [0, 2, 3, 6, 7]
            .map(|at| list.line_of(&(at..at)))
            .into_iter()
            .collect();
        assert_eq!(lines, [1, 1, 2, 3, 4]);
    }

    #[test]
    fn problems_come_in_the_order_of_lines() {
        let list = ProblemList::new("f.toml", "");
        let place = |line, key| Place {
            line,
            table: None,
            key,
        };
        list.add(&place(9, "b"), "second");
        list.add(&place(2, ""), "first");
        let problems = list.unless_any(()).unwrap_err();
        assert_eq!(problems.to_string(), "f.toml:2: first\nf.toml:9: b: second");
    }
}
