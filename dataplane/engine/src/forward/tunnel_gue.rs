//! The UDP and GUE headers of a tunnel: `0004 0000` in front of IPv4, `0029 0000` in front of IPv6. The UDP checksum is 0
//! unless asked for, over IPv6 too (RFC 6935). The source port comes of the flow, so that the queues of the server and
//! the ways to it share the load.

use zerocopy::FromBytes;
use zerocopy::byteorder::network_endian::U16;

use super::tunnel::SummedBy;
use crate::wire::checksum::Sum;
use crate::wire::gue::{GUE_BYTES, GueHeader};
use crate::wire::protocol;
use crate::wire::udp::{UDP_BYTES, UdpHeader};

/// Bytes of both headers.
pub const BYTES: usize = UDP_BYTES + GUE_BYTES;

/// Linux' `net.ipv4.ip_local_port_range`.
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// The source port of a flow, as `udp_flow_src_port` scales a hash to the local ports.
#[inline]
pub fn source_port(flow_hash: u64) -> u16 {
    let ports = u64::from(SOURCE_PORTS.end() - SOURCE_PORTS.start());
    #[allow(clippy::cast_possible_truncation)] // less than the number of ports
    let place = (((flow_hash & 0xffff_ffff) * ports) >> 32) as u16;
    SOURCE_PORTS.start() + place
}

/// Writes both headers over the first bytes of `segment`, whose rest is a packet of IP protocol number `inner`. With the
/// sum of the outer addresses there is a checksum.
pub fn write(
    segment: &mut [u8],
    inner: u8,
    [source, destination]: [u16; 2],
    checksum: Option<(Sum, SummedBy)>,
) {
    let length = u16::try_from(segment.len()).unwrap_or(u16::MAX);
    let Ok((udp, rest)) = UdpHeader::mut_from_prefix(segment) else {
        return;
    };
    udp.source = U16::new(source);
    udp.destination = U16::new(destination);
    udp.length = U16::new(length);
    udp.checksum = U16::ZERO;
    let Ok((gue, _)) = GueHeader::mut_from_prefix(rest) else {
        return;
    };
    gue.version_length = 0;
    gue.protocol = inner;
    gue.flags = U16::ZERO;
    let Some((addresses, summed_by)) = checksum else {
        return;
    };
    let pseudo_header = addresses.add16(protocol::UDP.into()).add16(length);
    let sum = match summed_by {
        SummedBy::Cpu => Sum::of(segment).plus(pseudo_header).finish(),
        SummedBy::Device => !pseudo_header.finish(),
    };
    if let Ok((udp, _)) = UdpHeader::mut_from_prefix(segment) {
        // 0 would mean "none" (RFC 768).
        udp.checksum = U16::new(if sum == 0 { 0xffff } else { sum });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Family;
    use crate::frame::{Frame, HeapFrame};

    #[test]
    fn headers_are_the_kernels() {
        let mut plain = [0xa5; BYTES + 3];
        write(&mut plain, protocol::IPIP, [40_000, 5555], None);
        let [high, low] = 40_000_u16.to_be_bytes();
        let wanted = [high, low, 0x15, 0xb3, 0, 15, 0, 0, 0, 4, 0, 0];
        assert_eq!(plain[..BYTES], wanted);
        assert_eq!(plain[BYTES..], [0xa5; 3]);
        let addresses = Sum::of(&[10, 1, 0, 1, 10, 1, 0, 11]);
        let mut summed = [0xa5; BYTES + 3];
        let ports = [40_000, 5555];
        let checksum = Some((addresses, SummedBy::Cpu));
        write(&mut summed, protocol::IPV6, ports, checksum);
        assert_eq!(summed[9], 0x29);
        let whole = Sum::of(&summed).plus(addresses).add16(17).add16(15);
        assert_eq!(whole.finish(), 0);

        let mut frame = HeapFrame::new(&[0xa5; BYTES + 3]);
        let checksum = Some((addresses, SummedBy::Device));
        write(frame.bytes_mut(), protocol::IPV6, ports, checksum);
        frame.leave_udp_checksum(0, 0, Family::V4);
        assert_eq!(frame.bytes(), summed);
    }

    #[test]
    fn flows_spread_over_the_local_ports() {
        assert_eq!(source_port(0), 32_768);
        assert_eq!(source_port(u64::MAX), 60_998);
        assert_ne!(source_port(1 << 30), source_port(1 << 31));
    }
}
