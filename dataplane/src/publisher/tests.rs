//! What becomes of totals when servers and services go and come back.

use pollux_api::health::{CheckedService, OnFailure};
use pollux_api::{
    Change, Destination, DestinationId, ForwardingMethod, Protocol, Tunnel, VirtualService, Weight,
};
use pollux_engine::Tick;
use proptest::prelude::*;

use super::*;

struct Director {
    running: Running,
    snapshot: Arc<Snapshot>,
}

fn service() -> ServiceId {
    ServiceId::address(Protocol::Udp, "198.51.100.1:53".parse().unwrap())
}

fn server() -> DestinationId {
    "203.0.113.11:53".parse().unwrap()
}

fn add_service() -> Change {
    Change::AddService {
        service: VirtualService::new(service()),
    }
}

fn destination() -> Destination {
    Destination {
        id: server(),
        method: ForwardingMethod::Nat,
        tunnel: Tunnel::default(),
        weight: Weight::default(),
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

fn add_server() -> Change {
    Change::AddDestination {
        service: service(),
        destination: destination(),
    }
}

fn remove_server() -> Change {
    Change::RemoveDestination {
        service: service(),
        id: server(),
    }
}

impl Director {
    fn new() -> Self {
        let forwarding = Arc::new(ForwardingTable::new(1, Vec::new(), &[], &[]));
        let spec = pollux_engine::SnapshotSpec::default();
        let snapshot = Arc::new(Snapshot::compile(&spec, Arc::clone(&forwarding), None, 1));
        let running = Running {
            state: State::default(),
            totals: Totals::default(),
            trash: Trash::default(),
            neighbours: NeighboursInUse::default(),
            forwarding,
            daemons: Daemons::new(1024, 1),
            spare: None,
        };
        Self { running, snapshot }
    }

    fn change(&mut self, changes: &[Change]) {
        let next = self.running.state.apply(changes).unwrap();
        self.running.note_changes(&next, &self.snapshot);
        let part = Part::of(&self.running.state, &next);
        self.running.state = next.state;
        self.publish(part);
    }

    fn publish(&mut self, part: Option<Part>) {
        let edited = BTreeSet::new();
        let when = (self.snapshot.generation() + 1, Tick(0));
        let running = &mut self.running;
        let (next, _) = match &part {
            Some(part) => running.compile_part(part, &self.snapshot, when, &edited),
            None => running.compile_all(&[], &self.snapshot, when, &edited, 1),
        };
        let old = std::mem::replace(&mut self.snapshot, next);
        self.running.spare = part.map(|part| Spare::new(old, part));
    }

    fn number(&self) -> DestinationNumber {
        let numbering = &self.running.state.numbering;
        numbering.destination(service(), server()).unwrap()
    }

    /// The server gets so many connections.
    fn connect(&self, connections: u64) {
        let found = self.snapshot.destination(self.number().get()).unwrap();
        let counters = found.traffic(0).unwrap();
        counters.connections.add(connections);
    }

    /// Connections of the service and of the server.
    fn totals(&self) -> (u64, u64) {
        let Running { totals, .. } = &self.running;
        let numbers = self.running.numbers_of(service());
        let of_service = totals.service(service(), numbers, &self.snapshot);
        let of_server = totals.destination(self.number(), &self.snapshot);
        (of_service.connections, of_server.connections)
    }

    fn zero(&mut self) {
        self.running.zero(service(), &self.snapshot);
    }
}

fn used() -> Director {
    let mut director = Director::new();
    director.change(&[add_service(), add_server()]);
    director.connect(3);
    assert_eq!(director.totals(), (3, 3));
    director
}

#[test]
fn a_server_that_comes_back_goes_on_counting() {
    let mut director = used();
    director.change(&[remove_server()]);
    // What its connections still send counts nowhere (`ip_vs_out_stats`).
    director.connect(1);
    director.change(&[add_server()]);
    assert_eq!(director.totals(), (3, 3));
    director.connect(2);
    assert_eq!(director.totals(), (5, 5));
}

#[test]
fn a_service_that_is_zeroed_takes_nothing_from_a_server_that_is_away() {
    let mut director = used();
    director.change(&[remove_server()]);
    director.zero();
    director.change(&[add_server()]);
    assert_eq!(director.totals(), (0, 3));
    director.connect(1);
    assert_eq!(director.totals(), (1, 4));
    director.zero();
    assert_eq!(director.totals(), (0, 0));
}

#[test]
fn a_service_that_is_made_anew_counts_anew_with_its_servers() {
    let mut director = used();
    director.change(&[Change::RemoveService { id: service() }]);
    director.change(&[add_service()]);
    director.change(&[add_server()]);
    assert_eq!(director.totals(), (0, 0));
    director.connect(1);
    assert_eq!(director.totals(), (1, 1));
}

#[test]
fn what_a_forgotten_server_had_counted_stays_its_services() {
    let mut director = used();
    director.change(&[remove_server()]);
    let number = director.number();
    let configuration = director.running.state.configuration.clone();
    let Running { state, totals, .. } = &mut director.running;
    totals.retire(service(), number, &director.snapshot);
    totals.forget_destination(number, &director.snapshot);
    assert!(state.numbering.release(number, &configuration));
    director.publish(Some(Part::of_freed(vec![number])));
    director.change(&[add_server()]);
    assert_eq!(director.totals(), (3, 0));
}

/// Everything that packets can meet, but for what the two count.
fn shown(director: &Director) -> (Vec<String>, Vec<String>) {
    let snapshot = &director.snapshot;
    let destinations = (0..64).map(|number| format!("{:?}", snapshot.destination(number)));
    let services = snapshot.services().iter();
    let mut services: Vec<_> = services.map(|it| (it.number, format!("{it:?}"))).collect();
    services.sort();
    let services = services.into_iter().map(|(_, shown)| shown);
    (destinations.collect(), services.collect())
}

/// Changes of three services with three servers each; some are not valid where they are made.
fn any_change() -> impl Strategy<Value = Change> {
    let service = (53..56_u16).prop_map(|port| {
        ServiceId::address(
            Protocol::Udp,
            format!("198.51.100.1:{port}").parse().unwrap(),
        )
    });
    let id = (11..14_u8)
        .prop_map(|server| -> DestinationId { format!("203.0.113.{server}:53").parse().unwrap() });
    let destination = (id.clone(), 0..3_u64).prop_map(|(id, weight)| Destination {
        id,
        weight: Weight::try_from(weight).unwrap(),
        ..destination()
    });
    let (of, at) = (service.clone(), (service.clone(), id));
    let with = (service.clone(), destination);
    prop_oneof![
        3 => of.clone().prop_map(|id| Change::AddService { service: VirtualService::new(id) }),
        1 => of.clone().prop_map(|id| Change::EditService {
            service: VirtualService {
                scheduler: pollux_api::SchedulerName::MaglevHashing,
                ..VirtualService::new(id)
            },
        }),
        1 => of.prop_map(|id| Change::RemoveService { id }),
        6 => with.clone().prop_map(|(service, destination)| {
            Change::AddDestination { service, destination }
        }),
        2 => with.prop_map(|(service, destination)| {
            Change::EditDestination { service, destination }
        }),
        2 => at.clone().prop_map(|(service, id)| Change::RemoveDestination { service, id }),
        1 => service.prop_map(|id| Change::ReplaceChecks {
            checks: vec![pollux_api::Check {
                name: "connect".to_owned(),
                probe: pollux_api::health::Probe::Ping(Default::default()),
                port: None,
                interval_ms: 1000,
                timeout_ms: 100,
                rise: 2,
                fall: 3,
                service_path: false,
                jitter_percent: 20,
            }],
            services: vec![CheckedService {
                on_failure: OnFailure::Remove,
                ..CheckedService::new(id, "connect".into())
            }],
        }),
        3 => (at, any::<bool>()).prop_map(|((service, id), off)| {
            Change::SwitchServer { service, id, off }
        }),
        1 => any::<bool>().prop_map(|is_set| Change::Set {
            settings: [("expire_nodest_conn".to_owned(), is_set.into())].into(),
        }),
        1 => Just(Change::Flush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// A director that compiles what changes has what one has that compiles everything, whatever is done.
    #[test]
    fn parts_come_to_the_whole(
        transactions in prop::collection::vec(
            (prop::collection::vec(any_change(), 1..3), any::<bool>()),
            1..40,
        ),
    ) {
        let (mut parts, mut whole) = (Director::new(), Director::new());
        for (changes, release) in transactions {
            if let Ok(next) = parts.running.state.apply(&changes) {
                parts.change(&changes);
                prop_assert_eq!(&parts.running.state, &next.state);
                whole.running.state = next.state;
                whole.publish(None);
            }
            if release {
                let trash = parts.running.state.numbering.trash();
                let trash: Vec<DestinationNumber> = trash.map(|(number, ..)| number).collect();
                for director in [&mut parts, &mut whole] {
                    director.running.state.release(trash.iter().copied());
                }
                parts.publish(Some(Part::of_freed(trash)));
                whole.publish(None);
            }
            prop_assert_eq!(shown(&parts), shown(&whole));
        }
    }
}
