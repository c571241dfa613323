//! `lb_kind`: how packets reach a server.

use std::num::NonZeroU16;

use pollux_api::{ForwardingMethod, Tunnel, TunnelChecksum, TunnelType};

use super::super::draft::Draft;
use super::super::ipvsadm::dpvs;
use super::statement::Statement;

/// The method with its tunnel.
pub type Method = (ForwardingMethod, Tunnel);

/// `NAT`, `DR`, `TUN [type ...]`, DPVS's `FNAT` and `SNAT`.
pub fn method(statement: &Statement, draft: &mut Draft) -> Option<Method> {
    let method = match statement
        .argument()
        .unwrap_or_default()
        .to_ascii_uppercase()
        .as_str()
    {
        "NAT" => ForwardingMethod::Nat,
        "DR" => ForwardingMethod::Direct,
        "TUN" => return Some((ForwardingMethod::Tunnel, tunnel(statement, draft))),
        "FNAT" => {
            dpvs::full_nat(&statement.place, draft);
            ForwardingMethod::Nat
        }
        _ => {
            let text = format!(
                "{}: not known here; left out: write NAT, DR or TUN",
                statement.text()
            );
            draft.note(&statement.place, text);
            return None;
        }
    };
    Some((method, Tunnel::default()))
}

fn tunnel(statement: &Statement, draft: &mut Draft) -> Tunnel {
    let mut tunnel = Tunnel::default();
    let mut words = statement.arguments().iter().skip(1).map(String::as_str);
    while let Some(word) = words.next() {
        let is_known = match word {
            "type" => {
                let kind = words.next().unwrap_or_default();
                let kind = TunnelType::ALL
                    .into_iter()
                    .find(|known| known.as_str() == kind);
                tunnel.tunnel_type = kind.unwrap_or_default();
                kind.is_some()
            }
            "port" => {
                tunnel.port = words
                    .next()
                    .and_then(|port| port.parse::<NonZeroU16>().ok());
                tunnel.port.is_some()
            }
            word => {
                let checksum = TunnelChecksum::ALL
                    .into_iter()
                    .find(|known| known.as_str() == word);
                tunnel.checksum = checksum.unwrap_or_default();
                checksum.is_some()
            }
        };
        if !is_known {
            let text = format!(
                "\"{}\": \"{word}\" and what follows is not known here: left out",
                statement.text()
            );
            draft.note(&statement.place, text);
            break;
        }
    }
    tunnel
}
