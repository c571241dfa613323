//! Datagrams larger than any link takes: requests and answers of real programs and sockets, through every method, with
//! one worker and with two.
//!
//! With several queues net_af_packet has the kernel put IPv4 fragments together before the director sees them, and then
//! cuts off what is longer than its buffers; so IPv4 is shown over net_af_xdp, and several workers with IPv6.

use std::collections::BTreeSet;

use pollux_tests::lab::Lab;
use pollux_tests::lab::echo::{ECHO_PORT, EchoClient, Echoes};
use pollux_tests::lab::namespace::run;
use pollux_tests::lab::servers::{
    DIRECT, GRE, GRE_CHECKSUM, GUE_CHECKSUM, NAMES, NAT, SERVERS4, SERVERS6, TUNNEL, VIP4, VIP6,
    udp,
};

const ONE_WORKER: &str = "--workers 1 --pmd af_xdp";
const TWO_WORKERS: &str = "--workers 2";

/// Bytes that differ, so that one in the wrong place shows.
fn datagram(length: usize) -> Vec<u8> {
    let word = |number: u32| number.wrapping_mul(0x9e37_79b9).to_be_bytes();
    (0..).flat_map(word).take(length).collect()
}

/// An answer of almost 4 kB, asked for once over UDP.
fn assert_large_answers_arrive(vip: &str) {
    let mut names = BTreeSet::new();
    for _ in NAMES {
        let line = format!(
            "dig +short +notcp +ignore +bufsize=4096 +tries=1 +time=3 TXT large.pollux.test @{vip}"
        );
        let answer = run("client", &line);
        assert!(answer.len() > 3750, "cut short: {answer}");
        assert!(answer.contains(&format!("\"{:0>250}\"", 15)), "{answer}");
        names.insert(answer.trim_start_matches('"')[..3].to_owned());
    }
    assert_eq!(names, NAMES.map(str::to_owned).into());
}

/// Datagrams of two, three, and very many fragments, and of one, to each of the servers.
fn assert_large_requests_arrive(lab: &Lab, vip: &str, method: &str, servers: &[&str; 3]) {
    lab.pollux("flush");
    lab.add(&udp(vip, ECHO_PORT), "rr", method, servers, ECHO_PORT);
    let mut names = BTreeSet::new();
    for _ in NAMES {
        let client = EchoClient::new(vip);
        let name = client.ask(&datagram(4000));
        for length in [1400, 1473, 2500, 20_000] {
            assert_eq!(
                client.ask(&datagram(length)),
                name,
                "{method}, {length} bytes"
            );
        }
        names.insert(name);
    }
    assert_eq!(names, NAMES.map(str::to_owned).into(), "{method}");
}

#[test]
fn large_answers_come_through_nat_over_ipv4() {
    let lab = Lab::start_with(ONE_WORKER);
    lab.add(&udp(VIP4, 53), "rr", NAT, &SERVERS4, 53);
    lab.watch_client();
    assert_large_answers_arrive(VIP4);
    lab.assert_client_saw_no_server();
}

#[test]
fn large_answers_come_through_nat_over_ipv6() {
    for workers in [ONE_WORKER, TWO_WORKERS] {
        let lab = Lab::start_with(workers);
        lab.add(&udp(VIP6, 53), "rr", NAT, &SERVERS6, 53);
        lab.watch_client();
        assert_large_answers_arrive(VIP6);
        lab.assert_client_saw_no_server();
    }
}

#[test]
fn large_requests_over_ipv4_reach_servers_by_every_method() {
    let lab = Lab::start_with(ONE_WORKER);
    let _echoes = Echoes::start();
    for (method, servers) in [
        (NAT, &SERVERS4),
        (DIRECT, &SERVERS4),
        (TUNNEL, &SERVERS4),
        (TUNNEL, &SERVERS6),
        (GRE, &SERVERS4),
        (GUE_CHECKSUM, &SERVERS4),
    ] {
        assert_large_requests_arrive(&lab, VIP4, method, servers);
    }
}

#[test]
fn large_requests_over_ipv6_reach_servers_by_every_method() {
    for workers in [ONE_WORKER, TWO_WORKERS] {
        let lab = Lab::start_with(workers);
        let _echoes = Echoes::start();
        for (method, servers) in [
            (NAT, &SERVERS6),
            (DIRECT, &SERVERS6),
            (TUNNEL, &SERVERS6),
            (TUNNEL, &SERVERS4),
            (GRE_CHECKSUM, &SERVERS6),
            (GUE_CHECKSUM, &SERVERS6),
        ] {
            assert_large_requests_arrive(&lab, VIP6, method, servers);
        }
    }
}

/// net_af_packet gives all fragments between two addresses to one worker. The worker that gathers a datagram is named by
/// its identification, so half of them go from the one that receives them to the other one, which makes the connection.
#[test]
fn fragments_go_from_the_worker_that_receives_them_to_the_one_that_gathers_them() {
    const DATAGRAMS: u64 = 200;
    let lab = Lab::start_with(TWO_WORKERS);
    let _echoes = Echoes::start();
    lab.add(&udp(VIP6, ECHO_PORT), "rr", NAT, &SERVERS6[..1], ECHO_PORT);
    // All at once: each has a port, and so a connection, of its own.
    let clients: Vec<EchoClient> = (0..DATAGRAMS).map(|_| EchoClient::new(VIP6)).collect();
    for client in &clients {
        assert_eq!(client.ask(&datagram(4000)), "rs1");
    }
    let workers = lab.workers();
    let created: Vec<u64> = workers
        .iter()
        .map(|worker| worker.connections_created)
        .collect();
    assert_eq!(created.iter().sum::<u64>(), DATAGRAMS, "{created:?}");
    // By chance: that one has less than a quarter has a probability of 1e-13.
    assert!(
        created.iter().all(|created| *created > DATAGRAMS / 4),
        "{created:?}"
    );
    let waiting: u64 = lab.drops().iter().map(|port| port.held).sum();
    assert_eq!(waiting, 0);
}
