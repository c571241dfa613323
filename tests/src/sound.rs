//! Reads a frame as a strict receiver would: every length exact, every checksum right. What the director makes of a sound
//! packet must be one too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pollux_engine::wire::checksum::Sum;
use pollux_engine::wire::ethernet::{ETHERNET_BYTES, VLAN_TAG_BYTES, ethertype};
use pollux_engine::wire::ipv4::{FRAGMENT_MASK, IPV4_BYTES};
use pollux_engine::wire::ipv6::{IPV6_BYTES, upper_layer};
use pollux_engine::wire::protocol;

use crate::golden::packet::checksum;

/// A sound packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sound {
    /// VLAN ids, outermost first.
    pub vlans: Vec<u16>,
    /// Where it comes from; the port is 0 where there are no ports.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// Protocol of the upper layer.
    pub protocol: u8,
    /// TTL or hop limit.
    pub hops: u8,
    /// IP header and payload, bytes.
    pub bytes: usize,
    /// The packet in the tunnel.
    pub inner: Option<Box<Sound>>,
}

fn word(bytes: &[u8], at: usize) -> Result<u16, String> {
    let pair = bytes.get(at..at + 2).ok_or("too short")?;
    Ok(u16::from_be_bytes([pair[0], pair[1]]))
}

/// Reads a frame. Padding behind the IP packet is allowed.
///
/// # Errors
/// What is wrong with it.
pub fn read(frame: &[u8]) -> Result<Sound, String> {
    let mut vlans = Vec::new();
    let mut at = ETHERNET_BYTES - 2;
    while matches!(word(frame, at)?, ethertype::VLAN | ethertype::SERVICE_VLAN) {
        vlans.push(word(frame, at + 2)? & 0x0fff);
        at += VLAN_TAG_BYTES;
    }
    let packet = &frame[at + 2..];
    let sound = match word(frame, at)? {
        ethertype::IPV4 => read_v4(packet),
        ethertype::IPV6 => read_v6(packet),
        other => Err(format!("ethertype {other:#06x}")),
    };
    Ok(Sound { vlans, ..sound? })
}

fn read_v4(packet: &[u8]) -> Result<Sound, String> {
    let header_bytes = usize::from(packet.first().ok_or("no header")? & 15) * 4;
    let total = usize::from(word(packet, 2)?);
    if packet[0] >> 4 != 4 || header_bytes < IPV4_BYTES || total < header_bytes {
        return Err("bad IPv4 header".to_owned());
    }
    let packet = packet.get(..total).ok_or("shorter than it says")?;
    if Sum::of(&packet[..header_bytes]).finish() != 0 {
        return Err("wrong IPv4 header checksum".to_owned());
    }
    let address = |at: usize| -> IpAddr {
        Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]).into()
    };
    let is_fragment = word(packet, 6)? & FRAGMENT_MASK != 0;
    let payload = (!is_fragment).then_some(&packet[header_bytes..]);
    let sound = upper(packet[9], address(12), address(16), payload)?;
    Ok(Sound {
        hops: packet[8],
        bytes: total,
        ..sound
    })
}

fn read_v6(packet: &[u8]) -> Result<Sound, String> {
    let total = IPV6_BYTES + usize::from(word(packet, 4)?);
    let packet = packet.get(..total).ok_or("shorter than it says")?;
    if packet[0] >> 4 != 6 {
        return Err("bad IPv6 header".to_owned());
    }
    let address = |at: usize| -> IpAddr {
        let octets: [u8; 16] = packet[at..at + 16].try_into().unwrap();
        Ipv6Addr::from(octets).into()
    };
    let last = upper_layer(packet, packet[6]).ok_or("extension headers past the end")?;
    let payload = (!last.is_fragment).then_some(&packet[last.offset..]);
    let sound = upper(last.protocol, address(8), address(24), payload)?;
    Ok(Sound {
        hops: packet[7],
        bytes: total,
        ..sound
    })
}

/// The upper layer; a fragment's is not looked at.
fn upper(
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    payload: Option<&[u8]>,
) -> Result<Sound, String> {
    let mut sound = Sound {
        vlans: Vec::new(),
        source: SocketAddr::new(source, 0),
        destination: SocketAddr::new(destination, 0),
        protocol,
        hops: 0,
        bytes: 0,
        inner: None,
    };
    let Some(payload) = payload else {
        return Ok(sound);
    };
    let sum = |segment: &[u8]| checksum(sound.source, sound.destination, protocol, segment);
    match protocol {
        protocol::TCP if payload.len() < 20 || sum(payload) != 0 => {
            return Err("bad TCP".to_owned());
        }
        protocol::UDP => {
            let length = usize::from(word(payload, 4)?);
            let datagram = payload.get(..length).ok_or("UDP longer than its packet")?;
            let unchecked = word(payload, 6)? == 0;
            if length < 8 || (!unchecked && sum(datagram) != 0) {
                return Err("bad UDP".to_owned());
            }
        }
        protocol::ICMP if payload.len() < 8 || Sum::of(payload).finish() != 0 => {
            return Err("bad ICMP".to_owned());
        }
        protocol::ICMPV6 if payload.len() < 8 || sum(payload) != 0 => {
            return Err("bad ICMPv6".to_owned());
        }
        protocol::IPIP => sound.inner = Some(Box::new(read_v4(payload)?)),
        protocol::IPV6 => sound.inner = Some(Box::new(read_v6(payload)?)),
        _ => {}
    }
    if matches!(protocol, protocol::TCP | protocol::UDP) {
        sound.source.set_port(word(payload, 0)?);
        sound.destination.set_port(word(payload, 2)?);
    }
    Ok(sound)
}
