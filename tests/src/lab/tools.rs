//! IPVS's own tools, run unmodified against the lab's polluxd, and their listings.

use super::{program, text_of};

/// Runs an IPVS tool, its words split at blanks. It must succeed.
pub fn ipvs(line: &str) -> String {
    let output = program("pollux")
        .args(["ipvs", "--"])
        .args(line.split_whitespace())
        .output()
        .expect("pollux starts");
    assert!(output.status.success(), "{line}: {}", text_of(&output));
    text_of(&output)
}

/// The words of each line.
pub fn lines(text: &str) -> Vec<Vec<String>> {
    let words =
        |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    text.lines().map(words).collect()
}

/// The words of each line that has this one.
pub fn lines_with(text: &str, word: &str) -> Vec<Vec<String>> {
    lines(text)
        .into_iter()
        .filter(|words| words.iter().any(|known| known == word))
        .collect()
}
