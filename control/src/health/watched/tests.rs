//! What is switched, in made-up time.

use super::*;
use crate::config::validate;

const FILE: &str = r#"
[[check]]
name = "a"
kind = "tcp"

[[service]]
protocol = "tcp"
address = "198.51.100.1:80"
check = "a"
slow_start_s = 10
quorum = 100
quorum_down = ["/bin/true"]
announce = "wan"
server = [{ address = "203.0.113.11:80", weight = 100 }]

[[service]]
protocol = "udp"
address = "198.51.100.1:80"
check = "a"
announce = "wan"
server = [{ address = "203.0.113.11:80" }]
"#;

fn read() -> Configuration {
    let read = validate::parse("file", FILE).unwrap();
    read.configuration().clone()
}

/// Makes run what is to be switched: the weight in force of the first server afterwards.
fn settle(watched: &mut Watched, running: &mut Configuration, now: Instant, off: bool) -> u32 {
    let wanted = |server| Wanted {
        is_unproven: false,
        off: off && server == 0,
        share: None,
    };
    watched.touch(0);
    let changes = watched.changes(now, wanted);
    *running = running.apply(&changes).unwrap();
    watched.done(&changes, now);
    running.in_force().services[0].destinations[0].weight.get()
}

#[test]
fn a_server_that_returns_gets_its_weight_in_steps() {
    let start = Instant::now();
    let at = |milliseconds| start + Duration::from_millis(milliseconds);
    let (mut watched, mut running) = (Watched::default(), read());
    watched.follow(&running, start);
    assert_eq!(settle(&mut watched, &mut running, start, false), 100);
    assert_eq!(watched.next_step(start), None);
    assert_eq!(settle(&mut watched, &mut running, start, true), 0);
    let mut weights = Vec::new();
    for milliseconds in (0..=11_000).step_by(1_000) {
        weights.push(settle(&mut watched, &mut running, at(milliseconds), false));
        // Whatever else changes meanwhile.
        watched.follow(&running, at(milliseconds));
    }
    assert_eq!(weights, [5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 100]);
    assert_eq!(watched.next_step(start), None);
    assert_eq!(running, read());

    // One that fails while it rises begins anew.
    settle(&mut watched, &mut running, at(12_000), true);
    assert_eq!(settle(&mut watched, &mut running, at(13_000), false), 5);
    assert_eq!(watched.next_step(at(13_000)), Some(at(13_500)));
    assert_eq!(settle(&mut watched, &mut running, at(18_000), false), 50);
    assert_eq!(settle(&mut watched, &mut running, at(19_000), true), 0);
    assert_eq!(settle(&mut watched, &mut running, at(20_000), false), 5);
}

#[test]
fn a_quorum_is_known_as_the_data_plane_knows_it() {
    let now = Instant::now();
    let (mut watched, mut running) = (Watched::default(), read());
    watched.follow(&running, now);
    let place = ("wan".to_owned(), "198.51.100.1".parse().unwrap());
    let announced = |watched: &Watched| watched.announced()[&place];
    // What is there from the start may have to be done still.
    let first = watched.take_quorum_changes();
    assert!(
        first
            .iter()
            .all(|change| change.is_first && !change.is_lost)
    );
    assert_eq!(first.len(), 2);
    assert!(announced(&watched));
    settle(&mut watched, &mut running, now, true);
    let service = running.services[0].service.id;
    assert!(running.health.lost.contains(&service));
    let lost = watched.take_quorum_changes();
    assert_eq!(
        (lost.len(), lost[0].service, lost[0].is_lost),
        (1, service, true)
    );
    assert_eq!(lost[0].command(), ["/bin/true"]);
    assert!(!announced(&watched), "one of the two is enough");
    // Read again, it is the same.
    watched.follow(&running, now);
    assert_eq!(watched.take_quorum_changes(), []);
    settle(&mut watched, &mut running, now, false);
    let back = watched.take_quorum_changes();
    assert_eq!(
        (back.len(), back[0].is_lost, back[0].command().len()),
        (1, false, 0)
    );
    assert!(announced(&watched));
}

#[test]
fn a_share_of_a_weight() {
    let weight = |weight: u64| Weight::try_from(weight).unwrap();
    for (configured, share, part, expected) in [
        (10, None, 1.0, None),
        (10, None, 0.05, Some(1)),
        (1, None, 0.05, None),
        (10, Some(Share::Percent(75)), 1.0, Some(8)),
        (10, Some(Share::Percent(0)), 1.0, Some(0)),
        (10, Some(Share::Percent(100)), 1.0, None),
        (10, Some(Share::Percent(200)), 0.5, None),
        (10, Some(Share::Weight(3)), 1.0, Some(3)),
        (0, Some(Share::Weight(3)), 1.0, None),
    ] {
        let found = adjusted(weight(configured), share, part);
        assert_eq!(found, expected.map(weight), "{configured} {share:?} {part}");
    }
}

/// What some services say of their servers is followed without the others; what more there is is left alone.
#[test]
fn services_that_change_are_followed_alone() {
    let (start, later) = (Instant::now(), Instant::now() + Duration::from_secs(1));
    let before = read();
    let (service, id) = (
        before.services[0].service.id,
        before.services[0].destinations[0].id,
    );
    let patch = |text: &str| Change::PatchDestination {
        service,
        id,
        patch: serde_json::from_str(text).unwrap(),
    };
    let switch = |off| Change::SwitchServer { service, id, off };
    let of_servers = [
        vec![patch(r#"{"weight":101}"#)],
        vec![patch(r#"{"weight":99}"#)],
        vec![switch(true)],
        vec![Change::AdjustServer {
            service,
            id,
            weight: Some(Weight::ZERO),
        }],
    ];
    for changes in of_servers {
        let after = before.apply(&changes).unwrap();
        let followed = || {
            let mut watched = Watched::default();
            watched.follow(&before, start);
            watched.stale.clear();
            watched
        };
        let (mut alone, mut whole) = (followed(), followed());
        assert!(alone.follow_servers(&after, later), "{changes:?}");
        whole.follow(&after, later);
        let shown = |watched: &Watched| format!("{:?} {:?}", watched.services, watched.servers);
        assert_eq!(shown(&alone), shown(&whole));
        assert_eq!(alone.take_quorum_changes(), whole.take_quorum_changes());
        assert_eq!(alone.stale, [0].into(), "only what changed is looked at");
        assert!(alone.follow_servers(&after, later), "it stays so");
    }
    let more = [
        Change::RemoveDestination { service, id },
        Change::RemoveService { id: service },
        Change::ReplaceChecks {
            checks: before.health.checks.clone(),
            services: Vec::new(),
        },
    ];
    for change in more {
        let mut watched = Watched::default();
        watched.follow(&before, start);
        assert!(!watched.follow_servers(&before.apply(&[change]).unwrap(), later));
    }
}
