//! Frames by hand, put on the client's link as they are, and what to build them from.
//!
//! socat takes each datagram of a Unix socket for one frame of a packet socket, so a test needs neither unsafe code
//! nor a capture file.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::namespace::Background;

/// The client's MAC address.
pub const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x01, 0x10];
/// The MAC address of the director's port towards clients.
pub const DIRECTOR_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x01, 0x01];
/// The client.
pub const CLIENT4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The client.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10);
/// A packet socket takes no frame without a whole Ethernet header.
pub const FRAME_BYTES_MIN: usize = 14;

/// Puts frames on the link of pollux-client, as long as it lives.
pub struct FrameSender {
    socket: UnixDatagram,
    path: PathBuf,
    _socat: Background,
}

impl FrameSender {
    /// Opens the link.
    pub fn open() -> Self {
        let path = std::env::temp_dir().join(format!("pollux-frames-{}", std::process::id()));
        let from = format!("UNIX-RECV:{}", path.display());
        let arguments = ["-u", "-b", "65536", &from, "INTERFACE:lan0"];
        let socat = Background::start("client", "socat", &arguments, Stdio::null());
        let deadline = Instant::now() + Duration::from_secs(5);
        let socket = UnixDatagram::unbound().expect("a Unix socket can be made");
        while socket.connect(&path).is_err() {
            assert!(
                Instant::now() < deadline,
                "socat does not open {}",
                path.display()
            );
            thread::sleep(Duration::from_millis(10));
        }
        Self {
            socket,
            path,
            _socat: socat,
        }
    }

    /// Sends one frame as it is.
    pub fn send(&self, frame: &[u8]) {
        assert!(
            frame.len() >= FRAME_BYTES_MIN,
            "a packet socket takes no frame of {} bytes",
            frame.len()
        );
        self.socket.send(frame).expect("socat takes the frame");
    }
}

impl Drop for FrameSender {
    fn drop(&mut self) {
        // It is in the temporary folder; nothing depends on it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A frame from the client to the director.
pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [
        &DIRECTOR_MAC[..],
        &CLIENT_MAC,
        &ethertype.to_be_bytes(),
        payload,
    ]
    .concat()
}

/// An IPv4 packet from the client, checksum included.
pub fn ipv4(destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_between(CLIENT4, destination, protocol, payload)
}

/// An IPv4 packet, checksum included.
pub fn ipv4_between(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).expect("a packet of at most 64 kB");
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// An IPv6 packet from the client.
pub fn ipv6(destination: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a packet of at most 64 kB");
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend(CLIENT6.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

/// A TCP SYN with a checksum over an IPv4 pseudo header.
pub fn tcp_syn(destination: Ipv4Addr, source_port: u16, destination_port: u16) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(source_port.to_be_bytes());
    segment.extend(destination_port.to_be_bytes());
    segment.extend([
        0, 0, 0x10, 0, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0,
    ]);
    let sum = pseudo_checksum(destination, 6, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// A UDP datagram with a checksum over an IPv4 pseudo header.
pub fn udp(
    destination: Ipv4Addr,
    source_port: u16,
    destination_port: u16,
    payload: &[u8],
) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("a datagram of at most 64 kB");
    let mut datagram = Vec::new();
    for field in [source_port, destination_port, length, 0] {
        datagram.extend(field.to_be_bytes());
    }
    datagram.extend(payload);
    let sum = pseudo_checksum(destination, 17, &datagram);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

fn pseudo_checksum(destination: Ipv4Addr, protocol: u8, segment: &[u8]) -> u16 {
    let length = u16::try_from(segment.len()).expect("a segment of at most 64 kB");
    let mut bytes = [
        &CLIENT4.octets()[..],
        &destination.octets(),
        &[0, protocol],
        &length.to_be_bytes(),
    ]
    .concat();
    bytes.extend(segment);
    checksum(&bytes)
}

/// RFC 1071 over whole bytes, as a number whose big-endian bytes go into the header.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| {
            u32::from(u16::from_be_bytes([
                pair[0],
                pair.get(1).copied().unwrap_or(0),
            ]))
        })
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_its_checksum_sums_up_to_zero() {
        let packet = ipv4(Ipv4Addr::new(198, 51, 100, 1), 6, &[1, 2, 3]);
        assert_eq!(checksum(&packet[..20]), 0);
    }
}
