//! What a `[[service]]` says of its checks: read and written.

use pollux_api::health::{CheckError, CheckNames, CheckedService, Health, OnFailure, Quorum};
use pollux_api::{ChangeError, Destination, ServiceId};
use toml_edit::{Array, Item, Table, Value};

use super::super::file_schema::ServerTable;
use super::super::problem::{Located, Place, ProblemList};
use super::super::table_reader::TableReader;
use super::super::write::{server_table, set_value};

const SORRY_SERVER: &str = "sorry_server";

/// The keys of a service that are about its checks.
#[derive(Debug, Default)]
pub struct ServiceChecks {
    names: Option<Located<Vec<String>>>,
    /// Whether the names are there, however they read.
    has_check: bool,
    start_down: bool,
    on_failure: OnFailure,
    slow_start_s: u32,
    quorum: Quorum,
    /// `[service.sorry_server]`
    pub sorry_server: Option<ServerTable>,
    /// Where each of the keys is that is there, but the names.
    places: Vec<(&'static str, Place)>,
    /// Whether all that is there could be read.
    is_read: bool,
}

impl ServiceChecks {
    /// Reads the keys of a service.
    pub fn read(table: &TableReader<'_>) -> Self {
        let mut is_read = true;
        let mut places = Vec::new();
        macro_rules! read {
            ($key:literal, $how:ident $(, $argument:expr)*) => {{
                let found = table.$how($key $(, $argument)*);
                is_read &= found.is_some() || !table.has($key);
                if table.has($key) {
                    places.push(($key, table.place_of($key)));
                }
                found.map(|found| found.value)
            }};
        }
        let words = [("drain", OnFailure::Drain), ("remove", OnFailure::Remove)];
        let default = Quorum::default();
        let numbers = 0..=u32::from(u16::MAX) << 15;
        let hook = "/usr/local/bin/announce";
        Self {
            start_down: read!("start_down", boolean).unwrap_or_default(),
            on_failure: read!("on_failure", word, &words).unwrap_or_default(),
            slow_start_s: read!("slow_start_s", number, 0..=86_400).unwrap_or_default(),
            quorum: Quorum {
                weight: read!("quorum", number, numbers.clone()).unwrap_or(default.weight),
                hysteresis: read!("quorum_hysteresis", number, numbers).unwrap_or_default(),
                up: read!("quorum_up", all_parsed, hook).unwrap_or_default(),
                down: read!("quorum_down", all_parsed, hook).unwrap_or_default(),
                announce: read!("announce", text, "wan"),
            },
            sorry_server: table.table(SORRY_SERVER).map(|table| {
                places.push((SORRY_SERVER, table.place()));
                ServerTable::read(table)
            }),
            names: table.one_or_more("check", "web"),
            places,
            has_check: table.has("check"),
            is_read,
        }
    }

    /// What it comes to. What is wrong goes on the list; none then, or if the service is not checked.
    pub fn into_use(
        self,
        service: ServiceId,
        sorry_server: Option<Destination>,
        problems: &ProblemList,
    ) -> Option<Use> {
        let Located { value, place } = self.names?;
        let Some(check) = CheckNames::new(value) else {
            problems.add(
                &place,
                "no check: write one name at least, or leave check out",
            );
            return None;
        };
        // What could not be read is on the list already.
        let used = self.is_read.then_some(CheckedService {
            service,
            check,
            start_down: self.start_down,
            on_failure: self.on_failure,
            slow_start_s: self.slow_start_s,
            quorum: self.quorum,
            sorry_server,
        })?;
        Some(Use {
            used,
            place,
            places: self.places,
        })
    }

    /// Keys that mean nothing without a check.
    pub fn report_needless(&self, problems: &ProblemList) {
        if self.has_check {
            return;
        }
        for (key, place) in &self.places {
            let message =
                format!("{key} without a check: write check = \"NAME\", too, or leave it out");
            problems.add(place, message);
        }
    }
}

/// A service's checks with the places of what it says of them.
#[derive(Debug)]
pub struct Use {
    /// What it says.
    pub used: CheckedService,
    place: Place,
    places: Vec<(&'static str, Place)>,
}

impl Use {
    /// Where what is wrong is written.
    pub fn place_of(&self, error: &ChangeError) -> &Place {
        let key = match error {
            ChangeError::Check(CheckError::NoQuorum(_)) => "quorum",
            ChangeError::Check(CheckError::Hysteresis(..)) => "quorum_hysteresis",
            ChangeError::Check(CheckError::Hook(_, key)) => key,
            ChangeError::Check(CheckError::NoAddress(_) | CheckError::Announce(..)) => "announce",
            ChangeError::Check(CheckError::SorryServerTwice(..)) => SORRY_SERVER,
            ChangeError::Check(_) => "check",
            _ => SORRY_SERVER,
        };
        let mut places = self.places.iter();
        let found = places.find(|(known, _)| *known == key);
        found.map_or(&self.place, |(_, place)| place)
    }
}

/// Writes what a service says of its checks.
pub fn write(table: &mut Table, service: ServiceId, health: &Health) {
    let used = health.checked(service);
    let none = CheckedService::new(service, CheckNames::from(""));
    let CheckedService {
        start_down,
        on_failure,
        slow_start_s,
        quorum,
        sorry_server,
        ..
    } = used.unwrap_or(&none);
    let names = used.map_or_else(Vec::new, |used| used.check.iter().collect());
    let names = match names.as_slice() {
        [name] => Some((*name).into()),
        names => list(names.iter().copied()),
    };
    let on_failure = match on_failure {
        OnFailure::Drain => "drain",
        OnFailure::Remove => "remove",
    };
    let words = |command: &[String]| list(command.iter().map(String::as_str));
    let number = |number: u32| Some(i64::from(number).into());
    let default = Quorum::default();
    let text = |text: &str| Some(text.into());
    for (key, new, default) in [
        ("check", names, None),
        ("start_down", Some((*start_down).into()), Some(false.into())),
        ("on_failure", text(on_failure), text("drain")),
        ("slow_start_s", number(*slow_start_s), number(0)),
        ("quorum", number(quorum.weight), number(default.weight)),
        (
            "quorum_hysteresis",
            number(quorum.hysteresis),
            number(default.hysteresis),
        ),
        ("quorum_up", words(&quorum.up), None),
        ("quorum_down", words(&quorum.down), None),
        ("announce", quorum.announce.as_deref().and_then(text), None),
    ] {
        // Without a check none of them means anything.
        set_value(table, key, new.filter(|_| used.is_some()), default);
    }
    let old = table.remove(SORRY_SERVER).map(Item::into_table);
    if let Some(server) = sorry_server {
        let old = old.and_then(Result::ok).unwrap_or_default();
        table.insert(SORRY_SERVER, Item::Table(server_table(old, server)));
    }
}

/// A list; none for an empty one.
fn list<'a>(words: impl Iterator<Item = &'a str>) -> Option<Value> {
    let array: Array = words.collect();
    (!array.is_empty()).then_some(Value::Array(array))
}
