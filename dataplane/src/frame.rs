//! A received mbuf as the engine's [`Frame`].

use dpdk_bindings::Mbuf;
use pollux_engine::Frame;

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

    #[inline]
    fn truncate(&mut self, length: usize) {
        // Not more than there are, so it cannot be refused.
        let _ = self.0.trim(self.0.length().saturating_sub(length));
    }
}
