//! What is wrong in a configuration file, and where. A file is judged as a whole: everything wrong is reported at once.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

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

/// A place in the file: the line and the key's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// The path of the key.
    pub key: String,
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
            key: place.key.clone(),
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
        let place = |line, key: &str| Place {
            line,
            key: key.to_owned(),
        };
        list.add(&place(9, "b"), "second");
        list.add(&place(2, ""), "first");
        let problems = list.unless_any(()).unwrap_err();
        assert_eq!(problems.to_string(), "f.toml:2: first\nf.toml:9: b: second");
    }
}
