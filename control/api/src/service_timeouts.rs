//! Timeouts of one service: how long its connections live without traffic, where that is not what the settings say for
//! all. Their names are the words of `ipvsadm --set`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::identity::{Protocol, ServiceId};

/// How long a connection may live without traffic, in seconds: as with the settings `timeout_*`.
pub const TIMEOUT_S: RangeInclusive<u32> = 1..=i32::MAX as u32 / 1000;

/// The timeouts that a service has of its own; none: the setting's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceTimeouts {
    /// TCP, state ESTABLISHED, in seconds: instead of `timeout_established`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_s: Option<u32>,
    /// TCP, state FIN_WAIT, in seconds: instead of `timeout_finwait`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_fin_s: Option<u32>,
    /// UDP, in seconds: instead of `timeout_udp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp_s: Option<u32>,
}

/// Why a service cannot have a timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ServiceTimeoutError {
    /// Outside of [`TIMEOUT_S`].
    #[error("timeout {0} = {1} out of range: write seconds from {min} to {max}", min = TIMEOUT_S.start(), max = TIMEOUT_S.end())]
    Range(&'static str, u32),
    /// Connections of the service are of another protocol.
    #[error("timeout {0} means nothing to a service of {1}: leave it out")]
    Protocol(&'static str, Protocol),
}

impl ServiceTimeouts {
    /// Whether it has none of its own.
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Names and seconds of those it has.
    pub fn given(self) -> impl Iterator<Item = (&'static str, u32)> {
        let all = [
            ("tcp", self.tcp_s),
            ("tcp_fin", self.tcp_fin_s),
            ("udp", self.udp_s),
        ];
        all.into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
    }

    /// Whether the service can have these.
    ///
    /// # Errors
    /// [`ServiceTimeoutError`].
    pub fn check(self, service: ServiceId) -> Result<(), ServiceTimeoutError> {
        for (name, seconds) in self.given() {
            if !TIMEOUT_S.contains(&seconds) {
                return Err(ServiceTimeoutError::Range(name, seconds));
            }
            // A mark's packets may be of any.
            if let ServiceId::Address(id) = service
                && protocol_of(name) != id.protocol
            {
                return Err(ServiceTimeoutError::Protocol(name, id.protocol));
            }
        }
        Ok(())
    }
}

fn protocol_of(name: &str) -> Protocol {
    if name == "udp" {
        Protocol::Udp
    } else {
        Protocol::Tcp
    }
}

impl fmt::Display for ServiceTimeouts {
    /// `tcp 60 tcp_fin 10`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self
            .given()
            .map(|(name, seconds)| format!("{name} {seconds}"))
            .collect();
        f.write_str(&words.join(" "))
    }
}

/// New timeouts of a service; none: unchanged, 0: the setting's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceTimeoutsPatch {
    /// See [`ServiceTimeouts::tcp_s`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_s: Option<u32>,
    /// See [`ServiceTimeouts::tcp_fin_s`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_fin_s: Option<u32>,
    /// See [`ServiceTimeouts::udp_s`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp_s: Option<u32>,
}

/// Why a text says no timeouts.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "bad timeouts \"{0}\": write as tcp=60,tcp_fin=10,udp=30 in seconds, each only if it is to change, 0 for the setting's"
)]
pub struct TimeoutsTextError(String);

impl ServiceTimeoutsPatch {
    /// Whether it changes nothing.
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The timeouts with the patch applied; not checked yet.
    #[must_use]
    pub fn applied_to(self, known: ServiceTimeouts) -> ServiceTimeouts {
        let new = |patch: Option<u32>, known| match patch {
            None => known,
            Some(0) => None,
            Some(seconds) => Some(seconds),
        };
        ServiceTimeouts {
            tcp_s: new(self.tcp_s, known.tcp_s),
            tcp_fin_s: new(self.tcp_fin_s, known.tcp_fin_s),
            udp_s: new(self.udp_s, known.udp_s),
        }
    }
}

impl FromStr for ServiceTimeoutsPatch {
    type Err = TimeoutsTextError;

    fn from_str(text: &str) -> Result<Self, TimeoutsTextError> {
        let error = || TimeoutsTextError(text.to_owned());
        let mut patch = Self::default();
        for part in text.split(',') {
            let (name, seconds) = part.split_once('=').ok_or_else(error)?;
            let seconds = seconds.trim().parse().map_err(|_| error())?;
            let field = match name.trim() {
                "tcp" => &mut patch.tcp_s,
                "tcp_fin" => &mut patch.tcp_fin_s,
                "udp" => &mut patch.udp_s,
                _ => return Err(error()),
            };
            *field = Some(seconds);
        }
        Ok(patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Endpoint, Family};
    use std::num::NonZeroU32;

    fn service(protocol: Protocol) -> ServiceId {
        let endpoint = Endpoint::new("192.0.2.1".parse().unwrap(), 80).unwrap();
        ServiceId::address(protocol, endpoint)
    }

    #[test]
    fn a_patch_changes_what_it_names_and_0_takes_back() {
        let known = ServiceTimeouts {
            tcp_s: Some(60),
            tcp_fin_s: Some(10),
            udp_s: None,
        };
        let patched = |text: &str| -> String {
            let patch: ServiceTimeoutsPatch = text.parse().unwrap();
            patch.applied_to(known).to_string()
        };
        assert_eq!(patched("tcp=90"), "tcp 90 tcp_fin 10");
        assert_eq!(patched("tcp=0, udp=5"), "tcp_fin 10 udp 5");
        assert_eq!(patched("tcp=0,tcp_fin=0"), "");
        for text in ["", "tcp", "tcp=", "tcp=-1", "sctp=1", "tcp=1,"] {
            let error = text.parse::<ServiceTimeoutsPatch>().unwrap_err();
            assert!(error.to_string().contains("tcp=60,tcp_fin=10"), "{text}");
        }
    }

    #[test]
    fn only_what_its_connections_may_be_has_a_timeout() {
        let tcp = ServiceTimeouts {
            tcp_s: Some(60),
            ..ServiceTimeouts::default()
        };
        let udp = ServiceTimeouts {
            udp_s: Some(1),
            ..ServiceTimeouts::default()
        };
        let marked = ServiceId::fwmark(NonZeroU32::MIN, Family::Ipv4);
        for (timeouts, service, fits) in [
            (tcp, service(Protocol::Tcp), true),
            (tcp, service(Protocol::Udp), false),
            (udp, service(Protocol::Tcp), false),
            (udp, service(Protocol::Udp), true),
            (udp, service(Protocol::Sctp), false),
            (tcp, marked, true),
            (udp, marked, true),
        ] {
            assert_eq!(
                timeouts.check(service).is_ok(),
                fits,
                "{timeouts} {service}"
            );
        }
        let error = udp.check(service(Protocol::Tcp)).unwrap_err().to_string();
        assert_eq!(
            error,
            "timeout udp means nothing to a service of TCP: leave it out"
        );
        for seconds in [0, TIMEOUT_S.end() + 1] {
            let timeouts = ServiceTimeouts {
                tcp_s: Some(seconds),
                ..tcp
            };
            let error = timeouts.check(service(Protocol::Tcp)).unwrap_err();
            assert!(error.to_string().contains("from 1 to 2147483"), "{error}");
        }
    }
}
