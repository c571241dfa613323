//! The highest rate without loss, by halving (RFC 2544, 26.1: "the rate of the offered stream is increased and the test is
//! rerun" or reduced, until the two meet).

/// What a search has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found<T> {
    /// The highest rate that held, with what its trial showed; none held at all.
    pub best: Option<(f64, T)>,
    /// Rates tried.
    pub trials: u32,
}

/// Looks between 0 and `ceiling`, which is tried first, until what is left to doubt is less than `resolution`. A trial
/// gives what it showed where the rate held.
///
/// # Errors
/// That of a trial.
pub fn highest<T>(
    ceiling: f64,
    resolution: f64,
    mut holds: impl FnMut(f64) -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Found<T>> {
    let mut found = Found {
        best: None,
        trials: 1,
    };
    if let Some(shown) = holds(ceiling)? {
        found.best = Some((ceiling, shown));
        return Ok(found);
    }
    let (mut low, mut high) = (0.0, ceiling);
    while high - low > resolution {
        let rate = f64::midpoint(low, high);
        found.trials += 1;
        match holds(rate)? {
            Some(shown) => {
                low = rate;
                found.best = Some((rate, shown));
            }
            None => high = rate,
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_limit_of_any_device_is_found(limit in 0.02_f64..1.5) {
            let found = highest(1.0, 0.01, |rate| Ok((rate <= limit).then_some(rate))).unwrap();
            let (rate, shown) = found.best.unwrap();
            prop_assert_eq!(rate.to_bits(), shown.to_bits());
            prop_assert!(rate <= limit && rate > limit.min(1.0) - 0.01, "{} of {}", rate, limit);
            prop_assert!(found.trials <= 8);
        }
    }

    #[test]
    fn a_ceiling_that_holds_takes_one_trial() {
        let found = highest(5e6, 5e4, |_| Ok(Some(()))).unwrap();
        assert_eq!((found.best, found.trials), (Some((5e6, ())), 1));
    }

    #[test]
    fn a_device_that_always_loses_has_no_rate() {
        let found = highest(1.0, 0.25, |_| Ok(None::<()>)).unwrap();
        assert_eq!((found.best, found.trials), (None, 3));
    }

    #[test]
    fn a_trial_that_fails_ends_the_search() {
        let error = highest(1.0, 0.01, |rate| {
            anyhow::ensure!(rate > 0.9, "the program has ended");
            Ok(None::<()>)
        });
        assert_eq!(error.unwrap_err().to_string(), "the program has ended");
    }
}
