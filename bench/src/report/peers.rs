//! Figures of other systems beside ours. They were taken on other machines: they say what is usual, not who is faster.

use super::document::{Block, Section, Table};
use super::results::{Results, Selection, is_default};
use super::{appliance, table};
use crate::measurement::{Case, Family, Method, PacketMeasurement};

/// What a peer's figure is set beside.
#[derive(Debug, Clone, Copy)]
enum Beside {
    /// Packets of IPv4 on one worker: cost, at so many connections.
    Cost(Case, Method, u32),
    /// The same: rate.
    Rate(Case, Method, u32),
    /// Memory of a connection over IPv4.
    Memory,
}

/// What a peer was measured to do.
struct Peer {
    system: &'static str,
    case: &'static str,
    figure: &'static str,
    beside: Beside,
}

const fn peer(
    system: &'static str,
    case: &'static str,
    figure: &'static str,
    beside: Beside,
) -> Peer {
    Peer {
        system,
        case,
        figure,
        beside,
    }
}

const DPVS: &str = "DPVS 1.10.2";
const KATRAN: &str = "Katran, XDP";
const FEW: u32 = 10_000;
const SOME: u32 = 100_000;
const MANY: u32 = 1_000_000;

/// Measured by this project on 2026-11-22.
const PEERS: [Peer; 11] = [
    peer(
        DPVS,
        "direct, 10 k flows",
        "632 ns",
        Beside::Cost(Case::Hit, Method::Direct, FEW),
    ),
    peer(
        DPVS,
        "direct, 1 M flows",
        "1111 ns",
        Beside::Cost(Case::Hit, Method::Direct, MANY),
    ),
    peer(
        DPVS,
        "full NAT, 10 k flows",
        "798 ns",
        Beside::Cost(Case::Hit, Method::Nat, FEW),
    ),
    peer(
        DPVS,
        "full NAT, 1 M flows",
        "1295 ns",
        Beside::Cost(Case::Hit, Method::Nat, MANY),
    ),
    peer(
        DPVS,
        "new connections, direct",
        "0.65 to 1.04 M/s",
        Beside::Rate(Case::New, Method::Direct, FEW),
    ),
    peer(
        DPVS,
        "new connections, full NAT",
        "0.32 to 0.44 M/s",
        Beside::Rate(Case::New, Method::Nat, FEW),
    ),
    peer(DPVS, "memory of a connection", "704 B", Beside::Memory),
    peer(
        KATRAN,
        "IPIP, 16 k flows",
        "739 ns",
        Beside::Cost(Case::Hit, Method::Tunnel, FEW),
    ),
    peer(
        KATRAN,
        "IPIP, 131 k flows",
        "740 ns",
        Beside::Cost(Case::Hit, Method::Tunnel, SOME),
    ),
    peer(
        KATRAN,
        "IPIP, 1 M flows",
        "779 ns",
        Beside::Cost(Case::Hit, Method::Tunnel, MANY),
    ),
    peer(
        KATRAN,
        "IPIP, SYN of a new flow, inserted",
        "859 ns",
        Beside::Cost(Case::New, Method::Tunnel, FEW),
    ),
];

/// System, what its makers or others say, where.
const PUBLISHED: [[&str; 3]; 8] = [
    [
        "Linux IPVS",
        "1.24 Mpps a core (IPIP, `sh`), 320 bytes a connection",
        "benchmarks of the XDP paper",
    ],
    [
        "Katran (XDP)",
        "5.16 Mpps a core, 29.3 Mpps on six",
        "the same",
    ],
    [
        "DPVS",
        "full NAT: 2.9 Mpps and 200 k connections/s on one worker; 1.24 M connections/s on 10",
        "its release report",
    ],
    [
        "VPP `lb`",
        "over 3 Mpps a core at 1 M flows, 16 bytes a flow",
        "its documentation",
    ],
    ["Beamer", "33 Mpps on 10 cores", "NSDI '18"],
    [
        "Jupiter",
        "8.3 Mpps (UDP) on 8 cores; `lc` costs it 60 to 80 %",
        "its README",
    ],
    ["Tencent TGW", "66 to 105 µs", "ATC '25"],
    [
        "Baidu BGW",
        "30 to 50 µs on average, tail over 100 µs",
        "a talk",
    ],
];

/// What the reader must know before the tables.
const INTRODUCTION: &str = "**Taken on another machine: times are not to be compared with ours.** DPVS (with DPDK 24.11, one worker, CPU time a \
     packet of the whole process, flows in random order) and Katran (its XDP program in the kernel's test run, net of \
     the generator, no driver) were measured for this project on 2026-11-22 on a virtual machine with two cores of AMD \
     Zen 3 and Debian 12; medians. Beside them stands what of the measurements above is nearest: of the engine alone as \
     for Katran, and of the whole process as for DPVS.";

/// Peers, if there is anything of ours beside them.
pub fn section(results: &Results) -> Option<Section> {
    let engine = results.pipeline().only(is_default);
    let process = appliance::rates(results);
    if engine.is_empty() && process.is_empty() {
        return None;
    }
    let header = [
        "system",
        "case",
        "its figure, on another machine",
        "Pollux here, engine",
        "Pollux here, process",
    ];
    let mut table = Table::new(2, header);
    for Peer {
        system,
        case,
        figure,
        beside,
    } in PEERS
    {
        let ours = match beside {
            Beside::Memory => [memory(results), String::new()],
            packets => [
                engine_figure(&engine, packets),
                engine_figure(&process, packets),
            ],
        };
        let words = [system, case, figure].map(str::to_owned);
        table.row(words.into_iter().chain(ours));
    }
    let mut published = Table::new(3, ["system", "figure", "where"]);
    for row in PUBLISHED {
        published.row(row);
    }
    Some(Section {
        title: "Other systems",
        blocks: vec![
            Block::Text(INTRODUCTION.to_owned()),
            Block::Table(table),
            Block::Text("Published by others, on other machines again:".to_owned()),
            Block::Table(published),
        ],
        commands: Vec::new(),
    })
}

fn engine_figure(measured: &Selection<'_, PacketMeasurement>, beside: Beside) -> String {
    let (Beside::Cost(case, method, connections) | Beside::Rate(case, method, connections)) =
        beside
    else {
        return String::new();
    };
    let found = measured.find(case, method, Family::Ipv4, connections, 1);
    found.map_or_else(String::new, |found| match beside {
        Beside::Rate(..) => format!("{:.2} M/s", found.packets_per_second / 1e6),
        _ => format!("{:.1} ns", found.ns_per_packet),
    })
}

fn memory(results: &Results) -> String {
    let measured = table::memory(results);
    let found = measured
        .iter()
        .find(|measured| measured.family == Family::Ipv4);
    found.map_or_else(String::new, |found| {
        format!("{:.0} B", found.bytes_per_connection_by_default)
    })
}
