//! Workers on several threads race for the same few flows in a small table: insert, look up, advance, end, sweep, reuse.
//!
//! What is checked at every step: the entry of a flow is whole, stays as it is while the worker holds it, and while it is
//! live it is the only one. At the end nothing is lost, and what the workers were told of insertions, steps and ends adds
//! up to the states of the entries that are left.

// Helpers of tests are tests, too.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pollux_engine::Tick;
use pollux_engine::clock::seconds;
use pollux_engine::connection::{
    ConnectionTable, Direction, FlowKey, ForwardingMethod, Hit, InsertError, NewConnection, Shard,
    State, SweepBudget, TableSize, Timeouts,
};
use pollux_engine::memory::Memory;

const WORKERS: usize = 4;
const FLOWS: u32 = 48;
const SERVERS: u32 = 6;
const RUN: Duration = Duration::from_millis(1500);

/// splitmix64.
fn random(state: &mut u64) -> u32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 32) as u32
}

fn address(number: u32) -> [u8; 16] {
    (0x2001_0db8_u128 << 96 | u128::from(number)).to_be_bytes()
}

/// Pairs of flows have the same client and port: under NAT to the same server their answers are the same.
fn inbound(flow: u32) -> FlowKey {
    let (client, service) = (flow >> 1, flow & 1);
    let ports = (4000 + client) << 16 | 80;
    if client.is_multiple_of(3) {
        FlowKey::v6(6, &address(client), &address(0x100 + service), ports)
    } else {
        FlowKey::v4(6, client, 0x100 + service, ports)
    }
}

fn outbound(flow: u32, server: u32) -> FlowKey {
    let client = flow >> 1;
    let ports = 8080 << 16 | (4000 + client);
    if client.is_multiple_of(3) {
        FlowKey::v6(6, &address(0x200 + server), &address(client), ports)
    } else {
        FlowKey::v4(6, 0x200 + server, client, ports)
    }
}

/// An entry's words must be those of one connection: written by one worker, not torn, not reused under our hands.
fn check_whole(hit: &Hit<'_>) -> u32 {
    let connection = &hit.connection;
    let (flow, server) = (connection.service(), connection.destination());
    assert!(flow < FLOWS && server < SERVERS, "{connection:?}");
    assert_eq!(connection.key(Direction::Inbound), inbound(flow));
    assert_eq!(connection.key(Direction::Outbound), outbound(flow, server));
    server
}

struct Racer<'t> {
    table: &'t ConnectionTable,
    shard: Shard,
    clock: &'t AtomicU32,
    seed: u64,
    timeouts: Timeouts,
    inserted: u64,
    ended: u64,
    tally: Tally,
}

/// Connections of a server in a state: those that came to it less those that left it. Of one worker perhaps negative.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally(BTreeMap<(u32, u8), i64>);

impl Tally {
    fn add(&mut self, server: u32, state: State, difference: i64) {
        let count = self.0.entry((server, state as u8)).or_default();
        *count += difference;
        if *count == 0 {
            self.0.remove(&(server, state as u8));
        }
    }

    fn join(mut self, other: &Self) -> Self {
        for ((server, state), difference) in &other.0 {
            self.add(*server, State::from_number(*state), *difference);
        }
        self
    }
}

impl Racer<'_> {
    fn now(&self) -> Tick {
        Tick(self.clock.load(Ordering::Relaxed))
    }

    fn step(&mut self) {
        let flow = random(&mut self.seed) % FLOWS;
        let key = inbound(flow);
        match random(&mut self.seed) % 9 {
            0..=3 => self.insert(flow),
            4 | 5 => {
                if let Some(hit) = self.table.find(&key, self.now()) {
                    let server = check_whole(&hit);
                    assert_eq!(hit.connection.service(), flow);
                    let answers = self.table.find(&outbound(flow, server), self.now());
                    if let Some(answers) = answers {
                        check_whole(&answers);
                    }
                    let state = if random(&mut self.seed) & 1 == 0 {
                        State::Established
                    } else {
                        State::Close
                    };
                    let side = if answers.is_some() {
                        Direction::Outbound
                    } else {
                        Direction::Inbound
                    };
                    self.advance(&hit, server, side, state);
                }
            }
            6 => {
                // A packet of a server that the flow may have been meant for, or is about to be.
                let server = random(&mut self.seed) % SERVERS;
                if let Some(hit) = self.table.find(&outbound(flow, server), self.now()) {
                    assert_eq!(check_whole(&hit), server);
                    self.advance(&hit, server, Direction::Outbound, State::Close);
                }
            }
            7 => {
                if let Some(hit) = self.table.find(&key, self.now()) {
                    let server = check_whole(&hit);
                    let ended = self.shard.end(self.table, hit.number, |_| true);
                    self.ended += u64::from(ended.is_some());
                    if let Some(ended) = ended {
                        assert_eq!(ended.destination, server);
                        self.tally.add(server, ended.state, -1);
                    }
                }
            }
            _ => {
                let now = self.now();
                let (count, tally) = (&mut self.ended, &mut self.tally);
                self.shard.sweep(
                    self.table,
                    now,
                    SweepBudget::looks(64),
                    |_| false,
                    |ended, _| {
                        *count += 1;
                        tally.add(ended.destination, ended.state, -1);
                    },
                );
            }
        }
    }

    fn advance(&mut self, hit: &Hit<'_>, server: u32, side: Direction, state: State) {
        let moved = hit
            .connection
            .advance(self.now(), &self.timeouts, side, |_, _| state);
        if let Some(moved) = moved {
            self.tally.add(server, moved.before, -1);
            self.tally.add(server, moved.after, 1);
        }
        assert_eq!(check_whole(hit), server, "changed in our hands");
    }

    fn insert(&mut self, flow: u32) {
        let server = random(&mut self.seed) % SERVERS;
        let new = NewConnection {
            inbound: inbound(flow),
            outbound: Some(outbound(flow, server)),
            destination: server,
            service: flow,
            method: ForwardingMethod::Masquerade,
            state: State::SynRecv,
            destination_port: 0,
            template: None,
            control: None,
            counts_packets: false,
            lifetime: None,
            is_synced: false,
        };
        let now = self.now();
        let hit = match self.shard.insert(self.table, &new, now, &self.timeouts) {
            Ok(hit) => {
                self.inserted += 1;
                self.tally.add(server, new.state, 1);
                assert_eq!(check_whole(&hit), server);
                hit
            }
            Err(InsertError::Exists(hit)) => {
                check_whole(&hit);
                assert_eq!(hit.connection.service(), flow);
                hit
            }
            Err(InsertError::ReplyKeyTaken(hit)) => {
                assert_eq!(check_whole(&hit), server);
                assert_eq!(hit.connection.service(), flow ^ 1);
                return;
            }
            Err(InsertError::Full) => return,
        };
        // While it is live, it is the one.
        let was_live = hit.connection.life().is_live();
        let found = self
            .table
            .find(&inbound(flow), now)
            .map(|found| found.number);
        let is_over = |hit: &Hit<'_>| !hit.connection.life().is_alive(now);
        assert!(
            found == Some(hit.number) || !was_live || is_over(&hit),
            "flow {flow}: {found:?} beside {hit:?}"
        );
    }

    fn turn(&mut self) {
        self.table.quiescence().pass(self.shard.worker());
        self.shard.turn(self.table);
    }
}

#[test]
fn racing_workers_agree() {
    let size = TableSize::for_connections(TableSize::CONNECTIONS_MIN);
    let memory = Memory::anonymous(size.lines(), false).unwrap();
    let table = ConnectionTable::create(memory, size, WORKERS, [1, 2, 3, 4, 5, 6]).unwrap();
    let clock = AtomicU32::new(u32::MAX - 1000);
    let started = Instant::now();
    let running = AtomicUsize::new(WORKERS);
    let race = |shard: Shard| {
        let worker = shard.worker();
        let mut timeouts = Timeouts::default();
        timeouts.set(State::Established, 3);
        let mut racer = Racer {
            table: &table,
            shard,
            clock: &clock,
            seed: worker as u64,
            timeouts,
            inserted: 0,
            ended: 0,
            tally: Tally::default(),
        };
        table.quiescence().online(worker);
        let mut loops = 0_u64;
        while started.elapsed() < RUN {
            for _ in 0..1 + random(&mut racer.seed) % 32 {
                racer.step();
            }
            racer.turn();
            loops += 1;
            if loops.is_multiple_of(64) {
                clock.fetch_add(seconds(1) / 10, Ordering::Relaxed);
            }
            if loops.is_multiple_of(1000) {
                // Asleep for a moment: the others must not wait.
                table.quiescence().offline(worker);
                thread::yield_now();
                table.quiescence().online(worker);
            }
        }
        running.fetch_sub(1, Ordering::AcqRel);
        table.quiescence().offline(worker);
        racer
    };
    let race = &race;
    let mut racers: Vec<Racer<'_>> = thread::scope(|scope| {
        let shards: Vec<Shard> = (0..WORKERS)
            .map(|worker| Shard::new(&table, worker, WORKERS, |_| {}))
            .collect();
        let threads: Vec<_> = shards
            .into_iter()
            .map(|shard| scope.spawn(move || race(shard)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let (inserted, ended) = racers.iter().fold((0, 0), |(inserted, ended), racer| {
        (inserted + racer.inserted, ended + racer.ended)
    });
    assert!(
        inserted > 1000,
        "{inserted} inserted: the machine is too slow to show anything"
    );
    let used: Vec<u32> = (0..size.connections())
        .filter(|number| table.connection(*number).unwrap().life().is_used())
        .collect();
    assert_eq!(used.len() as u64, inserted - ended);
    let in_use = racers
        .iter()
        .fold(0_u64, |sum, racer| sum.wrapping_add(racer.shard.in_use()));
    assert_eq!(used.len() as u64, in_use);
    let flows: BTreeSet<u32> = used
        .iter()
        .map(|number| table.connection(*number).unwrap().service())
        .collect();
    assert_eq!(flows.len(), used.len(), "one entry a flow");
    let mut left = Tally::default();
    for number in &used {
        let entry = table.connection(*number).unwrap();
        left.add(entry.destination(), entry.life().state(), 1);
    }
    let told = racers
        .iter()
        .fold(Tally::default(), |sum, racer| sum.join(&racer.tally));
    assert_eq!(told, left, "(server, state): connections");

    // Everything goes, and every entry is free again, for IPv4 in one worker's hands or another's.
    let late = Tick(clock.load(Ordering::Relaxed)).after(seconds(1000));
    for racer in &mut racers {
        for _ in 0..2 {
            let ended = &mut racer.ended;
            racer.shard.sweep(
                &table,
                late,
                SweepBudget::looks(size.connections()),
                |_| false,
                |_, _| *ended += 1,
            );
        }
        racer.turn();
        racer.turn();
    }
    let ended: u64 = racers.iter().map(|racer| racer.ended).sum();
    assert_eq!(ended, inserted);
    for flow in 0..FLOWS {
        assert!(table.find(&inbound(flow), Tick(0)).is_none());
        for server in 0..SERVERS {
            assert!(table.find(&outbound(flow, server), Tick(0)).is_none());
        }
    }
}
