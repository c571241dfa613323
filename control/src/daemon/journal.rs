//! A log of JSON lines in the state directory that people read back: `audit.jsonl`, `events.jsonl`.
//!
//! Two files at most: one that has become full takes the place of `NAME.jsonl.1`. A log that cannot be written stops
//! nothing that it would tell of: what runs is more important, and polluxd's own log says so.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::{Timestamp, Unit};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::lock;

/// A file of this many bytes is full.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Entries given at a time, at most, and their bytes.
const ENTRIES_MAX: usize = 10_000;
const ENTRIES_BYTES_MAX: usize = 4 << 20;

/// One log.
#[derive(Debug, Clone)]
pub struct Journal(Arc<Mutex<Files>>);

#[derive(Debug)]
struct Files {
    path: PathBuf,
    what: &'static str,
    bytes_max: u64,
    open: Option<Open>,
    /// Said once, not with each entry.
    is_broken: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
}

impl Journal {
    /// `NAME.jsonl` in a state directory, which is made if it is not there; `what` its lines tell, for polluxd's log when
    /// they cannot be written.
    pub fn new(state_directory: &Path, name: &str, what: &'static str) -> Self {
        Self::bounded(state_directory, name, what, FILE_BYTES_MAX)
    }

    fn bounded(state_directory: &Path, name: &str, what: &'static str, bytes_max: u64) -> Self {
        Self(Arc::new(Mutex::new(Files {
            path: state_directory.join(name).with_extension("jsonl"),
            what,
            bytes_max,
            open: None,
            is_broken: false,
        })))
    }

    /// Writes entries. Blocks as long as the file system does.
    pub fn write<T: Serialize>(&self, entries: &[T]) {
        let mut files = lock(&self.0);
        match entries.iter().try_for_each(|entry| files.write(entry)) {
            Ok(()) => files.is_broken = false,
            Err(error) => {
                files.open = None;
                if !files.is_broken {
                    let path = files.path.display();
                    let what = files.what;
                    log::error!("{what} is not written down: cannot write {path}: {error}");
                }
                files.is_broken = true;
            }
        }
    }

    /// The last entries that are wanted, the oldest first; lines that are none are left out.
    pub fn last<T: DeserializeOwned>(
        &self,
        count: usize,
        is_wanted: impl Fn(&T) -> bool,
    ) -> Vec<T> {
        let path = lock(&self.0).path.clone();
        let count = count.min(ENTRIES_MAX);
        let mut entries: VecDeque<(usize, T)> = VecDeque::new();
        let mut bytes = 0;
        for path in [older(&path), path] {
            let Ok(file) = File::open(path) else { continue };
            for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
                let Some(entry) = serde_json::from_slice(&line).ok().filter(&is_wanted) else {
                    continue;
                };
                bytes += line.len();
                entries.push_back((line.len(), entry));
                while entries.len() > count || bytes > ENTRIES_BYTES_MAX {
                    bytes -= entries.pop_front().map_or(bytes, |(length, _)| length);
                }
            }
        }
        entries.into_iter().map(|(_, entry)| entry).collect()
    }
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("jsonl.1")
}

impl Files {
    fn write(&mut self, entry: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let length = line.len() as u64;
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.bytes + length > self.bytes_max)
        {
            self.open = None;
            fs::rename(&self.path, older(&self.path))?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(Open::at(&self.path)?),
        };
        open.file.write_all(&line)?;
        open.bytes += length;
        Ok(())
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .open(path)?;
        let bytes = file.metadata()?.len();
        // A line that a crash has cut short stays alone.
        if bytes > 0 && !ends_a_line(path, bytes)? {
            file.write_all(b"\n")?;
        }
        Ok(Self { file, bytes })
    }
}

fn ends_a_line(path: &Path, bytes: u64) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let mut last = [0];
    File::open(path)?.read_exact_at(&mut last, bytes - 1)?;
    Ok(last == *b"\n")
}

/// Now, as entries have it: RFC 3339, UTC, milliseconds.
pub fn now() -> String {
    let now = Timestamp::now();
    format!("{:.3}", now.round(Unit::Millisecond).unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn journal(directory: &Path) -> Journal {
        Journal::new(directory, "test", "what a test does")
    }

    fn write(journal: &Journal, number: u64) {
        journal.write(&[json!({"number": number, "text": "some words that fill a file up"})]);
    }

    fn numbers(journal: &Journal, last: usize) -> Vec<u64> {
        let entries: Vec<Value> = journal.last(last, |_| true);
        entries
            .iter()
            .map(|entry| entry["number"].as_u64().unwrap())
            .collect()
    }

    #[test]
    fn two_files_hold_the_last_entries() {
        let directory = tempfile::tempdir().unwrap();
        let log = Journal::bounded(&directory.path().join("new"), "test", "it", 1000);
        assert!(numbers(&log, 5).is_empty());
        (0..100).for_each(|number| write(&log, number));
        let even: Vec<Value> = log.last(2, |entry: &Value| {
            entry["number"].as_u64().unwrap().is_multiple_of(2)
        });
        assert_eq!(even[0]["number"], 96);
        assert_eq!(numbers(&log, 3), [97, 98, 99]);
        let all = numbers(&log, 1000);
        assert_eq!(all.last(), Some(&99));
        assert!(all.len() > 8 && all.is_sorted(), "{all:?}");
        let files = fs::read_dir(directory.path().join("new")).unwrap();
        let sizes: Vec<u64> = files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|size| *size <= 1000), "{sizes:?}");
    }

    #[test]
    fn a_torn_line_costs_itself_only() {
        let directory = tempfile::tempdir().unwrap();
        write(&journal(directory.path()), 1);
        let path = directory.path().join("test.jsonl");
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("{\"number\":\"20");
        fs::write(&path, text).unwrap();
        let log = journal(directory.path());
        write(&log, 2);
        assert_eq!(numbers(&log, 9), [1, 2]);
    }

    #[test]
    fn a_place_that_takes_nothing_is_no_end() {
        let log = journal(Path::new("/proc/pollux"));
        write(&log, 1);
        write(&log, 2);
        assert!(numbers(&log, 9).is_empty());
    }
}
