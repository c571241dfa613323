//! What is stored comes back, and what is not whole is told.

use std::num::NonZeroU32;

use pollux_api::health::{Check, CheckedService, Probe, Quorum};
use pollux_api::{
    Change, Configuration, Destination, ForwardingMethod, MarkRule, Protocol, SchedulerName,
    ServiceId, VirtualService, Weight,
};
use proptest::prelude::*;

use super::*;
use crate::numbering::{DestinationNumber, Numbering};

fn service() -> ServiceId {
    ServiceId::address(Protocol::Udp, "[2001:db8:100::1]:53".parse().unwrap())
}

fn check() -> Check {
    Check {
        name: "connect".to_owned(),
        probe: Probe::Ping(Default::default()),
        port: None,
        interval_ms: 1000,
        timeout_ms: 100,
        rise: 2,
        fall: 3,
        service_path: false,
        jitter_percent: 20,
    }
}

fn state() -> State {
    let service = service();
    let server = |id: &str| Destination {
        id: id.parse().unwrap(),
        method: ForwardingMethod::Nat,
        weight: Weight::default(),
        tunnel: Default::default(),
        upper_threshold: 0,
        lower_threshold: 0,
    };
    let add = |id: &str| Change::AddDestination {
        service,
        destination: server(id),
    };
    let changes = [
        Change::AddService {
            service: VirtualService {
                scheduler: SchedulerName::RoundRobin,
                ..VirtualService::new(service)
            },
        },
        add("[2001:db8:2::11]:53"),
        add("[2001:db8:2::12]:53"),
        add("[2001:db8:2::13]:53"),
        add("[2001:db8:2::14]:53"),
        Change::Set {
            settings: [("sloppy_tcp".to_owned(), 1)].into(),
        },
        Change::ReplaceMarks {
            rules: vec![MarkRule {
                mark: NonZeroU32::MIN,
                source: None,
                destination: None,
                protocol: Some(Protocol::Udp),
                source_ports: None,
                destination_ports: None,
                ingress: None,
            }],
        },
        Change::ReplaceChecks {
            checks: vec![check()],
            services: vec![CheckedService {
                // 2 of 3 are up: still lost, once it was.
                quorum: Quorum {
                    weight: 2,
                    hysteresis: 1,
                    ..Quorum::default()
                },
                sorry_server: Some(Destination {
                    id: "[2001:db8:2::19]:53".parse().unwrap(),
                    ..server("[2001:db8:2::11]:53")
                }),
                ..CheckedService::new(service, "connect".into())
            }],
        },
        Change::SwitchServer {
            service,
            id: "[2001:db8:2::12]:53".parse().unwrap(),
            off: true,
        },
        Change::AdjustServer {
            service,
            id: "[2001:db8:2::13]:53".parse().unwrap(),
            weight: Some(Weight::ZERO),
        },
    ];
    let before = Configuration::default().apply(&changes).unwrap();
    let removed = Change::RemoveDestination {
        service,
        id: "[2001:db8:2::11]:53".parse().unwrap(),
    };
    let configuration = before.apply(&[removed]).unwrap();
    let mut numbering = Numbering::default();
    numbering.assign(&before);
    numbering.assign(&configuration);
    State {
        generation: 7,
        configuration,
        numbering,
    }
}

/// A transaction done and stored, as the publisher does it.
fn transact(directory: &StateDirectory, state: &State, changes: &[Change]) -> State {
    let next = state.apply(changes).unwrap();
    let record = Record::of_changes(next.state.generation, changes, &next.numbered);
    directory.store(record, state).unwrap();
    next.state
}

/// Numbers released and stored.
fn release(directory: &StateDirectory, state: &State, numbers: &[DestinationNumber]) -> State {
    let mut next = state.clone();
    next.release(numbers.iter().copied());
    let record = Record::of_release(next.generation, numbers);
    directory.store(record, state).unwrap();
    next
}

/// A state directory with [`state`] and one transaction more.
fn stored() -> (tempfile::TempDir, StateDirectory, State) {
    let directory = tempfile::tempdir().unwrap();
    let state_directory = StateDirectory::open(directory.path()).unwrap();
    let state = transact(
        &state_directory,
        &state(),
        &[weigh("[2001:db8:2::12]:53", 7)],
    );
    (directory, state_directory, state)
}

fn weigh(server: &str, weight: u64) -> Change {
    let patch = format!(r#"{{"weight":{weight}}}"#);
    Change::PatchDestination {
        service: service(),
        id: server.parse().unwrap(),
        patch: serde_json::from_str(&patch).unwrap(),
    }
}

#[test]
fn nothing_stored_is_the_empty_state() {
    let directory = tempfile::tempdir().unwrap();
    let nested = directory.path().join("made/for/it");
    let state_directory = StateDirectory::open(&nested).unwrap();
    assert_eq!(state_directory.load().unwrap(), State::default());
}

#[test]
fn what_is_stored_comes_back_with_the_trash() {
    let (directory, state_directory, stored) = stored();
    drop(state_directory);
    let again = StateDirectory::open(directory.path()).unwrap();
    assert_eq!(again.load().unwrap(), stored);
    assert_eq!(stored.numbering.trash().count(), 1);
    let number = stored.numbering.trash().next().unwrap().0;
    let released = release(&again, &stored, &[number]);
    assert_eq!(released.numbering.trash().count(), 0);
    assert_eq!(again.load().unwrap(), released);
}

/// 2,000 services with 20 servers each are 12 MB of state file; a change of one server is written as what it is.
#[test]
fn a_change_of_one_server_costs_its_own_bytes() {
    let changes: Vec<Change> = (1..=2000)
        .flat_map(|port| {
            let endpoint = format!("198.51.100.1:{port}");
            let service = ServiceId::address(Protocol::Tcp, endpoint.parse().unwrap());
            let servers = (1..=20).map(move |server| Change::AddDestination {
                service,
                destination: Destination {
                    id: format!("203.0.113.{server}:80").parse().unwrap(),
                    method: ForwardingMethod::Nat,
                    weight: Weight::default(),
                    tunnel: Default::default(),
                    upper_threshold: 0,
                    lower_threshold: 0,
                },
            });
            let add = Change::AddService {
                service: VirtualService::new(service),
            };
            std::iter::once(add).chain(servers)
        })
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let state_directory = StateDirectory::open(directory.path()).unwrap();
    let before = transact(&state_directory, &State::default(), &changes);
    let on_disk = |name| fs::metadata(directory.path().join(name)).unwrap();
    let fold = state_directory.begin_fold(Instant::now()).unwrap();
    state_directory.fold(&before, fold).unwrap();
    let snapshot = on_disk(CONFIGURATION_FILE);
    assert!(snapshot.len() > 4 << 20, "{}", snapshot.len());
    assert_eq!(on_disk(JOURNAL_FILE).len(), 0);
    let one = Change::PatchDestination {
        service: ServiceId::address(Protocol::Tcp, "198.51.100.1:1000".parse().unwrap()),
        id: "203.0.113.7:80".parse().unwrap(),
        patch: serde_json::from_str(r#"{"weight":9}"#).unwrap(),
    };
    let next = before.apply(std::slice::from_ref(&one)).unwrap();
    assert_eq!(next.changed.len(), 1, "nothing else is compiled anew");
    let after = transact(&state_directory, &before, &[one]);
    assert!(on_disk(JOURNAL_FILE).len() < 300);
    assert_eq!(
        on_disk(CONFIGURATION_FILE).modified().unwrap(),
        snapshot.modified().unwrap(),
        "the state file is not touched"
    );
    assert_eq!(state_directory.load().unwrap(), after);
}

#[test]
fn a_fold_takes_nothing_of_what_is_stored_meanwhile() {
    let (directory, state_directory, first) = stored();
    let later = Instant::now() + QUIET;
    assert!(state_directory.begin_fold(Instant::now()).is_none(), "soon");
    let fold = state_directory.begin_fold(later).unwrap();
    assert!(state_directory.begin_fold(later).is_none(), "under way");
    let second = transact(&state_directory, &first, &[weigh("[2001:db8:2::13]:53", 8)]);
    assert_eq!(state_directory.load().unwrap(), second, "before");
    state_directory.fold(&first, fold).unwrap();
    assert_eq!(state_directory.load().unwrap(), second, "after");
    let third = transact(
        &state_directory,
        &second,
        &[weigh("[2001:db8:2::14]:53", 9)],
    );
    assert_eq!(state_directory.load().unwrap(), third);
    let fold = state_directory.begin_fold(later + 2 * QUIET).unwrap();
    state_directory.fold(&third, fold).unwrap();
    assert!(
        state_directory.begin_fold(later + 9 * QUIET).is_none(),
        "nothing is left to fold"
    );
    let text = fs::read_to_string(directory.path().join(CONFIGURATION_FILE)).unwrap();
    assert!(
        text.contains("\"format\": 2,\n  \"sequence\": 3,"),
        "{text}"
    );
    assert_eq!(state_directory.load().unwrap(), third);
}

/// Wherever a crash cuts the last line, it is dropped; and what is accepted next takes its place.
#[test]
fn a_torn_last_line_is_dropped_and_no_other() {
    let (directory, state_directory, first) = stored();
    let path = directory.path().join(JOURNAL_FILE);
    let whole = fs::read(&path).unwrap();
    transact(&state_directory, &first, &[weigh("[2001:db8:2::13]:53", 8)]);
    let both = fs::read(&path).unwrap();
    let mut pages_lost = both.clone();
    pages_lost[whole.len() + 10..whole.len() + 20].fill(0);
    for torn in (whole.len() + 1..both.len())
        .map(|end| &both[..end])
        .chain([&pages_lost[..]])
    {
        fs::write(&path, torn).unwrap();
        assert_eq!(state_directory.load().unwrap(), first);
        let next = transact(&state_directory, &first, &[weigh("[2001:db8:2::14]:53", 9)]);
        assert_eq!(state_directory.load().unwrap(), next);
    }
}

#[test]
fn a_journal_that_cannot_be_read_is_an_error_that_says_how_to_mend_it() {
    let (directory, state_directory, first) = stored();
    let path = directory.path().join(JOURNAL_FILE);
    transact(&state_directory, &first, &[weigh("[2001:db8:2::13]:53", 8)]);
    let good = fs::read_to_string(&path).unwrap();
    let (line, rest) = good.split_once('\n').unwrap();
    let numbered = format!(
        "{line}\n{}",
        rest.replace(
            "\"changes\"",
            "\"numbers\":[{\"service\":{\"fwmark\":7,\"family\":\"ipv4\"},\"number\":0}],\"changes\""
        )
    );
    let cases = [
        (
            good.replacen("\"changes\"", "\"chances\"", 1),
            "line 1: column 38: unknown field `chances`",
        ),
        (
            format!("{line}\n{}\n{rest}", &line[..20]),
            "line 2: column 20: EOF while parsing",
        ),
        (
            rest.to_owned(),
            "line 1: record 2 follows record 0: what was accepted between them is missing",
        ),
        (
            format!("{line}\n{}", rest.replace("::13]", "::99]")),
            "line 2: no such server",
        ),
        (numbered, "line 2: number 0 is given twice"),
    ];
    for (content, text) in cases {
        fs::write(&path, &content).unwrap();
        let error = state_directory.load().unwrap_err().to_string();
        assert!(error.contains(text), "{content}: {error}");
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(error.contains("mend it, or move it away to start with what that file has"));
    }
    fs::write(&path, &good).unwrap();
    fs::remove_file(directory.path().join(CONFIGURATION_FILE)).unwrap();
    let error = state_directory.load().unwrap_err().to_string();
    assert!(
        error.contains("goes on from configuration.json, which is not there"),
        "{error}"
    );
}

/// As the release before wrote it.
#[test]
fn a_file_without_a_journal_is_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let state_directory = StateDirectory::open(directory.path()).unwrap();
    let path = directory.path().join(CONFIGURATION_FILE);
    let new = String::from_utf8(snapshot::encode(&state(), 0).unwrap()).unwrap();
    let old = new.replace("\"format\": 2,\n  \"sequence\": 0,", "\"format\": 1,");
    assert_ne!(old, new);
    fs::write(&path, &old).unwrap();
    assert_eq!(state_directory.load().unwrap(), state());
    let next = transact(
        &state_directory,
        &state(),
        &[weigh("[2001:db8:2::12]:53", 7)],
    );
    assert_eq!(state_directory.load().unwrap(), next);
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        new,
        "the release before refuses it now"
    );
    // Put back from a backup that knows nothing of the journal.
    fs::write(&path, &old).unwrap();
    let error = state_directory.load().unwrap_err().to_string();
    assert!(error.contains("older than the journal"), "{error}");
}

#[test]
fn a_half_written_file_is_never_looked_at() {
    let (directory, state_directory, stored) = stored();
    fs::write(directory.path().join("configuration.json.new"), "{\"for").unwrap();
    fs::write(directory.path().join("configuration.journal.new"), "{\"for").unwrap();
    assert_eq!(state_directory.load().unwrap(), stored);
    let fold = state_directory.begin_fold(Instant::now() + QUIET).unwrap();
    state_directory.fold(&stored, fold).unwrap();
    assert_eq!(state_directory.load().unwrap(), stored);
}

#[test]
fn a_second_data_plane_is_told_who_has_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let _first = StateDirectory::open(directory.path()).unwrap();
    let error = StateDirectory::open(directory.path())
        .unwrap_err()
        .to_string();
    let expected = format!(
        "another data plane (pid {}) uses the state directory {}: stop it, or give this one a directory of its own \
         with --state-dir",
        std::process::id(),
        directory.path().display()
    );
    assert_eq!(error, expected);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_that_says_how_to_mend_it() {
    let directory = tempfile::tempdir().unwrap();
    let state_directory = StateDirectory::open(directory.path()).unwrap();
    let path = directory.path().join(CONFIGURATION_FILE);
    let good = String::from_utf8(snapshot::encode(&state(), 3).unwrap()).unwrap();
    let numbers_gone = good.replace("\"number\": 1", "\"number\": 0");
    let twice = r#"{"format":1,"generation":1,"configuration":{"services":[{"service":{"id":{"protocol":"tcp",
        "endpoint":"198.51.100.1:80"}}},{"service":{"id":{"protocol":"tcp","endpoint":"198.51.100.1:80"}}}]},
        "service_numbers":[],"destination_numbers":[]}"#;
    let cases = [
        ("", "line 1 column 0"),
        (&good[..good.len() / 2], "EOF while parsing"),
        (
            "{\"format\": 1,\n \"unknown\": 1}",
            "unknown field `unknown`",
        ),
        ("{\"format\": 1,\n \"unknown\": 1}", "line 2 column"),
        (&numbers_gone, "number 0 is given twice"),
        (twice, "already exists"),
        (
            "{\"format\": 3, \"novel\": true}",
            "format 3, this one reads up to 2",
        ),
    ];
    for (content, text) in cases {
        fs::write(&path, content).unwrap();
        let error = state_directory.load().unwrap_err().to_string();
        assert!(error.contains(text), "{content}: {error}");
        let names_the_file = error.contains(&path.display().to_string());
        assert!(
            names_the_file && error.contains("away to start without services"),
            "{error}"
        );
    }
}

#[test]
fn a_disk_that_refuses_leaves_what_was_stored() {
    let (directory, state_directory, stored) = stored();
    // Directories in the way: what fails for root, too.
    fs::create_dir(directory.path().join("configuration.json.new")).unwrap();
    let fold = state_directory.begin_fold(Instant::now() + QUIET).unwrap();
    let error = state_directory.fold(&stored, fold).unwrap_err().to_string();
    assert!(
        error.contains("cannot store the configuration in"),
        "{error}"
    );
    assert_eq!(state_directory.load().unwrap(), stored);

    let journal = directory.path().join(JOURNAL_FILE);
    let aside = directory.path().join("aside");
    fs::rename(&journal, &aside).unwrap();
    fs::create_dir(&journal).unwrap();
    drop(state_directory);
    let again = StateDirectory::open(directory.path()).unwrap();
    assert!(again.load().is_err());
    fs::remove_dir(&journal).unwrap();
    fs::rename(&aside, &journal).unwrap();
    assert_eq!(again.load().unwrap(), stored);
}

/// One step of a history.
#[derive(Debug, Clone)]
enum Step {
    Weigh(u8, u64),
    Add(u8),
    Remove(u8),
    Switch(u8, bool),
    Flush,
    Release(prop::sample::Index),
    Fold,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let server = 11..16_u8;
    prop_oneof![
        3 => (server.clone(), 0..9_u64).prop_map(|(server, weight)| Step::Weigh(server, weight)),
        3 => server.clone().prop_map(Step::Add),
        3 => server.clone().prop_map(Step::Remove),
        2 => (server, any::<bool>()).prop_map(|(server, off)| Step::Switch(server, off)),
        1 => Just(Step::Flush),
        3 => any::<prop::sample::Index>().prop_map(Step::Release),
        1 => Just(Step::Fold),
        2 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever was done, what is read is what was accepted, with the numbers that it had.
    #[test]
    fn what_is_read_is_what_was_accepted(steps in prop::collection::vec(step(), 1..30)) {
        let directory = tempfile::tempdir().unwrap();
        let mut state_directory = StateDirectory::open(directory.path()).unwrap();
        let mut now = Instant::now();
        let mut known = State::default();
        let service = service();
        for step in steps {
            let id = |server: u8| format!("[2001:db8:2::{server}]:53").parse().unwrap();
            let add = |server: u8| Change::AddDestination {
                service,
                destination: Destination {
                    id: id(server),
                    method: ForwardingMethod::Nat,
                    weight: Weight::default(),
                    tunnel: Default::default(),
                    upper_threshold: 0,
                    lower_threshold: 0,
                },
            };
            let changes = match step {
                Step::Weigh(server, weight) => vec![weigh(&format!("[2001:db8:2::{server}]:53"), weight)],
                Step::Add(server) if known.configuration.services.is_empty() => {
                    vec![Change::AddService { service: VirtualService::new(service) }, add(server)]
                }
                Step::Add(server) => vec![add(server)],
                Step::Remove(server) => vec![Change::RemoveDestination { service, id: id(server) }],
                Step::Switch(server, off) => vec![
                    Change::ReplaceChecks {
                        checks: vec![check()],
                        services: vec![CheckedService {
                            on_failure: pollux_api::health::OnFailure::Remove,
                            ..CheckedService::new(service, "connect".into())
                        }],
                    },
                    Change::SwitchServer { service, id: id(server), off },
                ],
                Step::Flush => vec![Change::Flush],
                Step::Release(index) => {
                    let trash: Vec<_> = known.numbering.trash().collect();
                    if !trash.is_empty() {
                        known = release(&state_directory, &known, &[index.get(&trash).0]);
                    }
                    continue;
                }
                Step::Fold => {
                    now += 2 * QUIET;
                    if let Some(fold) = state_directory.begin_fold(now) {
                        state_directory.fold(&known, fold).unwrap();
                    }
                    continue;
                }
                Step::Restart => {
                    drop(state_directory);
                    state_directory = StateDirectory::open(directory.path()).unwrap();
                    prop_assert_eq!(&state_directory.load().unwrap(), &known);
                    continue;
                }
            };
            if known.apply(&changes).is_ok() {
                known = transact(&state_directory, &known, &changes);
                let mut whole = Numbering::restore(
                    known.numbering.services(),
                    known.numbering.destinations(),
                    &known.in_force(),
                ).unwrap();
                prop_assert_eq!(&whole, &known.numbering);
                whole.assign(&known.in_force());
                prop_assert_eq!(&whole, &known.numbering);
            }
        }
        prop_assert_eq!(state_directory.load().unwrap(), known);
    }
}
