//! How many entries a worker looks at in a loop, so that each is looked at about once a second and no loop waits long.

/// Each entry is looked at about this often.
const PERIOD_NS: u64 = 1_000_000_000;
/// Entries looked at in one loop, at most, between bursts and when there is nothing else to do.
const BUSY_MAX: u64 = 64;
const IDLE_MAX: u64 = 2048;

/// What a worker owes the sweep.
#[derive(Debug, Default)]
pub struct SweepPace {
    /// Entries owed, times [`PERIOD_NS`].
    debt: u64,
}

impl SweepPace {
    /// Entries to look at after a loop that took so long and did (`busy`) or did not find packets.
    #[inline]
    pub fn budget(&mut self, entries: u32, elapsed_ns: u64, busy: bool) -> u32 {
        let entries = u64::from(entries);
        self.debt = self.debt.saturating_add(entries.saturating_mul(elapsed_ns));
        let most = if busy { BUSY_MAX } else { IDLE_MAX };
        let budget = (self.debt / PERIOD_NS).min(most);
        let rest = self.debt.saturating_sub(budget.saturating_mul(PERIOD_NS));
        // What busy loops could not do is not owed for ever: at most one round.
        self.debt = rest.min(entries.saturating_mul(PERIOD_NS));
        u32::try_from(budget).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_looked_at_once_a_second() {
        let mut pace = SweepPace::default();
        let looked_at: u32 = (0..10_000)
            .map(|_| pace.budget(12_345, 100_000, true))
            .sum();
        assert_eq!(looked_at, 12_345);
    }

    #[test]
    fn a_loop_does_a_bounded_part_and_forgets_more_than_a_round() {
        let mut pace = SweepPace::default();
        assert_eq!(pace.budget(10_000, 5_000_000_000, true), 64);
        let rounds = (1..)
            .take_while(|_| pace.budget(10_000, 0, false) > 0)
            .count();
        assert_eq!(rounds, 10_000_usize.div_ceil(2048));
        assert_eq!(pace.budget(0, 1_000_000_000, false), 0);
    }
}
