//! Changes that run now, as events: which server of which service, by which check, and why.

use std::collections::HashMap;

use pollux_api::events::EventKind;
use pollux_api::health::ServerState;
use pollux_api::{Change, DestinationId, ServiceId};

use super::Targets;

impl Targets {
    /// What servers were switched by these changes; weights that agents and slow starts set are no events.
    pub(super) fn switched(&self, changes: &[Change]) -> Vec<(ServiceId, EventKind)> {
        let switches = changes.iter().filter_map(|change| match change {
            Change::SwitchServer { service, id, off } => Some((*service, *id, *off)),
            _ => None,
        });
        let switches: Vec<(ServiceId, DestinationId, bool)> = switches.collect();
        if switches.is_empty() {
            return Vec::new();
        }
        let servers = self.watched.servers.iter().enumerate();
        let places: HashMap<(ServiceId, DestinationId), usize> = servers
            .filter_map(|(index, server)| {
                let service = self.watched.services.get(server.service)?;
                Some(((service.checked.service, server.id), index))
            })
            .collect();
        let events = switches.into_iter().filter_map(|(service, server, off)| {
            let place = places.get(&(service, server))?;
            let (check, reason) = self.cause(*place, off)?;
            let kind = if off {
                EventKind::ServerOff {
                    server,
                    check,
                    reason,
                }
            } else {
                EventKind::ServerOn {
                    server,
                    check,
                    reason,
                }
            };
            Some((service, kind))
        });
        events.collect()
    }

    /// The check that has switched a server, and its last result: of several, one that says so, the last that came to.
    fn cause(&self, server: usize, off: bool) -> Option<(String, String)> {
        let watched = self.watched.servers.get(server)?;
        let service = self.watched.services.get(watched.service)?;
        let first = *self.first_links.get(server)?;
        let names = service.checked.check.iter();
        let targets = names
            .zip(self.links.get(first..)?)
            .filter_map(|(name, number)| {
                let target = self.targets.get(number)?;
                let is_off = target.history.state() == ServerState::Down;
                (is_off == off).then_some((name, target))
            });
        let (name, target) = targets.max_by_key(|(_, target)| target.history.since())?;
        Some((name.to_owned(), target.history.reason()))
    }
}
