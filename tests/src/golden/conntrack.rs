//! What nf_conntrack, beside IPVS, stops of the connections of FTP.
//!
//! The kernel's FTP helper has it follow these connections. A client's segment that it takes for invalid is none of the
//! connection's to it, but the first one of another: from the client to the server itself. That one's answers would be the
//! connection's, so the packet is dropped as it leaves, with IPVS long done with it (`__nf_conntrack_confirm`). Of the reasons
//! for which a segment is invalid two are known here: the server has not taken the connection yet, or it is damaged.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use pollux_engine::wire::protocol;

use super::director::Director;
use super::kernel::Packet;
use super::trace::Frame;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
/// Where the flags are in a TCP header.
const FLAGS: usize = 13;

/// Connections that no server has taken yet: a client, and whom it spoke to.
#[derive(Debug, Default)]
pub struct HalfOpen(BTreeSet<(SocketAddr, SocketAddr)>);

impl HalfOpen {
    /// A frame came in, and others went out.
    pub fn note(&mut self, received: &[u8], out: &[Frame]) {
        if let Some((client, virtual_end, SYN)) = segment(received) {
            self.0.insert((client, virtual_end));
        }
        for frame in out {
            if let Some((virtual_end, client, flags)) = segment(&frame.bytes)
                && flags & (SYN | ACK) == SYN | ACK
            {
                self.0.remove(&(client, virtual_end));
            }
        }
    }

    /// Whether the kernel may drop this one, after IPVS.
    pub fn may_drop(&self, director: &Director, received: &[u8]) -> bool {
        segment(received).is_some_and(|(client, virtual_end, _)| {
            self.is_invalid(received) && director.is_of_ftp(client, virtual_end)
        })
    }

    fn is_invalid(&self, received: &[u8]) -> bool {
        let Some((client, virtual_end, flags)) = segment(received) else {
            return false;
        };
        // Others begin no connection, and so do no harm.
        match flags & (FIN | SYN | RST | ACK) {
            ACK => self.0.contains(&(client, virtual_end)) || is_damaged(received),
            SYN => is_damaged(received),
            _ => false,
        }
    }
}

fn is_damaged(frame: &[u8]) -> bool {
    Packet::read(frame).is_some_and(|packet| !packet.has_right_checksum())
}

/// Who sends a TCP segment, to whom, and its flags.
fn segment(frame: &[u8]) -> Option<(SocketAddr, SocketAddr, u8)> {
    let packet = Packet::read(frame).filter(|packet| packet.protocol == protocol::TCP)?;
    let port = |at: usize| {
        Some(u16::from_be_bytes(
            *packet.payload.get(at..)?.first_chunk()?,
        ))
    };
    Some((
        SocketAddr::new(packet.source()?, port(0)?),
        SocketAddr::new(packet.destination()?, port(2)?),
        *packet.payload.get(FLAGS)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::packet;
    use crate::golden::topology::{GATEWAY_MAC, mac};
    use crate::golden::trace::Wire;

    fn frame(from: &str, to: &str, flags: &str) -> Vec<u8> {
        let packet = packet::tcp(from.parse().unwrap(), to.parse().unwrap(), flags, b"");
        packet::ethernet(mac(Wire::Cl), GATEWAY_MAC, &packet)
    }

    #[test]
    fn a_client_speaks_too_early_until_the_server_has_answered() {
        let (client, ftp) = ("198.51.100.7:40000", "192.0.2.100:21");
        let mut half_open = HalfOpen::default();
        let early = frame(client, ftp, "PA");
        assert!(!half_open.is_invalid(&early), "nobody began");
        half_open.note(&frame(client, ftp, "S"), &[]);
        assert!(half_open.is_invalid(&early));
        assert!(!half_open.is_invalid(&frame(client, ftp, "FA")));
        assert!(!half_open.is_invalid(&frame("198.51.100.8:40000", ftp, "A")));
        let answer = Frame {
            port: Wire::Cl,
            bytes: frame(ftp, client, "SA"),
            text: String::new(),
        };
        half_open.note(&frame("10.1.0.11:21", client, "SA"), &[answer]);
        assert!(!half_open.is_invalid(&early));
    }

    #[test]
    fn what_is_damaged_is_none_of_the_connection() {
        let (client, ftp) = ("198.51.100.7:40000", "192.0.2.100:21");
        let damaged = |flags| {
            let mut frame = frame(client, ftp, flags);
            *frame.last_mut().unwrap() ^= 1;
            frame
        };
        let half_open = HalfOpen::default();
        assert!(half_open.is_invalid(&damaged("A")));
        assert!(half_open.is_invalid(&damaged("S")));
        assert!(!half_open.is_invalid(&damaged("R")));
        assert!(!half_open.is_invalid(&frame(client, ftp, "A")));
    }

    #[test]
    fn others_than_ftp_are_not_followed() {
        let director = Director::configured(&[
            "ipvsadm -A -t 192.0.2.100:80 -s rr",
            "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.11 -m",
            "ipvsadm -A -t 192.0.2.100:21 -s rr",
            "ipvsadm -a -t 192.0.2.100:21 -r 10.1.0.11 -m",
        ]);
        let follows = |mut director: Director, virtual_end| {
            let mut half_open = HalfOpen::default();
            let syn = frame("198.51.100.7:40000", virtual_end, "S");
            director.receive(Wire::Cl, &syn);
            half_open.note(&syn, &[]);
            let early = frame("198.51.100.7:40000", virtual_end, "A");
            (half_open.may_drop(&director, &early), director)
        };
        let (drops, director) = follows(director, "192.0.2.100:80");
        assert!(!drops);
        let (drops, _) = follows(director, "192.0.2.100:21");
        assert!(drops);
    }
}
