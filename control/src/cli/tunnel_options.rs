//! The options of a tunnel: those of `ipvsadm`, by its names.

use std::num::NonZeroU16;

use clap::Args;
use pollux_api::{TunnelChecksum, TunnelPatch, TunnelType};

/// How the packets of a tunnel are wrapped.
#[derive(Debug, Args)]
pub struct TunnelOptions {
    /// What wraps a tunnel's packets: ipip, gre or gue [default of a new one: ipip]
    #[arg(long = "tun-type", value_name = "TYPE", value_parser = parse_type)]
    tunnel_type: Option<TunnelType>,
    /// The server's UDP port for gue
    #[arg(long = "tun-port", value_name = "PORT", value_parser = parse_port)]
    tunnel_port: Option<NonZeroU16>,
    /// gre, gue: without a checksum (the default)
    #[arg(long = "tun-nocsum", group = "tunnel_checksum")]
    nocsum: bool,
    /// gre, gue: with a checksum
    #[arg(long = "tun-csum", group = "tunnel_checksum")]
    csum: bool,
    /// gue: remote checksum offload; goes out as --tun-csum, as from Linux
    #[arg(long = "tun-remcsum", group = "tunnel_checksum")]
    remcsum: bool,
}

fn parse_type(text: &str) -> Result<TunnelType, String> {
    TunnelType::ALL
        .into_iter()
        .find(|known| known.as_str() == text)
        .ok_or_else(|| {
            format!(
                "write {}",
                TunnelType::ALL.map(TunnelType::as_str).join(", ")
            )
        })
}

fn parse_port(text: &str) -> Result<NonZeroU16, String> {
    text.parse()
        .map_err(|_| format!("write a port from 1 to {}", u16::MAX))
}

impl TunnelOptions {
    /// What was given.
    pub fn patch(&self) -> TunnelPatch {
        let checksums = [
            (self.nocsum, TunnelChecksum::Nocsum),
            (self.csum, TunnelChecksum::Csum),
            (self.remcsum, TunnelChecksum::Remcsum),
        ];
        TunnelPatch {
            tunnel_type: self.tunnel_type,
            port: self.tunnel_port,
            checksum: checksums
                .into_iter()
                .find_map(|(given, checksum)| given.then_some(checksum)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_ports_have_ipvsadms_range() {
        assert_eq!(parse_type("gue"), Ok(TunnelType::Gue));
        assert_eq!(parse_type("GRE"), Err("write ipip, gre, gue".to_owned()));
        assert_eq!(parse_port("65535").map(NonZeroU16::get), Ok(65535));
        for text in ["0", "65536", "-1", ""] {
            let error = parse_port(text).unwrap_err();
            assert_eq!(error, "write a port from 1 to 65535", "{text}");
        }
    }
}
