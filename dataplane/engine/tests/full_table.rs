//! A full connection table: new flows are served as far as their method allows, unestablished entries make room,
//! established ones never do.

// Helpers of tests are tests, too.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use arrayvec::ArrayVec;
use pollux_engine::clock::seconds;
use pollux_engine::connection::{
    ConnectionTable, FlowKey, ForwardingMethod, Shard, State, TableSize,
};
use pollux_engine::counters::WorkerCounters;
use pollux_engine::forward::tunnel::Encapsulation;
use pollux_engine::forwarding_table::{
    ForwardingTable, Interface, NeighbourSpec, PortSpec, RouteSpec, RouteTarget,
};
use pollux_engine::memory::Memory;
use pollux_engine::scheduler::SchedulerKind;
use pollux_engine::service::{DestinationSpec, ServiceSpec};
use pollux_engine::wire::checksum::Sum;
use pollux_engine::wire::protocol::TCP;
use pollux_engine::{
    BURST, Context, Fate, HeapFrame, Snapshot, SnapshotSpec, Tick, Verdict, Worker,
};

const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const SERVERS: u8 = 3;
const PORT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

struct Director {
    table: ConnectionTable,
    snapshot: Snapshot,
    worker: Worker,
    now: Tick,
}

fn server(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, 10 + number)
}

fn forwarding() -> ForwardingTable {
    let interface = Interface {
        port: 0,
        vlan: None,
    };
    let port = PortSpec {
        mac: PORT_MAC,
        mtu: 1500,
        addresses: vec![(Ipv4Addr::new(203, 0, 113, 1).into(), 24)],
    };
    let route = RouteSpec {
        address: Ipv4Addr::new(203, 0, 113, 0).into(),
        prefix_length: 24,
        target: RouteTarget::OnLink(interface),
        preferred_source: None,
    };
    let neighbours: Vec<NeighbourSpec> = (1..=SERVERS)
        .map(|number| NeighbourSpec {
            interface,
            address: server(number).into(),
            mac: [2, 0, 0, 0, 1, number],
        })
        .collect();
    ForwardingTable::new(1, vec![port], &[route], &neighbours)
}

impl Director {
    fn new(method: ForwardingMethod) -> Self {
        let size = TableSize::with_ipv6(TableSize::CONNECTIONS_MIN, 0);
        let memory = Memory::anonymous(size.lines(), false).unwrap();
        let table = ConnectionTable::create(memory, size, 1, [1, 2, 3, 4, 5, 6]).unwrap();
        let destination = |number: u8| DestinationSpec {
            number: number.into(),
            address: IpAddr::V4(server(number)),
            port: 80,
            method,
            encapsulation: Encapsulation::default(),
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
        };
        let spec = SnapshotSpec {
            generation: 1,
            services: vec![ServiceSpec {
                number: 0,
                protocol: TCP,
                address: VIP.into(),
                port: 80,
                scheduler: SchedulerKind::RoundRobin,
                destinations: (1..=SERVERS).map(destination).collect(),
            }],
            ..SnapshotSpec::default()
        };
        let snapshot = Snapshot::compile(&spec, Arc::new(forwarding()), None, 1);
        let shard = Shard::new(&table, 0, 1, |_| {});
        let worker = Worker::new(shard, Arc::new(WorkerCounters::new(1)));
        Self {
            table,
            snapshot,
            worker,
            now: Tick(1000),
        }
    }

    /// Sends one segment of a client's and says which server's MAC it left for.
    fn send(&mut self, client: u32, flags: u8) -> Option<u8> {
        let mut frames = [HeapFrame::new(&segment(client, flags))];
        let mut verdicts = ArrayVec::<Verdict, BURST>::new();
        let context = Context {
            table: &self.table,
            snapshot: &self.snapshot,
            now: self.now,
        };
        self.worker.process(&context, 0, &mut frames, &mut verdicts);
        let [frame] = frames;
        (verdicts[0] == Verdict::Forward { port: 0 })
            .then(|| pollux_engine::Frame::bytes(&frame)[5])
    }

    /// One loop boundary with its sweep.
    fn turn(&mut self) {
        let context = Context {
            table: &self.table,
            snapshot: &self.snapshot,
            now: self.now,
        };
        self.worker.sweep(&context, 64);
        self.worker.turn(&self.table);
    }

    fn state(&self, client: u32) -> Option<State> {
        let key = FlowKey::v4(TCP, 0x0a00_0000 + client, VIP.to_bits(), 40_000 << 16 | 80);
        let hit = self.table.find(&key, self.now)?;
        Some(hit.connection.life().state())
    }
}

fn segment(client: u32, flags: u8) -> Vec<u8> {
    let mut frame = vec![0; 54];
    frame[..6].copy_from_slice(&PORT_MAC);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP]);
    frame[26..30].copy_from_slice(&(0x0a00_0000 + client).to_be_bytes());
    frame[30..34].copy_from_slice(&VIP.octets());
    let checksum = Sum::of(&frame[14..34]).finish();
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame[34..38].copy_from_slice(&[(40_000u32 >> 8) as u8, 40_000u32 as u8, 0, 80]);
    frame[46] = 0x50;
    frame[47] = flags;
    frame
}

/// Clients 0..n with established connections, the rest of the table with half-open ones.
fn fill(director: &mut Director, established: u32) -> u32 {
    let capacity = director.table.size().connections();
    for client in 0..capacity {
        assert!(director.send(client, SYN).is_some(), "client {client}");
        if client < established {
            director.send(client, ACK);
        }
    }
    capacity
}

#[test]
fn unestablished_connections_make_room_and_established_ones_stay() {
    let mut director = Director::new(ForwardingMethod::Masquerade);
    let established = 700;
    let capacity = fill(&mut director, established);
    assert_eq!(director.send(capacity, SYN), None);
    let port = director.worker.counters().port(0).unwrap();
    assert_eq!(port.fate(Fate::TableFull), 1);
    // The flood goes on for many loops; from the second on there is room.
    let mut served = 0;
    for client in capacity + 1..capacity + 20_000 {
        served += u32::from(director.send(client, SYN).is_some());
        director.turn();
    }
    assert!(served > 19_700, "{served}");
    for client in 0..established {
        assert_eq!(
            director.state(client),
            Some(State::Established),
            "client {client}"
        );
    }
    assert!(director.worker.counters().connections_evicted.get() > 0);
    assert!(director.worker.shard().in_use() <= u64::from(capacity));
}

#[test]
fn a_table_of_established_connections_takes_no_other() {
    let mut director = Director::new(ForwardingMethod::Masquerade);
    let capacity = fill(&mut director, u32::MAX);
    for client in capacity..capacity + 100 {
        assert_eq!(director.send(client, SYN), None);
        director.turn();
    }
    assert_eq!(director.worker.counters().connections_evicted.get(), 0);
    assert!((0..capacity).all(|client| director.state(client) == Some(State::Established)));
}

#[test]
fn without_translation_new_flows_are_served_without_an_entry() {
    let mut director = Director::new(ForwardingMethod::DirectRoute);
    let capacity = fill(&mut director, u32::MAX);
    let mut used = [0; 1 + SERVERS as usize];
    for client in capacity..capacity + 300 {
        let first = director.send(client, SYN).unwrap();
        used[usize::from(first)] += 1;
        // The rest of the flow follows, and goes on doing so when there is room again.
        assert_eq!(director.send(client, ACK), Some(first));
        director.turn();
        assert_eq!(director.send(client, ACK), Some(first));
        assert_eq!(director.state(client), None);
    }
    assert!(used[1..].iter().all(|flows| *flows > 50), "{used:?}");
    assert_eq!(director.worker.counters().without_entry.get(), 900);
    // Long after, an unknown flow is the kernel's again.
    director.now = director.now.after(seconds(901));
    assert_eq!(director.send(capacity + 1000, ACK), None);
}
