//! What a change changes, in words: `weight 3 -> 0`. What is alike is not said; of something new, what is not default.

mod checked;

use pollux_api::configuration::{Configuration, Destination, ServiceEntry, VirtualService};
use pollux_api::{Change, MarkRule, ServiceId, SyncDaemon};

/// The differences of one change to what ran before; `service` finds a service of that.
pub fn of<'a>(
    change: &Change,
    from: &Configuration,
    service: impl Fn(ServiceId) -> Option<&'a ServiceEntry>,
) -> Vec<String> {
    match change {
        Change::AddService { service: new } => {
            let plain = VirtualService::new(new.id);
            let mut all = vec![format!("scheduler {}", new.scheduler)];
            all.extend(changed(&plain_traits(&plain), &plain_traits(new)).map(|(_, new)| new));
            all
        }
        Change::EditService { service: new } => {
            let old = service(new.id).map(|entry| &entry.service);
            old.map_or_else(Vec::new, |old| {
                let traits = |service: &VirtualService| {
                    let mut all = vec![format!("scheduler {}", service.scheduler)];
                    all.extend(plain_traits(service));
                    all
                };
                arrows(&traits(old), &traits(new))
            })
        }
        Change::RemoveService { id } => {
            let servers = service(*id).map_or(0, |entry| entry.destinations.len());
            vec![format!("servers: {servers}")]
        }
        Change::AddDestination { destination, .. } => described(destination),
        Change::RemoveDestination { service: of, id } => {
            let known = service(*of).map(|entry| &entry.destinations);
            let old = known.and_then(|known| known.iter().find(|old| old.id == *id));
            old.map_or_else(Vec::new, described)
        }
        Change::EditDestination {
            service: id,
            destination,
        } => {
            let known = service(*id).map(|entry| &entry.destinations);
            let old = known.and_then(|known| known.iter().find(|old| old.id == destination.id));
            old.map_or_else(Vec::new, |old| {
                arrows(&server_traits(old), &server_traits(destination))
            })
        }
        Change::Set { settings } => settings
            .iter()
            .map(|(name, value)| format!("{name} {} -> {value}", from.settings.get(name)))
            .collect(),
        Change::ReplaceMarks { rules } => marks(&from.marks, rules),
        Change::ReplaceChecks { checks, services } => checked::of(&from.health, checks, services),
        Change::StartSync { daemon, .. } => sync_daemon(daemon),
        Change::StopSync { role } => from.sync.get(*role).map_or_else(Vec::new, sync_daemon),
        Change::SwitchServer { off: true, .. } => vec!["off until its checks are good".to_owned()],
        // The others never come of a difference.
        _ => Vec::new(),
    }
}

/// How a daemon of connection synchronisation is started.
fn sync_daemon(daemon: &SyncDaemon) -> Vec<String> {
    vec![
        format!("interface {}", daemon.interface),
        format!("id {}", daemon.id),
        format!("group {}", daemon.group),
        format!("port {}", daemon.port),
    ]
}

/// Besides the scheduler.
fn plain_traits(service: &VirtualService) -> [String; 4] {
    let flags = match service.scheduler_flags {
        none if none.is_empty() => "no flags".to_owned(),
        flags => format!("flags {flags}"),
    };
    let persistence = service.persistence.map_or_else(
        || "not persistent".to_owned(),
        |found| {
            let mask = found.netmask;
            let mask = mask.map_or_else(String::new, |mask| format!(" mask {mask}"));
            format!("persistent {} s{mask}", found.timeout_s)
        },
    );
    let engine = service.persistence_engine;
    let engine = engine.map_or_else(String::new, |engine| format!(", engine {engine}"));
    let datagrams = if service.one_packet {
        "one packet"
    } else {
        "whole flows"
    };
    let timeouts = match service.timeouts {
        none if none.is_default() => "timeouts of all".to_owned(),
        timeouts => format!("timeouts {timeouts}"),
    };
    [
        flags,
        format!("{persistence}{engine}"),
        datagrams.to_owned(),
        timeouts,
    ]
}

pub(super) fn described(server: &Destination) -> Vec<String> {
    let [method, weight, rest @ ..] = server_traits(server);
    let rest = rest.into_iter().filter(|text| !text.starts_with("no "));
    [method, weight].into_iter().chain(rest).collect()
}

pub(super) fn server_traits(server: &Destination) -> [String; 5] {
    let tunnel = if server.tunnel.is_default() {
        "no special tunnel".to_owned()
    } else {
        format!("tunnel {}", server.tunnel)
    };
    let threshold = |name: &str, value: u32| match value {
        0 => format!("no {name} threshold"),
        value => format!("{name} threshold {value}"),
    };
    [
        format!("method {}", server.method),
        format!("weight {}", server.weight),
        tunnel,
        threshold("upper", server.upper_threshold),
        threshold("lower", server.lower_threshold),
    ]
}

fn changed<'a>(
    old: &'a [String],
    new: &'a [String],
) -> impl Iterator<Item = (String, String)> + use<'a> {
    let pairs = old.iter().zip(new);
    pairs
        .filter(|(old, new)| old != new)
        .map(|(old, new)| (old.clone(), new.clone()))
}

/// `weight 3 -> 0`, the word that both begin with said once.
pub(super) fn arrows(old: &[String], new: &[String]) -> Vec<String> {
    changed(old, new)
        .map(|(old, new)| {
            let word = old.split_once(' ').map_or("", |(word, _)| word);
            let value = new
                .strip_prefix(word)
                .and_then(|rest| rest.strip_prefix(' '));
            format!("{old} -> {}", value.unwrap_or(&new))
        })
        .collect()
}

fn marks(old: &[MarkRule], new: &[MarkRule]) -> Vec<String> {
    let gone = old.iter().filter(|rule| !new.contains(rule));
    let come = new.iter().filter(|rule| !old.contains(rule));
    let gone = gone.map(|rule| format!("- {rule}"));
    let mut all: Vec<String> = gone.chain(come.map(|rule| format!("+ {rule}"))).collect();
    let left = |of: &[MarkRule], other: &[MarkRule]| -> Vec<MarkRule> {
        of.iter()
            .filter(|rule| other.contains(rule))
            .cloned()
            .collect()
    };
    let appended = new.starts_with(&left(old, new));
    if left(old, new) != left(new, old) || !appended {
        all.push("in another order".to_owned());
    }
    all
}
