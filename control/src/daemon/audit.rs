//! The audit log: a JSON line for each command that was to change something, in `<state-dir>/audit.jsonl`.
//!
//! Two files at most: one that has become full takes the place of `audit.jsonl.1`. A log that cannot be written stops
//! nothing that it would tell of: what runs is more important, and polluxd's own log says so.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::{Timestamp, Unit};
use pollux_api::audit::{AuditAction, AuditEntry, AuditOutcome};
use pollux_api::control::{Answer, Command};
use pollux_api::line::Failure;

use super::caller::Caller;
use super::{Daemon, lock, off_loop};

/// A file of this many bytes is full.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Entries given at a time, at most, and their bytes.
const ENTRIES_MAX: usize = 10_000;
const ENTRIES_BYTES_MAX: usize = 4 << 20;

/// The log of one state directory.
#[derive(Debug, Clone)]
pub struct AuditLog(Arc<Mutex<Files>>);

#[derive(Debug)]
struct Files {
    path: PathBuf,
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

impl AuditLog {
    /// The log in a state directory, which is made if it is not there.
    pub fn new(state_directory: &Path) -> Self {
        Self::bounded(state_directory, FILE_BYTES_MAX)
    }

    fn bounded(state_directory: &Path, bytes_max: u64) -> Self {
        Self(Arc::new(Mutex::new(Files {
            path: state_directory.join("audit.jsonl"),
            bytes_max,
            open: None,
            is_broken: false,
        })))
    }

    /// Writes an entry. Blocks as long as the file system does.
    fn write(&self, entry: &AuditEntry) {
        let mut files = lock(&self.0);
        match files.write(entry) {
            Ok(()) => files.is_broken = false,
            Err(error) => {
                files.open = None;
                if !files.is_broken {
                    let path = files.path.display();
                    log::error!(
                        "who changes what is not written down: cannot write {path}: {error}"
                    );
                }
                files.is_broken = true;
            }
        }
    }

    /// The last entries, the oldest first; lines that are none are left out.
    fn last(&self, count: usize) -> Vec<AuditEntry> {
        let path = lock(&self.0).path.clone();
        let count = count.min(ENTRIES_MAX);
        let mut lines = VecDeque::new();
        let mut bytes = 0;
        for path in [older(&path), path] {
            let Ok(file) = File::open(path) else { continue };
            for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
                bytes += line.len();
                lines.push_back(line);
                while lines.len() > count || bytes > ENTRIES_BYTES_MAX {
                    bytes -= lines.pop_front().map_or(bytes, |line: Vec<u8>| line.len());
                }
            }
        }
        let entries = lines.iter();
        entries
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect()
    }
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("jsonl.1")
}

impl Files {
    fn write(&mut self, entry: &AuditEntry) -> io::Result<()> {
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

impl Daemon {
    /// Writes down what a caller has asked for and what came of it. Waits until it is written, so that who is told that
    /// something is done can read about it.
    pub(super) async fn note(
        &self,
        caller: &Caller,
        action: AuditAction,
        result: &Result<Answer, Failure>,
    ) {
        let outcome = match result {
            Ok(Answer::Done { generation } | Answer::Reloaded { generation, .. }) => {
                AuditOutcome::Done {
                    generation: *generation,
                }
            }
            // No command that changes something has another answer.
            Ok(_) => return,
            Err(failure) => AuditOutcome::Refused {
                code: failure.code,
                message: failure.message.clone(),
            },
        };
        let log = self.audit.clone();
        let caller = caller.clone();
        let write = move || {
            let now = Timestamp::now();
            let entry = AuditEntry {
                time: format!("{:.3}", now.round(Unit::Millisecond).unwrap_or(now)),
                origin: caller.origin,
                peer: caller.peer(),
                action,
                outcome,
            };
            log.write(&entry);
        };
        off_loop(write).await;
    }

    /// The last entries of the log.
    pub(super) async fn audit_entries(&self, last: usize) -> Answer {
        let log = self.audit.clone();
        Answer::Audit(off_loop(move || log.last(last)).await)
    }
}

/// What a command is in the log, if it is one that changes something. What `reload` changes is known only afterwards.
pub fn action_of(command: &Command) -> Option<AuditAction> {
    use pollux_api::audit::ChangeList;
    match command {
        Command::Change { changes, .. } => Some(AuditAction::Change(ChangeList::of(changes))),
        Command::Zero { service } => Some(AuditAction::Zero { service: *service }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use pollux_api::audit::AuditOrigin;

    use super::*;

    fn entry(generation: u64) -> AuditEntry {
        AuditEntry {
            time: String::new(),
            origin: AuditOrigin::Hangup,
            peer: None,
            action: AuditAction::Zero { service: None },
            outcome: AuditOutcome::Done { generation },
        }
    }

    fn generations(log: &AuditLog, last: usize) -> Vec<u64> {
        let entries = log.last(last);
        let generations = entries.iter().map(|entry| match entry.outcome {
            AuditOutcome::Done { generation } => generation,
            AuditOutcome::Refused { .. } => panic!("{entry:?}"),
        });
        generations.collect()
    }

    #[test]
    fn two_files_hold_the_last_entries() {
        let directory = tempfile::tempdir().unwrap();
        let log = AuditLog::bounded(&directory.path().join("new"), 1000);
        assert!(generations(&log, 5).is_empty());
        (0..100).for_each(|number| log.write(&entry(number)));
        assert_eq!(generations(&log, 3), [97, 98, 99]);
        let all = generations(&log, 1000);
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
        AuditLog::new(directory.path()).write(&entry(1));
        let path = directory.path().join("audit.jsonl");
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("{\"time\":\"2026");
        fs::write(&path, text).unwrap();
        let log = AuditLog::new(directory.path());
        log.write(&entry(2));
        assert_eq!(generations(&log, 9), [1, 2]);
    }

    #[test]
    fn a_place_that_takes_nothing_is_no_end() {
        let log = AuditLog::new(Path::new("/proc/pollux"));
        log.write(&entry(1));
        log.write(&entry(2));
        assert!(generations(&log, 9).is_empty());
    }
}
