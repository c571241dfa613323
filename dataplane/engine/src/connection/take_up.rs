//! Taking up the table of a process that died: the index is made anew from the entries that were fully inserted.
//!
//! What that costs is memory latency, so it is done by every CPU this process may use, in batches: all lines of a batch
//! are asked for before the first is used. Threads insert at the same time as workers do, each its own entries.

use std::num::NonZero;
use std::sync::atomic::AtomicBool;
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
        let any_controlled = AtomicBool::new(false);
        side_by_side(&chunks, threads, |chunks| {
            for chunk in chunks {
                if self.take_up_chunk(*chunk, now) {
                    any_controlled.store(true, Relaxed);
                }
            }
        });
        if !any_controlled.into_inner() {
            return;
        }
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

    /// Whether there was an entry that another one controls.
    fn take_up_chunk(&self, chunk: u32, now: Tick) -> bool {
        let mut any_controlled = false;
        let mut batch = ArrayVec::<Found, BATCH>::new();
        for number in entries_of(&chunk) {
            self.prefetch_entry(number + LOOK_AHEAD);
            let Some(entry) = self.connection(number) else {
                continue;
            };
            let life = entry.life();
            if life.is_live() && (life.is_alive(now) || life.children() > 0) {
                any_controlled |= entry.control().is_some();
                if life.children() > 0 {
                    entry.forget_children();
                }
                if entry.is_dead_template() {
                    continue;
                }
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
        any_controlled
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
        caller: None, // only where its key is of interest
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
        counts_packets: false,
        lifetime: None,
        is_synced: false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Family, FlowKey, ForwardingMethod, Shard, State, TableSize, Timeouts};
    use super::*;
    use crate::clock::seconds;
    use crate::memory::{LINE_BYTES, Memory};

    fn client(address: u32, port: u32, control: Option<u32>) -> NewConnection {
        let key = FlowKey::v4(6, address, 9, port << 16 | 80);
        NewConnection {
            inbound: if port == 0 { key.template() } else { key },
            outbound: None,
            destination: 7,
            destination_port: 0,
            service: 1,
            method: ForwardingMethod::DirectRoute,
            state: if port == 0 {
                State::Template
            } else {
                State::SynRecv
            },
            template: (port == 0).then_some(Template {
                timeout: seconds(10),
                caller: None,
            }),
            control,
            counts_packets: false,
            lifetime: None,
            is_synced: false,
        }
    }

    /// The next process counts the children anew, whatever the last one had counted when it died; templates without any
    /// end as ever, dead ones are under no key.
    #[test]
    fn templates_have_their_children_again() {
        let size = TableSize::for_connections(TableSize::CONNECTIONS_MIN);
        let path = format!("/dev/shm/pollux-templates-{}", std::process::id());
        let open = || {
            let mut options = std::fs::File::options();
            let file = options.read(true).write(true).create(true).open(&path);
            let file = file.unwrap();
            file.set_len((size.lines() * LINE_BYTES) as u64).unwrap();
            Memory::file(&file, size.lines(), false).unwrap()
        };
        let (now, timeouts) = (Tick(0), Timeouts::default());
        let table = ConnectionTable::create(open(), size, 1, [1, 2, 3, 4, 5, 6]).unwrap();
        let mut shard = Shard::new(&table, 0, 1, |_| {});
        let mut template = |address| {
            let new = client(address, 0, None);
            shard.insert(&table, &new, now, &timeouts).unwrap().number
        };
        let [kept, left, dead] = [1, 2, 3].map(&mut template);
        for (template, port) in [(kept, 4000), (kept, 4001), (dead, 4002)] {
            let address = if template == kept { 1 } else { 3 };
            assert!(table.connection(template).unwrap().adopt(now));
            let new = client(address, port, Some(template));
            shard.insert(&table, &new, now, &timeouts).unwrap();
        }
        // The process dies while it makes one more.
        assert!(table.connection(kept).unwrap().adopt(now));
        let key = client(3, 0, None).inbound;
        table.retire_template(&table.find_template(&key, now).unwrap());
        drop(table);

        let later = Tick(seconds(20));
        let table = ConnectionTable::attach(open(), size, 1, later).unwrap();
        std::fs::remove_file(&path).unwrap();
        let children = |number| table.connection(number).unwrap().life().children();
        assert_eq!([kept, left, dead].map(children), [2, 0, 1]);
        let found = |address| {
            let key = client(address, 0, None).inbound;
            table.find_template(&key, later).map(|hit| hit.number)
        };
        assert_eq!([1, 2, 3].map(found), [Some(kept), None, None]);
        assert!(table.connection(dead).unwrap().is_dead_template());
        // All end after their connections, in a minute.
        let mut shard = Shard::new(&table, 0, 1, |_| {});
        assert_eq!(shard.in_use(), 5);
        let budget = super::super::SweepBudget::looks(size.connections());
        for _ in 0..2 {
            shard.sweep(&table, Tick(seconds(71)), budget, |_| false, |_, _| {});
        }
        assert_eq!(shard.in_use(), 0);
        assert!(shard.has_room(&table, Family::V4));
    }
}
