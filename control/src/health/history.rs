//! What the results of one server's probes come to. Pure: results and times in, the state out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pollux_api::health::{ProbeResult, ServerState};

use super::outcome::{Outcome, Verdict};

/// Results that are kept for people to look at.
const RECENT_MAX: usize = 16;

/// The state of one server with how it came to be. There may be ten thousands.
#[derive(Debug, Clone)]
pub struct History {
    rise: u16,
    fall: u16,
    against: u16,
    /// Good results in a row, `rise` at most.
    good: u16,
    /// Whether it is up by `rise` good results, and not because nothing speaks against it.
    is_proven: bool,
    state: ServerState,
    since: Instant,
    recent: VecDeque<Recent>,
}

/// A result that is kept; reasons that are the same one after the other are kept once.
#[derive(Debug, Clone)]
struct Recent {
    at: Instant,
    reason: Arc<str>,
    /// How long the answer took, unless there was none.
    took_ms: Option<u32>,
    verdict: Verdict,
}

impl Recent {
    fn reason(&self) -> String {
        match self.took_ms {
            Some(took_ms) => format!("{} in {took_ms} ms", self.reason),
            None => self.reason.as_ref().to_owned(),
        }
    }
}

impl History {
    /// That of a server in a state, which takes `rise` good results in a row to come up and `fall` bad ones to go down.
    pub fn new(rise: u16, fall: u16, state: ServerState, now: Instant) -> Self {
        Self {
            rise,
            fall,
            against: 0,
            good: 0,
            is_proven: false,
            state,
            since: now,
            recent: VecDeque::new(),
        }
    }

    /// The state.
    pub fn state(&self) -> ServerState {
        self.state
    }

    /// Since when it is so.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Whether it was found to be up since it was last found to be down.
    pub fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// Results in a row that speak against the state.
    pub fn against(&self) -> u16 {
        self.against
    }

    /// Takes a result; true when the state changes.
    pub fn record(&mut self, outcome: &Outcome, now: Instant) -> bool {
        self.keep(outcome, now);
        let speaks_for = match outcome.verdict {
            Verdict::Good => {
                self.good = self.good.saturating_add(1).min(self.rise);
                self.is_proven |= self.good >= self.rise;
                ServerState::Up
            }
            Verdict::Bad => {
                self.good = 0;
                ServerState::Down
            }
            Verdict::Silent => return false,
        };
        if speaks_for == self.state {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        let needed = match speaks_for {
            ServerState::Up => self.rise,
            ServerState::Down => self.fall,
        };
        if self.against < needed {
            return false;
        }
        self.state = speaks_for;
        self.since = now;
        self.against = 0;
        self.is_proven = speaks_for == ServerState::Up;
        true
    }

    /// Whether there was a result.
    pub fn has_results(&self) -> bool {
        !self.recent.is_empty()
    }

    /// Nobody will say how it is: that must not keep it off.
    pub fn assume_up(&mut self, now: Instant) {
        self.state = ServerState::Up;
        self.since = now;
        self.against = 0;
        self.is_proven = true;
    }

    fn keep(&mut self, outcome: &Outcome, now: Instant) {
        let last = self.recent.front().map(|last| &last.reason);
        let same = last.filter(|last| last.as_ref() == outcome.reason);
        let reason = same.map_or_else(|| Arc::from(outcome.reason.as_ref()), Arc::clone);
        let whole = |took: Duration| u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        self.recent.truncate(RECENT_MAX - 1);
        self.recent.push_front(Recent {
            at: now,
            reason,
            took_ms: outcome.took.map(whole),
            verdict: outcome.verdict,
        });
    }

    /// Why it is as it is: the last result.
    pub fn reason(&self) -> String {
        let last = self.recent.front();
        last.map_or_else(|| "not checked yet".to_owned(), Recent::reason)
    }

    /// The last results, the newest first.
    pub fn recent(&self, now: Instant) -> Vec<ProbeResult> {
        let recent = self.recent.iter();
        recent
            .map(|result| ProbeResult {
                good: result.verdict == Verdict::Good,
                silent: result.verdict == Verdict::Silent,
                reason: result.reason(),
                age_ms: milliseconds(result.at, now),
            })
            .collect()
    }
}

/// Milliseconds from one time to a later one.
pub fn milliseconds(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn outcome(good: bool) -> Outcome {
        if good {
            Outcome::good("fine")
        } else {
            Outcome::bad("not so")
        }
    }

    #[test]
    fn what_says_nothing_changes_nothing() {
        let now = Instant::now();
        let mut history = History::new(1, 2, ServerState::Up, now);
        assert!(!history.record(&Outcome::bad("no"), now));
        assert!(!history.record(&Outcome::silent("no agent"), now));
        assert_eq!(
            (history.against(), history.reason().as_str()),
            (1, "no agent")
        );
        let recent = history.recent(now);
        assert_eq!((recent[0].good, recent[0].silent), (false, true));
        assert_eq!((recent[1].good, recent[1].silent), (false, false));
        assert!(history.record(&Outcome::bad("no"), now));
    }

    proptest! {
        /// The state changes exactly when the last `rise` or `fall` results all say the other one.
        #[test]
        fn changes_when_enough_in_a_row_say_so(
            rise in 1..5_u16,
            fall in 1..5_u16,
            up in any::<bool>(),
            results in prop::collection::vec(any::<bool>(), 0..60),
        ) {
            let start = Instant::now();
            let first = if up { ServerState::Up } else { ServerState::Down };
            let mut history = History::new(rise, fall, first, start);
            let mut is_up = up;
            let mut since = start;
            // Results since the last change.
            let mut seen: Vec<bool> = Vec::new();
            for (index, good) in results.iter().enumerate() {
                let now = start + Duration::from_secs(index as u64 + 1);
                seen.push(*good);
                let needed = usize::from(if is_up { fall } else { rise });
                let changes = seen.len() >= needed
                    && seen.iter().rev().take(needed).all(|good| *good != is_up);
                prop_assert_eq!(history.record(&outcome(*good), now), changes);
                if changes {
                    is_up = !is_up;
                    since = now;
                    seen.clear();
                }
                prop_assert_eq!(history.state() == ServerState::Up, is_up);
                prop_assert_eq!(history.since(), since);
                // `rise` good ones in a row, with no change to down after them.
                let all = &results[..=index];
                let in_a_row = all.windows(rise.into()).rposition(|run| run.iter().all(|good| *good));
                let proven = in_a_row.is_some_and(|at| {
                    let end = at + usize::from(rise);
                    is_up && start + Duration::from_secs(end as u64) >= since
                });
                prop_assert_eq!(history.is_proven(), proven);
                prop_assert!(usize::from(history.against()) < needed.max(usize::from(rise.max(fall))));
                prop_assert_eq!(history.recent(now).len(), (index + 1).min(RECENT_MAX));
                prop_assert_eq!(history.recent(now)[0].good, *good);
            }
        }
    }
}
