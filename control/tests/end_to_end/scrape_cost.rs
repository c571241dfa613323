//! What `/metrics` of 2,000 services with 20 servers each costs: its time, polluxd's processor time, and memory. Measured
//! in the release build by
//!
//!     cargo test --release -p pollux-control --test end_to_end scrape_cost -- --nocapture

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::machine::Machine;
use super::metrics::Scraped;
use super::scale::{SERVERS, SERVICES, file};

const SCRAPES: u32 = 5;

/// Scrapes within a second share one sample.
const PAUSE: Duration = Duration::from_millis(1100);

/// The kernel's clock ticks a second, as seen by programs.
const TICKS: u64 = 100;

/// Processor time of polluxd so far, of all its threads.
fn processor_time(machine: &Machine) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", machine.polluxd_pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11..13]
        .iter()
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

#[test]
fn a_scrape_of_40_000_servers_costs_little() {
    let (mut machine, address) = Scraped::written(&file());
    machine.start_dataplane();
    machine.start_polluxd();
    let scraped = Scraped::serving(machine, address);
    // The first one makes room for itself.
    scraped.text();
    let before = processor_time(&scraped.machine);
    thread::sleep(PAUSE * SCRAPES);
    let idle = processor_time(&scraped.machine) - before;
    let before = processor_time(&scraped.machine);
    let mut slowest = Duration::ZERO;
    let mut shortest_answer = Duration::MAX;
    for _ in 0..SCRAPES {
        thread::sleep(PAUSE);
        let start = Instant::now();
        let text = thread::scope(|scope| {
            let scrape = scope.spawn(|| scraped.text());
            // Others are served meanwhile.
            thread::sleep(Duration::from_millis(50));
            let start = Instant::now();
            scraped.machine.shown("show quorums");
            shortest_answer = shortest_answer.min(start.elapsed());
            scrape.join().unwrap()
        });
        slowest = slowest.max(start.elapsed());
        let servers = text.matches("\npollux_server_inbound_bytes_total{").count();
        assert_eq!(servers, SERVICES * SERVERS);
    }
    let each = (processor_time(&scraped.machine) - before).saturating_sub(idle) / SCRAPES;
    println!(
        "scrape: {} ms at most; polluxd's processor time for one: {} ms; without scrapes: {} ms a second; \
         another command beside one: {} ms",
        slowest.as_millis(),
        each.as_millis(),
        idle.as_millis() * 1000 / (PAUSE * SCRAPES).as_millis(),
        shortest_answer.as_millis()
    );
    // Of the processor's time, as these run beside other tests. Prometheus gives up after 10 s.
    assert!(each < Duration::from_secs(4), "{each:?}");
}
