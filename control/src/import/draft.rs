//! The configuration in the making: what is found is added as a command would add it, and what is refused becomes a note.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use pollux_api::ServiceId;
use pollux_api::configuration::{Change, ChangeError, Configuration, Destination, VirtualService};
use pollux_api::health::{Check, CheckedService};

use super::note::{Note, Place};

/// What was found so far.
#[derive(Debug, Default)]
pub struct Draft {
    configuration: Configuration,
    notes: Vec<Note>,
    /// Where services, and servers of services, were first found.
    seen: HashMap<String, Place>,
    checks: Vec<Check>,
    /// Services that are checked. They are judged when all servers are there.
    checked: Vec<(Place, CheckedService)>,
}

impl Draft {
    /// The configuration and the notes, in the order of the files and their lines.
    pub fn finish(mut self) -> (Configuration, Vec<Note>) {
        self.settle_checks();
        // Stable: notes of one line stay in the order they were made.
        self.notes.sort_by_key(|note| note.place.line);
        let mut files: Vec<_> = Vec::new();
        for note in &self.notes {
            if !files.contains(&note.place.file) {
                files.push(note.place.file.clone());
            }
        }
        self.notes
            .sort_by_key(|note| files.iter().position(|file| *file == note.place.file));
        (self.configuration, self.notes)
    }

    /// Something to know. What was said already is not said again.
    pub fn note(&mut self, place: &Place, text: impl fmt::Display) {
        let note = Note {
            place: place.clone(),
            text: text.to_string(),
        };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Adds a service; says whether it is there now, by this.
    pub fn add_service(&mut self, place: &Place, service: VirtualService) -> bool {
        let id = service.id;
        self.apply(
            place,
            Change::AddService { service },
            &format!("service {id}"),
        )
    }

    /// Adds a server.
    pub fn add_server(&mut self, place: &Place, service: ServiceId, server: Destination) -> bool {
        let what = format!("server {} of service {service}", server.id);
        let change = Change::AddDestination {
            service,
            destination: server,
        };
        self.apply(place, change, &what)
    }

    /// Changes, adds or removes, as a script of commands does; says whether that was possible.
    pub fn apply(&mut self, place: &Place, change: Change, what: &str) -> bool {
        match self.configuration.apply_one(&change) {
            Ok(()) => {
                self.seen.insert(what.to_owned(), place.clone());
                true
            }
            Err(ChangeError::ServiceExists(_) | ChangeError::DestinationExists(..)) => {
                let first = self.seen.get(what).cloned();
                let first = first.map_or_else(String::new, |first| format!(" from {first}"));
                self.note(place, format!("{what} is there already{first}: left out"));
                false
            }
            Err(error) => {
                self.note(place, format!("left out: {error}"));
                false
            }
        }
    }

    /// The name of a check that is there, or is now; none when it is not valid.
    pub fn check(&mut self, place: &Place, mut check: Check) -> Option<String> {
        let alike = self.checks.iter().find(|known| {
            check.name.clone_from(&known.name);
            **known == check
        });
        if let Some(known) = alike {
            return Some(known.name.clone());
        }
        let kind = check.probe.kind();
        let mut names = std::iter::once(kind.to_owned())
            .chain((2_u32..).map(|number| format!("{kind}-{number}")));
        check.name = names.find(|name| !self.checks.iter().any(|known| known.name == *name))?;
        let alone = Change::ReplaceChecks {
            checks: vec![check.clone()],
            services: Vec::new(),
        };
        if let Err(error) = Configuration::default().apply_one(&alone) {
            self.note(place, format!("left out: {error}"));
            return None;
        }
        let name = check.name.clone();
        self.checks.push(check);
        Some(name)
    }

    /// The servers of a service are checked.
    pub fn use_checks(&mut self, place: &Place, checked: CheckedService) {
        self.checked.push((place.clone(), checked));
    }

    fn settle_checks(&mut self) {
        let replaced = |checks: &[Check], services: Vec<CheckedService>| Change::ReplaceChecks {
            checks: checks.to_vec(),
            services,
        };
        let all = self
            .checked
            .iter()
            .map(|(_, checked)| checked.clone())
            .collect();
        if self
            .configuration
            .apply_one(&replaced(&self.checks, all))
            .is_ok()
        {
            return;
        }
        // One of them is not valid: which, and why?
        let mut kept = Vec::new();
        for (place, checked) in std::mem::take(&mut self.checked) {
            kept.push(checked);
            let change = replaced(&self.checks, kept.clone());
            if let Err(error) = self.configuration.apply_one(&change) {
                kept.pop();
                self.note(&place, format!("its checks are left out: {error}"));
            }
        }
    }

    /// Sets a setting of IPVS.
    pub fn set(&mut self, place: &Place, name: &str, value: u32) {
        let settings = BTreeMap::from([(name.to_owned(), value)]);
        self.apply(place, Change::Set { settings }, name);
    }
}
