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
    /// What is done, in order.
    pub steps: Vec<Action>,
}

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
