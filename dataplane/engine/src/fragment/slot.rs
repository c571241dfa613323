//! A datagram of which fragments have come.

use arrayvec::ArrayVec;

use super::piece::{DatagramKey, Piece};
use crate::clock::Tick;
use crate::fate::Fate;

/// Fragments of a datagram, at most: 45 are enough for the largest one in Ethernet frames.
pub(super) const PIECES_MAX: usize = 64;
/// The largest IP packet.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// A fragment that waits.
#[derive(Debug)]
pub(super) struct Waiting<F> {
    pub piece: Piece,
    /// The port it came in by.
    pub ingress: u16,
    pub frame: F,
}

/// One datagram's fragments, in the order they are in it.
#[derive(Debug)]
pub(super) struct Slot<F> {
    pub key: DatagramKey,
    pub expires: Tick,
    pub pieces: ArrayVec<Waiting<F>, PIECES_MAX>,
    /// Bytes of payload, once the last one has come.
    total: Option<usize>,
}

/// What became of a fragment.
pub(super) enum Added<F> {
    /// It waits.
    Waits,
    /// The datagram is whole.
    Whole,
    /// It is refused; the others go on waiting.
    Refused(Waiting<F>, Fate),
    /// The whole datagram is refused.
    Spoilt(Waiting<F>, Fate),
}

impl<F> Slot<F> {
    pub fn new(key: DatagramKey, expires: Tick) -> Self {
        Self {
            key,
            expires,
            pieces: ArrayVec::new(),
            total: None,
        }
    }

    pub fn add(&mut self, new: Waiting<F>) -> Added<F> {
        let Piece {
            offset,
            length,
            more,
            ..
        } = new.piece;
        let end = new.piece.end();
        let broken = length == 0 || (more && length % 8 != 0) || end > DATAGRAM_BYTES_MAX;
        if broken {
            return Added::Refused(new, Fate::FragmentBroken);
        }
        for known in &self.pieces {
            let (from, to) = (known.piece.offset, known.piece.end());
            if offset >= from && end <= to {
                return Added::Refused(new, Fate::FragmentDuplicate);
            }
            if offset < to && end > from {
                return Added::Spoilt(new, Fate::FragmentOverlap);
            }
        }
        let reaches = self.pieces.last().map_or(0, |last| last.piece.end());
        let beyond_end = self.total.is_some_and(|total| end > total);
        let end_before = !more && (reaches > end || self.total.is_some_and(|total| total != end));
        if beyond_end || end_before {
            return Added::Spoilt(new, Fate::FragmentOverlap);
        }
        if self.pieces.is_full() {
            return Added::Spoilt(new, Fate::FragmentsFull);
        }
        if !more {
            self.total = Some(end);
        }
        let place = self
            .pieces
            .partition_point(|known| known.piece.offset < offset);
        // There is room, and the place is within.
        let _ = self.pieces.try_insert(place, new);
        let sum: usize = self.pieces.iter().map(|known| known.piece.length).sum();
        if self.total == Some(sum) {
            Added::Whole
        } else {
            Added::Waits
        }
    }
}
