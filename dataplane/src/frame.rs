//! A received mbuf as the engine's [`Frame`].

use std::cmp::Ordering;

use dpdk_bindings::Mbuf;
use pollux_engine::Frame;
use pollux_engine::connection::Family;

/// Headroom of a new mbuf, bytes: DPDK's `RTE_PKTMBUF_HEADROOM`.
const HEADROOM: usize = 128;

/// One contiguous mbuf.
#[derive(Debug)]
#[repr(transparent)]
pub struct MbufFrame(Mbuf);

impl MbufFrame {
    /// The mbuf as a frame; gives it back when it lies in several pieces that cannot be joined in the first.
    ///
    /// # Errors
    /// The mbuf.
    #[inline]
    pub fn new(mut mbuf: Mbuf) -> Result<Self, Mbuf> {
        if mbuf.is_contiguous() || mbuf.linearize().is_ok() {
            Ok(Self(mbuf))
        } else {
            Err(mbuf)
        }
    }

    /// The mbuf.
    #[inline]
    pub fn into_mbuf(self) -> Mbuf {
        self.0
    }
}

impl Frame for MbufFrame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.0.data()
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.data_mut()
    }

    #[inline]
    fn is_header_verified(&self) -> bool {
        self.0.is_ipv4_header_verified()
    }

    fn leave_udp_checksum(&mut self, link_bytes: u16, ip_bytes: u16, family: Family) {
        self.0
            .ask_udp_checksum(link_bytes, ip_bytes, family == Family::V6);
    }

    #[inline]
    fn headroom(&self) -> &[u8] {
        self.0.headroom_bytes()
    }

    #[inline]
    fn prepend(&mut self, bytes: usize) -> bool {
        self.0.prepend(bytes).is_ok()
    }

    #[inline]
    fn trim_front(&mut self, bytes: usize) {
        let bytes = bytes.min(self.0.length());
        // Not more than there are, so it cannot be refused.
        let _ = self.0.adj(bytes);
    }

    fn refill(&mut self, parts: [&[u8]; 3]) -> bool {
        // What is there goes, and the front comes back to where new frames have it.
        self.truncate(0);
        let ahead = self.0.headroom();
        let moved = match ahead.cmp(&HEADROOM) {
            Ordering::Less => self
                .0
                .append(HEADROOM - ahead)
                .map(|_| ())
                .and_then(|()| self.0.adj(HEADROOM - ahead)),
            Ordering::Equal => Ok(()),
            Ordering::Greater => self
                .0
                .prepend(ahead - HEADROOM)
                .map(|_| ())
                .and_then(|()| self.0.trim(ahead - HEADROOM)),
        };
        moved.is_ok()
            && parts
                .into_iter()
                .all(|part| match self.0.append(part.len()) {
                    Ok(room) => {
                        room.copy_from_slice(part);
                        true
                    }
                    Err(_no_room) => false,
                })
    }

    #[inline]
    fn truncate(&mut self, length: usize) {
        // Not more than there are, so it cannot be refused.
        let _ = self.0.trim(self.0.length().saturating_sub(length));
    }
}
