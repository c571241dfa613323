//! `real_server` blocks.

use std::net::IpAddr;

use pollux_api::configuration::Destination;
use pollux_api::identity::Endpoint;
use pollux_api::{ServiceId, Weight};

use super::super::draft::Draft;
use super::super::note::Place;
use super::checker::{self, Checker};
use super::dpvs;
use super::method::{Method, method};
use super::statement::Statement;
use super::timing::{Timing, number};

/// A real server as it is written.
pub struct RealServer {
    /// Where.
    pub place: Place,
    /// Its address.
    pub address: IpAddr,
    /// Its port; none: the service's.
    pub port: Option<u16>,
    /// How packets reach it.
    pub method: Method,
    /// Its share of connections.
    pub weight: Weight,
    thresholds: (u32, u32),
    /// What it says of checks.
    pub timing: Timing,
    /// Its checkers.
    pub checkers: Vec<Checker>,
}

impl RealServer {
    /// Reads one; `method` and `timing` hold for it unless it says otherwise. None when it has no address.
    pub fn read(
        statement: &Statement,
        method: Method,
        timing: &Timing,
        draft: &mut Draft,
    ) -> Option<Self> {
        let words: Vec<&str> = statement.arguments().iter().map(String::as_str).collect();
        let (address, port) = match words.as_slice() {
            [address] => (address.parse(), Some(None)),
            [address, port] => (address.parse(), port.parse().ok().map(Some)),
            _ => ("".parse(), None),
        };
        let (Ok(address), Some(port)) = (address, port) else {
            let text = format!(
                "{}: left out: no address and port in numbers",
                statement.text()
            );
            draft.note(&statement.place, text);
            return None;
        };
        let mut server = Self {
            place: statement.place.clone(),
            address,
            // Port 0 is none.
            port: port.filter(|port| *port != 0),
            method,
            weight: Weight::default(),
            thresholds: (0, 0),
            timing: Timing::default(),
            checkers: Vec::new(),
        };
        let (checkers, settings): (Vec<_>, Vec<_>) = statement
            .inner()
            .iter()
            .partition(|inner| checker::is_checker(inner.keyword()));
        for inner in settings {
            if !server.timing.take(inner, draft) && !server.take(inner, draft) {
                inner.unknown("real_server", draft);
            }
        }
        server.timing = server.timing.or(timing);
        for inner in checkers {
            server
                .checkers
                .extend(checker::read(inner, &server.timing, draft));
        }
        for checker in &mut server.checkers {
            checker.forget_own(server.address, server.port);
        }
        Some(server)
    }

    fn take(&mut self, inner: &Statement, draft: &mut Draft) -> bool {
        match inner.keyword() {
            "weight" => {
                let weight: Option<u64> = number(inner, draft);
                match weight.map(Weight::try_from) {
                    Some(Ok(weight)) => self.weight = weight,
                    Some(Err(error)) => draft.note(&inner.place, format!("left out: {error}")),
                    None => {}
                }
            }
            "lb_kind" | "lvs_method" => self.method = method(inner, draft).unwrap_or(self.method),
            "uthreshold" => self.thresholds.0 = number(inner, draft).unwrap_or(0),
            "lthreshold" => self.thresholds.1 = number(inner, draft).unwrap_or(0),
            "notify_up" | "notify_down" => {
                let text = format!(
                    "{}: polluxd runs no program for a server: watch its log, or `pollux show health --json`; quorum_up and \
                     quorum_down of the service are there",
                    inner.keyword()
                );
                draft.note(&inner.place, text);
            }
            "smtp_alert" | "snmp_name" => {}
            _ => return dpvs::take(inner, draft),
        }
        true
    }

    /// Adds it to a service; says whether it is there now, by this.
    pub fn add(&self, service: ServiceId, draft: &mut Draft) -> bool {
        let port = self.port.unwrap_or(service.port());
        let id = match Endpoint::new(self.address, port) {
            Ok(id) => id,
            Err(error) => {
                draft.note(&self.place, format!("left out: {error}"));
                return false;
            }
        };
        let (method, tunnel) = self.method;
        let (upper_threshold, lower_threshold) = self.thresholds;
        let server = Destination {
            id,
            method,
            tunnel,
            weight: self.weight,
            upper_threshold,
            lower_threshold,
        };
        draft.add_server(&self.place, service, server)
    }
}
