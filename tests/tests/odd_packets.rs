//! Packets that are legal but rare, or broken in one place: what becomes of each.

use std::net::SocketAddr;

use pollux_engine::Fate;
use pollux_engine::wire::protocol;
use pollux_tests::golden::director::{Director, Outcome};
use pollux_tests::golden::packet::{IpHeader, ethernet, icmp, tcp, tcp_segment, udp, udp_datagram};
use pollux_tests::golden::topology::{GATEWAY_MAC, mac, server_mac};
use pollux_tests::golden::trace::Wire;
use pollux_tests::sound;

const SYN: u8 = 2;
const ACK: u8 = 16;

/// A lab with one server, by family and method.
struct Case {
    director: Director,
    client: SocketAddr,
    service: SocketAddr,
    /// What the server answers from under NAT.
    server: SocketAddr,
}

fn case(is_v4: bool, method: &str) -> Case {
    let (client, vip, server) = if is_v4 {
        ("198.51.100.7:4000", "192.0.2.100:80", "10.1.0.11:8080")
    } else {
        (
            "[2001:db8:c::7]:4000",
            "[2001:db8::100]:80",
            "[2001:db8:1::11]:8080",
        )
    };
    let commands: Vec<String> = ["t", "u"]
        .iter()
        .flat_map(|letter| {
            [
                format!("ipvsadm -A -{letter} {vip} -s rr"),
                format!("ipvsadm -a -{letter} {vip} -r {server} {method}"),
            ]
        })
        .collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    Case {
        director: Director::configured(&commands),
        client: client.parse().unwrap(),
        service: vip.parse().unwrap(),
        server: server.parse().unwrap(),
    }
}

fn from_client(packet: &[u8]) -> Vec<u8> {
    ethernet(mac(Wire::Cl), GATEWAY_MAC, packet)
}

fn from_server(packet: &[u8]) -> Vec<u8> {
    ethernet(mac(Wire::Rs), server_mac(1), packet)
}

impl Case {
    fn client_sends(&mut self, packet: &[u8]) -> Outcome {
        self.director.receive(Wire::Cl, &from_client(packet))
    }

    fn server_sends(&mut self, packet: &[u8]) -> Outcome {
        self.director.receive(Wire::Rs, &from_server(packet))
    }

    /// A TCP connection with one packet each way.
    fn open(&mut self) {
        let syn = tcp(self.client, self.service, "S", &[]);
        assert!(matches!(self.client_sends(&syn), Outcome::Out(Wire::Rs, _)));
    }

    fn dropped(&self, wire: usize, fate: Fate) -> u64 {
        self.director.counters().port(wire).unwrap().fate(fate)
    }
}

/// The packet that came out, which must be sound.
fn out(outcome: &Outcome, expected: Wire) -> sound::Sound {
    match outcome {
        Outcome::Out(wire, bytes) if *wire == expected => sound::read(bytes).unwrap(),
        other => panic!("expected a frame on {expected:?}: {other:?}"),
    }
}

const V4_AND_V6: [bool; 2] = [true, false];
const METHODS: [&str; 3] = ["-m", "-g", "-i"];

#[test]
fn options_and_extension_headers_stay_and_checksums_hold() {
    let header = IpHeader {
        options: vec![1, 1, 1, 0],
        extensions: vec![
            (0, vec![0, 1, 4, 0, 0, 0, 0]),
            (43, vec![0, 4, 0, 0, 0, 0, 0]),
            (60, vec![0, 1, 4, 0, 0, 0, 0]),
        ],
        ..IpHeader::default()
    };
    for (is_v4, method) in V4_AND_V6
        .into_iter()
        .flat_map(|v4| METHODS.map(|method| (v4, method)))
    {
        let mut case = case(is_v4, method);
        let segment = tcp_segment(case.client, case.service, SYN, b"odd");
        let packet = header.packet(case.client, case.service, protocol::TCP, &segment);
        let sent = out(&case.client_sends(&packet), Wire::Rs);
        let sent = sent.inner.as_deref().unwrap_or(&sent);
        let to = if method == "-m" {
            case.server
        } else {
            case.service
        };
        assert_eq!(
            (sent.source, sent.destination, sent.hops),
            (case.client, to, 63)
        );
        assert_eq!(sent.bytes, packet.len());
        if method == "-m" {
            let segment = tcp_segment(case.server, case.client, SYN | ACK, b"answer");
            let packet = header.packet(case.server, case.client, protocol::TCP, &segment);
            let sent = out(&case.server_sends(&packet), Wire::Cl);
            assert_eq!((sent.source, sent.destination), (case.service, case.client));
        }
    }
}

#[test]
fn udp_of_every_small_size_with_and_without_checksum() {
    for (is_v4, method) in V4_AND_V6
        .into_iter()
        .flat_map(|v4| METHODS.map(|method| (v4, method)))
    {
        let mut case = case(is_v4, method);
        for size in 0..16 {
            for with_checksum in [true, false] {
                let mut datagram = udp_datagram(case.client, case.service, &vec![0xff; size]);
                if !with_checksum {
                    datagram[6..8].fill(0);
                }
                let header = IpHeader::default();
                let packet = header.packet(case.client, case.service, protocol::UDP, &datagram);
                out(&case.client_sends(&packet), Wire::Rs);
            }
        }
    }
}

#[test]
fn a_missing_udp_checksum_covers_the_datagram_and_not_what_lies_behind() {
    for is_v4 in V4_AND_V6 {
        let mut case = case(is_v4, "-m");
        let mut datagram = udp_datagram(case.client, case.service, b"odd");
        datagram[6..8].fill(0);
        datagram.extend(b"behind");
        let header = IpHeader::default();
        let packet = header.packet(case.client, case.service, protocol::UDP, &datagram);
        let Outcome::Out(_, frame) = case.client_sends(&packet) else {
            panic!("not sent")
        };
        sound::read(&frame).unwrap();
        let checksum_at = frame.len() - datagram.len() + 6;
        assert_ne!(frame[checksum_at..checksum_at + 2], [0, 0]);
    }
}

#[test]
fn the_largest_packet_passes_and_one_byte_more_does_not() {
    for (is_v4, method) in V4_AND_V6
        .into_iter()
        .flat_map(|v4| METHODS.map(|method| (v4, method)))
    {
        let ip_header = if is_v4 { 20 } else { 40 };
        let tunnel = if method == "-i" { ip_header } else { 0 };
        let data = 1500 - tunnel - ip_header - 20;
        let mut case = case(is_v4, method);
        case.open();
        let exact = tcp(case.client, case.service, "A", &vec![1; data]);
        assert_eq!(out(&case.client_sends(&exact), Wire::Rs).bytes, 1500);
        let larger = tcp(case.client, case.service, "A", &vec![1; data + 1]);
        let answer = out(&case.client_sends(&larger), Wire::Cl);
        assert_eq!(answer.source.ip(), case.service.ip());
        assert_eq!(case.dropped(0, Fate::TooBig), 1);
        if method == "-m" {
            let exact = tcp(case.server, case.client, "A", &vec![1; data]);
            assert_eq!(out(&case.server_sends(&exact), Wire::Cl).bytes, 1500);
            let larger = tcp(case.server, case.client, "A", &vec![1; data + 1]);
            let answer = out(&case.server_sends(&larger), Wire::Rs);
            let own = if is_v4 { "10.1.0.1" } else { "2001:db8:1::1" };
            assert_eq!(answer.source.ip().to_string(), own);
            assert_eq!(case.dropped(1, Fate::TooBig), 1);
        }
    }
}

#[test]
fn no_hops_left_is_answered_both_ways() {
    for (is_v4, hops) in V4_AND_V6
        .into_iter()
        .flat_map(|v4| [0, 1].map(|hops| (v4, hops)))
    {
        let mut case = case(is_v4, "-m");
        case.open();
        let header = IpHeader {
            hops,
            ..IpHeader::default()
        };
        let segment = tcp_segment(case.client, case.service, ACK, &[]);
        let packet = header.packet(case.client, case.service, protocol::TCP, &segment);
        assert_eq!(
            out(&case.client_sends(&packet), Wire::Cl).source.ip(),
            case.service.ip()
        );
        let segment = tcp_segment(case.server, case.client, ACK, &[]);
        let packet = header.packet(case.server, case.client, protocol::TCP, &segment);
        let answer = out(&case.server_sends(&packet), Wire::Rs);
        assert_eq!(answer.destination.ip(), case.server.ip());
    }
}

#[test]
fn tags_come_off_and_go_on() {
    let vlans = [None, Some(7), Some(4095)];
    for (is_v4, method) in V4_AND_V6
        .into_iter()
        .flat_map(|v4| METHODS.map(|method| (v4, method)))
    {
        for (came_with, leaves_with) in vlans.into_iter().flat_map(|a| vlans.map(|b| (a, b))) {
            let mut case = case(is_v4, method);
            case.director
                .rewire(|topology| topology.vlan = [came_with, leaves_with]);
            let packet = udp(case.client, case.service, b"odd");
            let mut frame = from_client(&packet);
            if let Some(id) = came_with {
                let tag = [&[0x81, 0x00], &id.to_be_bytes()[..]].concat();
                frame.splice(12..12, tag);
            }
            // As an access switch sends it: padded.
            frame.resize(frame.len().max(60) + 4, 0);
            let sent = out(&case.director.receive(Wire::Cl, &frame), Wire::Rs);
            assert_eq!(sent.vlans, Vec::from_iter(leaves_with));
        }
    }
}

#[test]
fn later_fragments_are_fragments_whatever_they_hold() {
    let mut case = case(false, "-m");
    // Says "destination options follow"; what follows is the middle of somebody's data, and reads as 2 kB of options.
    let fragment = |offset_and_flag: u16| {
        let [high, low] = offset_and_flag.to_be_bytes();
        (44, vec![0, high, low, 0, 0, 0, 9])
    };
    let data = [0xff; 24];
    for offset_and_flag in [8, 9, 0xfff8] {
        let header = IpHeader {
            extensions: vec![fragment(offset_and_flag), (60, data.to_vec())],
            ..IpHeader::default()
        };
        let packet = header.packet(case.client, case.service, protocol::TCP, &[]);
        // Not in eights, or past the end of the largest packet; or it waits for the rest.
        let outcome = case.client_sends(&packet);
        assert!(matches!(outcome, Outcome::Waits), "{outcome:?}");
    }
}

#[test]
fn an_error_about_a_later_fragment_is_about_no_port() {
    let mut case = case(false, "-m");
    case.open();
    let segment = tcp_segment(case.service, case.client, ACK, &[]);
    for (offset, is_ours) in [(0, true), (8, false)] {
        let header = IpHeader {
            extensions: vec![(44, vec![0, 0, offset, 0, 0, 0, 9])],
            ..IpHeader::default()
        };
        let quoted = header.packet(case.service, case.client, protocol::TCP, &segment);
        let error = icmp(case.client, case.service, 1, 4, 0, &quoted);
        let outcome = case.client_sends(&error);
        assert_eq!(
            matches!(outcome, Outcome::Out(Wire::Rs, _)),
            is_ours,
            "{outcome:?}"
        );
    }
}

#[test]
fn an_error_with_a_wrong_checksum_tells_nothing() {
    for (is_v4, method) in V4_AND_V6
        .into_iter()
        .flat_map(|v4| METHODS.map(|method| (v4, method)))
    {
        let mut case = case(is_v4, method);
        case.open();
        let (kind, code) = if is_v4 { (3, 3) } else { (1, 4) };
        let quoted = tcp(case.service, case.client, "A", &[]);
        let mut error = icmp(case.client, case.service, kind, code, 0, &quoted);
        let last = error.len() - 1;
        error[last] ^= 1;
        let outcome = case.client_sends(&error);
        // What is not translated is for the server to judge.
        let is_translated = method == "-m";
        assert_eq!(
            outcome == Outcome::Drop,
            is_translated,
            "{method}: {outcome:?}"
        );
        let dropped = case.dropped(0, Fate::IcmpBadChecksum);
        assert_eq!(dropped, u64::from(is_translated), "{method}");
    }
}

#[test]
fn a_source_that_is_no_single_host_opens_nothing() {
    let sources = [
        "0.0.0.0:9",
        "127.0.0.1:9",
        "224.0.0.1:9",
        "255.255.255.255:9",
    ];
    for source in sources {
        let mut case = case(true, "-m");
        let packet = tcp(source.parse().unwrap(), case.service, "S", &[]);
        assert_eq!(
            case.client_sends(&packet),
            Outcome::Punt(Fate::Punted),
            "{source}"
        );
    }
    for source in ["[::]:9", "[::1]:9", "[ff02::1]:9"] {
        let mut case = case(false, "-m");
        let packet = tcp(source.parse().unwrap(), case.service, "S", &[]);
        assert_eq!(
            case.client_sends(&packet),
            Outcome::Punt(Fate::Punted),
            "{source}"
        );
    }
}
