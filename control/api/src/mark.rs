//! Rules that give packets firewall marks, for services of a mark. Linux has nftables for this; nothing is in front of
//! Pollux.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::identity::Protocol;

/// Packets that all of this is true of get the mark. The first rule that matches decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarkRule {
    /// The mark.
    pub mark: NonZeroU32,
    /// From this network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpNet>,
    /// To this network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpNet>,
    /// Of this protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// From these ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ports: Option<PortRange>,
    /// To these ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_ports: Option<PortRange>,
    /// Received by the network port of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<String>,
}

impl fmt::Display for MarkRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mark {}", self.mark)?;
        let protocol = self.protocol.map(Protocol::as_word);
        for (word, value) in [
            ("protocol", protocol.map(str::to_owned)),
            ("source", self.source.map(|network| network.to_string())),
            (
                "source-ports",
                self.source_ports.map(|ports| ports.to_string()),
            ),
            (
                "destination",
                self.destination.map(|network| network.to_string()),
            ),
            (
                "destination-ports",
                self.destination_ports.map(|ports| ports.to_string()),
            ),
            ("ingress", self.ingress.clone()),
        ] {
            if let Some(value) = value {
                write!(f, " {word} {value}")?;
            }
        }
        Ok(())
    }
}

/// A port, `80`, or ports next to each other, `8000-8999`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// A text that is no port and no range.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("bad ports \"{0}\": write one, as in 80, or the first and the last, as in 8000-8999")]
pub struct PortRangeError(String);

impl PortRange {
    /// The first port, host byte order.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The last port, host byte order.
    pub fn last(self) -> u16 {
        self.last
    }
}

impl FromStr for PortRange {
    type Err = PortRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = first.trim().parse().ok().zip(last.trim().parse().ok());
        range
            .map(|(first, last)| Self { first, last })
            .filter(|range| range.first <= range.last)
            .ok_or_else(|| PortRangeError(text.to_owned()))
    }
}

impl TryFrom<String> for PortRange {
    type Error = PortRangeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_and_print() {
        let text = r#"{"mark":7,"destination":"203.0.113.0/24","protocol":"tcp","destination_ports":"80-90"}"#;
        let rule: MarkRule = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&rule).unwrap(), text);
        assert_eq!(
            rule.to_string(),
            "mark 7 protocol tcp destination 203.0.113.0/24 destination-ports 80-90"
        );
        for text in ["", "90-80", "a", "1-2-3", "65536"] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
        assert_eq!("80".parse::<PortRange>().unwrap().to_string(), "80");
    }
}
