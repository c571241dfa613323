//! SCTP: associations through NAT, a tunnel and direct routing. Kernels of test machines lack it, so both ends are made by
//! hand on raw sockets; on the way they meet the same director as everything else.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use pollux_tests::lab::Lab;
use pollux_tests::lab::sctp::{Association, SctpServers};
use pollux_tests::lab::servers::{
    DIRECT, NAMES, NAT, SERVERS4, SERVERS6, Service, TUNNEL, VIP4, VIP6, endpoint, sctp,
};
use pollux_tests::lab::tools::{ipvs, lines_with};

/// Diameter's.
const PORT: u16 = 3868;
const CLIENT4: &str = "192.0.2.10";
const CLIENT6: &str = "2001:db8:1::10";

fn servers_at(addresses: [&str; 3], port: u16) -> SctpServers {
    let ends: Vec<_> = NAMES.into_iter().zip(addresses).collect();
    SctpServers::start(port, &ends)
}

/// How many SCTP connections are established, as the stock tool lists them.
fn established() -> usize {
    let listed = ipvs("ipvsadm -Lcn");
    let connections = lines_with(&listed, "SCTP").into_iter();
    connections
        .filter(|words| words[2] == "ESTABLISHED")
        .count()
}

fn every_server_answers(lab: &Lab, service: &Service, client: &str, vip: &str) {
    let server: SocketAddr = endpoint(vip, PORT).parse().unwrap();
    lab.watch_client();
    let open: Vec<Association> = (0..6)
        .map(|number| Association::open(client, 40_000 + number, server))
        .collect();
    assert_eq!(established(), 6, "{service}");
    let names: Vec<String> = open.iter().map(Association::ask).collect();
    let first: BTreeSet<&String> = names.iter().take(3).collect();
    assert_eq!(first.len(), 3, "{names:?}");
    assert_eq!(names[..3], names[3..], "in turn");
    for (association, name) in open.into_iter().zip(&names) {
        assert_eq!(&association.ask(), name, "an association stays");
        association.close();
    }
    assert_eq!(established(), 0, "{service}");
    lab.assert_client_saw_no_server();
}

#[test]
fn associations_go_through_nat() {
    let lab = Lab::start();
    for (client, vip, servers) in [(CLIENT4, VIP4, SERVERS4), (CLIENT6, VIP6, SERVERS6)] {
        lab.pollux("flush");
        let service = sctp(vip, PORT);
        // The port is translated, too.
        lab.add(&service, "rr", NAT, &servers, PORT + 1);
        let ends = servers_at(servers, PORT + 1);
        every_server_answers(&lab, &service, client, vip);
        ends.finish();
    }
}

#[test]
fn associations_go_through_tunnels_and_direct_routing() {
    let lab = Lab::start();
    for method in [TUNNEL, DIRECT] {
        lab.pollux("flush");
        let service = sctp(VIP4, PORT);
        lab.add(&service, "rr", method, &SERVERS4, PORT);
        let ends = servers_at([VIP4; 3], PORT);
        every_server_answers(&lab, &service, CLIENT4, VIP4);
        ends.finish();
    }
}
