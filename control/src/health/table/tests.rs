//! Who is asked, and what is switched, without asking anyone.

use super::*;
use crate::config::validate;

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
    targets.follow(configuration, Instant::now());
    targets
}

/// Makes run what is to be switched, and says how much that was.
fn settle(targets: &mut Targets, running: &mut Configuration) -> usize {
    let now = Instant::now();
    let changes = targets.changes(now);
    *running = running.apply(&changes).unwrap();
    targets.watched.done(&changes, now);
    assert_eq!(targets.changes(now), []);
    changes.len()
}

fn find(targets: &mut Targets, server: &str, good: bool) {
    let number = targets
        .targets
        .iter()
        .find(|(_, target)| target.identity.server == server.parse().unwrap())
        .map(|(number, _)| *number)
        .unwrap();
    let outcome = if good {
        Outcome::good("so it is")
    } else {
        Outcome::bad("so it is")
    };
    found(targets, number, outcome);
}

fn found(targets: &mut Targets, target: u64, outcome: Outcome) {
    let found = Found {
        target,
        pace: Pace::Prompt,
        outcome: Ok(outcome),
    };
    targets.record(found, Instant::now());
}

#[test]
fn one_server_of_two_services_is_asked_once_and_switched_in_both() {
    let before = read(FILE);
    let mut running = before.clone();
    let mut targets = following(&running);
    assert_eq!(targets.targets.len(), 2);
    assert_eq!(settle(&mut targets, &mut running), 0);
    find(&mut targets, "203.0.113.11:80", false);
    assert_eq!(settle(&mut targets, &mut running), 2);
    assert_eq!(running.health.off.len(), 2);
    let listed = targets.listed();
    let report = report::in_words(&listed, &targets.histories_of(&listed), Instant::now());
    let states: Vec<ServerState> = report.iter().map(|server| server.state).collect();
    assert_eq!(
        states,
        [ServerState::Down, ServerState::Up, ServerState::Down]
    );
    assert_eq!(report[0].recent[0].reason, "so it is");
    // The second service has no other server.
    let services = targets.services(Instant::now());
    assert_eq!(services[0].state, QuorumState::Up);
    assert_eq!(services[1].state, QuorumState::Lost);
    assert_eq!(
        running.health.lost.iter().next(),
        Some(&services[1].service)
    );
    find(&mut targets, "203.0.113.11:80", true);
    settle(&mut targets, &mut running);
    assert_eq!(running, before);
}

/// Another service uses it already, and has nothing against it.
#[test]
fn who_has_to_wait_for_its_checks_waits_though_another_service_does_not() {
    let file = FILE.replacen("check = \"b\"", "check = \"b\"\nstart_down = true", 1);
    let file = file.replace("rise = 1", "rise = 2");
    let wanted = read(&file);
    let mut running = Configuration::default();
    running = running
        .apply(&crate::config::diff::changes(&running, &wanted))
        .unwrap();
    assert_eq!(running.health.off.len(), 1);
    let mut targets = following(&running);
    assert_eq!(
        settle(&mut targets, &mut running),
        0,
        "nobody was asked yet"
    );
    find(&mut targets, "203.0.113.11:80", true);
    assert_eq!(settle(&mut targets, &mut running), 0);
    find(&mut targets, "203.0.113.11:80", true);
    assert_eq!(settle(&mut targets, &mut running), 1);
    assert_eq!(running, wanted);
}

#[test]
fn the_next_polluxd_begins_with_what_it_finds() {
    let mut running = read(FILE);
    let mut targets = following(&running);
    find(&mut targets, "203.0.113.12:80", false);
    settle(&mut targets, &mut running);
    let mut next = following(&running);
    assert_eq!(settle(&mut next, &mut running), 0);
    find(&mut next, "203.0.113.12:80", true);
    settle(&mut next, &mut running);
    assert_eq!(running, read(FILE));
}

#[test]
fn other_settings_are_another_check_and_who_is_gone_is_not_asked() {
    let mut targets = following(&read(FILE));
    let slower = read(&FILE.replacen("fall = 1", "fall = 2", 1));
    targets.follow(&slower, Instant::now());
    assert_eq!(targets.targets.len(), 3);
    assert_eq!(targets.questions.len(), 2);
    targets.follow(&read(""), Instant::now());
    assert!(targets.targets.is_empty() && targets.numbers.is_empty());
    assert!(targets.questions.is_empty());
    let never = targets.due(100, Instant::now() + Duration::from_secs(100));
    assert!(never.is_empty(), "{never:?}");
}

#[test]
fn each_target_is_asked_once_an_interval() {
    let mut targets = following(&read(FILE));
    let start = Instant::now();
    let interval = Duration::from_secs(5);
    let mut asked = std::collections::HashMap::<u64, u32>::new();
    for tick in 0..600 {
        let now = start + interval.mul_f64(f64::from(tick) / 30.0);
        for (target, pace, ..) in targets.due(100, now) {
            *asked.entry(target).or_default() += 1;
            let outcome = Ok(Outcome::good("fine"));
            targets.record(
                Found {
                    target,
                    pace,
                    outcome,
                },
                now,
            );
        }
    }
    // 20 intervals, each shortened by 5 % on average, noticed up to a thirtieth later.
    assert_eq!(asked.len(), 2);
    assert!(
        asked.values().all(|times| (19..=22).contains(times)),
        "{asked:?}"
    );
}

#[test]
fn an_agent_that_is_not_there_keeps_no_server_off() {
    let file = FILE
        .replacen("check = \"a\"", "check = [\"a\", \"c\"]", 1)
        .replacen(
            "check = [{",
            "check = [{ name = \"c\", kind = \"agent\", port = 9999, fall = 1, rise = 1 }, {",
            1,
        );
    let before = read(&file);
    let mut running = before.clone();
    let mut targets = following(&running);
    find(&mut targets, "203.0.113.12:80", false);
    settle(&mut targets, &mut running);
    // The next polluxd does not know which of the two it was.
    let mut targets = following(&running);
    let is_agent = |known: &Identity| known.server.to_string() == "203.0.113.12:9999";
    let agent = targets.numbers.iter().find(|(known, _)| is_agent(known));
    let agent = *agent.unwrap().1;
    found(&mut targets, agent, Outcome::silent("nobody there"));
    assert_eq!(
        settle(&mut targets, &mut running),
        0,
        "the other one says nothing yet"
    );
    find(&mut targets, "203.0.113.12:80", true);
    settle(&mut targets, &mut running);
    assert_eq!(running, before);
}

#[test]
fn a_server_has_to_pass_all_its_checks_and_an_agent_says_its_share() {
    let file = FILE
        .replacen("check = \"a\"", "check = [\"a\", \"c\"]", 1)
        .replacen(
            "check = [{",
            "check = [{ name = \"c\", kind = \"agent\", port = 9999, fall = 1, rise = 1 }, {",
            1,
        );
    let file = file.replace("\"203.0.113.12:80\"", "\"203.0.113.12:80\", weight = 10");
    let mut running = read(&file);
    let before = running.clone();
    let mut targets = following(&running);
    assert_eq!(targets.targets.len(), 4);
    let agent = |targets: &Targets| {
        let found = targets.numbers.iter();
        let mut found = found.filter(|(known, _)| known.server.to_string() == "203.0.113.12:9999");
        *found.next().unwrap().1
    };
    let number = agent(&targets);
    let half = || Outcome::good("agent: 45%").with_share(Share::Percent(45));
    found(&mut targets, number, half());
    assert_eq!(settle(&mut targets, &mut running), 1);
    let weight =
        |running: &Configuration| running.in_force().services[0].destinations[0].weight.get();
    assert_eq!(weight(&running), 5);
    // Nobody there: nothing is known, and nothing changes.
    found(&mut targets, number, Outcome::silent("gone"));
    assert_eq!(settle(&mut targets, &mut running), 0);
    found(&mut targets, number, Outcome::bad("agent: down"));
    settle(&mut targets, &mut running);
    assert_eq!(weight(&running), 0);
    find(&mut targets, "203.0.113.12:80", true);
    assert_eq!(weight(&running), 0, "one good check is not enough");
    found(&mut targets, number, half());
    settle(&mut targets, &mut running);
    assert_eq!(weight(&running), 5);
    let whole = Outcome::good("agent: 100%").with_share(Share::Percent(100));
    found(&mut targets, number, whole);
    settle(&mut targets, &mut running);
    assert_eq!(running, before);
}
