//! The screen as text, after keys. What it must look like is in `screens/`; `POLLUX_WRITE_SCREENS=1` writes those anew.

use std::path::Path;
use std::time::Instant;

use pollux_api::control::{DirectorReport, PortReport, WorkerReport};
use pollux_api::dataplane::{MemberStatus, NicCounters, PortStatus, TableStatus, WorkerStatus};
use pollux_api::statistics::{
    DestinationStatistics, DropReport, FateCount, PortRates, RateReport, Rates, ServiceStatistics,
    TrafficTotals, WorkerRates,
};
use pollux_api::{Destination, ForwardingMethod, ServiceId, VirtualService, Weight};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::*;

fn service_id(json: &str) -> ServiceId {
    serde_json::from_str(json).unwrap()
}

fn rates(connections: u64) -> Rates {
    Rates {
        connections,
        inbound_packets: connections * 10,
        outbound_packets: connections * 8,
        inbound_bytes: connections * 1_200,
        outbound_bytes: connections * 123_456,
    }
}

/// A service and its rates, with servers of these names, weights and active connections.
fn service(
    id: &str,
    connections: u64,
    servers: &[(&str, u64, u32)],
) -> (ServiceStatistics, RateReport) {
    let id = service_id(id);
    let statistics = servers
        .iter()
        .map(|(name, weight, active)| DestinationStatistics {
            destination: Destination {
                id: name.parse().unwrap(),
                method: ForwardingMethod::Nat,
                weight: Weight::try_from(*weight).unwrap(),
                tunnel: Default::default(),
                upper_threshold: 0,
                lower_threshold: 0,
            },
            active_connections: *active,
            inactive_connections: 3,
            persistent_connections: 0,
            totals: TrafficTotals::default(),
        });
    let part = connections / servers.len().max(1) as u64;
    let parts = servers
        .iter()
        .enumerate()
        .map(|(index, (name, ..))| (name.parse().unwrap(), rates(part + index as u64)));
    (
        ServiceStatistics {
            service: VirtualService::new(id),
            totals: TrafficTotals {
                connections: 1_234_567,
                ..TrafficTotals::default()
            },
            destinations: statistics.collect(),
        },
        RateReport {
            service: id,
            rates: rates(connections),
            destinations: parts.collect(),
        },
    )
}

fn reading(at: Instant, dropped: u64) -> Reading {
    let all = [
        service(
            r#"{"protocol":"tcp","endpoint":"198.51.100.1:80"}"#,
            1_000,
            &[
                ("203.0.113.11:80", 3, 120),
                ("203.0.113.12:80", 0, 4),
                ("203.0.113.13:8080", 1, 50),
            ],
        ),
        service(
            r#"{"protocol":"udp","endpoint":"[2001:db8:1000:2000:3000:4000:5000:6000]:53"}"#,
            250_000,
            &[("[2001:db8:2::11]:53", 1, 0)],
        ),
        service(
            r#"{"fwmark":7,"family":"ipv4"}"#,
            0,
            &[("203.0.113.14:0", 0, 0)],
        ),
    ];
    let (services, rate_reports) = all.into_iter().unzip();
    let worker = |worker: u16, busy_share| WorkerReport {
        status: WorkerStatus {
            worker,
            core: worker + 1,
            loops: 1_000,
            busy_loops: 100,
            received: 12_345_678,
            connections_created: 600_000,
            connections_expired: 100_000,
            connections: 500_000,
            generation: 5,
            connections_evicted: 0,
            forwarded_without_entry: 0,
            icmp_errors: 0,
            busy_share,
            busy_ns: 0,
            answers_met: 3,
            answers_apart: 1,
        },
        rates: WorkerRates {
            connections: 500,
            received_packets: 1_250_000,
        },
    };
    let port = |name: &str, link_up| PortReport {
        status: PortStatus {
            name: name.to_owned(),
            device: "0000:01:00.0".to_owned(),
            driver: "net_ixgbe".to_owned(),
            mac: "02:00:00:00:00:01".to_owned(),
            mtu: 1500,
            gone: false,
            link_up,
            speed_mbps: Some(10_000),
            receive_queues: 2,
            transmit_queues: 2,
            spread: "rss".to_owned(),
            verifies_checksums: true,
            fills_checksums: false,
            exception_path: "vhost-net".to_owned(),
            numa_node: Some(0),
            other_macs: Vec::new(),
            members: Vec::new(),
            nic: NicCounters {
                missed_packets: 3,
                ..NicCounters::default()
            },
            kernel_transmitted: 0,
            extended: Vec::new(),
        },
        rates: PortRates {
            received_packets: 2_500_000,
            sent_packets: 2_000_000,
            received_bytes: 300_000_000,
            sent_bytes: 1_100_000_000,
        },
    };
    let member = |device: &str, link_up, carries| MemberStatus {
        device: device.to_owned(),
        gone: false,
        link_up,
        carries,
    };
    let mut bond = port("wan", true);
    bond.status.members = vec![
        member("0000:01:00.0", true, true),
        member("0000:02:00.0", true, false),
        member(
            "net_tap10,iface=member0,mac=02:00:00:00:01:01",
            false,
            false,
        ),
    ];
    let mut gone = port("dmz", false);
    gone.status.gone = true;
    let fate = |fate: &str, is_drop, packets, meaning: &str| FateCount {
        fate: fate.to_owned(),
        is_drop,
        meaning: meaning.to_owned(),
        packets,
    };
    Reading {
        at,
        director: DirectorReport {
            totals: TrafficTotals::default(),
            rates: rates(251_000),
            table: TableStatus {
                connections: 1_000_000,
                connections_max: 4_000_000,
                connections_max_ipv6: 1_000_000,
                connections_ipv6: 9,
                evicted: 0,
                forwarded_without_entry: 0,
                states: Vec::new(),
            },
        },
        services,
        rates: rate_reports,
        ports: vec![bond, port("lan", false), gone],
        workers: vec![worker(0, 0.125), worker(1, 0.95)],
        drops: vec![DropReport {
            port: "wan".to_owned(),
            received: 1_000_000,
            held: 0,
            fates: vec![
                fate(
                    "forwarded",
                    false,
                    900_000 + dropped,
                    "Sent to a server or back to a client.",
                ),
                fate(
                    "ipv4_truncated",
                    true,
                    100,
                    "IPv4 header or packet longer than the frame.",
                ),
                fate(
                    "no_destination",
                    true,
                    dropped,
                    "No server of the service takes connections.",
                ),
                fate("too_big", true, 0, "Never."),
            ],
        }],
    }
}

/// A program that has read twice, two seconds apart.
fn app() -> App {
    let start = Instant::now();
    let mut app = App::default();
    app.update(reading(start, 1_000));
    app.update(reading(start + Duration::from_secs(2), 4_000));
    app
}

fn press(app: &mut App, keys: &[KeyCode]) -> Action {
    let mut action = Action::Nothing;
    for key in keys {
        action = app.press(KeyEvent::new(*key, KeyModifiers::NONE));
    }
    action
}

fn screen_of(app: &mut App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen::draw(app, frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(usize::from(width)).map(|cells| {
        let line: String = cells.iter().map(|cell| cell.symbol()).collect();
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

/// Compares screens of 80 and 200 columns with the files of this name.
fn assert_screens(app: &mut App, name: &str) {
    for width in [80, 200] {
        let shown = screen_of(app, width, 16);
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("src/cli/top/screens/{name}-{width}.txt"));
        if std::env::var_os("POLLUX_WRITE_SCREENS").is_some() {
            std::fs::write(&path, &shown).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(shown, expected, "{}:\n{shown}", path.display());
    }
}

#[test]
fn services() {
    assert_screens(&mut app(), "services");
}

#[test]
fn servers_of_the_chosen_service() {
    let mut app = app();
    press(&mut app, &[KeyCode::Down, KeyCode::Enter]);
    assert_screens(&mut app, "servers");
}

#[test]
fn drops() {
    let mut app = app();
    press(&mut app, &[KeyCode::Char('2')]);
    assert_screens(&mut app, "drops");
}

#[test]
fn workers_and_ports() {
    let mut app = app();
    press(&mut app, &[KeyCode::Char('3')]);
    assert_screens(&mut app, "workers");
}

#[test]
fn a_drain_is_asked_for_and_done_on_yes_only() {
    let mut app = app();
    assert_eq!(press(&mut app, &[KeyCode::Char('d')]), Action::Nothing);
    assert!(app.message.is_some(), "no server is chosen");
    press(
        &mut app,
        &[
            KeyCode::Down,
            KeyCode::Enter,
            KeyCode::Char('s'),
            KeyCode::Char('s'),
        ],
    );
    press(
        &mut app,
        &[KeyCode::Char('s'), KeyCode::Home, KeyCode::Char('d')],
    );
    let wanted = Drain {
        service: service_id(r#"{"protocol":"tcp","endpoint":"198.51.100.1:80"}"#),
        server: "203.0.113.11:80".parse().unwrap(),
    };
    assert_eq!(app.question, Some(wanted));
    assert_screens(&mut app, "drain");
    // News do not take the question away, nor change what it is about.
    app.update(reading(Instant::now(), 5_000));
    assert_eq!(app.question, Some(wanted));
    assert_eq!(press(&mut app, &[KeyCode::Enter]), Action::Nothing);
    assert_eq!(app.question, None);
    let action = press(&mut app, &[KeyCode::Char('d'), KeyCode::Char('y')]);
    assert_eq!(action, Action::Drain(wanted));
    assert_eq!(app.question, None);
}

#[test]
fn the_selected_one_stays_selected_and_orders_change() {
    let mut app = app();
    let names =
        |app: &App| -> Vec<String> { app.rows.iter().map(|row| row.name.clone()).collect() };
    assert!(
        names(&app)[0].starts_with("UDP"),
        "most connections a second"
    );
    press(&mut app, &[KeyCode::Down]);
    press(&mut app, &[KeyCode::Char('r')]);
    assert_eq!(app.table.selected(), Some(1));
    assert!(names(&app)[1].starts_with("TCP"));
    press(
        &mut app,
        &[KeyCode::Char('r'), KeyCode::Char('s'), KeyCode::Char('s')],
    );
    press(&mut app, &[KeyCode::Char('s')]);
    assert!(names(&app)[0].starts_with("TCP"), "most active connections");
    assert_eq!(app.table.selected(), Some(0));
    press(&mut app, &[KeyCode::End]);
    assert_eq!(app.table.selected(), Some(2));
    press(&mut app, &[KeyCode::PageUp, KeyCode::Up]);
    assert_eq!(app.table.selected(), Some(0));
}

#[test]
fn a_service_that_goes_closes_its_page() {
    let mut app = app();
    press(&mut app, &[KeyCode::Enter]);
    let mut without = reading(Instant::now(), 4_000);
    without.services.clear();
    without.rates.clear();
    app.update(without);
    assert_eq!(app.page, app::Page::Services);
    assert!(app.message.as_ref().unwrap().ends_with(" is gone"));
    assert!(app.rows.is_empty());
    // No key falls over an empty page.
    for key in "123srjkdq".chars() {
        press(
            &mut app,
            &[KeyCode::Char(key), KeyCode::End, KeyCode::Enter],
        );
    }
    screen_of(&mut app, 80, 16);
}

#[test]
fn before_the_first_reading_and_on_any_size_there_is_something() {
    let mut nothing = App::default();
    assert!(screen_of(&mut nothing, 80, 10).contains("waiting for polluxd"));
    nothing.say("polluxd is not running".to_owned());
    assert!(screen_of(&mut nothing, 80, 10).contains("polluxd is not running"));
    for page in "123".chars() {
        let mut app = app();
        press(&mut app, &[KeyCode::Char(page)]);
        for (width, height) in [(1, 1), (59, 30), (60, 8), (80, 9), (500, 100)] {
            screen_of(&mut app, width, height);
        }
    }
    assert!(screen_of(&mut app(), 59, 30).starts_with("too small: needs 60 x 8; q quits\n"));
}

#[test]
fn keys_that_end() {
    let mut app = app();
    assert_eq!(press(&mut app, &[KeyCode::Char('q')]), Action::Quit);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(app.press(control_c), Action::Quit);
}
