//! What must be reached, and whether it is: each mark with the figure it was held against.
//!
//! Where a mark covers several measurements, the worst of them counts and is named. One worker where nothing else is
//! said.

use super::document::{Block, Section, Table};
use super::results::{Results, Selection, is_default, is_on_normal_pages};
use super::{appliance, schedulers, table, words, workers};
use crate::measurement::{
    Case, ExpiryMeasurement, Family, Method, PacketMeasurement, StartMeasurement, word,
};

/// Cost of a hit by connections, nanoseconds.
const HIT_NS: [(u32, f64); 3] = [(10_000, 25.0), (1_000_000, 45.0), (10_000_000, 55.0)];
const NEW_NS: f64 = 250.0;
const IPV6_BY_IPV4: f64 = 1.3;
const LEAST_CONNECTION_BY_ROUND_ROBIN: f64 = 1.1;
const LEAST_CONNECTION_SERVERS: u32 = 100;
const TWO_WORKERS_BY_ONE: f64 = 1.9;
const BYTES_IPV4: f64 = 128.0;
const BYTES_IPV6: f64 = 224.0;
const BY_TESTPMD: f64 = 0.6;
const TESTPMD_CONNECTIONS: u32 = 10_000;
const TESTPMD_DEVICE: &str = "pcap";
/// Entries of the tables that start and expire.
const LARGE: u32 = 10_000_000;
const EXPIRED_BY_TIMEOUT: f64 = 2.0;
const HIT_RATE_MEANWHILE: f64 = 0.9;
const START_MS: f64 = 1000.0;

/// Something to be reached.
#[derive(Debug, PartialEq)]
struct Mark {
    what: String,
    reach: String,
    outcome: Outcome,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Reached(String),
    Missed(String),
    NotMeasured,
}

/// A measured figure that a mark is held against, and what it is a figure of.
struct Figure {
    value: f64,
    of: String,
}

/// All of them, if anything they are about was measured.
pub fn section(results: &Results) -> Option<Section> {
    let marks = marks(results);
    if marks
        .iter()
        .all(|mark| mark.outcome == Outcome::NotMeasured)
    {
        return None;
    }
    let mut table = Table::new(4, ["", "to reach", "", "measured"]);
    for Mark {
        what,
        reach,
        outcome,
    } in marks
    {
        let (verdict, figure) = match outcome {
            Outcome::Reached(figure) => ("reached", figure),
            Outcome::Missed(figure) => ("**not reached**", figure),
            Outcome::NotMeasured => ("not measured", String::new()),
        };
        table.row([what, reach, verdict.to_owned(), figure]);
    }
    Some(Section {
        title: "What must be reached",
        blocks: vec![
            Block::Text(
                "On one worker of a machine with two cores, 64-byte frames, every feature on, flows in random order. \
                 Where a mark covers several measurements, the worst counts and is shown."
                    .to_owned(),
            ),
            Block::Table(table),
        ],
        commands: Vec::new(),
    })
}

fn marks(results: &Results) -> Vec<Mark> {
    let packets = results.pipeline().only(is_default);
    let mut marks: Vec<Mark> = HIT_NS
        .map(|(count, reach)| hit(&packets, count, reach))
        .into();
    marks.extend([
        other_methods(&packets),
        ipv6(&packets, &[Case::Hit, Case::Reply]),
        ipv6(&packets, &[Case::New, Case::SynFlood]),
        new_connection(&packets),
        syn_flood(&packets),
        least_connection(results),
        two_workers(&packets, &[Case::Hit, Case::Reply]),
        two_workers(&packets, &[Case::New, Case::SynFlood]),
        memory(results, Family::Ipv4, BYTES_IPV4),
        memory(results, Family::Ipv6, BYTES_IPV6),
        beside_testpmd(results),
        expiry(results),
        start(results),
    ]);
    marks
}

impl Mark {
    fn new(
        what: impl Into<String>,
        reach: impl Into<String>,
        figure: Option<(bool, String)>,
    ) -> Self {
        Self {
            what: what.into(),
            reach: reach.into(),
            outcome: match figure {
                Some((true, figure)) => Outcome::Reached(figure),
                Some((false, figure)) => Outcome::Missed(figure),
                None => Outcome::NotMeasured,
            },
        }
    }
}

fn greatest(figures: impl Iterator<Item = Figure>) -> Option<Figure> {
    figures.max_by(|one, other| one.value.total_cmp(&other.value))
}

fn least(figures: impl Iterator<Item = Figure>) -> Option<Figure> {
    figures.min_by(|one, other| one.value.total_cmp(&other.value))
}

/// What a packet is, for the reader of a figure.
fn describe(measured: &PacketMeasurement) -> String {
    let pages = if is_on_normal_pages(measured) {
        ", normal pages"
    } else {
        ""
    };
    format!(
        "{}, {} {}, {} connections{pages}",
        words::case(measured.case),
        words::method(measured.method),
        words::family(measured.family),
        words::count(measured.connections)
    )
}

fn hit(packets: &Selection<'_, PacketMeasurement>, connections: u32, reach: f64) -> Mark {
    let found = packets.find(Case::Hit, Method::Nat, Family::Ipv4, connections, 1);
    let judged = found.map(|measured| {
        let pages = if is_on_normal_pages(measured) {
            " on normal pages"
        } else {
            " on huge pages"
        };
        (
            measured.ns_per_packet <= reach,
            format!("{:.1} ns{pages}", measured.ns_per_packet),
        )
    });
    let what = format!(
        "hit, NAT IPv4, {} connections, net of the generator",
        words::count(connections)
    );
    Mark::new(what, format!("≤ {reach:.0} ns"), judged)
}

fn other_methods(packets: &Selection<'_, PacketMeasurement>) -> Mark {
    let hits = packets.only(|measured| (measured.case, measured.workers) == (Case::Hit, 1));
    let ratios = hits
        .iter()
        .filter(|measured| measured.method != Method::Nat)
        .filter_map(|measured| {
            let PacketMeasurement {
                case,
                family,
                connections,
                ..
            } = *measured;
            let nat = packets.find(case, Method::Nat, family, connections, 1)?;
            Some(Figure {
                value: measured.ns_per_packet / nat.ns_per_packet,
                of: format!(
                    "{:.1} ns beside {:.1} ns: {}",
                    measured.ns_per_packet,
                    nat.ns_per_packet,
                    describe(measured)
                ),
            })
        });
    let worst = greatest(ratios);
    let judged = worst.map(|worst| {
        (
            worst.value <= 1.0,
            format!("{:.2} × ({})", worst.value, worst.of),
        )
    });
    Mark::new("direct and tunnel beside NAT, hit", "no slower", judged)
}

fn list(cases: &[Case]) -> String {
    let cases: Vec<&str> = cases.iter().map(|case| words::case(*case)).collect();
    cases.join(" and ")
}

fn ipv6(packets: &Selection<'_, PacketMeasurement>, cases: &[Case]) -> Mark {
    let v6 = packets.only(|measured| {
        measured.family == Family::Ipv6 && measured.workers == 1 && cases.contains(&measured.case)
    });
    let ratios = v6.iter().filter_map(|measured| {
        let PacketMeasurement {
            case,
            method,
            connections,
            ..
        } = *measured;
        let v4 = packets.find(case, method, Family::Ipv4, connections, 1)?;
        Some(Figure {
            value: measured.ns_per_packet / v4.ns_per_packet,
            of: describe(measured),
        })
    });
    let worst = greatest(ratios);
    let judged = worst.map(|worst| {
        (
            worst.value <= IPV6_BY_IPV4,
            format!("{:.2} × ({})", worst.value, worst.of),
        )
    });
    Mark::new(
        format!("IPv6 beside IPv4, {}", list(cases)),
        format!("≤ {IPV6_BY_IPV4} ×"),
        judged,
    )
}

/// Both keys: NAT.
fn new_connection(packets: &Selection<'_, PacketMeasurement>) -> Mark {
    let nat = packets.only(|measured| {
        (measured.case, measured.workers) == (Case::New, 1)
            && (measured.method, measured.family) == (Method::Nat, Family::Ipv4)
    });
    let worst = greatest(nat.iter().map(|measured| Figure {
        value: measured.ns_per_packet,
        of: format!("{} connections", words::count(measured.connections)),
    }));
    let judged = worst.map(|worst| {
        (
            worst.value <= NEW_NS,
            format!("{:.0} ns ({})", worst.value, worst.of),
        )
    });
    Mark::new(
        "new connection: schedule, both keys, state; NAT IPv4",
        format!("≤ {NEW_NS:.0} ns"),
        judged,
    )
}

/// A run in which a hit is not forwarded, or an established connection gone, fails and leaves no record. Half of the
/// packets are hits, so that a SYN costs twice a packet less a hit.
fn syn_flood(packets: &Selection<'_, PacketMeasurement>) -> Mark {
    let floods = packets.only(|measured| (measured.case, measured.workers) == (Case::SynFlood, 1));
    let syns = floods.iter().filter_map(|measured| {
        let PacketMeasurement {
            method,
            family,
            connections,
            ..
        } = *measured;
        let hit = packets.find(Case::Hit, method, family, connections, 1)?;
        let is_nat = (method, family) == (Method::Nat, Family::Ipv4);
        is_nat.then(|| Figure {
            value: 2.0 * measured.ns_per_packet - hit.ns_per_packet,
            of: format!("{} connections", words::count(connections)),
        })
    });
    let worst = greatest(syns);
    let judged = worst.map(|worst| {
        let figure = format!(
            "none lost, none dropped; {:.0} ns a SYN ({})",
            worst.value, worst.of
        );
        (worst.value <= NEW_NS, figure)
    });
    Mark::new(
        "SYN flood at that rate on a full table, NAT IPv4",
        format!("no established connection lost, no hit dropped, ≤ {NEW_NS:.0} ns a SYN"),
        judged,
    )
}

fn least_connection(results: &Results) -> Mark {
    let measured = schedulers::comparable(results);
    let ratios = measured
        .iter()
        .filter(|record| record.servers == LEAST_CONNECTION_SERVERS);
    let ratios = ratios.filter_map(|record| {
        Some(Figure {
            value: schedulers::to_round_robin(&measured, record)?,
            of: format!("`{}`, {}", word(&record.scheduler), describe(record)),
        })
    });
    let worst = greatest(ratios);
    let judged = worst.map(|worst| {
        let figure = format!("{:+.1} % ({})", (worst.value - 1.0) * 100.0, worst.of);
        (worst.value <= LEAST_CONNECTION_BY_ROUND_ROBIN, figure)
    });
    Mark::new(
        format!("`lc`, `wlc` with {LEAST_CONNECTION_SERVERS} servers, new connection"),
        "≤ 10 % over `rr`",
        judged,
    )
}

fn two_workers(packets: &Selection<'_, PacketMeasurement>, cases: &[Case]) -> Mark {
    let two = packets.only(|measured| measured.workers == 2 && cases.contains(&measured.case));
    let factors = two.iter().filter_map(|measured| {
        Some(Figure {
            value: workers::scaling(packets, measured)?,
            of: describe(measured),
        })
    });
    let worst = least(factors);
    let judged = worst.map(|worst| {
        (
            worst.value >= TWO_WORKERS_BY_ONE,
            format!("{:.2} × ({})", worst.value, worst.of),
        )
    });
    Mark::new(
        format!("2 workers, {}", list(cases)),
        format!("≥ {TWO_WORKERS_BY_ONE} × one"),
        judged,
    )
}

fn memory(results: &Results, family: Family, reach: f64) -> Mark {
    let measured = table::memory(results);
    let found = measured.iter().find(|measured| measured.family == family);
    let judged = found.map(|measured| {
        // The data plane's own table has room for some IPv6: a connection over IPv4 pays for it.
        let bytes = match family {
            Family::Ipv4 => measured
                .bytes_per_connection
                .max(measured.bytes_per_connection_by_default),
            Family::Ipv6 => measured.bytes_per_connection,
        };
        (bytes <= reach, format!("{bytes:.1} B"))
    });
    Mark::new(
        format!(
            "memory of a connection, NAT {}, all in",
            words::family(family)
        ),
        format!("≤ {reach:.0} B"),
        judged,
    )
}

fn beside_testpmd(results: &Results) -> Mark {
    let measured = appliance::rates(results);
    let found = measured.iter().find(|measured| {
        (measured.method, measured.family) == (Method::Nat, Family::Ipv4)
            && measured.connections == TESTPMD_CONNECTIONS
            && measured.device.as_deref() == Some(TESTPMD_DEVICE)
    });
    let judged = found
        .and_then(|measured| measured.ratio_to_testpmd)
        .map(|ratio| (ratio >= BY_TESTPMD, words::percent(ratio)));
    Mark::new(
        "appliance on `net_pcap`, NAT IPv4, 10 k connections, beside testpmd macswap",
        format!("≥ {}", words::percent(BY_TESTPMD)),
        judged,
    )
}

fn expiry(results: &Results) -> Mark {
    let measured = table::expiry(results);
    let found = measured
        .iter()
        .filter(|measured| measured.connections >= LARGE)
        .last();
    let judged = found.map(|measured: &ExpiryMeasurement| {
        let by_timeout = measured.seconds_until_empty / f64::from(measured.timeout_s);
        let figure = format!(
            "{by_timeout:.2} × the timeout of {} s; hit rate at {}, at worst {}",
            measured.timeout_s,
            words::percent(measured.hit_rate_meanwhile),
            words::percent(measured.hit_rate_least)
        );
        (
            by_timeout <= EXPIRED_BY_TIMEOUT && measured.hit_rate_meanwhile >= HIT_RATE_MEANWHILE,
            figure,
        )
    });
    Mark::new(
        "a full table of 10 M expires",
        "within 2 × its timeout, hit rate never more than 10 % down",
        judged,
    )
}

fn start(results: &Results) -> Mark {
    let measured = table::start(results);
    // A table has whole chunks of entries for every family.
    let large = measured
        .iter()
        .filter(|measured| measured.connections >= LARGE);
    let times = large.map(|measured: &StartMeasurement| Figure {
        value: measured.create_ms.max(measured.attach_empty_ms),
        of: format!(
            "{}; with a full table of a process that died {:.0} ms",
            words::family(measured.family),
            measured.attach_full_ms
        ),
    });
    let worst = greatest(times);
    let judged = worst.map(|worst| {
        (
            worst.value < START_MS,
            format!("{:.0} ms ({})", worst.value, worst.of),
        )
    });
    Mark::new("start with 10 M connections configured", "< 1 s", judged)
}
