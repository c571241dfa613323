//! `keepalived.conf`, DPVS's keywords among it, and `dpvs.conf`.
//!
//! ```text
//! text ──► lines: comments, conditions, parameters, sequences, includes ──► words: quotes
//!      ──► statements: blocks in blocks ──► top ──► virtual_server (group, real_server, checker) ──► draft
//! ```

mod any_server;
mod checker;
mod dpvs;
mod dpvs_conf;
mod group;
mod health;
mod lines;
mod method;
mod probe;
mod real_server;
mod statement;
mod timing;
mod top;
mod virtual_server;
mod words;

use std::sync::Arc;

use super::draft::Draft;
use lines::Lines;
pub use lines::{Files, IncludedFile};

/// Adds what a file says, with those it includes.
pub fn read(file: &Arc<str>, text: &str, config_id: &str, files: &dyn Files, draft: &mut Draft) {
    let mut lines = Lines::new(config_id, files, draft);
    lines.add_file(file, text);
    let lines = lines.finish();
    let statements = statement::parse(&lines, draft);
    top::read(&statements, draft);
}

/// Whether a line is one that `keepalived.conf` has at its top: the start of a block, an include, a condition, a parameter.
pub fn opens_block(line: &str) -> bool {
    let line = line.trim_start_matches("<init>");
    let word = line.split_whitespace().next().unwrap_or_default();
    let word = word.trim_end_matches('{');
    top::is_known(word)
        || word.starts_with('@')
        || word.starts_with("~SEQ")
        || lines::is_not_of_a_block(line)
}

#[cfg(test)]
mod tests;
