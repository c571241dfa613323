//! Compares frames byte for byte, but for what is made up anew by every run: the IPv4 identification and IPv6 flow label
//! of packets that the director makes itself (ICMP errors, outer headers of tunnels), and the source port of GUE.

use pollux_engine::wire::checksum::Sum;
use pollux_engine::wire::ethernet::ETHERNET_BYTES;
use pollux_engine::wire::ipv4::IPV4_BYTES;
use pollux_engine::wire::ipv6::{IPV6_BYTES, in_every_fragment};
use pollux_engine::wire::protocol;

use super::decode;
use super::trace::{Frame, Wire};

/// Says where the frames that came out differ from those of the kernel.
///
/// # Errors
/// Both, for people.
pub fn compare(expected: &[Frame], got: Option<(Wire, &[u8])>) -> Result<(), String> {
    let got = got.filter(|(_, bytes)| is_recorded(bytes) || !expected.is_empty());
    let same = match (expected, got) {
        ([], None) => true,
        ([expected], Some((wire, bytes))) => {
            expected.port == wire && mask(&expected.bytes) == mask(bytes)
        }
        _ => false,
    };
    if same
        || matches!((expected, got), ([expected], Some((wire, bytes))) if expected.port == wire && is_error_with_options(&expected.bytes, bytes))
    {
        return Ok(());
    }
    let theirs: Vec<String> = expected
        .iter()
        .map(|frame| format!("{:?} {}\n    {}", frame.port, frame.text, hex(&frame.bytes)))
        .collect();
    let ours = got.map(|(wire, bytes)| format!("{wire:?}\n    {}", hex(bytes)));
    let fields = match (expected, got) {
        ([expected], Some((_, bytes))) => decode::side_by_side(&expected.bytes, bytes),
        ([], Some((_, bytes))) => told(bytes),
        (expected, _) => expected.iter().map(|frame| told(&frame.bytes)).collect(),
    };
    Err(format!(
        "kernel {}\nengine {}\n{fields}",
        theirs.join("\n  "),
        ours.unwrap_or_default()
    ))
}

/// Whether the recorder keeps such a frame. It takes those with hop-by-hop options and some of ICMPv6 for the kernel's talk
/// with its neighbours, and multicast DNS too.
pub fn is_recorded(frame: &[u8]) -> bool {
    const HOP_BY_HOP: u8 = 0;
    let is_v6 = frame.get(12..14) == Some(&[0x86, 0xdd]);
    let next = frame.get(ETHERNET_BYTES + 6).copied();
    let message = frame.get(ETHERNET_BYTES + IPV6_BYTES..).unwrap_or_default();
    let is_left_out = match next {
        Some(HOP_BY_HOP) => true,
        Some(protocol::ICMPV6) => message
            .first()
            .is_some_and(|kind| (130..=143).contains(kind)),
        Some(protocol::UDP) => message.get(2..4) == Some(&[0x14, 0xe9]),
        _ => false,
    };
    !(is_v6 && is_left_out)
}

/// Whether both are one error about a packet with options: the kernel repeats record route in the error, with what it
/// has recorded so far (`__ip_options_echo`), and Pollux answers without options.
pub fn is_error_with_options(theirs: &[u8], ours: &[u8]) -> bool {
    let read = |frame: &[u8]| -> Option<(u8, [u8; 8], [u8; 2])> {
        let packet = frame.get(ETHERNET_BYTES..)?;
        let first = *packet.first().filter(|first| *first >> 4 == 4)?;
        let addresses = *packet.get(12..)?.first_chunk()?;
        let message = packet.get(usize::from(first & 15) * 4..)?;
        let is_icmp = packet.get(9) == Some(&protocol::ICMP);
        let kind = *message.first_chunk()?;
        is_icmp.then_some((first & 15, addresses, kind))
    };
    let (Some(theirs), Some(ours)) = (read(theirs), read(ours)) else {
        return false;
    };
    theirs.0 > 5 && ours.0 == 5 && (theirs.1, theirs.2) == (ours.1, ours.2)
}

fn told(frame: &[u8]) -> String {
    let fields = decode::fields(frame).into_iter();
    fields
        .map(|(name, value)| format!("      {name:<28} {value}\n"))
        .collect()
}

/// Fragments of a packet that the director made itself have an identification that it made up: 0 here, in each of them. One
/// that does not agree with the first one's stays.
pub fn with_one_identification<'f>(frames: impl Iterator<Item = &'f [u8]>) -> Vec<Vec<u8>> {
    const IDENTIFICATION: std::ops::Range<usize> = ETHERNET_BYTES + 4..ETHERNET_BYTES + 6;
    const CHECKSUM: std::ops::Range<usize> = ETHERNET_BYTES + 10..ETHERNET_BYTES + 12;
    let mut frames: Vec<Vec<u8>> = frames.map(<[u8]>::to_vec).collect();
    let Some(first) = frames.first().cloned() else {
        return frames;
    };
    let is_made_up = mask(&first).get(IDENTIFICATION) != first.get(IDENTIFICATION);
    for frame in &mut frames {
        let same = frame.get(IDENTIFICATION) == first.get(IDENTIFICATION);
        let header = frame.get(ETHERNET_BYTES..ETHERNET_BYTES + IPV4_BYTES);
        let is_right = header.is_some_and(|header| Sum::of(header).finish() == 0);
        if is_made_up && same && is_right {
            frame[IDENTIFICATION].fill(0);
            frame[CHECKSUM].fill(0);
        }
    }
    frames
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The frame without what cannot be foreseen. A wrong header checksum stays a difference.
pub fn mask(frame: &[u8]) -> Vec<u8> {
    let mut masked = frame.to_vec();
    match masked.get_mut(ETHERNET_BYTES..) {
        Some(packet) if packet.first().is_some_and(|first| first >> 4 == 4) => {
            mask_v4(packet);
            mask_time(packet);
        }
        Some(packet) if packet.first().is_some_and(|first| first >> 4 == 6) => mask_v6(packet),
        _ => {}
    }
    masked
}

/// The time of day that the director wrote into the options of an IPv4 header, and the header's checksum, if it is right.
fn mask_time(packet: &mut [u8]) -> Option<()> {
    const TIMESTAMP: u8 = 68;
    const CHECKSUM: std::ops::Range<usize> = 10..12;
    let header_bytes = usize::from(*packet.first().filter(|first| *first >> 4 == 4)? & 15) * 4;
    let next = *packet.get(9)?;
    let header = packet.get_mut(..header_bytes)?;
    let is_right = Sum::of(header).finish() == 0;
    let mut at = IPV4_BYTES;
    while is_right && let Some(kind) = header.get(at).copied().filter(|kind| *kind != 0) {
        if kind == 1 {
            at += 1;
            continue;
        }
        let length = usize::from(*header.get(at + 1)?).max(2);
        if kind == TIMESTAMP {
            let end = at + usize::from(*header.get(at + 2)?).checked_sub(1)?;
            if end >= at + 8 {
                header.get_mut(end - 4..end)?.fill(0);
                header[CHECKSUM].fill(0);
            }
        }
        at += length;
    }
    match next {
        protocol::IPIP => mask_time(packet.get_mut(header_bytes..)?),
        protocol::GRE => mask_time_in_gre(packet.get_mut(header_bytes..)?),
        protocol::UDP => mask_time_in_gue(packet.get_mut(header_bytes..)?),
        _ => Some(()),
    }
}

/// The checksum over what has the time goes with it, if it is right.
fn mask_time_in_gre(packet: &mut [u8]) -> Option<()> {
    const CHECKED: u8 = 0x80;
    let is_checked = *packet.first()? & CHECKED != 0;
    let is_right = is_checked && Sum::of(packet).finish() == 0;
    let before = packet.to_vec();
    let inner = packet.get_mut(if is_checked { 8 } else { 4 }..)?;
    mask_time(inner);
    if is_right && before != packet {
        packet.get_mut(4..6)?.fill(0);
    }
    Some(())
}

/// Behind a UDP header, whose checksum is masked already, and a GUE header.
fn mask_time_in_gue(datagram: &mut [u8]) -> Option<()> {
    let is_gue = datagram.get(8..12) == Some(&[0, protocol::IPIP, 0, 0]);
    mask_time(datagram.get_mut(12..).filter(|_| is_gue)?)
}

fn mask_v4(packet: &mut [u8]) {
    const MAY_FRAGMENT: u8 = 0x40;
    let Some((header, payload)) = packet.split_first_chunk_mut::<IPV4_BYTES>() else {
        return;
    };
    let addresses = Sum::of(&header[12..]);
    let is_cut = header[6] & 0x20 != 0 && header[6..8] == [0x20, 0];
    let gue = header[9] == protocol::UDP && mask_gue(payload, addresses, is_cut);
    let tunnel = gue || matches!(header[9], protocol::IPIP | protocol::IPV6 | protocol::GRE);
    let made_up = tunnel && header[6] & MAY_FRAGMENT == 0;
    let error = header[9] == protocol::ICMP && header[1] & 0xc0 == 0xc0;
    if (made_up || error) && Sum::of(header).finish() == 0 {
        header[4..6].fill(0);
        header[10..12].fill(0);
    }
}

/// Whether the datagram is one of a GUE tunnel. Its source port comes of a hash with a secret of the machine's; with it goes
/// a checksum that is right. A wrong one, or none, stays as it is.
fn mask_gue(datagram: &mut [u8], addresses: Sum, is_cut: bool) -> bool {
    let Some([.., high, low, _, _, 0, 4 | 0x29, 0, 0]) = datagram.first_chunk::<12>() else {
        return false;
    };
    let length = u16::from_be_bytes([*high, *low]);
    if is_cut {
        // The rest, which the checksum is over as well, is in other frames.
        datagram[..2].fill(0);
        if datagram[6..8] != [0, 0] {
            datagram[6..8].fill(0xff);
        }
        return true;
    }
    if usize::from(length) != datagram.len() {
        return false;
    }
    let pseudo_header = addresses.add16(protocol::UDP.into()).add16(length);
    let is_right = Sum::of(datagram).plus(pseudo_header).finish() == 0;
    datagram[..2].fill(0);
    if is_right && datagram[6..8] != [0, 0] {
        datagram[6..8].fill(0xff);
    }
    true
}

/// The source of an error about a packet to an address that is the director's by a route only: one of its addresses that
/// the kernel's selection of sources prefers.
fn mask_chosen_source(packet: &mut [u8]) {
    const QUOTED_DESTINATION: usize = IPV6_BYTES + 8 + 24;
    const ROUTED: [u8; 8] = [0x20, 0x01, 0x0d, 0xb8, 0, 0x0f, 0, 0];
    let is_error = packet.get(6) == Some(&protocol::ICMPV6)
        && packet.get(IPV6_BYTES).is_some_and(|kind| *kind < 128);
    let about = packet.get(QUOTED_DESTINATION..QUOTED_DESTINATION + ROUTED.len());
    if !is_error || about != Some(&ROUTED) {
        return;
    }
    let Some((header, message)) = packet.split_first_chunk_mut::<IPV6_BYTES>() else {
        return;
    };
    let length = u16::try_from(message.len()).unwrap_or(0);
    let pseudo_header = Sum::of(&header[8..])
        .add16(protocol::ICMPV6.into())
        .add16(length);
    if Sum::of(message).plus(pseudo_header).finish() == 0 {
        header[8..24].fill(0);
        message[2..4].fill(0);
    }
}

fn mask_v6(packet: &mut [u8]) {
    const FRAGMENT: u8 = 44;
    const FRAGMENT_HEADER: usize = 8;
    // The first of a GUE tunnel's packet.
    if packet.get(6) == Some(&FRAGMENT)
        && let Some((header, payload)) = packet.split_first_chunk_mut::<IPV6_BYTES>()
        && payload.get(..4) == Some(&[protocol::UDP, 0, 0, 1])
        && let Some(datagram) = payload.get_mut(FRAGMENT_HEADER..)
    {
        mask_gue(datagram, Sum::of(&header[8..]), true);
    }
    // The kernel cuts with an identification of its own, whatever the fragments came with.
    let front = in_every_fragment(packet)
        .filter(|(_, announced)| packet.get(*announced) == Some(&FRAGMENT));
    if let Some((front, _)) = front
        && let Some(identification) = packet.get_mut(front + 4..front + 8)
    {
        identification.fill(0);
    }
    const OWN_HOP_LIMIT: u8 = 64;
    let next = packet.get(6).copied();
    if let Some(inner) = packet.get_mut(IPV6_BYTES..) {
        match next {
            Some(protocol::IPIP) => mask_time(inner),
            Some(protocol::GRE) => mask_time_in_gre(inner),
            _ => None,
        };
    }
    mask_chosen_source(packet);
    if packet.get(6..8) == Some(&[protocol::ICMPV6, OWN_HOP_LIMIT]) {
        packet[1] &= 0xf0;
        packet[2..4].fill(0);
    }
    if let Some((header, payload)) = packet.split_first_chunk_mut::<IPV6_BYTES>()
        && header[6] == protocol::UDP
    {
        mask_gue(payload, Sum::of(&header[8..]), false);
        mask_time_in_gue(payload);
    }
}
