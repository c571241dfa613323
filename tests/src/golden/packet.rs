//! Builds frames as the recorder did, for the steps it did not record and for tests of our own.

use std::net::SocketAddr;

use pollux_engine::wire::checksum::Sum;
use pollux_engine::wire::ethernet::{MacAddress, ethertype};
use pollux_engine::wire::protocol;

/// An Ethernet frame around an IP packet.
pub fn ethernet(to: MacAddress, from: MacAddress, packet: &[u8]) -> Vec<u8> {
    let is_v6 = packet.first().is_some_and(|first| first >> 4 == 6);
    let kind = if is_v6 {
        ethertype::IPV6
    } else {
        ethertype::IPV4
    };
    let mut frame = [to, from].concat();
    frame.extend(kind.to_be_bytes());
    frame.extend(packet);
    frame
}

/// An IPv4 or IPv6 packet, TTL 64, DF set.
pub fn ip(from: SocketAddr, to: SocketAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let bytes = payload.len();
    let mut packet = match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            let [high, low] = u16::try_from(bytes + 20).unwrap().to_be_bytes();
            let mut header = vec![0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0];
            header.extend(from.ip().octets());
            header.extend(to.ip().octets());
            let checksum = Sum::of(&header).finish();
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            header
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            let [high, low] = u16::try_from(bytes).unwrap().to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, high, low, protocol, 64];
            header.extend(from.ip().octets());
            header.extend(to.ip().octets());
            header
        }
        _ => panic!("{from} and {to} are of different families"),
    };
    packet.extend(payload);
    packet
}

/// A TCP segment; `flags` in the recorder's letters.
pub fn tcp(from: SocketAddr, to: SocketAddr, flags: &str, data: &[u8]) -> Vec<u8> {
    let bits = flags
        .chars()
        .map(|letter| 1 << "FSRPAUEC".find(letter).unwrap());
    let mut segment = ports(from, to);
    segment.extend([0, 0, 0x03, 0xe8, 0, 0, 0, 0, 0x50, bits.sum()]);
    segment.extend([0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(data);
    let sum = checksum(from, to, protocol::TCP, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    ip(from, to, protocol::TCP, &segment)
}

/// A UDP datagram.
pub fn udp(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut datagram = ports(from, to);
    datagram.extend(u16::try_from(8 + data.len()).unwrap().to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    let sum = checksum(from, to, protocol::UDP, &datagram);
    let sum = if sum == 0 { 0xffff } else { sum };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    ip(from, to, protocol::UDP, &datagram)
}

/// An ICMP or ICMPv6 message; `quoted` follows the eight bytes of its header.
pub fn icmp(
    from: SocketAddr,
    to: SocketAddr,
    kind: u8,
    code: u8,
    rest: u32,
    quoted: &[u8],
) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest.to_be_bytes());
    message.extend(quoted);
    let (protocol, sum) = if from.is_ipv4() {
        (protocol::ICMP, Sum::of(&message).finish())
    } else {
        let sum = checksum(from, to, protocol::ICMPV6, &message);
        (protocol::ICMPV6, sum)
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(from, to, protocol, &message)
}

fn ports(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    [from.port().to_be_bytes(), to.port().to_be_bytes()].concat()
}

/// The checksum of a segment with its pseudo header; its own field is 0.
pub fn checksum(from: SocketAddr, to: SocketAddr, protocol: u8, segment: &[u8]) -> u16 {
    let address = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => Sum::of(&v4.ip().octets()),
        SocketAddr::V6(v6) => Sum::of(&v6.ip().octets()),
    };
    address(from)
        .plus(address(to))
        .plus(Sum::of(segment))
        .add16(protocol.into())
        .add32(u32::try_from(segment.len()).unwrap())
        .finish()
}
