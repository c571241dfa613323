//! What one probe found.

use std::borrow::Cow;
use std::time::Duration;

/// As much of a reason is kept.
const REASON_BYTES_MAX: usize = 200;

/// What an answer says of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It serves.
    Good,
    /// It does not.
    Bad,
    /// Nothing: an agent that says a weight only, or one that is not there.
    Silent,
}

/// Which share of its weight a server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// A part of the configured weight, in percent.
    Percent(u16),
    /// A weight of its own.
    Weight(u32),
}

/// One result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What it says of the server.
    pub verdict: Verdict,
    /// Why.
    pub reason: Cow<'static, str>,
    /// How long it took, of an answer.
    pub took: Option<Duration>,
    /// A word about the weight.
    pub share: Option<Share>,
    /// Whether the time was up before there was an answer.
    pub is_late: bool,
    /// How many days a certificate has left, if they are few.
    pub expires_in_days: Option<u64>,
}

impl Outcome {
    /// A good answer.
    pub fn good(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            verdict: Verdict::Good,
            reason: reason.into(),
            took: None,
            share: None,
            is_late: false,
            expires_in_days: None,
        }
    }

    /// Fit to be logged and shown on a terminal: a server or a script may have put anything into the reason.
    #[must_use]
    pub fn printable(mut self) -> Self {
        let is_fit =
            self.reason.len() <= REASON_BYTES_MAX && !self.reason.contains(char::is_control);
        if !is_fit {
            let kept = self.reason.chars().filter(|c| !c.is_control());
            self.reason = Cow::Owned(kept.take(REASON_BYTES_MAX).collect());
        }
        self
    }

    /// A bad one, or none.
    pub fn bad(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            verdict: Verdict::Bad,
            ..Self::good(reason)
        }
    }

    /// One that says nothing of the server's state.
    pub fn silent(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            verdict: Verdict::Silent,
            ..Self::good(reason)
        }
    }

    /// The same with a word about the weight.
    pub fn with_share(self, share: Share) -> Self {
        Self {
            share: Some(share),
            ..self
        }
    }

    /// No answer in time.
    pub fn late(limit: Duration) -> Self {
        Self {
            is_late: true,
            ..Self::bad(format!("no answer within {} ms", limit.as_millis()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_left_out() {
        let outcome = Outcome::bad("agent: \u{1b}[2Jgone\r\n").printable();
        assert_eq!(outcome.reason, "agent: [2Jgone");
        assert_eq!(Outcome::good("fine").printable(), Outcome::good("fine"));
        let long = Outcome::bad("x".repeat(5000)).printable();
        assert_eq!(long.reason.len(), REASON_BYTES_MAX);
    }
}
