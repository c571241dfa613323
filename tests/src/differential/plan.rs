//! What is to be recorded: commands, packets and time, a scenario a line of JSON, as `record.py` reads them.

use serde::Serialize;
use serde::ser::Serializer;

use crate::golden::compare;

/// A scenario that was not recorded yet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Settings other than the kernel's defaults.
    pub sysctls: Vec<String>,
    /// How long steps take.
    pub pace: Pace,
    /// What is done, in order.
    pub steps: Vec<Action>,
}

/// Virtual seconds that each step takes, the recorder's work included: more than it needs, so that the generator's clock and
/// the kernel's agree.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pace {
    /// A command.
    pub command: f64,
    /// A packet. What the kernel puts off to its next tick is done before the next step.
    pub packet: f64,
}

/// What the lab needs while the machine is busy with other work too.
pub const PACE: Pace = Pace {
    command: 0.8,
    packet: 0.05,
};

/// One thing that is done.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// A command in the director.
    Command(String),
    /// An IP packet to the director.
    Packet {
        /// The server that sends it; none: the client.
        server: Option<u8>,
        /// It.
        #[serde(serialize_with = "hex")]
        bytes: Vec<u8>,
    },
    /// Seconds pass.
    Sleep(f64),
}

fn hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&compare::hex(bytes))
}
