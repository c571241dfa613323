//! Workers meet a client's first packets at the same moment: one template wins, and every connection goes where it says.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use arrayvec::ArrayVec;
use pollux_engine::clock::seconds;
use pollux_engine::connection::{ConnectionTable, Direction, Shard, TableSize};
use pollux_engine::counters::WorkerCounters;
use pollux_engine::frame::HeapFrame;
use pollux_engine::memory::Memory;
use pollux_engine::{BURST, Context, Snapshot, Tick, Verdict, Worker};
use pollux_tests::golden::administrator::Administrator;
use pollux_tests::golden::command::{Command, parse};
use pollux_tests::golden::packet::{ethernet, tcp};
use pollux_tests::golden::topology::{GATEWAY_MAC, Topology, mac, port};
use pollux_tests::golden::trace::Wire;

const WORKERS: usize = 3;
const ROUNDS: u32 = 300;
const FLOWS: u16 = 8;

/// Each worker opens its own flows of the round's client.
fn burst(round: u32, worker: usize) -> Vec<HeapFrame> {
    let [.., network, host] = round.to_be_bytes();
    (0..FLOWS)
        .map(|flow| {
            let port = 4000 + flow * 16 + u16::try_from(worker).unwrap();
            let client = format!("198.51.{network}.{}:{port}", host.max(1));
            let service = "192.0.2.100:80".parse().unwrap();
            let packet = tcp(client.parse().unwrap(), service, "S", &[]);
            HeapFrame::new(&ethernet(mac(Wire::Cl), GATEWAY_MAC, &packet))
        })
        .collect()
}

fn snapshot() -> Snapshot {
    let mut administrator = Administrator::default();
    let servers = (1..=5).map(|n| format!("ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.1{n}:80 -m"));
    let service = "ipvsadm -A -t 192.0.2.100:80 -s rr -p 60".to_owned();
    for line in std::iter::once(service).chain(servers) {
        match parse(&line) {
            Ok(Command::Change(change)) => administrator.apply(&change).unwrap(),
            other => panic!("{line}: {other:?}"),
        }
    }
    let forwarding = Arc::new(Topology::default().forwarding_table(1));
    Snapshot::compile(&administrator.spec(1), forwarding, None, WORKERS)
}

#[test]
fn one_template_wins() {
    let size = TableSize::for_connections(8192);
    let memory = Memory::anonymous(size.lines(), false).unwrap();
    let table = ConnectionTable::create(memory, size, WORKERS, [6, 5, 4, 3, 2, 1]).unwrap();
    let snapshot = snapshot();
    let workers: Vec<Worker> = (0..WORKERS)
        .map(|number| Shard::new(&table, number, WORKERS, |_| {}))
        .map(|shard| Worker::new(shard, Arc::new(WorkerCounters::new(2))))
        .collect();
    (0..WORKERS).for_each(|number| table.quiescence().online(number));
    let barrier = Barrier::new(WORKERS);
    let wrong = AtomicBool::new(false);
    thread::scope(|scope| {
        for (number, mut worker) in workers.into_iter().enumerate() {
            let (table, snapshot, barrier, wrong) = (&table, &snapshot, &barrier, &wrong);
            scope.spawn(move || {
                for round in 1..=ROUNDS {
                    // A minute and more later: what the clients before had is over, and its entries are used again.
                    let now = Tick(seconds(round * 70));
                    let context = Context {
                        table,
                        snapshot,
                        now,
                    };
                    let mut frames = burst(round, number);
                    let mut verdicts = ArrayVec::<Verdict, BURST>::new();
                    barrier.wait();
                    worker.process(&context, port(Wire::Cl), &mut frames, &mut verdicts);
                    barrier.wait();
                    if number == 0 {
                        // The others wait: it is told when all are done.
                        let told = catch_unwind(AssertUnwindSafe(|| {
                            check(table, snapshot, now, round);
                        }));
                        wrong.fetch_or(told.is_err(), Ordering::Relaxed);
                    }
                    barrier.wait();
                    let later = Context {
                        now: now.after(seconds(69)),
                        ..context
                    };
                    for _ in 0..2 {
                        worker.sweep(&later, size.connections());
                        worker.turn(table);
                        barrier.wait();
                    }
                }
            });
        }
    });
    assert!(!wrong.into_inner(), "see above");
}

fn check(table: &ConnectionTable, snapshot: &Snapshot, now: Tick, round: u32) {
    let entries: Vec<_> = (0..table.size().connections())
        .filter_map(|number| Some((number, table.connection(number)?)))
        .filter(|(_, entry)| entry.life().is_alive(now))
        .collect();
    let (templates, connections): (Vec<_>, Vec<_>) =
        entries.iter().partition(|(_, entry)| entry.is_template());
    let [(number, template)] = *templates else {
        panic!("round {round}: {} templates", templates.len());
    };
    let flows: BTreeSet<u16> = connections
        .iter()
        .map(|(_, entry)| entry.key(Direction::Inbound).source().port())
        .collect();
    assert_eq!(flows.len(), WORKERS * usize::from(FLOWS), "round {round}");
    assert_eq!(connections.len(), flows.len(), "round {round}");
    for (_, connection) in &connections {
        assert_eq!(connection.control(), Some(number), "round {round}");
        assert_eq!(connection.destination(), template.destination());
    }
    assert_eq!(template.life().children(), connections.len() as u64);
    let shared = &snapshot.destination(template.destination()).unwrap().shared;
    assert_eq!(shared.persistent_connections(), 1, "round {round}");
    assert_eq!(shared.counts().total(), connections.len() as u64);
}
