//! What is told of servers: at once, or a part at a time, so that nobody waits for all of it.

use std::time::Instant;

use pollux_api::health::ServerHealth;
use pollux_api::{DestinationId, ServiceId, Weight};

use super::Targets;
use crate::health::history::{History, milliseconds};

/// A server of a service, as one of its checks sees it.
#[derive(Debug, Clone)]
pub struct Listed {
    service: ServiceId,
    server: DestinationId,
    check: String,
    weight: Option<Weight>,
    target: u64,
}

impl Targets {
    pub(super) fn listed(&self) -> Vec<Listed> {
        let mut listed = Vec::with_capacity(self.links.len());
        for (index, server) in self.watched.servers.iter().enumerate() {
            let Some(service) = self.watched.services.get(server.service) else {
                continue;
            };
            let first = self.first_links.get(index).copied();
            let links = first.and_then(|first| self.links.get(first..));
            let links = links.into_iter().flatten();
            let checks = service.checked.check.iter().zip(links);
            listed.extend(checks.map(|(name, number)| Listed {
                service: service.checked.service,
                server: server.id,
                check: name.to_owned(),
                weight: server.adjusted,
                target: *number,
            }));
        }
        // Stable: checks stay in the order of the service's list.
        listed.sort_by_key(|listed| (listed.service, listed.server));
        listed
    }

    /// None of those that are not checked any more.
    pub(super) fn histories_of(&self, listed: &[Listed]) -> Vec<Option<History>> {
        let targets = listed.iter().map(|it| self.targets.get(&it.target));
        let histories = targets.map(|target| Some(target?.history.clone()));
        histories.collect()
    }
}

/// What histories say of servers.
pub(super) fn in_words(
    listed: &[Listed],
    histories: &[Option<History>],
    now: Instant,
) -> Vec<ServerHealth> {
    let known = listed
        .iter()
        .zip(histories)
        .filter_map(|(listed, history)| {
            let history = history.as_ref()?;
            Some(ServerHealth {
                service: listed.service,
                server: listed.server,
                check: listed.check.clone(),
                state: history.state(),
                since_ms: milliseconds(history.since(), now),
                against: history.against(),
                weight: listed.weight,
                recent: history.recent(now),
            })
        });
    known.collect()
}
