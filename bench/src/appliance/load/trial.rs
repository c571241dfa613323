//! What came of a trial.

use hdrhistogram::Histogram;

/// Three figures of each latency are right.
const FIGURES: u8 = 3;
/// Later is as good as lost.
const LATENCY_MAX_NS: u64 = 1_000_000_000;
/// Who was away for longer than this was so through no fault of the program: a ring of 1024 frames may run over in 70 µs at
/// 14.88 million packets a second, and tails of latencies are of this order.
const AWAY_MAX_NS: u64 = 50_000;

/// Packets of a trial.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Packets that were to be sent, and were, as far as the ring had room.
    pub offered: u64,
    /// Packets the ring had room for.
    pub sent: u64,
    /// Packets that came back.
    pub came_back: u64,
    /// Whether all that was to be offered was, in time.
    pub kept_up: bool,
    /// Frames that came and were none of the trial's.
    pub strange: u64,
    /// From the first packet to the last.
    pub sending_ns: u64,
    /// Longest time the generator did not look at its link.
    pub longest_pause_ns: u64,
    /// Time the generator's thread waited for its CPU.
    pub generator_waited_ns: u64,
    /// Time the other end's worker waited for its CPU.
    pub worker_waited_ns: u64,
    /// Sending time of what was run again because somebody was away.
    pub discarded_ns: u64,
    /// From when each packet ought to have left until it was back, nanoseconds.
    pub latency: Histogram<u64>,
}

impl Default for Trial {
    fn default() -> Self {
        // Bounds that the crate takes; a histogram that grows is right as well.
        let latency = Histogram::new_with_max(LATENCY_MAX_NS, FIGURES)
            .or_else(|_| Histogram::new(FIGURES))
            .unwrap_or_else(|_| unreachable!("{FIGURES} figures are allowed"));
        Self {
            offered: 0,
            sent: 0,
            came_back: 0,
            kept_up: true,
            strange: 0,
            sending_ns: 0,
            longest_pause_ns: 0,
            generator_waited_ns: 0,
            worker_waited_ns: 0,
            discarded_ns: 0,
            latency,
        }
    }
}

impl Trial {
    /// A packet is back.
    #[inline]
    pub fn take(&mut self, latency_ns: u64) {
        self.came_back += 1;
        self.latency.saturating_record(latency_ns);
    }

    /// Packets that did not come back, of those offered.
    pub fn loss(&self) -> f64 {
        share(self.offered.saturating_sub(self.came_back), self.offered)
    }

    /// Packets the ring had no room for, of those offered.
    pub fn refused(&self) -> f64 {
        share(self.offered - self.sent, self.offered)
    }

    /// Packets a second that came back.
    pub fn returned_rate(&self) -> f64 {
        per_second(self.came_back, self.sending_ns)
    }

    /// Part of the time, discarded or not, that one of both ends waited for its CPU: the one that waited longer.
    pub fn waited_share(&self) -> f64 {
        let waited = self.generator_waited_ns.max(self.worker_waited_ns);
        share(waited, self.sending_ns + self.discarded_ns)
    }

    /// Part of the time that was discarded.
    pub fn discarded_share(&self) -> f64 {
        share(self.discarded_ns, self.sending_ns + self.discarded_ns)
    }

    /// Another piece of the same trial.
    pub fn add(&mut self, piece: &Self) {
        self.offered += piece.offered;
        self.sent += piece.sent;
        self.came_back += piece.came_back;
        self.kept_up &= piece.kept_up;
        self.strange += piece.strange;
        self.sending_ns += piece.sending_ns;
        self.longest_pause_ns = self.longest_pause_ns.max(piece.longest_pause_ns);
        self.add_waits(piece);
        // Both have the same bounds, so it is taken.
        let _ = self.latency.add(&piece.latency);
    }

    /// A piece that does not count, as it was disturbed.
    pub fn discard(&mut self, piece: &Self) {
        self.discarded_ns += piece.sending_ns;
        self.add_waits(piece);
    }

    fn add_waits(&mut self, piece: &Self) {
        self.generator_waited_ns += piece.generator_waited_ns;
        self.worker_waited_ns += piece.worker_waited_ns;
    }

    /// Whether one of both ends was away, through no fault of the program.
    pub fn was_disturbed(&self) -> bool {
        let waited = self.generator_waited_ns + self.worker_waited_ns;
        waited.max(self.longest_pause_ns) > AWAY_MAX_NS
    }
}

#[allow(clippy::cast_precision_loss)] // of counts below 2^53
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[allow(clippy::cast_precision_loss)] // as above
fn per_second(count: u64, nanoseconds: u64) -> f64 {
    count as f64 * 1e9 / nanoseconds.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial() -> Trial {
        let mut trial = Trial {
            offered: 1000,
            sent: 990,
            sending_ns: 1_000_000,
            worker_waited_ns: 10_000,
            ..Trial::default()
        };
        for latency in 1..=980 {
            trial.take(latency * 1000);
        }
        trial
    }

    #[test]
    fn shares_are_of_what_was_offered() {
        let trial = trial();
        let near = |value: f64, wanted: f64| (value - wanted).abs() < wanted * 1e-9;
        assert!(near(trial.loss(), 0.02) && near(trial.refused(), 0.01));
        assert!(near(trial.returned_rate(), 0.98e6));
        assert!(near(trial.waited_share(), 0.01));
        assert_eq!(Trial::default().loss().to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn percentiles_have_three_figures() {
        let latency = trial().latency;
        let near = |quantile: f64, wanted: u64| {
            latency.value_at_quantile(quantile).abs_diff(wanted) <= wanted / 1000 + 1
        };
        assert!(near(0.5, 490_000) && near(0.99, 971_000) && near(0.999, 980_000));
    }

    #[test]
    fn who_is_away_disturbs() {
        let mut trial = trial();
        assert!(!trial.was_disturbed());
        trial.longest_pause_ns = 60_000;
        assert!(trial.was_disturbed());
        trial.longest_pause_ns = 40_000;
        trial.generator_waited_ns = 45_000;
        assert!(trial.was_disturbed());
    }

    #[test]
    fn what_is_discarded_counts_as_time_only() {
        let (mut sum, mut lossy) = (trial(), trial());
        lossy.came_back = 0;
        sum.add(&trial());
        sum.discard(&lossy);
        assert_eq!(
            (sum.offered, sum.came_back, sum.latency.len()),
            (2000, 1960, 1960)
        );
        assert_eq!((sum.sending_ns, sum.discarded_ns), (2_000_000, 1_000_000));
        assert_eq!(sum.worker_waited_ns, 30_000);
        assert!((sum.discarded_share() - 1.0 / 3.0).abs() < 1e-9);
        assert!((sum.waited_share() - 0.01).abs() < 1e-9);
    }
}
