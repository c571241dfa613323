//! Builds frames as the recorder did, for the steps it did not record and for tests of our own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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

/// An IPv4 or IPv6 packet as the recorder makes it.
pub fn ip(from: SocketAddr, to: SocketAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    IpHeader::default().packet(from, to, protocol, payload)
}

/// What may be chosen of an IP header.
#[derive(Debug, Clone)]
pub struct IpHeader {
    /// TTL or hop limit.
    pub hops: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// Identification, IPv4.
    pub identification: u16,
    /// Flags and fragment offset, IPv4.
    pub flags_fragment: u16,
    /// Options, IPv4; a multiple of four bytes, 40 at most.
    pub options: Vec<u8>,
    /// Extension headers, IPv6: what each is, and its bytes after the next header's number.
    pub extensions: Vec<(u8, Vec<u8>)>,
}

impl Default for IpHeader {
    /// TTL 64, DF, nothing else.
    fn default() -> Self {
        Self {
            hops: 64,
            tos: 0,
            identification: 0,
            flags_fragment: 0x4000,
            options: Vec::new(),
            extensions: Vec::new(),
        }
    }
}

impl IpHeader {
    /// The packet.
    pub fn packet(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        protocol: u8,
        payload: &[u8],
    ) -> Vec<u8> {
        match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => self.v4(from, to, protocol, payload),
            (IpAddr::V6(from), IpAddr::V6(to)) => self.v6(from, to, protocol, payload),
            _ => panic!("{from} and {to} are of different families"),
        }
    }

    fn v4(&self, from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let header_bytes = 20 + self.options.len();
        let total = u16::try_from(header_bytes + payload.len()).unwrap();
        let version_length = 0x40 | u8::try_from(header_bytes / 4).unwrap();
        let mut header = vec![version_length, self.tos];
        header.extend(total.to_be_bytes());
        header.extend(self.identification.to_be_bytes());
        header.extend(self.flags_fragment.to_be_bytes());
        header.extend([self.hops, protocol, 0, 0]);
        header.extend(from.octets());
        header.extend(to.octets());
        header.extend(&self.options);
        let checksum = Sum::of(&header).finish();
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        [&header, payload].concat()
    }

    fn v6(&self, from: Ipv6Addr, to: Ipv6Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let numbers = self.extensions.iter().map(|(number, _)| *number);
        let following: Vec<u8> = numbers.chain([protocol]).collect();
        let mut body = Vec::new();
        for ((_, bytes), next) in self.extensions.iter().zip(&following[1..]) {
            body.push(*next);
            body.extend(bytes);
        }
        body.extend(payload);
        let mut packet = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 0];
        packet.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        packet.extend([following[0], self.hops]);
        packet.extend(from.octets());
        packet.extend(to.octets());
        packet.extend(body);
        packet
    }
}

/// A TCP packet; `flags` in the recorder's letters.
pub fn tcp(from: SocketAddr, to: SocketAddr, flags: &str, data: &[u8]) -> Vec<u8> {
    let bits = flags
        .chars()
        .map(|letter| 1 << "FSRPAUEC".find(letter).unwrap());
    let segment = tcp_segment(from, to, bits.sum(), data);
    ip(from, to, protocol::TCP, &segment)
}

/// A TCP segment without options.
pub fn tcp_segment(from: SocketAddr, to: SocketAddr, flags: u8, data: &[u8]) -> Vec<u8> {
    let mut segment = ports(from, to);
    segment.extend([0, 0, 0x03, 0xe8, 0, 0, 0, 0, 0x50, flags]);
    segment.extend([0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(data);
    let sum = checksum(from, to, protocol::TCP, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// A UDP packet.
pub fn udp(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    ip(from, to, protocol::UDP, &udp_datagram(from, to, data))
}

/// A UDP datagram.
pub fn udp_datagram(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut datagram = ports(from, to);
    datagram.extend(u16::try_from(8 + data.len()).unwrap().to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    let sum = checksum(from, to, protocol::UDP, &datagram);
    let sum = if sum == 0 { 0xffff } else { sum };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

/// An ICMP or ICMPv6 packet; `quoted` follows the eight bytes of the message's header.
pub fn icmp(
    from: SocketAddr,
    to: SocketAddr,
    kind: u8,
    code: u8,
    rest: u32,
    quoted: &[u8],
) -> Vec<u8> {
    let (protocol, message) = icmp_message(from, to, [kind, code], rest, quoted);
    ip(from, to, protocol, &message)
}

/// An ICMP or ICMPv6 message with its protocol number.
pub fn icmp_message(
    from: SocketAddr,
    to: SocketAddr,
    kind_and_code: [u8; 2],
    rest: u32,
    quoted: &[u8],
) -> (u8, Vec<u8>) {
    let mut message = [kind_and_code, [0, 0]].concat();
    message.extend(rest.to_be_bytes());
    message.extend(quoted);
    let (protocol, sum) = if from.is_ipv4() {
        (protocol::ICMP, Sum::of(&message).finish())
    } else {
        let sum = checksum(from, to, protocol::ICMPV6, &message);
        (protocol::ICMPV6, sum)
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    (protocol, message)
}

fn ports(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    [from.port().to_be_bytes(), to.port().to_be_bytes()].concat()
}

/// The checksum of a segment with its pseudo header; its own field is 0.
pub fn checksum(from: SocketAddr, to: SocketAddr, protocol: u8, segment: &[u8]) -> u16 {
    let address = |address: IpAddr| match address {
        IpAddr::V4(v4) => Sum::of(&v4.octets()),
        IpAddr::V6(v6) => Sum::of(&v6.octets()),
    };
    address(from.ip())
        .plus(address(to.ip()))
        .plus(Sum::of(segment))
        .add16(protocol.into())
        .add32(u32::try_from(segment.len()).unwrap())
        .finish()
}
