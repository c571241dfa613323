//! What nf_conntrack, beside IPVS, stops of the connections of FTP.
//!
//! The kernel's FTP helper has it follow these connections. A client's segment that it takes for invalid is none of the
//! connection's to it, but the first one of another: from the client to the server itself. That one's answers would be the
//! connection's, so the packet is dropped as it leaves, with IPVS long done with it (`__nf_conntrack_confirm`). Of the reasons
//! for which a segment is invalid these are known here: the server has not taken the connection yet, or in a segment that was
//! damaged or acknowledged what the client has not said; the client acknowledges what the server said in a SYN in the middle; a
//! SYN of the client's in the place of a connection that is still followed; damage. What would begin a connection in the place
//! of one whose server has weight 0 is dropped, too, where `expire_nodest_conn` is set (`ip_vs_conn_uses_old_conntrack`): of
//! data connections that servers began, an answer to that.
//!
//! Once the server's numbers are put off on such a connection, an ICMP error to the server about a packet of its own is put off
//! as if it were a segment, too (`nf_confirm`, `nf_ct_seq_adjust`), and mostly dropped, for it has no right options. A SYN of the
//! server's is put off if nf_conntrack has not seen the connection taken, and else left as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use pollux_engine::wire::protocol;

use super::director::Director;
use super::kernel::{Packet, is_error_to_server, is_icmp};
use super::trace::Frame;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
const FTP_DATA: u16 = 20;
/// Where the checksum is in a TCP header.
const CHECKSUM: usize = 16;
/// Where the flags are in a TCP header.
const FLAGS: usize = 13;

/// Where the sequence number and the acknowledgement are.
const NUMBERS: [usize; 2] = [4, 8];

/// Connections by a client and whom it spoke to: which a server has taken, and what servers said that does not count.
#[derive(Debug, Default)]
pub struct HalfOpen {
    /// Those that were begun, or gone on with.
    seen: BTreeSet<(SocketAddr, SocketAddr)>,
    /// What the server acknowledged when it took one.
    taken: BTreeMap<(SocketAddr, SocketAddr), u32>,
    /// The sequence number of a server's SYN in the middle of a connection.
    unseen: BTreeMap<(SocketAddr, SocketAddr), u32>,
    /// Data connections that a server began, by the client and the service's address.
    active: BTreeSet<(SocketAddr, SocketAddr)>,
    /// Those whose server said something that came out longer or shorter, by the server and the client.
    put_off: BTreeSet<(SocketAddr, SocketAddr)>,
}

impl HalfOpen {
    /// A frame came in, and others went out.
    pub fn note(&mut self, received: &[u8], out: &[Frame]) {
        if let Some((client, virtual_end, flags)) = segment(received) {
            let known = (client, virtual_end);
            self.seen.insert(known);
            if flags & (FIN | SYN | RST | ACK) == SYN {
                self.taken.remove(&known);
                self.unseen.remove(&known);
            }
        }
        if let (Some((server, client, _)), [sent]) = (segment(received), out)
            && segment(&sent.bytes).is_some_and(|(_, to, _)| to == client)
            && sent.bytes.len() != received.len()
        {
            self.put_off.insert((server, client));
        }
        for frame in out {
            let Some((virtual_end, client, flags)) = segment(&frame.bytes) else {
                continue;
            };
            let known = (client, virtual_end);
            if virtual_end.port() == FTP_DATA && flags & (SYN | ACK) == SYN {
                self.active.insert(known);
            }
            match flags & (SYN | ACK) {
                flags if flags == SYN | ACK && !is_damaged(&frame.bytes) => {
                    let [_, acknowledged] = numbers(&frame.bytes).unwrap_or_default();
                    self.taken.entry(known).or_insert(acknowledged);
                }
                SYN if self.taken.contains_key(&known) => {
                    let [sequence, _] = numbers(&frame.bytes).unwrap_or_default();
                    self.unseen.entry(known).or_insert(sequence);
                }
                _ => {}
            }
        }
    }

    /// Whether what came out for a frame, other than the engine's, is nf_conntrack's doing.
    pub fn explains(&self, director: &Director, received: &[u8], out: &[Frame]) -> bool {
        let sent = director.last_sent();
        (out.is_empty() && self.may_drop(director, received))
            || ((out.is_empty() || is_error_to_server(out)) && self.loses_error(received, sent))
            || self.puts_off_a_beginning(received, out, sent)
    }

    /// Whether the kernel may drop this one, after IPVS.
    fn may_drop(&self, director: &Director, received: &[u8]) -> bool {
        segment(received).is_some_and(|(client, virtual_end, flags)| {
            (flags & SYN != 0 && self.active.contains(&(client, virtual_end)))
                || (self.is_invalid(received) && director.is_of_ftp(client, virtual_end))
        })
    }

    /// Whether what was sent is an ICMP error about a segment that came from a server, which the kernel may lose.
    fn loses_error(&self, received: &[u8], sent: Option<&[u8]>) -> bool {
        let is_put_off = segment(received)
            .is_some_and(|(server, client, _)| self.put_off.contains(&(server, client)));
        is_put_off && sent.is_some_and(is_icmp)
    }

    /// Whether a server's SYN in the middle differs by how far its number is put off: not at all by Pollux, and by the kernel if
    /// it has not seen the server take the connection.
    fn puts_off_a_beginning(&self, received: &[u8], out: &[Frame], sent: Option<&[u8]>) -> bool {
        let begins = segment(received).is_some_and(|(server, client, flags)| {
            flags & (SYN | ACK) == SYN && self.put_off.contains(&(server, client))
        });
        let ([out], Some(sent)) = (out, sent) else {
            return false;
        };
        begins && is_same_but_numbered(&out.bytes, sent)
    }

    fn is_invalid(&self, received: &[u8]) -> bool {
        let Some((client, virtual_end, flags)) = segment(received) else {
            return false;
        };
        // Others begin no connection, and so do no harm.
        match flags & (FIN | SYN | RST | ACK) {
            ACK => {
                self.is_before_begin(client, virtual_end, received)
                    || self.acknowledges_unseen(client, virtual_end, received)
                    || is_damaged(received)
            }
            SYN => is_damaged(received) || self.seen.contains(&(client, virtual_end)),
            _ => false,
        }
    }

    /// Whether no server has taken the connection, once it was begun, or it says something from before that.
    fn is_before_begin(
        &self,
        client: SocketAddr,
        virtual_end: SocketAddr,
        received: &[u8],
    ) -> bool {
        let known = (client, virtual_end);
        let Some(taken) = self.taken.get(&known) else {
            return self.seen.contains(&known);
        };
        let [sequence, _] = numbers(received).unwrap_or_default();
        sequence.wrapping_sub(*taken) >= 1 << 31
    }

    fn acknowledges_unseen(
        &self,
        client: SocketAddr,
        virtual_end: SocketAddr,
        received: &[u8],
    ) -> bool {
        let unseen = self.unseen.get(&(client, virtual_end));
        unseen
            .zip(numbers(received))
            .is_some_and(|(unseen, [_, acknowledged])| {
                (1..1 << 31).contains(&acknowledged.wrapping_sub(*unseen))
            })
    }
}

/// Whether two frames differ in nothing but a segment's sequence number, and so in its checksum.
fn is_same_but_numbered(one: &[u8], other: &[u8]) -> bool {
    let without = |frame: &[u8]| {
        let mut bytes = frame.to_vec();
        let start = frame.len() - Packet::read(frame)?.payload.len();
        bytes
            .get_mut(start + NUMBERS[0]..start + NUMBERS[0] + 4)?
            .fill(0);
        bytes
            .get_mut(start + CHECKSUM..start + CHECKSUM + 2)?
            .fill(0);
        Some(bytes)
    };
    let both = without(one).zip(without(other));
    both.is_some_and(|(one, other)| one == other)
}

/// A segment's sequence number and what it acknowledges.
fn numbers(frame: &[u8]) -> Option<[u32; 2]> {
    let packet = Packet::read(frame)?;
    let [sequence, acknowledged] = NUMBERS.map(|at| {
        Some(u32::from_be_bytes(
            *packet.payload.get(at..)?.first_chunk()?,
        ))
    });
    Some([sequence?, acknowledged?])
}

fn is_damaged(frame: &[u8]) -> bool {
    Packet::read(frame).is_some_and(|packet| !packet.has_right_checksum())
}

/// Who sends a TCP segment, to whom, and its flags. One behind an authentication header of IPv6 is one to nf_conntrack, too.
fn segment(frame: &[u8]) -> Option<(SocketAddr, SocketAddr, u8)> {
    let packet = Packet::read(frame)?;
    let mut bytes = packet.payload;
    let mut number = packet.protocol;
    if number == protocol::AH && packet.source()?.is_ipv6() {
        number = *bytes.first()?;
        bytes = bytes.get(4 * (usize::from(*bytes.get(1)?) + 2)..)?;
    }
    let bytes = Some(bytes).filter(|_| number == protocol::TCP)?;
    let port = |at: usize| Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    Some((
        SocketAddr::new(packet.source()?, port(0)?),
        SocketAddr::new(packet.destination()?, port(2)?),
        *bytes.get(FLAGS)?,
    ))
}

#[cfg(test)]
mod tests {
    use pollux_engine::wire::ethernet::ETHERNET_BYTES;
    use pollux_engine::wire::ipv4::IPV4_BYTES;

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
    fn a_connection_is_not_taken_by_what_is_damaged_nor_begun_twice() {
        let (client, ftp) = ("198.51.100.7:40000", "192.0.2.100:21");
        let out = |damage: u8| {
            let mut bytes = frame(ftp, client, "SA");
            *bytes.last_mut().unwrap() ^= damage;
            Frame {
                port: Wire::Cl,
                bytes,
                text: String::new(),
            }
        };
        let mut half_open = HalfOpen::default();
        assert!(!half_open.is_invalid(&frame(client, ftp, "S")));
        half_open.note(&frame(client, ftp, "S"), &[]);
        half_open.note(&[], &[out(1)]);
        assert!(half_open.is_invalid(&frame(client, ftp, "A")));
        half_open.note(&[], &[out(0)]);
        assert!(!half_open.is_invalid(&frame(client, ftp, "A")));
        assert!(half_open.is_invalid(&frame(client, ftp, "S")));
    }

    #[test]
    fn a_servers_beginning_in_the_middle_is_not_to_be_acknowledged() {
        let (client, ftp) = ("198.51.100.7:40000", "192.0.2.100:21");
        let numbered = |from: &str, to: &str, flags, sequence: u32, acknowledged: u32| {
            let mut frame = frame(from, to, flags);
            let start = ETHERNET_BYTES + IPV4_BYTES;
            for (at, number) in NUMBERS.into_iter().zip([sequence, acknowledged]) {
                frame[start + at..start + at + 4].copy_from_slice(&number.to_be_bytes());
            }
            frame[start + 16..start + 18].fill(0);
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            let sum = packet::checksum(from, to, protocol::TCP, &frame[start..]);
            frame[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
            frame
        };
        let out = |flags, sequence| Frame {
            port: Wire::Cl,
            bytes: numbered(ftp, client, flags, sequence, 0),
            text: String::new(),
        };
        let mut half_open = HalfOpen::default();
        half_open.note(&frame(client, ftp, "SEC"), &[]);
        assert!(half_open.is_invalid(&numbered(client, ftp, "A", 1001, 5001)));
        half_open.note(&[], &[out("SA", 5000)]);
        half_open.note(&[], &[out("S", 5001)]);
        assert!(!half_open.is_invalid(&numbered(client, ftp, "A", 1001, 5001)));
        assert!(half_open.is_invalid(&numbered(client, ftp, "A", 1001, 5002)));
        half_open.note(&frame(client, ftp, "S"), &[]);
        half_open.note(&[], &[out("SA", 7000)]);
        assert!(!half_open.is_invalid(&numbered(client, ftp, "A", 1001, 7001)));
    }

    #[test]
    fn an_error_to_a_server_may_be_lost_once_its_numbers_are_put_off() {
        let (client, server) = ("198.51.100.7:40000", "10.1.0.11:21");
        let received = frame(server, client, "PA");
        let out = |mut bytes: Vec<u8>, more: usize| {
            bytes.resize(bytes.len() + more, 0);
            Frame {
                port: Wire::Cl,
                bytes,
                text: String::new(),
            }
        };
        let mut error = frame(server, client, "A");
        error[ETHERNET_BYTES + 9] = protocol::ICMP;
        let mut half_open = HalfOpen::default();
        let translated = frame("192.0.2.100:21", client, "PA");
        half_open.note(&received, &[out(translated.clone(), 0)]);
        assert!(!half_open.loses_error(&received, Some(&error)));
        half_open.note(&received, &[out(translated, 2)]);
        assert!(half_open.loses_error(&received, Some(&error)));
        assert!(!half_open.loses_error(&received, Some(&received)));
        assert!(!half_open.loses_error(&received, None));
        assert!(!half_open.loses_error(&frame("10.1.0.12:21", client, "PA"), Some(&error)));
    }

    #[test]
    fn a_servers_beginning_may_be_put_off() {
        let (client, server, ftp) = ("198.51.100.7:40000", "10.1.0.11:21", "192.0.2.100:21");
        let mut half_open = HalfOpen::default();
        let out = |bytes| {
            [Frame {
                port: Wire::Cl,
                bytes,
                text: String::new(),
            }]
        };
        let (begins, sent) = (frame(server, client, "S"), frame(ftp, client, "S"));
        let mut put_off = sent.clone();
        put_off[ETHERNET_BYTES + IPV4_BYTES + NUMBERS[0] + 3] += 2;
        let may = |half_open: &HalfOpen, bytes: &[u8]| {
            half_open.puts_off_a_beginning(&begins, &out(bytes.to_vec()), Some(&sent))
        };
        assert!(!may(&half_open, &put_off));
        let mut longer = frame(ftp, client, "PA");
        longer.extend([0, 0]);
        half_open.note(&frame(server, client, "PA"), &out(longer));
        assert!(may(&half_open, &put_off));
        put_off[ETHERNET_BYTES + IPV4_BYTES + NUMBERS[1]] += 2;
        assert!(!may(&half_open, &put_off));
        assert!(!half_open.puts_off_a_beginning(&begins, &[], Some(&sent)));
    }

    #[test]
    fn an_answer_to_a_servers_data_connection_may_be_dropped() {
        let (client, data) = ("198.51.100.7:50000", "192.0.2.100:20");
        let director = Director::default();
        let mut half_open = HalfOpen::default();
        let answer = frame(client, data, "SA");
        assert!(!half_open.may_drop(&director, &answer));
        let begun = Frame {
            port: Wire::Cl,
            bytes: frame(data, client, "S"),
            text: String::new(),
        };
        half_open.note(&frame("10.1.0.11:20", client, "S"), &[begun]);
        assert!(half_open.may_drop(&director, &answer));
        assert!(!half_open.may_drop(&director, &frame(client, data, "A")));
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
