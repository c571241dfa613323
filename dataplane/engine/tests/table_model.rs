//! The connection table against a plain map that knows the same rules: insert if absent, both directions, time, reply
//! keys, ends and sweeps, in any order.

// Helpers of tests are tests, too.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use pollux_engine::Tick;
use pollux_engine::clock::seconds;
use pollux_engine::connection::tcp_state::Side;
use pollux_engine::connection::{
    ConnectionTable, Direction, FlowKey, ForwardingMethod, InsertError, NewConnection, Shard,
    State, SweepBudget, TableSize, Timeouts,
};
use pollux_engine::memory::Memory;
use proptest::prelude::*;

const FLOWS: u8 = 40;
const SERVERS: u8 = 3;
const SEED: [u64; 6] = [11, 22, 33, 44, 55, 66];
/// An entry is refreshed in steps of half a second, and lives that much longer.
const REFRESH_TICKS: u32 = 50;

/// The flow of a number: a few clients and two virtual services, so that under NAT different flows may have the same
/// answers.
fn inbound(flow: u8) -> FlowKey {
    let client = u32::from(flow / 4);
    let ports = (4000 + client) << 16 | 80;
    let service = u32::from(flow & 1);
    if flow & 2 == 0 {
        FlowKey::v4(6, 0xc633_6400 + client, 0xc000_0200 + service, ports)
    } else {
        let address = |number: u32| (0x2001_0db8_u128 << 96 | u128::from(number)).to_be_bytes();
        FlowKey::v6(6, &address(client), &address(0x100 + service), ports)
    }
}

/// As answers come from a server, whatever the virtual service.
fn outbound(flow: u8, server: u8) -> FlowKey {
    let client = u32::from(flow / 4);
    let ports = 8080 << 16 | (4000 + client);
    if flow & 2 == 0 {
        FlowKey::v4(
            6,
            0x0a01_0000 + u32::from(server),
            0xc633_6400 + client,
            ports,
        )
    } else {
        let address = |number: u32| (0x2001_0db8_u128 << 96 | u128::from(number)).to_be_bytes();
        FlowKey::v6(
            6,
            &address(0x200 + u32::from(server)),
            &address(client),
            ports,
        )
    }
}

/// What a test does to both.
#[derive(Debug, Clone)]
enum Step {
    Insert {
        flow: u8,
        server: u8,
        nat: bool,
        state: State,
    },
    Advance {
        flow: u8,
        state: State,
        direction: Direction,
    },
    End {
        flow: u8,
    },
    Sleep {
        ticks: u32,
    },
    Sweep {
        budget: u32,
    },
    Timeouts {
        seconds: u32,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let state = || prop::sample::select(&State::ALL[1..]);
    let step = prop_oneof![
        8 => (0..FLOWS, 0..SERVERS, any::<bool>(), state())
            .prop_map(|(flow, server, nat, state)| Step::Insert { flow, server, nat, state }),
        6 => (0..FLOWS, state(), prop::sample::select(&[Direction::Inbound, Direction::Outbound][..]))
            .prop_map(|(flow, state, direction)| Step::Advance { flow, state, direction }),
        2 => (0..FLOWS).prop_map(|flow| Step::End { flow }),
        3 => prop_oneof![1_u32..100, 500_u32..13_000].prop_map(|ticks| Step::Sleep { ticks }),
        2 => (1_u32..2000).prop_map(|budget| Step::Sweep { budget }),
        1 => (1_u32..100).prop_map(|seconds| Step::Timeouts { seconds }),
    ];
    prop::collection::vec(step, 1..120)
}

#[derive(Debug, Clone, Copy)]
struct Modelled {
    server: u8,
    nat: bool,
    answered: bool,
    state: State,
    expires: u64,
}

/// The map, and the time without wrapping. Entries whose time has come stay until they are swept or in somebody's way.
#[derive(Debug, Default)]
struct Model {
    flows: BTreeMap<u8, Modelled>,
    now: u64,
    timeouts: Timeouts,
}

impl Model {
    fn with_answers(&self, flow: u8, server: u8) -> Option<u8> {
        let key = outbound(flow, server);
        let is_it =
            |(flow, entry): &(&u8, &Modelled)| entry.nat && outbound(**flow, entry.server) == key;
        self.flows.iter().find(is_it).map(|(flow, _)| *flow)
    }

    fn alive(&self, flow: u8) -> Option<&Modelled> {
        self.flows
            .get(&flow)
            .filter(|entry| entry.expires > self.now)
    }
}

/// The table, driven as a worker drives it.
struct Driven {
    table: ConnectionTable,
    shard: Shard,
    model: Model,
    start: Tick,
}

impl Driven {
    fn new(start: Tick) -> Self {
        let size = TableSize::for_connections(TableSize::CONNECTIONS_MIN);
        let memory = Memory::anonymous(size.lines(), false).unwrap();
        let table = ConnectionTable::create(memory, size, 1, SEED).unwrap();
        table.quiescence().online(0);
        let shard = Shard::new(&table, 0, 1, |_| {});
        Self {
            table,
            shard,
            model: Model::default(),
            start,
        }
    }

    #[allow(clippy::cast_possible_truncation)] // wraps, as the clock does
    fn now(&self) -> Tick {
        self.start.after(self.model.now as u32)
    }

    fn insert(&mut self, flow: u8, server: u8, nat: bool, state: State) {
        let new = NewConnection {
            inbound: inbound(flow),
            outbound: Some(outbound(flow, server)),
            destination: flow.into(),
            service: server.into(),
            method: if nat {
                ForwardingMethod::Masquerade
            } else {
                ForwardingMethod::DirectRoute
            },
            state,
            destination_port: 0,
            template: None,
            control: None,
            counts_packets: false,
            lifetime: None,
            is_synced: false,
        };
        let now = self.now();
        let answers_taken = if nat {
            self.model.with_answers(flow, server)
        } else {
            None
        };
        let inserted = self
            .shard
            .insert(&self.table, &new, now, &self.model.timeouts);
        match (
            inserted,
            answers_taken,
            self.model.flows.contains_key(&flow),
        ) {
            (Ok(hit), None, false) => {
                assert_eq!(hit.connection.key(Direction::Inbound), inbound(flow));
                let expires = self.model.now + u64::from(self.model.timeouts.of(state));
                self.model.flows.insert(
                    flow,
                    Modelled {
                        server,
                        nat,
                        answered: false,
                        state,
                        expires,
                    },
                );
            }
            (Err(InsertError::Exists(hit)), taken, true) if taken.is_none_or(|by| by == flow) => {
                assert_eq!(hit.connection.key(Direction::Inbound), inbound(flow));
            }
            (Err(InsertError::ReplyKeyTaken(hit)), Some(by), _) if by != flow => {
                assert_eq!(hit.connection.key(Direction::Inbound), inbound(by));
            }
            (inserted, taken, known) => panic!("{inserted:?}, answers of {taken:?}, known {known}"),
        }
    }

    fn advance(&mut self, flow: u8, state: State, direction: Direction) {
        let Some(hit) = self.table.find(&inbound(flow), self.now()) else {
            assert!(self.model.alive(flow).is_none());
            return;
        };
        let no_output = hit.connection.life().no_output();
        let expected_side = match direction {
            Direction::Outbound => Side::Output,
            Direction::Inbound if no_output => Side::InputOnly,
            Direction::Inbound => Side::Input,
        };
        let step = |_: State, side: Side| {
            assert_eq!(side, expected_side);
            state
        };
        let transition = hit
            .connection
            .advance(self.now(), &self.model.timeouts, direction, step);
        let now = self.model.now;
        let timeout = self.model.timeouts.of(state);
        let entry = self.model.flows.get_mut(&flow).unwrap();
        let moved = transition.map(|moved| (moved.before, moved.after));
        let first_answer = direction == Direction::Outbound && !entry.answered;
        assert_eq!(
            moved,
            (entry.state != state || first_answer).then_some((entry.state, state))
        );
        let expires = now + u64::from(timeout + REFRESH_TICKS);
        entry.answered |= first_answer;
        if first_answer
            || state != entry.state
            || entry.expires.abs_diff(expires) >= u64::from(REFRESH_TICKS)
        {
            (entry.state, entry.expires) = (state, expires);
        }
    }

    fn end(&mut self, flow: u8) {
        let hit = self.table.find(&inbound(flow), self.now());
        assert_eq!(hit.is_some(), self.model.alive(flow).is_some());
        if let Some(hit) = hit {
            let number = hit.number;
            let ended = self.shard.end(&self.table, number, |_| true).unwrap();
            let modelled = self.model.flows.remove(&flow).unwrap();
            assert_eq!(
                (ended.destination, ended.state),
                (flow.into(), modelled.state)
            );
            assert_eq!(
                self.shard.end(&self.table, number, |_| true),
                None,
                "ended twice"
            );
        }
    }

    fn sweep(&mut self, budget: u32) {
        let mut ended = Vec::new();
        let now = self.now();
        self.shard.sweep(
            &self.table,
            now,
            SweepBudget::looks(budget),
            |_| false,
            |end, _| ended.push(end),
        );
        for end in ended {
            let flow = u8::try_from(end.destination).unwrap();
            let gone = self.model.flows.remove(&flow).unwrap();
            assert!(gone.expires <= self.model.now, "swept before its time");
            assert_eq!(gone.state, end.state);
        }
    }

    fn check(&self) {
        for flow in 0..FLOWS {
            let hit = self.table.find(&inbound(flow), self.now());
            let alive = self.model.alive(flow);
            assert_eq!(
                hit.map(|hit| hit.direction),
                alive.map(|_| Direction::Inbound)
            );
            if let (Some(hit), Some(entry)) = (hit, alive) {
                assert_eq!(hit.connection.destination(), u32::from(flow));
                assert_eq!(hit.connection.service(), u32::from(entry.server));
                assert_eq!(hit.connection.life().state(), entry.state);
                assert_eq!(
                    hit.connection.life().no_output(),
                    !entry.nat && !entry.answered
                );
            }
            for server in 0..SERVERS {
                let hit = self.table.find(&outbound(flow, server), self.now());
                let owner = self.model.with_answers(flow, server);
                let owner = owner.filter(|owner| self.model.alive(*owner).is_some());
                let found = hit.map(|hit| (hit.direction, hit.connection.destination()));
                assert_eq!(
                    found,
                    owner.map(|owner| (Direction::Outbound, u32::from(owner)))
                );
            }
        }
        assert_eq!(self.shard.in_use(), self.model.flows.len() as u64);
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Insert {
                flow,
                server,
                nat,
                state,
            } => self.insert(flow, server, nat, state),
            Step::Advance {
                flow,
                state,
                direction,
            } => self.advance(flow, state, direction),
            Step::End { flow } => self.end(flow),
            Step::Sleep { ticks } => self.model.now += u64::from(ticks),
            Step::Sweep { budget } => self.sweep(budget),
            Step::Timeouts { seconds: value } => {
                self.model.timeouts.set(State::Established, seconds(value));
            }
        }
        self.check();
        self.table.quiescence().pass(0);
        self.shard.turn(&self.table);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn behaves_like_a_map(steps in steps(), start in prop_oneof![Just(0), Just(u32::MAX - 9000), any::<u32>()]) {
        let mut driven = Driven::new(Tick(start));
        for step in &steps {
            driven.run(step);
        }
        // In the end everything goes, and every entry is free again.
        driven.model.now += u64::from(seconds(1000));
        for _ in 0..3 {
            driven.sweep(TableSize::CONNECTIONS_MIN);
        }
        driven.check();
        prop_assert_eq!(driven.shard.in_use(), 0);
    }
}

/// Fills the table with connections of a family; how many it took, and how many it refused because all slots near theirs
/// in the index were taken.
fn fill(table: &ConnectionTable, shard: &mut Shard, is_v6: bool) -> (u32, u32) {
    let address = |number: u32| (0x2001_0db8_u128 << 96 | u128::from(number)).to_be_bytes();
    let key = |from: u32, to: u32, ports: u32| {
        if is_v6 {
            FlowKey::v6(6, &address(from), &address(to), ports)
        } else {
            FlowKey::v4(6, from, to, ports)
        }
    };
    let (mut taken, mut refused, mut in_a_row) = (0, 0, 0);
    for client in 0.. {
        let new = NewConnection {
            inbound: key(client, 1 << 31, 4000 << 16 | 80),
            outbound: Some(key(1 << 30, client, 8080 << 16 | 4000)),
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
        match shard.insert(table, &new, Tick(0), &Timeouts::default()) {
            Ok(_) => (taken, refused, in_a_row) = (taken + 1, refused + in_a_row, 0),
            // Without a free entry, it stays so.
            Err(InsertError::Full) if in_a_row == 5 => break,
            Err(InsertError::Full) => in_a_row += 1,
            Err(other) => panic!("{other:?}"),
        }
        if in_a_row == 1 {
            // The entry that found no slot comes back.
            shard.turn(table);
            table.quiescence().pass(0);
            shard.turn(table);
        }
    }
    (taken, refused)
}

#[test]
fn takes_as_many_connections_as_promised_and_no_more() {
    for (connections, ipv6) in [(1024, 256), (5000, 5000), (20_000, 0), (100_000, 25_000)] {
        let size = TableSize::with_ipv6(connections, ipv6);
        for is_v6 in [false, true] {
            let memory = Memory::anonymous(size.lines(), false).unwrap();
            let table = ConnectionTable::create(memory, size, 1, SEED).unwrap();
            table.quiescence().online(0);
            let mut shard = Shard::new(&table, 0, 1, |_| {});
            let promised = if is_v6 {
                size.ipv6_connections()
            } else {
                size.connections()
            };
            assert!(promised >= if is_v6 { ipv6 } else { connections });
            let (taken, refused) = fill(&table, &mut shard, is_v6);
            assert_eq!(taken, promised, "{size:?} {is_v6}");
            assert_eq!(refused, 0, "{size:?} {is_v6}");
            if is_v6 {
                // What is left is for IPv4.
                let (taken, _) = fill(&table, &mut shard, false);
                assert_eq!(taken, size.connections() - promised);
            }
            for _ in 0..2 {
                shard.sweep(
                    &table,
                    Tick(seconds(1000)),
                    SweepBudget::looks(size.connections()),
                    |_| false,
                    |_, _| {},
                );
            }
            assert_eq!(shard.in_use(), 0);
            let (taken, _) = fill(&table, &mut shard, false);
            assert_eq!(taken, size.connections(), "all free again");
        }
    }
}

#[test]
fn shards_share_no_entry_even_when_one_is_made_late() {
    let size = TableSize::with_ipv6(TableSize::CONNECTIONS_MIN, 0);
    let memory = Memory::anonymous(size.lines(), false).unwrap();
    let table = ConnectionTable::create(memory, size, 2, SEED).unwrap();
    let mut numbers = BTreeSet::new();
    let mut insert = |shard: &mut Shard, client: u32| {
        let inbound = FlowKey::v4(6, client, 1 << 31, 4000 << 16 | 80);
        let new = NewConnection {
            inbound,
            outbound: None,
            destination: 0,
            service: 0,
            method: ForwardingMethod::DirectRoute,
            state: State::Established,
            destination_port: 0,
            template: None,
            control: None,
            counts_packets: false,
            lifetime: None,
            is_synced: false,
        };
        let hit = shard
            .insert(&table, &new, Tick(0), &Timeouts::default())
            .unwrap();
        assert!(numbers.insert(hit.number), "entry {} twice", hit.number);
    };
    let mut early = Shard::new(&table, 0, 2, |_| {});
    (0..300).for_each(|client| insert(&mut early, client));
    let mut late = Shard::new(&table, 1, 2, |_| panic!("not of an earlier process"));
    (300..500).for_each(|client| insert(&mut late, client));
    (500..700).for_each(|client| insert(&mut early, client));
}

#[test]
fn what_was_freed_waits_for_every_worker() {
    let size = TableSize::for_connections(TableSize::CONNECTIONS_MIN);
    let memory = Memory::anonymous(size.lines(), false).unwrap();
    let table = ConnectionTable::create(memory, size, 2, SEED).unwrap();
    table.quiescence().online(0);
    table.quiescence().online(1);
    let mut shard = Shard::new(&table, 0, 2, |_| {});
    assert_eq!(fill(&table, &mut shard, false).0, size.connections());
    // The end of a round, and a whole one.
    for _ in 0..2 {
        shard.sweep(
            &table,
            Tick(seconds(1000)),
            SweepBudget::looks(size.connections()),
            |_| false,
            |_, _| {},
        );
    }
    assert_eq!(shard.in_use(), 0);
    assert_eq!(
        fill(&table, &mut shard, false).0,
        0,
        "worker 1 may hold any of them"
    );
    table.quiescence().pass(1);
    assert_eq!(fill(&table, &mut shard, false).0, size.connections());
}

#[test]
fn a_connection_costs_at_most_128_bytes() {
    for connections in [10_000_u32, 1_000_000, 16_000_000] {
        let bytes = |size: TableSize| size.bytes() as u64;
        let v4 = TableSize::with_ipv6(connections, 0);
        assert!(
            bytes(v4) <= 128 * u64::from(v4.connections()),
            "{v4:?}: {}",
            v4.bytes()
        );
        let v6 = TableSize::with_ipv6(connections, connections);
        assert!(
            bytes(v6) <= 192 * u64::from(v6.connections()),
            "{v6:?}: {}",
            v6.bytes()
        );
    }
}
