//! When packets are to leave: at even distances, whatever became of those before them.
//!
//! A generator that waits for a slow answer before it sends the next packet leaves out just those packets that would have
//! been slow too (*coordinated omission*). Here every packet has a time at which it ought to leave, reckoned from its
//! number alone, and its latency counts from then.

use std::time::Duration;

/// An even schedule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    start_ns: u64,
    packets_per_second: f64,
}

impl Pace {
    /// Of so many packets a second from a moment on.
    pub fn new(start_ns: u64, packets_per_second: f64) -> Self {
        Self {
            start_ns,
            packets_per_second,
        }
    }

    /// Packets of so long a time.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
    pub fn packets_in(&self, duration: Duration) -> u64 {
        (duration.as_secs_f64() * self.packets_per_second) as u64
    }

    /// Packets that ought to have left by now, the first one at the start: the one with this number is the next.
    #[inline]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )] // below 2^53 nanoseconds: a hundred days
    pub fn due(&self, now_ns: u64) -> u64 {
        let elapsed = now_ns.saturating_sub(self.start_ns) as f64;
        (elapsed * (self.packets_per_second / 1e9)) as u64 + 1
    }

    /// When the packet with this number ought to leave.
    #[inline]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )] // as above
    pub fn intended_ns(&self, number: u64) -> u64 {
        self.start_ns + (number as f64 * (1e9 / self.packets_per_second)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_leave_at_even_distances() {
        let pace = Pace::new(1_000, 1e6);
        assert_eq!(pace.packets_in(Duration::from_millis(3)), 3_000);
        assert_eq!((pace.due(1_000), pace.due(1_999)), (1, 1));
        assert_eq!((pace.due(2_000), pace.due(1_000_999)), (2, 1_000));
        assert_eq!((pace.intended_ns(0), pace.intended_ns(7)), (1_000, 8_000));
    }

    /// A pause is made good: what ought to have left meanwhile is due at once, and its time is that of before.
    #[test]
    fn a_pause_moves_no_packet() {
        let pace = Pace::new(0, 2e6);
        let (before, after) = (pace.due(10_000), pace.due(1_010_000));
        assert_eq!(after - before, 2_000);
        assert_eq!(pace.intended_ns(before), 10_500);
    }

    /// One that left later would seem to have been on its way for as long as packets are apart.
    #[test]
    fn a_packet_is_due_when_it_is_meant_to_leave() {
        for rate in [1.0, 1e4, 3.3e6, 14_880_952.4] {
            let pace = Pace::new(77, rate);
            for number in [0, 1, 2, 999] {
                let intended = pace.intended_ns(number);
                assert!(pace.due(intended + 1) > number, "{number} at {rate}");
                assert!(pace.due(intended.saturating_sub(2)) <= number.max(1));
            }
        }
    }

    #[test]
    fn nothing_is_lost_by_rounding_in_a_long_trial() {
        let pace = Pace::new(5, 14_880_952.4);
        let end = 5 + 60_000_000_000;
        let packets = pace.packets_in(Duration::from_secs(60));
        assert!(pace.due(end).abs_diff(packets) <= 1);
        assert!(pace.intended_ns(packets).abs_diff(end) <= 100);
    }
}
