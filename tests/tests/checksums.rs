//! Every checksum of every frame that the engine makes of the recorded traces, judged by tshark; and that tshark, asked
//! as the lab asks it, finds those that are wrong.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use pollux_engine::wire::protocol;
use pollux_tests::golden::agreed::FILES;
use pollux_tests::golden::packet::{ethernet, icmp_message, ip, tcp_segment, udp_datagram};
use pollux_tests::golden::replay::replay;
use pollux_tests::golden::topology::GATEWAY_MAC;
use pollux_tests::golden::trace::{Scenario, Step, scenarios};
use pollux_tests::lab::capture::{self, described, judge};
use pollux_tests::lab::sctp::crc32c;

fn file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("pollux-{name}-{}.pcap", std::process::id()))
}

/// Names of scenarios in which a client or a server sent a wrong checksum: it goes on as wrong.
fn received_wrong(scenarios: &[Scenario]) -> HashSet<String> {
    let file = file("received");
    let frames = scenarios.iter().flat_map(|scenario| {
        let frames = scenario.steps.iter().filter_map(|step| match step {
            Step::Frame { received, .. } => Some(received.bytes.clone()),
            _ => None,
        });
        frames.map(|bytes| (scenario.name.clone(), bytes))
    });
    let (names, frames): (Vec<_>, Vec<_>) = frames.unzip();
    capture::write(&file, &frames);
    let bad = judge(&file).bad;
    fs::remove_file(&file).unwrap();
    bad.iter().map(|number| names[number - 1].clone()).collect()
}

#[test]
fn every_checksum_of_the_traces_is_right() {
    let file = file("golden");
    let scenarios: Vec<_> = FILES.iter().flat_map(|file| scenarios(file)).collect();
    let mut sent = Vec::new();
    let mut names = Vec::new();
    let wrong_on_arrival = received_wrong(&scenarios);
    for scenario in &scenarios {
        let frames = replay(scenario).sent;
        names.extend(frames.iter().map(|_| &scenario.name));
        sent.extend(frames);
    }
    capture::write(&file, &sent);
    let judgement = judge(&file);
    let wrong: Vec<_> = judgement
        .bad
        .iter()
        .map(|number| names[number - 1])
        .filter(|name| !wrong_on_arrival.contains(*name))
        .collect();
    println!("{judgement:?}");
    let is_ours = |number: &&usize| !wrong_on_arrival.contains(names[**number - 1]);
    if let Some(first) = judgement.bad.iter().find(is_ours) {
        panic!(
            "wrong in {wrong:?}; the first:\n{}",
            described(&file, *first)
        );
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(judgement.frames, sent.len());
    for of in ["ip", "tcp", "udp", "icmp", "icmpv6", "sctp", "gre"] {
        let good = judgement.good.get(&*format!("{of}.checksum.status"));
        assert!(good.is_some_and(|good| *good >= 4), "{of}: {judgement:?}");
    }
}

const CLIENT: &str = "192.0.2.10:4000";
const VIP: &str = "198.51.100.1:80";
const CLIENT6: &str = "[2001:db8:1::10]:4000";
const VIP6: &str = "[2001:db8:100::1]:80";

fn ends(from: &str, to: &str) -> (SocketAddr, SocketAddr) {
    (from.parse().unwrap(), to.parse().unwrap())
}

/// One frame of each kind that Pollux sends, and where its innermost checksum is, counted from the end of the headers in
/// front of it.
fn kinds() -> Vec<(&'static str, Vec<u8>, usize)> {
    let (client, vip) = ends(CLIENT, VIP);
    let (client6, vip6) = ends(CLIENT6, VIP6);
    let segment = tcp_segment(client, vip, 16, b"hello");
    let tcp = ip(client, vip, protocol::TCP, &segment);
    let tcp6 = ip(
        client6,
        vip6,
        protocol::TCP,
        &tcp_segment(client6, vip6, 16, b"hello"),
    );
    let udp = ip(
        client,
        vip,
        protocol::UDP,
        &udp_datagram(client, vip, b"hello"),
    );
    let udp6 = ip(
        client6,
        vip6,
        protocol::UDP,
        &udp_datagram(client6, vip6, b"hello"),
    );
    let quoting = |from: SocketAddr, to, kind_and_code, quoted: &[u8]| {
        let (number, message) = icmp_message(from, to, kind_and_code, 0, quoted);
        ip(from, to, number, &message)
    };
    let sctp = {
        let mut packet = vec![0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 11, 0, 0, 4];
        let sum = crc32c(&packet);
        packet[8..12].copy_from_slice(&sum.to_le_bytes());
        ip(client, vip, protocol::SCTP, &packet)
    };
    let gre = |inner: &[u8]| ip(client, vip, protocol::GRE, &[&[0, 0, 8, 0], inner].concat());
    let gue = |from, to, next: u8, inner: &[u8]| {
        let to = SocketAddr::new(SocketAddr::ip(&to), 5555);
        let payload = [&[0, next, 0, 0], inner].concat();
        ip(from, to, protocol::UDP, &udp_datagram(from, to, &payload))
    };
    vec![
        ("IPv4 header", tcp.clone(), 10),
        ("TCP", tcp.clone(), 20 + 16),
        ("TCP over IPv6", tcp6.clone(), 40 + 16),
        ("UDP", udp.clone(), 20 + 6),
        ("UDP over IPv6", udp6.clone(), 40 + 6),
        ("SCTP", sctp, 20 + 8),
        ("ICMP", quoting(vip, client, [3, 4], &tcp), 20 + 2),
        (
            "a quoted header",
            quoting(vip, client, [3, 4], &tcp),
            20 + 8 + 10,
        ),
        ("ICMPv6", quoting(vip6, client6, [2, 0], &tcp6), 40 + 2),
        (
            "IP in IP",
            ip(client, vip, protocol::IPIP, &tcp),
            20 + 20 + 16,
        ),
        (
            "IPv6 in IPv4",
            ip(client, vip, protocol::IPV6, &tcp6),
            20 + 40 + 16,
        ),
        (
            "IPv4 in IPv6",
            ip(client6, vip6, protocol::IPIP, &udp),
            40 + 20 + 6,
        ),
        ("GRE", gre(&tcp), 20 + 4 + 20 + 16),
        (
            "inside GUE",
            gue(client, vip, 4, &tcp),
            20 + 8 + 4 + 20 + 16,
        ),
        ("GUE", gue(client, vip, 4, &tcp), 20 + 6),
        (
            "inside GUE, IPv6",
            gue(client6, vip6, 41, &tcp6),
            40 + 8 + 4 + 40 + 16,
        ),
    ]
}

#[test]
fn tshark_finds_what_is_wrong() {
    for (name, packet, place) in kinds() {
        let good = ethernet(GATEWAY_MAC, GATEWAY_MAC, &packet);
        let mut bad = good.clone();
        bad[14 + place] ^= 0x55;
        let file = file("wrong");
        capture::write(&file, &[good.clone(), bad, good]);
        let judgement = judge(&file);
        assert_eq!((judgement.frames, &*judgement.bad), (3, &[2][..]), "{name}");
        fs::remove_file(&file).unwrap();
    }
}

/// As Linux sends it, in one of 65536 segments.
#[test]
fn all_ones_are_as_right_as_zero() {
    let (client, vip) = ends(CLIENT, VIP);
    let segment = (0..u16::MAX)
        .map(|number| tcp_segment(client, vip, 16, &number.to_be_bytes()))
        .find(|segment| segment[16..18] == [0, 0]);
    let mut segment = segment.expect("some data sums up to zero");
    segment[16..18].fill(0xff);
    let packet = ip(client, vip, protocol::TCP, &segment);
    let tunnelled = ip(client, vip, protocol::IPIP, &packet);
    let frames = [packet, tunnelled].map(|packet| ethernet(GATEWAY_MAC, GATEWAY_MAC, &packet));
    let file = file("ones");
    capture::write(&file, &frames);
    assert!(judge(&file).bad.is_empty(), "{:?}", judge(&file));
    fs::remove_file(&file).unwrap();
}
