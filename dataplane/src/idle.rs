//! What a worker does when nothing arrives: spin, or sleep a little longer each time.

use std::time::Duration;

use pollux_api::settings::PollMode;

/// Empty loops before the first sleep.
const SPINS: u32 = 128;
const SLEEP_MIN: Duration = Duration::from_micros(10);
/// The most that sleeping adds to the latency of a first packet.
const SLEEP_MAX: Duration = Duration::from_micros(500);

/// How long a worker has had nothing to do.
#[derive(Debug)]
pub struct Idle {
    mode: PollMode,
    empty_loops: u32,
    sleep: Duration,
}

impl Idle {
    /// A worker that has just had something to do.
    pub fn new(mode: PollMode) -> Self {
        Self {
            mode,
            empty_loops: 0,
            sleep: SLEEP_MIN,
        }
    }

    /// After each loop: how long to sleep, if at all.
    #[inline]
    pub fn after_loop(&mut self, found_packets: bool) -> Option<Duration> {
        if found_packets {
            self.empty_loops = 0;
            self.sleep = SLEEP_MIN;
            return None;
        }
        self.empty_loops = self.empty_loops.saturating_add(1);
        if self.mode == PollMode::Busy || self.empty_loops < SPINS {
            std::hint::spin_loop();
            return None;
        }
        let sleep = self.sleep;
        self.sleep = (sleep * 2).min(SLEEP_MAX);
        Some(sleep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_never_sleeps() {
        let mut idle = Idle::new(PollMode::Busy);
        assert!((0..10_000).all(|_| idle.after_loop(false).is_none()));
    }

    #[test]
    fn adaptive_sleeps_longer_and_longer_until_a_packet_comes() {
        let mut idle = Idle::new(PollMode::Adaptive);
        let sleeps: Vec<Duration> = (0..SPINS + 20)
            .filter_map(|_| idle.after_loop(false))
            .collect();
        assert_eq!(sleeps.first(), Some(&SLEEP_MIN));
        assert!(sleeps.is_sorted());
        assert_eq!(sleeps.last(), Some(&SLEEP_MAX));
        assert_eq!(idle.after_loop(true), None);
        assert_eq!(idle.after_loop(false), None);
    }
}
