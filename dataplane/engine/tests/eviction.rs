//! What a shard does when the table is full or everything in it expires: floods are served at full rate, established
//! connections stay, no family and no worker is starved by another, and no loop ends more than it may.

// Helpers of tests are tests, too.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use pollux_engine::Tick;
use pollux_engine::clock::seconds;
use pollux_engine::connection::{
    ConnectionTable, FlowKey, ForwardingMethod, InsertError, NewConnection, Shard, State,
    SweepBudget, TableSize, Timeouts,
};
use pollux_engine::memory::Memory;

const NOW: Tick = Tick(1000);
/// New connections of a loop: a burst.
const BURST: u32 = 32;
const VIP: u32 = 0xc633_6401;

fn address_v6(number: u32) -> [u8; 16] {
    (0x2001_0db8_u128 << 96 | u128::from(number)).to_be_bytes()
}

fn inbound(client: u32, v6: bool) -> FlowKey {
    let ports = 4000 << 16 | 80;
    if v6 {
        FlowKey::v6(6, &address_v6(client), &address_v6(VIP), ports)
    } else {
        FlowKey::v4(6, client, VIP, ports)
    }
}

/// A connection of which the SYN was seen.
fn half_open(client: u32, v6: bool) -> NewConnection {
    let ports = 8080 << 16 | 4000;
    let outbound = if v6 {
        FlowKey::v6(6, &address_v6(1), &address_v6(client), ports)
    } else {
        FlowKey::v4(6, 1, client, ports)
    };
    NewConnection {
        inbound: inbound(client, v6),
        outbound: Some(outbound),
        destination: 0,
        service: 0,
        method: ForwardingMethod::Masquerade,
        state: State::SynRecv,
        destination_port: 0,
        template: None,
        control: None,
        counts_packets: false,
        lifetime: None,
        is_synced: false,
    }
}

/// A table and a shard for each worker, all awake.
struct Director {
    table: ConnectionTable,
    shards: Vec<Shard>,
    next: u32,
}

impl Director {
    fn new(size: TableSize, workers: usize) -> Self {
        let memory = Memory::anonymous(size.lines(), false).unwrap();
        let table = ConnectionTable::create(memory, size, workers, [1, 2, 3, 4, 5, 6]).unwrap();
        let shards = (0..workers)
            .map(|worker| {
                table.quiescence().online(worker);
                Shard::new(&table, worker, workers, |_| {})
            })
            .collect();
        Self {
            table,
            shards,
            next: 1,
        }
    }

    /// A worker opens a connection; its client, unless the table is full.
    fn open(&mut self, worker: usize, v6: bool) -> Option<u32> {
        let client = self.next;
        self.next += 1;
        let timeouts = Timeouts::default();
        let new = half_open(client, v6);
        match self.shards[worker].insert(&self.table, &new, NOW, &timeouts) {
            Ok(_) => Some(client),
            Err(InsertError::Full) => None,
            Err(other) => panic!("{other:?}"),
        }
    }

    fn establish(&self, client: u32) {
        let hit = self.table.find(&inbound(client, false), NOW).unwrap();
        hit.connection.advance(
            NOW,
            &Timeouts::default(),
            pollux_engine::connection::Direction::Inbound,
            |_, _| State::Established,
        );
    }

    /// Every worker comes to a loop boundary; how many connections were ended to make room.
    fn turn(&mut self) -> u32 {
        let mut ended = 0;
        for shard in &mut self.shards {
            shard.make_room(&self.table, NOW, |_| ended += 1);
        }
        for shard in &mut self.shards {
            self.table.quiescence().pass(shard.worker());
            shard.turn(&self.table);
        }
        ended
    }

    /// Fills the table; the clients that are established then.
    fn fill(&mut self, worker: usize, is_established: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut established = Vec::new();
        while let Some(client) = self.open(worker, false) {
            if is_established(client) {
                self.establish(client);
                established.push(client);
            }
        }
        established
    }

    fn sweep_round(&mut self) {
        for shard in &mut self.shards {
            let round = SweepBudget::looks(u32::MAX);
            shard.sweep(
                &self.table,
                NOW,
                round,
                |_| false,
                |_, _| panic!("too early"),
            );
        }
    }

    fn expect_alive(&self, clients: &[u32]) {
        for client in clients {
            let hit = self.table.find(&inbound(*client, false), NOW);
            assert!(hit.is_some(), "client {client} is gone");
        }
    }
}

/// Where established connections lie among the others.
fn floods_are_served(entries: u32, is_established: impl Fn(u32) -> bool) {
    let mut director = Director::new(TableSize::with_ipv6(entries, 0), 1);
    let established = director.fill(0, is_established);
    // The sweep has come by, as it does each second; then the reserve is made, once, within these loops.
    director.sweep_round();
    for _ in 0..entries / 512 {
        director.turn();
    }
    for number in 0..20_000 {
        for _ in 0..BURST {
            assert!(director.open(0, false).is_some(), "loop {number}");
        }
        director.turn();
        if number % 1000 == 0 {
            director.sweep_round();
        }
    }
    director.expect_alive(&established);
}

#[test]
fn a_flood_is_served_when_the_first_are_established() {
    floods_are_served(65_536, |client| client < 60_000);
}

#[test]
fn a_flood_is_served_when_nearly_all_are_established_here_and_there() {
    floods_are_served(65_536, |client| client % 64 != 0);
}

#[test]
fn a_flood_is_served_when_none_is_established() {
    floods_are_served(16_384, |_| false);
}

#[test]
fn established_connections_stay_and_looking_for_others_gets_cheap() {
    let mut director = Director::new(TableSize::with_ipv6(4096, 0), 1);
    let established = director.fill(0, |_| true);
    for _ in 0..1000 {
        assert_eq!(director.open(0, false), None);
        assert_eq!(director.turn(), 0);
    }
    director.expect_alive(&established);
    // One of them is over: its entry is found, by the sweep's next round at the latest.
    let hit = director
        .table
        .find(&inbound(established[2000], false), NOW)
        .unwrap();
    hit.connection.advance(
        NOW,
        &Timeouts::default(),
        pollux_engine::connection::Direction::Inbound,
        |_, _| State::TimeWait,
    );
    director.sweep_round();
    let ended: u32 = (0..20).map(|_| director.turn()).sum();
    assert_eq!(ended, 1);
    assert!(director.open(0, false).is_some());
}

#[test]
fn a_flood_of_ipv4_leaves_room_for_ipv6() {
    let mut director = Director::new(TableSize::with_ipv6(16_384, 4096), 1);
    director.fill(0, |_| false);
    for number in 0..5000 {
        for _ in 0..BURST {
            director.open(0, false);
        }
        let v6 = director.open(0, true);
        assert!(v6.is_some() || number < 10, "loop {number}");
        director.turn();
    }
}

#[test]
fn ipv4_uses_what_ipv6_does_not_before_anything_is_ended() {
    let size = TableSize::with_ipv6(16_384, 8192);
    let mut director = Director::new(size, 1);
    let mut ended = 0;
    let room = size.connections() - 2 * 512;
    for _ in 0..room / BURST {
        for _ in 0..BURST {
            assert!(director.open(0, false).is_some());
        }
        ended += director.turn();
    }
    assert_eq!(ended, 0);
}

#[test]
fn a_worker_whose_connections_are_all_established_gets_room_of_another() {
    let mut director = Director::new(TableSize::with_ipv6(16_384, 0), 2);
    let half = 8192;
    let established: Vec<u32> = (0..half)
        .map(|_| director.open(0, false).unwrap())
        .collect();
    established
        .iter()
        .for_each(|client| director.establish(*client));
    director.fill(1, |_| false);
    let mut refused = 0;
    for number in 0..5000 {
        for worker in [0, 1] {
            for _ in 0..BURST / 2 {
                let is_full = director.open(worker, false).is_none();
                refused += u32::from(is_full && number > 10);
            }
        }
        director.turn();
    }
    // Gifts come a chunk at a time, and now and then late.
    assert!(refused < 5000 * BURST / 100, "{refused}");
    director.expect_alive(&established);
}

#[test]
fn a_sweep_ends_no_more_than_it_may_and_goes_on_where_it_stopped() {
    let mut director = Director::new(TableSize::with_ipv6(4096, 1024), 1);
    director.fill(0, |_| false);
    let late = NOW.after(seconds(61));
    let budget = SweepBudget {
        looks: 100,
        removals: 7,
    };
    let mut left = director.shards[0].in_use();
    while left > 0 {
        let mut ended = 0;
        let done =
            director.shards[0].sweep(&director.table, late, budget, |_| false, |_, _| ended += 1);
        assert_eq!(done.removals, ended);
        assert!(done.removals <= 7 && done.looks <= 100);
        // Nothing is passed over: all are to be ended, so as many were looked at.
        assert_eq!(done.looks, done.removals);
        assert!(
            done.removals == 7 || u64::from(done.removals) == left,
            "{done:?}"
        );
        left -= u64::from(ended);
    }
    // The next round finds nothing.
    for _ in 0..100 {
        let done = director.shards[0].sweep(&director.table, late, budget, |_| false, |_, _| {});
        assert_eq!(done.removals, 0);
    }
}
