//! Statements: words, and for some a block of statements in braces.

use super::super::draft::Draft;
use super::super::note::Place;
use super::lines::Line;
use super::words::{Token, tokens};

/// Blocks in blocks: keepalived has four.
const DEPTH_MAX: usize = 16;

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Where it starts.
    pub place: Place,
    /// Its words; never none.
    words: Vec<String>,
    /// Its block; none when it has none.
    pub block: Option<Vec<Statement>>,
}

impl Statement {
    /// Its first word.
    pub fn keyword(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The others.
    pub fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    /// The second word.
    pub fn argument(&self) -> Option<&str> {
        self.arguments().first().map(String::as_str)
    }

    /// The words again, in one line.
    pub fn text(&self) -> String {
        self.words.join(" ")
    }

    /// The statements in its block.
    pub fn inner(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }

    /// Says that a block has nothing of that name.
    pub fn unknown(&self, block: &str, draft: &mut Draft) {
        let text = format!("{block}: \"{}\" is not known here: left out", self.text());
        draft.note(&self.place, text);
    }

    /// The last statement in its block with that keyword, as the last one counts.
    pub fn last(&self, keyword: &str) -> Option<&Self> {
        self.inner()
            .iter()
            .rev()
            .find(|inner| inner.keyword() == keyword)
    }
}

/// The statements of all lines.
pub fn parse(lines: &[Line], draft: &mut Draft) -> Vec<Statement> {
    let mut open: Vec<Statement> = Vec::new();
    let mut top: Vec<Statement> = Vec::new();
    let mut too_deep = 0_usize;
    for line in lines {
        let mut words = Vec::new();
        for token in tokens(&line.text) {
            match token {
                Token::Word(word) => words.push(word),
                Token::Open => {
                    let header = std::mem::take(&mut words);
                    let level = open
                        .last_mut()
                        .map_or(&mut top, |outer| outer.block.get_or_insert_default());
                    // A brace in a line of its own belongs to the statement before it.
                    let before = level.last().is_some_and(|before| before.block.is_none());
                    let mut statement = match (header.is_empty(), before) {
                        (true, true) => level.pop(),
                        (true, false) => None,
                        (false, _) => Some(Statement {
                            place: line.place.clone(),
                            words: header,
                            block: None,
                        }),
                    }
                    .unwrap_or_else(|| Statement {
                        place: line.place.clone(),
                        words: vec!["{".to_owned()],
                        block: None,
                    });
                    statement.block = Some(Vec::new());
                    if open.len() < DEPTH_MAX {
                        open.push(statement);
                    } else {
                        too_deep += 1;
                        let text = format!(
                            "blocks are nested deeper than {DEPTH_MAX}: what is in this one is taken for the outer one's"
                        );
                        draft.note(&line.place, text);
                    }
                }
                Token::Close => {
                    finish_line(&mut words, line, &mut open, &mut top);
                    if too_deep > 0 {
                        too_deep -= 1;
                        continue;
                    }
                    match open.pop() {
                        Some(statement) => put(statement, &mut open, &mut top),
                        None => draft.note(&line.place, "a } that closes nothing: left out"),
                    }
                }
            }
        }
        finish_line(&mut words, line, &mut open, &mut top);
    }
    while let Some(statement) = open.pop() {
        let text = format!(
            "{}: its block is not closed; taken to go to the end",
            statement.text()
        );
        draft.note(&statement.place, text);
        put(statement, &mut open, &mut top);
    }
    top
}

fn finish_line(
    words: &mut Vec<String>,
    line: &Line,
    open: &mut [Statement],
    top: &mut Vec<Statement>,
) {
    if words.is_empty() {
        return;
    }
    let statement = Statement {
        place: line.place.clone(),
        words: std::mem::take(words),
        block: None,
    };
    put(statement, open, top);
}

fn put(statement: Statement, open: &mut [Statement], top: &mut Vec<Statement>) {
    let level = open
        .last_mut()
        .map_or(top, |outer| outer.block.get_or_insert_default());
    level.push(statement);
}
