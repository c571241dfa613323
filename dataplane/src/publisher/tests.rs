//! What becomes of totals when servers and services go and come back.

use pollux_api::{
    Change, Destination, DestinationId, ForwardingMethod, Protocol, Tunnel, VirtualService, Weight,
};
use pollux_engine::Tick;

use super::*;

struct Director {
    running: Running,
    snapshot: Snapshot,
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

fn add_server() -> Change {
    Change::AddDestination {
        service: service(),
        destination: Destination {
            id: server(),
            method: ForwardingMethod::Nat,
            tunnel: Tunnel::default(),
            weight: Weight::default(),
            upper_threshold: 0,
            lower_threshold: 0,
        },
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
        let snapshot = Snapshot::compile(&spec, Arc::clone(&forwarding), None, 1);
        let running = Running {
            state: State::default(),
            totals: Totals::default(),
            trash: Trash::default(),
            view: Arc::default(),
            forwarding,
            daemons: Daemons::new(1024, 1),
        };
        Self { running, snapshot }
    }

    fn change(&mut self, changes: &[Change]) {
        let before = &self.running.state;
        let mut next = State {
            generation: before.generation + 1,
            numbering: before.numbering.clone(),
            configuration: before.configuration.apply(changes).unwrap(),
        };
        next.numbering.assign(&next.configuration.in_force());
        self.running.note_changes(&next, &self.snapshot);
        self.running.state = next;
        self.compile();
    }

    fn compile(&mut self) {
        let state = &self.running.state;
        let edited = BTreeSet::new();
        let when = (state.generation, Tick(0));
        let spec = compile::services(&state.configuration, &[], &state.numbering, when, &edited);
        let forwarding = Arc::clone(&self.running.forwarding);
        self.snapshot = Snapshot::compile(&spec, forwarding, Some(&self.snapshot), 1);
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
    director.compile();
    director.change(&[add_server()]);
    assert_eq!(director.totals(), (3, 0));
}
