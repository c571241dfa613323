//! What was read: runs of the program, and the records of a kind with the commands they come from.

use crate::machine::Machine;
use crate::measurement::{Case, Family, Method, PacketMeasurement, Pages, Record, Scheduler};

/// Servers of a service when nothing is said.
pub const SERVERS: u32 = 8;

/// Everything the report is made of, in the order it was read. There is at least one record.
#[derive(Debug)]
pub struct Results {
    /// At least one.
    pub runs: Vec<Run>,
}

/// What one command measured.
#[derive(Debug)]
pub struct Run {
    /// Where, when, and the command.
    pub machine: Machine,
    /// In the order they were measured.
    pub records: Vec<Record>,
}

/// Records of one kind; of those that measure the same, the last.
#[derive(Debug, Clone)]
pub struct Selection<'r, T> {
    found: Vec<(&'r T, &'r Machine)>,
}

impl Results {
    /// Records that `pick` knows. Two with the same key measure the same thing.
    pub fn select<'r, T, K: PartialEq>(
        &'r self,
        pick: impl Fn(&'r Record) -> Option<&'r T>,
        key: impl Fn(&T) -> K,
    ) -> Selection<'r, T> {
        let mut found: Vec<(&T, &Machine)> = Vec::new();
        for run in &self.runs {
            for record in run.records.iter().filter_map(&pick) {
                match found
                    .iter_mut()
                    .find(|(known, _)| key(known) == key(record))
                {
                    Some(place) => *place = (record, &run.machine),
                    None => found.push((record, &run.machine)),
                }
            }
        }
        Selection { found }
    }

    /// Records of `pollux-bench pipeline`.
    pub fn pipeline(&self) -> Selection<'_, PacketMeasurement> {
        self.select(
            |record| match record {
                Record::Pipeline(measured) => Some(measured),
                _ => None,
            },
            |measured| (setting(measured), measured.connections, measured.workers),
        )
    }
}

/// What makes packets differ, but for the numbers that curves go over.
pub fn setting(
    measured: &PacketMeasurement,
) -> (Case, Method, Family, crate::flows::Order, u32, Scheduler) {
    (
        measured.case,
        measured.method,
        measured.family,
        measured.order,
        measured.servers,
        measured.scheduler,
    )
}

impl<'r, T> Selection<'r, T> {
    /// The records.
    pub fn iter(&self) -> impl Iterator<Item = &'r T> {
        self.found.iter().map(|(record, _)| *record)
    }

    /// Those of which this is true.
    pub fn only(&self, mut is_wanted: impl FnMut(&T) -> bool) -> Self {
        let found = self.found.iter().copied();
        Self {
            found: found.filter(|(record, _)| is_wanted(record)).collect(),
        }
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The commands that measured them, each once, as they are written in a shell.
    pub fn commands(&self) -> Vec<String> {
        let mut commands = Vec::new();
        for (_, machine) in &self.found {
            let command = machine.command.join(" ");
            if !commands.contains(&command) {
                commands.push(command);
            }
        }
        commands
    }

    /// Values of a kind that records have, in order, each once.
    pub fn values<V: Ord>(&self, value: impl Fn(&T) -> V) -> Vec<V> {
        let mut values: Vec<V> = self.iter().map(value).collect();
        values.sort_unstable();
        values.dedup();
        values
    }
}

impl<'r> Selection<'r, PacketMeasurement> {
    /// The measurement with these settings, and the default ones for the rest.
    pub fn find(
        &self,
        case: Case,
        method: Method,
        family: Family,
        connections: u32,
        workers: u32,
    ) -> Option<&'r PacketMeasurement> {
        self.iter().find(|measured| {
            is_default(measured)
                && (measured.case, measured.method, measured.family) == (case, method, family)
                && (measured.connections, measured.workers) == (connections, workers)
        })
    }
}

/// Whether a record belongs to the curves everything else is compared with.
pub fn is_default(measured: &PacketMeasurement) -> bool {
    measured.scheduler == Scheduler::Rr
        && measured.servers == SERVERS
        && (measured.order == crate::flows::Order::Random || measured.case == Case::New)
}

/// Whether a table lay in pages that cost more.
pub fn is_on_normal_pages(measured: &PacketMeasurement) -> bool {
    measured.pages == Pages::Normal
}
