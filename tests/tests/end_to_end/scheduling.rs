//! Who gets the next connection: shares, preference of the idle, and draining.

use std::collections::BTreeMap;

use pollux_tests::lab::Lab;
use pollux_tests::lab::http::Connection;
use pollux_tests::lab::servers::{DIRECT, NAMES, NAT, SERVERS4, SERVERS6, VIP4, VIP6, tcp};

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

/// Answers by server, those with none left out.
fn counts(numbers: [usize; 3]) -> BTreeMap<String, usize> {
    NAMES
        .map(str::to_owned)
        .into_iter()
        .zip(numbers)
        .filter(|(_, number)| *number > 0)
        .collect()
}
