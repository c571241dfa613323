//! What was accepted since the state file was written: a line of JSON for each transaction, and for numbers that became free.
//!
//! A line is written and brought to the disk before what it says is acknowledged. A crash can leave the last line torn, and no
//! other: that one was never acknowledged, so it is dropped, and the log says so. Anything else that cannot be read is an error,
//! for what comes after it was accepted on top of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pollux_api::{Change, DestinationId, ServiceId};
use serde::{Deserialize, Serialize};

use crate::numbering::{DestinationNumber, Numbered, ServiceNumber};
use crate::state::State;

/// What is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record<'a> {
    /// Counts records, from 1.
    sequence: u64,
    /// That runs after it.
    generation: u64,
    /// The transaction.
    #[serde(default, skip_serializing_if = "<[Change]>::is_empty")]
    changes: Cow<'a, [Change]>,
    /// What it gave a number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    numbers: Vec<NewNumbers>,
    /// Numbers of destinations that became free.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    released: Vec<u32>,
}

/// The numbers that a service and its servers were given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewNumbers {
    service: ServiceId,
    /// The service's own; none when it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<u32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    servers: BTreeMap<DestinationId, u32>,
}

impl<'a> Record<'a> {
    /// A transaction.
    pub fn of_changes(generation: u64, changes: &'a [Change], numbered: &Numbered) -> Self {
        let mut numbers: BTreeMap<ServiceId, NewNumbers> = BTreeMap::new();
        let entry = |service| NewNumbers {
            service,
            number: None,
            servers: BTreeMap::new(),
        };
        for (number, service) in &numbered.services {
            let new = numbers.entry(*service).or_insert_with(|| entry(*service));
            new.number = Some(number.get());
        }
        for (number, service, destination) in &numbered.destinations {
            let new = numbers.entry(*service).or_insert_with(|| entry(*service));
            new.servers.insert(*destination, number.get());
        }
        Self {
            sequence: 0,
            generation,
            changes: Cow::Borrowed(changes),
            numbers: numbers.into_values().collect(),
            released: Vec::new(),
        }
    }

    /// Numbers that nothing refers to any more.
    pub fn of_release(generation: u64, numbers: &[DestinationNumber]) -> Self {
        Self {
            sequence: 0,
            generation,
            changes: Cow::Borrowed(&[]),
            numbers: Vec::new(),
            released: numbers.iter().map(|number| number.get()).collect(),
        }
    }

    fn numbered(&self) -> Numbered {
        let services = self.numbers.iter().filter_map(|new| {
            let number = ServiceNumber::new(new.number?);
            Some((number, new.service))
        });
        let destinations = self.numbers.iter().flat_map(|new| {
            let servers = new.servers.iter();
            servers.map(|(id, number)| (DestinationNumber::new(*number), new.service, *id))
        });
        Numbered {
            services: services.collect(),
            destinations: destinations.collect(),
        }
    }

    /// Does to a state what was done to it when this was written.
    fn repeat(&self, state: &mut State) -> Result<(), String> {
        let says = |error: &dyn ToString| error.to_string();
        let before = &state.configuration;
        let configuration = before.apply(&self.changes).map_err(|error| says(&error))?;
        let changed = configuration.changed_services(before);
        let numbering = &mut state.numbering;
        let given = numbering.give(&self.numbered());
        given.map_err(|error| says(&error))?;
        let rest = numbering.assign_services(&changed, |id| configuration.service_in_force(id));
        if let Some((_, service, id)) = rest.destinations.first() {
            return Err(format!("server {id} of service {service} has no number"));
        }
        if let Some((_, service)) = rest.services.first() {
            return Err(format!("service {service} has no number"));
        }
        state.configuration = configuration;
        state.release(self.released.iter().copied().map(DestinationNumber::new));
        state.generation = self.generation;
        Ok(())
    }
}

/// Why a journal cannot be gone on with.
#[derive(Debug)]
pub enum ReplayFailure {
    /// The file cannot be read.
    Io(io::Error),
    /// What is wrong, with the line.
    Broken(String),
}

/// What reading a journal came to.
#[derive(Debug, Default)]
pub struct Replayed {
    /// The last record that the state has.
    pub sequence: u64,
    /// Bytes of whole records.
    pub length: u64,
    /// Records that the state file had not.
    pub records: u64,
    /// Whether the last line was torn.
    pub is_torn: bool,
}

/// Does to a state, which has all records up to `sequence`, what the journal says beyond that.
///
/// # Errors
/// [`ReplayFailure`].
pub fn replay(path: &Path, state: &mut State, sequence: u64) -> Result<Replayed, ReplayFailure> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(ReplayFailure::Io(error)),
    };
    let mut found = Replayed {
        sequence,
        ..Replayed::default()
    };
    for (line, number) in bytes.split_inclusive(|byte| *byte == b'\n').zip(1..) {
        let broken =
            |why: &dyn std::fmt::Display| ReplayFailure::Broken(format!("line {number}: {why}"));
        let end = found.length + line.len() as u64;
        let is_last = end == bytes.len() as u64;
        // Pages of it that did not get to the disk are zeros.
        if is_last && (line.last() != Some(&b'\n') || line.contains(&0)) {
            found.is_torn = true;
            return Ok(found);
        }
        let record: Record<'_> =
            serde_json::from_slice(line.trim_ascii_end()).map_err(|error| {
                let text = error.to_string();
                let (what, _) = text.split_once(" at line ").unwrap_or((&text, ""));
                broken(&format_args!("column {}: {what}", error.column()))
            })?;
        found.length = end;
        if record.sequence <= found.sequence {
            continue;
        }
        if record.sequence != found.sequence + 1 {
            return Err(broken(&format_args!(
                "record {} follows record {}: what was accepted between them is missing",
                record.sequence, found.sequence
            )));
        }
        record.repeat(state).map_err(|why| broken(&why))?;
        found.sequence = record.sequence;
        found.records += 1;
    }
    Ok(found)
}

/// The journal of a running data plane.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// None until the first record, and after a failure that leaves nobody knowing what the file has.
    file: Option<File>,
    /// Bytes of whole records.
    length: u64,
    /// The last record that was written.
    sequence: u64,
}

impl Journal {
    /// The one at a path, of which this was read.
    pub fn new(path: PathBuf, replayed: &Replayed) -> Self {
        Self {
            path,
            file: None,
            length: replayed.length,
            sequence: replayed.sequence,
        }
    }

    /// The last record.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Bytes of all records.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Adds a record. When this returns, it survives a crash of the machine.
    ///
    /// # Errors
    /// The disk's; then the record is not in it.
    pub fn append(&mut self, mut record: Record<'_>) -> io::Result<()> {
        record.sequence = self.sequence + 1;
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        let length = self.length;
        let file = self.opened()?;
        let written = file.write_all(&line).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // What is there of it must not be found after a start. If even that fails, the next record tries it first.
            let taken_back = file.set_len(length).and_then(|()| file.sync_all());
            if taken_back.is_err() {
                self.file = None;
            }
            return Err(error);
        }
        self.length += line.len() as u64;
        self.sequence += 1;
        Ok(())
    }

    /// The file, with whole records and nothing else in it.
    fn opened(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let file = OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(&self.path)?;
                file.set_len(self.length)?;
                file.sync_all()?;
                super::sync_folder(&self.path)?;
                file
            }
        };
        Ok(self.file.insert(file))
    }

    /// The state file has all records up to this one, which ended at this length: they go.
    ///
    /// # Errors
    /// The disk's; then they are still there, which does no harm.
    pub fn drop_until(&mut self, sequence: u64, length: u64) -> io::Result<()> {
        if self.sequence == sequence {
            let file = self.opened()?;
            file.set_len(0)?;
            // A crash before this is on the disk leaves records that the state file has, too.
            self.length = 0;
            return Ok(());
        }
        let bytes = std::fs::read(&self.path)?;
        let rest = bytes.get(usize::try_from(length).unwrap_or(usize::MAX)..);
        let rest = rest.unwrap_or_default();
        super::replace(&self.path, rest)?;
        self.length = rest.len() as u64;
        self.file = None;
        Ok(())
    }
}
