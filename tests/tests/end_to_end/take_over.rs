//! Two directors, each with a keepalived: when the one in charge is gone, VRRP gives its addresses to the other, which
//! has the same services by its own keepalived.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use pollux_api::statistics::ServiceStatistics;
use pollux_api::synchronisation::SyncStatus;
use pollux_tests::lab::client::DOWNLOAD_SHA256;
use pollux_tests::lab::keepalived::{Keepalived, run_dir_of};
use pollux_tests::lab::servers::VIP4;
use pollux_tests::lab::{Lab, eventually, namespace, program};

/// RFC 5798 6.1: three advertisement intervals and the skew of priority 50, `(256 - 50) / 256` of one.
const VRRP_PROMISE: Duration = Duration::from_millis(3805);

const SKEW: Duration = Duration::from_millis(805);

/// For a client that waits for its answer, and a machine that is busy.
const SLACK: Duration = Duration::from_secs(1);

/// Until all is as it is to be.
const PATIENCE: Duration = Duration::from_secs(5);

fn configuration(state: &str, priority: u32) -> String {
    configuration_of(state, priority, "NAT", "")
}

/// Of that method, with a line more of what is global.
fn configuration_of(state: &str, priority: u32, method: &str, global: &str) -> String {
    let server = |number: u32| {
        format!(
            "real_server 203.0.113.1{number} 80 {{
                weight 1
                TCP_CHECK {{ connect_timeout 3 retry 0 delay_before_retry 1 }}
            }}"
        )
    };
    format!(
        "global_defs {{
            vrrp_garp_master_refresh 2
            {global}
        }}
        vrrp_instance lab {{
            state {state}
            interface client0
            virtual_router_id 51
            priority {priority}
            advert_int 1
            virtual_ipaddress {{
                192.0.2.1/24 dev client0
                203.0.113.1/24 dev server0
            }}
        }}
        virtual_server {VIP4} 80 {{
            delay_loop 1
            delay_loop 2
            lvs_sched rr
            lvs_method {method}
            protocol TCP
            {} {} {}
        }}",
        server(1),
        server(2),
        server(3)
    )
}

fn services(director: &str) -> Vec<ServiceStatistics> {
    let output = program("pollux")
        .env("POLLUX_RUN_DIR", run_dir_of(director))
        .args(["show", "services", "--json"])
        .output()
        .expect("pollux starts");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Whether the service is there with all its servers.
fn is_complete(director: &str) -> bool {
    let services = services(director);
    services
        .first()
        .is_some_and(|service| service.destinations.len() == 3)
}

fn is_in_charge(director: &str) -> bool {
    ["client0", "server0"].iter().all(|interface| {
        let line = format!("ip -4 -o addr show dev {interface}");
        let addresses = namespace::run(director, &line);
        addresses.contains(" 192.0.2.1/") || addresses.contains(" 203.0.113.1/")
    })
}

/// The daemons of connection synchronisation of a director.
fn synchronisation(director: &str) -> SyncStatus {
    let output = program("pollux")
        .env("POLLUX_RUN_DIR", run_dir_of(director))
        .args(["show", "sync", "--json"])
        .output()
        .expect("pollux starts");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Connections that this director has forwarded.
fn served_by(director: &str) -> u64 {
    services(director)
        .iter()
        .map(|service| service.totals.connections)
        .sum()
}

fn wires(state: &str) {
    for port in ["director-client", "director-server"] {
        namespace::run("router", &format!("ip link set {port} {state}"));
    }
}

/// How long a client waits for its answer: as much too long an outage may seem.
const CLIENT_PATIENCE: &str = "0.3";

/// Asks for the page in a loop while something happens, and until it was there ten times in a row after the longest that
/// it may be away; the longest time from one answer to the next.
fn outage(happens: impl FnOnce()) -> Duration {
    let line = format!("curl -sS --fail --max-time {CLIENT_PATIENCE} http://{VIP4}/");
    let ask = || namespace::try_run("client", &line).status.success();
    let reached = eventually(PATIENCE, ask);
    assert!(reached, "the service was not there before");
    let mut answered = Instant::now();
    happens();
    let start = Instant::now();
    let mut longest = Duration::ZERO;
    let mut successes = 0;
    while successes < 10 || start.elapsed() < VRRP_PROMISE + PATIENCE {
        if ask() {
            successes += 1;
            longest = longest.max(answered.elapsed());
            answered = Instant::now();
        } else {
            successes = 0;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "never back");
        thread::sleep(Duration::from_millis(20));
    }
    longest
}

/// keepalived is stopped for maintenance and says so to the other one, which has all its services; then it is back.
#[test]
fn a_keepalived_that_is_stopped_hands_over_at_once() {
    let lab = Lab::start_with("--workers 1");
    lab.script("start-backup");
    let first = Keepalived::start("director", &configuration("MASTER", 100));
    let second = Keepalived::start("backup", &configuration("BACKUP", 50));
    let ready = eventually(Duration::from_secs(30), || {
        is_in_charge("director") && is_complete("director") && is_complete("backup")
    });
    assert!(ready, "{}\n--- backup\n{}", first.log(), second.log());

    let lost = outage(|| drop(first));
    println!("handed over within {} ms", lost.as_millis());
    // The skew of its priority, and no interval: RFC 5798 6.4.2.
    assert!(lost < SKEW + SLACK, "{lost:?}\n{}", second.log());
    assert!(is_in_charge("backup"), "{}", second.log());

    let mut back = None;
    let lost = outage(|| back = Some(Keepalived::start("director", &configuration("MASTER", 100))));
    println!("given back within {} ms", lost.as_millis());
    assert!(lost < VRRP_PROMISE + SLACK, "{lost:?}\n{}", second.log());
    assert!(!is_in_charge("backup") && is_in_charge("director"));
    assert_eq!(lab.curl_many(VIP4, 30).len(), 3, "all three serve");
    assert!(served_by("director") >= 30);
}

#[test]
fn a_download_through_nat_goes_on_at_the_other_director() {
    a_download_goes_on("NAT");
}

#[test]
fn a_download_past_the_director_goes_on_at_the_other_one() {
    a_download_goes_on("DR");
}

/// Each keepalived starts and stops the sync daemons of its director by VRRP. The one in charge is gone in the middle of a
/// download; the other one knows its connection, and every byte comes.
fn a_download_goes_on(method: &str) {
    let lab = Lab::start_with("--workers 2");
    lab.script("start-backup");
    let start = |director, state, priority| {
        let global = "lvs_sync_daemon client0 lab id 7";
        Keepalived::start(director, &configuration_of(state, priority, method, global))
    };
    let first = start("director", "MASTER", 100);
    let second = start("backup", "BACKUP", 50);
    let logs = || format!("{}\n--- backup\n{}", first.log(), second.log());
    let ready = eventually(Duration::from_secs(30), || {
        let both = (
            synchronisation("director").master,
            synchronisation("backup").backup,
        );
        is_in_charge("director")
            && is_complete("director")
            && is_complete("backup")
            && both
                .0
                .is_some_and(|master| master.is_open && master.daemon.id == 7)
            && both.1.is_some_and(|backup| backup.is_open)
    });
    assert!(ready, "{}", logs());

    let line =
        format!("curl -sS --fail --max-time 60 --limit-rate 8M http://{VIP4}/100M | sha256sum");
    let mut curl = namespace::command("client", "bash");
    let download = curl.args(["-o", "pipefail", "-c", &line]);
    let download = download
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let download = download.expect("bash starts");
    let told = eventually(PATIENCE, || {
        synchronisation("backup")
            .backup
            .is_some_and(|backup| backup.made > 0)
    });
    assert!(told, "{:?}\n{}", synchronisation("director"), logs());
    wires("down");
    let taken_over = eventually(VRRP_PROMISE + PATIENCE, || is_in_charge("backup"));
    assert!(taken_over, "{}", logs());
    let output = download.wait_with_output().expect("curl ends");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}\n{}", logs());
    let sum = String::from_utf8_lossy(&output.stdout);
    assert!(sum.starts_with(DOWNLOAD_SHA256), "{sum}");
    let packets: u64 = services("backup")
        .iter()
        .map(|service| service.totals.inbound_packets)
        .sum();
    assert!(
        packets > 100 && served_by("backup") == 0,
        "{packets}\n{}",
        logs()
    );
    // The roles have changed with the addresses.
    let changed = eventually(PATIENCE, || synchronisation("backup").master.is_some());
    assert!(changed, "{:?}", synchronisation("backup"));
    wires("up");
}

#[test]
fn the_backup_takes_over_and_gives_back() {
    let lab = Lab::start_with("--workers 1");
    lab.script("start-backup");
    let first = Keepalived::start("director", &configuration("MASTER", 100));
    let second = Keepalived::start("backup", &configuration("BACKUP", 50));
    let ready = eventually(Duration::from_secs(30), || {
        is_in_charge("director") && is_complete("director") && is_complete("backup")
    });
    let logs = || format!("{}\n--- backup\n{}", first.log(), second.log());
    assert!(ready, "{}", logs());
    assert!(!is_in_charge("backup"), "{}", logs());
    let reached = eventually(PATIENCE, || lab.curl_succeeds(VIP4));
    assert!(reached, "{}", logs());
    assert_eq!(
        lab.curl_many(VIP4, 30).len(),
        3,
        "all three serve\n{}",
        logs()
    );
    assert_eq!(served_by("backup"), 0);

    // The first one is gone, as when its power is.
    let lost = outage(|| wires("down"));
    println!("taken over after {} ms", lost.as_millis());
    assert!(lost < VRRP_PROMISE + SLACK, "{lost:?}\n{}", logs());
    assert!(is_in_charge("backup"), "{}", logs());
    assert_eq!(
        lab.curl_many(VIP4, 30).len(),
        3,
        "all three serve\n{}",
        logs()
    );
    assert!(served_by("backup") >= 30);

    // It is back, and has the higher priority. While it was cut off it found no server alive: so it serves again when its
    // checks have found them, and not before.
    wires("up");
    let back = eventually(Duration::from_secs(15), || !is_in_charge("backup"));
    assert!(back, "{}", logs());
    let complete = eventually(Duration::from_secs(15), || is_complete("director"));
    assert!(complete, "{}", logs());
    // A master that was cut off never stopped being one: the router learns of it when it next announces itself.
    let serves = eventually(Duration::from_secs(15), || {
        let before = served_by("director");
        lab.curl_succeeds(VIP4) && served_by("director") > before
    });
    assert!(serves, "{}", logs());
    let before = served_by("director");
    assert_eq!(
        lab.curl_many(VIP4, 30).len(),
        3,
        "all three serve\n{}",
        logs()
    );
    assert!(served_by("director") >= before + 30, "{}", logs());
}
