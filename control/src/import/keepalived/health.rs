//! What is said of a virtual server as a whole that has to do with checks, and what becomes of checkers.

use std::net::IpAddr;

use pollux_api::ServiceId;
use pollux_api::configuration::Destination;
use pollux_api::health::{CheckNames, CheckedService, OnFailure, Quorum};
use pollux_api::identity::Endpoint;

use super::super::draft::Draft;
use super::super::ipvsadm::words as split;
use super::super::note::Place;
use super::any_server::of_any_server;
use super::method::{Method, method};
use super::probe;
use super::real_server::RealServer;
use super::statement::Statement;
use super::timing::{Timing, flag, number};

/// Quorum and sorry server, as they are written.
#[derive(Debug, Default)]
pub struct Checked {
    quorum: Quorum,
    sorry: Option<Sorry>,
    sorry_method: Option<Method>,
}

#[derive(Debug)]
struct Sorry {
    place: Place,
    address: IpAddr,
    port: Option<u16>,
    method: Method,
}

impl Checked {
    /// Takes a statement if it is one of these; says whether it was.
    pub fn take(&mut self, inner: &Statement, draft: &mut Draft) -> bool {
        match inner.keyword() {
            "quorum" => {
                self.quorum.weight = number(inner, draft)
                    .filter(|weight| *weight > 0)
                    .unwrap_or(1)
            }
            "hysteresis" => self.quorum.hysteresis = number(inner, draft).unwrap_or(0),
            "quorum_up" => self.quorum.up = command(inner, draft),
            "quorum_down" => self.quorum.down = command(inner, draft),
            "omega" if flag(inner) => {
                let text = "omega: polluxd runs no quorum_down when it stops, as the data plane goes on; write ExecStopPost= in a \
                            drop-in of its unit";
                draft.note(&inner.place, text);
            }
            "omega" => {}
            "sorry_server" => self.sorry = sorry_server(inner, draft),
            "sorry_server_lvs_method" => self.sorry_method = method(inner, draft),
            "sorry_server_inhibit" => {
                let text = "sorry_server_inhibit: the sorry server comes when the quorum is lost and goes when it is back; left out";
                draft.note(&inner.place, text);
            }
            _ => return false,
        }
        true
    }

    /// When all of the virtual server is read: what the sorry server does as the others do.
    pub fn finish(&mut self, method: Method) {
        let of_its_own = self.sorry_method.take();
        if let Some(sorry) = &mut self.sorry {
            sorry.method = of_its_own.unwrap_or(method);
        }
    }

    /// The quorum as keepalived takes it: no more than all servers weigh, and without a hysteresis that is not below it.
    fn possible_quorum(&self, place: &Place, servers: &[&RealServer], draft: &mut Draft) -> Quorum {
        let mut quorum = self.quorum.clone();
        let all: u32 = servers
            .iter()
            .fold(0, |all, server| server.weight.get().saturating_add(all));
        if quorum.weight > all.max(1) {
            let text = format!(
                "quorum {}: all servers together weigh {all}, so it is {} here, as in keepalived",
                quorum.weight,
                all.max(1)
            );
            draft.note(place, text);
            quorum.weight = all.max(1);
        }
        if quorum.hysteresis >= quorum.weight && quorum.hysteresis > 0 {
            let text = format!(
                "hysteresis {} is not below the quorum, {}: there is none here, as in keepalived",
                quorum.hysteresis, quorum.weight
            );
            draft.note(place, text);
            quorum.hysteresis = 0;
        }
        quorum
    }
}

/// Gives a service the checks of its servers.
pub fn add(
    place: &Place,
    service: ServiceId,
    checked: &Checked,
    timing: &Timing,
    servers: &[&RealServer],
    draft: &mut Draft,
) {
    let Some(first) = servers.iter().find(|server| !server.checkers.is_empty()) else {
        if !checked.quorum.is_default() || checked.sorry.is_some() {
            let text = format!(
                "service {service}: no server has a checker, so that none is ever off: quorum and sorry_server are left out"
            );
            draft.note(place, text);
        }
        return;
    };
    let mut checkers = first.checkers.clone();
    if servers.iter().any(|server| server.checkers != checkers) {
        checkers = of_any_server(first);
    }
    for server in servers {
        if server.checkers != first.checkers && of_any_server(server) != checkers {
            let text = format!(
                "server {}: here all servers of a service are checked alike, and this one is checked as {} is, in {}",
                server.address, first.address, first.place
            );
            draft.note(&server.place, text);
        }
    }
    let checks = checkers
        .iter()
        .flat_map(|checker| probe::checks(&first.place, checker, draft));
    let checks: Vec<_> = checks.collect();
    let names = checks
        .into_iter()
        .filter_map(|check| draft.check(&first.place, check))
        .collect();
    let Some(names) = CheckNames::new(names) else {
        return;
    };
    let mut used = CheckedService::new(service, names);
    used.start_down = timing.alpha.or(first.timing.alpha).unwrap_or(false);
    let inhibited = first.timing.inhibit_on_failure.unwrap_or(false);
    used.on_failure = if inhibited {
        OnFailure::Drain
    } else {
        OnFailure::Remove
    };
    if let Some(other) = servers
        .iter()
        .find(|server| server.timing.inhibit_on_failure.unwrap_or(false) != inhibited)
    {
        let text = format!(
            "server {}: inhibit_on_failure is for all servers of a service here, and {} decides",
            other.address, first.address
        );
        draft.note(&other.place, text);
    }
    used.quorum = checked.possible_quorum(place, servers, draft);
    used.sorry_server = checked
        .sorry
        .as_ref()
        .and_then(|sorry| sorry.server(service, draft));
    draft.use_checks(place, used);
}

impl Sorry {
    fn server(&self, service: ServiceId, draft: &mut Draft) -> Option<Destination> {
        let port = self.port.unwrap_or(service.port());
        let id = match Endpoint::new(self.address, port) {
            Ok(id) => id,
            Err(error) => {
                draft.note(&self.place, format!("sorry_server: left out: {error}"));
                return None;
            }
        };
        let (method, tunnel) = self.method;
        Some(Destination {
            id,
            method,
            tunnel,
            weight: Default::default(),
            upper_threshold: 0,
            lower_threshold: 0,
        })
    }
}

fn sorry_server(statement: &Statement, draft: &mut Draft) -> Option<Sorry> {
    let mut words = statement.arguments().iter();
    let address = words.next().and_then(|text| text.parse().ok());
    let port = words.next().map(|text| text.parse::<u16>());
    match (address, port.transpose()) {
        (Some(address), Ok(port)) => Some(Sorry {
            place: statement.place.clone(),
            address,
            port: port.filter(|port| *port != 0),
            method: Default::default(),
        }),
        _ => {
            let text = format!(
                "{}: left out: no address and port in numbers",
                statement.text()
            );
            draft.note(&statement.place, text);
            None
        }
    }
}

/// A program with its arguments; who it runs as is not said here.
fn command(statement: &Statement, draft: &mut Draft) -> Vec<String> {
    let mut words = statement.arguments().iter();
    let command = words.next().map(|line| split(line)).unwrap_or_default();
    if let Some(user) = words.next() {
        let text = format!(
            "{}: programs run as the user that polluxd runs as, and not as {user}",
            statement.keyword()
        );
        draft.note(&statement.place, text);
    }
    let is_path = command
        .first()
        .is_some_and(|program| program.starts_with('/'));
    if is_path {
        return command;
    }
    draft.note(
        &statement.place,
        format!(
            "{}: left out: write the program by its path from / on",
            statement.text()
        ),
    );
    Vec::new()
}
