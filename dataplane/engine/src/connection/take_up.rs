//! Taking up the table of a process that died: the index is made anew from the entries that were fully inserted.
//!
//! What that costs is memory latency, so it is done by every CPU this process may use, in batches: all lines of a batch
//! are asked for before the first is used. Threads insert at the same time as workers do, each its own entries.

use std::num::NonZero;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use arrayvec::ArrayVec;

use super::entry::{Connection, Direction, NewConnection, Template};
use super::table::{CHUNK, ConnectionTable, KeyHashes};
use crate::clock::Tick;
use crate::memory::Line;

/// Entries whose lines are asked for at a time.
const BATCH: usize = 32;
/// Chunks a thread is worth starting for.
const CHUNKS_EACH: usize = 64;
/// How many entries ahead of the one looked at are asked for.
const LOOK_AHEAD: u32 = 16;

/// A connection that was found.
struct Found {
    number: u32,
    connection: NewConnection,
    hashes: KeyHashes,
}

impl ConnectionTable {
    /// Keeps what was fully inserted and has not expired, frees everything else.
    pub(super) fn take_up(&self, now: Tick) {
        let chunks: Vec<u32> = self.chunks_inherited().collect();
        let worthwhile = chunks.len().div_ceil(CHUNKS_EACH).max(1);
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = threads.min(worthwhile);
        side_by_side(self.buckets(), threads, clear);
        side_by_side(&chunks, threads, |chunks| {
            for number in chunks.iter().flat_map(entries_of) {
                if let Some(entry) = self.connection(number) {
                    entry.forget_children();
                }
            }
        });
        side_by_side(&chunks, threads, |chunks| {
            for chunk in chunks {
                self.take_up_chunk(*chunk, now);
            }
        });
        side_by_side(&chunks, threads, |chunks| {
            for number in chunks.iter().flat_map(entries_of) {
                if let Some(entry) = self.connection(number)
                    && entry.life().is_live()
                {
                    entry.find_control_again(self);
                }
            }
        });
    }

    fn take_up_chunk(&self, chunk: u32, now: Tick) {
        let mut batch = ArrayVec::<Found, BATCH>::new();
        for number in entries_of(&chunk) {
            self.prefetch_entry(number + LOOK_AHEAD);
            let Some(entry) = self.connection(number) else {
                continue;
            };
            let life = entry.life();
            if life.is_live() && (life.is_alive(now) || entry.is_template()) {
                let connection = read(&entry);
                let hashes = self.hashes_of_new(&connection);
                self.prefetch_buckets(hashes);
                batch.push(Found {
                    number,
                    connection,
                    hashes,
                });
                if batch.is_full() {
                    self.relink(&mut batch);
                }
            } else if life.is_used() {
                entry.abandon();
            }
        }
        self.relink(&mut batch);
    }

    fn relink(&self, batch: &mut ArrayVec<Found, BATCH>) {
        for found in batch.drain(..) {
            let linked = self.link(found.number, &found.connection, found.hashes);
            if linked.is_err()
                && let Some(entry) = self.connection(found.number)
            {
                entry.abandon();
            }
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // for iterators over chunks
fn entries_of(chunk: &u32) -> std::ops::Range<u32> {
    chunk * CHUNK..(chunk + 1) * CHUNK
}

/// Runs parts of these side by side, one in this thread. Where no thread is to be had, this one does its work.
fn side_by_side<T: Sync>(all: &[T], threads: usize, work: impl Fn(&[T]) + Sync) {
    let work = &work;
    let mut parts = all.chunks(all.len().div_ceil(threads).max(1));
    let own = parts.next();
    thread::scope(|scope| {
        for part in parts {
            let started = thread::Builder::new().spawn_scoped(scope, move || work(part));
            if started.is_err() {
                work(part);
            }
        }
        own.into_iter().for_each(work);
    });
}

fn clear(lines: &[Line]) {
    for line in lines {
        line.0.iter().for_each(|word| word.store(0, Relaxed));
    }
}

/// What a written entry was made of.
fn read(entry: &Connection<'_>) -> NewConnection {
    let template = entry.is_template().then(|| Template {
        timeout: u32::try_from(entry.route_word().load(Relaxed)).unwrap_or(0),
    });
    let outbound = entry
        .has_outbound_key()
        .then(|| entry.key(Direction::Outbound));
    NewConnection {
        inbound: entry.key(Direction::Inbound),
        outbound,
        destination: entry.destination(),
        destination_port: entry.destination_port(),
        service: entry.service(),
        method: entry.method(),
        state: entry.life().state(),
        template,
        control: entry.control(),
    }
}
