//! What is said of the marks, and what stands beside the peers.

use super::*;

#[test]
fn marks_are_reached_or_not_or_not_measured() {
    let normal = PacketMeasurement {
        pages: Pages::Normal,
        ..hit(10_000_000, 60.0)
    };
    let report = of_packets([hit(10_000, 25.0), hit(1_000_000, 45.1), normal]);
    let first = "| hit, NAT IPv4, 10 k connections, net of the generator | ≤ 25 ns | reached | 25.0 ns on huge pages |";
    contains(&report, first);
    assert!(
        mark(&report, "hit, NAT IPv4, 1 M")
            .ends_with("| ≤ 45 ns | **not reached** | 45.1 ns on huge pages |")
    );
    assert!(
        mark(&report, "hit, NAT IPv4, 10 M")
            .ends_with("| ≤ 55 ns | **not reached** | 60.0 ns on normal pages |")
    );
    for unknown in [
        "direct and tunnel",
        "IPv6 beside IPv4, hit",
        "new connection",
        "`lc`",
        "2 workers",
        "memory",
        "appliance",
        "a full table",
        "start",
    ] {
        assert!(
            mark(&report, unknown).ends_with("| not measured |  |"),
            "{unknown}"
        );
    }
}

#[test]
fn the_worst_measurement_decides_a_mark() {
    let of = |method, family, connections, ns| packet(Case::Hit, method, family, connections, ns);
    let report = of_packets([
        hit(10_000, 20.0),
        hit(1_000_000, 40.0),
        of(Method::Direct, Family::Ipv4, 10_000, 18.0),
        of(Method::Tunnel, Family::Ipv4, 1_000_000, 44.0),
        of(Method::Nat, Family::Ipv6, 10_000, 25.0),
        of(Method::Nat, Family::Ipv6, 1_000_000, 48.0),
    ]);
    assert!(mark(&report, "direct and tunnel").ends_with(
        "**not reached** | 1.10 × (44.0 ns beside 40.0 ns: hit, tunnel IPv4, 1 M connections) |"
    ));
    assert!(
        mark(&report, "IPv6 beside IPv4, hit")
            .ends_with("| reached | 1.25 × (hit, NAT IPv6, 10 k connections) |")
    );
}

#[test]
fn new_connections_and_a_flood_have_marks() {
    let of = |case, connections, ns| packet(case, Method::Nat, Family::Ipv4, connections, ns);
    let report = of_packets([
        hit(10_000, 20.0),
        of(Case::New, 10_000, 240.0),
        of(Case::New, 100_000, 251.0),
        of(Case::SynFlood, 10_000, 130.0),
    ]);
    assert!(
        mark(&report, "new connection").ends_with("**not reached** | 251 ns (100 k connections) |")
    );
    assert!(
        mark(&report, "SYN flood at that rate")
            .ends_with("| reached | none lost, none dropped; 240 ns a SYN (10 k connections) |")
    );
}

#[test]
fn schedulers_are_held_against_round_robin() {
    let new = |scheduler, ns| PacketMeasurement {
        scheduler,
        servers: 100,
        ..packet(Case::New, Method::Nat, Family::Ipv4, 10_000, ns)
    };
    let report = of_packets([new(Scheduler::Rr, 200.0), new(Scheduler::Wlc, 222.0)]);
    contains(&report, "| `rr` | NAT | IPv4 | 100 | 10 k | 1 | 200.0 |  |");
    contains(
        &report,
        "| `wlc` | NAT | IPv4 | 100 | 10 k | 1 | 222.0 | +11.0 % |",
    );
    assert!(
        mark(&report, "`lc`, `wlc` with 100 servers")
            .contains("**not reached** | +11.0 % (`wlc`, new connection")
    );
    // Another number of servers is no part of the usual curves.
    contains(&report, "| NAT | IPv4, 100 servers | 1 | 200.0 ns (5.0) |");
    assert!(report.plots.iter().all(|(name, _)| name != "rate-new.svg"));
}

#[test]
fn the_rest_of_the_marks() {
    let rate = PacketMeasurement {
        ratio_to_testpmd: Some(0.59),
        device: Some("pcap".to_owned()),
        ..hit(10_000, 40.0)
    };
    let memory = |family, bytes| MemoryMeasurement {
        family,
        bytes_per_connection: bytes,
        bytes_per_connection_by_default: 129.0,
    };
    let start = StartMeasurement {
        family: Family::Ipv4,
        connections: 10_000_128,
        create_ms: 20.0,
        attach_empty_ms: 999.0,
        attach_full_ms: 3000.0,
        create_cpu_ms: 20.0,
        attach_full_cpu_ms: 5000.0,
        connections_found_again: 1.0,
    };
    let expiry = |hit_rate_meanwhile| ExpiryMeasurement {
        connections: 10_000_000,
        timeout_s: 15,
        seconds_until_empty: 18.0,
        seconds_expiring: 2.0,
        ns_per_packet_before: 30.0,
        hit_rate_meanwhile,
        hit_rate_least: 0.5,
    };
    let report = made(&results(
        "pollux-bench table --json",
        [
            Record::Appliance(rate),
            Record::Memory(memory(Family::Ipv4, 93.0)),
            Record::Memory(memory(Family::Ipv6, 157.0)),
            Record::Start(start),
            Record::Expiry(expiry(0.91)),
        ],
    ));
    assert!(
        mark(&report, "appliance on `net_pcap`").ends_with("| ≥ 60 % | **not reached** | 59 % |")
    );
    // What the data plane's own table takes counts for IPv4.
    assert!(
        mark(&report, "memory of a connection, NAT IPv4").ends_with("**not reached** | 129.0 B |")
    );
    assert!(mark(&report, "memory of a connection, NAT IPv6").ends_with("| reached | 157.0 B |"));
    assert!(
        mark(&report, "start with 10 M").contains("| reached | 999 ms (IPv4; with a full table")
    );
    assert!(
        mark(&report, "a full table of 10 M")
            .contains("| reached | 1.20 × the timeout of 15 s; hit rate at 91 %")
    );
    contains(&report, "| pcap | NAT | IPv4 | 10 k | 40.0 | 25.0 | 59 % |");
    contains(&report, "| 10 M | 15 s | 18.0 s | 30.0 ns | 91 % | 50 % |");
    let slower = made(&results(
        "pollux-bench table --json",
        [Record::Expiry(expiry(0.89))],
    ));
    assert!(mark(&slower, "a full table of 10 M").contains("**not reached**"));
}

#[test]
fn peers_stand_beside_what_is_nearest_and_say_where_they_were_taken() {
    let direct = packet(Case::Hit, Method::Direct, Family::Ipv4, 10_000, 20.0);
    let process = PacketMeasurement {
        device: Some("pcap".to_owned()),
        ..direct.clone()
    };
    let records = [
        Record::Pipeline(direct),
        Record::Appliance(PacketMeasurement {
            ns_per_packet: 45.0,
            ..process
        }),
    ];
    let report = made(&results("pollux-bench pipeline --json", records));
    contains(
        &report,
        "| DPVS 1.10.2 | direct, 10 k flows | 632 ns | 20.0 ns | 45.0 ns |",
    );
    contains(
        &report,
        "| DPVS 1.10.2 | full NAT, 10 k flows | 798 ns |  |  |",
    );
    assert!(
        report
            .markdown
            .contains("**Taken on another machine: times are not to be compared with ours.**")
    );
}
