//! 2,000 services with 20 servers each: all verbs still work, and in what time.

use std::fmt::Write;
use std::fs;
use std::time::{Duration, Instant};

use super::machine::Machine;
use super::metrics::Scraped;

pub const SERVICES: usize = 2_000;
pub const SERVERS: usize = 20;

pub fn file() -> String {
    let mut text = String::new();
    for service in 0..SERVICES {
        let port = 1 + service;
        writeln!(
            text,
            "[[service]]\nprotocol = \"tcp\"\naddress = \"198.51.100.1:{port}\""
        )
        .unwrap();
        for server in 1..=SERVERS {
            writeln!(
                text,
                "[[service.server]]\naddress = \"203.0.113.{server}\"\nmethod = \"nat\"\nweight = {server}"
            )
            .unwrap();
        }
    }
    text
}

/// Runs something, prints how long it took and checks that it was not much longer.
fn timed<T>(what: &str, limit: Duration, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = run();
    let took = start.elapsed();
    println!("{what}: {} ms", took.as_millis());
    assert!(took < limit, "{what} took {took:?}");
    result
}

#[test]
fn a_large_configuration_is_handled_in_seconds() {
    // Generous: these run unoptimised and beside other tests. The times printed are what to look at.
    let (long, short) = (Duration::from_secs(20), Duration::from_secs(5));
    let (mut machine, address) = Scraped::written(&file());
    timed("check", long, || machine.shown("check"));
    machine.start_dataplane();
    timed("start with 40,000 servers", long, || {
        machine.start_polluxd()
    });
    let scraped = Scraped::serving(machine, address);
    let machine = &scraped.machine;
    assert_eq!(
        machine.state.lock().unwrap().configuration.services.len(),
        SERVICES
    );
    timed("change one server", short, || {
        machine.done("server edit -t 198.51.100.1:1000 -r 203.0.113.7 -w 0");
    });
    let services = timed("show services", long, || machine.json("show services"));
    assert_eq!(services.as_array().unwrap().len(), SERVICES);
    let text = timed("scrape", long, || scraped.text());
    println!("of {} KiB", text.len() >> 10);
    let servers = text.matches("\npollux_server_inbound_bytes_total{").count();
    assert_eq!(servers, SERVICES * SERVERS);
    let machine = &scraped.machine;
    timed("save", long, || machine.done("save"));
    let saved = fs::read_to_string(machine.path("pollux.toml")).unwrap();
    assert_eq!(
        saved.matches("[[service.server]]").count(),
        SERVICES * SERVERS
    );
    assert_eq!(saved.matches("weight = 0\n").count(), 1);

    let plan = machine.path("pollux.toml");
    timed("plan of nothing", long, || {
        machine.shown(&format!("plan {}", plan.display()))
    });
    machine.done("flush");
    timed("apply 40,000 servers", long, || machine.shown("apply"));
    let one = saved.replacen("weight = 3\n", "weight = 4\n", 1);
    machine.write("pollux.toml", &one);
    let applied = timed("apply one change of them", long, || machine.json("apply"));
    assert_eq!(applied["changes"].as_array().unwrap().len(), 1);

    let peak = peak_kib(machine);
    println!("most memory of polluxd: {peak} KiB");
    assert!(peak < 200 << 10, "{peak} KiB");
}

fn peak_kib(machine: &Machine) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", machine.polluxd_pid())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    peak.split_whitespace().next().unwrap().parse().unwrap()
}
