//! `[[check]]` and a service's `check = "NAME"`: read, judged, written.
//!
//! ```toml
//! [[check]]
//! name = "web"                     # what services say: check = "web"
//! kind = "http"                    # tcp: it takes a connection; http: GET has a good status
//! path = "/healthy"                # with http; default: /
//! host = "www.example.com"         # with http; default: the server's address and port
//! status = "200-299"               # with http; default: any success
//! port = 8080                      # default: the server's own
//! interval_ms = 2000               # default: 5000
//! timeout_ms = 500                 # default: 1000, or the interval when that is shorter
//! rise = 2                         # good results in a row that bring a server back; default: 2
//! fall = 3                         # bad ones that take it off; default: 3
//! ```

use pollux_api::ServiceId;
use pollux_api::configuration::{Change, Configuration};
use pollux_api::health::{Check, CheckedService, Health, Probe};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::problem::{Located, Place, ProblemList};
use super::table_reader::TableReader;
use super::write::{set, tables, take, text};

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

#[derive(Debug, Clone, Copy)]
enum Kind {
    Tcp,
    Http,
}

impl CheckTable {
    /// Reads one table.
    pub fn read(table: TableReader<'_>) -> Self {
        let kind = table.word("kind", &[("tcp", Kind::Tcp), ("http", Kind::Http)]);
        let kind = table.require(kind, "kind", "tcp").map(|kind| kind.value);
        let name = table.require(table.text("name", "web"), "name", "web");
        let mut is_read = name.is_some() && kind.is_some();
        // A value that is there but could not be read is not the default.
        macro_rules! read {
            ($key:literal, $how:ident, $($argument:expr),+) => {{
                let found = table.$how($key, $($argument),+);
                is_read &= found.is_some() || !table.has($key);
                found.map(|found| found.value)
            }};
        }
        let port = read!("port", number, 1..=u16::MAX);
        let interval_ms = read!("interval_ms", number, TIMES_MS).unwrap_or(INTERVAL_MS);
        let timeout_ms = read!("timeout_ms", number, TIMES_MS);
        let rise = read!("rise", number, 1..=1000).unwrap_or(RISE);
        let fall = read!("fall", number, 1..=1000).unwrap_or(FALL);
        let probe = match kind {
            Some(Kind::Http) => Some(Probe::Http {
                path: read!("path", text, "/healthy").unwrap_or_else(|| "/".to_owned()),
                host: read!("host", text, "www.example.com"),
                status: read!("status", parsed, "200-299").unwrap_or_default(),
            }),
            Some(Kind::Tcp) => Some(Probe::Tcp),
            None => {
                // Its keys are not to be called unknown.
                for key in ["path", "host", "status"] {
                    table.ignore(key);
                }
                None
            }
        };
        let check = probe.zip(name.as_ref()).map(|(probe, name)| Check {
            name: name.value.clone(),
            probe,
            port,
            interval_ms,
            timeout_ms: timeout_ms.unwrap_or(TIMEOUT_MS.min(interval_ms)),
            rise,
            fall,
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

/// Collects the checks and who uses them, and judges them when all services are there.
#[derive(Debug)]
pub struct CheckReader {
    checks: Vec<Check>,
    /// Names of checks that are there but wrong: who uses them does nothing wrong.
    wrong: Vec<String>,
    uses: Vec<(ServiceId, Located<String>)>,
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
            let mut next = reader.checks.clone();
            let is_read = check.is_some();
            next.extend(check);
            let judged = Configuration::default().apply(&[Change::ReplaceChecks {
                checks: next.clone(),
                services: Vec::new(),
            }]);
            if let Err(error) = &judged {
                problems.add(&place, error);
            }
            if is_read && judged.is_ok() {
                reader.checks = next;
            } else {
                reader.wrong.extend(name.map(|name| name.value));
            }
        }
        reader
    }

    /// A service names its check.
    pub fn used_by(&mut self, service: ServiceId, check: Located<String>) {
        self.uses.push((service, check));
    }

    /// Gives the configuration its checks.
    pub fn apply(self, configuration: &mut Configuration, problems: &ProblemList) {
        let mut services = Vec::new();
        let replaced = |services: &[CheckedService]| Change::ReplaceChecks {
            checks: self.checks.clone(),
            services: services.to_vec(),
        };
        for (
            service,
            Located {
                value: check,
                place,
            },
        ) in self.uses
        {
            // What is wrong elsewhere, or twice there, is on the list already.
            let is_twice = services
                .iter()
                .any(|used: &CheckedService| used.service == service);
            if is_twice || configuration.service(service).is_none() || self.wrong.contains(&check) {
                continue;
            }
            services.push(CheckedService { service, check });
            if let Err(error) = configuration.apply(&[replaced(&services)]) {
                problems.add(&place, error);
                services.pop();
            }
        }
        // Every part was judged above.
        let _ = configuration.apply_one(&replaced(&services));
    }
}

/// Writes a service's `check`.
pub fn write_use(table: &mut Table, service: ServiceId, health: &Health) {
    match health.services.iter().find(|used| used.service == service) {
        Some(used) => set(table, "check", used.check.as_str(), None),
        None => {
            table.remove("check");
        }
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
    match &check.probe {
        Probe::Tcp => {
            set(&mut table, "kind", "tcp", None);
            for key in ["path", "host", "status"] {
                table.remove(key);
            }
        }
        Probe::Http { path, host, status } => {
            set(&mut table, "kind", "http", None);
            set(&mut table, "path", path.as_str(), Some("/"));
            match host {
                Some(host) => set(&mut table, "host", host.as_str(), None),
                None => {
                    table.remove("host");
                }
            }
            set(
                &mut table,
                "status",
                status.to_string().as_str(),
                Some("200-299"),
            );
        }
    }
    match check.port {
        Some(port) => set(&mut table, "port", i64::from(port), None),
        None => {
            table.remove("port");
        }
    }
    for (key, number, default) in [
        ("interval_ms", check.interval_ms, Some(INTERVAL_MS)),
        // Its default depends on the interval.
        ("timeout_ms", check.timeout_ms, None),
        ("rise", check.rise.into(), Some(RISE.into())),
        ("fall", check.fall.into(), Some(FALL.into())),
    ] {
        set(&mut table, key, i64::from(number), default.map(i64::from));
    }
    table
}

#[cfg(test)]
mod tests {
    use pollux_api::Change;

    use super::super::{diff, validate, write};
    use super::*;

    const FILE: &str = r#"
[[check]]
name = "web" # of the shop
kind = "http"
path = "/healthy"
status = "200-399"
port = 8080
interval_ms = 500

[[check]]
name = "connect"
kind = "tcp"

[[service]]
protocol = "tcp"
address = "198.51.100.1:80"
check = "web"

[[service.server]]
address = "203.0.113.11:80"
weight = 7

[[service]]
protocol = "tcp"
address = "198.51.100.1:81"
"#;

    fn read(text: &str) -> Configuration {
        validate::parse("file", text)
            .unwrap()
            .configuration()
            .clone()
    }

    fn problems(text: &str) -> String {
        validate::parse("file", text).unwrap_err().to_string()
    }

    #[test]
    fn checks_are_read_with_their_defaults() {
        let read = read(FILE);
        let service = read.services[0].service.id;
        let web = read.health.check_of(service).unwrap();
        assert_eq!((web.interval_ms, web.timeout_ms), (500, 500));
        assert_eq!((web.rise, web.fall, web.port), (RISE, FALL, Some(8080)));
        let Probe::Http { path, host, status } = &web.probe else {
            panic!("{web:?}");
        };
        assert_eq!((path.as_str(), host), ("/healthy", &None));
        assert!(status.contains(399) && !status.contains(400));
        assert_eq!(read.health.check_of(read.services[1].service.id), None);
        assert_eq!(read.health.checks[1].timeout_ms, TIMEOUT_MS);
    }

    #[test]
    fn what_is_written_reads_the_same_and_weights_of_servers_that_are_off_stay() {
        let before = read(FILE);
        let off = Change::SwitchServer {
            service: before.services[0].service.id,
            id: before.services[0].destinations[0].id,
            off: true,
        };
        let running = before.apply(&[off]).unwrap();
        assert_eq!(read(&write::to_text(&running)), before);
        let merged = write::merge(FILE, &running).unwrap();
        assert_eq!(read(&merged), before);
        assert!(merged.contains("# of the shop"), "{merged}");
    }

    #[test]
    fn a_plan_changes_checks_and_does_not_bring_servers_back() {
        let before = read(FILE);
        let service = before.services[0].service.id;
        let server = before.services[0].destinations[0].id;
        let off = Change::SwitchServer {
            service,
            id: server,
            off: true,
        };
        let running = before.apply(&[off]).unwrap();
        assert_eq!(diff::changes(&running, &before), []);
        let wanted = read(&FILE.replace("interval_ms = 500", "interval_ms = 900"));
        let next = running.apply(&diff::changes(&running, &wanted)).unwrap();
        assert_eq!(next.health.checks, wanted.health.checks);
        assert!(next.health.is_off(service, server));
        let none = read("");
        let empty = running.apply(&diff::changes(&running, &none)).unwrap();
        assert_eq!(empty, none);
        let loaded = none.apply(&diff::changes(&none, &before)).unwrap();
        assert_eq!(loaded, before);
    }

    #[test]
    fn what_is_wrong_is_located() {
        for (from, to, problem) in [
            (
                "check = \"web\"",
                "check = \"wbe\"",
                "file:17: service[0].check: service TCP 198.51.100.1:80: no such check: \"wbe\"",
            ),
            (
                "kind = \"http\"",
                "kind = \"htp\"",
                "file:4: check[0].kind: unknown kind \"htp\": known are \"tcp\", \"http\"",
            ),
            (
                "\"connect\"",
                "\"web\"",
                "file:10: check[1]: check \"web\" is there twice",
            ),
            (
                "interval_ms = 500",
                "interval_ms = 500\ntimeout_ms = 501",
                "file:2: check[0]: check \"web\": timeout 501 ms is longer than interval 500 ms",
            ),
            (
                "\"200-399\"",
                "\"399-200\"",
                "file:6: check[0].status: bad status \"399-200\"",
            ),
            (
                "\"/healthy\"",
                "\"/a b\"",
                "file:2: check[0]: check \"web\": bad path \"/a b\"",
            ),
            (
                "kind = \"tcp\"",
                "kind = \"tcp\"\npath = \"/\"",
                "file:13: check[1].path: unknown key",
            ),
        ] {
            let found = problems(&FILE.replacen(from, to, 1));
            assert!(found.starts_with(problem), "{found}");
            assert_eq!(found.lines().count(), 1, "{found}");
        }
    }
}
