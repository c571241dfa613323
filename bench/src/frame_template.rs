//! Smallest TCP frames with right checksums: a template made once, into which each packet's client is written.

use std::net::{IpAddr, SocketAddr};

use pollux_engine::connection::Family;
use pollux_engine::wire::checksum::Sum;
use pollux_engine::wire::ethernet::{MacAddress, ethertype};
use pollux_engine::wire::protocol;

use crate::flows::Client;
use crate::frame_arena::{ArenaFrame, FRAME_BYTES_MAX};
use crate::rig::CLIENT_NETWORK_V6;

/// Bytes copied for each frame: a whole number of vectors, the longest frame or more.
const TEMPLATE_BYTES: usize = 96;
/// The smallest Ethernet frame, without its check sequence.
const ETHERNET_MIN: usize = 60;
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const TCP: usize = 20;
/// Bytes of the TCP header before the sequence number; the acknowledgement number follows.
const SEQUENCE: usize = 4;
const NUMBERS: usize = 8;

/// TCP flags of frames.
pub mod flag {
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Anything later.
    pub const ACK: u8 = 0x10;
}

/// Which end of a packet is the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientEnd {
    Source,
    Destination,
}

/// Frames that differ in their clients only.
#[derive(Debug, Clone)]
pub struct FrameTemplate {
    bytes: [u8; TEMPLATE_BYTES],
    length: usize,
    family: Family,
    client_end: ClientEnd,
    /// Sum of the IPv4 header without the client's address.
    header_sum: Sum,
    /// Sum of pseudo header and segment without the client's address and port.
    segment_sum: Sum,
}

impl FrameTemplate {
    /// Frames from clients to `service`, between two MACs (source, destination).
    pub fn from_clients(macs: (MacAddress, MacAddress), service: SocketAddr, flags: u8) -> Self {
        Self::new(macs, service, ClientEnd::Source, flags)
    }

    /// Frames from `server` to clients.
    pub fn to_clients(macs: (MacAddress, MacAddress), server: SocketAddr, flags: u8) -> Self {
        Self::new(macs, server, ClientEnd::Destination, flags)
    }

    fn new(
        (source, destination): (MacAddress, MacAddress),
        other: SocketAddr,
        client_end: ClientEnd,
        flags: u8,
    ) -> Self {
        let (network, family, kind) = match other.ip() {
            IpAddr::V4(address) => {
                let ends = ends(client_end, [0; 4], address.octets());
                (ipv4(ends), Family::V4, ethertype::IPV4)
            }
            IpAddr::V6(address) => {
                let clients = CLIENT_NETWORK_V6.octets();
                let ends = ends(client_end, clients, address.octets());
                (ipv6(ends), Family::V6, ethertype::IPV6)
            }
        };
        let segment = tcp(ends(client_end, 0, other.port()), flags);
        let addresses = match family {
            Family::V4 => network.get(12..),
            Family::V6 => network.get(8..),
        };
        let pseudo_header = Sum::of(addresses.unwrap_or_default())
            .add16(u16::from(protocol::TCP))
            .add16(TCP as u16);
        let frame = [
            &destination[..],
            &source,
            &kind.to_be_bytes(),
            &network,
            &segment,
        ]
        .concat();
        let mut bytes = [0; TEMPLATE_BYTES];
        bytes
            .iter_mut()
            .zip(&frame)
            .for_each(|(to, from)| *to = *from);
        Self {
            bytes,
            length: frame.len().max(ETHERNET_MIN),
            family,
            client_end,
            header_sum: Sum::of(&network),
            segment_sum: pseudo_header.plus(Sum::of(&segment)),
        }
    }

    /// Bytes of each frame, without its check sequence.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The same frames with the sequence and acknowledgement numbers left open, for [`FrameTemplate::fill_numbered`].
    #[must_use]
    pub fn to_be_numbered(mut self) -> Self {
        let at = self.network_bytes() + ETHERNET + SEQUENCE;
        for byte in self.bytes.iter_mut().skip(at).take(NUMBERS) {
            *byte = 0;
        }
        // They were 1 each; in one's complement, this takes 1 off.
        self.segment_sum = self.segment_sum.add16(!1).add16(!1);
        self
    }

    /// Makes `frame` the frame of this client.
    #[inline]
    pub fn write(&self, frame: &mut ArenaFrame, client: Client) {
        self.fill(frame.reset(self.length), client, self.segment_sum);
    }

    /// Makes the first [`FrameTemplate::length`] bytes of `room` the frame of this client with these TCP sequence and
    /// acknowledgement numbers, which were left open. More of the room may be written too.
    #[inline]
    pub fn fill_numbered(
        &self,
        room: &mut [u8; FRAME_BYTES_MAX],
        client: Client,
        sequence: u32,
        acknowledgement: u32,
    ) {
        let sum = self.segment_sum.add32(sequence).add32(acknowledgement);
        self.fill(room, client, sum);
        let numbers = u64::from(sequence) << 32 | u64::from(acknowledgement);
        let numbers = numbers.to_be_bytes();
        match self.family {
            Family::V4 => put::<{ ETHERNET + IPV4 + SEQUENCE }, NUMBERS>(room, numbers),
            Family::V6 => put::<{ ETHERNET + IPV6 + SEQUENCE }, NUMBERS>(room, numbers),
        }
    }

    fn network_bytes(&self) -> usize {
        match self.family {
            Family::V4 => IPV4,
            Family::V6 => IPV6,
        }
    }

    #[inline]
    fn fill(&self, room: &mut [u8; FRAME_BYTES_MAX], client: Client, segment: Sum) {
        if let Some(start) = room.first_chunk_mut::<TEMPLATE_BYTES>() {
            *start = self.bytes;
        }
        let segment = segment.add32(client.address).add16(client.port);
        let address = client.address.to_be_bytes();
        let port = client.port.to_be_bytes();
        match (self.family, self.client_end) {
            (Family::V4, ClientEnd::Source) => {
                put::<{ ETHERNET + 12 }, 4>(room, address);
                put::<{ ETHERNET + IPV4 }, 2>(room, port);
            }
            (Family::V4, ClientEnd::Destination) => {
                put::<{ ETHERNET + 16 }, 4>(room, address);
                put::<{ ETHERNET + IPV4 + 2 }, 2>(room, port);
            }
            (Family::V6, ClientEnd::Source) => {
                put::<{ ETHERNET + 8 + 12 }, 4>(room, address);
                put::<{ ETHERNET + IPV6 }, 2>(room, port);
            }
            (Family::V6, ClientEnd::Destination) => {
                put::<{ ETHERNET + 24 + 12 }, 4>(room, address);
                put::<{ ETHERNET + IPV6 + 2 }, 2>(room, port);
            }
        }
        match self.family {
            Family::V4 => {
                let header = self.header_sum.add32(client.address);
                put::<{ ETHERNET + 10 }, 2>(room, header.finish().to_be_bytes());
                put::<{ ETHERNET + IPV4 + 16 }, 2>(room, segment.finish().to_be_bytes());
            }
            Family::V6 => {
                put::<{ ETHERNET + IPV6 + 16 }, 2>(room, segment.finish().to_be_bytes());
            }
        }
    }
}

/// The client's and the other's as source and destination.
fn ends<T>(client_end: ClientEnd, client: T, other: T) -> (T, T) {
    match client_end {
        ClientEnd::Source => (client, other),
        ClientEnd::Destination => (other, client),
    }
}

fn ipv4((source, destination): ([u8; 4], [u8; 4])) -> Vec<u8> {
    let [high, low] = ((IPV4 + TCP) as u16).to_be_bytes();
    // Don't fragment, 64 hops, no checksum yet.
    let start = [0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol::TCP, 0, 0];
    [&start[..], &source, &destination].concat()
}

fn ipv6((source, destination): ([u8; 16], [u8; 16])) -> Vec<u8> {
    let start = [0x60, 0, 0, 0, 0, TCP as u8, protocol::TCP, 64];
    [&start[..], &source, &destination].concat()
}

fn tcp((source, destination): (u16, u16), flags: u8) -> Vec<u8> {
    let mut segment = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    // Sequence number, acknowledgement, five words of header, a window, no checksum yet, nothing urgent.
    segment.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1, 5 << 4, flags, 0x20, 0, 0, 0, 0, 0]);
    segment
}

#[inline]
fn put<const AT: usize, const BYTES: usize>(room: &mut [u8; FRAME_BYTES_MAX], value: [u8; BYTES]) {
    if let Some(field) = room.get_mut(AT..AT + BYTES) {
        field.copy_from_slice(&value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame_arena::ring;
    use pollux_engine::Frame;

    const HERE: MacAddress = [2, 0, 0, 0, 0, 1];
    const THERE: MacAddress = [2, 0, 0, 0, 0, 2];

    /// RFC 1071, the slow way: the engine's own sums are not asked about themselves.
    fn checksum(parts: &[&[u8]]) -> u16 {
        let bytes = parts.concat();
        let mut sum: u32 = 0;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    fn frame_of(template: &FrameTemplate, client: Client) -> Vec<u8> {
        let mut ring = ring();
        template.write(&mut ring[0], client);
        ring[0].bytes().to_vec()
    }

    #[test]
    fn ipv4_frames_are_whole_and_right() {
        let service = "198.51.100.1:80".parse().unwrap();
        let client = Client {
            address: 0x0a01_fe03,
            port: 50_001,
        };
        let to = FrameTemplate::from_clients((THERE, HERE), service, flag::SYN);
        let bytes = frame_of(&to, client);
        assert_eq!((bytes.len(), to.length()), (60, 60));
        assert_eq!(bytes[..14], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
        assert_eq!(bytes[26..34], [10, 1, 254, 3, 198, 51, 100, 1]);
        assert_eq!(bytes[34..38], [195, 81, 0, 80]);
        assert_eq!(bytes[47], flag::SYN);
        assert_eq!(checksum(&[&bytes[14..34]]), 0);
        assert_eq!(
            checksum(&[&bytes[26..34], &[0, 6, 0, 20], &bytes[34..54]]),
            0
        );

        let back = FrameTemplate::to_clients((THERE, HERE), service, flag::ACK);
        let bytes = frame_of(&back, client);
        assert_eq!(bytes[26..34], [198, 51, 100, 1, 10, 1, 254, 3]);
        assert_eq!(bytes[34..38], [0, 80, 195, 81]);
        assert_eq!(checksum(&[&bytes[14..34]]), 0);
        assert_eq!(
            checksum(&[&bytes[26..34], &[0, 6, 0, 20], &bytes[34..54]]),
            0
        );
    }

    #[test]
    fn ipv6_frames_are_whole_and_right() {
        let service = "[2001:db8:ffff::1]:80".parse().unwrap();
        let client = Client {
            address: 0x0a01_fe03,
            port: 50_001,
        };
        for (template, client_at, ports) in [
            (
                FrameTemplate::from_clients((THERE, HERE), service, flag::ACK),
                22,
                [195, 81, 0, 80],
            ),
            (
                FrameTemplate::to_clients((THERE, HERE), service, flag::ACK),
                38,
                [0, 80, 195, 81],
            ),
        ] {
            let bytes = frame_of(&template, client);
            assert_eq!(bytes.len(), 74);
            assert_eq!(bytes[12..15], [0x86, 0xdd, 0x60]);
            assert_eq!(
                bytes[client_at..client_at + 8],
                CLIENT_NETWORK_V6.octets()[..8]
            );
            assert_eq!(bytes[client_at + 12..client_at + 16], [10, 1, 254, 3]);
            assert_eq!(bytes[54..58], ports);
            assert_eq!(
                checksum(&[&bytes[22..54], &[0, 6, 0, 20], &bytes[54..74]]),
                0
            );
        }
    }

    #[test]
    fn numbered_frames_have_their_numbers_and_a_right_checksum() {
        let client = Client {
            address: 0x0a01_fe03,
            port: 50_001,
        };
        for (service, tcp_at, addresses_at) in [
            ("198.51.100.1:80", 34, 26),
            ("[2001:db8:ffff::1]:80", 54, 22),
        ] {
            let service = service.parse().unwrap();
            let template = FrameTemplate::from_clients((THERE, HERE), service, flag::ACK);
            let unnumbered = frame_of(&template, client);
            let template = template.to_be_numbered();
            for (sequence, acknowledgement) in [(1, 1), (0, 0), (0xfffe_1234, 0x8000_ffff)] {
                let mut room = [0xa5; FRAME_BYTES_MAX];
                template.fill_numbered(&mut room, client, sequence, acknowledgement);
                let frame = &room[..template.length()];
                let numbers = &frame[tcp_at + 4..tcp_at + 12];
                assert_eq!(numbers[..4], sequence.to_be_bytes());
                assert_eq!(numbers[4..], acknowledgement.to_be_bytes());
                let addresses = &frame[addresses_at..tcp_at];
                let segment = &frame[tcp_at..tcp_at + 20];
                assert_eq!(checksum(&[addresses, &[0, 6, 0, 20], segment]), 0);
                if sequence == 1 {
                    assert_eq!(frame, unnumbered);
                }
            }
        }
    }
}
