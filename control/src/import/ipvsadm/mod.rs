//! The rules of `ipvsadm -Sn`, and scripts of `ipvsadm` commands, those of DPVS among them.
//!
//! ```text
//! text ──► options: the words of a line as commands and options ──► rule: what they do to the draft
//!     └──► dpip: what to type instead, for what DPVS does and the kernel does here
//! ```

mod dpip;
pub mod dpvs;
mod options;
mod rule;

use std::sync::Arc;

pub use options::words;

use super::draft::Draft;
use super::note::Place;

/// Adds what a file of rules says.
pub fn read(file: &Arc<str>, text: &str, draft: &mut Draft) {
    for (index, line) in text.lines().enumerate() {
        let place = Place::new(file, index + 1);
        let words = options::words(line);
        match words.split_first() {
            None => {}
            Some((first, rest)) if is_program(first, "ipvsadm") => rule::read(&place, rest, draft),
            Some((first, _)) if first.starts_with('-') => rule::read(&place, &words, draft),
            Some((first, rest)) if is_program(first, "dpip") => dpip::explain(&place, rest, draft),
            Some((first, _)) => {
                draft.note(
                    &place,
                    format!("\"{first}\" is no command of ipvsadm: left out"),
                );
            }
        }
    }
}

/// Whether a line is a rule or a command of `ipvsadm`.
pub fn is_rule(line: &str) -> bool {
    let words = options::words(line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [first, ..] if is_program(first, "ipvsadm") || is_program(first, "dpip") => true,
        [first, ..] => first.starts_with('-'),
        [] => false,
    }
}

fn is_program(word: &str, name: &str) -> bool {
    word.rsplit('/').next() == Some(name)
}

#[cfg(test)]
mod tests;
