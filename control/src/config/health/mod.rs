//! `[[check]]` and what a service says of its checks: read, judged, written.
//!
//! ```toml
//! [[check]]
//! name = "web"                     # what services say: check = "web"
//! kind = "http"                    # see below
//! port = 8080                      # default: the server's own
//! interval_ms = 2000               # default: 5000
//! timeout_ms = 500                 # default: 1000, or the interval when that is shorter
//! rise = 2                         # good results in a row that bring a server back; default: 2
//! fall = 3                         # bad ones that take it off; default: 3
//! service_path = true              # asks the virtual address on the server, as connections do; default: false
//! jitter_percent = 10              # probes come up to this much of the interval earlier; default: 10
//! ```
//!
//! `docs/health-checks.md` has the keys of each kind, and the tests read its examples.

mod checked_service;
mod keys;

use pollux_api::configuration::{Change, ChangeError, Configuration};
use pollux_api::health::{
    Check, CheckError, CheckedService, Health, JITTER_PERCENT, JITTER_PERCENT_MAX, Probe,
};
use pollux_api::{Destination, ServiceId};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

pub use checked_service::ServiceChecks;
pub use checked_service::write as write_use;

use super::problem::{Located, Place, ProblemList};
use super::table_reader::TableReader;
use super::write::{set, set_value, tables, take, text};
use checked_service::Use;
use keys::Collect;

const INTERVAL_MS: u32 = 5000;
const TIMEOUT_MS: u32 = 1000;
const RISE: u16 = 2;
const FALL: u16 = 3;

/// From often enough for any use to a day.
const TIMES_MS: std::ops::RangeInclusive<u32> = 10..=86_400_000;

/// `[[check]]`
#[derive(Debug)]
pub struct CheckTable {
    place: Place,
    name: Option<Located<String>>,
    /// None when a value could not be read.
    check: Option<Check>,
}

impl CheckTable {
    /// Reads one table.
    pub fn read(table: TableReader<'_>) -> Self {
        let kinds = Probe::all_kinds();
        let words: Vec<(&str, usize)> = kinds.iter().map(Probe::kind).zip(0..).collect();
        let kind = table.require(table.word("kind", &words), "kind", "tcp");
        let name = table.require(table.text("name", "web"), "name", "web");
        let mut is_read = name.is_some() && kind.is_some();
        // A value that is there but could not be read is not the default.
        macro_rules! read {
            ($key:literal, $range:expr) => {{
                let found = table.number($key, $range);
                is_read &= found.is_some() || !table.has($key);
                found.map(|found| found.value)
            }};
        }
        let port = read!("port", 1..=u16::MAX);
        let service_path = table.boolean("service_path");
        is_read &= service_path.is_some() || !table.has("service_path");
        let service_path = service_path.is_some_and(|found| found.value);
        let interval_ms = read!("interval_ms", TIMES_MS).unwrap_or(INTERVAL_MS);
        let timeout_ms = read!("timeout_ms", TIMES_MS);
        let rise = read!("rise", 1..=1000).unwrap_or(RISE);
        let fall = read!("fall", 1..=1000).unwrap_or(FALL);
        let jitter = 0..=u16::from(JITTER_PERCENT_MAX);
        let jitter = read!("jitter_percent", jitter).and_then(|percent| percent.try_into().ok());
        let mut kinds = kinds.into_iter();
        let probe = kind
            .and_then(|kind| kinds.nth(kind.value))
            .map(|mut probe| {
                let mut keys = keys::Read {
                    table: &table,
                    is_read,
                };
                keys::visit(&mut probe, &mut keys);
                is_read = keys.is_read;
                probe
            });
        if probe.is_none() {
            // The keys of whatever was meant are not to be called unknown.
            for key in all_keys() {
                table.ignore(key);
            }
        }
        let check = probe.zip(name.as_ref()).map(|(probe, name)| Check {
            name: name.value.clone(),
            probe,
            port,
            service_path,
            interval_ms,
            timeout_ms: timeout_ms.unwrap_or(TIMEOUT_MS.min(interval_ms)),
            rise,
            fall,
            jitter_percent: jitter.unwrap_or(JITTER_PERCENT),
        });
        let read = Self {
            place: table.place(),
            name,
            check: check.filter(|_| is_read),
        };
        table.finish();
        read
    }
}

/// The keys of all kinds.
fn all_keys() -> impl Iterator<Item = &'static str> {
    let kinds = Probe::all_kinds().into_iter();
    let keys = kinds.flat_map(|probe| Collect::of(&probe));
    keys.map(|(key, _)| key)
}

/// Collects the checks and who uses them, and judges them when all services are there.
#[derive(Debug)]
pub struct CheckReader {
    checks: Vec<Check>,
    /// Names of checks that are there but wrong: who uses them does nothing wrong.
    wrong: Vec<String>,
    uses: Vec<Use>,
}

impl CheckReader {
    /// Judges each check for itself.
    pub fn new(read: Vec<CheckTable>, problems: &ProblemList) -> Self {
        let mut reader = Self {
            checks: Vec::new(),
            wrong: Vec::new(),
            uses: Vec::new(),
        };
        for CheckTable { place, name, check } in read {
            let name = name.map(|name| name.value);
            let mut known = reader.checks.iter().map(|check| &check.name);
            let is_known =
                |name: &String| known.any(|known| known == name) || reader.wrong.contains(name);
            let twice = name.clone().filter(is_known);
            if let Some(twice) = &twice {
                problems.add(&place, CheckError::Exists(twice.clone()));
            }
            let errors = check.as_ref().map_or_else(Vec::new, Check::errors);
            for error in &errors {
                problems.add(&place, error);
            }
            match check {
                Some(check) if errors.is_empty() && twice.is_none() => reader.checks.push(check),
                _ => reader.wrong.extend(name),
            }
        }
        reader
    }

    /// What a service says of its checks.
    pub fn used_by(
        &mut self,
        service: ServiceId,
        checks: ServiceChecks,
        sorry_server: Option<Destination>,
        problems: &ProblemList,
    ) {
        checks.report_needless(problems);
        self.uses
            .extend(checks.into_use(service, sorry_server, problems));
    }

    /// Gives the configuration its checks.
    pub fn apply(self, configuration: &mut Configuration, problems: &ProblemList) {
        let replaced = |services: Vec<CheckedService>| Change::ReplaceChecks {
            checks: self.checks.clone(),
            services,
        };
        // Every check was judged above, and every use is judged here.
        let _ = configuration.apply_one(&replaced(Vec::new()));
        let mut seen = std::collections::HashSet::new();
        let mut services = Vec::new();
        for found in self.uses {
            let service = found.used.service;
            // What is wrong elsewhere, or twice there, is on the list already.
            if !seen.insert(service) || configuration.service(service).is_none() {
                continue;
            }
            let errors = configuration.errors_of_checked(&found.used);
            let is_sound = errors.is_empty();
            for error in errors {
                let is_wrong_check = matches!(
                    &error,
                    ChangeError::Check(CheckError::NoCheck(_, name)) if self.wrong.contains(name)
                );
                if !is_wrong_check {
                    problems.add(found.place_of(&error), error);
                }
            }
            if is_sound {
                services.push(found.used);
            }
        }
        let _ = configuration.apply_one(&replaced(services));
    }
}

/// Writes the checks; those that the file has already keep their comments.
pub fn write_checks(document: &mut DocumentMut, health: &Health) {
    let mut old = tables(document.remove("check"));
    let written: ArrayOfTables = health
        .checks
        .iter()
        .map(|check| {
            let known = take(&mut old, |table| {
                text(table, "name") == Some(check.name.as_str())
            });
            check_table(known.unwrap_or_default(), check)
        })
        .collect();
    if !written.is_empty() {
        document.insert("check", Item::ArrayOfTables(written));
    }
}

fn check_table(mut table: Table, check: &Check) -> Table {
    table.set_position(None);
    if table.is_empty() {
        table.insert("name", value(check.name.as_str()));
    }
    let kind = check.probe.kind();
    set(&mut table, "kind", kind, None);
    let written = Collect::of(&check.probe);
    for key in all_keys() {
        if written.iter().all(|(known, _)| *known != key) {
            table.remove(key);
        }
    }
    let kinds = Probe::all_kinds();
    let default = kinds.iter().find(|known| known.kind() == kind);
    let defaults = default.map_or_else(Vec::new, Collect::of);
    for ((key, new), (_, default)) in written.into_iter().zip(defaults) {
        set_value(&mut table, key, new, default);
    }
    let number = |number: u32| Some(i64::from(number).into());
    for (key, new, default) in [
        (
            "port",
            check.port.and_then(|port| number(port.into())),
            None,
        ),
        (
            "service_path",
            Some(check.service_path.into()),
            Some(false.into()),
        ),
        (
            "interval_ms",
            number(check.interval_ms),
            number(INTERVAL_MS),
        ),
        // Its default depends on the interval.
        ("timeout_ms", number(check.timeout_ms), None),
        ("rise", number(check.rise.into()), number(RISE.into())),
        ("fall", number(check.fall.into()), number(FALL.into())),
        (
            "jitter_percent",
            number(check.jitter_percent.into()),
            number(JITTER_PERCENT.into()),
        ),
    ] {
        set_value(&mut table, key, new, default);
    }
    table
}

#[cfg(test)]
mod tests;
