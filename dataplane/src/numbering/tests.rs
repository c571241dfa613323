//! The numbering against its promises, over random histories of configurations.

use pollux_api::configuration::{Destination, ServiceEntry, VirtualService};
use pollux_api::{ForwardingMethod, Protocol, Weight};
use proptest::prelude::*;

use super::*;

fn service(number: u8) -> ServiceId {
    let endpoint = format!("198.51.100.{}:80", number + 1);
    ServiceId::address(Protocol::Tcp, endpoint.parse().unwrap())
}

fn destination(number: u8) -> DestinationId {
    format!("203.0.113.{}:80", number + 1).parse().unwrap()
}

/// A configuration with these services, each with these destinations.
fn configuration(services: &[(u8, Vec<u8>)]) -> Configuration {
    let entry = |(number, destinations): &(u8, Vec<u8>)| ServiceEntry {
        service: VirtualService::new(service(*number)),
        destinations: destinations
            .iter()
            .map(|number| Destination {
                id: destination(*number),
                method: ForwardingMethod::Nat,
                weight: Weight::default(),
                tunnel: Default::default(),
                upper_threshold: 0,
                lower_threshold: 0,
            })
            .collect(),
    };
    Configuration {
        services: services.iter().map(entry).collect(),
        ..Configuration::default()
    }
}

fn configured(configuration: &Configuration) -> BTreeSet<(ServiceId, DestinationId)> {
    let entries = configuration.services.iter();
    let servers = entries.flat_map(|entry| {
        let servers = entry.destinations.iter();
        servers.map(move |known| (entry.service.id, known.id))
    });
    servers.collect()
}

fn number_of(numbering: &Numbering, service_number: u8, destination_number: u8) -> Option<u32> {
    numbering
        .destination(service(service_number), destination(destination_number))
        .map(DestinationNumber::get)
}

#[test]
fn numbers_start_at_zero_and_stay() {
    let mut numbering = Numbering::default();
    numbering.assign(&configuration(&[(5, vec![1, 2])]));
    assert_eq!(numbering.service(service(5)), Some(ServiceNumber(0)));
    let before = [number_of(&numbering, 5, 1), number_of(&numbering, 5, 2)];
    assert_eq!(before, [Some(0), Some(1)]);
    numbering.assign(&configuration(&[(1, vec![9]), (5, vec![0, 2, 1])]));
    let after = [number_of(&numbering, 5, 1), number_of(&numbering, 5, 2)];
    assert_eq!(after, before);
    assert_eq!(numbering.service(service(5)), Some(ServiceNumber(0)));
}

#[test]
fn a_removed_destination_added_again_gets_its_number_back() {
    let mut numbering = Numbering::default();
    numbering.assign(&configuration(&[(0, vec![1, 2])]));
    let before = number_of(&numbering, 0, 1);
    numbering.assign(&Configuration::default());
    numbering.assign(&configuration(&[(0, vec![3]), (4, vec![1])]));
    assert_ne!(number_of(&numbering, 0, 3), before);
    assert_ne!(number_of(&numbering, 4, 1), before);
    numbering.assign(&configuration(&[(0, vec![1])]));
    assert_eq!(number_of(&numbering, 0, 1), before);
    assert!(
        numbering
            .trash()
            .all(|(number, ..)| Some(number.0) != before)
    );
}

#[test]
fn a_released_number_is_free() {
    let (one, none) = (configuration(&[(0, vec![1])]), Configuration::default());
    let mut numbering = Numbering::default();
    numbering.assign(&one);
    let number = numbering.destination(service(0), destination(1)).unwrap();
    assert!(!numbering.release(number, &one), "configured");
    numbering.assign(&none);
    assert!(
        numbering.service(service(0)).is_some(),
        "its destination has a number"
    );
    assert!(numbering.release(number, &none));
    assert!(!numbering.release(number, &none), "released already");
    assert_eq!(numbering, Numbering::default());
}

#[test]
fn stored_numbers_must_fit() {
    let one = configuration(&[(0, vec![1])]);
    let (s, d) = (ServiceNumber(3), DestinationNumber(4));
    let (service, destination) = (service(0), destination(1));
    let restore = |services: &[_], destinations: &[_]| {
        Numbering::restore(services.to_vec(), destinations.to_vec(), &one)
    };
    let good = restore(&[(s, service)], &[(d, service, destination)]).unwrap();
    assert_eq!(good.destination(service, destination), Some(d));
    let cases = [
        (restore(&[], &[]), NumberingError::ServiceMissing(service)),
        (
            restore(&[(s, service)], &[]),
            NumberingError::DestinationMissing(service, destination),
        ),
        (
            restore(&[], &[(d, service, destination)]),
            NumberingError::ServiceMissing(service),
        ),
        (
            restore(&[(s, service), (s, service)], &[]),
            NumberingError::Twice(3),
        ),
        (
            restore(
                &[(s, service)],
                &[
                    (d, service, destination),
                    (d, service, super::tests::destination(2)),
                ],
            ),
            NumberingError::Twice(4),
        ),
    ];
    for (result, error) in cases {
        assert_eq!(result.unwrap_err(), error);
    }
}

/// One step of a history: a new configuration, or the release of one number in the trash.
#[derive(Debug, Clone)]
enum Step {
    Assign(Vec<(u8, Vec<u8>)>),
    Release(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let destinations = prop::collection::btree_set(0..6_u8, 0..6);
    let services = prop::collection::btree_map(0..4_u8, destinations, 0..4);
    let assign = services.prop_map(|services| {
        let entries = services.into_iter();
        Step::Assign(
            entries
                .map(|(id, set)| (id, set.into_iter().collect()))
                .collect(),
        )
    });
    prop_oneof![
        3 => assign,
        2 => any::<prop::sample::Index>().prop_map(Step::Release),
    ]
}

proptest! {
    #[test]
    fn promises_hold_over_any_history(steps in prop::collection::vec(step(), 1..30)) {
        let mut numbering = Numbering::default();
        let mut now = Configuration::default();
        // What a connection may refer to: kept until released.
        let mut referred: BTreeMap<DestinationNumber, (ServiceId, DestinationId)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Assign(services) => {
                    now = configuration(&services);
                    numbering.assign(&now);
                }
                Step::Release(index) => {
                    let trash: Vec<_> = numbering.trash().collect();
                    if !trash.is_empty() {
                        let number = index.get(&trash).0;
                        prop_assert!(numbering.release(number, &now));
                        referred.remove(&number);
                    }
                }
            }
            for (number, key) in &referred {
                prop_assert_eq!(numbering.destination(key.0, key.1), Some(*number));
            }
            for (service, id) in configured(&now) {
                let number = numbering.destination(service, id);
                prop_assert!(number.is_some());
                prop_assert!(numbering.service(service).is_some());
                referred.extend(number.map(|number| (number, (service, id))));
            }
            let numbers: BTreeSet<_> = numbering.destinations().map(|(number, ..)| number).collect();
            prop_assert_eq!(numbers.len(), numbering.destinations().count());
            let numbers: BTreeSet<_> = numbering.services().map(|(number, _)| number).collect();
            prop_assert_eq!(numbers.len(), numbering.services().count());
            let again = Numbering::restore(numbering.services(), numbering.destinations(), &now);
            prop_assert_eq!(again, Ok(numbering.clone()));
        }
    }
}
