//! The traces as they lie in `tests/golden`: see the README there.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

/// A recorded scenario.
#[derive(Debug, Deserialize)]
pub struct Scenario {
    /// Its name.
    #[serde(rename = "scenario")]
    pub name: String,
    /// Settings other than the kernel's defaults.
    pub sysctls: Vec<String>,
    /// What was done and what came of it, in order.
    pub steps: Vec<Step>,
    /// TCP states: for a row of events that leads to a state, the state after each further event.
    #[serde(default)]
    pub table: Ordered<Ordered<Option<String>>>,
}

/// One step of a scenario.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Step {
    /// A command in the director.
    Command {
        /// The command line.
        cmd: String,
        /// Its exit status.
        rc: i32,
        /// What it printed.
        text: String,
    },
    /// A frame in.
    Frame {
        /// The frame.
        #[serde(rename = "in")]
        received: Frame,
        /// What came out.
        out: Vec<Frame>,
    },
    /// An IP packet from the client, recorded briefly.
    Pick {
        /// The packet.
        #[serde(rename = "in", deserialize_with = "hex")]
        packet: Vec<u8>,
        /// The server that got it.
        server: Option<u32>,
        /// What came out when no server got it.
        #[serde(default)]
        out: Vec<Frame>,
    },
    /// Time passes.
    Sleep {
        /// Seconds.
        sleep: u32,
    },
    /// A remark.
    Note {
        /// The text.
        note: String,
    },
    /// Frames that came out after the last step.
    Late {
        /// The frames.
        late: Vec<Frame>,
    },
}

/// A frame on one of the director's two wires.
#[derive(Debug, Deserialize)]
pub struct Frame {
    /// Which wire.
    pub port: Wire,
    /// The frame, Ethernet header first.
    #[serde(rename = "hex", deserialize_with = "hex")]
    pub bytes: Vec<u8>,
    /// It told for people.
    #[serde(rename = "txt")]
    pub text: String,
}

/// The director's wires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// The clients' side.
    Cl,
    /// The servers' side.
    Rs,
}

/// A JSON object whose order means something.
#[derive(Debug)]
pub struct Ordered<T>(pub Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Pairs<T> {
            type Value = Ordered<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Ordered(pairs))
            }
        }
        deserializer.deserialize_map(Pairs(std::marker::PhantomData))
    }
}

/// Bytes from hexadecimal digits.
fn hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    bytes_of_hex(&text).ok_or_else(|| D::Error::custom("not hexadecimal"))
}

fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok();
    pairs.iter().map(byte).collect()
}

/// The scenarios of a file of `tests/golden`.
///
/// # Panics
/// When the file is missing or is no trace: the repository is broken.
pub fn scenarios(file: &str) -> Vec<Scenario> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(file);
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .enumerate()
        .map(|(line, scenario)| {
            serde_json::from_str(scenario)
                .unwrap_or_else(|error| panic!("{}:{}: {error}", path.display(), line + 1))
        })
        .collect()
}
