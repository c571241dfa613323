//! Frames field by field, for people: which fields of two differ, and how.

use std::net::{Ipv4Addr, Ipv6Addr};

use pollux_engine::wire::protocol;

const ETHERTYPE_IPV4: u64 = 0x0800;
const ETHERTYPE_IPV6: u64 = 0x86dd;
const ETHERTYPE_VLAN: u64 = 0x8100;
const FRAGMENT_HEADER: u8 = 44;
/// As much of a payload is shown.
const SHOWN_BYTES: usize = 32;

/// Fields of a frame in order: name and value.
pub fn fields(frame: &[u8]) -> Vec<(String, String)> {
    let mut reader = Reader {
        bytes: frame,
        at: 0,
        fields: Vec::new(),
    };
    // A frame that ends early has the fields up to there, and the rest as bytes.
    let _ = reader.ethernet();
    reader.rest("payload");
    reader.fields
}

/// The fields of two frames, one a line; where they differ both values.
pub fn side_by_side(kernel: &[u8], engine: &[u8]) -> String {
    let (theirs, ours) = (fields(kernel), fields(engine));
    let mut lines = String::new();
    let names: Vec<&String> = theirs.iter().map(|(name, _)| name).collect();
    let others = ours.iter().map(|(name, _)| name);
    let missing = others.filter(|name| !names.contains(name));
    for name in names.iter().copied().chain(missing) {
        let value = |fields: &[(String, String)]| {
            let found = fields.iter().find(|(field, _)| field == name);
            found.map_or_else(|| "(none)".to_owned(), |(_, value)| value.clone())
        };
        let (their_value, our_value) = (value(&theirs), value(&ours));
        if their_value == our_value {
            lines += &format!("      {name:<28} {their_value}\n");
        } else {
            lines += &format!("    ! {name:<28} kernel {their_value}, engine {our_value}\n");
        }
    }
    let differing =
        (0..kernel.len().max(engine.len())).filter(|at| kernel.get(*at) != engine.get(*at));
    let places: Vec<String> = differing.take(24).map(|at| at.to_string()).collect();
    lines + &format!("      bytes that differ: {}", places.join(" "))
}

struct Reader<'f> {
    bytes: &'f [u8],
    at: usize,
    fields: Vec<(String, String)>,
}

impl<'f> Reader<'f> {
    fn take(&mut self, count: usize) -> Option<&'f [u8]> {
        let taken = self.bytes.get(self.at..self.at + count)?;
        self.at += count;
        Some(taken)
    }

    /// Names are told apart by a count: the second `ip.ttl` is that of a packet within.
    fn note(&mut self, name: &str, value: String) {
        let has =
            |fields: &[(String, String)], name: &str| fields.iter().any(|(known, _)| known == name);
        let mut unique = name.to_owned();
        let mut depth = 2;
        while has(&self.fields, &unique) {
            unique = format!("{name} ({depth})");
            depth += 1;
        }
        self.fields.push((unique, value));
    }

    fn number(&mut self, name: &str, bytes: usize) -> Option<u64> {
        let value = self
            .take(bytes)?
            .iter()
            .fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        self.note(name, format!("{value} ({value:#x})"));
        Some(value)
    }

    fn octet(&mut self, name: &str) -> Option<u8> {
        u8::try_from(self.number(name, 1)?).ok()
    }

    fn hex(&mut self, name: &str, bytes: usize) -> Option<()> {
        let taken = self.take(bytes)?;
        self.note(name, super::compare::hex(taken));
        Some(())
    }

    fn rest(&mut self, name: &str) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at = self.bytes.len();
        if rest.is_empty() {
            return;
        }
        let shown = super::compare::hex(&rest[..rest.len().min(SHOWN_BYTES)]);
        let more = if rest.len() > SHOWN_BYTES { "…" } else { "" };
        self.note(name, format!("{} bytes {shown}{more}", rest.len()));
    }

    fn ethernet(&mut self) -> Option<()> {
        self.hex("eth.destination", 6)?;
        self.hex("eth.source", 6)?;
        let mut kind = self.number("eth.type", 2)?;
        while kind == ETHERTYPE_VLAN {
            self.number("vlan", 2)?;
            kind = self.number("eth.type", 2)?;
        }
        match kind {
            ETHERTYPE_IPV4 => self.ipv4(),
            ETHERTYPE_IPV6 => self.ipv6(),
            _ => None,
        }
    }

    fn ipv4(&mut self) -> Option<()> {
        let length = usize::from(self.octet("ip.version_length")? & 15) * 4;
        self.number("ip.tos", 1)?;
        self.number("ip.total", 2)?;
        self.number("ip.id", 2)?;
        let fragment = self.number("ip.flags_fragment", 2)?;
        self.number("ip.ttl", 1)?;
        let protocol = self.octet("ip.protocol")?;
        self.hex("ip.checksum", 2)?;
        for name in ["ip.source", "ip.destination"] {
            let address: [u8; 4] = self.take(4)?.try_into().ok()?;
            self.note(name, Ipv4Addr::from(address).to_string());
        }
        if length > 20 {
            self.hex("ip.options", length - 20)?;
        }
        if fragment & 0x1fff == 0 {
            self.upper(protocol)
        } else {
            None
        }
    }

    fn ipv6(&mut self) -> Option<()> {
        self.hex("ip6.version_class_flow", 4)?;
        self.number("ip6.payload_length", 2)?;
        let mut next = self.octet("ip6.next_header")?;
        self.number("ip6.hop_limit", 1)?;
        for name in ["ip6.source", "ip6.destination"] {
            let address: [u8; 16] = self.take(16)?.try_into().ok()?;
            self.note(name, Ipv6Addr::from(address).to_string());
        }
        if next == FRAGMENT_HEADER {
            next = self.octet("frag6.next_header")?;
            self.hex("frag6.reserved", 1)?;
            let offset = self.number("frag6.offset_more", 2)?;
            self.hex("frag6.id", 4)?;
            if offset & 0xfff8 != 0 {
                return None;
            }
        }
        self.upper(next)
    }

    fn upper(&mut self, protocol: u8) -> Option<()> {
        match protocol {
            protocol::TCP => {
                self.number("tcp.source", 2)?;
                self.number("tcp.destination", 2)?;
                self.number("tcp.sequence", 4)?;
                self.number("tcp.acknowledgement", 4)?;
                self.hex("tcp.offset_flags", 2)?;
                self.number("tcp.window", 2)?;
                self.hex("tcp.checksum", 2)?;
                self.number("tcp.urgent", 2)?;
            }
            protocol::UDP => {
                self.number("udp.source", 2)?;
                self.number("udp.destination", 2)?;
                self.number("udp.length", 2)?;
                self.hex("udp.checksum", 2)?;
            }
            protocol::SCTP => {
                self.number("sctp.source", 2)?;
                self.number("sctp.destination", 2)?;
                self.hex("sctp.tag", 4)?;
                self.hex("sctp.checksum", 4)?;
            }
            protocol::ICMP | protocol::ICMPV6 => return self.icmp(protocol),
            protocol::IPIP => return self.ipv4(),
            protocol::IPV6 => return self.ipv6(),
            protocol::GRE => return self.gre(),
            _ => {}
        }
        None
    }

    fn icmp(&mut self, protocol: u8) -> Option<()> {
        let kind = self.octet("icmp.type")?;
        self.number("icmp.code", 1)?;
        self.hex("icmp.checksum", 2)?;
        self.hex("icmp.rest", 4)?;
        match (protocol, kind) {
            (protocol::ICMP, 3 | 4 | 5 | 11 | 12) => self.ipv4(),
            (protocol::ICMPV6, ..128) => self.ipv6(),
            _ => None,
        }
    }

    fn gre(&mut self) -> Option<()> {
        let flags = self.number("gre.flags", 2)?;
        let kind = self.number("gre.protocol", 2)?;
        if flags & 0x8000 != 0 {
            self.hex("gre.checksum", 4)?;
        }
        match kind {
            ETHERTYPE_IPV4 => self.ipv4(),
            ETHERTYPE_IPV6 => self.ipv6(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet;
    use super::*;

    #[test]
    fn the_field_that_differs_is_marked() {
        let from = "198.51.100.7:40000".parse().unwrap();
        let packet = packet::tcp(from, "192.0.2.100:80".parse().unwrap(), "S", b"");
        let kernel = packet::ethernet([2, 0, 0, 0, 0, 1], [2; 6], &packet);
        let mut engine = kernel.clone();
        engine[22] = 63;
        let told = side_by_side(&kernel, &engine);
        let marked: Vec<&str> = told.lines().filter(|line| line.contains('!')).collect();
        assert_eq!(marked.len(), 1, "{told}");
        assert!(marked[0].contains("ip.ttl") && marked[0].contains("engine 63"));
        assert!(told.contains("tcp.destination") && told.ends_with("differ: 22"));
    }

    #[test]
    fn quoted_packets_are_read_too() {
        let (inside, outside) = ("192.0.2.100:80", "198.51.100.7:40000");
        let (inside, outside) = (inside.parse().unwrap(), outside.parse().unwrap());
        let quoted = packet::udp(inside, outside, b"x");
        let error = packet::icmp(outside, inside, 3, 3, 0, &quoted);
        let frame = packet::ethernet([2; 6], [2; 6], &error);
        let named = |wanted: &str| fields(&frame).iter().any(|(name, _)| name == wanted);
        assert!(named("ip.ttl (2)") && named("udp.length"));
        assert!(!fields(&frame[..30]).is_empty(), "a frame that ends early");
    }
}
