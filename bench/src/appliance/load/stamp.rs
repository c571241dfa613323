//! How a packet is known again: its number and the mark of its trial stand in the TCP sequence and acknowledgement
//! numbers, which no forwarding method touches, so that frames stay as small as they were.

use crate::measurement::{Family, Method};

/// Bytes of the TCP header before the sequence number.
const SEQUENCE: usize = 4;
const ETHERNET: usize = 14;

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The number of the packet in its trial, the low half.
    pub number: u32,
    /// Tells trials, and everything else on the link, apart.
    pub mark: u32,
}

impl Stamp {
    /// Of a frame whose TCP header begins `at` this byte; anything of a frame that is none of ours.
    #[inline]
    pub fn read(frame: &[u8], at: usize) -> Option<Self> {
        let bytes = frame.get(at + SEQUENCE..)?.first_chunk::<8>()?;
        let [a, b, c, d, e, f, g, h] = *bytes;
        Some(Self {
            number: u32::from_be_bytes([a, b, c, d]),
            mark: u32::from_be_bytes([e, f, g, h]),
        })
    }
}

/// Where the TCP header begins in frames sent.
pub fn tcp_at(family: Family) -> usize {
    ETHERNET + ip_bytes(family)
}

/// Where the TCP header begins in frames that were forwarded by this method.
pub fn tcp_at_after(method: Method, family: Family) -> usize {
    match method {
        Method::Nat | Method::Direct => tcp_at(family),
        // Servers have the family of the service here.
        Method::Tunnel => tcp_at(family) + ip_bytes(family),
    }
}

fn ip_bytes(family: Family) -> usize {
    match family {
        Family::Ipv4 => 20,
        Family::Ipv6 => 40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_where_a_frame_has_it() {
        let stamp = Stamp {
            number: 0x0102_0304,
            mark: 0xa1a2_a3a4,
        };
        let mut frame = [0; 60];
        frame[38..46].copy_from_slice(&[1, 2, 3, 4, 0xa1, 0xa2, 0xa3, 0xa4]);
        assert_eq!(Stamp::read(&frame, 34), Some(stamp));
        assert_eq!(Stamp::read(&frame[..45], 34), None);
    }

    #[test]
    fn a_tunnel_puts_a_header_before_it() {
        assert_eq!(tcp_at_after(Method::Tunnel, Family::Ipv4), 54);
        assert_eq!(tcp_at_after(Method::Tunnel, Family::Ipv6), 94);
        assert_eq!(tcp_at_after(Method::Nat, Family::Ipv6), 54);
        assert_eq!(tcp_at_after(Method::Direct, Family::Ipv4), 34);
    }
}
