//! Few numbers that stand for many.

/// Median, least and greatest of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The value in the middle; of an even number of values, the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
}

impl Summary {
    /// Of no values.
    pub const NONE: Self = Self {
        median: f64::NAN,
        least: f64::NAN,
        greatest: f64::NAN,
    };

    /// Of these values; none of no values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, greatest) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let upper = *sorted.get(half)?;
        let median = if sorted.len() % 2 == 1 {
            upper
        } else {
            f64::midpoint(*sorted.get(half - 1)?, upper)
        };
        Some(Self {
            median,
            least,
            greatest,
        })
    }
}

/// The median of these values; not a number when there are none.
pub fn median(values: &[f64]) -> f64 {
    Summary::of(values).map_or(f64::NAN, |summary| summary.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_far_value_does_not_move_the_median() {
        let summary = Summary::of(&[3.0, 900.0, 1.0, 2.0, 4.0]).unwrap();
        assert_eq!(summary.median.to_bits(), 3.0_f64.to_bits());
        assert_eq!(summary.least.to_bits(), 1.0_f64.to_bits());
        assert_eq!(summary.greatest.to_bits(), 900.0_f64.to_bits());
    }

    #[test]
    fn an_even_number_of_values_has_two_in_the_middle() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]).to_bits(), 2.5_f64.to_bits());
        assert!(median(&[]).is_nan());
    }
}
