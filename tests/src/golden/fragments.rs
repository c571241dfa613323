//! Datagrams that go out in fragments: frame by frame; where the kernel cuts them anew, what they make up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pollux_engine::connection::Family;
use pollux_engine::service::{ServiceIdentity, ServiceSpec};
use pollux_engine::wire::checksum::Sum;
use pollux_engine::wire::ethernet::ETHERNET_BYTES;
use pollux_engine::wire::ipv6::{IPV6_BYTES, in_every_fragment};
use pollux_engine::wire::protocol;

use super::compare;
use super::trace::{Frame, Wire};

/// Frame by frame, in order; but where the kernel put fragments together, what they make up. `received` is the frame that they
/// were made of, or the last of those.
///
/// # Errors
/// Both, for people.
pub fn compare(
    expected: &[Frame],
    sent: &[(Wire, Vec<u8>)],
    received: &[u8],
    services: &[ServiceSpec],
) -> Result<(), String> {
    // In a tunnel of IPv6 too, whose own fragments are cut where those were.
    let is_gathered_v4 = Piece::read(received).is_some_and(|piece| piece.is_v4_fragment());
    let wires = |wire| {
        expected.iter().all(|frame| frame.port == wire) && sent.iter().all(|(to, _)| *to == wire)
    };
    let is_looked_into = sent
        .first()
        .is_some_and(|(_, first)| is_looked_into(services, first));
    if (wires(Wire::Rs) || wires(Wire::Cl) && is_looked_into)
        && let Some(whole) = whole(expected.iter().map(|frame| &*frame.bytes))
        && Some(&whole) == self::whole(sent.iter().map(|(_, bytes)| &**bytes)).as_ref()
        && (whole.is_v4 || is_gathered_v4 || is_looked_into)
    {
        return Ok(());
    }
    if let ([theirs], [(_, ours)]) = (expected, sent)
        && compare::is_error_with_options(&theirs.bytes, ours)
    {
        return Ok(());
    }
    if expected.len() != sent.len() {
        let sent: Vec<String> = sent.iter().map(|(_, bytes)| compare::hex(bytes)).collect();
        return Err(format!(
            "kernel {} frames, engine {}:\n    {}",
            expected.len(),
            sent.len(),
            sent.join("\n    ")
        ));
    }
    let theirs = compare::with_one_identification(expected.iter().map(|frame| &*frame.bytes));
    let ours = compare::with_one_identification(sent.iter().map(|(_, bytes)| &**bytes));
    let wires = expected.iter().zip(sent);
    let same_wires = wires.clone().all(|(frame, (wire, _))| frame.port == *wire);
    match wires
        .zip(theirs.iter().zip(&ours))
        .find(|(_, (theirs, ours))| compare::mask(theirs) != compare::mask(ours))
    {
        None if same_wires => Ok(()),
        None => Err("the frames leave by other ports".to_owned()),
        Some(((frame, (_, bytes)), _)) => Err(format!(
            "kernel {}\n    {}\nengine\n    {}",
            frame.text,
            compare::hex(&frame.bytes),
            compare::hex(bytes)
        )),
    }
}

/// A packet out of its fragments, but for what is made up anew by every run.
#[derive(Debug, PartialEq, Eq)]
struct Whole {
    is_v4: bool,
    frame: Vec<u8>,
}

/// The packet that fragments make up, which must be whole and in order.
///
/// A datagram to an address of its own the kernel gathers before IPVS sees it, and there it may copy fragments together,
/// if the buffer of the one before has room (`skb_try_coalesce`): how they go out hangs on the network card's driver. What
/// the persistence engine of SIP or the helper of FTP looks into becomes one buffer (`skb_linearize`, `skb_ensure_writable`),
/// and is cut anew: over IPv4 into pieces as large as the largest that came, over IPv6 into such of at least 1280 bytes.
fn whole<'f>(frames: impl Iterator<Item = &'f [u8]>) -> Option<Whole> {
    let mut first: Option<Piece<'f>> = None;
    let mut payload = Vec::new();
    let mut is_last = false;
    for frame in frames {
        let piece = Piece::read(frame)?;
        let first = first.get_or_insert_with(|| piece.clone());
        let is_next = !is_last && piece.offset == payload.len() && piece.mark == first.mark;
        if !is_next {
            return None;
        }
        is_last = !piece.is_followed;
        payload.extend_from_slice(piece.payload);
    }
    let mut first = first.filter(|_| is_last)?;
    let is_v4 = first.front.first()? >> 4 == 4;
    let header_bytes = first.front.len();
    if is_v4 {
        let total = u16::try_from(header_bytes + payload.len()).ok()?;
        first.front[2..4].copy_from_slice(&total.to_be_bytes());
        let sum = Sum::of(&first.front).finish();
        first.front[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        let length = u16::try_from(header_bytes - IPV6_BYTES + payload.len()).ok()?;
        first.front[4..6].copy_from_slice(&length.to_be_bytes());
    }
    let frame = [first.ethernet, &first.front, &payload].concat();
    Some(Whole {
        is_v4,
        frame: compare::mask(&frame),
    })
}

#[derive(Debug, Clone)]
struct Piece<'f> {
    ethernet: &'f [u8],
    /// The header as the whole packet has it, without lengths and checksum.
    front: Vec<u8>,
    /// What is the same in every fragment of the packet.
    mark: Vec<u8>,
    offset: usize,
    is_followed: bool,
    payload: &'f [u8],
}

impl<'f> Piece<'f> {
    fn read(frame: &'f [u8]) -> Option<Self> {
        let (ethernet, packet) = frame.split_at_checked(ETHERNET_BYTES)?;
        match packet.first()? >> 4 {
            4 => Self::read_v4(ethernet, packet),
            6 => Self::read_v6(ethernet, packet),
            _ => None,
        }
    }

    fn is_v4_fragment(&self) -> bool {
        let is_v4 = self.front.first().is_some_and(|first| first >> 4 == 4);
        is_v4 && (self.offset > 0 || self.is_followed)
    }

    fn read_v4(ethernet: &'f [u8], packet: &'f [u8]) -> Option<Self> {
        const MORE: u16 = 0x2000;
        const OFFSET: u16 = 0x1fff;
        let header_bytes = usize::from(packet.first()? & 15) * 4;
        let (header, payload) = packet.split_at_checked(header_bytes)?;
        let flags = u16::from_be_bytes(*header.get(6..8)?.first_chunk()?);
        if Sum::of(header).finish() != 0 {
            return None;
        }
        let mut front = header.to_vec();
        front[2..4].fill(0);
        front[6] &= 0x40;
        front[7] = 0;
        front[10..12].fill(0);
        // Options that are not copied are the first one's alone.
        let mark = [ethernet, &header[4..6], &header[8..10], &header[12..20]].concat();
        Some(Self {
            ethernet,
            front,
            mark,
            offset: usize::from(flags & OFFSET) * 8,
            is_followed: flags & MORE != 0,
            payload,
        })
    }

    fn read_v6(ethernet: &'f [u8], packet: &'f [u8]) -> Option<Self> {
        const FRAGMENT: u8 = 44;
        const FRAGMENT_BYTES: usize = 8;
        const MORE: u16 = 1;
        let (end, announced) = in_every_fragment(packet)?;
        if packet.get(announced) != Some(&FRAGMENT) {
            return None;
        }
        let header: &[u8; FRAGMENT_BYTES] = packet.get(end..)?.first_chunk()?;
        let [next, _, high, low, ref identification @ ..] = *header;
        let flags = u16::from_be_bytes([high, low]);
        let mut front = packet.get(..end)?.to_vec();
        front[announced] = next;
        front[4..6].fill(0);
        let mark = [ethernet, &front, identification].concat();
        Some(Self {
            ethernet,
            front,
            mark,
            offset: usize::from(flags & !7),
            is_followed: flags & MORE != 0,
            payload: packet.get(end + FRAGMENT_BYTES..)?,
        })
    }
}

/// The protocol, who sends and whom to, of TCP and UDP; and the same of what a tunnel carries: of a first fragment.
fn flows(packet: &[u8]) -> Vec<(u8, [SocketAddr; 2])> {
    let mut all = Vec::new();
    let mut rest = Some(packet);
    while let Some((next, addresses, payload)) = rest.and_then(upper_layer) {
        if matches!(next, protocol::TCP | protocol::UDP)
            && let Some([a, b, c, d]) = payload.first_chunk()
        {
            let [source, destination] = addresses;
            let ends = [
                (source, u16::from_be_bytes([*a, *b])).into(),
                (destination, u16::from_be_bytes([*c, *d])).into(),
            ];
            all.push((next, ends));
        }
        rest = inner(next, payload);
    }
    all
}

/// The packet that a tunnel's carries.
fn inner(next: u8, payload: &[u8]) -> Option<&[u8]> {
    const UDP_BYTES: usize = 8;
    let first = *payload.first()?;
    let start = match next {
        protocol::IPIP | protocol::IPV6 => 0,
        // With a checksum, if the first bit says so.
        protocol::GRE => 4 + usize::from(first >> 7) * 4,
        // GUE: the header's length is in its first byte, in words behind the first.
        protocol::UDP => UDP_BYTES + 4 + usize::from(payload.get(UDP_BYTES)? & 31) * 4,
        _ => return None,
    };
    payload.get(start..)
}

fn upper_layer(packet: &[u8]) -> Option<(u8, [IpAddr; 2], &[u8])> {
    const FRAGMENT: u8 = 44;
    const FRAGMENT_BYTES: usize = 8;
    match packet.first()? >> 4 {
        4 => {
            let address =
                |at: usize| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk()?).into());
            let payload = packet.get(usize::from(packet.first()? & 15) * 4..)?;
            Some((*packet.get(9)?, [address(12)?, address(16)?], payload))
        }
        6 => {
            let address =
                |at: usize| Some(Ipv6Addr::from(*packet.get(at..)?.first_chunk()?).into());
            let (mut end, mut announced) = in_every_fragment(packet)?;
            if packet.get(announced) == Some(&FRAGMENT) {
                (end, announced) = (end + FRAGMENT_BYTES, end);
            }
            let next = *packet.get(announced)?;
            Some((next, [address(8)?, address(24)?], packet.get(end..)?))
        }
        _ => None,
    }
}

/// Whether a packet, of which this is the first frame that goes out, is one that the persistence engine of SIP or the helper
/// of FTP may look into.
fn is_looked_into(services: &[ServiceSpec], first: &[u8]) -> bool {
    const FTP: u16 = 21;
    let flows = flows(first.get(ETHERNET_BYTES..).unwrap_or_default());
    let has_engine = |service: &ServiceSpec| {
        let persistence = service.persistence;
        persistence.is_some_and(|persistence| persistence.engine.is_some())
    };
    let is_of = |service: &ServiceSpec, (number, [from, to]): (u8, [SocketAddr; 2])| {
        let is_ftp = number == protocol::TCP;
        match service.identity {
            ServiceIdentity::Address {
                protocol,
                address,
                port,
            } => {
                let port = if is_ftp && port == 0 { FTP } else { port };
                let own = SocketAddr::new(address, port);
                let is_server = service.destinations.iter().any(|server| {
                    let port = if server.port == 0 { port } else { server.port };
                    SocketAddr::new(server.address, port) == to
                });
                protocol == number
                    && (!is_ftp || port == FTP)
                    && ([from, to].contains(&own) || is_server)
            }
            ServiceIdentity::Fwmark { family, .. } => {
                (family == Family::V4) == to.is_ipv4()
                    && (!is_ftp || [from, to].iter().any(|end| end.port() == FTP))
            }
        }
    };
    services.iter().any(|service| {
        let mut flows = flows.iter();
        flows.any(|flow| is_of(service, *flow) && (flow.0 == protocol::TCP || has_engine(service)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::administrator::Administrator;
    use super::super::command::{Command, parse};
    use super::*;

    const ETHERNET: [u8; ETHERNET_BYTES] = [2, 0, 0, 0, 1, 0x11, 2, 0, 0, 0, 1, 1, 0x86, 0xdd];

    fn datagram() -> Vec<u8> {
        let mut datagram = vec![0x9c, 0x40, 0x13, 0xc4, 0, 40, 1, 2];
        datagram.extend(0..32);
        datagram
    }

    /// From 2001:db8::7 to 2001:db8::100, in pieces that end there.
    fn v6(identification: u8, payload: &[u8], ends: &[u8]) -> Vec<Vec<u8>> {
        let mut start = 0;
        let mut pieces = Vec::new();
        for end in ends {
            let part = &payload[start..usize::from(*end)];
            let is_last = usize::from(*end) == payload.len();
            let mut frame = ETHERNET.to_vec();
            frame.extend([
                0x60,
                0,
                0,
                0,
                0,
                u8::try_from(part.len() + 8).unwrap(),
                44,
                63,
            ]);
            frame.extend("2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
            frame.extend("2001:db8::100".parse::<Ipv6Addr>().unwrap().octets());
            let offset = u8::try_from(start).unwrap() | u8::from(!is_last);
            frame.extend([protocol::UDP, 0, 0, offset, 0, 0, 0, identification]);
            frame.extend(part);
            pieces.push(frame);
            start = usize::from(*end);
        }
        pieces
    }

    fn whole_of(frames: &[Vec<u8>]) -> Option<Whole> {
        whole(frames.iter().map(|frame| &**frame))
    }

    #[test]
    fn fragments_of_ipv6_make_the_datagram_whatever_their_sizes() {
        let datagram = datagram();
        let cut = whole_of(&v6(1, &datagram, &[16, 24, 40]));
        assert!(cut.is_some());
        assert_eq!(cut, whole_of(&v6(77, &datagram, &[40])));
        let mut other = datagram.clone();
        other[39] ^= 1;
        assert_ne!(cut, whole_of(&v6(1, &other, &[40])));
        let pieces = v6(1, &datagram, &[16, 40]);
        assert_eq!(whole_of(&pieces[..1]), None);
        assert_eq!(whole_of(&pieces[1..]), None);
        let mixed = [&pieces[..1], &v6(2, &datagram, &[16, 40])[1..]].concat();
        assert_eq!(whole_of(&mixed), None);
    }

    #[test]
    fn only_what_is_looked_into_may_be_cut_anew() {
        let services = |line: &str| {
            let mut administrator = Administrator::default();
            let Ok(Command::Change(change)) = parse(line) else {
                panic!("{line}");
            };
            administrator.apply(&change).unwrap();
            administrator.services().to_vec()
        };
        let calls = services("ipvsadm -A -u [2001:db8::100]:5060 -s rr -p 100 --pe sip");
        let frame = |bytes: &Vec<u8>| Frame {
            port: Wire::Rs,
            bytes: bytes.clone(),
            text: String::new(),
        };
        let kernel: Vec<Frame> = v6(9, &datagram(), &[40]).iter().map(frame).collect();
        let pieces = v6(1, &datagram(), &[16, 40]).into_iter();
        let ours: Vec<_> = pieces.map(|bytes| (Wire::Rs, bytes)).collect();
        let compare = |services: &[ServiceSpec]| compare(&kernel, &ours, &ours[1].1, services);
        assert_eq!(compare(&calls), Ok(()));
        for line in [
            "ipvsadm -A -u [2001:db8::100]:5060 -s rr -p 100",
            "ipvsadm -A -u [2001:db8::100]:5061 -s rr -p 100 --pe sip",
            "ipvsadm -A -t [2001:db8::100]:5060 -s rr -p 100",
            "ipvsadm -A -t [2001:db8::100]:21 -s rr",
        ] {
            assert!(compare(&services(line)).is_err(), "{line}");
        }
        let mut segment = ours[0].1.clone();
        segment[ETHERNET_BYTES + IPV6_BYTES] = protocol::TCP;
        segment[ETHERNET_BYTES + IPV6_BYTES + 11] = 21;
        segment[ETHERNET_BYTES + IPV6_BYTES + 10] = 0;
        for (line, is_ftp) in [
            ("ipvsadm -A -t [2001:db8::100]:21 -s rr", true),
            ("ipvsadm -A -t [2001:db8::100]:0 -s rr -p 100", true),
            ("ipvsadm -A -f 1 -6 -s rr", true),
            ("ipvsadm -A -f 1 -s rr", false),
            ("ipvsadm -A -t [2001:db8::100]:80 -s rr", false),
            ("ipvsadm -A -t [2001:db8::101]:21 -s rr", false),
        ] {
            assert_eq!(is_looked_into(&services(line), &segment), is_ftp, "{line}");
        }
        let mut inner = ours[0].1[ETHERNET_BYTES..].to_vec();
        let mut tunnelled = inner[..IPV6_BYTES].to_vec();
        tunnelled[6] = protocol::IPV6;
        tunnelled.append(&mut inner);
        assert!(is_looked_into(&calls, &[&ETHERNET, &*tunnelled].concat()));
    }

    #[test]
    fn what_came_in_fragments_of_ipv4_may_be_cut_anew_in_a_tunnel_of_ipv6() {
        let frame = |bytes: &Vec<u8>| Frame {
            port: Wire::Rs,
            bytes: bytes.clone(),
            text: String::new(),
        };
        let kernel: Vec<Frame> = v6(9, &datagram(), &[32, 40]).iter().map(frame).collect();
        let pieces = v6(1, &datagram(), &[16, 40]).into_iter();
        let ours: Vec<_> = pieces.map(|bytes| (Wire::Rs, bytes)).collect();
        let received = |flags: u16| {
            let mut header = vec![0x45, 0, 0, 20, 0, 1, 0, 0, 64, 17, 0, 0];
            header[6..8].copy_from_slice(&flags.to_be_bytes());
            header.extend([198, 51, 100, 7, 192, 0, 2, 100]);
            let sum = Sum::of(&header).finish();
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            [&ETHERNET[..], &header].concat()
        };
        for (flags, is_fragment) in [(0x2000, true), (3, true), (0x4000, false), (0, false)] {
            let same = compare(&kernel, &ours, &received(flags), &[]).is_ok();
            assert_eq!(same, is_fragment, "{flags:#x}");
        }
    }
}
