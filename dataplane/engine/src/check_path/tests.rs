//! Packets of checks there and back, with right checksums.

use super::*;
use crate::HeapFrame;

const DIRECTOR: &str = "203.0.113.1";
const SERVER: &str = "203.0.113.11";
const VIP: &str = "198.51.100.1";
const NUMBER: u16 = 777;
const PORT: u16 = 61_234;
const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

/// The addresses as this family has them.
fn address(text: &str, family: Family) -> IpAddr {
    match family {
        Family::V4 => text.parse().unwrap(),
        Family::V6 => {
            let last = text.rsplit('.').next().unwrap();
            let net = if text == VIP {
                "2001:db8:100"
            } else {
                "2001:db8:2"
            };
            format!("{net}::{last}").parse().unwrap()
        }
    }
}

fn paths(family: Family, tunnel: Option<Encapsulation>) -> Box<CheckPaths> {
    let path = |protocol| CheckPath {
        protocol,
        server: address(SERVER, family),
        number: NUMBER,
        address: address(VIP, family),
        port: 80,
        tunnel,
    };
    CheckPaths::new(&[path(protocol::TCP), path(protocol::UDP)], None).unwrap()
}

/// A packet between these, with a payload and right checksums.
fn packet(protocol: u8, ends: [(IpAddr, u16); 2], payload: &[u8]) -> Vec<u8> {
    let [(source, from), (destination, to)] = ends;
    let mut segment = [from.to_be_bytes(), to.to_be_bytes()].concat();
    let checksum_at = if protocol == protocol::TCP {
        segment.extend([0, 0, 0, 9, 0, 0, 0, 0, 0x50, 2, 1, 0, 0, 0, 0, 0]);
        16
    } else {
        segment.extend([0; 4]);
        6
    };
    segment.extend(payload);
    let length = segment.len() as u16;
    if protocol == protocol::UDP {
        segment[4..6].copy_from_slice(&length.to_be_bytes());
    }
    wrap(protocol, source, destination, segment, checksum_at)
}

/// An IP header before a segment whose checksum is to be at an offset.
fn wrap(
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    mut segment: Vec<u8>,
    checksum_at: usize,
) -> Vec<u8> {
    let length = segment.len() as u16;
    let (mut header, pseudo_header) = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = Ipv4Header::new_zeroed();
            header.version_ihl = 0x45;
            header.total_length = U16::new(length + 20);
            header.ttl = 64;
            header.protocol = protocol;
            header.source = U32::new(source.into());
            header.destination = U32::new(destination.into());
            header.fill_checksum();
            let addresses = Sum::of(&header.as_bytes()[12..]);
            (header.as_bytes().to_vec(), addresses)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut header = Ipv6Header::new_zeroed();
            header.version_class_label = U32::new(6 << 28);
            header.payload_length = U16::new(length);
            header.next_header = protocol;
            header.hop_limit = 64;
            header.source = source.octets();
            header.destination = destination.octets();
            (header.as_bytes().to_vec(), Sum::of(&header.as_bytes()[8..]))
        }
        _ => panic!("two families"),
    };
    let pseudo_header = if protocol == protocol::ICMP {
        Sum::default()
    } else {
        pseudo_header.add16(length).add16(protocol.into())
    };
    let checksum = Sum::of(&segment).plus(pseudo_header).finish();
    segment[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
    header.extend(segment);
    header
}

fn frame(tags: usize, packet: &[u8]) -> HeapFrame {
    let mut bytes = MACS.to_vec();
    for tag in 0..tags {
        bytes.extend([0x81, 0, 0, tag as u8 + 1]);
    }
    bytes.extend(if packet[0] >> 4 == 4 {
        [8, 0]
    } else {
        [0x86, 0xdd]
    });
    bytes.extend(packet);
    HeapFrame::new(&bytes)
}

/// The packet as it is but for its hops.
fn with_hops(mut packet: Vec<u8>, hops: u8) -> Vec<u8> {
    let family = if packet[0] >> 4 == 4 {
        Family::V4
    } else {
        Family::V6
    };
    set_hops(&mut packet, family, hops);
    packet
}

const PROTOCOLS: [u8; 2] = [protocol::TCP, protocol::UDP];
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

#[test]
fn a_check_goes_to_the_virtual_address_and_its_answer_comes_from_the_server() {
    for (family, protocol, tags) in FAMILIES.into_iter().flat_map(|family| {
        PROTOCOLS
            .into_iter()
            .flat_map(move |protocol| (0..3).map(move |tags| (family, protocol, tags)))
    }) {
        let paths = paths(family, None);
        let [director, server, vip] = [DIRECTOR, SERVER, VIP].map(|text| address(text, family));
        let (asks, asked, virtual_end) = ((director, PORT), (server, NUMBER), (vip, 80));
        let mut sent = frame(tags, &packet(protocol, [asks, asked], b"hello"));
        assert_eq!(paths.to_server(&mut sent, 1500), Outcome::Translated);
        let expected = with_hops(packet(protocol, [asks, virtual_end], b"hello"), HOPS);
        assert_eq!(sent, frame(tags, &expected), "{family:?} {protocol} {tags}");

        let mut answer = frame(tags, &packet(protocol, [virtual_end, asks], b"and you"));
        assert!(paths.from_server(&mut answer));
        let expected = with_hops(packet(protocol, [asked, asks], b"and you"), 63);
        assert_eq!(
            answer,
            frame(tags, &expected),
            "{family:?} {protocol} {tags}"
        );
    }
}

#[test]
fn a_tunnel_is_put_around_it_behind_the_same_link_header() {
    let tunnels = [
        Encapsulation::Ipip,
        Encapsulation::Gre { checksum: true },
        Encapsulation::Gue {
            port: 5555,
            checksum: true,
        },
    ];
    for (family, tunnel, tags) in FAMILIES.into_iter().flat_map(|family| {
        tunnels
            .into_iter()
            .flat_map(move |tunnel| (0..2).map(move |tags| (family, tunnel, tags)))
    }) {
        let paths = paths(family, Some(tunnel));
        let [director, server, vip] = [DIRECTOR, SERVER, VIP].map(|text| address(text, family));
        let asks = (director, PORT);
        // With padding, as the shortest frames have.
        let mut bytes = packet(protocol::TCP, [asks, (server, NUMBER)], b"hello");
        bytes.extend([0; 4]);
        let mut sent = frame(tags, &bytes);
        assert_eq!(paths.to_server(&mut sent, 1500), Outcome::Translated);
        let outer = Outer::new(director, server, tunnel).unwrap();
        let link = frame(tags, &bytes).bytes()[..ETHERNET_BYTES + tags * VLAN_TAG_BYTES].to_vec();
        let (link_now, rest) = sent.bytes().split_at(link.len());
        assert_eq!(link_now, link);
        let (headers, inner) = rest.split_at(outer.bytes());
        let expected = with_hops(packet(protocol::TCP, [asks, (vip, 80)], b"hello"), HOPS);
        assert_eq!(inner, expected, "{tunnel:?}");
        let layout = Layout::read(sent.bytes(), 0).unwrap();
        assert_eq!(
            (layout.source, layout.destination, layout.end),
            (director, server, sent.bytes().len())
        );
        let hops = if family == Family::V4 {
            headers[8]
        } else {
            headers[7]
        };
        assert_eq!(hops, OUTER_HOPS);
        if family == Family::V4 {
            assert!(
                Ipv4Header::ref_from_prefix(headers)
                    .unwrap()
                    .0
                    .checksum_is_right()
            );
        }
    }
}

#[test]
fn what_the_link_does_not_take_goes_nowhere() {
    let paths = paths(Family::V4, Some(Encapsulation::Ipip));
    let [director, server] = [DIRECTOR, SERVER].map(|text| text.parse().unwrap());
    let bytes = packet(
        protocol::UDP,
        [(director, PORT), (server, NUMBER)],
        &[7; 1460],
    );
    assert_eq!(
        paths.to_server(&mut frame(0, &bytes), 1507),
        Outcome::TooLarge
    );
    assert_eq!(
        paths.to_server(&mut frame(0, &bytes), 1508),
        Outcome::Translated
    );
}

#[test]
fn a_refusal_comes_back_as_one_of_the_server() {
    for family in FAMILIES {
        let paths = paths(family, None);
        let [director, server, vip] = [DIRECTOR, SERVER, VIP].map(|text| address(text, family));
        let (asks, asked, virtual_end) = ((director, PORT), (server, NUMBER), (vip, 80));
        let question = packet(protocol::UDP, [asks, asked], b"hello");
        assert_eq!(
            paths.to_server(&mut frame(0, &question), 1500),
            Outcome::Translated
        );
        let (protocol, kind, code) = match family {
            Family::V4 => (protocol::ICMP, 3, 3),
            Family::V6 => (protocol::ICMPV6, 1, 4),
        };
        let error = |source, quoted: Vec<u8>| {
            let mut segment = vec![kind, code, 0, 0, 0, 0, 0, 0];
            segment.extend(quoted);
            wrap(protocol, source, director, segment, 2)
        };
        let quoted = |to, hops| with_hops(packet(protocol::UDP, [asks, to], b"hello"), hops);
        let mut refusal = frame(0, &error(vip, quoted(virtual_end, 1)));
        assert!(paths.from_server(&mut refusal));
        // Translating takes a hop off, of what is quoted as well.
        assert_eq!(
            refusal,
            frame(0, &error(server, quoted(asked, 0))),
            "{family:?}"
        );
        // From a router on the way.
        let router = address("203.0.113.254", family);
        let mut refusal = frame(0, &error(router, quoted(virtual_end, 1)));
        assert!(paths.from_server(&mut refusal));
        assert_eq!(
            refusal,
            frame(0, &error(router, quoted(asked, 0))),
            "{family:?}"
        );
        let other = frame(0, &error(vip, quoted((server, 80), 1)));
        let mut same = other.clone();
        assert!(!paths.from_server(&mut same));
        assert_eq!(same, other);
    }
}

#[test]
fn what_is_none_of_theirs_stays_as_it_is() {
    let paths = paths(Family::V4, None);
    let [director, server, vip] = [DIRECTOR, SERVER, VIP].map(|text| text.parse().unwrap());
    for ends in [
        [(director, 40_000), (server, NUMBER)],
        [(director, PORT), (server, NUMBER + 1)],
        [(director, PORT), (vip, 80)],
    ] {
        let before = frame(0, &packet(protocol::TCP, ends, b""));
        let mut sent = before.clone();
        assert_eq!(paths.to_server(&mut sent, 1500), Outcome::Other);
        assert_eq!(sent, before);
    }
    // Nothing was asked from there yet.
    let before = frame(
        0,
        &packet(protocol::TCP, [(vip, 80), (director, PORT)], b""),
    );
    let mut answer = before.clone();
    assert!(!paths.from_server(&mut answer));
    assert_eq!(answer, before);
    let question = packet(protocol::TCP, [(director, PORT), (server, NUMBER)], b"");
    paths.to_server(&mut frame(0, &question), 1500);
    assert!(paths.from_server(&mut answer));
    for ends in [
        [(vip, 81), (director, PORT)],
        [(server, 80), (director, PORT)],
    ] {
        assert!(!paths.from_server(&mut frame(0, &packet(protocol::TCP, ends, b""))));
    }
    // Cut off anywhere, nothing panics and nothing changes.
    let whole = frame(1, &question);
    for length in 0..whole.bytes().len() {
        let mut cut = HeapFrame::new(&whole.bytes()[..length]);
        paths.to_server(&mut cut, 1500);
        paths.from_server(&mut cut);
    }
}

#[test]
fn the_next_snapshot_knows_what_was_asked_before() {
    let first = paths(Family::V4, None);
    let [director, server, vip] = [DIRECTOR, SERVER, VIP].map(|text| text.parse().unwrap());
    let question = packet(protocol::TCP, [(director, PORT), (server, NUMBER)], b"");
    first.to_server(&mut frame(0, &question), 1500);
    let all: Vec<CheckPath> = first.paths.values().cloned().collect();
    let next = CheckPaths::new(&all, Some(&first)).unwrap();
    let answer = packet(protocol::TCP, [(vip, 80), (director, PORT)], b"");
    assert!(next.from_server(&mut frame(0, &answer)));
    assert!(CheckPaths::new(&[], Some(&first)).is_none());
}

use zerocopy::{FromZeros, IntoBytes};
