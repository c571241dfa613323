//! The kernel's routes and neighbours, mirrored: a change there counts for living connections at once, and packets
//! wait for a neighbour that is not known yet.

use std::time::Duration;

use pollux_tests::lab::Lab;
use pollux_tests::lab::eventually;
use pollux_tests::lab::http::Connection;
use pollux_tests::lab::namespace::run;
use pollux_tests::lab::servers::{DIRECT, NAT, SERVERS4, SERVERS6, TUNNEL, VIP4, VIP6, tcp, udp};

#[test]
fn the_first_packet_to_an_unknown_neighbour_waits_for_it() {
    let lab = Lab::start();
    let cases = [
        (VIP4, NAT, SERVERS4),
        (VIP6, DIRECT, SERVERS6),
        (VIP4, TUNNEL, SERVERS6),
    ];
    for (vip, method, servers) in cases {
        lab.pollux("flush");
        lab.add(&udp(vip, 53), "rr", method, &servers, 53);
        for _ in servers {
            run("director", "ip -4 neigh flush dev server0");
            run("director", "ip -6 neigh flush dev server0");
            // One packet, sent once: had it been lost, there would be no answer.
            lab.dig(vip);
        }
    }
}

#[test]
fn a_server_with_a_new_mac_keeps_its_connections() {
    let lab = Lab::start();
    lab.add(&tcp(VIP4, 80), "rr", NAT, &SERVERS4[..1], 80);
    let mut connection = Connection::open(VIP4);
    assert_eq!(connection.get("/"), "rs1");
    for mac in ["02:00:00:00:02:99", "02:00:00:00:02:11"] {
        run("rs1", &format!("ip link set lan0 address {mac}"));
        run(
            "director",
            &format!("ip neigh replace 203.0.113.11 lladdr {mac} nud stale dev server0"),
        );
        assert_eq!(connection.get("/"), "rs1");
    }
}

#[test]
fn a_changed_route_counts_at_once() {
    let lab = Lab::start();
    lab.add(&tcp(VIP4, 80), "rr", NAT, &SERVERS4[..1], 80);
    let mut connection = Connection::open(VIP4);
    assert_eq!(connection.get("/"), "rs1");
    // By the router, which is on the client's network as well: another MAC, same end.
    run("director", "ip route add 192.0.2.10/32 via 192.0.2.254");
    assert_eq!(connection.get("/"), "rs1");
    // By nobody.
    run("director", "ip route replace 192.0.2.10/32 via 192.0.2.99");
    assert!(eventually(Duration::from_secs(2), || !lab.curl_succeeds(VIP4)));
    run("director", "ip route del 192.0.2.10/32");
    assert_eq!(connection.get("/"), "rs1");
}

#[test]
fn a_server_that_was_away_is_found_again() {
    let lab = Lab::start();
    lab.add(&tcp(VIP4, 80), "rr", NAT, &SERVERS4[..1], 80);
    run("rs1", "ip link set lan0 down");
    run("director", "ip neigh flush dev server0");
    assert!(!lab.curl_succeeds(VIP4));
    run("rs1", "ip link set lan0 up");
    // Its routes went with the link.
    run("rs1", "ip route add default via 203.0.113.1");
    assert!(eventually(Duration::from_secs(10), || lab.curl_succeeds(VIP4)));
}
