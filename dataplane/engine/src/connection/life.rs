//! The changing word of an entry: when it ends, its state, what was seen of it and how many entries it controls.
//!
//! ```text
//! expires (tick, 32 bits) | state (5) | reserved, live, no output, answered | packets (4) | children (19)
//! ```

use super::Direction;
use super::tcp_state::Side;
use super::{State, Steady, Timeouts};
use crate::clock::{TICKS_PER_SECOND, Tick};

/// How long an entry may stay unwritten while packets flow, in ticks: it lives up to that much longer than its timeout.
/// The kernel's timers are later than that (an eighth of the timeout).
pub(super) const REFRESH_TICKS: u32 = TICKS_PER_SECOND / 2;

/// Packets are counted up to so many: the kernel's `drop_entry` looks no further (`todrop_entry`).
pub const PACKETS_COUNTED_MAX: u8 = 8;

const STATE_SHIFT: u32 = 32;
const STATE: u64 = 0x1f << STATE_SHIFT;
/// Being inserted: found, and packets pass, but not to be stepped or removed yet. Another entry of the flow may still win.
const RESERVED: u64 = 1 << 37;
/// Inserted under all its keys.
pub(super) const LIVE: u64 = 1 << 38;
/// No answer seen: tunnel and direct.
const NO_OUTPUT: u64 = 1 << 39;
/// A packet of the server's has passed.
const ANSWERED: u64 = 1 << 40;
/// One more than the packets from the client, as long as they are few ([`Life::packets`]); 0: not counted.
const PACKETS_SHIFT: u32 = 41;
const PACKET: u64 = 1 << PACKETS_SHIFT;
const PACKETS: u64 = 0xf << PACKETS_SHIFT;
const FLAGS: u64 = RESERVED | LIVE | NO_OUTPUT | ANSWERED | PACKETS;
/// How many entries this one controls: it does not end before them.
const CHILDREN_SHIFT: u32 = 45;
const CHILD: u64 = 1 << CHILDREN_SHIFT;
const CHILDREN: u64 = u64::MAX << CHILDREN_SHIFT;

/// The changing word of an entry, read once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life(u64);

impl Life {
    /// One child more or less, and, for a template, another end.
    pub(super) fn with_child(self, expires: Tick) -> Option<Self> {
        Some(Self(self.0.checked_add(CHILD)?).ending_at(expires))
    }

    pub(super) fn without_child(self) -> Option<Self> {
        self.0.checked_sub(CHILD).map(Self)
    }

    pub(super) fn without_children(self) -> Self {
        Self(self.0 & !CHILDREN)
    }

    pub(super) fn ending_at(self, expires: Tick) -> Self {
        Self(self.0 & !u64::from(u32::MAX) | u64::from(expires.0))
    }

    pub(super) fn in_state(self, state: State) -> Self {
        Self(self.0 & !STATE | (state as u64) << STATE_SHIFT)
    }

    pub(super) fn word(self) -> u64 {
        self.0
    }

    pub(super) fn of_word(word: u64) -> Self {
        Self(word)
    }

    /// Of an entry that was just written, not live yet. `answers_pass`: the server's answers come by.
    pub(super) fn begun(
        state: State,
        expires: Tick,
        answers_pass: bool,
        counts_packets: bool,
    ) -> Self {
        let no_output = if answers_pass { 0 } else { NO_OUTPUT };
        let packets = if counts_packets { PACKET } else { 0 };
        Self::new(state, expires, RESERVED | no_output | packets)
    }

    fn new(state: State, expires: Tick, flags: u64) -> Self {
        Self(u64::from(expires.0) | (state as u64) << STATE_SHIFT | flags)
    }

    /// Whether this is the first answer after `before`.
    pub(super) fn is_first_answer_after(self, before: Self) -> bool {
        self.0 & !before.0 & ANSWERED != 0
    }

    /// Whether the entry is in use.
    #[inline]
    pub fn is_used(self) -> bool {
        self.0 & (RESERVED | LIVE) != 0
    }

    /// Whether the entry is in use and fully inserted.
    #[inline]
    pub fn is_live(self) -> bool {
        self.0 & LIVE != 0
    }

    /// The state.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // five bits are meant
    pub fn state(self) -> State {
        State::from_number((self.0 >> STATE_SHIFT) as u8 & 0x1f)
    }

    /// Whether its packets are still being counted.
    #[inline]
    pub fn is_counting(self) -> bool {
        self.0 & PACKETS != 0
    }

    /// Packets from the client; none when they were not counted from the first one on, or are more than
    /// [`PACKETS_COUNTED_MAX`].
    #[allow(clippy::cast_possible_truncation)] // four bits are meant
    pub fn packets(self) -> Option<u8> {
        ((self.0 & PACKETS) >> PACKETS_SHIFT)
            .checked_sub(1)
            .map(|count| count as u8)
    }

    /// One packet more.
    pub(super) fn with_packet(self) -> Self {
        match self.packets() {
            None => self,
            Some(PACKETS_COUNTED_MAX) => Self(self.0 & !PACKETS),
            Some(_) => Self(self.0 + PACKET),
        }
    }

    /// Whether it is in use, its time has not come, and nothing is to be noted of each of its packets.
    #[inline]
    pub fn is_alive_and_uncounted(self, now: Tick) -> bool {
        self.0 & (LIVE | PACKETS) == LIVE && !self.expires().has_passed(now)
    }

    /// Whether a packet that leaves state `steady` as it is leaves all of this as it is: the connection is alive and in that
    /// state, no packets are counted, answers were seen if this is one, and its end is not worth putting off.
    #[inline(always)]
    pub fn is_steady(
        self,
        now: Tick,
        timeouts: &Timeouts,
        steady: Steady,
        direction: Direction,
    ) -> bool {
        let state = u64::from(steady.number()) << STATE_SHIFT;
        let (mask, wanted) = match direction {
            Direction::Inbound => (STATE | LIVE | PACKETS, state | LIVE),
            Direction::Outbound => (
                STATE | LIVE | PACKETS | NO_OUTPUT | ANSWERED,
                state | LIVE | ANSWERED,
            ),
        };
        let expires = now.after(timeouts.of_steady(steady) + REFRESH_TICKS);
        // It wraps when the end is later than it would be put off to, and then is not small.
        let age = self.expires().until(expires).cast_unsigned();
        self.0 & mask == wanted && age < REFRESH_TICKS
    }

    /// When it ends without traffic.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the low half is meant
    pub fn expires(self) -> Tick {
        Tick(self.0 as u32)
    }

    /// How many entries this one controls.
    #[inline]
    pub fn children(self) -> u64 {
        self.0 >> CHILDREN_SHIFT
    }

    /// Whether it can count no more children.
    pub fn has_all_children(self) -> bool {
        self.0 & CHILDREN == CHILDREN
    }

    /// Whether its time has come and it controls no other entry.
    #[inline]
    pub fn is_over(self, now: Tick) -> bool {
        self.expires().has_passed(now) && self.children() == 0
    }

    /// Whether no answer was seen yet.
    #[inline]
    pub fn no_output(self) -> bool {
        self.0 & NO_OUTPUT != 0
    }

    /// Whether traffic has shown the connection to be real; UDP is when the server has answered.
    #[inline]
    pub fn is_established(self) -> bool {
        match self.state() {
            State::Udp => self.0 & ANSWERED != 0,
            state => state.is_established(),
        }
    }

    /// What a packet makes of it. Itself, when only the end would be put off by less than is worth a write, and unless it
    /// is live: one in nobody's use stays so, and one being inserted may be given up, which would take back no step.
    #[inline(always)]
    pub(super) fn stepped(
        self,
        now: Tick,
        timeouts: &Timeouts,
        direction: Direction,
        step: impl Fn(State, Side) -> State,
    ) -> Self {
        let (side, flags) = match direction {
            Direction::Outbound => (Side::Output, self.0 & !NO_OUTPUT | ANSWERED),
            Direction::Inbound if self.no_output() => (Side::InputOnly, self.0),
            Direction::Inbound => (Side::Input, self.0),
        };
        let before = self.state();
        let after = step(before, side);
        let expires = now.after(timeouts.of(after) + REFRESH_TICKS);
        let fresh = self.expires().until(expires).unsigned_abs() < REFRESH_TICKS;
        if (after == before && flags == self.0 && fresh) || !self.is_live() {
            self
        } else {
            Self::new(after, expires, flags & (FLAGS | CHILDREN))
        }
    }

    /// Whether it is in use and its time has not come.
    #[inline]
    pub fn is_alive(self, now: Tick) -> bool {
        self.is_used() && !self.expires().has_passed(now)
    }
}

/// A state change that this caller, and no other, made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub before: State,
    /// After.
    pub after: State,
    /// Whether it was the server's first answer.
    pub answered: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tcp_state;
    use crate::wire::tcp::flag;

    /// What passes unnoted would have changed nothing, and was alive: in every state, under all flags, about every end.
    #[test]
    fn a_steady_packet_would_change_nothing() {
        let timeouts = Timeouts::default();
        let mut steady_ones = 0;
        for state in State::ALL {
            for flags in 0..64u64 {
                for late in [-51, -50, -49, -1, 0, 1, 49, 50, 51, 100_000] {
                    let life = Life::new(state, Tick(25), flags << 37 & FLAGS | CHILD);
                    let full = timeouts.of(state) + REFRESH_TICKS;
                    let now = Tick(25u32.wrapping_sub(full).wrapping_add_signed(late));
                    for direction in [Direction::Inbound, Direction::Outbound] {
                        for tcp_flags in 0..64 {
                            let steady = match state {
                                State::Udp => Steady::UDP,
                                _ => Steady::of_tcp(tcp_flags),
                            };
                            if !life.is_steady(now, &timeouts, steady, direction) {
                                continue;
                            }
                            steady_ones += 1;
                            assert!(life.is_alive_and_uncounted(now));
                            let next =
                                life.stepped(
                                    now,
                                    &timeouts,
                                    direction,
                                    |state, side| match state {
                                        State::Udp => State::Udp,
                                        _ => tcp_state::next(state, side, tcp_flags),
                                    },
                                );
                            assert_eq!(next, life);
                        }
                    }
                }
            }
        }
        assert!(steady_ones > 0);
    }

    /// And nearly every packet is one: of an established connection, for most of the half second after it was noted.
    #[test]
    fn packets_of_established_connections_are_steady() {
        let timeouts = Timeouts::default();
        let begin = Tick(u32::MAX - 10);
        for (state, steady) in [
            (State::Established, Steady::of_tcp(flag::ACK)),
            (State::Udp, Steady::UDP),
        ] {
            let expires = begin.after(timeouts.of(state) + REFRESH_TICKS);
            let life = Life::new(state, expires, LIVE | ANSWERED);
            for direction in [Direction::Inbound, Direction::Outbound] {
                let is_steady =
                    |ticks| life.is_steady(begin.after(ticks), &timeouts, steady, direction);
                assert!((0..REFRESH_TICKS).all(is_steady));
                assert!(!is_steady(REFRESH_TICKS));
            }
            let unanswered = Life::new(state, expires, LIVE);
            assert!(!unanswered.is_steady(begin, &timeouts, steady, Direction::Outbound));
        }
    }
}
