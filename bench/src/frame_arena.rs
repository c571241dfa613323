//! Frames in memory of their own, allocated once and laid out like DPDK's mbufs: what describes a frame on one cache
//! line, headroom and bytes on the next ones.

use pollux_engine::Frame;

/// Room in front of a fresh frame: DPDK's.
pub const HEADROOM: usize = 128;
/// Bytes of the longest frame written here.
pub const FRAME_BYTES_MAX: usize = 128;
/// Frames of an arena: the depth of a receive ring, so that a worker finds its frames in the second cache at best.
pub const RING: usize = 1024;

#[repr(C, align(64))]
#[derive(Debug, Clone)]
struct Room([u8; HEADROOM + FRAME_BYTES_MAX]);

/// One frame. As with an mbuf, where it starts needs no comparison with the size of its room: a byte cannot say more.
#[repr(C, align(64))]
#[derive(Debug, Clone)]
pub struct ArenaFrame {
    start: u8,
    length: u16,
    room: Room,
}

const _: () = assert!(HEADROOM + FRAME_BYTES_MAX == u8::MAX as usize + 1);

/// A ring of frames.
pub fn ring() -> Vec<ArenaFrame> {
    let empty = ArenaFrame {
        start: HEADROOM as u8,
        length: 0,
        room: Room([0; HEADROOM + FRAME_BYTES_MAX]),
    };
    vec![empty; RING]
}

impl ArenaFrame {
    /// Makes it a fresh frame of so many bytes, and gives the room for them. The rest of the room may be written too.
    #[inline]
    pub fn reset(&mut self, length: usize) -> &mut [u8; FRAME_BYTES_MAX] {
        self.start = HEADROOM as u8;
        self.length = length.min(FRAME_BYTES_MAX) as u16;
        let Room(bytes) = &mut self.room;
        match bytes.last_chunk_mut::<FRAME_BYTES_MAX>() {
            Some(room) => room,
            None => unreachable!("the room is longer than a frame"),
        }
    }
}

impl Frame for ArenaFrame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        let rest = self.room.0.get(usize::from(self.start)..);
        rest.and_then(|rest| rest.get(..usize::from(self.length)))
            .unwrap_or_default()
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        let rest = self.room.0.get_mut(usize::from(self.start)..);
        rest.and_then(|rest| rest.get_mut(..usize::from(self.length)))
            .unwrap_or_default()
    }

    #[inline]
    fn headroom(&self) -> &[u8] {
        self.room
            .0
            .get(..usize::from(self.start))
            .unwrap_or_default()
    }

    #[inline]
    fn prepend(&mut self, bytes: usize) -> bool {
        match u8::try_from(bytes)
            .ok()
            .and_then(|bytes| self.start.checked_sub(bytes))
        {
            Some(start) => {
                self.start = start;
                self.length += bytes as u16;
                true
            }
            None => false,
        }
    }

    #[inline]
    fn trim_front(&mut self, bytes: usize) {
        let bytes = bytes.min(usize::from(self.length));
        // As long as the frame at most, which lies within the room.
        self.start = self.start.saturating_add(bytes as u8);
        self.length -= bytes as u16;
    }

    #[inline]
    fn truncate(&mut self, length: usize) {
        self.length = self.length.min(u16::try_from(length).unwrap_or(u16::MAX));
    }

    fn refill(&mut self, parts: [&[u8]; 3]) -> bool {
        let room = self.reset(0);
        let mut end = 0;
        for part in parts {
            let Some(place) = room.get_mut(end..end + part.len()) else {
                return false;
            };
            place.copy_from_slice(part);
            end += part.len();
        }
        self.length = end as u16;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_as_a_frame_on_the_heap() {
        let mut ring = ring();
        let frame = &mut ring[1];
        frame.reset(4)[..4].copy_from_slice(&[1, 2, 3, 4]);
        assert_eq!(frame.bytes(), [1, 2, 3, 4]);
        assert_eq!(frame.headroom().len(), HEADROOM);
        assert!(frame.prepend(2) && !frame.prepend(HEADROOM));
        frame.bytes_mut()[..2].copy_from_slice(&[8, 9]);
        assert_eq!(frame.bytes(), [8, 9, 1, 2, 3, 4]);
        frame.truncate(5);
        frame.truncate(9);
        frame.trim_front(1);
        assert_eq!(frame.bytes(), [9, 1, 2, 3]);
        frame.trim_front(99);
        assert!(frame.bytes().is_empty());
        frame.reset(3);
        assert_eq!(frame.bytes(), [1, 2, 3]);
    }

    #[test]
    fn bytes_begin_on_a_cache_line() {
        let mut ring = ring();
        assert_eq!(ring.len(), RING);
        for frame in &mut ring {
            frame.reset(60);
            assert_eq!(frame.bytes().as_ptr().addr() % 64, 0);
        }
    }
}
