//! Every forwarding method, over both families, with real TCP and UDP: the right server answers, and the client sees
//! nothing but the VIP.

use std::collections::BTreeSet;

use pollux_tests::lab::Lab;
use pollux_tests::lab::servers::{
    DIRECT, GRE, GRE_CHECKSUM, GUE, GUE_CHECKSUM, NAMES, NAT, SERVERS4, SERVERS6, TUNNEL, VIP4,
    VIP6, tcp, udp,
};

#[test]
fn nat_over_ipv4() {
    every_server_answers(VIP4, NAT, SERVERS4);
}

#[test]
fn nat_over_ipv6() {
    every_server_answers(VIP6, NAT, SERVERS6);
}

#[test]
fn direct_over_ipv4() {
    every_server_answers(VIP4, DIRECT, SERVERS4);
}

#[test]
fn direct_over_ipv6() {
    every_server_answers(VIP6, DIRECT, SERVERS6);
}

#[test]
fn tunnel_of_ipv4_in_ipv4() {
    every_server_answers(VIP4, TUNNEL, SERVERS4);
}

#[test]
fn tunnel_of_ipv6_in_ipv6() {
    every_server_answers(VIP6, TUNNEL, SERVERS6);
}

#[test]
fn tunnel_of_ipv4_in_ipv6() {
    every_server_answers(VIP4, TUNNEL, SERVERS6);
}

#[test]
fn tunnel_of_ipv6_in_ipv4() {
    every_server_answers(VIP6, TUNNEL, SERVERS4);
}

#[test]
fn gre_of_ipv4_in_ipv4() {
    every_server_answers(VIP4, GRE, SERVERS4);
}

#[test]
fn gre_with_a_checksum_of_ipv4_in_ipv6() {
    every_server_answers(VIP4, GRE_CHECKSUM, SERVERS6);
}

#[test]
fn gue_of_ipv4_in_ipv4() {
    every_server_answers(VIP4, GUE, SERVERS4);
}

#[test]
fn gue_with_a_checksum_of_ipv6_in_ipv6() {
    every_server_answers(VIP6, GUE_CHECKSUM, SERVERS6);
}

#[test]
fn nat_translates_the_port_too() {
    let lab = Lab::start();
    lab.add(&tcp(VIP4, 80), "rr", NAT, &SERVERS4, 8080);
    lab.add(&tcp(VIP6, 80), "rr", NAT, &SERVERS6, 8080);
    assert_eq!(lab.curl(VIP4, "/"), NAMES[0]);
    assert_eq!(lab.curl(VIP6, "/"), NAMES[0]);
}

#[test]
fn one_vip_serves_tcp_and_udp_of_both_families_by_different_methods() {
    let lab = Lab::start();
    lab.add(&tcp(VIP4, 80), "rr", NAT, &SERVERS4[..1], 80);
    lab.add(&tcp(VIP6, 80), "rr", DIRECT, &SERVERS6[1..2], 80);
    lab.add(&udp(VIP4, 53), "rr", TUNNEL, &SERVERS6[2..], 53);
    lab.add(&udp(VIP6, 53), "rr", NAT, &SERVERS6[..1], 53);
    for _ in 0..3 {
        assert_eq!(lab.curl(VIP4, "/"), "rs1");
        assert_eq!(lab.curl(VIP6, "/"), "rs2");
        assert_eq!(lab.dig(VIP4), "rs3");
        assert_eq!(lab.dig(VIP6), "rs1");
    }
}

#[test]
fn a_server_sees_the_clients_own_address() {
    let lab = Lab::start();
    lab.add(&tcp(VIP4, 80), "rr", NAT, &SERVERS4[..1], 80);
    lab.add(&tcp(VIP6, 80), "rr", TUNNEL, &SERVERS4[..1], 80);
    assert_eq!(lab.curl(VIP4, "/client"), "192.0.2.10");
    assert_eq!(lab.curl(VIP6, "/client"), "2001:db8:1::10");
}

#[test]
fn a_large_download_through_nat_arrives_byte_for_byte() {
    let lab = Lab::start();
    lab.add(&tcp(VIP4, 80), "rr", NAT, &SERVERS4[..1], 80);
    lab.add(&tcp(VIP6, 80), "rr", NAT, &SERVERS6[..1], 80);
    lab.download(VIP4);
    lab.download(VIP6);
}

#[test]
fn a_large_download_through_a_tunnel_arrives_byte_for_byte() {
    let lab = Lab::start();
    lab.add(&tcp(VIP4, 80), "rr", TUNNEL, &SERVERS4[..1], 80);
    lab.add(&tcp(VIP6, 80), "rr", TUNNEL, &SERVERS6[..1], 80);
    lab.download(VIP4);
    lab.download(VIP6);
}

#[test]
fn one_worker_on_af_xdp_forwards_as_two_on_af_packet_do() {
    let lab = Lab::start_with("--workers 1 --pmd af_xdp");
    lab.add(&tcp(VIP4, 80), "rr", NAT, &SERVERS4, 80);
    lab.add(&udp(VIP6, 53), "rr", TUNNEL, &SERVERS4, 53);
    for _ in 0..NAMES.len() {
        assert!(NAMES.contains(&lab.curl(VIP4, "/").as_str()));
        assert!(NAMES.contains(&lab.dig(VIP6).as_str()));
    }
    lab.ping(VIP4);
    lab.download(VIP4);
}

#[test]
fn normal_pages_do_as_well_as_huge_pages() {
    let lab = Lab::start_with("--workers 2 --no-huge");
    lab.add(&tcp(VIP4, 80), "rr", NAT, &SERVERS4, 80);
    assert_eq!(lab.curl_many(VIP4, 30).values().sum::<usize>(), 30);
}

#[test]
fn what_is_for_no_service_is_the_kernels() {
    let lab = Lab::start();
    lab.ping("192.0.2.1");
    lab.ping("2001:db8:1::1");
    let before = lab.fate("punted");
    // The kernel of the director listens to nothing: it refuses, at once.
    let output = pollux_tests::lab::namespace::try_run(
        "client",
        "curl -sS --max-time 5 http://198.51.100.1:81/",
    );
    let text = pollux_tests::lab::text_of(&output);
    assert!(
        text.contains("onnection refused") || text.contains("Couldn't connect"),
        "{text}"
    );
    assert!(lab.fate("punted") > before);
}

/// Round robin over three servers: TCP and UDP reach each once, `ping` reaches the director's kernel.
fn every_server_answers(vip: &str, method: &str, servers: [&str; 3]) {
    let lab = Lab::start();
    lab.add(&tcp(vip, 80), "rr", method, &servers, 80);
    lab.add(&udp(vip, 53), "rr", method, &servers, 53);
    lab.watch_client();
    let all = BTreeSet::from(NAMES.map(str::to_owned));
    let web: BTreeSet<String> = NAMES.iter().map(|_| lab.curl(vip, "/")).collect();
    assert_eq!(web, all, "curl");
    let dns: BTreeSet<String> = NAMES.iter().map(|_| lab.dig(vip)).collect();
    assert_eq!(dns, all, "dig");
    lab.ping(vip);
    lab.assert_client_saw_no_server();
    for server in servers {
        let counted: Vec<u64> = lab
            .services()
            .iter()
            .flat_map(|service| &service.destinations)
            .filter(|destination| destination.destination.id.address().to_string() == server)
            .map(|destination| destination.totals.connections)
            .collect();
        assert_eq!(
            counted,
            [1, 1],
            "one connection over TCP and one over UDP to {server}"
        );
    }
}
