//! Several workers, each on a thread, forward frames of the same few flows while the configuration changes under them.
//! At the end every packet has met its fate, and every destination's counts are those of its entries.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use pollux_engine::clock::seconds;
use pollux_engine::connection::{ConnectionTable, Shard, TableSize};
use pollux_engine::counters::WorkerCounters;
use pollux_engine::fragment::Fragments;
use pollux_engine::frame::HeapFrame;
use pollux_engine::memory::Memory;
use pollux_engine::service::ConnectionCounts;
use pollux_engine::{BURST, Context, Fate, Snapshot, Tick, Verdict, Worker};
use pollux_tests::fuzz::choices::{Choices, Seeded};
use pollux_tests::fuzz::frames;
use pollux_tests::golden::administrator::Administrator;
use pollux_tests::golden::command::{Command, parse};
use pollux_tests::golden::topology::{Topology, port};
use pollux_tests::golden::trace::Wire;

const WORKERS: usize = 3;
/// So long at least, and until so much was done that it shows something, however slow the machine is.
const RUN: Duration = Duration::from_millis(2500);
const CREATED_MIN: u64 = 500;
const FORWARDED_MIN: u64 = 5000;
/// But no more changes than this, of a millisecond or more each: then nothing gets through at all.
const GENERATIONS_MAX: u64 = 60_000;

const FIRST: [&str; 18] = [
    "ipvsadm -A -t 192.0.2.100:80 -s rr",
    "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.11:80 -m",
    "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.12:81 -m -x 4",
    "ipvsadm -A -u 192.0.2.100:53 -s wrr",
    "ipvsadm -a -u 192.0.2.100:53 -r 10.1.0.13:53 -m -w 3",
    "ipvsadm -a -u 192.0.2.100:53 -r 10.1.0.11 -g",
    "ipvsadm -A -t [2001:db8::100]:80 -s wlc",
    "ipvsadm -a -t [2001:db8::100]:80 -r [2001:db8:1::11]:80 -m",
    "ipvsadm -a -t [2001:db8::100]:80 -r [2001:db8:1::12] -i -w 2",
    "ipvsadm -A -t 192.0.2.100:81 -s wlc",
    "ipvsadm -a -t 192.0.2.100:81 -r 10.1.0.12:81 -m",
    "ipvsadm -a -t 192.0.2.100:81 -r 10.1.0.13 -g",
    "ipvsadm -A -t 192.0.2.100:53 -s rr -p 20",
    "ipvsadm -a -t 192.0.2.100:53 -r 10.1.0.11:53 -m",
    "ipvsadm -a -t 192.0.2.100:53 -r 10.1.0.12:53 -m",
    "ipvsadm -A -u [2001:db8::100]:80 -s rr -p 2 -M 64 --ops",
    "ipvsadm -a -u [2001:db8::100]:80 -r [2001:db8:1::11]:80 -m",
    "ipvsadm -a -u [2001:db8::100]:80 -r [2001:db8:1::12]:80 -m",
];

/// What the administrator does while packets flow; every server was there before, so its number is known.
const LATER: [&str; 17] = [
    "ipvsadm -d -t 192.0.2.100:80 -r 10.1.0.11:80",
    "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.11:80 -m -w 2",
    "ipvsadm -e -t 192.0.2.100:80 -r 10.1.0.12:81 -m -w 0",
    "ipvsadm -e -t 192.0.2.100:80 -r 10.1.0.12:81 -m -x 3 -y 1",
    "ipvsadm -d -u 192.0.2.100:53 -r 10.1.0.13:53",
    "ipvsadm -a -u 192.0.2.100:53 -r 10.1.0.13:53 -m -w 5",
    "ipvsadm -E -t 192.0.2.100:80 -s wrr",
    "ipvsadm -E -t 192.0.2.100:80 -s rr",
    "ipvsadm -e -t [2001:db8::100]:80 -r [2001:db8:1::11]:80 -m -w 3",
    "ipvsadm -d -t 192.0.2.100:81 -r 10.1.0.12:81",
    "ipvsadm -a -t 192.0.2.100:81 -r 10.1.0.12:81 -m",
    "ipvsadm --set 30 5 3",
    "ipvsadm -d -t 192.0.2.100:53 -r 10.1.0.11:53",
    "ipvsadm -a -t 192.0.2.100:53 -r 10.1.0.11:53 -m",
    "ipvsadm -E -u [2001:db8::100]:80 -s rr -p 2 -M 64",
    "ipvsadm -E -u [2001:db8::100]:80 -s rr -p 3 --ops",
    "ipvsadm -e -u [2001:db8::100]:80 -r [2001:db8:1::12]:80 -m -w 2",
];

/// What the threads share.
struct Lab {
    table: ConnectionTable,
    snapshot: Mutex<Arc<Snapshot>>,
    generation: AtomicU64,
    clock: AtomicU32,
    stop: AtomicBool,
}

fn apply(administrator: &mut Administrator, line: &str) {
    match parse(line) {
        // A server that is there already, or not: refused, as it should be.
        Ok(Command::Change(change)) => drop(administrator.apply(&change)),
        other => panic!("{line}: {other:?}"),
    }
}

impl Lab {
    fn now(&self) -> Tick {
        Tick(self.clock.load(Ordering::Relaxed))
    }

    fn publish(&self, administrator: &mut Administrator, generation: u64) {
        let mut current = self.snapshot.lock().unwrap();
        let table = Topology::default().forwarding_table(u32::try_from(generation).unwrap());
        let spec = administrator.spec(generation);
        *current = Arc::new(Snapshot::compile(
            &spec,
            Arc::new(table),
            Some(&current),
            WORKERS,
        ));
        self.generation.store(generation, Ordering::Release);
    }

    /// Forwards until told to stop; whatever a caller of the engine does.
    fn work(&self, mut worker: Worker, number: usize) -> Worker {
        let mut seeded = Seeded(number as u64);
        let mut fragments = Fragments::default();
        let mut snapshot = Arc::clone(&self.snapshot.lock().unwrap());
        self.table.quiescence().online(number);
        while !self.stop.load(Ordering::Relaxed) {
            if snapshot.generation() != self.generation.load(Ordering::Acquire) {
                snapshot = Arc::clone(&self.snapshot.lock().unwrap());
            }
            let context = Context {
                table: &self.table,
                snapshot: &snapshot,
                now: self.now(),
            };
            let decisions = seeded.bytes(300);
            let mut choices = Choices::new(&decisions);
            let wire = choices.of([Wire::Cl, Wire::Cl, Wire::Rs]);
            let count = 1 + choices.below(12);
            let mut burst: Vec<HeapFrame> = (0..count)
                .map(|_| HeapFrame::new(&frames::frame(&mut choices, wire)))
                .collect();
            let mut verdicts = ArrayVec::<Verdict, BURST>::new();
            worker.process(&context, port(wire), &mut burst, &mut verdicts);
            let spare = &mut || Some(HeapFrame::new(&[]));
            for (frame, verdict) in burst.into_iter().zip(verdicts) {
                match verdict {
                    Verdict::Gather => {
                        fragments.gather(&mut worker, &context, port(wire), frame, spare);
                    }
                    Verdict::Split => {
                        fragments.split(&mut worker, &context, port(wire), frame, spare);
                    }
                    verdict => settle(&worker, port(wire), verdict),
                }
                for out in fragments.outgoing() {
                    settle(&worker, out.ingress, out.verdict);
                }
            }
            worker.sweep(&context, 32);
            worker.turn(&self.table);
        }
        // Whatever waits is given up, so that all is accounted for.
        let far = self.now().after(seconds(100));
        fragments.expire(&worker, far);
        self.table.quiescence().offline(number);
        worker
    }

    fn check_counts(&self) {
        let snapshot = self.snapshot.lock().unwrap();
        let mut recount = BTreeMap::<u32, (ConnectionCounts, u32)>::new();
        let mut children = BTreeMap::<u32, u64>::new();
        let entries = (0..self.table.size().connections()).filter_map(|n| self.table.connection(n));
        for entry in entries.filter(|entry| entry.life().is_used()) {
            if let Some(control) = entry.control() {
                *children.entry(control).or_default() += 1;
            }
            let (counts, templates) = recount.entry(entry.destination()).or_default();
            if entry.is_template() {
                *templates += 1;
            } else if entry.life().state().is_active() {
                counts.active += 1;
            } else {
                counts.inactive += 1;
            }
        }
        for number in 0.. {
            let Some(destination) = snapshot.destination(number) else {
                break;
            };
            let entries = recount.remove(&number).unwrap_or_default();
            let shared = &destination.shared;
            let counted = (shared.counts(), shared.persistent_connections());
            assert_eq!(counted, entries, "destination {number}");
        }
        assert!(recount.is_empty());
        for number in 0..self.table.size().connections() {
            let life = self.table.connection(number).unwrap().life();
            let expected = children.remove(&number).unwrap_or_default();
            assert_eq!(life.children(), expected, "children of entry {number}");
        }
    }
}

/// Connections created and packets forwarded by all workers.
fn done(counters: &[Arc<WorkerCounters>]) -> (u64, u64) {
    let created = counters.iter().map(|own| own.connections_created.get());
    let forwarded = counters
        .iter()
        .map(|own| own.port(0).unwrap().fate(Fate::Forwarded));
    (created.sum(), forwarded.sum())
}

fn is_enough((created, forwarded): (u64, u64)) -> bool {
    created > CREATED_MIN && forwarded > FORWARDED_MIN
}

#[test]
fn nothing_is_lost_or_counted_twice() {
    let mut administrator = Administrator::default();
    FIRST
        .iter()
        .for_each(|line| apply(&mut administrator, line));
    let size = TableSize::for_connections(TableSize::CONNECTIONS_MIN);
    let memory = Memory::anonymous(size.lines(), false).unwrap();
    let table = ConnectionTable::create(memory, size, WORKERS, [9, 8, 7, 6, 5, 4]).unwrap();
    let forwarding = Arc::new(Topology::default().forwarding_table(1));
    let first = Snapshot::compile(&administrator.spec(1), forwarding, None, WORKERS);
    let lab = Lab {
        table,
        snapshot: Mutex::new(Arc::new(first)),
        generation: AtomicU64::new(1),
        clock: AtomicU32::new(u32::MAX - seconds(30)),
        stop: AtomicBool::new(false),
    };
    let shards: Vec<Shard> = (0..WORKERS)
        .map(|worker| Shard::new(&lab.table, worker, WORKERS, |_| {}))
        .collect();
    let counters: Vec<Arc<WorkerCounters>> = (0..WORKERS)
        .map(|_| Arc::new(WorkerCounters::new(2)))
        .collect();
    let mut workers: Vec<Worker> = thread::scope(|scope| {
        let lab = &lab;
        let threads: Vec<_> = shards
            .into_iter()
            .zip(&counters)
            .enumerate()
            .map(|(number, (shard, counters))| {
                let worker = Worker::new(shard, Arc::clone(counters));
                scope.spawn(move || lab.work(worker, number))
            })
            .collect();
        let mut seeded = Seeded(99);
        let started = Instant::now();
        for generation in 2..GENERATIONS_MAX {
            if started.elapsed() > RUN && is_enough(done(&counters)) {
                break;
            }
            apply(&mut administrator, LATER[seeded.below(LATER.len())]);
            lab.publish(&mut administrator, generation);
            lab.clock.fetch_add(seconds(1) / 4, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(1));
        }
        lab.stop.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    for (worker, counters) in counters.iter().enumerate() {
        for port in [0, 1] {
            let counters = counters.port(port).unwrap();
            let fates: u64 = Fate::ALL.into_iter().map(|fate| counters.fate(fate)).sum();
            assert_eq!(
                counters.received.get(),
                fates,
                "worker {worker}, port {port}"
            );
        }
    }
    let (created, forwarded) = done(&counters);
    assert!(
        is_enough((created, forwarded)),
        "{created} created, {forwarded} forwarded"
    );
    lab.check_counts();
    let snapshot = Arc::clone(&lab.snapshot.lock().unwrap());
    let late = Context {
        table: &lab.table,
        snapshot: &snapshot,
        now: lab.now().after(seconds(2000)),
    };
    for worker in &mut workers {
        worker.sweep(&late, size.connections());
        worker.sweep(&late, size.connections());
    }
    // Templates whose connections other workers have ended.
    for worker in &mut workers {
        worker.sweep(&late, size.connections());
        worker.sweep(&late, size.connections());
    }
    lab.check_counts();
    let in_use = workers.iter().fold(0_u64, |sum, worker| {
        sum.wrapping_add(worker.shard().in_use())
    });
    assert_eq!(in_use, 0);
}

/// What the caller counts.
fn settle(worker: &Worker, ingress: u16, verdict: Verdict) {
    let counters = worker.counters().port(ingress.into()).unwrap();
    match verdict {
        Verdict::Forward { .. } => counters.count(Fate::Forwarded),
        Verdict::Punt(fate) => counters.count(fate),
        Verdict::Hold { .. } => counters.count(Fate::NeighbourUnresolved),
        Verdict::Answer { .. } | Verdict::HoldAnswer { .. } | Verdict::Drop => {}
        Verdict::Gather | Verdict::Split => panic!("of a frame that was gathered or cut"),
    }
}
