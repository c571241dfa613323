//! A control connection of FTP (`ip_vs_ftp.c`): what its client waits for, and by how much the text that the director
//! has replaced has put off the server's sequence numbers (as `nf_conntrack_seqadj.c` does).
//!
//! All of it is one word, in the line of the entry, where other connections have their way back: it is there after a
//! restart, and there are as many as connections. Only replies are ever rewritten: one direction has numbers to mend.
//!
//! ```text
//! 0..32   position  sequence number, as the server counts, of the last reply that was rewritten
//! 32..34  waiting   for no reply, 227, or 229
//! 34      replied   whether there was a reply
//! 35..42  step      by how much that reply has grown, bytes, signed
//! 42..64  shift     by how much what follows it is put off, bytes, signed
//! ```

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::entry::Connection;
use crate::wire::sync::Sequence;

/// Which reply the client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// None.
    Nothing,
    /// 227.
    Passive,
    /// 229.
    ExtendedPassive,
}

/// The word, read once. 0 at the connection's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct FtpControl(u64);

const WAITING_SHIFT: u32 = 32;
const WAITING: u64 = 3 << WAITING_SHIFT;
const REPLIED: u64 = 1 << 34;
const STEP_SHIFT: u32 = 35;
const STEP_BITS: u32 = 7;
const SHIFT_SHIFT: u32 = 42;
const STEP_MAX: i32 = (1 << (STEP_BITS - 1)) - 1;
const SHIFT_MAX: i32 = (1 << (63 - SHIFT_SHIFT)) - 1;

impl FtpControl {
    pub fn waiting(self) -> Waiting {
        match (self.0 & WAITING) >> WAITING_SHIFT {
            1 => Waiting::Passive,
            2 => Waiting::ExtendedPassive,
            _ => Waiting::Nothing,
        }
    }

    #[must_use]
    pub fn waiting_for(self, reply: Waiting) -> Self {
        let number = match reply {
            Waiting::Nothing => 0,
            Waiting::Passive => 1,
            Waiting::ExtendedPassive => 2,
        };
        Self(self.0 & !WAITING | number << WAITING_SHIFT)
    }

    /// Whether a segment that begins there is the last reply once more.
    pub fn is_repeated(self, sequence: u32) -> bool {
        self.0 & REPLIED != 0 && sequence == self.position()
    }

    /// Whether the connection's numbers are as they came.
    pub fn is_unshifted(self) -> bool {
        self.after() == 0 && self.before() == 0
    }

    /// A reply at `sequence`, as the server counts, has grown by `step` bytes. The last one, sent again, changes
    /// nothing. None when the sum is too large to keep.
    pub fn replied(self, sequence: u32, step: i32) -> Option<Self> {
        let done = self.waiting_for(Waiting::Nothing);
        if self.0 & REPLIED != 0 && !is_after(sequence, self.position()) {
            return Some(done);
        }
        Self::put_off(sequence, step, self.after() + step)
    }

    /// What follows `sequence` is put off by `shift` in all, by `step` more than what comes before.
    fn put_off(sequence: u32, step: i32, shift: i32) -> Option<Self> {
        if step.unsigned_abs() > STEP_MAX.unsigned_abs()
            || shift.unsigned_abs() > SHIFT_MAX.unsigned_abs()
        {
            return None;
        }
        #[allow(clippy::cast_sign_loss)] // two's complement is meant
        let fields = (i64::from(step) as u64 & ((1 << STEP_BITS) - 1)) << STEP_SHIFT
            | (i64::from(shift) as u64) << SHIFT_SHIFT;
        Some(Self(u64::from(sequence) | REPLIED | fields))
    }

    /// A sequence number of the server's as the client is to see it.
    pub fn to_client(self, sequence: u32) -> u32 {
        let shift = if is_after(sequence, self.position()) {
            self.after()
        } else {
            self.before()
        };
        sequence.wrapping_add_signed(shift)
    }

    /// What a client acknowledges as the server counts.
    pub fn to_server(self, acknowledged: u32) -> u32 {
        let before = acknowledged.wrapping_add_signed(-self.before());
        if is_after(before, self.position()) {
            acknowledged.wrapping_add_signed(-self.after())
        } else {
            before
        }
    }

    /// How another director is told by how much the server's numbers are put off.
    pub fn sequence(self) -> Sequence {
        Sequence {
            position: self.position(),
            delta: self.after(),
            previous_delta: self.before(),
        }
    }

    /// What another director has told of that; none when it is more than can be kept.
    fn of_sequence(told: Sequence) -> Option<Self> {
        if told.delta == 0 && told.previous_delta == 0 {
            return Some(Self::default());
        }
        let step = told.delta.checked_sub(told.previous_delta)?;
        Self::put_off(told.position, step, told.delta)
    }

    #[allow(clippy::cast_possible_truncation)] // the low half is meant
    fn position(self) -> u32 {
        self.0 as u32
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // a signed field is meant
    fn after(self) -> i32 {
        (self.0 as i64 >> SHIFT_SHIFT) as i32
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // a signed field is meant
    fn before(self) -> i32 {
        let step = (self.0 << (64 - STEP_SHIFT - STEP_BITS)) as i64 >> (64 - STEP_BITS);
        self.after() - step as i32
    }
}

/// Whether `a` comes after `b`, as sequence numbers do.
#[allow(clippy::cast_possible_wrap)] // that is how they are compared
fn is_after(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) < 0
}

impl Connection<'_> {
    /// What is known of it as a control connection of FTP.
    pub(crate) fn ftp_control(&self) -> FtpControl {
        FtpControl(self.route_word().load(Acquire))
    }

    /// Changes that. `None` of `change` leaves it, and is returned.
    pub(crate) fn change_ftp_control(
        &self,
        change: impl Fn(FtpControl) -> Option<FtpControl>,
    ) -> Option<()> {
        let changed = self.route_word().fetch_update(AcqRel, Relaxed, |word| {
            change(FtpControl(word)).map(|next| next.0)
        });
        changed.ok().map(|_| ())
    }

    /// Takes over from another director by how much the server's numbers are put off. False when it is more than can be kept.
    pub(crate) fn take_sequence(&self, told: Sequence) -> bool {
        self.change_ftp_control(|_| FtpControl::of_sequence(told))
            .is_some()
    }

    /// Counts one more connection that this one controls, and leaves its end where it is. False when it has ended.
    pub(crate) fn adopt_data(&self) -> bool {
        self.change_life(|life| life.with_child(life.expires()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn another_director_goes_on_with_the_same_numbers() {
        let control = FtpControl::default().replied(1000, 3).unwrap();
        let control = control.replied(2000, -5).unwrap();
        let told = control.sequence();
        assert_eq!(
            (told.position, told.delta, told.previous_delta),
            (2000, -2, 3)
        );
        let taken = FtpControl::of_sequence(told).unwrap();
        for number in [999, 1000, 1999, 2000, 2001, 3000] {
            assert_eq!(taken.to_client(number), control.to_client(number));
        }
        for (delta, previous_delta) in [(64, 0), (i32::MIN, 0), (i32::MIN, 1), (1 << 22, 1 << 22)] {
            let told = Sequence {
                position: 0,
                delta,
                previous_delta,
            };
            assert_eq!(FtpControl::of_sequence(told), None, "{told:?}");
        }
    }

    #[test]
    fn numbers_move_by_what_has_grown() {
        let control = FtpControl::default().waiting_for(Waiting::Passive);
        assert!(control.is_unshifted());
        let control = control.replied(1000, 3).unwrap();
        assert_eq!(control.waiting(), Waiting::Nothing);
        assert!(control.is_repeated(1000));
        assert_eq!(
            [999, 1000, 1050].map(|n| control.to_client(n)),
            [999, 1000, 1053]
        );
        assert_eq!([1000, 1053].map(|n| control.to_server(n)), [1000, 1050]);
        // Sent again.
        assert_eq!(control.replied(1000, 3), Some(control));
        let control = control.replied(2000, -5).unwrap();
        assert_eq!([2000, 2001].map(|n| control.to_client(n)), [2003, 1999]);
        assert!(control.replied(3000, 64).is_none());
    }

    proptest! {
        /// A server's stream of replies, some of which grow: what a client has acknowledged comes to the server as what
        /// it had sent, also when segments are sent again.
        #[test]
        fn what_is_acknowledged_was_sent(first: u32, replies in prop::collection::vec((-20i32..20, 30u32..90, any::<bool>()), 1..200)) {
            let (mut control, mut server, mut client) = (FtpControl::default(), first, first);
            for (step, length, is_passive) in replies {
                let step = if is_passive { step } else { 0 };
                if is_passive {
                    for _ in 0..2 {
                        control = control.replied(server, step).unwrap();
                        prop_assert_eq!(control.to_client(server), client);
                        prop_assert_eq!(control.to_server(client), server);
                    }
                }
                prop_assert_eq!(control.to_client(server), client);
                server = server.wrapping_add(length);
                client = client.wrapping_add_signed(length.cast_signed() + step);
                prop_assert_eq!(control.to_client(server), client);
                prop_assert_eq!(control.to_server(client), server);
            }
        }
    }
}
