//! The Grafana dashboard, asked as Grafana asks: each query of each panel by a Prometheus that scrapes the lab's polluxd.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

use pollux_tests::lab::load::Load;
use pollux_tests::lab::prometheus::{METRICS, Prometheus};
use pollux_tests::lab::servers::{SERVERS4, VIP4};
use pollux_tests::lab::{Lab, eventually, lab_dir, top};
use serde_json::Value;

/// What a panel shows while there is traffic is more than nothing.
const BUSY: [&str; 25] = [
    "Data plane",
    "Busiest worker",
    "Table",
    "New connections",
    "Client packets",
    "Client traffic",
    "Drops",
    "Packets",
    "Traffic",
    "New connections by service",
    "Active connections by service",
    "Packets by service",
    "Traffic by service",
    "New connections by server",
    "Weight by server",
    "Drops by reason",
    "Handed on",
    "Entries by state",
    "Entries in use",
    "Entries made and ended",
    "Busy share by worker",
    "Packets by worker",
    "New connections by worker",
    "Packets by port",
    "Link by port",
];

fn dashboard() -> Value {
    let path = top().join("scripts/grafana/pollux.json");
    let text = fs::read_to_string(&path).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().unwrap()
}

/// Grafana's variables as it writes them out, for all directors and services and its shortest interval.
fn written_out(expression: &str) -> String {
    expression
        .replace("$__rate_interval", "10s")
        .replace("$instance", ".*")
        .replace("$service", ".*")
}

/// `{{label}}` in the text of a legend.
fn labels_of(legend: &str) -> Vec<&str> {
    let parts = legend.split("{{").skip(1);
    parts
        .filter_map(|part| Some(part.split_once("}}")?.0.trim()))
        .collect()
}

#[test]
fn panels_have_a_place_and_a_source_each() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    let mut taken: BTreeMap<(u64, u64), &str> = BTreeMap::new();
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        assert!(
            ids.insert(panel["id"].as_u64().unwrap()),
            "{title}: its id is another's"
        );
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        let (x, y) = (side("x"), side("y"));
        assert!(x + side("w") <= 24, "{title} is too wide");
        for column in x..x + side("w") {
            for row in y..y + side("h") {
                let other = taken.insert((column, row), title);
                assert_eq!(other, None, "{title} is in the place of another panel");
            }
        }
        let kind = panel["type"].as_str().unwrap();
        assert!(
            ["row", "stat", "timeseries", "table"].contains(&kind),
            "{title}: {kind}"
        );
        let targets = panel["targets"].as_array().map_or(0, Vec::len);
        assert_eq!(targets == 0, kind == "row", "{title}");
        let references: BTreeSet<&str> = panel["targets"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|target| {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
                target["refId"].as_str().unwrap()
            })
            .collect();
        assert_eq!(references.len(), targets, "{title}: refId");
        if kind != "row" {
            let defaults = &panel["fieldConfig"]["defaults"];
            assert!(defaults["unit"].is_string(), "{title}: unit");
            let description = panel["description"].as_str().unwrap();
            assert!(!description.is_empty(), "{title}: description");
        }
        // Grafana's own: green, and red from 80 on, whatever it is.
        if kind == "stat" {
            let defaults = &panel["fieldConfig"]["defaults"];
            let is_coloured =
                defaults["thresholds"]["steps"].is_array() || defaults["color"]["mode"] == "fixed";
            assert!(is_coloured, "{title}: colours");
        }
        // Grafana's schema wants it said.
        if kind == "timeseries" {
            let legend = &panel["options"]["legend"];
            assert_eq!(legend["showLegend"], true, "{title}: legend");
        }
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<&str> = variables
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["datasource", "instance", "service"]);
}

#[test]
fn every_panel_has_data_while_there_is_traffic() {
    // Of a bond's members there are panels, too.
    let lab = Lab::start_with("--bond active-backup");
    lab.kill("polluxd");
    let mut file = OpenOptions::new()
        .append(true)
        .open(lab_dir().join("pollux.toml"))
        .unwrap();
    write!(
        file,
        "\n[control]\nmetrics = \"{METRICS}\"\n[[check]]\nname = \"web\"\nkind = \"tcp\"\ninterval_ms = 500\ntimeout_ms = 400\n\
         [[service]]\nprotocol = \"tcp\"\naddress = \"{VIP4}:80\"\nscheduler = \"rr\"\ncheck = \"web\"\n"
    )
    .unwrap();
    for address in SERVERS4 {
        writeln!(
            file,
            "[[service.server]]\naddress = \"{address}:80\"\nmethod = \"nat\""
        )
        .unwrap();
    }
    // Nobody serves it: its packets are dropped, with that reason.
    writeln!(
        file,
        "[[service]]\nprotocol = \"tcp\"\naddress = \"{VIP4}:81\""
    )
    .unwrap();
    drop(file);
    lab.script("start-polluxd");
    lab.pollux(&format!(
        "apply {}",
        lab_dir().join("pollux.toml").display()
    ));
    let prometheus = Prometheus::start();
    let load = Load::start(&format!("http://{VIP4}/"));
    let scraped = eventually(Duration::from_secs(30), || {
        // Dropped while it is looked at, too.
        lab.try_nowhere(VIP4, 81);
        let drops = "sum(rate(pollux_packets_total{drop=\"true\"}[10s])) > 0";
        let hits = "sum(rate(pollux_server_connections_total[10s])) > 0";
        !prometheus.query(drops).is_empty() && !prometheus.query(hits).is_empty()
    });
    assert!(scraped, "Prometheus has nothing");
    let dashboard = dashboard();
    let mut asked = 0;
    let mut wrong = Vec::new();
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            asked += 1;
            lab.try_nowhere(VIP4, 81);
            let expression = target["expr"].as_str().unwrap();
            let found = prometheus.query(&written_out(expression));
            if found.is_empty() {
                wrong.push(format!("{title}: no data: {expression}"));
                continue;
            }
            let is_first = target["refId"] == "A";
            if is_first && BUSY.contains(&title) && !found.iter().any(|sample| sample.value > 0.0) {
                wrong.push(format!("{title}: nothing but 0: {expression}"));
            }
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            for label in labels_of(legend) {
                if !found.iter().all(|sample| sample.labels.contains_key(label)) {
                    wrong.push(format!("{title}: no label {label}: {expression}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(asked >= 40, "{asked} queries");
    // What the variables' lists are made of.
    for name in ["pollux_dataplane_up", "pollux_service_servers"] {
        assert!(!prometheus.query(name).is_empty(), "{name}");
    }
    load.assert_nothing_failed();
}
