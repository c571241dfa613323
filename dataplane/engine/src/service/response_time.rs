//! How long a server takes to answer a SYN, seen at the director: what `ewma` goes by.
//!
//! As TCP measures its round trips when it has no timestamps, one SYN at a time is timed (RFC 6298, section 3), and each
//! time moves the mean an eighth of the way (its `alpha`). A SYN without an answer speaks too: while it waits, the mean is
//! at least as long as it has waited, so that a server that hangs is found slow by the next connection and not after many.
//! A mean that nothing has confirmed for a while halves with each [`HALVED_EVERY`]: whoever was slow is asked again.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::clock::{Microsecond, Tick, seconds};

/// A SYN without an answer for so long is taken for answered now, and another one is timed. Microseconds: TCP's first
/// retransmission comes after one second, its second after three.
const GIVEN_UP_AFTER: u32 = 3_000_000;
/// After so many ticks without a new time a mean is worth half.
const HALVED_EVERY: u32 = seconds(10);
/// A mean is at least so long: it divides.
const MEAN_MIN: u32 = 1;

/// The mean of one server's times, shared by all workers.
#[derive(Debug, Default)]
pub struct ResponseTime {
    /// `mean in microseconds << 32 | tick of the latest time`; 0: none yet.
    mean: AtomicU64,
    /// The SYN that is timed: `its connection's fingerprint + 1 << 32 | when it was sent`; 0: none is.
    timed: AtomicU64,
}

#[allow(clippy::cast_possible_truncation)] // the halves are meant
fn halves(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

fn word(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

impl ResponseTime {
    /// The SYN of the connection with this fingerprint was sent.
    pub fn sent(&self, fingerprint: u32, now: Microsecond, tick: Tick) {
        let timed = self.timed.load(Relaxed);
        let (waiting, since) = halves(timed);
        if waiting != 0 {
            if now.since(Microsecond(since)) < GIVEN_UP_AFTER {
                return;
            }
            self.learn(GIVEN_UP_AFTER, tick);
        }
        let new = word(fingerprint.wrapping_add(1), now.0);
        // Another worker's will do as well.
        let _ = self.timed.compare_exchange(timed, new, Relaxed, Relaxed);
    }

    /// The server has sent a packet of the connection with this fingerprint.
    pub fn answered(&self, fingerprint: u32, now: Microsecond, tick: Tick) {
        let timed = self.timed.load(Relaxed);
        let (waiting, since) = halves(timed);
        let is_it = waiting != 0 && waiting == fingerprint.wrapping_add(1);
        let mine = is_it
            && self
                .timed
                .compare_exchange(timed, 0, Relaxed, Relaxed)
                .is_ok();
        if mine {
            self.learn(now.since(Microsecond(since)).min(GIVEN_UP_AFTER), tick);
        }
    }

    fn learn(&self, time: u32, tick: Tick) {
        let known = self.mean.load(Relaxed);
        let (mean, _) = halves(known);
        let next = if mean == 0 {
            time
        } else {
            // An eighth of the way, and at least one step of it.
            let way = i64::from(time) - i64::from(mean);
            let step = if way.abs() < 8 { way.signum() } else { way / 8 };
            u32::try_from(i64::from(mean) + step).unwrap_or(mean)
        };
        let next = word(next.max(MEAN_MIN), tick.0);
        // A time that another worker learned at this moment stands for this one.
        let _ = self.mean.compare_exchange(known, next, Relaxed, Relaxed);
    }

    /// The mean as far as it is known, microseconds, at least 1.
    pub fn mean(&self, now: Microsecond, tick: Tick) -> Option<u32> {
        let (mean, learned) = halves(self.mean.load(Relaxed));
        let age = Tick(learned).until(tick).max(0).unsigned_abs();
        let aged = (mean != 0).then(|| (mean.checked_shr(age / HALVED_EVERY)).unwrap_or(0));
        let (waiting, since) = halves(self.timed.load(Relaxed));
        let waits = (waiting != 0).then(|| now.since(Microsecond(since)).min(GIVEN_UP_AFTER));
        match (aged, waits) {
            // One that was never timed is not known to be fast because it was asked a moment ago.
            (None, Some(waits)) if waits < GIVEN_UP_AFTER / 8 => None,
            (None, None) => None,
            (aged, waits) => Some(aged.max(waits).unwrap_or(0).max(MEAN_MIN)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Tick = Tick(100);

    fn after(times: &[u32]) -> ResponseTime {
        let found = ResponseTime::default();
        for (time, at) in times.iter().zip((0..).step_by(10_000_000)) {
            found.sent(7, Microsecond(at), TICK);
            found.answered(7, Microsecond(at + time), TICK);
        }
        found
    }

    #[test]
    fn the_mean_moves_an_eighth_of_the_way() {
        let mean = |times: &[u32]| after(times).mean(Microsecond(u32::MAX / 2), TICK);
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[800]), Some(800));
        assert_eq!(mean(&[800, 1600]), Some(900));
        assert_eq!(mean(&[800, 0]), Some(700));
        assert_eq!(mean(&[0]), Some(1));
        assert_eq!(mean(&[10; 50]), Some(10));
        // It gets there, not only near it.
        assert_eq!(mean(&[[20].as_slice(), &[10; 50]].concat()), Some(10));
    }

    #[test]
    fn one_syn_at_a_time_and_only_its_own_answer() {
        let found = ResponseTime::default();
        found.sent(1, Microsecond(0), TICK);
        found.sent(2, Microsecond(50), TICK);
        found.answered(2, Microsecond(60), TICK);
        assert_eq!(found.mean(Microsecond(60), TICK), None);
        found.answered(1, Microsecond(100), TICK);
        found.answered(1, Microsecond(9000), TICK);
        assert_eq!(found.mean(Microsecond(9000), TICK), Some(100));
    }

    #[test]
    fn a_server_that_hangs_is_slow_at_once_and_given_up() {
        let found = after(&[100]);
        found.sent(8, Microsecond(1_000_000), TICK);
        assert_eq!(found.mean(Microsecond(1_000_050), TICK), Some(100));
        assert_eq!(found.mean(Microsecond(1_400_000), TICK), Some(400_000));
        found.sent(9, Microsecond(9_000_000), TICK);
        // An eighth of the way to 3 s.
        assert_eq!(found.mean(Microsecond(9_000_000), TICK), Some(375_087));
        found.answered(9, Microsecond(9_000_100), TICK);
        let mean = found.mean(Microsecond(9_000_100), TICK);
        assert!(mean.is_some_and(|mean| mean < 375_087), "{mean:?}");
    }

    #[test]
    fn one_that_never_answered_becomes_known_as_slow() {
        let found = ResponseTime::default();
        found.sent(0, Microsecond(0), TICK);
        assert_eq!(found.mean(Microsecond(1000), TICK), None);
        assert_eq!(found.mean(Microsecond(1_000_000), TICK), Some(1_000_000));
    }

    #[test]
    fn what_nothing_confirms_halves() {
        let found = after(&[80_000]);
        let mean = |ticks| found.mean(Microsecond(5), TICK.after(ticks));
        assert_eq!(mean(HALVED_EVERY - 1), Some(80_000));
        assert_eq!(mean(HALVED_EVERY), Some(40_000));
        assert_eq!(mean(3 * HALVED_EVERY), Some(10_000));
        assert_eq!(mean(100 * HALVED_EVERY), Some(1));
    }
}
