//! The tunnel to a destination: how tools describe it.

use std::num::NonZeroU16;

use pollux_api::{Tunnel, TunnelChecksum, TunnelType};
use rustix::io::Errno;

use super::attribute::{Attribute, Attributes};
use super::refusal::Refusal;

const TYPE: u16 = 13;
const PORT: u16 = 14;
/// The last of a destination's attributes.
pub const FLAGS: u16 = 15;

/// `IP_VS_CONN_F_TUNNEL_TYPE_IPIP`.
pub const IPIP: u8 = 0;
/// `IP_VS_CONN_F_TUNNEL_TYPE_GUE`.
pub const GUE: u8 = 1;
/// `IP_VS_CONN_F_TUNNEL_TYPE_GRE`.
pub const GRE: u8 = 2;

/// `IP_VS_TUNNEL_ENCAP_FLAG_CSUM`; neither bit is `..._NOCSUM`.
const CHECKSUM: u16 = 1 << 0;
/// `IP_VS_TUNNEL_ENCAP_FLAG_REMCSUM`.
const REMOTE_CHECKSUM: u16 = 1 << 1;

/// How the packets of a tunnel are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelSettings {
    /// [`IPIP`], [`GUE`] or [`GRE`].
    pub kind: u8,
    /// UDP port of GUE, host byte order; 0: none.
    pub port: u16,
    /// Checksums of GUE and GRE.
    pub flags: u16,
}

impl TunnelSettings {
    /// Reads them from a destination; tools of before 2019 say nothing of them.
    ///
    /// # Errors
    /// `EINVAL` when one is too short.
    pub fn read(attributes: &Attributes<'_>) -> Result<Self, Errno> {
        Ok(Self {
            kind: attributes.u8(TYPE)?.unwrap_or(IPIP),
            port: attributes.port(PORT)?.unwrap_or(0),
            flags: attributes.u16(FLAGS)?.unwrap_or(0),
        })
    }

    /// What the kernel refuses.
    ///
    /// # Errors
    /// `EINVAL` for GUE without a port.
    pub fn check(self) -> Result<(), Refusal> {
        if self.kind == GUE && self.port == 0 {
            return Err(Refusal::because(Errno::INVAL, "a GUE tunnel needs a port"));
        }
        Ok(())
    }

    /// In Pollux' words. What means nothing to a tunnel of its type is left out; the kernel keeps it and heeds it as
    /// little (`ip_vs_tunnel_xmit`).
    ///
    /// # Errors
    /// `EINVAL` for another type.
    pub fn tunnel(self) -> Result<Tunnel, Refusal> {
        let has = |flag| self.flags & flag != 0;
        let plain = if has(CHECKSUM) {
            TunnelChecksum::Csum
        } else {
            TunnelChecksum::Nocsum
        };
        match self.kind {
            IPIP => Ok(Tunnel::default()),
            GRE => Ok(Tunnel {
                tunnel_type: TunnelType::Gre,
                port: None,
                checksum: plain,
            }),
            GUE => Ok(Tunnel {
                tunnel_type: TunnelType::Gue,
                port: NonZeroU16::new(self.port),
                checksum: if has(REMOTE_CHECKSUM) {
                    TunnelChecksum::Remcsum
                } else {
                    plain
                },
            }),
            other => {
                let reason = format!("tunnel type {other}: known are ipip (0), gue (1), gre (2)");
                Err(Refusal::because(Errno::INVAL, reason))
            }
        }
    }

    /// Those of a tunnel.
    pub fn of(tunnel: Tunnel) -> Self {
        Self {
            kind: match tunnel.tunnel_type {
                TunnelType::Ipip => IPIP,
                TunnelType::Gre => GRE,
                TunnelType::Gue => GUE,
            },
            port: tunnel.port.map_or(0, NonZeroU16::get),
            flags: match tunnel.checksum {
                TunnelChecksum::Nocsum => 0,
                TunnelChecksum::Csum => CHECKSUM,
                TunnelChecksum::Remcsum => REMOTE_CHECKSUM,
            },
        }
    }

    /// As attributes of a destination: type, port, flags.
    pub fn attributes(self) -> [Attribute; 3] {
        [
            Attribute::u8(TYPE, self.kind),
            Attribute::port(PORT, self.port),
            Attribute::u16(FLAGS, self.flags),
        ]
    }
}

#[cfg(test)]
mod tests {
    use pollux_api::ForwardingMethod;

    use super::*;

    fn settings([kind, port, flags]: [u16; 3]) -> TunnelSettings {
        let kind = kind.try_into().unwrap();
        TunnelSettings { kind, port, flags }
    }

    #[test]
    fn a_tunnel_comes_back_as_it_was_told() {
        for (told, text) in [
            ([0, 0, 0], "ipip"),
            ([2, 0, 0], "gre:-c"),
            ([2, 0, 1], "gre:+c"),
            ([1, 5555, 0], "gue:5555:-c"),
            ([1, 5555, 1], "gue:5555:+c"),
            ([1, 65535, 2], "gue:65535:rc"),
        ] {
            let told = settings(told);
            let tunnel = told.tunnel().unwrap();
            assert_eq!(tunnel.to_string(), text);
            assert_eq!(tunnel.check(ForwardingMethod::Tunnel), Ok(()));
            assert_eq!(TunnelSettings::of(tunnel), told, "{text}");
        }
    }

    #[test]
    fn what_means_nothing_to_a_tunnel_is_left_out() {
        for (told, text) in [
            ([0, 5555, 1], "ipip"),
            ([2, 5555, 2], "gre:-c"),
            ([1, 5555, 3], "gue:5555:rc"),
        ] {
            let tunnel = settings(told).tunnel().unwrap();
            assert_eq!(tunnel.to_string(), text);
            assert_eq!(tunnel.check(ForwardingMethod::Tunnel), Ok(()));
        }
    }

    #[test]
    fn refusals_have_the_kernels_number() {
        let no_port = settings([1, 0, 0]).check().unwrap_err();
        assert_eq!(no_port.errno, Errno::INVAL);
        let unknown = settings([9, 0, 0]).tunnel().unwrap_err();
        assert_eq!(unknown.errno, Errno::INVAL);
        assert_eq!(settings([0, 0, 0]).check(), Ok(()));
    }
}
