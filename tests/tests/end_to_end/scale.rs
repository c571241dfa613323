//! 2,000 services with 20 servers each, applied and changed while clients are served: in what time, and at whose cost.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use pollux_tests::lab::client::url;
use pollux_tests::lab::load::Load;
use pollux_tests::lab::servers::{SERVERS4, VIP4, endpoint};
use pollux_tests::lab::{Lab, eventually, lab_dir, processor_time_of_main};

const SERVICES: usize = 2_000;
const SERVERS: usize = 20;

/// The service under load, and others, of which one server has this weight.
fn services(count: usize, weight: usize) -> String {
    let mut text = String::new();
    let address = endpoint(VIP4, 80);
    writeln!(
        text,
        "[[service]]\nprotocol = \"tcp\"\naddress = \"{address}\""
    )
    .unwrap();
    for address in SERVERS4 {
        writeln!(
            text,
            "[[service.server]]\naddress = \"{address}\"\nmethod = \"nat\""
        )
        .unwrap();
    }
    for service in 0..count {
        let address = endpoint("198.51.100.2", 1 + service as u16);
        writeln!(
            text,
            "[[service]]\nprotocol = \"tcp\"\naddress = \"{address}\""
        )
        .unwrap();
        for server in 1..=SERVERS {
            let is_it = (service, server) == (SERVICES / 2, 7);
            let weight = if is_it { weight } else { server };
            writeln!(
                text,
                "[[service.server]]\naddress = \"203.0.113.{}\"\nmethod = \"nat\"\nweight = {weight}",
                100 + server
            )
            .unwrap();
        }
    }
    text
}

/// Runs something so often; prints the shortest time it took and what the main threads of the daemons had of processors in the
/// mean, which comes back: of processor time others on this machine take nothing. Times are measured by `pollux-bench control`.
fn timed(lab: &Lab, what: &str, times: usize, mut run: impl FnMut(usize)) -> Duration {
    let daemons = ["polluxd", "pollux-dataplane"];
    let used = || daemons.map(|daemon| processor_time_of_main(lab.process(daemon)));
    let before = used();
    let durations = (0..times).map(|time| {
        let start = Instant::now();
        run(time);
        start.elapsed()
    });
    let shortest = durations.min().unwrap();
    let after = used();
    let [polluxd, dataplane] = [0, 1].map(|daemon| (after[daemon] - before[daemon]) / times as u32);
    println!(
        "{what}: {:.1} ms; processors: polluxd {} ms, pollux-dataplane {} ms",
        shortest.as_secs_f64() * 1e3,
        polluxd.as_millis(),
        dataplane.as_millis()
    );
    polluxd + dataplane
}

/// Bytes of a file of the data plane's state.
fn stored(name: &str) -> u64 {
    let path = lab_dir().join("state").join(name);
    fs::metadata(&path)
        .unwrap_or_else(|error| panic!("{name}: {error}"))
        .len()
}

#[test]
fn forty_thousand_servers_are_applied_and_changed_under_load() {
    let lab = Lab::start();
    let file = lab_dir().join("services.toml");
    let apply = |text: &str| {
        fs::write(&file, text).unwrap();
        lab.pollux(&format!("apply {}", file.display()))
    };
    apply(&services(0, 0));
    let load = Load::start(&url(VIP4, "/"));
    let whole = services(SERVICES, 7);
    let all = timed(&lab, "apply 2,000 services with 20 servers each", 1, |_| {
        apply(&whole);
    });
    // It is written once more, whole, and then there is nothing left of it to be written.
    let is_folded =
        || stored("configuration.json") > 4 << 20 && stored("configuration.journal") == 0;
    assert!(eventually(Duration::from_secs(60), is_folded));
    let services_there = lab.services();
    assert_eq!(services_there.len(), 1 + SERVICES);
    let edited = format!("-t 198.51.100.2:{} -r 203.0.113.107", 1 + SERVICES / 2);
    let one = timed(&lab, "change one server by command", 20, |time| {
        lab.pollux(&format!("server edit {edited} -w {}", 100 + time));
    });
    // What a change costs is its own size, not that of all there is: all servers are 40,000 times as many.
    assert!(one * 5 < all, "{one:?} for one server, {all:?} for all");
    let journal = stored("configuration.journal");
    assert!(
        (20..20 * 400).contains(&journal),
        "{journal} bytes for 20 changes"
    );
    timed(&lab, "apply one change of them", 3, |time| {
        let said = apply(&services(SERVICES, 50 + time));
        assert!(said.contains("changes: 1;"), "{said}");
    });
    let journal = stored("configuration.journal");
    let nothing = timed(&lab, "apply what runs", 3, |_| {
        let said = apply(&services(SERVICES, 52));
        assert!(said.contains("nothing to do"), "{said}");
    });
    assert_eq!(
        stored("configuration.journal"),
        journal,
        "nothing is stored"
    );
    assert!(
        nothing * 2 < all,
        "{nothing:?} for nothing, {all:?} for all"
    );
    timed(&lab, "take them away", 1, |_| {
        apply(&services(0, 0));
    });
    load.assert_nothing_failed();
    let status = fs::read_to_string(format!("/proc/{}/status", lab.process("polluxd"))).unwrap();
    let mut lines = status.lines();
    let peak = lines.find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("most memory of polluxd: {}", peak.trim());
    let kib: u64 = peak.split_whitespace().next().unwrap().parse().unwrap();
    assert!(kib < 200 << 10, "{kib} KiB");
}
