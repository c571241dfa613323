//! A frame in DPDK's memory.
//!
//! An [`Mbuf`] is one pointer, so that a burst of them is the very array DPDK reads and writes. Its
//! accessors read the first cache line of `rte_mbuf` directly and compile to a few moves.
//!
//! ```text
//!   ├─ headroom ─┼──────── data ────────┼─ tailroom ─┤
//!       prepend ◄┤► strip      truncate ◄┤► append
//! ```
//!
//! Ports are set up so that a frame fits one mbuf; a driver that delivers a chain nevertheless is
//! met by [`Mbuf::is_contiguous`] and [`Mbuf::linearize`].

use std::fmt;
use std::ptr::NonNull;

use arrayvec::ArrayVec;
use dpdk_sys::{rte_mbuf, shim_mbuf};

use crate::port::PortId;

/// A frame, owned: whoever has it gives it to a [`TxQueue`](crate::TxQueue) or drops it, once.
#[repr(transparent)]
pub struct Mbuf {
    /// Points to an mbuf that nobody else has; all of its chain is ours too.
    raw: NonNull<rte_mbuf>,
}

// A burst is passed to C as an array of pointers.
const _: () = assert!(size_of::<Mbuf>() == size_of::<*mut rte_mbuf>());
const _: () = assert!(align_of::<Mbuf>() == align_of::<*mut rte_mbuf>());

// SAFETY: an mbuf belongs to no thread; its pool takes it back from any (see `Mempool`) and is
// never freed.
unsafe impl Send for Mbuf {}
// SAFETY: `&Mbuf` only reads.
unsafe impl Sync for Mbuf {}

/// Why a frame could not be changed. It is as it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MbufError {
    /// Not enough bytes free before the frame.
    #[error("no room before the frame")]
    NoHeadroom,
    /// Not enough bytes free behind the frame.
    #[error("no room behind the frame")]
    NoTailroom,
    /// The frame has fewer bytes than were to go, or to stay.
    #[error("the frame is shorter than that")]
    TooShort,
    /// The frame is a chain of several mbufs.
    #[error("the frame is not contiguous")]
    NotContiguous,
}

impl Mbuf {
    /// # Safety
    /// `raw` must be an allocated mbuf that is used by nobody else from now on.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: NonNull<rte_mbuf>) -> Self {
        Self { raw }
    }

    /// The bytes of the frame; of the first mbuf only, if it is a chain.
    #[inline]
    #[must_use]
    pub fn data(&self) -> &[u8] {
        let fields = self.fields();
        let start = fields.buf_addr.cast::<u8>().cast_const();
        // SAFETY: `data_off` is within the buffer: DPDK sees to it, and every method here keeps it.
        let start = unsafe { start.add(usize::from(fields.data_off)) };
        // SAFETY: `data_off + data_len <= buf_len` for the same reason; the buffer is initialised
        // memory (a mapping of the kernel) and nobody writes to it while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(start, usize::from(fields.data_len)) }
    }

    /// The bytes of the frame, to change; of the first mbuf only, if it is a chain.
    #[inline]
    #[must_use]
    pub fn data_mut(&mut self) -> &mut [u8] {
        let fields = self.fields();
        let start = fields.buf_addr.cast::<u8>();
        // SAFETY: as in `data`.
        let start = unsafe { start.add(usize::from(fields.data_off)) };
        // SAFETY: as in `data`; the mbuf is ours alone (`Mbuf`) and borrowed mutably, so is its
        // buffer.
        unsafe { std::slice::from_raw_parts_mut(start, usize::from(fields.data_len)) }
    }

    /// Whether the device that received the frame found the checksum of its IPv4 header right
    /// ([`PortSettings::verify_ipv4_headers`](crate::PortSettings::verify_ipv4_headers)).
    #[inline]
    #[must_use]
    pub fn is_ipv4_header_verified(&self) -> bool {
        let flags = self.fields().ol_flags & dpdk_sys::SHIM_MBUF_IPV4_CHECKSUM_MASK;
        flags == dpdk_sys::SHIM_MBUF_IPV4_CHECKSUM_GOOD
    }

    /// How many bytes the frame has, all of its chain together.
    #[inline]
    #[must_use]
    pub fn length(&self) -> usize {
        self.fields().pkt_len as usize
    }

    /// Bytes free before the frame.
    #[inline]
    #[must_use]
    pub fn headroom(&self) -> usize {
        usize::from(self.fields().data_off)
    }

    /// The bytes directly before the frame, whatever they hold: where [`Mbuf::prepend`] puts more.
    #[inline]
    #[must_use]
    pub fn headroom_bytes(&self) -> &[u8] {
        let fields = self.fields();
        let start = fields.buf_addr.cast::<u8>().cast_const();
        // SAFETY: `data_off <= buf_len` (see `data`), so these are bytes of the buffer, which is
        // initialised memory (a mapping of the kernel) and written by nobody while `self` is
        // borrowed.
        unsafe { std::slice::from_raw_parts(start, usize::from(fields.data_off)) }
    }

    /// Bytes free behind the frame; none if it is a chain.
    #[inline]
    #[must_use]
    pub fn tailroom(&self) -> usize {
        let fields = self.fields();
        if fields.nb_segs == 1 {
            usize::from(free_behind(fields))
        } else {
            0
        }
    }

    /// Puts `count` bytes before the frame and returns them, to be filled: they hold what was
    /// there.
    ///
    /// # Errors
    /// [`MbufError::NoHeadroom`].
    #[inline]
    pub fn prepend(&mut self, count: usize) -> Result<&mut [u8], MbufError> {
        let fields = self.fields_mut();
        let added = u16::try_from(count).map_err(|_| MbufError::NoHeadroom)?;
        let data_off = fields
            .data_off
            .checked_sub(added)
            .ok_or(MbufError::NoHeadroom)?;
        fields.data_off = data_off;
        // Cannot overflow: `data_off + data_len` is as before and fits the buffer.
        fields.data_len = fields.data_len.wrapping_add(added);
        fields.pkt_len = fields.pkt_len.wrapping_add(u32::from(added));
        Ok(self.data_mut().get_mut(..count).unwrap_or_default())
    }

    /// Takes `count` bytes off the front of the frame (`rte_pktmbuf_adj`).
    ///
    /// # Errors
    /// [`MbufError::TooShort`].
    #[inline]
    pub fn adj(&mut self, count: usize) -> Result<(), MbufError> {
        let fields = self.fields_mut();
        let removed = u16::try_from(count).map_err(|_| MbufError::TooShort)?;
        fields.data_len = fields
            .data_len
            .checked_sub(removed)
            .ok_or(MbufError::TooShort)?;
        fields.data_off = fields.data_off.wrapping_add(removed);
        fields.pkt_len = fields.pkt_len.wrapping_sub(u32::from(removed));
        Ok(())
    }

    /// Puts `count` bytes behind the frame and returns them, to be filled: they hold what was
    /// there.
    ///
    /// # Errors
    /// [`MbufError::NoTailroom`] or [`MbufError::NotContiguous`].
    #[inline]
    pub fn append(&mut self, count: usize) -> Result<&mut [u8], MbufError> {
        let fields = self.fields_mut();
        if fields.nb_segs != 1 {
            return Err(MbufError::NotContiguous);
        }
        let added = u16::try_from(count).map_err(|_| MbufError::NoTailroom)?;
        if added > free_behind(fields) {
            return Err(MbufError::NoTailroom);
        }
        let before = usize::from(fields.data_len);
        fields.data_len = fields.data_len.wrapping_add(added);
        fields.pkt_len = fields.pkt_len.wrapping_add(u32::from(added));
        Ok(self.data_mut().get_mut(before..).unwrap_or_default())
    }

    /// Takes `count` bytes off the end of the frame (`rte_pktmbuf_trim`).
    ///
    /// # Errors
    /// [`MbufError::TooShort`] or [`MbufError::NotContiguous`].
    #[inline]
    pub fn trim(&mut self, count: usize) -> Result<(), MbufError> {
        let fields = self.fields_mut();
        if fields.nb_segs != 1 {
            return Err(MbufError::NotContiguous);
        }
        let removed = u16::try_from(count).map_err(|_| MbufError::TooShort)?;
        fields.data_len = fields
            .data_len
            .checked_sub(removed)
            .ok_or(MbufError::TooShort)?;
        fields.pkt_len = fields.pkt_len.wrapping_sub(u32::from(removed));
        Ok(())
    }

    /// The port the frame came in by, as its driver or [`Mbuf::set_port`] noted; `None` for one
    /// that was allocated. `net_ring` notes nothing.
    #[inline]
    #[must_use]
    pub fn port(&self) -> Option<PortId> {
        let port = self.fields().port;
        (port != dpdk_sys::SHIM_MBUF_PORT_INVALID).then_some(PortId(port))
    }

    /// Notes the port the frame came in by.
    #[inline]
    pub fn set_port(&mut self, port: PortId) {
        self.fields_mut().port = port.0;
    }

    /// Whether [`Mbuf::data`] is all of the frame.
    #[inline]
    #[must_use]
    pub fn is_contiguous(&self) -> bool {
        self.fields().nb_segs == 1
    }

    /// Copies a chain into its first mbuf.
    ///
    /// # Errors
    /// [`MbufError::NoTailroom`] if it is too long for that.
    pub fn linearize(&mut self) -> Result<(), MbufError> {
        // SAFETY: the mbuf and its chain are allocated and ours alone, as `Mbuf` has it.
        let code = unsafe { dpdk_sys::shim_mbuf_linearize(self.raw.as_ptr()) };
        if code < 0 {
            Err(MbufError::NoTailroom)
        } else {
            Ok(())
        }
    }

    /// Asks the device that will send the frame for the checksum of the UDP datagram behind `link_bytes` and `ip_bytes` of
    /// headers ([`Queues::fills_udp_checksums`](crate::Queues::fills_udp_checksums)). Its field holds the sum of the
    /// pseudo header, as every device wants it (DPDK's programmer's guide, "Meta Information").
    pub fn ask_udp_checksum(&mut self, link_bytes: u16, ip_bytes: u16, is_ipv6: bool) {
        // SAFETY: the mbuf is allocated and ours alone, as `Mbuf` has it; only its own fields are written.
        unsafe {
            dpdk_sys::shim_mbuf_ask_udp_checksum(self.raw.as_ptr(), link_bytes, ip_bytes, is_ipv6);
        }
    }

    /// Drops all frames of a burst with one call.
    #[inline]
    pub fn free_all<const N: usize>(burst: &mut ArrayVec<Self, N>) {
        let count = u32::try_from(burst.len()).unwrap_or(u32::MAX);
        let first = burst.as_mut_ptr().cast::<*mut rte_mbuf>();
        // SAFETY: shortening to nothing leaves no element that was not initialised. It makes the
        // burst forget the frames, which are DPDK's to free from here on.
        unsafe { burst.set_len(0) };
        // SAFETY: `first` is an array of `count` pointers to mbufs (`Mbuf` is one pointer), each
        // owned by the burst until the line above and by nobody since.
        unsafe { dpdk_sys::rte_pktmbuf_free_bulk(first, count) };
    }

    #[inline]
    fn fields(&self) -> &shim_mbuf {
        // SAFETY: `shim_mbuf` is laid out as the first cache line of `rte_mbuf` (asserted by
        // shim.c); the mbuf is allocated and nobody else writes to it (`Mbuf`).
        unsafe { self.raw.cast::<shim_mbuf>().as_ref() }
    }

    #[inline]
    fn fields_mut(&mut self) -> &mut shim_mbuf {
        // SAFETY: as in `fields`; nobody else reads it either, and `self` is borrowed mutably.
        unsafe { self.raw.cast::<shim_mbuf>().as_mut() }
    }
}

/// Bytes between the end of the data and the end of the buffer.
#[inline]
fn free_behind(fields: &shim_mbuf) -> u16 {
    fields
        .buf_len
        .wrapping_sub(fields.data_off)
        .wrapping_sub(fields.data_len)
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the mbuf is allocated, ours alone, and forgotten by this drop. Its pool is never
        // freed.
        unsafe { dpdk_sys::shim_mbuf_free(self.raw.as_ptr()) }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Mbuf")
            .field("port", &self.port())
            .field("length", &self.length())
            .field("headroom", &self.headroom())
            .finish_non_exhaustive()
    }
}
