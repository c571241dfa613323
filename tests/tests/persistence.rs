//! Persistence against an obvious model: a map from client networks to servers, with the kernel's timers.

use std::collections::BTreeMap;

use pollux_engine::clock::seconds;
use pollux_tests::fuzz::choices::{Choices, Seeded};
use pollux_tests::golden::command::{Command, parse};
use pollux_tests::golden::director::{Director, Outcome};
use pollux_tests::golden::packet::{ethernet, tcp, udp};
use pollux_tests::golden::topology::{GATEWAY_MAC, mac, server_mac};
use pollux_tests::golden::trace::Wire;

const TIMEOUT_S: u32 = 60;
/// A half-open connection's, and half a second more.
const CHILD_S: u32 = 60;
/// `ip_vs_conn_expire`.
const LATER_S: u32 = 60;

fn service(options: &str, protocol: &str) -> Director {
    let service = format!("ipvsadm -A -{protocol} 192.0.2.100:80 -s rr {options}");
    let servers =
        [1, 2, 3].map(|n| format!("ipvsadm -a -{protocol} 192.0.2.100:80 -r 10.1.0.1{n} -m"));
    let [one, two, three] = servers.each_ref().map(String::as_str);
    Director::configured(&[&service, one, two, three])
}

fn change(director: &mut Director, line: &str) {
    match parse(line) {
        Ok(Command::Change(change)) => director.change(&change).unwrap(),
        other => panic!("{line}: {other:?}"),
    }
}

fn segment(client: [u8; 2], port: u16, flags: &str) -> Vec<u8> {
    let [network, host] = client;
    let from = format!("198.51.{network}.{host}:{port}").parse().unwrap();
    let packet = tcp(from, "192.0.2.100:80".parse().unwrap(), flags, &[]);
    ethernet(mac(Wire::Cl), GATEWAY_MAC, &packet)
}

/// The server that got the frame.
fn server(outcome: &Outcome) -> Option<u8> {
    let Outcome::Out(Wire::Rs, bytes) = outcome else {
        return None;
    };
    (1..=3).find(|server| bytes.starts_with(&server_mac(*server)))
}

fn open(director: &mut Director, client: [u8; 2], port: u16) -> Option<u8> {
    let outcome = director.receive(Wire::Cl, &segment(client, port, "S"));
    server(&outcome)
}

/// Templates as listed: client, seconds left, state, port of the destination.
fn templates(director: &Director) -> Vec<(String, u32, &'static str, u16)> {
    let now = director.now();
    let mut listed: Vec<_> = director
        .connections()
        .filter(|found| found.is_template())
        .map(|found| {
            let key = found.key(pollux_engine::connection::Direction::Inbound);
            let left = u32::try_from(now.until(found.end(now))).unwrap() / seconds(1);
            let state = found.life().state().name();
            let client = key.source().to_string();
            (client, left, state, found.destination_port())
        })
        .collect();
    listed.sort();
    listed
}

/// A template of the model: its timers are the kernel's.
#[derive(Debug)]
struct Kept {
    server: u8,
    end: u32,
    timeout: u32,
}

#[derive(Debug, Default)]
struct Model {
    now: u32,
    /// By network.
    kept: BTreeMap<u8, Kept>,
    /// By client and port: server and end.
    open: BTreeMap<([u8; 2], u16), (u8, u32)>,
    turn: u8,
}

impl Model {
    fn open(&mut self, client: [u8; 2], port: u16) -> u8 {
        let now = self.now;
        if let Some((server, end)) = self.open.get_mut(&(client, port)) {
            *end = now + CHILD_S;
            return *server;
        }
        let turn = &mut self.turn;
        let kept = self.kept.entry(client[0]).or_insert_with(|| {
            *turn = if *turn <= 1 { 3 } else { *turn - 1 };
            Kept {
                server: *turn,
                end: 0,
                timeout: TIMEOUT_S,
            }
        });
        kept.end = now + kept.timeout;
        self.open
            .insert((client, port), (kept.server, now + CHILD_S));
        kept.server
    }

    /// A second passes; what is gone at its end is gone.
    fn second(&mut self) {
        self.now += 1;
        let now = self.now;
        // Half a second late, both, so not before the next whole one.
        self.open.retain(|_, (_, end)| *end + 1 > now);
        let open = &self.open;
        self.kept.retain(|network, kept| {
            if kept.end + 1 > now {
                return true;
            }
            let controls = open.keys().any(|(client, _)| client[0] == *network);
            if controls {
                (kept.end, kept.timeout) = (kept.end + LATER_S, LATER_S);
            }
            controls
        });
    }
}

#[test]
fn clients_stay_where_the_model_keeps_them() {
    for seed in 0..12 {
        let mut seeded = Seeded(seed);
        let mut director = service(&format!("-p {TIMEOUT_S} -M 255.255.255.0"), "t");
        let mut model = Model::default();
        let decisions = seeded.bytes(700);
        let mut choices = Choices::new(&decisions);
        let mut kept_open = 0;
        while !choices.is_over() {
            let client = [1 + choices.below(4), 1 + choices.below(3)];
            // Packets of an old flow, too, keep it open past the template's end.
            let port = 4000 + u16::from(choices.below(3));
            let flow = format!("seed {seed}, {} s, {client:?}:{port}", model.now);
            assert_eq!(
                open(&mut director, client, port),
                Some(model.open(client, port)),
                "{flow}"
            );
            for _ in 0..choices.of([0, 1, 7, 20, 45, 61, 70]) {
                director.sleep(1);
                model.second();
            }
            let ours = templates(&director).len();
            assert_eq!(ours, model.kept.len(), "{flow}: {model:#?}");
            kept_open += model.open.len();
            director.check().unwrap();
        }
        assert!(kept_open > 50, "seed {seed} shows little");
    }
}

#[test]
fn a_template_lives_on_by_minutes_while_it_controls_a_connection() {
    let mut director = service("-p 300", "t");
    let client = [1, 7];
    assert_eq!(open(&mut director, client, 4000), Some(3));
    director.receive(Wire::Cl, &segment(client, 4000, "A"));
    let kept = |director: &Director| templates(director).first().map(|found| (found.1, found.2));
    assert_eq!(kept(&director), Some((300, "ASSURED")));
    director.sleep(310);
    // A minute at a time.
    assert_eq!(kept(&director), Some((50, "ASSURED")));
    assert_eq!(open(&mut director, client, 4001), Some(3));
    // And a minute is its timeout now.
    assert_eq!(kept(&director), Some((60, "ASSURED")));
    for _ in 0..10 {
        director.sleep(100);
        director.receive(Wire::Cl, &segment(client, 4000, "A"));
        assert!(kept(&director).is_some());
    }
    // 900 s after its last packet the connection is over, and within a minute so is the template.
    director.sleep(880);
    assert!(kept(&director).is_some());
    director.sleep(90);
    assert_eq!(kept(&director), None);
    assert_eq!(open(&mut director, client, 4002), Some(2));
    director.check().unwrap();
}

#[test]
fn a_connection_on_old_ports_stays_with_its_server() {
    // The same ports again, long after the template would choose another server: a controlled connection is never
    // scheduled anew.
    let mut director = service("-p 10", "t");
    let client = [1, 7];
    assert_eq!(open(&mut director, client, 4000), Some(3));
    director.receive(Wire::Cl, &segment(client, 4000, "R"));
    assert_eq!(open(&mut director, client, 4000), Some(3));
    change(
        &mut director,
        "ipvsadm -e -t 192.0.2.100:80 -r 10.1.0.13:80 -m -w 0",
    );
    director.receive(Wire::Cl, &segment(client, 4000, "R"));
    assert_eq!(open(&mut director, client, 4000), Some(3));
}

#[test]
fn a_removed_servers_template_is_dead_and_its_clients_get_another() {
    let mut director = service("-p 300", "t");
    for host in 1..=3 {
        open(&mut director, [1, host], 4000);
    }
    change(
        &mut director,
        "ipvsadm -d -t 192.0.2.100:80 -r 10.1.0.13:80",
    );
    // The first client's server was the third.
    let other = open(&mut director, [1, 1], 4001);
    assert!(matches!(other, Some(1 | 2)), "{other:?}");
    let ports: Vec<u16> = templates(&director).iter().map(|found| found.3).collect();
    assert_eq!(ports.iter().filter(|port| **port == 65535).count(), 1);
    assert_eq!(ports.len(), 4);
    // It comes back: nothing changes for who has another one now.
    change(
        &mut director,
        "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.13:80 -m",
    );
    assert_eq!(open(&mut director, [1, 1], 4002), other);
    director.check().unwrap();
    director.sleep(400);
    assert!(templates(&director).is_empty());
    director.check().unwrap();
}

#[test]
fn answers_assure_a_udp_clients_template() {
    let mut director = service("-p 300", "u");
    let client = "198.51.1.7:4000".parse().unwrap();
    let query = udp(client, "192.0.2.100:80".parse().unwrap(), b"query");
    let sent = director.receive(Wire::Cl, &ethernet(mac(Wire::Cl), GATEWAY_MAC, &query));
    assert_eq!(server(&sent), Some(3));
    let state = |director: &Director| templates(director).first().map(|found| found.2);
    assert_eq!(state(&director), Some("NONE"));
    let answer = udp("10.1.0.13:80".parse().unwrap(), client, b"answer");
    director.receive(Wire::Rs, &ethernet(mac(Wire::Rs), server_mac(3), &answer));
    assert_eq!(state(&director), Some("ASSURED"));
}

#[test]
fn packets_scheduled_one_by_one_keep_to_a_persistent_clients_server() {
    let mut director = service("-p 300 --ops", "u");
    for round in 0..3 {
        for (host, expected) in [(1, 3), (2, 2), (3, 1), (4, 3)] {
            let client = format!("198.51.1.{host}:{}", 4000 + round).parse().unwrap();
            let query = udp(client, "192.0.2.100:80".parse().unwrap(), b"query");
            let frame = ethernet(mac(Wire::Cl), GATEWAY_MAC, &query);
            assert_eq!(server(&director.receive(Wire::Cl, &frame)), Some(expected));
        }
    }
    assert_eq!(director.connections().count(), 4, "templates and no more");
    director.check().unwrap();
}
