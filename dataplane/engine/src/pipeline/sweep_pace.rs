//! How many entries a worker looks at, and ends, in a loop: so many that each is looked at about once a second and that
//! ends keep up with new connections, and so few that no loop waits long and hits hardly notice.

use crate::connection::SweepBudget;

/// Each entry is looked at about this often.
const PERIOD_NS: u64 = 1_000_000_000;
/// Entries looked at at a time: fewer are not worth the call.
const LOOKS_MIN: u64 = 64;
/// Entries looked at in one loop, at most, between bursts and when there is nothing else to do.
const BUSY_LOOKS_MAX: u64 = 256;
const IDLE_LOOKS_MAX: u64 = 2048;
/// A connection may be ended each so many nanoseconds, besides one for each that was made: one costs about a twentieth of
/// that (`pollux-bench table --part operations`).
const REMOVAL_NS: u64 = 750;
/// Entries ended at a time, so that the latency of their lines overlaps: with fewer allowed the sweep waits.
const REMOVALS_MIN: u64 = 16;
/// Entries ended in one loop, at most, besides one for each connection made; and when there is nothing else to do.
const BUSY_REMOVALS_MAX: u64 = 64;
const IDLE_REMOVALS_MAX: u64 = 1024;

/// What a worker owes the sweep.
#[derive(Debug, Default)]
pub struct SweepPace {
    /// Entries to be looked at, times [`PERIOD_NS`].
    debt: u64,
    /// Entries that may be ended, times [`REMOVAL_NS`].
    credit: u64,
    /// Connections made until the last loop.
    created: u64,
}

impl SweepPace {
    /// What to do after a loop that took so long and did (`busy`) or did not find packets, of a shard of so many entries
    /// that has made so many connections since it is there. No looks: nothing yet.
    #[inline]
    pub fn budget(
        &mut self,
        entries: u32,
        created: u64,
        elapsed_ns: u64,
        busy: bool,
    ) -> SweepBudget {
        let round = u64::from(entries).saturating_mul(PERIOD_NS);
        let owed = u64::from(entries).saturating_mul(elapsed_ns);
        // What busy loops could not do is not owed for ever: at most one round.
        self.debt = self.debt.saturating_add(owed).min(round);
        let made = created.saturating_sub(self.created);
        self.created = created;
        self.credit = self
            .credit
            .saturating_add(elapsed_ns)
            .min(BUSY_REMOVALS_MAX * REMOVAL_NS)
            .saturating_add(made * REMOVAL_NS);
        let looks = self.debt / PERIOD_NS;
        let (looks, removals) = if busy {
            (looks.min(BUSY_LOOKS_MAX), self.credit / REMOVAL_NS)
        } else {
            (looks.min(IDLE_LOOKS_MAX), IDLE_REMOVALS_MAX)
        };
        if looks < LOOKS_MIN.min(entries.into()) || removals < REMOVALS_MIN {
            return SweepBudget::default();
        }
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        SweepBudget {
            looks: small(looks),
            removals: small(removals),
        }
    }

    /// What of it was done.
    #[inline]
    pub fn spend(&mut self, done: SweepBudget) {
        let looks = u64::from(done.looks) * PERIOD_NS;
        self.debt = self.debt.saturating_sub(looks);
        let removals = u64::from(done.removals) * REMOVAL_NS;
        self.credit = self.credit.saturating_sub(removals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Busy loops of so many nanoseconds, over a shard in which every `expired`th entry is to be ended.
    fn run(
        entries: u32,
        loops: u32,
        elapsed_ns: u64,
        created_each: u64,
        expired: u32,
    ) -> SweepBudget {
        let mut pace = SweepPace::default();
        let mut total = SweepBudget::default();
        for number in 0..loops {
            let created = created_each * u64::from(number);
            let budget = pace.budget(entries, created, elapsed_ns, true);
            let removals = budget.removals.min(budget.looks / expired);
            let looks = budget.looks.min(removals.saturating_mul(expired).max(1));
            let done = if removals == budget.removals {
                SweepBudget { looks, removals }
            } else {
                SweepBudget { removals, ..budget }
            };
            pace.spend(done);
            total.looks += done.looks;
            total.removals += done.removals;
        }
        total
    }

    #[test]
    fn every_entry_is_looked_at_once_a_second() {
        let never = u32::MAX;
        let done = run(12_345, 10_000, 100_000, 0, never);
        assert_eq!(done.removals, 0);
        assert!((12_345 - 64..=12_345).contains(&done.looks), "{done:?}");
        // Of a large shard, in short loops.
        let done = run(10_000_000, 1_000_000, 1_000, 0, never);
        assert!((9_999_900..=10_000_000).contains(&done.looks), "{done:?}");
    }

    #[test]
    fn ends_are_spread_when_all_come_at_once() {
        // A second of loops of 1.3 microseconds.
        let done = run(10_000_000, 769_230, 1_300, 0, 1);
        let most = 1_000_000_000 / REMOVAL_NS as u32;
        assert!((most - 1000..=most).contains(&done.removals), "{done:?}");
    }

    #[test]
    fn ends_keep_up_with_new_connections() {
        // Ten million a second for half a second, and entries enough.
        let done = run(1 << 30, 156_250, 3_200, 32, 1);
        assert!(done.removals >= 5_000_000 - 64, "{done:?}");
    }

    #[test]
    fn a_loop_does_a_bounded_part_and_forgets_more_than_a_round() {
        let mut pace = SweepPace::default();
        let budget = pace.budget(10_000, 0, 5_000_000_000, true);
        assert_eq!((budget.looks, budget.removals), (256, 64));
        let mut looks = 0;
        for _ in 0..5 {
            let budget = pace.budget(10_000, 0, 0, false);
            assert!(budget.looks <= 2048 && budget.removals <= 1024);
            pace.spend(budget);
            looks += budget.looks;
        }
        assert_eq!(looks, 10_000);
        assert_eq!(pace.budget(10_000, 0, 0, false), SweepBudget::default());
        let nothing = SweepPace::default().budget(0, 0, 1_000_000_000, false);
        assert_eq!(nothing.looks, 0);
    }
}
