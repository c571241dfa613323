//! What the engine needs of a packet buffer: its bytes, and room to grow and shrink at both ends.
//!
//! A DPDK mbuf and the [`HeapFrame`] of tests implement it; the pipeline is monomorphised over it.

use crate::connection::Family;
use crate::wire::checksum::Sum;
use crate::wire::udp::UDP_CHECKSUM_OFFSET;

/// A frame in one contiguous piece of memory, Ethernet header first.
pub trait Frame {
    /// The bytes from the Ethernet header to the end.
    fn bytes(&self) -> &[u8];

    /// The same, writable.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Whether the device that received the frame has found the checksum of its IPv4 header right.
    #[inline(always)]
    fn is_header_verified(&self) -> bool {
        false
    }

    /// Leaves the checksum of a UDP datagram, behind `link_bytes` and `ip_bytes` of headers, to the device that sends the
    /// frame: one that can ([`crate::forwarding_table::PortSpec`]). Its field holds the sum of the pseudo header. A frame that
    /// is not a device's does itself what one would do.
    fn leave_udp_checksum(&mut self, link_bytes: u16, ip_bytes: u16, _family: Family) {
        let datagram = usize::from(link_bytes) + usize::from(ip_bytes);
        let datagram = self.bytes_mut().get_mut(datagram..).unwrap_or_default();
        // 0 would mean "none" (RFC 768).
        let sum = match Sum::of(datagram).finish() {
            0 => 0xffff,
            sum => sum,
        };
        if let Some(field) = datagram.get_mut(UDP_CHECKSUM_OFFSET..UDP_CHECKSUM_OFFSET + 2) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
    }

    /// What lies directly before the frame: where [`Frame::prepend`] makes it grow.
    fn headroom(&self) -> &[u8];

    /// Grows the frame by `bytes` at the front; the new bytes hold anything. False, and nothing done, without headroom.
    #[must_use]
    fn prepend(&mut self, bytes: usize) -> bool;

    /// Drops `bytes` from the front; more than there are leaves an empty frame.
    fn trim_front(&mut self, bytes: usize);

    /// Keeps the first `length` bytes; a longer `length` changes nothing.
    fn truncate(&mut self, length: usize);

    /// Replaces all that is in it by these parts, one behind the other. False, and the frame is anything, without room.
    #[must_use]
    fn refill(&mut self, parts: [&[u8]; 3]) -> bool;
}

/// A frame on the heap, with the headroom of a DPDK mbuf: for tests, the replayer and the fuzzer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeapFrame {
    buffer: Vec<u8>,
    start: usize,
    verified: bool,
}

impl HeapFrame {
    /// Headroom of a new frame, bytes: DPDK's `RTE_PKTMBUF_HEADROOM`.
    pub const HEADROOM: usize = 128;

    /// A frame with these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        let mut buffer = vec![0xa5; Self::HEADROOM];
        buffer.extend_from_slice(bytes);
        Self {
            buffer,
            start: Self::HEADROOM,
            verified: false,
        }
    }

    /// The frame as a device hands it on that has verified, or not, the checksum of its IPv4 header.
    #[must_use]
    pub fn with_header_verified(self, verified: bool) -> Self {
        Self { verified, ..self }
    }
}

impl Frame for HeapFrame {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.start..).unwrap_or_default()
    }

    fn is_header_verified(&self) -> bool {
        self.verified
    }

    fn headroom(&self) -> &[u8] {
        self.buffer.get(..self.start).unwrap_or_default()
    }

    fn prepend(&mut self, bytes: usize) -> bool {
        match self.start.checked_sub(bytes) {
            Some(start) => {
                self.start = start;
                true
            }
            None => false,
        }
    }

    fn trim_front(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.buffer.len());
    }

    fn truncate(&mut self, length: usize) {
        self.buffer.truncate(self.start + length);
    }

    fn refill(&mut self, parts: [&[u8]; 3]) -> bool {
        self.buffer.resize(Self::HEADROOM, 0xa5);
        self.start = Self::HEADROOM;
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_shrinks_at_both_ends() {
        let mut frame = HeapFrame::new(&[1, 2, 3, 4]);
        assert!(frame.prepend(2));
        assert_eq!(frame.bytes(), [0xa5, 0xa5, 1, 2, 3, 4]);
        assert_eq!(frame.headroom().len(), HeapFrame::HEADROOM - 2);
        frame.trim_front(3);
        frame.truncate(2);
        assert_eq!(frame.bytes(), [2, 3]);
        assert!(!frame.prepend(HeapFrame::HEADROOM + 2));
        frame.trim_front(99);
        assert!(frame.bytes().is_empty());
    }
}
