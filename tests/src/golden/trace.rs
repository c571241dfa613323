//! The traces as they lie in `tests/golden`: see the README there.

use std::fmt;
use std::fs;
use std::path::Path;

use pollux_engine::clock::TICKS_PER_SECOND;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

/// A recorded scenario.
#[derive(Debug, Deserialize)]
pub struct Scenario {
    /// Its name.
    #[serde(rename = "scenario")]
    pub name: String,
    /// What it shows, and how it was recorded.
    #[serde(default)]
    pub about: String,
    /// Settings other than the kernel's defaults.
    #[serde(default)]
    pub sysctls: Vec<String>,
    /// By how many virtual seconds its recorder was ever behind what was planned.
    #[serde(default)]
    pub lag: f64,
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
        /// The server that got it; a MAC address for what is none of the lab's servers.
        #[serde(deserialize_with = "server_number")]
        server: Option<u32>,
        /// What came out when no server got it.
        #[serde(default)]
        out: Vec<Frame>,
    },
    /// Time passes.
    Sleep {
        /// Seconds.
        sleep: f64,
        /// What came out meanwhile.
        #[serde(default)]
        out: Vec<Frame>,
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
    /// None of these: it as it was written.
    Unknown(serde_json::Value),
}

impl Step {
    /// What was done, for people.
    pub fn title(&self) -> String {
        match self {
            Self::Command { cmd, .. } => cmd.clone(),
            Self::Frame { received, .. } => format!("in {:?} {}", received.port, received.text),
            Self::Pick { packet, .. } => format!("packet {}", super::compare::hex(packet)),
            Self::Sleep { sleep, .. } => format!("sleep {sleep}"),
            Self::Note { note } => format!("note {note}"),
            Self::Late { .. } => "late frames".to_owned(),
            Self::Unknown(what) => what.to_string(),
        }
    }
}

/// A frame on one of the director's two wires.
#[derive(Debug, Clone, Deserialize)]
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

/// A server's number; [`NO_SERVER`] for the MAC address that the recorder writes of what is none.
fn server_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Server {
        Number(u32),
        Mac(#[allow(dead_code)] String),
    }
    let server = Option::<Server>::deserialize(deserializer)?;
    Ok(server.map(|server| match server {
        Server::Number(number) => number,
        Server::Mac(_) => NO_SERVER,
    }))
}

/// Seconds as the engine counts time.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a sleep is neither negative nor of years
pub fn ticks(seconds: f64) -> u32 {
    (seconds * f64::from(TICKS_PER_SECOND)).round() as u32
}

/// What a packet went to that was sent to the servers' side but to none of the lab's servers.
pub const NO_SERVER: u32 = u32::MAX;

/// The scenarios of a file.
///
/// # Errors
/// That the file cannot be read, or which line is no scenario and why.
pub fn read(path: &Path) -> Result<Vec<Scenario>, String> {
    let at = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("{at}: {error}"))?;
    let lines = text.lines().enumerate();
    let scenarios: Vec<Scenario> = lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| {
            serde_json::from_str(line)
                .map_err(|error| format!("{at}:{}: not a recorded scenario: {error}", number + 1))
        })
        .collect::<Result<_, _>>()?;
    if scenarios.is_empty() {
        return Err(format!("{at}: no scenario in it"));
    }
    Ok(scenarios)
}

/// The scenarios of a file of `tests/golden`.
///
/// # Panics
/// When the file is missing or is no trace: the repository is broken.
pub fn scenarios(file: &str) -> Vec<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    read(&folder.join(file)).unwrap_or_else(|error| panic!("{error}"))
}
