//! Whether enough servers of a service are up, and what follows if not.

use serde::{Deserialize, Serialize};

/// How much weight has to be up for a service to be served here, with `keepalived`'s rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quorum {
    /// The sum of the configured weights of servers that are up: below this less the hysteresis, it is lost.
    pub weight: u32,
    /// It is back from this plus the hysteresis on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hysteresis: u32,
    /// A program with its arguments that polluxd runs when the quorum is there (again).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub up: Vec<String>,
    /// The same when it is lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub down: Vec<String>,
    /// The interface that has the virtual address while the quorum is there: what routing daemons announce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announce: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Default for Quorum {
    /// Lost when no server is up, as in `keepalived`.
    fn default() -> Self {
        Self {
            weight: 1,
            hysteresis: 0,
            up: Vec::new(),
            down: Vec::new(),
            announce: None,
        }
    }
}

impl Quorum {
    /// Whether nothing of it is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is lost with this weight up, if it was (not) before.
    pub fn is_lost(&self, was_lost: bool, weight_up: u64) -> bool {
        let (weight, hysteresis) = (u64::from(self.weight), u64::from(self.hysteresis));
        if was_lost {
            weight_up < weight + hysteresis
        } else {
            weight_up < weight.saturating_sub(hysteresis)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hysteresis_is_on_both_sides() {
        let quorum = Quorum {
            weight: 5,
            hysteresis: 2,
            ..Quorum::default()
        };
        for (was_lost, weight, is_lost) in [
            (false, 3, false),
            (false, 2, true),
            (true, 6, true),
            (true, 7, false),
        ] {
            assert_eq!(
                quorum.is_lost(was_lost, weight),
                is_lost,
                "{was_lost} {weight}"
            );
        }
        assert!(Quorum::default().is_lost(false, 0) && !Quorum::default().is_lost(true, 1));
    }
}
