//! Files that `keepalived.conf` includes, from the disk.

use std::fs;
use std::path::Path;

use super::keepalived::{Files, IncludedFile};

/// Alternatives in braces, written out: more were not meant.
const PATTERNS_MAX: usize = 1000;

/// The disk.
#[derive(Debug, Clone, Copy)]
pub struct DiskFiles;

impl Files for DiskFiles {
    fn matching(&self, pattern: &str, from: &str) -> Result<Vec<IncludedFile>, String> {
        let directory = Path::new(from).parent().unwrap_or(Path::new(""));
        let mut found = Vec::new();
        for pattern in alternatives(pattern) {
            // The directory is one, whatever letters are in its name.
            let directory = glob::Pattern::escape(&directory.to_string_lossy());
            let pattern = Path::new(&directory).join(pattern);
            let paths =
                glob::glob(&pattern.to_string_lossy()).map_err(|error| error.to_string())?;
            for path in paths.flatten().filter(|path| path.is_file()) {
                let bytes = fs::read(&path)
                    .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                found.push(IncludedFile {
                    name: path.display().to_string(),
                    text: String::from_utf8_lossy(&bytes).into_owned(),
                });
            }
        }
        if found.is_empty() {
            return Err("no such file: left out".to_owned());
        }
        Ok(found)
    }
}

/// `{a,b{c,d}}` written out: `a`, `bc`, `bd`.
fn alternatives(pattern: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(pattern) = open.pop() {
        match innermost(&pattern) {
            Some((before, choices, behind)) if open.len() + done.len() < PATTERNS_MAX => {
                // The last comes off the stack first.
                let choices = choices.split(',').rev();
                open.extend(choices.map(|choice| format!("{before}{choice}{behind}")));
            }
            _ => done.push(pattern),
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    done.retain(|pattern| seen.insert(pattern.clone()));
    done
}

/// A pair of braces with none inside: what is before, in and behind them.
fn innermost(pattern: &str) -> Option<(&str, &str, &str)> {
    let close = pattern.find('}')?;
    let open = pattern.get(..close)?.rfind('{')?;
    Some((
        pattern.get(..open)?,
        pattern.get(open + 1..close)?,
        pattern.get(close + 1..)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_written_out() {
        let sorted = |pattern: &str| {
            let mut all = alternatives(pattern);
            all.sort();
            all
        };
        assert_eq!(sorted("a"), ["a"]);
        assert_eq!(
            sorted("{foo/{,cat,dog},bar}"),
            ["bar", "foo/", "foo/cat", "foo/dog"]
        );
        assert_eq!(sorted("a{b"), ["a{b"]);
    }

    #[test]
    fn files_are_found_beside_the_one_that_includes_them() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [("a.conf", "one"), ("b.conf", "two"), ("c.txt", "three")] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let from = directory.path().join("keepalived.conf");
        let from = from.to_str().unwrap();
        let texts = |pattern: &str| {
            let files = DiskFiles.matching(pattern, from)?;
            Ok::<_, String>(files.into_iter().map(|file| file.text).collect::<Vec<_>>())
        };
        assert_eq!(texts("*.conf").unwrap(), ["one", "two"]);
        assert_eq!(texts("./c.txt").unwrap(), ["three"]);
        assert_eq!(texts("{a.conf,c.txt}").unwrap().len(), 2);
        assert_eq!(texts("d*").unwrap_err(), "no such file: left out");
        let absolute = directory.path().join("?.conf");
        assert_eq!(texts(absolute.to_str().unwrap()).unwrap(), ["one", "two"]);
    }
}
