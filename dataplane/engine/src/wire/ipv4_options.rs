//! Options of an IPv4 header, RFC 791, as Linux takes them (`ip_options_compile`): record route and timestamps are filled in;
//! what is malformed or asks for a source route is the kernel's to answer; the others go on as they came.

use super::checksum::Sum;
use super::ipv4::IPV4_BYTES;
use crate::clock::WallClock;

/// Option types.
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;
const ROUTER_ALERT: u8 = 148;

/// Offsets in an option.
const LENGTH: usize = 1;
const POINTER: usize = 2;
const FLAGS: usize = 3;
/// Bytes of an address or a time.
const WORD: usize = 4;
/// The checksum in the IP header.
const CHECKSUM: usize = 10;

/// Timestamp: what is in the lower half of the flags when a time has its address beside it.
const TIME_ONLY: u8 = 0;
const WITH_ADDRESS: u8 = 1;
const PRESPECIFIED: u8 = 3;

/// What the director writes.
#[derive(Debug, Clone, Copy)]
pub struct Signature {
    /// Into a record of the route, host byte order.
    pub route: u32,
    /// Beside a time: the director's address that the sender sees; none: 0.0.0.0.
    pub seen: u32,
    /// The time.
    pub clock: WallClock,
}

/// Options that stand in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Found {
    /// Where record route starts.
    record_route: Option<usize>,
    /// Where timestamps start.
    timestamp: Option<usize>,
    /// What lies behind the end of the list.
    behind_end: Option<usize>,
}

/// Whether the engine may forward a packet with these options.
pub fn is_forwarded(options: &[u8]) -> bool {
    find(options).is_some()
}

/// Writes the director's address and the time where options ask for them, and mends the header's checksum. `header` is the
/// whole IPv4 header; `is_ours` says of an address that was written beforehand whether the time goes beside it.
pub fn sign(header: &mut [u8], signature: &Signature, is_ours: impl FnOnce(u32) -> bool) {
    let Some(options) = header.get_mut(IPV4_BYTES..) else {
        return;
    };
    let Some(found) = find(options) else {
        return;
    };
    // The kernel clears what nobody reads.
    if let Some(rest) = found.behind_end.and_then(|start| options.get_mut(start..)) {
        rest.fill(END);
    }
    if let Some(option) = found
        .record_route
        .and_then(|start| options.get_mut(start..))
    {
        write_route(option, signature.route);
    }
    if let Some(option) = found.timestamp.and_then(|start| options.get_mut(start..)) {
        write_time(option, signature, is_ours);
    }
    fill_checksum(header);
}

/// Writes the time, or counts one more that found no room.
fn write_time(option: &mut [u8], signature: &Signature, is_ours: impl FnOnce(u32) -> bool) {
    let (Some(length), Some(pointer)) = (octet(option, LENGTH), octet(option, POINTER)) else {
        return;
    };
    let Some(flags) = option.get(FLAGS).copied() else {
        return;
    };
    let kind = flags & 0xf;
    if pointer > length {
        if kind != PRESPECIFIED
            && let Some(flags) = option.get_mut(FLAGS)
        {
            // Fifteen were refused before.
            *flags = flags.wrapping_add(0x10);
        }
        return;
    }
    // The pointer counts from 1.
    let Some(room) = option.get_mut(pointer - 1..) else {
        return;
    };
    let time = signature.clock.milliseconds_of_day().to_be_bytes();
    let taken = match kind {
        TIME_ONLY => {
            if let Some(place) = room.first_chunk_mut::<WORD>() {
                *place = time;
            }
            WORD
        }
        WITH_ADDRESS | PRESPECIFIED => {
            let Some((address, rest)) = room.split_first_chunk_mut::<WORD>() else {
                return;
            };
            if kind == WITH_ADDRESS {
                *address = signature.seen.to_be_bytes();
            } else if !is_ours(u32::from_be_bytes(*address)) {
                return;
            }
            if let Some(place) = rest.first_chunk_mut::<WORD>() {
                *place = time;
            }
            2 * WORD
        }
        _ => return,
    };
    if let Some(pointer) = option.get_mut(POINTER) {
        *pointer = pointer.saturating_add(taken as u8);
    }
}

fn write_route(option: &mut [u8], address: u32) {
    let (Some(length), Some(pointer)) = (octet(option, LENGTH), octet(option, POINTER)) else {
        return;
    };
    if pointer > length {
        return;
    }
    // The pointer counts from 1.
    let place = option.get_mut(pointer - 1..pointer - 1 + WORD);
    if let Some(place) = place {
        place.copy_from_slice(&address.to_be_bytes());
    }
    if let Some(pointer) = option.get_mut(POINTER) {
        *pointer = pointer.saturating_add(WORD as u8);
    }
}

fn fill_checksum(header: &mut [u8]) {
    if let Some(checksum) = header.get_mut(CHECKSUM..CHECKSUM + 2) {
        checksum.fill(0);
    }
    let sum = Sum::of(header).finish();
    if let Some(checksum) = header.get_mut(CHECKSUM..CHECKSUM + 2) {
        checksum.copy_from_slice(&sum.to_be_bytes());
    }
}

/// The options; none when the kernel would refuse the packet for them.
fn find(options: &[u8]) -> Option<Found> {
    let mut found = Found::default();
    let mut at = 0;
    while let Some(kind) = options.get(at) {
        match *kind {
            END => {
                found.behind_end = Some(at + 1);
                break;
            }
            NO_OPERATION => {
                at += 1;
                continue;
            }
            _ => {}
        }
        let length = octet(options, at + LENGTH)?;
        let option = options.get(at..at + length)?;
        match *kind {
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return None,
            RECORD_ROUTE if found.record_route.replace(at).is_some() => return None,
            RECORD_ROUTE if !has_room(option, 4, WORD)? => return None,
            TIMESTAMP if found.timestamp.replace(at).is_some() => return None,
            TIMESTAMP if !is_timestamp(option)? => return None,
            ROUTER_ALERT if length < 4 => return None,
            _ if length < 2 => return None,
            _ => {}
        }
        at += length;
    }
    Some(found)
}

/// Whether an option is full, or has room for so many bytes where its pointer says.
fn has_room(option: &[u8], pointer_min: usize, bytes: usize) -> Option<bool> {
    let pointer = octet(option, POINTER)?;
    let fits = pointer > option.len() || pointer + bytes - 1 <= option.len();
    Some(pointer >= pointer_min && fits)
}

fn is_timestamp(option: &[u8]) -> Option<bool> {
    let flags = *option.get(FLAGS)?;
    let bytes = match flags & 0xf {
        WITH_ADDRESS | PRESPECIFIED => 2 * WORD,
        _ => WORD,
    };
    let is_full = octet(option, POINTER)? > option.len();
    // Nobody can count one more that found no room.
    let overflows = is_full && flags & 0xf != PRESPECIFIED && flags >> 4 == 15;
    Some(!overflows && has_room(option, 5, bytes)?)
}

fn octet(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at).copied().map(usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with these options and a right checksum.
    fn header(options: &[u8]) -> Vec<u8> {
        let mut header = vec![0u8; IPV4_BYTES];
        header[0] = 0x40 | ((IPV4_BYTES + options.len()) / 4) as u8;
        header[8] = 64;
        header.extend_from_slice(options);
        fill_checksum(&mut header);
        header
    }

    const SIGNATURE: Signature = Signature {
        route: 0xc000_0264,
        seen: 0x0a01_0001,
        clock: WallClock {
            now_ns: 0x0102_0304 * 1_000_000,
            ahead_ns: 0,
        },
    };

    fn recorded(options: &[u8]) -> Vec<u8> {
        let mut header = header(options);
        sign(&mut header, &SIGNATURE, |address| address == 0xc000_0201);
        assert_eq!(Sum::of(&header).finish(), 0, "{header:?}");
        header.split_off(IPV4_BYTES)
    }

    #[test]
    fn an_address_is_written_where_the_pointer_says() {
        let full = [7, 7, 8, 192, 0, 2, 100, 0];
        assert_eq!(recorded(&[7, 7, 4, 0, 0, 0, 0, 0]), full);
        assert_eq!(recorded(&full), full, "full");
        assert_eq!(
            recorded(&[1, 7, 11, 8, 9, 9, 9, 9, 0, 0, 0, 0]),
            [1, 7, 11, 12, 9, 9, 9, 9, 192, 0, 2, 100]
        );
    }

    #[test]
    fn what_lies_behind_the_end_is_cleared() {
        assert_eq!(recorded(&[1, 0, 7, 5]), [1, 0, 0, 0]);
    }

    #[test]
    fn others_stay_as_they_came() {
        for options in [
            [1, 1, 1, 1, 1, 1, 1, 1],
            [148, 4, 0, 0, 1, 1, 1, 1],
            // Prespecified and full: nobody counts. Flags that say nothing.
            [68, 8, 9, 0x33, 1, 2, 3, 4],
            [68, 8, 5, 0x02, 0, 0, 0, 0],
            [0x82, 8, 1, 2, 3, 4, 5, 6],
        ] {
            assert!(is_forwarded(&options), "{options:?}");
            assert_eq!(recorded(&options), options);
        }
    }

    /// As recorded of Linux: `tests/golden/tools.json`, scenario `tools/options`.
    #[test]
    fn times_are_written_where_the_pointer_says() {
        assert_eq!(
            recorded(&[68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            [68, 12, 9, 0, 1, 2, 3, 4, 0, 0, 0, 0]
        );
        assert_eq!(
            recorded(&[68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            [68, 12, 13, 1, 10, 1, 0, 1, 1, 2, 3, 4]
        );
        let ours = [68, 12, 5, 3, 192, 0, 2, 1, 0, 0, 0, 0];
        assert_eq!(recorded(&ours), [68, 12, 13, 3, 192, 0, 2, 1, 1, 2, 3, 4]);
        let anothers = [68, 12, 5, 3, 192, 0, 2, 77, 0, 0, 0, 0];
        assert_eq!(recorded(&anothers), anothers);
        assert_eq!(
            recorded(&[68, 8, 9, 0x30, 1, 2, 3, 4]),
            [68, 8, 9, 0x40, 1, 2, 3, 4]
        );
        assert_eq!(
            recorded(&[7, 7, 4, 0, 0, 0, 0, 68, 8, 5, 0, 0, 0, 0, 0, 1]),
            [7, 7, 8, 192, 0, 2, 100, 68, 8, 9, 0, 1, 2, 3, 4, 1]
        );
    }

    #[test]
    fn what_the_kernel_answers_is_left_to_it() {
        let refused: [&[u8]; 12] = [
            &[7],
            &[7, 1, 4, 0],
            &[7, 9, 4, 0, 0, 0, 0, 0],
            &[7, 7, 3, 0, 0, 0, 0, 0],
            &[7, 7, 5, 0, 0, 0, 0, 0],
            &[7, 2, 1, 1],
            &[7, 3, 4, 7, 3, 4, 1, 1],
            &[131, 7, 4, 10, 0, 0, 1, 0],
            &[137, 7, 4, 10, 0, 0, 1, 0],
            &[148, 3, 0, 0],
            &[68, 8, 5, 1, 0, 0, 0, 0],
            &[68, 8, 9, 0xf0, 0, 0, 0, 0],
        ];
        for options in refused {
            assert!(!is_forwarded(options), "{options:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_options_do_harm(options in proptest::collection::vec(proptest::num::u8::ANY, 0..=40)) {
            let mut header = header(&options);
            let before = header.clone();
            sign(&mut header, &SIGNATURE, |_| true);
            assert_eq!(header.len(), before.len());
            if is_forwarded(&options) {
                assert_eq!(Sum::of(&header).finish(), 0);
            } else {
                assert_eq!(header, before);
            }
        }
    }
}
