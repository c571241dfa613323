//! What differs of checks and of how services are checked.

use pollux_api::health::{Check, CheckedService, Health, OnFailure};

use super::{arrows, described};

/// The differences to what ran before.
pub fn of(old: &Health, checks: &[Check], services: &[CheckedService]) -> Vec<String> {
    let mut all = Vec::new();
    for check in old.checks.iter().filter(|old| !checks.contains(old)) {
        all.push(format!("- check {}", check.name));
    }
    for check in checks.iter().filter(|new| !old.checks.contains(new)) {
        all.push(format!("+ check {}", check.name));
    }
    for used in &old.services {
        let mut new = services.iter();
        match new.find(|new| new.service == used.service) {
            None => all.push(format!("- {} {}", used.service, checked_by(used))),
            Some(new) if new == used => {}
            Some(new) => {
                let changes = arrows(&traits(used), &traits(new)).join(", ");
                all.push(format!("~ {} {changes}", used.service));
            }
        }
    }
    for used in services {
        let mut known = old.services.iter();
        if known.all(|known| known.service != used.service) {
            let plain = CheckedService::new(used.service, used.check.clone());
            let (plain, traits) = (traits(&plain), traits(used));
            let changed = plain.iter().zip(&traits).filter(|(old, new)| old != new);
            let special: Vec<&str> = changed.map(|(_, new)| new.as_str()).collect();
            let comma = if special.is_empty() { "" } else { ", " };
            all.push(format!(
                "+ {} {}{comma}{}",
                used.service,
                checked_by(used),
                special.join(", ")
            ));
        }
    }
    all
}

fn checked_by(used: &CheckedService) -> String {
    format!("checked by {}", used.check)
}

fn traits(used: &CheckedService) -> [String; 9] {
    let quorum = &used.quorum;
    let program = |what: &str, command: &[String]| match command {
        [] => format!("{what} none"),
        command => format!("{what} {}", command.join(" ")),
    };
    let sorry = used.sorry_server.as_ref();
    [
        checked_by(used),
        match used.on_failure {
            OnFailure::Drain => "failing drained".to_owned(),
            OnFailure::Remove => "failing removed".to_owned(),
        },
        match used.start_down {
            false => "new servers serve at once".to_owned(),
            true => "new servers wait for their check".to_owned(),
        },
        format!("slow start {} s", used.slow_start_s),
        format!("quorum {} hysteresis {}", quorum.weight, quorum.hysteresis),
        program("quorum_up", &quorum.up),
        program("quorum_down", &quorum.down),
        format!(
            "announced {}",
            quorum.announce.as_deref().unwrap_or("by others")
        ),
        sorry.map_or_else(
            || "sorry server none".to_owned(),
            |server| format!("sorry server {} {}", server.id, described(server).join(" ")),
        ),
    ]
}
