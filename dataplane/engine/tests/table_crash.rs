//! A process is killed while two of its threads write the table; the next one takes the file up. What was fully inserted
//! is there, under all its keys; what was half-written is free; nothing is lost.

// Helpers of tests are tests, too.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use pollux_engine::Tick;
use pollux_engine::clock::seconds;
use pollux_engine::connection::{
    ConnectionTable, Direction, FlowKey, ForwardingMethod, InsertError, NewConnection, Shard,
    State, TableError, TableSize, Timeouts,
};
use pollux_engine::memory::{LINE_BYTES, Memory};

const WORKERS: usize = 2;
const FLOWS: u32 = 3000;
const NOW: Tick = Tick(1000);
/// Says to the child which file to write.
const FILE_VARIABLE: &str = "POLLUX_TEST_TABLE";

fn size() -> TableSize {
    TableSize::for_connections(2048)
}

fn address(number: u32) -> [u8; 16] {
    (0x2001_0db8_u128 << 96 | u128::from(number)).to_be_bytes()
}

/// Everything about a flow's connection follows from the flow.
fn connection(flow: u32) -> NewConnection {
    let ports = (4000 + flow % 7) << 16 | 80;
    let answers = 8080 << 16 | (4000 + flow % 7);
    let (inbound, outbound) = if flow.is_multiple_of(5) {
        (
            FlowKey::v6(6, &address(flow), &address(1), ports),
            FlowKey::v6(6, &address(2), &address(flow), answers),
        )
    } else {
        (
            FlowKey::v4(6, flow, 1, ports),
            FlowKey::v4(6, 2, flow, answers),
        )
    };
    NewConnection {
        inbound,
        outbound: Some(outbound),
        destination: flow,
        service: flow ^ 0xffff,
        method: if flow.is_multiple_of(3) {
            ForwardingMethod::Tunnel
        } else {
            ForwardingMethod::Masquerade
        },
        state: State::Established,
        destination_port: 0,
        template: None,
        control: None,
        counts_packets: false,
        lifetime: None,
        is_synced: false,
    }
}

fn open(path: &Path) -> Memory {
    let file = File::options().read(true).write(true).open(path).unwrap();
    Memory::file(&file, size().lines(), false).unwrap()
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new("/dev/shm").join(format!("pollux-{name}-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        file.set_len((size().lines() * LINE_BYTES) as u64).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing to be done about a file that will not go.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Not a test of its own: what the process does that is killed.
#[test]
#[ignore = "run by the other tests of this file"]
fn write_until_killed() {
    let Ok(path) = std::env::var(FILE_VARIABLE) else {
        return;
    };
    let memory = open(Path::new(&path));
    let table = ConnectionTable::create(memory, size(), WORKERS, [3, 1, 4, 1, 5, 9]).unwrap();
    let shards: Vec<Shard> = (0..WORKERS)
        .map(|worker| Shard::new(&table, worker, WORKERS, |_| {}))
        .collect();
    (0..WORKERS).for_each(|worker| table.quiescence().online(worker));
    thread::scope(|scope| {
        for mut shard in shards {
            let table = &table;
            scope.spawn(move || {
                let mut seed = shard.worker() as u64;
                let mut has_room = true;
                loop {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let flow = (seed >> 33) as u32 % FLOWS;
                    if seed >> 63 == 0 {
                        let new = connection(flow);
                        let inserted = shard.insert(table, &new, NOW, &Timeouts::default());
                        // What the other thread has not let go of yet is no room: on a busy machine that is everything,
                        // and ending more would leave an empty table behind.
                        has_room = !matches!(inserted, Err(InsertError::Full));
                    } else if has_room && let Some(hit) = table.find(&connection(flow).inbound, NOW)
                    {
                        shard.end(table, hit.number, |_| true);
                    }
                    table.quiescence().pass(shard.worker());
                    shard.turn(table);
                }
            });
        }
    });
}

/// Runs a process that writes the table, and kills it so long after it has made the table; unless at once, after it has
/// also taken some chunks of entries, however long a busy machine lets it wait for that.
fn killed_after(path: &Path, run: Duration) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "write_until_killed"])
        .env(FILE_VARIABLE, path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let memory = open(path);
    let header = &memory.lines()[0].0;
    let chunks_taken = || header[5].load(Ordering::Relaxed) + header[6].load(Ordering::Relaxed);
    let is_made = || header[0].load(Ordering::Relaxed) != 0;
    let is_busy = || run.is_zero() || chunks_taken() > 2;
    while !is_made() || !is_busy() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "the child has ended by itself"
        );
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(run);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The flows of a table, each of which must be whole.
fn flows(table: &ConnectionTable) -> BTreeSet<u32> {
    let mut flows = BTreeSet::new();
    for number in 0..size().connections() {
        let entry = table.connection(number).unwrap();
        if !entry.life().is_used() {
            continue;
        }
        assert!(entry.life().is_live(), "half-written");
        let flow = entry.destination();
        let expected = connection(flow);
        assert!(flows.insert(flow), "flow {flow} twice");
        assert_eq!(entry.service(), expected.service);
        assert_eq!(entry.method(), expected.method);
        let hit = table.find(&expected.inbound, NOW).unwrap();
        assert_eq!((hit.number, hit.direction), (number, Direction::Inbound));
        let answers = table.find(&expected.outbound.unwrap(), NOW);
        let answers = answers.map(|hit| (hit.number, hit.direction));
        let nat = expected.method == ForwardingMethod::Masquerade;
        assert_eq!(answers, nat.then_some((number, Direction::Outbound)));
    }
    flows
}

#[test]
fn a_killed_process_leaves_a_whole_table() {
    let mut largest = 0;
    for round in 0..12 {
        let scratch = Scratch::new("crash");
        killed_after(&scratch.0, Duration::from_millis(5 * round));
        let table = ConnectionTable::attach(open(&scratch.0), size(), 1, NOW).unwrap();
        let before = flows(&table);
        largest = largest.max(before.len());
        let mut found = 0;
        let mut shard = Shard::new(&table, 0, 1, |_| found += 1);
        table.quiescence().online(0);
        assert_eq!(found, before.len());
        assert_eq!(shard.in_use(), before.len() as u64);
        // Every other entry is free: flows that are new fill the table.
        let mut refused = 0;
        for flow in FLOWS.. {
            match shard.insert(&table, &connection(flow), NOW, &Timeouts::default()) {
                Ok(_) => refused = 0,
                Err(InsertError::Full) if refused == 50 => break,
                // IPv6 may be full long before IPv4; a slot may be missing where the index is crowded.
                Err(InsertError::Full) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
            shard.turn(&table);
            table.quiescence().pass(0);
        }
        assert_eq!(shard.in_use(), u64::from(size().connections()));
        assert!(
            before
                .iter()
                .all(|flow| table.find(&connection(*flow).inbound, NOW).is_some())
        );
    }
    assert!(
        largest > 10,
        "no process lived long enough to show anything: {largest}"
    );
}

#[test]
fn what_has_expired_meanwhile_is_gone() {
    let scratch = Scratch::new("expired");
    let table = ConnectionTable::create(open(&scratch.0), size(), 1, [1; 6]).unwrap();
    let mut shard = Shard::new(&table, 0, 1, |_| {});
    for flow in 0..100 {
        let state = if flow < 40 {
            State::Close
        } else {
            State::Established
        };
        let new = NewConnection {
            state,
            ..connection(flow)
        };
        shard
            .insert(&table, &new, NOW, &Timeouts::default())
            .unwrap();
    }
    drop(table);
    let later = NOW.after(seconds(11));
    let table = ConnectionTable::attach(open(&scratch.0), size(), 1, later).unwrap();
    assert_eq!(flows(&table), (40..100).collect());
}

#[test]
fn another_table_is_told_from_ones_own() {
    let scratch = Scratch::new("other");
    let attach = |size: TableSize| {
        ConnectionTable::attach(open(&scratch.0), size, 1, NOW)
            .map(|_| ())
            .unwrap_err()
    };
    assert_eq!(attach(size()), TableError::Magic);
    drop(ConnectionTable::create(open(&scratch.0), size(), 1, [1; 6]).unwrap());
    let smaller = TableSize::for_connections(1024);
    assert_eq!(
        attach(smaller),
        TableError::Size {
            found: 2048,
            wanted: 1024
        }
    );
    let larger = TableSize::for_connections(1 << 20);
    assert_eq!(
        attach(larger),
        TableError::Size {
            found: 2048,
            wanted: 1 << 20
        }
    );
    let made = ConnectionTable::create(open(&scratch.0), larger, 1, [1; 6]);
    assert!(matches!(made.map(|_| ()), Err(TableError::TooSmall { .. })));
    let memory = open(&scratch.0);
    memory.lines()[0].0[1].fetch_add(1, Ordering::Relaxed);
    assert!(matches!(attach(size()), TableError::Version(_)));
}
