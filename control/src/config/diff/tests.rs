//! Differences lead where they must and touch nothing else: on any two configurations.

use proptest::prelude::*;

use super::*;
use crate::config::any_configuration::configuration;

/// The same services and servers, in whatever order.
fn sorted(mut configuration: Configuration) -> Configuration {
    for entry in &mut configuration.services {
        entry.destinations.sort_by_key(|known| known.id);
    }
    configuration.services.sort_by_key(|entry| entry.service.id);
    configuration
}

proptest! {
    #[test]
    fn the_changes_lead_there(from in configuration(), to in configuration()) {
        let there = from.apply(&changes(&from, &to)).unwrap();
        prop_assert_eq!(sorted(there), sorted(to));
    }

    #[test]
    fn from_nothing_the_order_is_the_same_too(to in configuration()) {
        let empty = Configuration::default();
        prop_assert_eq!(empty.apply(&changes(&empty, &to)).unwrap(), to);
    }

    #[test]
    fn what_is_alike_is_not_touched(from in configuration(), to in configuration()) {
        for change in changes(&from, &to) {
            match change {
                Change::RemoveService { id } => prop_assert!(to.service(id).is_none()),
                Change::EditService { service } => {
                    prop_assert_ne!(&from.service(service.id).unwrap().service, &service);
                }
                Change::EditDestination { service, destination } => {
                    let known = &from.service(service).unwrap().destinations;
                    prop_assert!(!known.contains(&destination));
                }
                Change::RemoveDestination { service, id } => {
                    let wanted = &to.service(service).unwrap().destinations;
                    prop_assert!(wanted.iter().all(|known| known.id != id));
                }
                Change::Set { settings } => {
                    for (name, value) in settings {
                        prop_assert_ne!(from.settings.get(&name), value);
                        prop_assert_eq!(to.settings.get(&name), value);
                    }
                }
                Change::ReplaceMarks { rules } => {
                    prop_assert_ne!(&rules, &from.marks);
                    prop_assert_eq!(rules, to.marks.clone());
                }
                Change::AddService { .. } | Change::AddDestination { .. } => {}
                // Configurations with checks: `config::health`.
                Change::ReplaceChecks { .. } | Change::SwitchServer { .. }
                | Change::AdjustServer { .. }
                | Change::AddMark { .. }
                | Change::RemoveMark { .. }
                | Change::Flush
                | Change::PatchService { .. } | Change::PatchDestination { .. } => {
                    prop_assert!(false, "a difference is never made of this");
                }
            }
        }
    }

    #[test]
    fn an_unchanged_configuration_changes_nothing(same in configuration()) {
        prop_assert_eq!(changes(&same, &same), []);
    }
}
