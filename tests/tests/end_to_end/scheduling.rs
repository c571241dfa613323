//! Who gets the next connection: shares, preference of the idle, draining, limits, and single packets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pollux_tests::lab::echo::{ECHO_PORT, EchoClient, Echoes};
use pollux_tests::lab::http::Connection;
use pollux_tests::lab::servers::{
    DIRECT, NAMES, NAT, SERVERS4, SERVERS6, TUNNEL, VIP4, VIP6, tcp, udp,
};
use pollux_tests::lab::{Lab, eventually};

#[test]
fn wrr_shares_by_weight_exactly() {
    let lab = Lab::start();
    let service = tcp(VIP4, 80);
    lab.add(&service, "wrr", NAT, &SERVERS4, 80);
    for (server, weight) in SERVERS4.into_iter().zip([3, 2, 1]) {
        lab.set_weight(&service, server, weight);
    }
    assert_eq!(lab.curl_many(VIP4, 600), counts([300, 200, 100]));
    for (server, connections) in SERVERS4.into_iter().zip([300, 200, 100]) {
        assert_eq!(
            lab.server(server).totals.connections,
            connections,
            "{server}"
        );
    }
}

#[test]
fn rr_shares_equally_over_ipv6() {
    let lab = Lab::start();
    lab.add(&tcp(VIP6, 80), "rr", DIRECT, &SERVERS6, 80);
    assert_eq!(lab.curl_many(VIP6, 60), counts([20, 20, 20]));
}

#[test]
fn wlc_prefers_the_idle_server() {
    let lab = Lab::start();
    let service = tcp(VIP4, 80);
    lab.add(&service, "wlc", NAT, &SERVERS4[..1], 80);
    // Each of these weighs as much as 256 finished ones.
    let mut busy: Vec<Connection> = (0..3).map(|_| Connection::open(VIP4)).collect();
    assert!(
        busy.iter_mut()
            .all(|connection| connection.get("/") == "rs1")
    );
    lab.pollux(&format!("server add {service} -r 203.0.113.12:80 -m"));
    assert_eq!(
        lab.curl_many(VIP4, 40),
        BTreeMap::from([("rs2".to_owned(), 40)])
    );
    assert_eq!(lab.server(SERVERS4[0]).active_connections, 3);
    assert!(
        busy.iter_mut()
            .all(|connection| connection.get("/") == "rs1"),
        "established connections go on"
    );
}

#[test]
fn wlc_spreads_open_connections_by_weight() {
    let lab = Lab::start();
    let service = tcp(VIP4, 80);
    lab.add(&service, "wlc", NAT, &SERVERS4, 80);
    lab.set_weight(&service, SERVERS4[0], 2);
    let mut open: Vec<Connection> = (0..40).map(|_| Connection::open(VIP4)).collect();
    let mut shares = BTreeMap::new();
    for connection in &mut open {
        *shares.entry(connection.get("/")).or_insert(0) += 1;
    }
    assert_eq!(shares, counts([20, 10, 10]));
}

#[test]
fn weight_zero_drains() {
    let lab = Lab::start();
    let service = tcp(VIP4, 80);
    lab.add(&service, "rr", NAT, &SERVERS4[..2], 80);
    let mut open: Vec<Connection> = (0..4).map(|_| Connection::open(VIP4)).collect();
    let served_by: Vec<String> = open
        .iter_mut()
        .map(|connection| connection.get("/"))
        .collect();
    assert!(served_by.iter().any(|name| name == "rs1"));

    lab.set_weight(&service, SERVERS4[0], 0);
    assert_eq!(
        lab.curl_many(VIP4, 20),
        BTreeMap::from([("rs2".to_owned(), 20)]),
        "none new"
    );
    for (connection, name) in open.iter_mut().zip(&served_by) {
        assert_eq!(&connection.get("/"), name, "established connections go on");
    }

    lab.set_weight(&service, SERVERS4[0], 1);
    assert_eq!(lab.curl_many(VIP4, 20), counts([10, 10, 0]));
}

#[test]
fn with_every_server_at_weight_zero_new_clients_are_refused() {
    let lab = Lab::start();
    let service = tcp(VIP4, 80);
    lab.add(&service, "wlc", NAT, &SERVERS4[..1], 80);
    lab.set_weight(&service, SERVERS4[0], 0);
    assert!(!lab.curl_succeeds(VIP4));
    lab.set_weight(&service, SERVERS4[0], 1);
    assert!(lab.curl_succeeds(VIP4));
}

#[test]
fn one_packet_scheduling_sends_each_datagram_on_its_own() {
    let lab = Lab::start();
    let _echoes = Echoes::start();
    let service = udp(VIP4, ECHO_PORT);
    lab.add(&service, "rr", TUNNEL, &SERVERS4, ECHO_PORT);
    // One socket, so one flow.
    let client = EchoClient::new(VIP4);
    let name = client.ask(b"hello");
    assert_eq!(client.ask(b"hello"), name, "a connection has one server");

    lab.pollux("flush");
    lab.add(&service, "rr", TUNNEL, &SERVERS4, ECHO_PORT);
    lab.pollux(&format!("service edit {service} --ops"));
    let client = EchoClient::new(VIP4);
    let names: Vec<String> = (0..6).map(|_| client.ask(b"hello")).collect();
    assert_eq!(
        names[..3].iter().collect::<BTreeSet<_>>().len(),
        3,
        "{names:?}"
    );
    assert_eq!(names[..3], names[3..], "in turn");
    let mine = lab.connections().into_iter();
    let mine = mine.filter(|entry| entry.client.port() == client.port());
    assert_eq!(mine.count(), 0, "and none is kept");
    for server in SERVERS4 {
        assert_eq!(lab.server(server).totals.connections, 2, "{server}");
    }
}

/// Thresholds count what is over, too, until its entry is gone: 10 s after a reset.
#[test]
fn a_server_at_its_threshold_gets_no_more_until_it_is_below_the_lower_one() {
    let lab = Lab::start();
    let service = tcp(VIP4, 80);
    lab.add(&service, "rr", NAT, &SERVERS4[..2], 80);
    for server in &SERVERS4[..2] {
        lab.pollux(&format!("server edit {service} -r {server}:80 -x 2 -y 1"));
    }
    let mut open: Vec<Connection> = (0..4).map(|_| Connection::open(VIP4)).collect();
    let mut of_the_first = Vec::new();
    let mut of_the_second = Vec::new();
    for mut connection in open.drain(..) {
        match &*connection.get("/") {
            "rs1" => of_the_first.push(connection),
            _ => of_the_second.push(connection),
        }
    }
    assert_eq!((of_the_first.len(), of_the_second.len()), (2, 2));
    assert!(!lab.curl_succeeds(VIP4), "both are full");
    // One over: the second one has one less than its limit, and is not below the lower one.
    of_the_second.remove(0).reset();
    let one_less = eventually(Duration::from_secs(20), || {
        let server = lab.server(SERVERS4[1]);
        server.active_connections + server.inactive_connections == 1
    });
    assert!(one_less, "{:?}", lab.server(SERVERS4[1]));
    assert!(!lab.curl_succeeds(VIP4), "one is still too many");
    of_the_second.remove(0).reset();
    let served = eventually(Duration::from_secs(20), || lab.curl_succeeds(VIP4));
    assert!(served, "{:?}", lab.server(SERVERS4[1]));
    assert_eq!(lab.server(SERVERS4[0]).totals.connections, 2);
    for connection in &mut of_the_first {
        assert_eq!(connection.get("/"), "rs1", "those that are there go on");
    }
}

/// Answers by server, those with none left out.
fn counts(numbers: [usize; 3]) -> BTreeMap<String, usize> {
    NAMES
        .map(str::to_owned)
        .into_iter()
        .zip(numbers)
        .filter(|(_, number)| *number > 0)
        .collect()
}
