//! What only DPVS's `ipvsadm` has: full NAT and its local addresses, SNAT, lists, SYN proxy and more.

use pollux_api::service_timeouts::TIMEOUT_S;
use pollux_api::{
    ForwardingMethod, Protocol, SchedulerFlags, SchedulerName, ServiceId, ServiceTimeouts,
};

use super::super::draft::Draft;
use super::super::note::Place;
use super::rule::{Refused, Rule};

/// A command that only DPVS has; says whether the line was one.
///
/// # Errors
/// Why the line cannot be carried over.
pub fn perform(place: &Place, rule: &Rule, draft: &mut Draft) -> Result<bool, Refused> {
    if ["match", "icmp-service", "icmpv6-service"]
        .iter()
        .any(|kind| rule.has(kind))
    {
        let what = if rule.has("match") {
            "a service of matched packets (-H, SNAT): Pollux balances what comes to virtual addresses; let the kernel do SNAT \
             with nftables, on the TAPs"
        } else {
            "a service of ICMP: there are none in Linux either; the kernel answers pings to a virtual address that `ip addr add` \
             gives to a TAP"
        };
        return Err(what.into());
    }
    if rule.has("add-laddr") {
        let address = rule.value("laddr").unwrap_or("?");
        let text = format!(
            "local address {address}: local addresses are for full NAT, which Pollux does not have yet; left out"
        );
        draft.note(place, text);
        return Ok(true);
    }
    for (command, list, option) in [
        ("add-deny", "deny", "blklst"),
        ("add-allow", "allow", "whtlst"),
    ] {
        if rule.has(command) {
            let who = rule.value(option).unwrap_or("?");
            let text = format!(
                "{list} list entry {who}: Pollux has no lists of clients yet; filter before the director, or on the servers"
            );
            draft.note(place, text);
            return Ok(true);
        }
    }
    let looks = [
        "get-laddr",
        "get-deny",
        "get-allow",
        "del-laddr",
        "del-deny",
        "del-allow",
    ];
    Ok(looks.iter().any(|command| rule.has(command)))
}

/// The scheduler that comes nearest to one that only DPVS has.
pub fn scheduler(
    place: &Place,
    name: &str,
    rule: &Rule,
    draft: &mut Draft,
) -> Option<(SchedulerName, SchedulerFlags)> {
    (name == "conhash").then(|| conhash(place, rule.value("hash-target"), draft))
}

/// Consistent hashing by DPVS's name.
pub fn conhash(
    place: &Place,
    target: Option<&str>,
    draft: &mut Draft,
) -> (SchedulerName, SchedulerFlags) {
    let mut text = "scheduler conhash is mh here: both hash the client's address so that few clients move when servers \
                    change, but clients get other servers than from DPVS"
        .to_owned();
    if target == Some("qid") {
        text.push_str("; QUIC connection ids are not looked at, so that a client that moves to another address loses its connection");
    }
    draft.note(place, text);
    (SchedulerName::MaglevHashing, SchedulerFlags::default())
}

/// The method of a server, if it is one that only DPVS has.
pub fn method(place: &Place, rule: &Rule, draft: &mut Draft) -> Option<ForwardingMethod> {
    if rule.has("fullnat") {
        full_nat(place, draft);
        return Some(ForwardingMethod::Nat);
    }
    rule.has("snat").then(|| {
        let text = "method SNAT: Pollux balances what comes to virtual addresses; taken for nat";
        draft.note(place, text);
        ForwardingMethod::Nat
    })
}

/// Says what becomes of full NAT.
pub fn full_nat(place: &Place, draft: &mut Draft) {
    let text = "method FNAT is nat here: Pollux does not have full NAT yet, so that servers see the clients' own addresses (no \
                TOA is needed) and must send their answers through the director: see `pollux realserver`";
    draft.note(place, text);
}

/// Options of a service that only DPVS has.
pub fn service_options(place: &Place, rule: &Rule, draft: &mut Draft) {
    if rule.value("synproxy") == Some("enable") {
        draft.note(place, NO_SYN_PROXY);
    }
    if rule.has("expire-quiescent") {
        draft.note(place, NO_EXPIRY);
    }
    if let Some(version) = rule
        .value("proxy-protocol")
        .filter(|version| *version != "disable")
    {
        draft.note(place, no_proxy_protocol(version));
    }
    if rule.has("quic") {
        draft.note(place, NO_QUIC);
    }
    for check in rule.all("dest-check").filter(|check| *check != "disable") {
        let text = format!(
            "--dest-check {check}: write a [[check]] for the service, of kind \"tcp\", \"http\" or another; Pollux does not judge \
             servers by their traffic"
        );
        draft.note(place, text);
    }
}

/// What is said of a SYN proxy.
pub const NO_SYN_PROXY: &str = "SYN proxy: Pollux does not have one; a flood of SYNs evicts unfinished connections only, and \
                                servers' own SYN cookies (net.ipv4.tcp_syncookies) do the rest";
/// What is said of expiring connections to drained servers.
pub const NO_EXPIRY: &str = "expire-quiescent: connections of a server of weight 0 go on as in Linux; remove the server, with \
                             expire_nodest_conn = 1 in [ipvs], to end them";
/// What is said of QUIC.
pub const NO_QUIC: &str = "quic: QUIC connection ids are not looked at; a client that changes its address loses its connection";

/// `--conn-timeout`, `establish_timeout`: how long established connections of one service live without traffic.
#[derive(Debug, Clone)]
pub struct ConnectionTimeout {
    place: Place,
    /// In seconds; 0: what holds for all services.
    seconds: u32,
}

impl ConnectionTimeout {
    /// Seconds that are written somewhere.
    pub fn new(place: &Place, seconds: u32) -> Self {
        Self {
            place: place.clone(),
            seconds,
        }
    }

    /// As timeouts of a service.
    pub fn of(&self, service: ServiceId, draft: &mut Draft) -> ServiceTimeouts {
        let seconds = Some(self.seconds).filter(|seconds| *seconds != 0);
        if let Some(seconds) = seconds.filter(|seconds| !TIMEOUT_S.contains(seconds)) {
            let (min, max) = (TIMEOUT_S.start(), TIMEOUT_S.end());
            let text = format!("a timeout of {seconds} s: they go from {min} to {max} s; left out");
            draft.note(&self.place, text);
            return ServiceTimeouts::default();
        }
        let (tcp_s, udp_s) = match service {
            ServiceId::Fwmark(_) => (seconds, seconds),
            ServiceId::Address(id) => match id.protocol {
                Protocol::Tcp => (seconds, None),
                Protocol::Udp => (None, seconds),
                Protocol::Sctp => {
                    if seconds.is_some() {
                        let text = format!(
                            "a timeout of {} s for service {service}: SCTP's timeouts are fixed here, as in Linux; left out",
                            self.seconds
                        );
                        draft.note(&self.place, text);
                    }
                    (None, None)
                }
            },
        };
        ServiceTimeouts {
            tcp_s,
            udp_s,
            ..ServiceTimeouts::default()
        }
    }
}

/// What is said of PROXY protocol headers.
pub fn no_proxy_protocol(version: &str) -> String {
    format!(
        "PROXY protocol {version}: Pollux does not write such headers; under nat, tunnel and direct routing servers see the \
         clients' own addresses anyway, so tell them not to expect one"
    )
}
