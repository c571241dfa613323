//! Which status codes of HTTP are good.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Status codes of HTTP: `200-299`, `200`, `200,301-302`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Statuses(Vec<StatusRange>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct StatusRange {
    first: u16,
    last: u16,
}

impl Statuses {
    /// Whether the code is one of them.
    pub fn contains(&self, code: u16) -> bool {
        let mut ranges = self.0.iter();
        ranges.any(|range| (range.first..=range.last).contains(&code))
    }
}

impl Default for Statuses {
    /// What HTTP calls success.
    fn default() -> Self {
        Self(vec![StatusRange {
            first: 200,
            last: 299,
        }])
    }
}

/// Not status codes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "bad status \"{0}\": write a code as in \"200\", a range as in \"200-299\", or several as in \"200,301-302\""
)]
pub struct StatusError(String);

impl FromStr for Statuses {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Self, StatusError> {
        let ranges = text.split(',').map(|part| StatusRange::read(part.trim()));
        let ranges: Option<Vec<StatusRange>> = ranges.collect();
        ranges.map(Self).ok_or_else(|| StatusError(text.to_owned()))
    }
}

impl StatusRange {
    fn read(text: &str) -> Option<Self> {
        let code = |digits: &str| {
            let is_number = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
            let code = is_number.then(|| digits.parse().ok()).flatten();
            code.filter(|code| (100..=599).contains(code))
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Self {
            first: code(first)?,
            last: code(last)?,
        };
        (range.first <= range.last).then_some(range)
    }
}

impl TryFrom<String> for Statuses {
    type Error = StatusError;

    fn try_from(text: String) -> Result<Self, StatusError> {
        text.parse()
    }
}

impl From<Statuses> for String {
    fn from(statuses: Statuses) -> Self {
        statuses.to_string()
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, StatusRange { first, last }) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_ranges() {
        let one: Statuses = "200".parse().unwrap();
        assert!(one.contains(200) && !one.contains(201));
        let some: Statuses = "200, 301-302".parse().unwrap();
        assert!(some.contains(200) && some.contains(302) && !some.contains(300));
        assert_eq!(some.to_string(), "200,301-302");
        assert_eq!(Statuses::default().to_string(), "200-299");
        for wrong in [
            "", "20", "2000", "99", "600", "299-200", "200-", "-200", "+20", "2xx", "200,", ",200",
        ] {
            assert!(wrong.parse::<Statuses>().is_err(), "{wrong}");
        }
    }
}
