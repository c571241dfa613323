//! The GRE header of a tunnel, RFC 2784: `0000` or, with a checksum, `8000`, then the EtherType of the packet.

use zerocopy::FromBytes;
use zerocopy::byteorder::network_endian::U16;

use crate::wire::checksum::Sum;
use crate::wire::ethernet::ethertype;
use crate::wire::gre::{CHECKSUM_PRESENT, GRE_BYTES, GRE_CHECKSUM_BYTES, GreHeader};
use crate::wire::protocol;

/// Bytes of the header.
#[inline(always)]
pub fn bytes(checksum: bool) -> usize {
    GRE_BYTES + if checksum { GRE_CHECKSUM_BYTES } else { 0 }
}

/// Writes the header over the first bytes of `segment`, whose rest is a packet of IP protocol number `inner`.
pub fn write(segment: &mut [u8], inner: u8, checksum: bool) {
    let Ok((header, rest)) = GreHeader::mut_from_prefix(segment) else {
        return;
    };
    header.protocol = U16::new(if inner == protocol::IPIP {
        ethertype::IPV4
    } else {
        ethertype::IPV6
    });
    header.flags_version = U16::new(if checksum { CHECKSUM_PRESENT } else { 0 });
    if !checksum {
        return;
    }
    let Some(field) = rest.first_chunk_mut::<GRE_CHECKSUM_BYTES>() else {
        return;
    };
    *field = [0; GRE_CHECKSUM_BYTES];
    let sum = Sum::of(segment).finish().to_be_bytes();
    if let Some(place) = segment
        .get_mut(GRE_BYTES..)
        .and_then(<[u8]>::first_chunk_mut)
    {
        *place = sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_the_kernels() {
        let mut plain = [0xa5, 0xa5, 0xa5, 0xa5, 0x45, 0, 0, 20];
        write(&mut plain, protocol::IPIP, false);
        assert_eq!(plain, [0, 0, 0x08, 0x00, 0x45, 0, 0, 20]);
        let mut summed = [0xa5; 13];
        write(&mut summed, protocol::IPV6, true);
        assert_eq!(summed[..4], [0x80, 0x00, 0x86, 0xdd]);
        assert_eq!(summed[6..8], [0, 0]);
        assert_eq!(Sum::of(&summed).finish(), 0);
        assert_eq!(summed[8..], [0xa5; 5]);
    }
}
