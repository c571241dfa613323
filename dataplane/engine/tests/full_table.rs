//! A full connection table: new flows are served without an entry, unestablished entries make room, established ones
//! never do.

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
use pollux_engine::service::{DestinationSpec, Persistence, ServiceIdentity, ServiceSpec};
use pollux_engine::wire::checksum::Sum;
use pollux_engine::wire::protocol::TCP;
use pollux_engine::{
    BURST, Context, Fate, HeapFrame, Snapshot, SnapshotSpec, Tick, Verdict, Worker,
};

const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const OTHER_VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const CLIENT_PORT: u16 = 40_000;
const SERVER_PORT: u16 = 8080;
/// The last byte of the gateway's MAC.
const GATEWAY: u8 = 200;
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
        other_macs: Vec::new(),
        mtu: 1500,
        addresses: vec![(Ipv4Addr::new(203, 0, 113, 1).into(), 24)],
        fills_udp_checksums: false,
    };
    let route = |address: [u8; 4], prefix_length, target| RouteSpec {
        address: Ipv4Addr::from(address).into(),
        prefix_length,
        target,
        preferred_source: None,
    };
    let gateway = server(GATEWAY);
    let routes = [
        route([203, 0, 113, 0], 24, RouteTarget::OnLink(interface)),
        route(
            [10, 0, 0, 0],
            8,
            RouteTarget::Gateway(interface, gateway.into()),
        ),
    ];
    let neighbours: Vec<NeighbourSpec> = (1..=SERVERS)
        .chain([GATEWAY])
        .map(|number| NeighbourSpec {
            interface,
            address: server(number).into(),
            mac: [2, 0, 0, 0, 1, number],
        })
        .collect();
    ForwardingTable::new(1, vec![port], &routes, &neighbours)
}

impl Director {
    fn new(method: ForwardingMethod) -> Self {
        Self::with_services(method, &[VIP])
    }

    /// Services that all have the same servers.
    /// One service that keeps clients of a /24 together.
    fn persistent(method: ForwardingMethod) -> Self {
        Self::make(
            method,
            &[VIP],
            Some(Persistence {
                timeout: seconds(300),
                mask: 0xffff_ff00,
                engine: None,
            }),
        )
    }

    fn with_services(method: ForwardingMethod, addresses: &[Ipv4Addr]) -> Self {
        Self::make(method, addresses, None)
    }

    fn make(
        method: ForwardingMethod,
        addresses: &[Ipv4Addr],
        persistence: Option<Persistence>,
    ) -> Self {
        let size = TableSize::with_ipv6(TableSize::CONNECTIONS_MIN, 0);
        let memory = Memory::anonymous(size.lines(), false).unwrap();
        let table = ConnectionTable::create(memory, size, 1, [1, 2, 3, 4, 5, 6]).unwrap();
        let destination = |service: u32, number: u8| DestinationSpec {
            number: service * 100 + u32::from(number),
            address: IpAddr::V4(server(number)),
            port: if method == ForwardingMethod::Masquerade {
                SERVER_PORT
            } else {
                80
            },
            method,
            encapsulation: Encapsulation::default(),
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
        };
        let spec = SnapshotSpec {
            generation: 1,
            services: addresses
                .iter()
                .zip(0..)
                .map(|(address, number)| ServiceSpec {
                    number,
                    identity: ServiceIdentity::Address {
                        protocol: TCP,
                        address: (*address).into(),
                        port: 80,
                    },
                    persistence,
                    one_packet: false,
                    timeouts: None,
                    scheduler: SchedulerKind::RoundRobin,
                    destinations: (1..=SERVERS)
                        .map(|server| destination(number, server))
                        .collect(),
                })
                .collect(),
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
        let sent = self.forward(&segment(client, flags))?;
        Some(sent[5])
    }

    /// The frame a server's segment to a client becomes.
    fn answer(&mut self, from: Ipv4Addr, port: u16, client: u32, flags: u8) -> Option<Vec<u8>> {
        let from = (from, port);
        let to = (client_address(client), CLIENT_PORT);
        self.forward(&segment_between(from, to, flags))
    }

    /// The frame another one becomes, if it is forwarded.
    fn forward(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let mut frames = [HeapFrame::new(frame)];
        let mut verdicts = ArrayVec::<Verdict, BURST>::new();
        let context = Context {
            table: &self.table,
            snapshot: &self.snapshot,
            now: self.now,
        };
        self.worker.process(&context, 0, &mut frames, &mut verdicts);
        let [frame] = frames;
        (verdicts[0] == Verdict::Forward { port: 0 })
            .then(|| pollux_engine::Frame::bytes(&frame).to_vec())
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
        let address = client_address(client).to_bits();
        let ports = u32::from(CLIENT_PORT) << 16 | 80;
        let key = FlowKey::v4(TCP, address, VIP.to_bits(), ports);
        let hit = self.table.find(&key, self.now)?;
        Some(hit.connection.life().state())
    }
}

fn client_address(client: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + client)
}

fn segment(client: u32, flags: u8) -> Vec<u8> {
    segment_between((client_address(client), CLIENT_PORT), (VIP, 80), flags)
}

fn segment_between(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), flags: u8) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[..6].copy_from_slice(&PORT_MAC);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, TCP]);
    frame[26..30].copy_from_slice(&from.0.octets());
    frame[30..34].copy_from_slice(&to.0.octets());
    let checksum = Sum::of(&frame[14..34]).finish();
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame[34..36].copy_from_slice(&from.1.to_be_bytes());
    frame[36..38].copy_from_slice(&to.1.to_be_bytes());
    frame[46] = 0x50;
    frame[47] = flags;
    frame[54..60].copy_from_slice(b"pollux");
    let checksum = tcp_sum(&frame).finish();
    frame[50..52].copy_from_slice(&checksum.to_be_bytes());
    frame
}

fn tcp_sum(frame: &[u8]) -> Sum {
    let pseudo_header = Sum::of(&frame[26..34]).add32(u32::from(TCP)).add32(26);
    pseudo_header.plus(Sum::of(&frame[34..60]))
}

/// Both ends of a frame whose checksums are right.
fn ends(frame: &[u8]) -> [(Ipv4Addr, u16); 2] {
    assert_eq!(Sum::of(&frame[14..34]).finish(), 0, "IP checksum");
    assert_eq!(tcp_sum(frame).finish(), 0, "TCP checksum");
    let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    [(address(26), port(34)), (address(30), port(36))]
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
    // Two services: the answers of a flow without an entry could be of either.
    let mut director = Director::with_services(ForwardingMethod::Masquerade, &[VIP, OTHER_VIP]);
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
    assert!(served > 19_990, "{served}");
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
fn a_round_of_the_sweep_counts_connections_by_state() {
    let mut director = Director::with_services(ForwardingMethod::Masquerade, &[VIP]);
    for client in 0..100 {
        director.send(client, SYN);
        if client < 30 {
            director.send(client, ACK);
        }
    }
    let counted = |director: &Director| {
        let counters = director.worker.counters();
        let states = State::ALL.iter().zip(&counters.states);
        states
            .filter(|(_, count)| count.get() != 0)
            .map(|(state, count)| (*state, count.get()))
            .collect::<Vec<_>>()
    };
    assert!(counted(&director).is_empty(), "nobody has gone round yet");
    // Twice round: the first may have begun before the last connection.
    let loops = 2 * director.worker.shard().entries() / 64 + 2;
    (0..loops).for_each(|_| director.turn());
    let expected = [(State::Established, 30), (State::SynRecv, 70)];
    assert_eq!(counted(&director), expected);
    // Those that are over are none.
    director.now = director.now.after(seconds(61));
    (0..loops).for_each(|_| director.turn());
    assert_eq!(counted(&director), [(State::Established, 30)]);
}

#[test]
fn a_table_of_established_connections_takes_no_other() {
    let mut director = Director::with_services(ForwardingMethod::Masquerade, &[VIP, OTHER_VIP]);
    let capacity = fill(&mut director, u32::MAX);
    for client in capacity..capacity + 100 {
        assert_eq!(director.send(client, SYN), None);
        director.turn();
    }
    assert_eq!(director.worker.counters().connections_evicted.get(), 0);
    assert!((0..capacity).all(|client| director.state(client) == Some(State::Established)));
    // IPv4 has all that has room for IPv6, too.
    let loops = 2 * director.worker.shard().entries() / 64 + 2;
    (0..loops).for_each(|_| director.turn());
    let wide = director.worker.counters().wide.get();
    assert_eq!(wide, u64::from(director.table.size().ipv6_connections()));
}

#[test]
fn new_flows_are_translated_without_an_entry() {
    let mut director = Director::new(ForwardingMethod::Masquerade);
    let capacity = fill(&mut director, u32::MAX);
    let vip = (VIP, 80);
    let mut used = [0; 1 + SERVERS as usize];
    for client in capacity..capacity + 300 {
        let peer = (client_address(client), CLIENT_PORT);
        let opened = director.forward(&segment(client, SYN)).unwrap();
        let number = opened[5];
        let (from_server, to_server) = ((server(number), SERVER_PORT), &opened);
        assert_eq!(ends(to_server), [peer, from_server]);
        used[usize::from(number)] += 1;
        // Answer, acknowledgement, data both ways.
        for flags in [SYN | ACK, ACK, ACK] {
            let answer = director.answer(server(number), SERVER_PORT, client, flags);
            let answer = answer.unwrap();
            assert_eq!(ends(&answer), [vip, peer]);
            assert_eq!(answer[5], GATEWAY);
            let more = director.forward(&segment(client, ACK)).unwrap();
            assert_eq!(ends(&more), [peer, from_server]);
            director.turn();
        }
        assert_eq!(director.state(client), None);
        // Of no flow that the director sends to this server: the kernel's.
        let other = number % SERVERS + 1;
        assert_eq!(
            director.answer(server(other), SERVER_PORT, client, ACK),
            None
        );
        assert_eq!(director.answer(server(number), 22, client, ACK), None);
    }
    assert!(used[1..].iter().all(|flows| *flows > 50), "{used:?}");
    let counters = director.worker.counters();
    assert_eq!(counters.without_entry.get(), 300 * 7);
    assert_eq!(counters.port(0).unwrap().fate(Fate::TableFull), 0);
    // The director's own connections to servers are the kernel's.
    let own = (Ipv4Addr::new(203, 0, 113, 1), CLIENT_PORT);
    for number in 1..=SERVERS {
        let answer = segment_between((server(number), SERVER_PORT), own, ACK);
        assert_eq!(director.forward(&answer), None);
    }
    // Long after, an unknown answer is the kernel's again.
    director.now = director.now.after(seconds(901));
    for number in 1..=SERVERS {
        let answer = director.answer(server(number), SERVER_PORT, capacity, ACK);
        assert_eq!(answer, None);
    }
}

#[test]
fn unknown_answers_are_the_kernels_while_the_table_was_never_full() {
    let mut director = Director::new(ForwardingMethod::Masquerade);
    for number in 1..=SERVERS {
        for client in 0..20 {
            let answer = director.answer(server(number), SERVER_PORT, client, SYN | ACK);
            assert_eq!(answer, None);
        }
    }
    assert_eq!(director.worker.counters().without_entry.get(), 0);
}

#[test]
fn a_flow_that_gets_no_entry_takes_nobodys_turn() {
    let mut director = Director::new(ForwardingMethod::Masquerade);
    let capacity = fill(&mut director, 0);
    let turn = |director: &mut Director, client: u32| director.send(client, SYN).unwrap();
    // No loop boundary: the table stays full.
    for client in capacity..capacity + 5 {
        turn(&mut director, client);
        assert_eq!(director.state(client), None);
    }
    for _ in 0..5 {
        director.turn();
    }
    let served: Vec<u8> = (0..6)
        .map(|client| turn(&mut director, capacity + 100 + client))
        .collect();
    let last_before = u8::try_from((capacity - 1) % u32::from(SERVERS)).unwrap();
    let expected: Vec<u8> = (1..=6)
        .map(|place| (last_before + place) % SERVERS + 1)
        .collect();
    assert_eq!(served, expected);
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

#[test]
fn a_persistent_client_goes_to_its_server_without_an_entry() {
    for method in [ForwardingMethod::Masquerade, ForwardingMethod::DirectRoute] {
        let mut director = Director::persistent(method);
        // A table of established connections and the templates of their networks: four, of 256 clients each.
        let capacity = director.table.size().connections();
        let servers: Vec<u8> = (0..capacity)
            .map(|client| {
                let server = director.send(client, SYN).unwrap();
                director.send(client, ACK).unwrap();
                server
            })
            .collect();
        for client in 0..capacity {
            let of_its_network = servers[(client & !0xff) as usize];
            assert_eq!(servers[client as usize], of_its_network, "client {client}");
        }
        // The last of these got no entry already. Nor does another network, whose clients keep together all the same.
        for network in 10..20_u32 {
            let first = director.send(network << 8, SYN).unwrap();
            for client in network << 8..(network << 8) + 20 {
                assert_eq!(director.send(client, SYN), Some(first), "client {client}");
                assert_eq!(director.send(client, ACK), Some(first));
                assert_eq!(director.state(client), None);
                if method == ForwardingMethod::Masquerade {
                    let answer = director.answer(server(first), SERVER_PORT, client, ACK);
                    assert_eq!(ends(&answer.unwrap())[0], (VIP, 80));
                }
            }
            director.turn();
        }
        assert!(director.worker.counters().without_entry.get() > 400);
    }
}
