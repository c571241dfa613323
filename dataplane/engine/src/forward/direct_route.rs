//! Direct routing: the packet stays as it is but for one hop less; only the frame's MAC addresses say where it goes.

use zerocopy::FromBytes;

use crate::connection::Family;
use crate::wire::ipv4::Ipv4Header;
use crate::wire::ipv6::Ipv6Header;

/// One hop less. `packet` starts with the IP header, whose TTL or hop limit is above 1.
#[inline(always)]
pub fn decrement_ttl(packet: &mut [u8], family: Family) {
    match family {
        Family::V4 => {
            if let Ok((header, _)) = Ipv4Header::mut_from_prefix(packet) {
                header.decrement_ttl();
            }
        }
        Family::V6 => {
            if let Ok((header, _)) = Ipv6Header::mut_from_prefix(packet) {
                header.hop_limit = header.hop_limit.wrapping_sub(1);
            }
        }
    }
}
