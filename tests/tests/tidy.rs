//! Rules of style that no compiler checks: see CONTRIBUTING.md.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where `unsafe` may be written, and nowhere else.
const UNSAFE_IS_ALLOWED_IN: [&str; 2] = ["dpdk-bindings/", "dataplane/engine/src/memory.rs"];
const LINES_OF_A_FILE_MAX: usize = 800;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 5] = ["utils.rs", "util.rs", "common.rs", "helpers.rs", "misc.rs"];

#[test]
fn unsafe_code_is_where_it_may_be() {
    let word = concat!("uns", "afe");
    complain(
        rust_sources(),
        "unsafe code belongs into dpdk-bindings",
        |path, text| {
            let allowed = UNSAFE_IS_ALLOWED_IN
                .iter()
                .any(|start| path.starts_with(start));
            let forms = [
                format!("{word} {{"),
                format!("{word} fn"),
                format!("{word} impl"),
            ];
            !allowed && code_lines(text).any(|line| forms.iter().any(|form| line.contains(form)))
        },
    );
}

#[test]
fn files_are_short_enough_to_read() {
    complain(
        rust_sources(),
        "a file holds one concept in at most 800 lines",
        |_, text| text.lines().count() > LINES_OF_A_FILE_MAX,
    );
}

#[test]
fn every_module_says_what_it_is() {
    complain(
        rust_sources(),
        "a file opens with `//!`: what it is and where it sits",
        |_, text| {
            !text
                .lines()
                .find(|line| !line.starts_with("#!"))
                .is_some_and(|line| line.starts_with("//!"))
        },
    );
}

#[test]
fn no_file_has_an_empty_name() {
    complain(
        rust_sources(),
        "name the file after what is in it",
        |path, _| {
            EMPTY_NAMES
                .iter()
                .any(|name| path.ends_with(&format!("/{name}")))
        },
    );
}

#[test]
fn nothing_is_left_to_do_without_an_issue() {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    complain(
        sources(&["rs", "sh", "toml", "md", "c", "h"]),
        "open an issue instead",
        |_, text| {
            text.split(|c: char| !c.is_alphanumeric())
                .any(|word| marks.contains(&word))
        },
    );
}

#[test]
fn dependencies_are_sorted_and_without_features() {
    let manifest = fs::read_to_string(top().join("Cargo.toml")).unwrap();
    let (_, rest) = manifest.split_once("[workspace.dependencies]\n").unwrap();
    let lines: Vec<&str> = rest
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter(|l| !l.is_empty())
        .collect();
    assert!(lines.is_sorted(), "[workspace.dependencies] is not sorted");
    for line in lines {
        assert!(
            line.contains("path =") || line.contains("default-features = false"),
            "name features per crate: {line}"
        );
        assert!(
            !line.contains(" features ="),
            "name features per crate: {line}"
        );
    }
}

/// Fails with the names of the files of which `bad` is true.
fn complain(files: Vec<(String, String)>, rule: &str, bad: impl Fn(&str, &str) -> bool) {
    assert!(!files.is_empty(), "no source files found");
    let found: Vec<&str> = files
        .iter()
        .filter(|(path, text)| bad(path, text))
        .map(|(path, _)| path.as_str())
        .collect();
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// Lines without those that are nothing but a comment.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

fn rust_sources() -> Vec<(String, String)> {
    sources(&["rs"])
}

/// Path and text of every file of the repository with one of these endings.
fn sources(endings: &[&str]) -> Vec<(String, String)> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(top())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter(|path| {
            Path::new(path)
                .extension()
                .is_some_and(|e| endings.iter().any(|ending| e == *ending))
        })
        .filter_map(|path| Some((path.to_owned(), fs::read_to_string(top().join(path)).ok()?)))
        .collect()
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}
