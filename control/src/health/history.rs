//! What the results of one server's probes come to. Pure: results and times in, the state out.

use std::collections::VecDeque;
use std::time::Instant;

use pollux_api::health::{ProbeResult, ServerState};

/// Results that are kept for people to look at.
const RECENT_MAX: usize = 16;

/// One result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the answer was good.
    pub good: bool,
    /// Why.
    pub reason: String,
}

/// The state of one server with how it came to be.
#[derive(Debug, Clone)]
pub struct History {
    rise: u16,
    fall: u16,
    state: ServerState,
    since: Instant,
    against: u16,
    recent: VecDeque<(Instant, Outcome)>,
}

impl History {
    /// That of a server in a state, which takes `rise` good results in a row to come up and `fall` bad ones to go down.
    pub fn new(rise: u16, fall: u16, state: ServerState, now: Instant) -> Self {
        Self {
            rise,
            fall,
            state,
            since: now,
            against: 0,
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

    /// Results in a row that speak against the state.
    pub fn against(&self) -> u16 {
        self.against
    }

    /// Takes a result; true when the state changes.
    pub fn record(&mut self, outcome: Outcome, now: Instant) -> bool {
        let speaks_for = if outcome.good {
            ServerState::Up
        } else {
            ServerState::Down
        };
        self.recent.truncate(RECENT_MAX - 1);
        self.recent.push_front((now, outcome));
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
        true
    }

    /// Why it is as it is: the last result.
    pub fn reason(&self) -> &str {
        self.recent
            .front()
            .map_or("not checked yet", |(_, outcome)| outcome.reason.as_str())
    }

    /// The last results, the newest first.
    pub fn recent(&self, now: Instant) -> Vec<ProbeResult> {
        let recent = self.recent.iter();
        recent
            .map(|(at, outcome)| ProbeResult {
                good: outcome.good,
                reason: outcome.reason.clone(),
                age_ms: milliseconds(*at, now),
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
        Outcome {
            good,
            reason: String::new(),
        }
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
                prop_assert_eq!(history.record(outcome(*good), now), changes);
                if changes {
                    is_up = !is_up;
                    since = now;
                    seen.clear();
                }
                prop_assert_eq!(history.state() == ServerState::Up, is_up);
                prop_assert_eq!(history.since(), since);
                prop_assert!(usize::from(history.against()) < needed.max(usize::from(rise.max(fall))));
                prop_assert_eq!(history.recent(now).len(), (index + 1).min(RECENT_MAX));
                prop_assert_eq!(history.recent(now)[0].good, *good);
            }
        }
    }
}
