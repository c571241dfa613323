//! Frames from decisions: well-formed ones from a small world, so that they meet services and each other's connections,
//! and what damage makes of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pollux_engine::wire::protocol;

use super::choices::Choices;
use crate::golden::packet::{self, IpHeader};
use crate::golden::topology::{GATEWAY_MAC, mac, server_mac, server_v4, server_v6};
use crate::golden::trace::Wire;

/// Ports of the lab's services and servers.
const SERVICE_PORTS: [u16; 3] = [80, 53, 81];
/// Virtual addresses and one nobody has, by family.
const VIPS: [[IpAddr; 2]; 2] = [
    [
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100)),
        IpAddr::V4(Ipv4Addr::new(203, 0, 114, 9)),
    ],
    [
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, 9)),
    ],
];

/// A frame on a wire, usually well formed.
pub fn frame(choices: &mut Choices<'_>, wire: Wire) -> Vec<u8> {
    let is_v6 = choices.one_in(2);
    let (from, to) = ends(choices, wire, is_v6);
    let header = ip_header(choices);
    let (protocol, payload) = payload(choices, wire, from, to);
    let packet = header.packet(from, to, protocol, &payload);
    let sender = match wire {
        Wire::Cl => GATEWAY_MAC,
        Wire::Rs => server_mac(1),
    };
    let mut frame = packet::ethernet(mac(wire), sender, &packet);
    if choices.one_in(8) {
        let id = choices.number().to_be_bytes();
        frame.splice(12..12, [0x81, 0x00, id[0], id[1]]);
    }
    if choices.one_in(8) {
        frame.resize(frame.len() + usize::from(choices.below(64)), 0x5a);
    }
    if choices.one_in(4) {
        damage(choices, &mut frame);
    }
    frame
}

/// Who speaks to whom.
fn ends(choices: &mut Choices<'_>, wire: Wire, is_v6: bool) -> (SocketAddr, SocketAddr) {
    let number = 1 + choices.below(3);
    let client: IpAddr = if is_v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, number.into()).into()
    } else {
        Ipv4Addr::new(198, 51, 100, number).into()
    };
    let client = SocketAddr::new(client, 4000 + u16::from(choices.below(4)));
    let server = if is_v6 { server_v6 } else { server_v4 };
    let port = choices.of(SERVICE_PORTS);
    match wire {
        Wire::Cl => {
            let vip = VIPS[usize::from(is_v6)][usize::from(choices.one_in(16))];
            (client, SocketAddr::new(vip, port))
        }
        Wire::Rs => (SocketAddr::new(server(1 + choices.below(3)), port), client),
    }
}

fn ip_header(choices: &mut Choices<'_>) -> IpHeader {
    let mut header = IpHeader::default();
    if choices.one_in(4) {
        header.hops = choices.of([0, 1, 2, 3, 128, 255]);
        header.tos = choices.byte();
        header.identification = choices.number();
        header.flags_fragment = choices.of([0, 0x4000, 0x8000, 0x2000, 0x0001, 0x3fff]);
    }
    if choices.one_in(8) {
        header.options = vec![1; 4 * usize::from(choices.below(11))];
    }
    if choices.one_in(4) {
        for _ in 0..choices.below(4) {
            header.extensions.push(extension(choices));
        }
    }
    header
}

/// An extension header without its first byte.
fn extension(choices: &mut Choices<'_>) -> (u8, Vec<u8>) {
    let kind = choices.of([0, 43, 44, 51, 60]);
    let length = choices.below(3);
    let mut bytes = match kind {
        44 => vec![0; 7],
        51 => vec![0; (usize::from(length) + 2) * 4 - 1],
        _ => vec![0; (usize::from(length) + 1) * 8 - 1],
    };
    if kind == 44 {
        let [high, low] = choices.of([0_u16, 1, 8, 9, 0xfff8]).to_be_bytes();
        bytes[1..3].copy_from_slice(&[high, low]);
    } else {
        bytes[0] = length;
    }
    (kind, bytes)
}

fn payload(
    choices: &mut Choices<'_>,
    wire: Wire,
    from: SocketAddr,
    to: SocketAddr,
) -> (u8, Vec<u8>) {
    let size = choices.of([0, 1, 2, 3, 100, 100, 100, 1400, 1432, 1433, 1460, 1461]);
    let data = vec![choices.byte(); size];
    match choices.below(8) {
        0..=3 => {
            let flags = choices.of([2, 2, 2, 2, 18, 16, 24, 17, 4, 20, 1, 0, 0xff]);
            (protocol::TCP, packet::tcp_segment(from, to, flags, &data))
        }
        4..=5 => {
            let mut datagram = packet::udp_datagram(from, to, &data);
            if choices.one_in(4) {
                datagram[6..8].fill(0);
            }
            (protocol::UDP, datagram)
        }
        6 => error(choices, wire, from, to),
        _ => (choices.byte(), data),
    }
}

/// An ICMP message, usually an error about what the director sent on this wire.
pub fn error(
    choices: &mut Choices<'_>,
    wire: Wire,
    from: SocketAddr,
    to: SocketAddr,
) -> (u8, Vec<u8>) {
    let is_v4 = from.is_ipv4();
    let tcp = choices.one_in(2);
    let (protocol, segment) = if tcp {
        (protocol::TCP, packet::tcp_segment(to, from, 16, &[7; 40]))
    } else {
        (protocol::UDP, packet::udp_datagram(to, from, &[7; 40]))
    };
    let header = IpHeader {
        options: vec![1; 4 * usize::from(choices.one_in(8))],
        ..IpHeader::default()
    };
    let mut quoted = header.packet(to, from, protocol, &segment);
    if wire == Wire::Rs && choices.one_in(2) {
        // The client's packet in the outer one of a tunnel.
        let vip = SocketAddr::new(VIPS[usize::from(!is_v4)][0], from.port());
        let inside = packet::tcp_segment(to, vip, 16, &[7; 40]);
        let inside = packet::ip(to, vip, protocol::TCP, &inside);
        let director = SocketAddr::new(from.ip(), 0);
        let number = if is_v4 {
            protocol::IPIP
        } else {
            protocol::IPV6
        };
        quoted = packet::ip(director, from, number, &inside);
    }
    if choices.one_in(3) {
        quoted.truncate(usize::from(choices.below(100)));
    }
    let kinds = if is_v4 {
        [3, 4, 11, 12, 8, 0]
    } else {
        [1, 2, 3, 4, 128, 127]
    };
    let kind_and_code = [choices.of(kinds), choices.below(6)];
    let rest = choices.of([0, 68, 1280, 1400, 0xffff, 0xffff_ffff]);
    packet::icmp_message(from, to, kind_and_code, rest, &quoted)
}

/// Breaks a frame in a few places.
pub fn damage(choices: &mut Choices<'_>, frame: &mut Vec<u8>) {
    for _ in 0..=choices.below(4) {
        let at = usize::from(choices.number()) % frame.len().max(1);
        let value = choices.byte();
        match choices.below(4) {
            0 => frame.truncate(at),
            1 => frame
                .splice(at.min(frame.len())..at.min(frame.len()), [value])
                .for_each(drop),
            _ => {
                // Most decisions are made in the headers.
                let at = at % frame.len().clamp(1, 100);
                if let Some(byte) = frame.get_mut(at) {
                    *byte ^= value;
                }
            }
        }
    }
}
