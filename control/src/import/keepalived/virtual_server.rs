//! `virtual_server` with its `real_server` blocks.

use pollux_api::configuration::VirtualService;
use pollux_api::identity::Endpoint;
use pollux_api::persistence::TIMEOUT_DEFAULT_S;
use pollux_api::{
    Family, ForwardingMethod, Netmask, Persistence, PersistenceEngine, Protocol, SchedulerFlags,
    SchedulerName, ServiceId, Tunnel,
};

use super::super::draft::Draft;
use super::super::ipvsadm::dpvs::{ConnectionTimeout, conhash};
use super::super::note::Place;
use super::dpvs;
use super::group::{Groups, Target};
use super::health::{self, Checked};
use super::method::{Method, method};
use super::real_server::RealServer;
use super::statement::Statement;
use super::timing::{Timing, flag, number};

/// A virtual server as it is written.
struct VirtualServer {
    protocol: Protocol,
    scheduler: SchedulerName,
    flags: SchedulerFlags,
    method: Method,
    persistence: Option<Persistence>,
    persistence_engine: Option<PersistenceEngine>,
    one_packet: bool,
    connection_timeout: Option<ConnectionTimeout>,
    family: Option<Family>,
    timing: Timing,
    checked: Checked,
    servers: Vec<RealServer>,
}

/// Reads one.
pub fn read(statement: &Statement, groups: &Groups, draft: &mut Draft) {
    let Some(targets) = targets(statement, groups, draft) else {
        return;
    };
    let Some(server) = VirtualServer::read(statement, draft) else {
        return;
    };
    for target in targets {
        server.add(&statement.place, target, draft);
    }
}

fn targets(statement: &Statement, groups: &Groups, draft: &mut Draft) -> Option<Vec<Target>> {
    let words: Vec<&str> = statement.arguments().iter().map(String::as_str).collect();
    let wrong = match words.as_slice() {
        ["group", name] => match groups.get(*name) {
            Some(targets) => return Some(targets.clone()),
            None => format!("there is no virtual_server_group {name}"),
        },
        ["fwmark", mark] => match mark.parse() {
            Ok(mark) => return Some(vec![Target::Mark(mark, None)]),
            Err(_) => format!("\"{mark}\" is no firewall mark"),
        },
        ["match", ..] => "services of matched packets (SNAT) are not virtual addresses: let the kernel do SNAT with nftables, on \
                          the TAPs"
            .to_owned(),
        [address, rest @ ..] if rest.len() < 2 => {
            let port = rest.first().map_or(Some(0), |port| port.parse().ok());
            match (address.parse(), port) {
                (Ok(address), Some(port)) => return Some(vec![Target::Address(address, port)]),
                _ => format!("\"{}\" is no address and port in numbers", words.join(" ")),
            }
        }
        _ => "it names no address, firewall mark or group".to_owned(),
    };
    draft.note(
        &statement.place,
        format!("{}: left out: {wrong}", statement.text()),
    );
    None
}

impl VirtualServer {
    /// Reads its block; none when it is of a protocol that there are no services of.
    fn read(statement: &Statement, draft: &mut Draft) -> Option<Self> {
        let mut server = Self {
            // keepalived's default: its log says so.
            protocol: Protocol::Udp,
            scheduler: SchedulerName::default(),
            flags: SchedulerFlags::default(),
            method: (ForwardingMethod::Nat, Tunnel::default()),
            persistence: None,
            persistence_engine: None,
            one_packet: false,
            connection_timeout: None,
            family: None,
            timing: Timing::default(),
            checked: Checked::default(),
            servers: Vec::new(),
        };
        // What servers say is read when all is known that holds for them unless they say otherwise.
        for inner in statement
            .inner()
            .iter()
            .filter(|inner| inner.keyword() != "real_server")
        {
            if inner.keyword() == "protocol" {
                server.protocol = protocol(inner, draft)?;
            } else {
                let is_known = server.timing.take(inner, draft)
                    || server.take(inner, draft)
                    || server.checked.take(inner, draft)
                    || dpvs::take(inner, draft);
                if !is_known {
                    inner.unknown("virtual_server", draft);
                }
            }
        }
        if let Some(mask) = statement.last("persistence_granularity") {
            server.granularity(mask, draft);
        }
        if let Some(engine) = statement.last("persistence_engine") {
            server.engine(engine, draft);
        }
        for inner in statement
            .inner()
            .iter()
            .filter(|inner| inner.keyword() == "real_server")
        {
            if let Some(real) = RealServer::read(inner, server.method, &server.timing, draft) {
                server.servers.push(real);
            }
        }
        server.checked.finish(server.method);
        Some(server)
    }

    /// What makes the service what it is.
    fn take(&mut self, inner: &Statement, draft: &mut Draft) -> bool {
        let argument = inner.argument().unwrap_or_default();
        match inner.keyword() {
            "lb_algo" | "lvs_sched" => self.take_scheduler(inner, draft),
            "lb_kind" | "lvs_method" => self.method = method(inner, draft).unwrap_or(self.method),
            "ops" => self.one_packet = flag(inner),
            "persistence_timeout" => {
                let timeout_s = match argument {
                    "" => Some(TIMEOUT_DEFAULT_S),
                    _ => number(inner, draft),
                };
                self.persistence =
                    timeout_s
                        .filter(|seconds| *seconds > 0)
                        .map(|timeout_s| Persistence {
                            timeout_s,
                            netmask: None,
                        });
            }
            "establish_timeout" => {
                let seconds: Option<u32> = number(inner, draft);
                self.connection_timeout =
                    seconds.map(|seconds| ConnectionTimeout::new(&inner.place, seconds));
            }
            // When the timeout is known.
            "persistence_granularity" => {}
            // When it is known whether it is persistent.
            "persistence_engine" => {}
            "ip_family" => {
                self.family = Some(if argument == "inet6" {
                    Family::Ipv6
                } else {
                    Family::Ipv4
                });
            }
            "ha_suspend" => {
                draft.note(&inner.place, "ha_suspend: checks always run here; left out");
            }
            "smtp_alert" if flag(inner) => {
                let text = "smtp_alert: polluxd writes no mail: watch its log, or `pollux show health --json`";
                draft.note(&inner.place, text);
            }
            "smtp_alert" | "snmp_name" => {}
            keyword => match keyword.parse::<SchedulerFlags>() {
                Ok(flag) => {
                    self.flags = self
                        .flags
                        .names()
                        .iter()
                        .filter_map(|name| name.parse().ok())
                        .chain([flag])
                        .collect();
                }
                Err(_) => return false,
            },
        }
        true
    }

    fn take_scheduler(&mut self, inner: &Statement, draft: &mut Draft) {
        let name = inner.argument().unwrap_or_default();
        if name == "conhash" {
            (self.scheduler, self.flags) = conhash(&inner.place, None, draft);
            return;
        }
        match name.parse() {
            Ok(scheduler) => self.scheduler = scheduler,
            Err(error) => {
                let text = format!("{}: {error}; {} it is", inner.text(), self.scheduler);
                draft.note(&inner.place, text);
            }
        }
    }

    fn granularity(&mut self, statement: &Statement, draft: &mut Draft) {
        let mask = statement.argument().unwrap_or_default();
        let mask: Netmask = match mask.parse() {
            Ok(mask) => mask,
            Err(error) => {
                return draft.note(
                    &statement.place,
                    format!("{}: left out: {error}", statement.text()),
                );
            }
        };
        self.persistence = Some(Persistence {
            netmask: Some(mask),
            ..self.persistent(statement, draft)
        });
    }

    fn engine(&mut self, statement: &Statement, draft: &mut Draft) {
        match statement.argument().unwrap_or_default().parse() {
            Ok(engine) => {
                self.persistence = Some(self.persistent(statement, draft));
                self.persistence_engine = Some(engine);
            }
            Err(error) => draft.note(
                &statement.place,
                format!("{}: left out: {error}", statement.text()),
            ),
        }
    }

    /// Its persistence, or what is taken where only part of it is said.
    fn persistent(&self, statement: &Statement, draft: &mut Draft) -> Persistence {
        self.persistence.unwrap_or_else(|| {
            let text = format!(
                "{} without a persistence_timeout: {TIMEOUT_DEFAULT_S} s are taken",
                statement.keyword()
            );
            draft.note(&statement.place, text);
            Persistence {
                timeout_s: TIMEOUT_DEFAULT_S,
                netmask: None,
            }
        })
    }

    fn add(&self, place: &Place, target: Target, draft: &mut Draft) {
        let id = match target {
            Target::Address(address, port) => match Endpoint::new(address, port) {
                Ok(endpoint) => ServiceId::address(self.protocol, endpoint),
                Err(error) => return draft.note(place, format!("left out: {error}")),
            },
            Target::Mark(mark, family) => {
                ServiceId::fwmark(mark, family.unwrap_or_else(|| self.family_of_mark()))
            }
        };
        let service = VirtualService {
            id,
            scheduler: self.scheduler,
            scheduler_flags: self.flags,
            persistence: self.persistence,
            persistence_engine: self.persistence_engine,
            one_packet: self.one_packet,
            timeouts: self
                .connection_timeout
                .as_ref()
                .map(|timeout| timeout.of(id, draft))
                .unwrap_or_default(),
        };
        if !draft.add_service(place, service) {
            return;
        }
        let mut added = Vec::new();
        for server in &self.servers {
            if server.add(id, draft) {
                added.push(server);
            }
        }
        health::add(place, id, &self.checked, &self.timing, &added, draft);
    }

    /// What the packets of a mark are, as keepalived finds out when it is not said.
    fn family_of_mark(&self) -> Family {
        let of = |server: &RealServer| {
            if server.address.is_ipv6() {
                Family::Ipv6
            } else {
                Family::Ipv4
            }
        };
        let by_mask = self
            .persistence
            .and_then(|found| found.netmask)
            .map(|mask| match mask {
                Netmask::V4(_) => Family::Ipv4,
                Netmask::V6(_) => Family::Ipv6,
            });
        let untunnelled = self
            .servers
            .iter()
            .find(|server| server.method.0 != ForwardingMethod::Tunnel);
        let all_are_ipv6 =
            !self.servers.is_empty() && self.servers.iter().all(|server| server.address.is_ipv6());
        self.family
            .or_else(|| untunnelled.map(of))
            .or(by_mask)
            .unwrap_or(if all_are_ipv6 {
                Family::Ipv6
            } else {
                Family::Ipv4
            })
    }
}

fn protocol(inner: &Statement, draft: &mut Draft) -> Option<Protocol> {
    let word = inner.argument().unwrap_or_default();
    let known = Protocol::ALL
        .into_iter()
        .find(|known| known.as_str().eq_ignore_ascii_case(word));
    if known.is_none() {
        let text = format!(
            "protocol {word}: the virtual server is left out: there are services of TCP, UDP and SCTP"
        );
        draft.note(&inner.place, text);
    }
    known
}
