//! Ends of SCTP associations by hand, on raw sockets: for kernels without SCTP. Packets are as RFC 9260 has them; of its
//! rules only those are kept that a peer on a network without loss needs.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto};

use super::namespace::inside;

/// How long an end waits for a packet before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(3);
const HEADER_BYTES: usize = 12;

/// Chunks, RFC 9260 section 3.2.
mod chunk {
    pub const DATA: u8 = 0;
    pub const INIT: u8 = 1;
    pub const INIT_ACK: u8 = 2;
    pub const SACK: u8 = 3;
    pub const SHUTDOWN: u8 = 7;
    pub const SHUTDOWN_ACK: u8 = 8;
    pub const COOKIE_ECHO: u8 = 10;
    pub const COOKIE_ACK: u8 = 11;
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// A packet with one chunk.
#[derive(Debug)]
struct Packet {
    from: SocketAddr,
    to_port: u16,
    tag: u32,
    kind: u8,
    value: Vec<u8>,
}

/// A raw socket for SCTP at one address.
#[derive(Debug)]
struct Wire(OwnedFd);

impl Wire {
    fn open(namespace: &str, address: IpAddr) -> Self {
        let socket = inside(namespace, || {
            let family = if address.is_ipv4() {
                AddressFamily::INET
            } else {
                AddressFamily::INET6
            };
            let socket = rustix::net::socket(family, SocketType::RAW, Some(ipproto::SCTP))?;
            rustix::net::bind(&socket, &SocketAddr::new(address, 0))?;
            set_socket_timeout(&socket, Timeout::Recv, Some(LOOK))?;
            Ok::<_, rustix::io::Errno>(socket)
        });
        Self(socket.unwrap_or_else(|error| panic!("{namespace}, {address}: {error}")))
    }

    fn send(&self, from_port: u16, to: SocketAddr, tag: u32, kind: u8, value: &[u8]) {
        let mut packet = Vec::new();
        packet.extend(from_port.to_be_bytes());
        packet.extend(to.port().to_be_bytes());
        packet.extend(tag.to_be_bytes());
        packet.extend([0; 4]);
        // Both of the last fragment and the first: a message in one chunk.
        packet.extend([kind, if kind == chunk::DATA { 3 } else { 0 }]);
        let length = u16::try_from(4 + value.len()).expect("a small chunk");
        packet.extend(length.to_be_bytes());
        packet.extend(value);
        packet.resize(packet.len().next_multiple_of(4), 0);
        let sum = crc32c(&packet);
        packet[8..12].copy_from_slice(&sum.to_le_bytes());
        let to = SocketAddr::new(to.ip(), 0);
        rustix::net::sendto(&self.0, &packet, SendFlags::empty(), &to).expect("it goes out");
    }

    /// The next packet within [`LOOK`]; its checksum must be right.
    fn receive(&self) -> Option<Packet> {
        let mut buffer = vec![0; 2048];
        let (length, _, from) =
            rustix::net::recvfrom(&self.0, &mut *buffer, RecvFlags::empty()).ok()?;
        let from = SocketAddr::try_from(from?).ok()?.ip();
        // A raw IPv4 socket gives the header, too.
        let header = if from.is_ipv4() {
            usize::from(buffer[0] & 15) * 4
        } else {
            0
        };
        let packet = &mut buffer[header..length];
        assert!(packet.len() >= HEADER_BYTES + 4, "a packet cut short");
        let sum: [u8; 4] = packet[8..12].try_into().expect("four bytes");
        packet[8..12].fill(0);
        assert_eq!(sum, crc32c(packet).to_le_bytes(), "wrong CRC32c");
        let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        let end = HEADER_BYTES + usize::from(word(14));
        Some(Packet {
            from: SocketAddr::new(from, word(0)),
            to_port: word(2),
            tag: u32::from_be_bytes(packet[4..8].try_into().expect("four bytes")),
            kind: packet[12],
            value: packet[HEADER_BYTES + 4..end].to_vec(),
        })
    }
}

/// INIT and INIT ACK: tag, window, streams, first TSN.
fn init(tag: u32) -> Vec<u8> {
    [
        &tag.to_be_bytes()[..],
        &[0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1],
    ]
    .concat()
}

/// DATA: TSN, stream, number in it, payload protocol.
fn data(text: &str) -> Vec<u8> {
    [&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], text.as_bytes()].concat()
}

/// SACK up to TSN 1, and a window.
const SACK: [u8; 12] = [0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0];

/// Servers that answer a message with their name; they run as long as it lives.
#[derive(Debug)]
pub struct SctpServers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl SctpServers {
    /// Starts them: namespaces and the addresses they listen at.
    pub fn start(port: u16, ends: &[(&'static str, &str)]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = ends.iter().map(|(name, address)| {
            let wire = Wire::open(name, address.parse().expect("an address of the lab"));
            let (stop, name) = (Arc::clone(&stop), *name);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Some(packet) = wire.receive().filter(|packet| packet.to_port == port) {
                        answer(&wire, port, name, &packet);
                    }
                }
            })
        });
        let threads = threads.collect();
        Self { stop, threads }
    }

    /// Ends them; each packet they saw was sound.
    pub fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a server saw a broken packet");
        }
    }
}

impl Drop for SctpServers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Stateless: the server's tag is the client's with other bits, and every client's is known from its cookie.
fn answer(wire: &Wire, port: u16, name: &str, packet: &Packet) {
    let theirs = !packet.tag;
    let reply = |tag, kind, value: &[u8]| wire.send(port, packet.from, tag, kind, value);
    match packet.kind {
        chunk::INIT => {
            let theirs = u32::from_be_bytes(packet.value[..4].try_into().expect("a tag"));
            // With a state cookie, parameter 7.
            let value = [init(!theirs), vec![0, 7, 0, 8, b'c', b'o', b'o', b'k']].concat();
            reply(theirs, chunk::INIT_ACK, &value);
        }
        chunk::COOKIE_ECHO => reply(theirs, chunk::COOKIE_ACK, &[]),
        chunk::DATA => {
            reply(theirs, chunk::SACK, &SACK);
            reply(theirs, chunk::DATA, &data(name));
        }
        chunk::SHUTDOWN => reply(theirs, chunk::SHUTDOWN_ACK, &[]),
        _ => {}
    }
}

/// A client's end.
#[derive(Debug)]
pub struct Association {
    wire: Wire,
    port: u16,
    server: SocketAddr,
    tag: u32,
}

impl Association {
    /// Sets one up from a port of the client's.
    pub fn open(client: &str, port: u16, server: SocketAddr) -> Self {
        let tag = 0x5c70_0000 | u32::from(port);
        let association = Self {
            wire: Wire::open("client", client.parse().expect("an address of the lab")),
            port,
            server,
            tag,
        };
        association.say(0, chunk::INIT, &init(tag));
        association.hear(chunk::INIT_ACK);
        association.say(!tag, chunk::COOKIE_ECHO, b"cook");
        association.hear(chunk::COOKIE_ACK);
        association
    }

    /// Sends a message and returns the answer.
    pub fn ask(&self) -> String {
        self.say(!self.tag, chunk::DATA, &data("who"));
        self.hear(chunk::SACK);
        let answer = self.hear(chunk::DATA);
        self.say(!self.tag, chunk::SACK, &SACK);
        String::from_utf8_lossy(&answer.value[12..]).into_owned()
    }

    /// Ends it.
    pub fn close(self) {
        self.say(!self.tag, chunk::SHUTDOWN, &[0, 0, 0, 1]);
        self.hear(chunk::SHUTDOWN_ACK);
        self.say(!self.tag, chunk::SHUTDOWN_COMPLETE, &[]);
    }

    fn say(&self, tag: u32, kind: u8, value: &[u8]) {
        self.wire.send(self.port, self.server, tag, kind, value);
    }

    fn hear(&self, kind: u8) -> Packet {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let packet = self
                .wire
                .receive()
                .filter(|packet| packet.to_port == self.port);
            if let Some(packet) = packet {
                assert_eq!(packet.from, self.server, "from the virtual address only");
                assert_eq!((packet.kind, packet.tag), (kind, self.tag), "{packet:?}");
                return packet;
            }
        }
        panic!("no chunk {kind} from {}", self.server);
    }
}

/// CRC32c, RFC 3309, bit by bit.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let bits = |crc: u32, _: u32| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), bits);
    !bytes.iter().fold(u32::MAX, byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        assert_eq!(crc32c(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
