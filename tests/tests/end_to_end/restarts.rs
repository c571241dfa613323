//! The data plane dies and comes back by itself, with its services and its connections.

use pollux_tests::lab::Lab;
use pollux_tests::lab::http::Connection;
use pollux_tests::lab::servers::{NAT, SERVERS4, TUNNEL, VIP4, VIP6, tcp};

#[test]
fn a_killed_data_plane_comes_back_with_services_and_connections() {
    let lab = Lab::start();
    lab.add(&tcp(VIP4, 80), "wrr", NAT, &SERVERS4, 80);
    lab.add(&tcp(VIP6, 80), "rr", TUNNEL, &SERVERS4, 80);
    let before = lab.pollux("show configuration --json");
    let mut open: Vec<Connection> = [VIP4, VIP6]
        .iter()
        .cycle()
        .take(12)
        .map(|vip| Connection::open(vip))
        .collect();
    let served_by: Vec<String> = open
        .iter_mut()
        .map(|connection| connection.get("/"))
        .collect();

    lab.kill("pollux-dataplane");
    lab.script("stop-daemons");
    lab.start_daemons("--workers 2 --keep-state");

    assert_eq!(lab.pollux("show configuration --json"), before);
    for (connection, name) in open.iter_mut().zip(&served_by) {
        assert_eq!(
            &connection.get("/"),
            name,
            "an open connection goes on with its server"
        );
    }
    assert_eq!(
        lab.curl_many(VIP4, 30).into_values().collect::<Vec<_>>(),
        [10, 10, 10]
    );
}

#[test]
fn a_fresh_start_knows_nothing_of_the_last_one() {
    let lab = Lab::start();
    lab.add(&tcp(VIP4, 80), "rr", NAT, &SERVERS4, 80);
    lab.curl(VIP4, "/");
    lab.script("stop-daemons");
    lab.start_daemons("--workers 2");
    assert!(lab.services().is_empty());
    assert!(lab.connections().is_empty());
}
