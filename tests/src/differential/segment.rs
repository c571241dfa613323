//! Packets with more to choose than the recorder's: sequence numbers and options of TCP, chunks of SCTP, fragments; and
//! who speaks in a packet that came out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pollux_engine::wire::protocol;

use crate::golden::packet::{IpHeader, checksum};

const EXTENSIONS: [u8; 4] = [0, 43, 60, protocol::AH];
const FRAGMENT: u8 = 44;
const MORE_FRAGMENTS: u16 = 0x2000;

/// What a TCP segment says of itself.
#[derive(Debug, Clone, Default)]
pub struct TcpFields {
    /// Flags as they lie in the header: FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
    pub flags: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub acknowledgment: u32,
    /// Options; a multiple of four bytes.
    pub options: Vec<u8>,
}

/// A TCP segment.
pub fn tcp(from: SocketAddr, to: SocketAddr, fields: &TcpFields, data: &[u8]) -> Vec<u8> {
    let words = u8::try_from(5 + fields.options.len() / 4).unwrap();
    let mut segment = ports(from, to);
    segment.extend(fields.sequence.to_be_bytes());
    segment.extend(fields.acknowledgment.to_be_bytes());
    segment.extend([words << 4, fields.flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(&fields.options);
    segment.extend(data);
    let sum = checksum(from, to, protocol::TCP, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// An SCTP packet of these chunks: types with their bodies.
pub fn sctp(from: SocketAddr, to: SocketAddr, chunks: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut packet = ports(from, to);
    packet.extend([0, 0, 0, 1, 0, 0, 0, 0]);
    for (kind, body) in chunks {
        let length = u16::try_from(4 + body.len()).unwrap();
        packet.extend([*kind, 0]);
        packet.extend(length.to_be_bytes());
        packet.extend(body);
        packet.resize(packet.len().next_multiple_of(4), 0);
    }
    let sum = crc32c::crc32c(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

fn ports(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    [from.port().to_be_bytes(), to.port().to_be_bytes()].concat()
}

/// A packet in pieces that begin at these offsets of its payload, multiples of eight; the first one at 0.
pub fn fragments(
    header: &IpHeader,
    ends: (SocketAddr, SocketAddr),
    protocol: u8,
    payload: &[u8],
    starts: &[usize],
) -> Vec<Vec<u8>> {
    let (from, to) = ends;
    let piece = |(number, start): (usize, &usize)| {
        let end = starts.get(number + 1).copied().unwrap_or(payload.len());
        let more = number + 1 < starts.len();
        let offset = u16::try_from(*start / 8).unwrap();
        let bytes = &payload[*start..end];
        let mut header = header.clone();
        if from.is_ipv4() {
            header.flags_fragment = offset | if more { MORE_FRAGMENTS } else { 0 };
        } else {
            let word = offset << 3 | u16::from(more);
            let [high, low] = header.identification.to_be_bytes();
            let [first, second] = word.to_be_bytes();
            let body = vec![0, first, second, 0, 0, high, low];
            header.extensions.push((FRAGMENT, body));
        }
        header.packet(from, to, protocol, bytes)
    };
    starts.iter().enumerate().map(piece).collect()
}

/// Source, destination and protocol of an IP packet; ports are 0 where there are none.
pub fn ends(packet: &[u8]) -> Option<(SocketAddr, SocketAddr, u8)> {
    let (from, to, protocol, at) = headers(packet)?;
    let port = |at: usize| {
        let has_ports = matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP);
        let bytes = packet.get(at..at + 2).filter(|_| has_ports)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let from = SocketAddr::new(from, port(at).unwrap_or(0));
    let to = SocketAddr::new(to, port(at + 2).unwrap_or(0));
    Some((from, to, protocol))
}

/// The same without ports, and where what IP carries begins.
fn headers(packet: &[u8]) -> Option<(IpAddr, IpAddr, u8, usize)> {
    let is_v4 = packet.first()? >> 4 == 4;
    let (from, to, mut protocol, mut at): (IpAddr, IpAddr, u8, usize) = if is_v4 {
        (
            Ipv4Addr::from(*packet.get(12..)?.first_chunk()?).into(),
            Ipv4Addr::from(*packet.get(16..)?.first_chunk()?).into(),
            *packet.get(9)?,
            usize::from(packet.first()? & 15) * 4,
        )
    } else {
        (
            Ipv6Addr::from(*packet.get(8..)?.first_chunk()?).into(),
            Ipv6Addr::from(*packet.get(24..)?.first_chunk()?).into(),
            *packet.get(6)?,
            40,
        )
    };
    while protocol == FRAGMENT || to.is_ipv6() && EXTENSIONS.contains(&protocol) {
        let next = *packet.get(at)?;
        let length = if protocol == FRAGMENT {
            0
        } else {
            *packet.get(at + 1)?
        };
        at += match protocol {
            protocol::AH => 4 * (usize::from(length) + 2),
            _ => 8 * (usize::from(length) + 1),
        };
        protocol = next;
    }
    Some((from, to, protocol, at))
}

/// Whether these flags make a segment that nf_conntrack takes for one: else it has not seen what is in it, nor takes what
/// acknowledges that.
pub fn is_sound(flags: u8) -> bool {
    const FIN_SYN_RST_ACK: u8 = 0x17;
    matches!(
        flags & FIN_SYN_RST_ACK,
        0x02 | 0x12 | 0x04 | 0x14 | 0x11 | 0x10
    )
}

/// The sequence number that whoever got this TCP packet acknowledges: behind its data, SYN and FIN.
pub fn acknowledged(packet: &[u8]) -> Option<u32> {
    let (_, _, number, at) = headers(packet)?;
    let segment = packet.get(at..).filter(|_| number == protocol::TCP)?;
    let sequence = u32::from_be_bytes(*segment.get(4..8)?.first_chunk()?);
    let data = segment
        .len()
        .checked_sub(usize::from(*segment.get(12)? >> 4) * 4)?;
    let flags = *segment.get(13)?;
    if !is_sound(flags) {
        return Some(sequence);
    }
    let more = u32::from(flags & 1) + u32::from(flags >> 1 & 1);
    Some(
        sequence
            .wrapping_add(u32::try_from(data).ok()?)
            .wrapping_add(more),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::packet;

    #[test]
    fn fragments_make_the_packet_again() {
        let (from, to) = (
            "[2001:db8::7]:4000".parse().unwrap(),
            "[2001:db8::8]:53".parse().unwrap(),
        );
        let payload = packet::udp_datagram(from, to, &[7; 100]);
        let made = fragments(
            &IpHeader::default(),
            (from, to),
            protocol::UDP,
            &payload,
            &[0, 16, 64],
        );
        let joined: Vec<u8> = made.iter().flat_map(|piece| piece[48..].to_vec()).collect();
        assert_eq!(joined, payload);
        assert_eq!(ends(&made[0]), Some((from, to, protocol::UDP)));
        assert_eq!(made[2][42..44], [0, 64]);
        assert_eq!(made[1][42..44], [0, 17]);
    }

    #[test]
    fn ends_are_read_behind_options() {
        let (from, to) = (
            "198.51.100.7:4000".parse().unwrap(),
            "192.0.2.100:80".parse().unwrap(),
        );
        let header = IpHeader {
            options: vec![1; 8],
            ..IpHeader::default()
        };
        let segment = tcp(
            from,
            to,
            &TcpFields {
                options: vec![1; 4],
                ..TcpFields::default()
            },
            b"x",
        );
        let packet = header.packet(from, to, protocol::TCP, &segment);
        assert_eq!(ends(&packet), Some((from, to, protocol::TCP)));
        assert_eq!(checksum(from, to, protocol::TCP, &segment), 0);
    }

    #[test]
    fn numbers_are_read_behind_extension_headers() {
        let (from, to) = (
            "[2001:db8::7]:4000".parse().unwrap(),
            "[2001:db8::8]:21".parse().unwrap(),
        );
        let authentication = [vec![4, 0, 0], vec![9; 20]].concat();
        let header = IpHeader {
            extensions: vec![
                (0, vec![0, 1, 4, 0, 0, 0, 0]),
                (protocol::AH, authentication),
            ],
            ..IpHeader::default()
        };
        let fields = TcpFields {
            flags: 2,
            sequence: 1000,
            ..TcpFields::default()
        };
        let packet = header.packet(from, to, protocol::TCP, &tcp(from, to, &fields, b"xyz"));
        assert_eq!(ends(&packet), Some((from, to, protocol::TCP)));
        assert_eq!(acknowledged(&packet), Some(1004));
    }
}
