//! What of the packets for the kernel it gets: so many a second of each class and worker, so that a flood of one class
//! (packets to ports that nobody serves, above all) cannot take the place of ARP, VRRP and BGP.
//!
//! A class's limit is a virtual scheduler (GCRA, ITU-T I.371, as ATM's policing has it): one time, of when the class would
//! be empty again if it were served at its rate. It costs an addition and a comparison a packet, and no timer.

use pollux_api::settings::PuntRates;
use pollux_engine::wire::ethernet::ethertype;
use pollux_engine::wire::protocol;

/// A burst that passes at once: a tenth of a second's worth.
const BURST_NS: u64 = 100_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// What a packet for the kernel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// ARP, and IPv6's neighbour and router discovery (RFC 4861).
    Arp,
    /// VRRP (RFC 5798).
    Vrrp,
    /// BGP, OSPF, IS-IS, RIP, PIM, IGMP, MLD, BFD.
    Routing,
    /// ICMP and ICMPv6 but for what is above.
    Icmp,
    /// All else.
    Other,
}

/// IP protocols of routing daemons and of groups: IGMP, OSPF, PIM.
const ROUTING_PROTOCOLS: [u8; 3] = [2, 89, 103];
const VRRP: u8 = 112;
const BGP: u16 = 179;
/// BFD over one hop, echo, over several hops (RFC 5881, 5883); RIP and RIPng.
const ROUTING_UDP_PORTS: [u16; 5] = [3784, 3785, 4784, 520, 521];
const ARP: u16 = 0x0806;
/// Below it stands a length: frames of IEEE 802.2, as IS-IS sends.
const ETHERTYPE_MIN: u16 = 0x0600;
/// Router solicitation to redirect (RFC 4861).
const DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;
/// MLD (RFC 2710, RFC 3810).
const MLD: [u8; 4] = [130, 131, 132, 143];

impl Class {
    /// Reads as much of a frame as is needed; what is not understood is [`Self::Other`].
    pub fn of(frame: &[u8]) -> Self {
        Self::read(frame).unwrap_or(Self::Other)
    }

    fn read(frame: &[u8]) -> Option<Self> {
        let mut at = 12;
        let mut kind = word(frame, at)?;
        while matches!(kind, ethertype::VLAN | ethertype::SERVICE_VLAN) && at < 20 {
            at += 4;
            kind = word(frame, at)?;
        }
        let packet = frame.get(at + 2..)?;
        match kind {
            ARP => Some(Self::Arp),
            ethertype::IPV4 => {
                let header_bytes = usize::from(packet.first()? & 0xf) * 4;
                let is_first = word(packet, 6)? & 0x1fff == 0;
                let payload = packet.get(header_bytes..).filter(|_| is_first);
                Some(Self::of_protocol(*packet.get(9)?, payload))
            }
            ethertype::IPV6 => {
                let next = *packet.get(6)?;
                // MLD comes behind a hop-by-hop header of eight bytes with a router alert (RFC 2710 3).
                if next == 0 {
                    return Some(Self::of_protocol(*packet.get(40)?, packet.get(48..)));
                }
                Some(Self::of_protocol(next, packet.get(40..)))
            }
            length if length < ETHERTYPE_MIN => Some(Self::Routing),
            _ => None,
        }
    }

    /// `payload`: from the transport header on; none of a fragment that has none.
    fn of_protocol(number: u8, payload: Option<&[u8]>) -> Self {
        let has_port = |wanted: &[u16]| {
            let payload = payload.unwrap_or_default();
            let ports = [0, 2].into_iter().filter_map(|at| word(payload, at));
            ports.into_iter().any(|port| wanted.contains(&port))
        };
        match number {
            VRRP => Self::Vrrp,
            protocol::TCP if has_port(&[BGP]) => Self::Routing,
            protocol::UDP if has_port(&ROUTING_UDP_PORTS) => Self::Routing,
            protocol::ICMP => Self::Icmp,
            protocol::ICMPV6 => match payload.and_then(|payload| payload.first()) {
                Some(kind) if DISCOVERY.contains(kind) => Self::Arp,
                Some(kind) if MLD.contains(kind) => Self::Routing,
                _ => Self::Icmp,
            },
            number if ROUTING_PROTOCOLS.contains(&number) => Self::Routing,
            _ => Self::Other,
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*bytes))
}

/// The limits of one worker.
#[derive(Debug)]
pub struct PuntLimits {
    arp: Limit,
    vrrp: Limit,
    routing: Limit,
    icmp: Limit,
    other: Limit,
}

#[derive(Debug)]
struct Limit {
    /// What one packet takes of it, nanoseconds.
    cost_ns: u64,
    /// When all that passed would have been served at the rate.
    served_at: u64,
}

impl PuntLimits {
    /// Nothing has passed yet.
    pub fn new(rates: &PuntRates) -> Self {
        let limit = |rate: u32| Limit {
            cost_ns: SECOND_NS / u64::from(rate.max(1)),
            served_at: 0,
        };
        Self {
            arp: limit(rates.arp),
            vrrp: limit(rates.vrrp),
            routing: limit(rates.routing),
            icmp: limit(rates.icmp),
            other: limit(rates.other),
        }
    }

    /// Whether a packet of the class may pass now; if so, it has.
    pub fn take(&mut self, class: Class, now_ns: u64) -> bool {
        let limit = match class {
            Class::Arp => &mut self.arp,
            Class::Vrrp => &mut self.vrrp,
            Class::Routing => &mut self.routing,
            Class::Icmp => &mut self.icmp,
            Class::Other => &mut self.other,
        };
        let served_at = limit.served_at.max(now_ns).saturating_add(limit.cost_ns);
        // The first of a burst always passes, however low the rate.
        let latest = now_ns.saturating_add(BURST_NS.max(limit.cost_ns));
        if served_at > latest {
            return false;
        }
        limit.served_at = served_at;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(kind.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol];
        packet.resize(20, 0);
        packet.extend(payload);
        ethernet(ethertype::IPV4, &packet)
    }

    fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, next];
        packet.resize(40, 0);
        packet.extend(payload);
        ethernet(ethertype::IPV6, &packet)
    }

    fn ports(source: u16, destination: u16) -> Vec<u8> {
        [source.to_be_bytes(), destination.to_be_bytes()].concat()
    }

    #[test]
    fn every_class_is_known_by_its_headers() {
        let tagged = |frame: Vec<u8>| {
            let mut tagged = frame;
            tagged.splice(12..12, [0x81, 0, 0, 5]);
            tagged
        };
        let cases = [
            (ethernet(ARP, &[0, 1]), Class::Arp),
            (tagged(ethernet(ARP, &[0, 1])), Class::Arp),
            (tagged(tagged(ethernet(ARP, &[0, 1]))), Class::Arp),
            (ipv6(58, &[135, 0]), Class::Arp),
            (ipv6(58, &[128, 0]), Class::Icmp),
            (ipv6(0, &[58, 0, 5, 2, 0, 0, 0, 0, 143]), Class::Routing),
            (ipv4(1, &[8, 0]), Class::Icmp),
            (ipv4(112, &[]), Class::Vrrp),
            (ipv6(112, &[]), Class::Vrrp),
            (tagged(ipv4(112, &[])), Class::Vrrp),
            (ipv4(6, &ports(179, 40000)), Class::Routing),
            (ipv4(6, &ports(40000, 179)), Class::Routing),
            (ipv4(6, &ports(40000, 22)), Class::Other),
            (ipv4(17, &ports(49152, 3784)), Class::Routing),
            (ipv4(17, &ports(179, 179)), Class::Other),
            (ipv4(89, &[]), Class::Routing),
            (ipv4(6, &[]), Class::Other),
            (ethernet(0x0030, &[0xfe, 0xfe, 3]), Class::Routing),
            (ethernet(0x88cc, &[]), Class::Other),
            (Vec::new(), Class::Other),
        ];
        for (frame, class) in cases {
            assert_eq!(Class::of(&frame), class, "{frame:02x?}");
        }
        let mut fragment = ipv4(6, &ports(179, 179));
        fragment[14 + 7] = 1;
        assert_eq!(Class::of(&fragment), Class::Other);
    }

    proptest! {
        #[test]
        fn no_frame_is_too_strange(frame in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = Class::of(&frame);
        }

        /// Never more than the rate over any time, but for the burst; never less when that much is wanted.
        #[test]
        fn a_class_gets_its_rate(rate in 10_u32..2_000_000, gap_ns in 100_u64..200_000) {
            let mut limits = PuntLimits::new(&PuntRates { other: rate, ..PuntRates::default() });
            let mut passed = 0_u64;
            let mut now = 5_000;
            for _ in 0..5_000 {
                passed += u64::from(limits.take(Class::Other, now));
                now += gap_ns;
            }
            let offered = 5_000;
            let served = (now * u64::from(rate)).div_ceil(SECOND_NS);
            let burst = u64::from(rate) / 10 + 1;
            // The cost of a packet is rounded to a nanosecond, of 500 at least.
            prop_assert!(passed <= (served * 1002).div_ceil(1000) + burst, "{passed} of {served}");
            prop_assert!(passed >= offered.min(served * 998 / 1000).min(offered), "{passed} of {served}");
        }
    }

    #[test]
    fn a_flood_of_one_class_leaves_the_others_theirs() {
        let mut limits = PuntLimits::new(&PuntRates::default());
        let mut flood = 0;
        let mut arp = 0;
        for packet in 0..1_000_000_u64 {
            let now = packet * 1_000;
            flood += u64::from(limits.take(Class::Other, now));
            if packet % 1_000 == 0 {
                arp += u64::from(limits.take(Class::Arp, now));
            }
        }
        assert_eq!(arp, 1_000);
        assert!((50_000..=55_001).contains(&flood), "{flood}");
    }
}
