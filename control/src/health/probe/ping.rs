//! ICMP echo (RFC 792, RFC 4443 4.1), over the kernel's ping socket where this group may use it, else over a raw one.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::super::outcome::Outcome;
use super::Failed;

/// Header and payload of ours.
const ECHO_BYTES: usize = 16;
/// With an IPv4 header of all options before it, and more than we send.
const ANSWER_BYTES_MAX: usize = 256;

/// A family's numbers.
#[derive(Clone, Copy)]
struct Icmp {
    domain: Domain,
    protocol: Protocol,
    request: u8,
    reply: u8,
    unreachable: u8,
}

const V4: Icmp = Icmp {
    domain: Domain::IPV4,
    protocol: Protocol::ICMPV4,
    request: 8,
    reply: 0,
    unreachable: 3,
};
const V6: Icmp = Icmp {
    domain: Domain::IPV6,
    protocol: Protocol::ICMPV6,
    request: 128,
    reply: 129,
    unreachable: 1,
};

/// Asks.
pub async fn ask(server: IpAddr) -> Result<Outcome, Failed> {
    let icmp = if server.is_ipv4() { V4 } else { V6 };
    let (socket, is_raw) = open(icmp).map_err(Failed::Unasked)?;
    let socket: std::net::UdpSocket = socket.into();
    let socket = UdpSocket::from_std(socket).map_err(Failed::Unasked)?;
    let there = SocketAddr::new(server, 0);
    socket.connect(there).await.map_err(Failed::Connect)?;
    // Identifier, sequence number and payload by chance: a raw socket sees other processes' echoes, too.
    let chance = RandomState::new().hash_one(server).to_be_bytes();
    let request = request(icmp, chance);
    socket.send(&request).await.map_err(Failed::Connect)?;
    let mut answer = [0; ANSWER_BYTES_MAX];
    loop {
        let length = socket.recv(&mut answer).await.map_err(Failed::Connect)?;
        let answer = answer.get(..length).unwrap_or_default();
        let answer = if is_raw && server.is_ipv4() {
            without_header(answer)
        } else {
            answer
        };
        match answer.first() {
            Some(kind) if *kind == icmp.reply && answer.get(8..ECHO_BYTES) == Some(&chance) => {
                return Ok(Outcome::good("answered"));
            }
            // Raw sockets only: of the others the kernel makes errors.
            Some(kind) if *kind == icmp.unreachable && answer.ends_with(&chance) => {
                return Err(Failed::wrong("unreachable"));
            }
            _ => {}
        }
    }
}

/// The socket, and whether it is a raw one.
fn open(icmp: Icmp) -> io::Result<(Socket, bool)> {
    let open = |kind: Type| {
        let socket = Socket::new(icmp.domain, kind.nonblocking(), Some(icmp.protocol))?;
        Ok((socket, kind == Type::RAW))
    };
    let opened = open(Type::DGRAM);
    let is_refused = |error: &io::Error| {
        // net.ipv4.ping_group_range leaves this group out.
        matches!(
            Errno::from_io_error(error),
            Some(Errno::ACCESS | Errno::PERM)
        )
    };
    match opened {
        Err(error) if is_refused(&error) => open(Type::RAW).map_err(|error: io::Error| {
            let mend =
                "ping needs the capability CAP_NET_RAW, or this group in net.ipv4.ping_group_range";
            io::Error::new(error.kind(), format!("{error}: {mend}"))
        }),
        opened => opened,
    }
}

/// The kernel fills in the checksum of ICMPv6, and of ping sockets the identifier and what follows from it.
fn request(icmp: Icmp, chance: [u8; 8]) -> [u8; ECHO_BYTES] {
    let mut request = [0; ECHO_BYTES];
    let [id0, id1, sequence0, sequence1, ..] = chance;
    let (header, payload) = request.split_at_mut(8);
    header.copy_from_slice(&[icmp.request, 0, 0, 0, id0, id1, sequence0, sequence1]);
    payload.copy_from_slice(&chance);
    let words = request.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [high, low] = (sum as u16 ^ 0xffff).to_be_bytes();
    (request[2], request[3]) = (high, low);
    request
}

/// What follows an IPv4 header.
fn without_header(packet: &[u8]) -> &[u8] {
    let words = packet.first().map_or(0, |first| first & 0x0f);
    packet.get(usize::from(words) * 4..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_over_a_request_is_all_ones() {
        for chance in [[0; 8], [0xff; 8], [1, 2, 3, 4, 5, 6, 7, 8]] {
            let request = request(V4, chance);
            let words = request
                .chunks(2)
                .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
            let sum: u32 = words.sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{request:?}");
        }
    }
}
