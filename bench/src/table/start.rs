//! How long a data plane waits for its table: a new one, an empty one of a process that died, a full one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use pollux_engine::Tick;
use pollux_engine::connection::{
    ConnectionTable, ForwardingMethod, NewConnection, Shard, State, TableSize, Timeouts,
};
use pollux_engine::memory::Memory;

use crate::cores::process_cpu_ns;
use crate::flows::Client;
use crate::interrupt::Interrupted;
use crate::measurement::{Family, StartMeasurement};
use crate::rig::Flows;

/// Where a file is memory.
const DIRECTORY: &str = "/dev/shm";

fn path() -> PathBuf {
    Path::new(DIRECTORY).join(format!("pollux-bench-{}", std::process::id()))
}

/// Whether the process is about to end: then no file is made any more.
static IS_ENDING: Mutex<bool> = Mutex::new(false);

fn is_ending() -> MutexGuard<'static, bool> {
    IS_ENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the file, for a process that is about to end without dropping anything, and lets none be made after it.
pub fn clean_up() {
    let mut is_ending = is_ending();
    *is_ending = true;
    let _ = fs::remove_file(path());
}

/// A file that goes when this does.
struct TableFile(PathBuf);

impl Drop for TableFile {
    fn drop(&mut self) {
        // It is in memory and named after this process: whoever is left to remove it would see which.
        let _ = fs::remove_file(&self.0);
    }
}

impl TableFile {
    fn memory(&self, size: TableSize) -> anyhow::Result<Memory> {
        let is_ending = is_ending();
        ensure!(!*is_ending, Interrupted);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&self.0)?;
        drop(is_ending);
        file.set_len(size.bytes() as u64)?;
        Ok(Memory::file(&file, size.lines(), false)?)
    }

    fn attach(&self, size: TableSize) -> anyhow::Result<(ConnectionTable, Shard, Taken)> {
        let began = Stopwatch::start();
        let table = ConnectionTable::attach(self.memory(size)?, size, 1, Tick(0))?;
        let shard = Shard::new(&table, 0, 1, |_| {});
        Ok((table, shard, began.stop()))
    }
}

/// Starts, dies and starts again, in one process: what the next one would do.
///
/// # Errors
/// No room for the file.
#[allow(clippy::cast_precision_loss)] // some millions
pub fn run(family: Family, connections: u32) -> anyhow::Result<StartMeasurement> {
    let size = match family {
        Family::Ipv4 => TableSize::for_connections(connections),
        Family::Ipv6 => TableSize::with_ipv6(connections, connections),
    };
    let file = TableFile(path());
    let began = Stopwatch::start();
    let memory = file
        .memory(size)
        .with_context(|| format!("cannot make a table in {DIRECTORY}"))?;
    let table = ConnectionTable::create(memory, size, 1, [1, 2, 3, 4, 5, 6])?;
    let shard = Shard::new(&table, 0, 1, |_| {});
    let create = began.stop();
    drop((table, shard));
    let (table, mut shard, attach_empty) = file.attach(size)?;
    fill(&table, &mut shard, family, connections);
    let connected = shard.in_use();
    drop((table, shard));
    let (_table, shard, attach_full) = file.attach(size)?;
    Ok(StartMeasurement {
        family,
        connections: size.connections(),
        create_ms: create.ms,
        attach_empty_ms: attach_empty.ms,
        attach_full_ms: attach_full.ms,
        create_cpu_ms: create.cpu_ms,
        attach_full_cpu_ms: attach_full.cpu_ms,
        connections_found_again: shard.in_use() as f64 / connected as f64,
    })
}

fn fill(table: &ConnectionTable, shard: &mut Shard, family: Family, connections: u32) {
    let flows = Flows::new(family);
    let timeouts = Timeouts::default();
    for flow in 0..connections.into() {
        let client = Client::of_flow(flow);
        let new = NewConnection {
            inbound: flows.inbound(client),
            outbound: Some(flows.outbound(client, 0)),
            destination: 0,
            service: 0,
            method: ForwardingMethod::Masquerade,
            state: State::Established,
            destination_port: 0,
            template: None,
            control: None,
            counts_packets: false,
            lifetime: None,
            is_synced: false,
        };
        // What finds no room is left out, as in a data plane.
        let _ = shard.insert(table, &new, Tick(0), &timeouts);
    }
}

/// What something has taken.
struct Taken {
    ms: f64,
    cpu_ms: f64,
}

struct Stopwatch {
    began: Instant,
    cpu_ns: u64,
}

impl Stopwatch {
    fn start() -> Self {
        Self {
            began: Instant::now(),
            cpu_ns: process_cpu_ns(),
        }
    }

    #[allow(clippy::cast_precision_loss)] // nanoseconds of some seconds
    fn stop(self) -> Taken {
        Taken {
            ms: self.began.elapsed().as_secs_f64() * 1e3,
            cpu_ms: (process_cpu_ns() - self.cpu_ns) as f64 / 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_come_back() {
        let measured = run(Family::Ipv6, 5000).unwrap();
        assert!(measured.connections_found_again > 0.999, "{measured:?}");
        assert!(measured.create_ms > 0.0 && measured.attach_full_ms > 0.0);
        assert!(!path().exists());
    }
}
