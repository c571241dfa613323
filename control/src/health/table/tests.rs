//! Who is asked, and what is switched, without asking anyone.

use super::*;
use crate::config::validate;
use crate::health::history::Outcome;

const FILE: &str = r#"
check = [{ name = "a", kind = "tcp", fall = 1, rise = 1 }, { name = "b", kind = "tcp", fall = 1, rise = 1 }]

[[service]]
protocol = "tcp"
address = "198.51.100.1:80"
check = "a"
server = [{ address = "203.0.113.11:80" }, { address = "203.0.113.12:80" }]

[[service]]
protocol = "tcp"
address = "198.51.100.2:80"
check = "b"
server = [{ address = "203.0.113.11:80" }]
"#;

fn read(text: &str) -> Configuration {
    let read = validate::parse("file", text).unwrap();
    read.configuration().clone()
}

fn following(configuration: &Configuration) -> Targets {
    let mut targets = Targets::default();
    targets.follow(configuration, |_, _| None);
    targets
}

fn find(targets: &mut Targets, server: &str, good: bool) {
    let number = targets
        .targets
        .iter()
        .find(|(_, target)| target.identity.0 == server.parse().unwrap())
        .map(|(number, _)| *number)
        .unwrap();
    let outcome = Outcome {
        good,
        reason: "so it is".to_owned(),
    };
    let found = Found {
        target: number,
        outcome,
    };
    targets.record(found, Instant::now());
}

#[test]
fn one_server_of_two_services_is_asked_once_and_switched_in_both() {
    let running = read(FILE);
    let mut targets = following(&running);
    assert_eq!(targets.targets.len(), 2);
    assert_eq!(targets.changes(&running), []);
    find(&mut targets, "203.0.113.11:80", false);
    let changes = targets.changes(&running);
    assert_eq!(changes.len(), 2);
    let next = running.apply(&changes).unwrap();
    assert_eq!(next.health.off.len(), 2);
    assert_eq!(targets.changes(&next), []);
    let report = targets.report(Instant::now());
    let states: Vec<ServerState> = report.iter().map(|server| server.state).collect();
    assert_eq!(
        states,
        [ServerState::Down, ServerState::Up, ServerState::Down]
    );
    assert_eq!(report[0].recent[0].reason, "so it is");
    find(&mut targets, "203.0.113.11:80", true);
    assert_eq!(next.apply(&targets.changes(&next)).unwrap(), running);
}

#[test]
fn the_next_polluxd_begins_with_what_it_finds() {
    let mut targets = following(&read(FILE));
    find(&mut targets, "203.0.113.12:80", false);
    let running = read(FILE);
    let running = running.apply(&targets.changes(&running)).unwrap();
    let mut next = following(&running);
    assert_eq!(next.changes(&running), []);
    find(&mut next, "203.0.113.12:80", true);
    assert_eq!(running.apply(&next.changes(&running)).unwrap(), read(FILE));
}

#[test]
fn other_settings_are_another_check_and_who_is_gone_is_not_asked() {
    let running = read(FILE);
    let mut targets = following(&running);
    let slower = read(&FILE.replacen("fall = 1", "fall = 2", 1));
    targets.follow(&slower, |_, _| None);
    assert_eq!(targets.targets.len(), 3);
    targets.follow(&read(""), |_, _| None);
    assert!(targets.targets.is_empty() && targets.numbers.is_empty());
}
