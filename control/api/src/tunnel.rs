//! How the packets of a tunnel are wrapped, by the words of `ipvsadm --tun-type`, `--tun-port` and `--tun-csum`.

use std::fmt;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::identity::ForwardingMethod;

/// Why a server cannot have the tunnel it was given. Option and key of the file are both named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TunnelError {
    /// Tunnel options on a server that is reached otherwise.
    #[error(
        "tunnel options on a server of method {0}: make its method tunnel (-i), or leave --tun-... (tunnel_...) out"
    )]
    NoTunnel(ForwardingMethod),
    /// GUE without a port.
    #[error(
        "a gue tunnel goes to a UDP port of the server: name it with --tun-port (tunnel_port), as in 5555"
    )]
    PortMissing,
    /// A port of a tunnel that has none.
    #[error(
        "a tunnel of type {0} has no port: leave --tun-port (tunnel_port) out, or make the type gue"
    )]
    NeedlessPort(TunnelType),
    /// A checksum of a tunnel that cannot have it.
    #[error("a tunnel of type {0} cannot have checksum {1}: {may}", may = .0.checksums())]
    Checksum(TunnelType, TunnelChecksum),
}

/// What stands between the outer IP header and the packet.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum TunnelType {
    /// Nothing: IP in IP, RFC 2003, RFC 2473, RFC 4213.
    #[default]
    Ipip,
    /// A GRE header, RFC 2784.
    Gre,
    /// A UDP and a GUE header, draft-ietf-intarea-gue.
    Gue,
}

impl TunnelType {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::Ipip, Self::Gre, Self::Gue];

    /// The word `ipvsadm --tun-type` takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ipip => "ipip",
            Self::Gre => "gre",
            Self::Gue => "gue",
        }
    }

    /// Which checksums it may have, in words.
    fn checksums(self) -> &'static str {
        match self {
            Self::Ipip => "it has none",
            Self::Gre => "write nocsum or csum; remcsum is for gue",
            Self::Gue => "write nocsum, csum or remcsum",
        }
    }
}

impl fmt::Display for TunnelType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The checksum of a GRE or GUE tunnel.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum TunnelChecksum {
    /// None.
    #[default]
    Nocsum,
    /// Over the tunnel's header and the packet.
    Csum,
    /// GUE only: remote checksum offload, for which Linux sends, seen in `tests/golden`, what it sends for `csum`.
    Remcsum,
}

impl TunnelChecksum {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Nocsum, Self::Csum, Self::Remcsum];

    /// The word behind `--tun-` in `ipvsadm`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nocsum => "nocsum",
            Self::Csum => "csum",
            Self::Remcsum => "remcsum",
        }
    }

    fn as_letter(self) -> char {
        match self {
            Self::Nocsum => '-',
            Self::Csum => '+',
            Self::Remcsum => 'r',
        }
    }
}

impl fmt::Display for TunnelChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The tunnel to a server of [`ForwardingMethod::Tunnel`]. Displayed as `ipvsadm -L --tun-info` has it:
/// `ipip`, `gre:-c`, `gue:5555:+c`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields, default)]
pub struct Tunnel {
    /// What wraps the packets.
    #[serde(rename = "type")]
    pub tunnel_type: TunnelType,
    /// The server's UDP port, host byte order; [`TunnelType::Gue`] needs one and no other has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<NonZeroU16>,
    /// Its checksum.
    pub checksum: TunnelChecksum,
}

impl Tunnel {
    /// Whether it is what a server has that nothing was said of: IP in IP.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a server of that method can have it.
    ///
    /// # Errors
    /// [`TunnelError`], the first that is wrong.
    pub fn check(&self, method: ForwardingMethod) -> Result<(), TunnelError> {
        if method != ForwardingMethod::Tunnel && !self.is_default() {
            return Err(TunnelError::NoTunnel(method));
        }
        let kind = self.tunnel_type;
        match (kind, self.port) {
            (TunnelType::Gue, None) => return Err(TunnelError::PortMissing),
            (TunnelType::Ipip | TunnelType::Gre, Some(_)) => {
                return Err(TunnelError::NeedlessPort(kind));
            }
            _ => {}
        }
        match (kind, self.checksum) {
            (TunnelType::Ipip, TunnelChecksum::Csum | TunnelChecksum::Remcsum)
            | (TunnelType::Gre, TunnelChecksum::Remcsum) => {
                Err(TunnelError::Checksum(kind, self.checksum))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.tunnel_type;
        let letter = self.checksum.as_letter();
        let port = self.port.map_or(0, NonZeroU16::get);
        match kind {
            TunnelType::Ipip => f.pad(kind.as_str()),
            TunnelType::Gre => f.pad(&format!("{kind}:{letter}c")),
            TunnelType::Gue => f.pad(&format!("{kind}:{port}:{letter}c")),
        }
    }
}

/// New settings of a tunnel; none: unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TunnelPatch {
    /// See [`Tunnel::tunnel_type`].
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub tunnel_type: Option<TunnelType>,
    /// See [`Tunnel::port`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<NonZeroU16>,
    /// See [`Tunnel::checksum`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<TunnelChecksum>,
}

impl TunnelPatch {
    /// Whether it changes nothing, whatever it is applied to.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The tunnel with the patch applied; not checked yet. Port and checksum are one type's: another one starts without.
    pub fn applied_to(&self, tunnel: Tunnel) -> Tunnel {
        let tunnel_type = self.tunnel_type.unwrap_or(tunnel.tunnel_type);
        let kept = if tunnel_type == tunnel.tunnel_type {
            tunnel
        } else {
            Tunnel::default()
        };
        Tunnel {
            tunnel_type,
            port: self.port.or(kept.port),
            checksum: self.checksum.unwrap_or(kept.checksum),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUE: Tunnel = Tunnel {
        tunnel_type: TunnelType::Gue,
        port: NonZeroU16::new(5555),
        checksum: TunnelChecksum::Nocsum,
    };
    const GRE: Tunnel = Tunnel {
        tunnel_type: TunnelType::Gre,
        port: None,
        checksum: TunnelChecksum::Nocsum,
    };

    fn with(tunnel: Tunnel, checksum: TunnelChecksum) -> Tunnel {
        Tunnel { checksum, ..tunnel }
    }

    #[test]
    fn tunnels_are_shown_as_ipvsadm_does() {
        for (tunnel, text) in [
            (Tunnel::default(), "ipip"),
            (GRE, "gre:-c"),
            (with(GRE, TunnelChecksum::Csum), "gre:+c"),
            (GUE, "gue:5555:-c"),
            (with(GUE, TunnelChecksum::Csum), "gue:5555:+c"),
            (with(GUE, TunnelChecksum::Remcsum), "gue:5555:rc"),
        ] {
            assert_eq!(tunnel.to_string(), text);
            assert_eq!(tunnel.check(ForwardingMethod::Tunnel), Ok(()), "{text}");
        }
    }

    #[test]
    fn each_error_says_how_to_mend_it() {
        let (tunnel, nat) = (ForwardingMethod::Tunnel, ForwardingMethod::Nat);
        for (wrong, method, text) in [
            (
                GUE,
                nat,
                "on a server of method nat: make its method tunnel (-i)",
            ),
            (
                Tunnel { port: None, ..GUE },
                tunnel,
                "--tun-port (tunnel_port), as in 5555",
            ),
            (
                Tunnel {
                    port: GUE.port,
                    ..GRE
                },
                tunnel,
                "type gre has no port: leave",
            ),
            (
                Tunnel {
                    port: GUE.port,
                    ..Tunnel::default()
                },
                tunnel,
                "type ipip has no port: leave",
            ),
            (
                with(GRE, TunnelChecksum::Remcsum),
                tunnel,
                "type gre cannot have checksum remcsum: write nocsum or csum",
            ),
            (
                with(Tunnel::default(), TunnelChecksum::Csum),
                tunnel,
                "type ipip cannot have checksum csum: it has none",
            ),
        ] {
            let error = wrong.check(method).unwrap_err().to_string();
            assert!(error.contains(text), "{wrong:?}: {error}");
        }
        assert_eq!(Tunnel::default().check(nat), Ok(()));
    }

    #[test]
    fn a_patch_changes_what_it_names_and_another_type_starts_anew() {
        let checksum = TunnelPatch {
            checksum: Some(TunnelChecksum::Csum),
            ..TunnelPatch::default()
        };
        assert_eq!(
            checksum.applied_to(GUE),
            with(GUE, TunnelChecksum::Csum),
            "the port stays"
        );
        let gre = TunnelPatch {
            tunnel_type: Some(TunnelType::Gre),
            ..TunnelPatch::default()
        };
        assert_eq!(gre.applied_to(with(GUE, TunnelChecksum::Remcsum)), GRE);
        let same_type = TunnelPatch {
            tunnel_type: Some(TunnelType::Gue),
            port: NonZeroU16::new(6080),
            ..TunnelPatch::default()
        };
        let patched = same_type.applied_to(with(GUE, TunnelChecksum::Csum));
        assert_eq!(patched.to_string(), "gue:6080:+c");
        assert!(TunnelPatch::default().is_empty());
    }

    #[test]
    fn json_has_the_words_of_ipvsadm() {
        let text = r#"{"type":"gue","port":5555,"checksum":"remcsum"}"#;
        let tunnel = with(GUE, TunnelChecksum::Remcsum);
        assert_eq!(serde_json::to_string(&tunnel).unwrap(), text);
        assert_eq!(serde_json::from_str::<Tunnel>(text).unwrap(), tunnel);
        let short: Tunnel = serde_json::from_str(r#"{"type":"gre"}"#).unwrap();
        assert_eq!(short, GRE);
        serde_json::from_str::<Tunnel>(r#"{"type":"gue","port":0}"#).unwrap_err();
    }
}
