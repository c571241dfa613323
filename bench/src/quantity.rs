//! Counts as people write them: `10k`, `1M`, `50_000`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(pub u32);

/// A text that is no count.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no count: write 10000, 10_000, 10k or 1M, at most 1000M")]
pub struct QuantityError(String);

/// The largest count: a table has no more entries.
const MAX: u64 = 1_000_000_000;

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let plain = text.replace('_', "");
        let (digits, factor) = match plain.strip_suffix(['k', 'K']) {
            Some(digits) => (digits, 1_000),
            None => match plain.strip_suffix('M') {
                Some(digits) => (digits, 1_000_000),
                None => (plain.as_str(), 1),
            },
        };
        let count = digits.parse::<u64>().ok();
        count
            .and_then(|count| count.checked_mul(factor))
            .filter(|count| (1..=MAX).contains(count))
            .and_then(|count| u32::try_from(count).ok())
            .map(Self)
            .ok_or_else(|| QuantityError(text.to_owned()))
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            count if count % 1_000_000 == 0 => format!("{}M", count / 1_000_000),
            count if count % 1_000 == 0 => format!("{}k", count / 1_000),
            count => count.to_string(),
        };
        formatter.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for (text, count) in [("10k", 10_000), ("1M", 1_000_000), ("12345", 12_345)] {
            let quantity: Quantity = text.parse().unwrap();
            assert_eq!(quantity.0, count);
            assert_eq!(quantity.to_string(), text);
        }
        assert_eq!("50_000".parse(), Ok(Quantity(50_000)));
    }

    #[test]
    fn says_what_to_write_instead() {
        for text in ["", "k", "0", "-1", "1G", "5000M", "99999999999999999999"] {
            let error = text.parse::<Quantity>().unwrap_err().to_string();
            assert!(error.contains("write 10000, 10_000, 10k or 1M"), "{error}");
        }
    }
}
