//! How long removed destinations are remembered that nothing refers to any more. Pure.
//!
//! A destination that comes back in that time is the one it was, with its counters, as one from the kernel's trash is
//! (`ip_vs_dest_trash_expire`: after 120 to 180 s, for it looks once a minute).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::numbering::DestinationNumber;

/// Linux' `IP_VS_DEST_TRASH_PERIOD`.
const KEPT: Duration = Duration::from_secs(120);
/// Kept without need, at most; of more, those go first that were needed longest ago. Every change of the configuration costs a
/// look at each.
const KEPT_MAX: usize = 4096;

/// Since when removed destinations are not referred to.
#[derive(Debug, Default)]
pub struct Trash {
    idle_since: BTreeMap<DestinationNumber, Instant>,
}

impl Trash {
    /// Which of them are to be forgotten now; `idle` are all that were removed and that no connection refers to.
    pub fn forget(
        &mut self,
        now: Instant,
        idle: impl Iterator<Item = DestinationNumber>,
    ) -> Vec<DestinationNumber> {
        let before = std::mem::take(&mut self.idle_since);
        let since = |number| before.get(&number).copied().unwrap_or(now);
        let mut oldest_first: Vec<_> = idle.map(|number| (since(number), number)).collect();
        oldest_first.sort_unstable();
        let too_many = oldest_first.len().saturating_sub(KEPT_MAX);
        let is_over = |since: Instant| now.saturating_duration_since(since) >= KEPT;
        let over = oldest_first.partition_point(|(since, _)| is_over(*since));
        let kept = oldest_first.split_off(over.max(too_many));
        self.idle_since
            .extend(kept.into_iter().map(|(since, number)| (number, since)));
        oldest_first.into_iter().map(|(_, number)| number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(range: std::ops::Range<u32>) -> impl Iterator<Item = DestinationNumber> {
        range.map(DestinationNumber::new)
    }

    #[test]
    fn keeps_what_is_idle_for_two_minutes() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut trash = Trash::default();
        assert!(trash.forget(after(0), numbers(1..2)).is_empty());
        assert!(trash.forget(after(100), numbers(1..3)).is_empty());
        assert_eq!(
            trash.forget(after(120), numbers(1..3)),
            [DestinationNumber::new(1)]
        );
        // Came back, was used, and was removed again.
        assert!(trash.forget(after(130), numbers(0..0)).is_empty());
        assert!(trash.forget(after(230), numbers(2..3)).is_empty());
        assert!(trash.forget(after(349), numbers(2..3)).is_empty());
        assert_eq!(
            trash.forget(after(350), numbers(2..3)),
            [DestinationNumber::new(2)]
        );
    }

    #[test]
    fn of_too_many_those_go_that_were_idle_longest() {
        let start = Instant::now();
        let mut trash = Trash::default();
        let max = u32::try_from(KEPT_MAX).unwrap();
        assert!(trash.forget(start, numbers(5..8)).is_empty());
        let later = start + Duration::from_secs(1);
        let forgotten = trash.forget(later, numbers(0..max + 2));
        assert_eq!(
            forgotten,
            [DestinationNumber::new(5), DestinationNumber::new(6)]
        );
    }
}
