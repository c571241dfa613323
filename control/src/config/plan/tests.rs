//! A plan says what is done and to how many connections: on any two configurations, with any connections.

use pollux_api::statistics::{DestinationStatistics, TrafficTotals};
use proptest::prelude::*;

use super::*;
use crate::config::any_configuration::configuration;
use crate::config::validate;

/// The services of a configuration with connections dealt to their servers, in turn.
fn with_connections(
    configuration: &Configuration,
    dealt: &[(u32, u32, u32)],
) -> Vec<ServiceStatistics> {
    let mut dealt = dealt.iter().copied().cycle();
    let services = configuration.services.iter().map(|entry| {
        let servers = entry.destinations.iter().map(|destination| {
            let (active, inactive, templates) = dealt.next().unwrap();
            DestinationStatistics {
                destination: destination.clone(),
                active_connections: active,
                inactive_connections: inactive,
                persistent_connections: templates,
                totals: TrafficTotals::default(),
            }
        });
        ServiceStatistics {
            service: entry.service.clone(),
            totals: TrafficTotals::default(),
            destinations: servers.collect(),
        }
    });
    services.collect()
}

fn server(of: &Configuration, service: ServiceId, id: DestinationId) -> Option<Destination> {
    let servers = &of.service(service)?.destinations;
    servers.iter().find(|known| known.id == id).cloned()
}

proptest! {
    #[test]
    fn every_connection_meets_the_fate_that_was_told(
        from in configuration(),
        to in configuration(),
        dealt in prop::collection::vec((0..9_u32, 0..9_u32, 0..3_u32), 40),
    ) {
        let live = with_connections(&from, &dealt);
        let plan = Plan::new(7, &from, &to, &live);
        prop_assert_eq!(plan.changes(), diff::changes(&from, &to));
        let after = from.apply(&plan.changes()).unwrap();

        // From the two configurations alone: who loses its server, and whose server was edited.
        let ends = after.settings.get("expire_nodest_conn") == 1;
        let (mut lost, mut at_edited, mut all) = (0, 0, 0);
        for service in &live {
            for found in &service.destinations {
                let (id, connections) = (
                    found.destination.id,
                    u64::from(found.active_connections + found.inactive_connections),
                );
                all += connections;
                match server(&after, service.service.id, id) {
                    None => lost += connections,
                    Some(now) if now != found.destination => at_edited += connections,
                    Some(_) => {}
                }
            }
        }
        let (gone, spared) = if ends {
            (ConnectionFate::End, ConnectionFate::Pause)
        } else {
            (ConnectionFate::Pause, ConnectionFate::End)
        };
        prop_assert_eq!(plan.connections(gone), lost);
        prop_assert_eq!(plan.connections(spared), 0);
        let edits = plan.changes.iter().filter(|planned| {
            matches!(planned.change, Change::EditDestination { .. })
        });
        prop_assert_eq!(edits.map(|planned| planned.connections).sum::<u64>(), at_edited);
        for planned in &plan.changes {
            let number = planned.connections;
            prop_assert!(number <= all);
            let has_none = matches!(
                planned.change,
                Change::AddService { .. } | Change::AddDestination { .. } | Change::ReplaceMarks { .. }
            );
            prop_assert!(!has_none || (number == 0 && planned.fate == ConnectionFate::None));
            prop_assert!(!planned.differences.is_empty(), "{:?}", planned.change);
            let says = if number == 0 { "no live connections".to_owned() } else { format!("{number} live connection") };
            prop_assert!(
                planned.fate == ConnectionFate::None || planned.meaning.starts_with(&says),
                "{:?}", planned
            );
        }
    }
}

const FROM: &str = r#"
[[service]]
protocol = "tcp"
address = "198.51.100.1:80"
scheduler = "wrr"
persistence_timeout = 300
[[service.server]]
address = "203.0.113.11"
method = "nat"
weight = 3
[[service.server]]
address = "203.0.113.12"
method = "nat"
[[service.server]]
address = "203.0.113.13"
method = "tunnel"
"#;

fn parsed(text: &str) -> Configuration {
    validate::parse("test.toml", text)
        .unwrap()
        .configuration()
        .clone()
}

/// The differences and meanings of the plan from `FROM`, where each server has 5 connections and 2 templates.
fn said(to: &str) -> Vec<String> {
    let from = parsed(FROM);
    let live = with_connections(&from, &[(2, 3, 2)]);
    let plan = Plan::new(1, &from, &parsed(to), &live);
    let lines = plan
        .changes
        .iter()
        .map(|planned| format!("{} | {}", planned.differences.join(", "), planned.meaning));
    lines.collect()
}

#[test]
fn each_change_says_what_it_is_and_what_becomes_of_connections() {
    assert_eq!(
        said(&FROM.replace("weight = 3", "weight = 0")),
        ["weight 3 -> 0 | 5 live connections stay; no new ones"]
    );
    assert_eq!(
        said(&FROM.replace("method = \"tunnel\"", "method = \"direct\"")),
        ["method tunnel -> direct | 5 live connections stay; with the method they began with"]
    );
    assert_eq!(
        said(&FROM.replace(
            "method = \"tunnel\"",
            "method = \"tunnel\"\ntunnel_type = \"gre\""
        )),
        ["no special tunnel -> tunnel gre:-c | 5 live connections stay; in the new tunnel"]
    );
    assert_eq!(
        said(&FROM.replace("\"wrr\"", "\"rr\"").replace("300", "60")),
        [
            "scheduler wrr -> rr, persistent 300 s -> 60 s | 15 live connections stay; \
          6 persistent clients are kept at their server as long as before"
        ]
    );
    let (two, _) = FROM.rsplit_once("[[service.server]]").unwrap();
    assert_eq!(
        said(two),
        [
            "method tunnel, weight 1 | 5 live connections pause until it returns or they time out; \
          2 persistent clients are scheduled anew"
        ]
    );
    assert_eq!(
        said(""),
        ["servers: 3 | 15 live connections pause until it returns or they time out"]
    );
    assert_eq!(
        said(&format!("[ipvs]\nexpire_nodest_conn = 1\n{two}"))[1],
        "method tunnel, weight 1 | 5 live connections end at once, by expire_nodest_conn; \
         2 persistent clients are scheduled anew"
    );
    assert_eq!(
        said(&format!("[ipvs]\ntimeout_established = 60\n{FROM}")),
        [
            "timeout_established 900 -> 60 | 15 live connections have the new timeout from the next packet on"
        ]
    );
    assert_eq!(
        said(&FROM.replacen(
            "scheduler = \"wrr\"",
            "scheduler = \"wrr\"\ntimeouts = { tcp = 60 }",
            1
        )),
        [
            "timeouts of all -> tcp 60 | 15 live connections stay, with the new timeouts from the next packet on"
        ]
    );
    assert_eq!(
        said(&format!("[ipvs]\nsloppy_tcp = 1\n{FROM}")),
        ["sloppy_tcp 0 -> 1 | for packets from now on"]
    );
    assert_eq!(
        said(&format!(
            "{FROM}[[service]]\nprotocol = \"udp\"\naddress = \"198.51.100.1:53\"\none_packet = true\n"
        ))[0],
        "scheduler wlc, one packet | "
    );
}

#[test]
fn an_unchanged_configuration_plans_nothing() {
    assert_eq!(said(FROM), Vec::<String>::new());
}
