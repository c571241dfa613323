//! What virtual servers, real servers and checkers can all say of checks; the inner one counts.

use super::super::draft::Draft;
use super::statement::Statement;

/// What was said; nothing of what was not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Timing {
    /// How long an answer may take.
    pub connect_timeout_ms: Option<u32>,
    /// Bad results after the first that take a server off.
    pub retry: Option<u32>,
    /// Time before each of these.
    pub delay_before_retry_ms: Option<u32>,
    /// From one check to the next.
    pub delay_loop_ms: Option<u32>,
    /// Whether a server is off until its first good check.
    pub alpha: Option<bool>,
    /// Whether a server that is off stays with weight 0.
    pub inhibit_on_failure: Option<bool>,
    /// The host that is asked for.
    pub virtualhost: Option<String>,
}

impl Timing {
    /// Takes a statement if it is one of these; says whether it was.
    pub fn take(&mut self, statement: &Statement, draft: &mut Draft) -> bool {
        let place = match statement.keyword() {
            "connect_timeout" => &mut self.connect_timeout_ms,
            "delay_before_retry" => &mut self.delay_before_retry_ms,
            "delay_loop" => &mut self.delay_loop_ms,
            // The second as HTTP_GET once had it.
            "retry" | "nb_get_retry" => {
                self.retry = number(statement, draft).or(self.retry);
                return true;
            }
            "alpha" => {
                self.alpha = Some(flag(statement));
                return true;
            }
            "inhibit_on_failure" => {
                self.inhibit_on_failure = Some(flag(statement));
                return true;
            }
            "virtualhost" => {
                self.virtualhost = statement.argument().map(str::to_owned);
                return true;
            }
            // When the first check comes is spread over the interval here, too.
            "warmup" => return true,
            _ => return false,
        };
        *place = milliseconds(statement, draft).or(*place);
        true
    }

    /// What an inner block says, and else what this one does.
    pub fn or(self, outer: &Self) -> Self {
        Self {
            connect_timeout_ms: self.connect_timeout_ms.or(outer.connect_timeout_ms),
            retry: self.retry.or(outer.retry),
            delay_before_retry_ms: self.delay_before_retry_ms.or(outer.delay_before_retry_ms),
            delay_loop_ms: self.delay_loop_ms.or(outer.delay_loop_ms),
            alpha: self.alpha.or(outer.alpha),
            inhibit_on_failure: self.inhibit_on_failure.or(outer.inhibit_on_failure),
            virtualhost: self.virtualhost.or_else(|| outer.virtualhost.clone()),
        }
    }
}

/// A switch: on when nothing is said.
pub fn flag(statement: &Statement) -> bool {
    !matches!(statement.argument(), Some("off" | "false" | "no"))
}

/// A number of any kind; what is none is noted.
pub fn number<T: std::str::FromStr>(statement: &Statement, draft: &mut Draft) -> Option<T> {
    let number = statement.argument().and_then(|text| text.parse().ok());
    if number.is_none() {
        let text = format!(
            "\"{}\": no number, or none in range; left out",
            statement.text()
        );
        draft.note(&statement.place, text);
    }
    number
}

/// Seconds with or without a fraction, in milliseconds.
fn milliseconds(statement: &Statement, draft: &mut Draft) -> Option<u32> {
    let text = statement.argument().unwrap_or_default();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    // Three digits behind the point are milliseconds.
    let fraction: String = fraction.chars().chain("000".chars()).take(3).collect();
    let found = (!text.is_empty() && is_digits(whole) && is_digits(&fraction))
        .then(|| {
            let seconds: u32 = if whole.is_empty() {
                Some(0)
            } else {
                whole.parse().ok()
            }?;
            seconds
                .checked_mul(1000)?
                .checked_add(fraction.parse().ok()?)
        })
        .flatten();
    if found.is_none() {
        let text = format!("\"{}\": no time in seconds; left out", statement.text());
        draft.note(&statement.place, text);
    }
    found
}
