//! What would become of what runs, and of its live connections, if another configuration took its place.
//!
//! The changes are those of [`super::diff`], which are also what is done then. What becomes of connections is what
//! the data plane does with them (`pollux_engine::pipeline`): a connection keeps its server, and the method it began with;
//! a server that is gone gets no packets of its own until it returns.

pub mod difference;

use std::collections::{BTreeMap, HashMap};

use pollux_api::statistics::ServiceStatistics;
use pollux_api::{Change, Configuration, Destination, DestinationId, ServiceEntry, ServiceId};
use serde::Serialize;

use super::diff;

/// All changes, in the order they are done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The generation they were made against.
    pub base_generation: u64,
    /// The changes.
    pub changes: Vec<PlannedChange>,
}

/// One change and what it comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedChange {
    /// What is done.
    pub change: Change,
    /// What differs, for people: `weight 3 -> 0`.
    pub differences: Vec<String>,
    /// Live connections it touches, active and inactive.
    pub connections: u64,
    /// Persistence templates it touches.
    pub templates: u64,
    /// What becomes of them.
    pub fate: ConnectionFate,
    /// The same in words; empty when it touches none, whatever there is.
    pub meaning: String,
}

/// What a change makes of live connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionFate {
    /// There are none that it could touch.
    None,
    /// They go on as they are.
    Stay,
    /// They go on, from the next packet by the new values.
    Follow,
    /// Packets from their clients are dropped until what was removed returns or they time out.
    Pause,
    /// They end.
    End,
}

/// What is live at a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Live {
    connections: u64,
    templates: u64,
}

impl std::iter::Sum for Live {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            connections: sum.connections + one.connections,
            templates: sum.templates + one.templates,
        })
    }
}

/// What is known of what runs.
struct Running<'a> {
    services: HashMap<ServiceId, &'a ServiceEntry>,
    live: HashMap<(ServiceId, DestinationId), Live>,
    /// The same of services, that at their sorry servers among it.
    live_services: HashMap<ServiceId, Live>,
    /// With the settings of afterwards, connections of a removed server end.
    ends_removed: bool,
    /// With the settings of afterwards, a server of weight 0 keeps no templates.
    ends_quiescent_templates: bool,
}

impl Plan {
    /// The way from what runs, with these connections, to what is wanted.
    pub fn new(
        base_generation: u64,
        from: &Configuration,
        to: &Configuration,
        live: &[ServiceStatistics],
    ) -> Self {
        let running = Running {
            services: from
                .services
                .iter()
                .map(|entry| (entry.service.id, entry))
                .collect(),
            live: live.iter().flat_map(live_of).collect(),
            live_services: live
                .iter()
                .map(|found| (found.service.id, live_of(found).map(|(_, live)| live).sum()))
                .collect(),
            ends_removed: to.settings.get("expire_nodest_conn") != 0,
            ends_quiescent_templates: to.settings.get("expire_quiescent_template") != 0,
        };
        let changes = diff::changes(from, to).into_iter().map(|change| {
            let differences =
                difference::of(&change, from, |id| running.services.get(&id).copied());
            running.planned(change, differences)
        });
        Self {
            base_generation,
            changes: changes.collect(),
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes alone, to be done.
    pub fn changes(&self) -> Vec<Change> {
        let changes = self.changes.iter();
        changes.map(|planned| planned.change.clone()).collect()
    }

    /// How many connections meet this fate.
    pub fn connections(&self, fate: ConnectionFate) -> u64 {
        let meet = self.changes.iter().filter(|planned| planned.fate == fate);
        meet.map(|planned| planned.connections).sum()
    }
}

fn live_of(
    service: &ServiceStatistics,
) -> impl Iterator<Item = ((ServiceId, DestinationId), Live)> {
    service.destinations.iter().map(|found| {
        let connections =
            u64::from(found.active_connections) + u64::from(found.inactive_connections);
        let live = Live {
            connections,
            templates: found.persistent_connections.into(),
        };
        ((service.service.id, found.destination.id), live)
    })
}

impl Running<'_> {
    fn at_server(&self, service: ServiceId, id: DestinationId) -> Live {
        self.live.get(&(service, id)).copied().unwrap_or_default()
    }

    fn of_service(&self, id: ServiceId) -> Live {
        self.live_services.get(&id).copied().unwrap_or_default()
    }

    fn everywhere(&self) -> Live {
        self.live.values().copied().sum()
    }

    fn planned(&self, change: Change, differences: Vec<String>) -> PlannedChange {
        let (live, fate, meaning) = match &change {
            Change::RemoveService { id } => self.removed(self.of_service(*id)),
            Change::RemoveDestination { service, id } => {
                let (live, fate, mut meaning) = self.removed(self.at_server(*service, *id));
                if live.templates > 0 {
                    let clients =
                        count(live.templates, "persistent client", Verb::new("is", "are"));
                    meaning.push_str(&format!("; {clients} scheduled anew"));
                }
                (live, fate, meaning)
            }
            Change::EditService { service } => self.service_edited(service.id, &change),
            Change::EditDestination {
                service,
                destination,
            } => self.server_edited(*service, destination),
            Change::Set { settings } => self.set(settings),
            // New ones have none, and rules, checks and whatever else are about connections to come.
            _ => (Live::default(), ConnectionFate::None, String::new()),
        };
        PlannedChange {
            change,
            differences,
            connections: live.connections,
            templates: live.templates,
            fate,
            meaning,
        }
    }

    fn removed(&self, live: Live) -> (Live, ConnectionFate, String) {
        let (fate, does) = if self.ends_removed {
            (ConnectionFate::End, "at once, by expire_nodest_conn")
        } else {
            (ConnectionFate::Pause, "until it returns or they time out")
        };
        let verb = match fate {
            ConnectionFate::End => Verb::new("ends", "end"),
            _ => Verb::new("pauses", "pause"),
        };
        let mut meaning = count(live.connections, "live connection", verb);
        if live.connections > 0 {
            meaning.push(' ');
            meaning.push_str(does);
        }
        (live, fate, meaning)
    }

    fn server_edited(
        &self,
        service: ServiceId,
        new: &Destination,
    ) -> (Live, ConnectionFate, String) {
        let live = self.at_server(service, new.id);
        let entry = self.services.get(&service);
        let old = entry.and_then(|entry| entry.destinations.iter().find(|old| old.id == new.id));
        let Some(old) = old else {
            return (live, ConnectionFate::Stay, String::new());
        };
        let mut meaning = count(
            live.connections,
            "live connection",
            Verb::new("stays", "stay"),
        );
        let mut fate = ConnectionFate::Stay;
        let mut also = |text: &str| {
            meaning.push_str("; ");
            meaning.push_str(text);
        };
        if old.method != new.method && live.connections > 0 {
            also("with the method they began with");
        } else if old.tunnel != new.tunnel && live.connections > 0 {
            fate = ConnectionFate::Follow;
            also("in the new tunnel");
        }
        if new.weight.get() == 0 && old.weight.get() != 0 {
            also("no new ones");
            if live.templates > 0 && self.ends_quiescent_templates {
                let clients = count(live.templates, "persistent client", Verb::new("is", "are"));
                also(&format!("{clients} scheduled anew"));
            }
        }
        (live, fate, meaning)
    }

    fn service_edited(&self, id: ServiceId, change: &Change) -> (Live, ConnectionFate, String) {
        let live = self.of_service(id);
        let mut meaning = count(
            live.connections,
            "live connection",
            Verb::new("stays", "stay"),
        );
        let old = self
            .services
            .get(&id)
            .and_then(|entry| entry.service.persistence);
        let new = match change {
            Change::EditService { service } => service.persistence,
            _ => None,
        };
        if live.templates > 0 && old != new {
            let templates = count(live.templates, "persistent client", Verb::new("is", "are"));
            let mask = |found: Option<pollux_api::Persistence>| found.map(|found| found.netmask);
            let what = if mask(old) == mask(new) {
                // A template has its timeout from when it was made.
                "kept at their server as long as before"
            } else {
                "scheduled anew"
            };
            meaning.push_str(&format!("; {templates} {what}"));
        }
        let timeouts = self.services.get(&id).map(|entry| entry.service.timeouts);
        if live.connections > 0
            && let Change::EditService { service } = change
            && timeouts != Some(service.timeouts)
        {
            meaning.push_str(", with the new timeouts from the next packet on");
        }
        (live, ConnectionFate::Stay, meaning)
    }

    fn set(&self, settings: &BTreeMap<String, u32>) -> (Live, ConnectionFate, String) {
        if !settings.keys().any(|name| name.starts_with("timeout_")) {
            let ends = settings.get("expire_nodest_conn") == Some(&1);
            let deals = settings.contains_key("mh_tab_index");
            let meaning = if deals {
                "tables of mh are dealt anew: most clients' new connections go to other servers"
            } else if ends {
                "connections that wait for a removed server end with their next packet"
            } else {
                "for packets from now on"
            };
            return (Live::default(), ConnectionFate::None, meaning.to_owned());
        }
        let live = Live {
            templates: 0,
            ..self.everywhere()
        };
        let mut meaning = count(
            live.connections,
            "live connection",
            Verb::new("has", "have"),
        );
        if live.connections > 0 {
            meaning.push_str(" the new timeout from the next packet on");
        }
        (live, ConnectionFate::Follow, meaning)
    }
}

/// A verb after one and after many.
struct Verb(&'static str, &'static str);

impl Verb {
    const fn new(one: &'static str, many: &'static str) -> Self {
        Self(one, many)
    }
}

/// `1 live connection stays`, `5 live connections stay`, `no live connections`.
fn count(number: u64, noun: &str, verb: Verb) -> String {
    match number {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun} {}", verb.0),
        many => format!("{many} {noun}s {}", verb.1),
    }
}

#[cfg(test)]
mod tests;
