//! What only DPVS's keepalived has in the blocks of virtual and real servers.

use super::super::draft::Draft;
use super::super::ipvsadm::dpvs;
use super::statement::Statement;

/// Says what becomes of a statement that only DPVS has; whether it was one.
pub fn take(inner: &Statement, draft: &mut Draft) -> bool {
    let argument = inner.argument().unwrap_or_default();
    let text = match inner.keyword() {
        "syn_proxy" => dpvs::NO_SYN_PROXY.to_owned(),
        "laddr_group_name" => {
            format!(
                "laddr_group_name {argument}: local addresses are for full NAT, which Pollux does not have yet; left out"
            )
        }
        "daddr_group_name" | "waddr_group_name" => format!(
            "{}: Pollux has no lists of clients yet: filter before the director, or on the servers",
            inner.text()
        ),
        "proxy_protocol" => dpvs::no_proxy_protocol(argument),
        "expire_quiescent_conn" => dpvs::NO_EXPIRY.to_owned(),
        "quic" => dpvs::NO_QUIC.to_owned(),
        "hash_target" if argument == "qid" => dpvs::NO_QUIC.to_owned(),
        "hash_target" => return true,
        "vip_bind_dev" => format!(
            "vip_bind_dev {argument}: give the address to the TAP: `ip addr add VIP/32 dev {argument}`"
        ),
        "bps" | "limit_proportion" => format!("{}: Pollux limits no rates; left out", inner.text()),
        "src-range" | "dst-range" | "iif" | "oif" => return true,
        _ => return false,
    };
    draft.note(&inner.place, text);
    true
}
