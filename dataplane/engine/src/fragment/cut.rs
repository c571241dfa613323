//! A packet that is too large for its way, cut into fragments (`ip_do_fragment`, `ip6_fragment`).

use zerocopy::FromBytes;
use zerocopy::IntoBytes;
use zerocopy::byteorder::network_endian::{U16, U32};

use super::piece::{DONT_FRAGMENT, MORE_FRAGMENTS, network_header};
use crate::frame::Frame;
use crate::wire::ipv4::{IPV4_BYTES, Ipv4Header};
use crate::wire::ipv6::{
    FRAGMENT_HEADER_BYTES, FragmentHeader, IPV6_BYTES, Ipv6Header, fragment_header,
    in_every_fragment,
};

/// The longest IPv4 header.
const IPV4_HEADER_BYTES_MAX: usize = 60;
/// More of IPv6 headers is not repeated in every fragment: such a packet is not cut.
const FRONT_BYTES_MAX: usize = 512;
/// An option that is in the first fragment only has this bit clear (RFC 791).
const COPIED: u8 = 0x80;
const OPTION_END: u8 = 0;
const OPTION_NONE: u8 = 1;

/// How a packet is cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cuts<'p> {
    /// Lengths of the payloads as they came, if they did.
    pub as_came: &'p [usize],
    /// The largest fragment, IP header and all.
    pub limit: usize,
    /// What is no larger, IP header and all, goes whole.
    pub above: usize,
    /// Identification of IPv6's fragments.
    pub identification: u32,
}

impl Cuts<'_> {
    /// Whether the payload can go out in the pieces it came in, the first of which is of another length now.
    fn keeps_geometry(&self, first: usize, room: usize) -> bool {
        let mut pieces = self.as_came.iter().enumerate().peekable();
        let mut fits = pieces.peek().is_some() && first > 0;
        while let Some((number, length)) = pieces.next() {
            let length = if number == 0 { first } else { *length };
            let is_last = pieces.peek().is_none();
            fits &= length <= room && (is_last || length % 8 == 0);
        }
        fits
    }

    /// Lengths of the payloads, in order.
    fn lengths(&self, payload: usize, room: usize) -> impl Iterator<Item = usize> {
        let behind: usize = self.as_came.iter().skip(1).sum();
        let first = payload.checked_sub(behind);
        let kept = first.filter(|first| self.keeps_geometry(*first, room));
        let slice = room / 8 * 8;
        let mut left = payload;
        let mut came = self.as_came.iter().enumerate();
        std::iter::from_fn(move || {
            let length = match kept {
                Some(first) => {
                    let (number, length) = came.next()?;
                    if number == 0 { first } else { *length }
                }
                None if left <= room => left,
                None => slice,
            };
            (left > 0 && length > 0).then(|| {
                left = left.saturating_sub(length);
                length
            })
        })
    }
}

/// Cuts a frame into what `next` gives frames for. How many were written; `None` when there
/// were not enough, or the packet cannot be cut.
pub(super) fn cut<F: Frame>(
    frame: &[u8],
    cuts: Cuts<'_>,
    mut next: impl FnMut() -> Option<F>,
    mut done: impl FnMut(F),
) -> Option<usize> {
    let (_, ip) = network_header(frame)?;
    let (link, packet) = frame.split_at_checked(ip)?;
    if packet.len() <= cuts.above {
        let mut whole = next()?;
        if !whole.refill([link, packet, &[]]) {
            return None;
        }
        done(whole);
        return Some(1);
    }
    match packet.first()? >> 4 {
        4 => cut_v4(link, packet, cuts, &mut next, &mut done),
        6 => cut_v6(link, packet, cuts, &mut next, &mut done),
        _ => None,
    }
}

fn cut_v4<F: Frame>(
    link: &[u8],
    packet: &[u8],
    cuts: Cuts<'_>,
    next: &mut impl FnMut() -> Option<F>,
    done: &mut impl FnMut(F),
) -> Option<usize> {
    let (original, _) = Ipv4Header::ref_from_prefix(packet).ok()?;
    let header_bytes = original.header_bytes();
    let total = usize::from(original.total_length.get()).min(packet.len());
    let payload = packet.get(header_bytes..total)?;
    let kept = original.flags_fragment.get() & DONT_FRAGMENT;
    let mut header = [0; IPV4_HEADER_BYTES_MAX];
    let header = header.get_mut(..header_bytes)?;
    header.copy_from_slice(packet.get(..header_bytes)?);
    let room = cuts
        .limit
        .checked_sub(header_bytes)
        .filter(|room| *room >= 8)?;
    let (mut offset, mut count) = (0, 0);
    for length in cuts.lengths(payload.len(), room) {
        let part = payload.get(offset..offset + length)?;
        let more = if offset + length < payload.len() {
            MORE_FRAGMENTS
        } else {
            0
        };
        let (fields, options) = Ipv4Header::mut_from_prefix(header).ok()?;
        fields.total_length = U16::new(u16::try_from(header_bytes + length).ok()?);
        fields.flags_fragment = U16::new(kept | more | u16::try_from(offset / 8).ok()?);
        if count == 1 {
            blank_out(options);
        }
        fill_checksum(header);
        let mut frame = next()?;
        if !frame.refill([link, header, part]) {
            return None;
        }
        done(frame);
        offset += length;
        count += 1;
    }
    Some(count)
}

/// The checksum over options as well.
pub(super) fn fill_checksum(header: &mut [u8]) {
    if let Some(field) = header.get_mut(10..12) {
        field.fill(0);
    }
    let sum = crate::wire::checksum::Sum::of(header).finish();
    if let Some(field) = header.get_mut(10..12) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// Options that are in the first fragment only become none in the others (`ip_options_fragment`).
fn blank_out(options: &mut [u8]) {
    let mut at = 0;
    while let Some(kind) = options.get(at).copied() {
        let length = match kind {
            OPTION_END => return,
            OPTION_NONE => 1,
            _ => usize::from(options.get(at + 1).copied().unwrap_or(0)),
        };
        if length == 0 || at + length > options.len() {
            return;
        }
        if kind & COPIED == 0
            && let Some(option) = options.get_mut(at..at + length)
        {
            option.fill(OPTION_NONE);
        }
        at += length;
    }
}

fn cut_v6<F: Frame>(
    link: &[u8],
    packet: &[u8],
    cuts: Cuts<'_>,
    next: &mut impl FnMut() -> Option<F>,
    done: &mut impl FnMut(F),
) -> Option<usize> {
    let (original, _) = Ipv6Header::ref_from_prefix(packet).ok()?;
    let total = IPV6_BYTES + usize::from(original.payload_length.get());
    let (front_bytes, announced_at) = in_every_fragment(packet)?;
    let payload = packet.get(front_bytes..total.min(packet.len()))?;
    let headers_bytes = front_bytes + FRAGMENT_HEADER_BYTES;
    let mut headers = [0; FRONT_BYTES_MAX + FRAGMENT_HEADER_BYTES];
    let headers = headers.get_mut(..headers_bytes)?;
    headers
        .get_mut(..front_bytes)?
        .copy_from_slice(packet.get(..front_bytes)?);
    let next_header = std::mem::replace(headers.get_mut(announced_at)?, fragment_header::NUMBER);
    let room = cuts
        .limit
        .checked_sub(headers_bytes)
        .filter(|room| *room >= 8)?;
    let (mut offset, mut count) = (0, 0);
    for length in cuts.lengths(payload.len(), room) {
        let part = payload.get(offset..offset + length)?;
        let behind = headers_bytes - IPV6_BYTES + length;
        let more = u16::from(offset + length < payload.len());
        let fragment = FragmentHeader {
            next_header,
            reserved: 0,
            offset_and_more: U16::new(u16::try_from(offset).ok()? | more),
            identification: U32::new(cuts.identification),
        };
        let (front, back) = headers.split_at_mut(front_bytes);
        let (header, _) = Ipv6Header::mut_from_prefix(front).ok()?;
        header.payload_length = U16::new(u16::try_from(behind).ok()?);
        back.copy_from_slice(fragment.as_bytes());
        let mut frame = next()?;
        if !frame.refill([link, headers, part]) {
            return None;
        }
        done(frame);
        offset += length;
        count += 1;
    }
    Some(count)
}

const _: () = assert!(IPV4_BYTES < IPV4_HEADER_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::HeapFrame;

    fn lengths(as_came: &[usize], payload: usize, room: usize) -> Vec<usize> {
        let cuts = Cuts {
            as_came,
            limit: 0,
            above: 0,
            identification: 0,
        };
        cuts.lengths(payload, room).collect()
    }

    #[test]
    fn what_came_in_pieces_goes_out_in_them() {
        assert_eq!(lengths(&[1200, 808], 2008, 1200), [1200, 808]);
        assert_eq!(lengths(&[400, 800, 13], 1213, 800), [400, 800, 13]);
        // A tunnel's first piece has grown past the limit, or out of step.
        assert_eq!(lengths(&[1200, 808], 2028, 1200), [1200, 828]);
        assert_eq!(lengths(&[400, 808], 1228, 1200), [1200, 28]);
        // The way is narrower than what came.
        assert_eq!(lengths(&[1200, 808], 2008, 1000), [1000, 1000, 8]);
    }

    #[test]
    fn the_rest_is_cut_in_eights() {
        assert_eq!(lengths(&[], 1481, 1480), [1480, 1]);
        assert_eq!(lengths(&[], 3000, 1405), [1400, 1400, 200]);
        assert_eq!(lengths(&[], 1400, 1480), [1400]);
    }

    #[test]
    fn what_is_small_enough_goes_whole() {
        let frame = [&[0; 12][..], &[8, 0], &[0x45; 100]].concat();
        let cuts = |above| Cuts {
            as_came: &[40, 40],
            limit: 60,
            above,
            identification: 0,
        };
        let sent = |above| {
            let mut sent = Vec::new();
            let next = || Some(HeapFrame::new(&[]));
            let count = cut(&frame, cuts(above), next, |frame| {
                sent.push(frame.bytes().len())
            });
            assert_eq!(count, Some(sent.len()));
            sent
        };
        assert_eq!(sent(100), [114]);
        assert_eq!(sent(99), [74, 74]);
    }
}
