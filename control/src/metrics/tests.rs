//! The text, read back.

use pollux_api::dataplane::{MemberStatus, NicCounters, StateCount};
use pollux_api::health::QuorumState;
use pollux_api::statistics::{DestinationStatistics, FateCount};
use pollux_api::{Destination, Persistence, Protocol, ServiceId, VirtualService};

use super::*;

/// One of everything.
pub fn sample() -> Sample {
    let totals = TrafficTotals {
        connections: 1,
        inbound_packets: 2,
        outbound_packets: 3,
        inbound_bytes: 4,
        outbound_bytes: 5,
    };
    let id = ServiceId::address(Protocol::Tcp, "198.51.100.1:80".parse().unwrap());
    let mut service = VirtualService::new(id);
    service.persistence = Some(Persistence {
        timeout_s: 300,
        netmask: None,
    });
    let server = DestinationStatistics {
        destination: Destination {
            id: "203.0.113.11:80".parse().unwrap(),
            method: Default::default(),
            weight: Default::default(),
            tunnel: Default::default(),
            upper_threshold: 0,
            lower_threshold: 0,
        },
        active_connections: 6,
        inactive_connections: 7,
        persistent_connections: 8,
        totals,
    };
    Sample {
        dataplane: Some(DataplaneSample {
            sync: pollux_api::synchronisation::SyncStatus::default(),
            totals,
            table: TableStatus {
                connections: 9,
                connections_max: 1024,
                connections_max_ipv6: 256,
                connections_ipv6: 9,
                evicted: 10,
                forwarded_without_entry: 11,
                states: vec![StateCount {
                    kind: "tcp".to_owned(),
                    state: "ESTABLISHED".to_owned(),
                    connections: 9,
                }],
            },
            services: vec![ServiceStatistics {
                service,
                totals,
                destinations: vec![server],
            }],
            ports: vec![port()],
            workers: vec![worker()],
            drops: vec![DropReport {
                port: "wan".to_owned(),
                received: 20,
                held: 1,
                fates: vec![
                    fate("forwarded", false, 12),
                    fate("ipv4_truncated", true, 7),
                ],
            }],
        }),
        health: vec![ServerHealth {
            service: id,
            server: "203.0.113.11:80".parse().unwrap(),
            check: "a \"quoted\" check".to_owned(),
            state: pollux_api::health::ServerState::Up,
            since_ms: 0,
            against: 0,
            weight: None,
            recent: Vec::new(),
        }],
        quorums: vec![ServiceHealth {
            service: id,
            state: QuorumState::Lost,
            since_ms: 0,
            weight_up: 3,
            quorum: 4,
            sorry_server: None,
        }],
    }
}

fn fate(name: &str, is_drop: bool, packets: u64) -> FateCount {
    FateCount {
        fate: name.to_owned(),
        is_drop,
        meaning: String::new(),
        packets,
    }
}

fn port() -> PortStatus {
    PortStatus {
        name: "wan".to_owned(),
        device: "bond:lacp:0000:01:00.0+0000:01:00.1".to_owned(),
        driver: "net_bonding".to_owned(),
        mac: "02:00:00:00:00:01".to_owned(),
        mtu: 1500,
        gone: false,
        link_up: true,
        speed_mbps: Some(10_000),
        receive_queues: 1,
        transmit_queues: 1,
        spread: "rss".to_owned(),
        verifies_checksums: true,
        fills_checksums: false,
        exception_path: "vhost-net".to_owned(),
        numa_node: Some(0),
        other_macs: Vec::new(),
        members: vec![
            member("0000:01:00.0", true, true),
            member("0000:01:00.1", false, false),
        ],
        nic: NicCounters {
            received_packets: 20,
            ..NicCounters::default()
        },
        kernel_transmitted: 2,
        extended: Vec::new(),
    }
}

fn member(device: &str, link_up: bool, carries: bool) -> MemberStatus {
    MemberStatus {
        device: device.to_owned(),
        gone: !link_up,
        link_up,
        carries,
    }
}

fn worker() -> WorkerStatus {
    WorkerStatus {
        worker: 0,
        core: 1,
        loops: 1000,
        busy_loops: 10,
        received: 20,
        connections_created: 1,
        connections_expired: 0,
        connections: 1,
        generation: 3,
        connections_evicted: 0,
        forwarded_without_entry: 0,
        icmp_errors: 0,
        busy_share: 0.5,
        busy_ns: 1_500_000_000,
        answers_met: 3,
        answers_apart: 1,
    }
}

fn written(sample: Sample, format: Format) -> String {
    let mut text = String::new();
    encode(Arc::new(sample), format, &mut text).unwrap();
    text
}

/// Names of the samples in a text.
fn names(text: &str) -> std::collections::BTreeSet<&str> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect()
}

#[test]
fn values_have_their_names_labels_and_units() {
    let text = written(sample(), Format::Prometheus);
    for line in [
        "# TYPE pollux_service_inbound_bytes_total counter",
        r#"pollux_service_connections_total{service="TCP 198.51.100.1:80"} 1"#,
        r#"pollux_server_outbound_bytes_total{service="TCP 198.51.100.1:80",server="203.0.113.11:80"} 5"#,
        r#"pollux_server_active_connections{service="TCP 198.51.100.1:80",server="203.0.113.11:80"} 6"#,
        r#"pollux_server_persistent_connections{service="TCP 198.51.100.1:80",server="203.0.113.11:80"} 8"#,
        r#"pollux_server_up{service="TCP 198.51.100.1:80",server="203.0.113.11:80",check="a \"quoted\" check"} 1"#,
        r#"pollux_packets_total{port="wan",fate="ipv4_truncated",drop="true"} 7"#,
        r#"pollux_connections{kind="tcp",state="ESTABLISHED"} 9"#,
        r#"pollux_worker_busy_seconds_total{worker="0",core="1"} 1.5"#,
        r#"pollux_port_speed_bytes{port="wan"} 1250000000"#,
        r#"pollux_port_member_up{port="wan",member="0000:01:00.0"} 1"#,
        r#"pollux_port_member_up{port="wan",member="0000:01:00.1"} 0"#,
        r#"pollux_port_member_carries{port="wan",member="0000:01:00.0"} 1"#,
        r#"pollux_port_member_gone{port="wan",member="0000:01:00.1"} 1"#,
        "pollux_table_entries_max 1024",
        "pollux_table_ipv6_entries 9",
        "pollux_table_ipv6_entries_max 256",
        "pollux_dataplane_up 1",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line}\nis not in\n{text}"
        );
    }
}

#[test]
fn every_family_is_described_once_before_its_samples() {
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let text = written(sample(), format);
        let mut described = std::collections::BTreeSet::new();
        let mut family = "";
        for line in text.lines().filter(|line| *line != "# EOF") {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(described.insert(name.to_owned()), "{name} twice");
                assert!(help.len() > 10, "{line}");
                family = name;
            } else if !line.starts_with('#') {
                assert!(line.starts_with(family), "{line} of {family}");
                let value = line.rsplit(' ').next().unwrap();
                value.parse::<f64>().unwrap();
            }
        }
        assert!(described.len() > 40, "{described:?}");
        assert!(described.iter().all(|name| name.starts_with("pollux_")));
    }
}

#[test]
fn openmetrics_is_what_prometheus_asks_for() {
    let accepts =
        "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    assert_eq!(Format::accepted(accepts), Format::OpenMetrics);
    assert_eq!(Format::accepted("*/*"), Format::Prometheus);
    let (old, new) = (
        written(sample(), Format::Prometheus),
        written(sample(), Format::OpenMetrics),
    );
    assert!(new.ends_with("\n# EOF\n"));
    assert!(new.contains("# UNIT pollux_worker_busy_seconds seconds\n"));
    assert_eq!(names(&old), names(&new));
}

#[test]
fn without_a_data_plane_there_is_still_an_answer() {
    let nothing = Sample {
        dataplane: None,
        health: Vec::new(),
        quorums: Vec::new(),
    };
    let text = written(nothing, Format::Prometheus);
    assert!(text.contains("\npollux_dataplane_up 0\n"), "{text}");
    assert_eq!(names(&text).len(), 2);
}

/// A panel that asks for what does not exist is empty and says nothing.
#[test]
fn the_dashboard_asks_for_metrics_that_exist() {
    let text = written(sample(), Format::Prometheus);
    let known = names(&text);
    let dashboard = include_str!("../../../scripts/grafana/pollux.json");
    let value: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let mut queries = Vec::new();
    collect_queries(&value, &mut queries);
    assert!(queries.len() > 20, "{queries:?}");
    let mut asked = std::collections::BTreeSet::new();
    for query in &queries {
        let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        for name in words.filter(|word| word.starts_with("pollux_")) {
            assert!(known.contains(name), "{name} in {query}");
            asked.insert(name);
        }
    }
    assert!(asked.len() > 20, "{asked:?}");
}

fn collect_queries(value: &serde_json::Value, queries: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if ["expr", "definition", "query"].contains(&name.as_str()) => {
                        queries.push(text.to_owned());
                    }
                    _ => collect_queries(value, queries),
                }
            }
        }
        serde_json::Value::Array(values) => {
            values
                .iter()
                .for_each(|value| collect_queries(value, queries));
        }
        _ => {}
    }
}
