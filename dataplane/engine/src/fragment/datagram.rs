//! The buffer in which a datagram is one packet.

use crate::frame::Frame;

/// The largest IP packet with link and tunnel headers, and what the parser may look beyond.
const BYTES: usize = 66 * 1024;
/// Room for the headers of tunnels, in front.
const HEADROOM: usize = 256;

/// A frame of up to 64 KiB.
#[derive(Debug)]
pub(super) struct Datagram {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for Datagram {
    fn default() -> Self {
        Self {
            buffer: vec![0; BYTES].into(),
            start: HEADROOM,
            end: HEADROOM,
        }
    }
}

impl Datagram {
    pub fn clear(&mut self) {
        (self.start, self.end) = (HEADROOM, HEADROOM);
    }

    /// Adds bytes behind those that are there. False, and nothing done, without room.
    pub fn extend(&mut self, bytes: &[u8]) -> bool {
        let end = self.end + bytes.len();
        let Some(room) = self.buffer.get_mut(self.end..end) else {
            return false;
        };
        room.copy_from_slice(bytes);
        self.end = end;
        true
    }
}

impl Frame for Datagram {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer
            .get_mut(self.start..self.end)
            .unwrap_or_default()
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
        self.start = (self.start + bytes).min(self.end);
    }

    fn truncate(&mut self, length: usize) {
        self.end = self.end.min(self.start + length);
    }

    fn refill(&mut self, parts: [&[u8]; 3]) -> bool {
        self.clear();
        parts.iter().all(|part| self.extend(part))
    }
}
