//! Names, types and response codes of DNS, as far as a check asks for them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A domain name that can be asked for: labels of 1 to 63 bytes, 255 in all (RFC 1035 2.3.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(String);

impl DnsName {
    /// Its labels, none for the root.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        let labels = self.0.trim_end_matches('.').split('.');
        labels.filter(|label| !label.is_empty())
    }
}

impl Default for DnsName {
    /// The root, which `keepalived` asks for, too.
    fn default() -> Self {
        Self(".".to_owned())
    }
}

/// What is not part of a question.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DnsError {
    /// No name.
    #[error("bad name \"{0}\": write a domain name in ASCII as in \"www.example.com\", or \".\"")]
    Name(String),
    /// An unknown word.
    #[error("unknown {0} \"{1}\": known are {2}, and numbers")]
    Unknown(&'static str, String, String),
}

impl FromStr for DnsName {
    type Err = DnsError;

    fn from_str(text: &str) -> Result<Self, DnsError> {
        let labels = text.strip_suffix('.').unwrap_or(text);
        let mut parts = labels.split('.');
        let is_label = |label: &str| {
            (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_graphic())
        };
        // A length in front of each label, and the root's behind.
        let is_name = text == "." || (labels.len() + 2 <= 255 && parts.all(is_label));
        let name = || text.to_owned();
        is_name
            .then(|| Self(name()))
            .ok_or_else(|| DnsError::Name(name()))
    }
}

/// Numbers that have names: one macro writes what both have alike.
macro_rules! named_numbers {
    ($(#[$about:meta])* $name:ident, $what:literal, $default:literal, $names:expr) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(u16);

        impl $name {
            const NAMES: &[(&str, u16)] = $names;

            /// The number on the wire.
            pub fn number(self) -> u16 {
                self.0
            }
        }

        impl From<u16> for $name {
            fn from(number: u16) -> Self {
                Self(number)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self($default)
            }
        }

        impl FromStr for $name {
            type Err = DnsError;

            fn from_str(text: &str) -> Result<Self, DnsError> {
                let mut names = Self::NAMES.iter();
                if let Some((_, number)) = names.find(|(name, _)| name.eq_ignore_ascii_case(text)) {
                    return Ok(Self(*number));
                }
                let names: Vec<&str> = Self::NAMES.iter().map(|(name, _)| *name).collect();
                let unknown = |_| DnsError::Unknown($what, text.to_owned(), names.join(", "));
                text.parse().map(Self).map_err(unknown)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut names = Self::NAMES.iter();
                match names.find(|(_, number)| *number == self.0) {
                    Some((name, _)) => f.write_str(name),
                    None => write!(f, "{}", self.0),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = DnsError;

            fn try_from(text: String) -> Result<Self, DnsError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

named_numbers!(
    /// The type of a record, by its name or number (RFC 1035 3.2.2 and later ones).
    RecordType,
    "record type",
    6,
    &[
        ("A", 1),
        ("NS", 2),
        ("CNAME", 5),
        ("SOA", 6),
        ("PTR", 12),
        ("MX", 15),
        ("TXT", 16),
        ("AAAA", 28),
        ("SRV", 33),
        ("RRSIG", 46),
        ("DNSKEY", 48),
        ("ANY", 255),
    ]
);

named_numbers!(
    /// A response code, by its name or number (RFC 1035 4.1.1, RFC 2136 2.2).
    ResponseCode,
    "rcode",
    0,
    &[
        ("noerror", 0),
        ("formerr", 1),
        ("servfail", 2),
        ("nxdomain", 3),
        ("notimp", 4),
        ("refused", 5),
    ]
);

impl TryFrom<String> for DnsName {
    type Error = DnsError;

    fn try_from(text: String) -> Result<Self, DnsError> {
        text.parse()
    }
}

impl From<DnsName> for String {
    fn from(DnsName(name): DnsName) -> Self {
        name
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_labels_of_the_right_length() {
        let labels = |name: &str| {
            let name: DnsName = name.parse().unwrap();
            name.labels().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(labels("www.example.com"), ["www", "example", "com"]);
        assert_eq!(labels("example.com."), ["example", "com"]);
        assert!(labels(".").is_empty());
        let long = "a".repeat(64);
        let many = "a.".repeat(127);
        for wrong in ["", "..", "a..b", ".a", "a b", &long, &format!("{many}bb")] {
            assert!(wrong.parse::<DnsName>().is_err(), "{wrong}");
        }
        assert!(many.parse::<DnsName>().is_ok());
    }

    #[test]
    fn types_and_codes_have_names_and_numbers() {
        assert_eq!("aaaa".parse::<RecordType>().unwrap().number(), 28);
        assert_eq!("65".parse::<RecordType>().unwrap().to_string(), "65");
        assert_eq!(RecordType::default().to_string(), "SOA");
        assert_eq!(
            "NXDOMAIN".parse::<ResponseCode>().unwrap().to_string(),
            "nxdomain"
        );
        let error = "nxdomian".parse::<ResponseCode>().unwrap_err().to_string();
        assert!(
            error.starts_with("unknown rcode \"nxdomian\": known are noerror,"),
            "{error}"
        );
    }
}
