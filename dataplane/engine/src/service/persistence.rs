//! Persistence: all flows of a client, or of a network of clients, go to one destination for a time.

use crate::connection::{Family, FlowKey};

/// Persistence of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Persistence {
    /// How long after its last new connection a client is still bound, in ticks.
    pub timeout: u32,
    /// Clients whose addresses have these bits in common count as one: in the low 32 bits for IPv4.
    pub mask: u128,
    /// What else tells clients apart.
    pub engine: Option<PersistenceEngine>,
}

/// What looks into a packet for what belongs together (`--pe`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PersistenceEngine {
    /// `sip`: the Call-ID, in UDP.
    Sip,
}

impl Persistence {
    /// A flow's source address as far as it tells clients apart, in the words of a key.
    pub(crate) fn client(&self, key: &FlowKey) -> [u64; 2] {
        let [a, b, ..] = key.addresses;
        #[allow(clippy::cast_possible_truncation)] // both halves are taken
        let (high, low) = ((self.mask >> 64) as u64, self.mask as u64);
        match key.family {
            Family::V4 => [(a >> 32) & low, 0],
            Family::V6 => [a & high, b & low],
        }
    }
}
