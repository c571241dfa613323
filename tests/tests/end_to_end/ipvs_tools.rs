//! The stock `ipvsadm` and `keepalived` in the lab: rules, listings, health checks, with traffic.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use pollux_tests::lab::http::Connection;
use pollux_tests::lab::keepalived::Keepalived;
use pollux_tests::lab::namespace;
use pollux_tests::lab::servers::{NAMES, SERVERS4, VIP4};
use pollux_tests::lab::tools::{ipvs, lines_with};
use pollux_tests::lab::{Lab, eventually, program};

const RULES: &str = "\
-A -t 198.51.100.1:80 -s wrr
-a -t 198.51.100.1:80 -r 203.0.113.13:8080 -m -w 1
-a -t 198.51.100.1:80 -r 203.0.113.12:8080 -m -w 2
-a -t 198.51.100.1:80 -r 203.0.113.11:8080 -m -w 3
-A -u 198.51.100.1:53 -s rr
-a -u 198.51.100.1:53 -r 203.0.113.11:53 -g -w 1
";

fn restore(rules: &str) {
    let mut child = program("pollux")
        .args(["ipvs", "--", "ipvsadm-restore"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("pollux starts");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(rules.as_bytes()).expect("it is read");
    drop(input);
    assert!(child.wait().expect("our own child").success());
}

/// The first number of `/proc/net/ip_vs_stats`.
fn connections_of_all() -> u64 {
    let text = ipvs("cat /proc/net/ip_vs_stats");
    let counted = text
        .lines()
        .nth(2)
        .and_then(|line| line.split_whitespace().next());
    u64::from_str_radix(counted.unwrap_or_default(), 16).unwrap_or_else(|_| panic!("{text}"))
}

#[test]
fn ipvsadm_restores_rules_and_lists_what_runs() {
    let lab = Lab::start();
    restore(RULES);
    let mut saved: Vec<String> = ipvs("ipvsadm-save -n").lines().map(str::to_owned).collect();
    let mut told: Vec<String> = RULES.lines().map(str::to_owned).collect();
    saved.sort();
    told.sort();
    assert_eq!(saved, told);
    let expected: BTreeMap<String, usize> = NAMES
        .map(str::to_owned)
        .into_iter()
        .zip([30, 20, 10])
        .collect();
    assert_eq!(lab.curl_many(VIP4, 60), expected);
    assert_eq!(lab.dig(VIP4), "rs1");

    // Connections, packets and bytes as the data plane counted them, to the last one.
    let totals = lab.server(SERVERS4[0]).totals;
    let stats = ipvs("ipvsadm -Ln --stats --exact");
    let server = lines_with(&stats, "203.0.113.11:8080").remove(0);
    assert_eq!(
        server[2..4],
        ["30".to_owned(), totals.inbound_packets.to_string()]
    );
    let service = lines_with(&stats, "198.51.100.1:80").remove(0);
    assert_eq!(service[2], "60");

    assert_eq!(connections_of_all(), 61);

    let rates_seen = eventually(Duration::from_secs(10), || {
        lab.curl_many(VIP4, 20);
        let rates = ipvs("ipvsadm -Ln --rate");
        let service = lines_with(&rates, "198.51.100.1:80").remove(0);
        service[2..].iter().all(|rate| rate != "0")
    });
    assert!(rates_seen, "{}", ipvs("ipvsadm -Ln --rate"));

    let mut open = Connection::open(VIP4);
    let served_by = open.get("/");
    let client = open.local_address().to_string();
    let entry = lines_with(&ipvs("ipvsadm -Lnc"), &client).remove(0);
    assert_eq!(entry[0], "TCP");
    assert_eq!(entry[2], "ESTABLISHED");
    assert_eq!(entry[4], "198.51.100.1:80");
    let address = SERVERS4[NAMES.iter().position(|name| *name == served_by).unwrap()];
    assert_eq!(entry[5], format!("{address}:8080"));

    ipvs("ipvsadm -e -t 198.51.100.1:80 -r 203.0.113.11:8080 -m -w 0");
    assert!(!lab.curl_many(VIP4, 30).contains_key("rs1"));
    ipvs("ipvsadm -Z");
    let stats = ipvs("ipvsadm -Ln --stats");
    assert_eq!(
        lines_with(&stats, "198.51.100.1:53").remove(0)[2..],
        ["0"; 5]
    );
    assert_eq!(connections_of_all(), 0);
    lab.curl_many(VIP4, 5);
    ipvs("ipvsadm -C");
    assert!(lab.services().is_empty());
    assert_eq!(connections_of_all(), 5, "of services that are gone, too");
    assert!(!lab.curl_succeeds(VIP4));
}

const KEEPALIVED: &str = "\
global_defs { }
virtual_server 198.51.100.1 80 {
    delay_loop 1
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    alpha
    real_server 203.0.113.11 8080 {
        weight 1
        inhibit_on_failure
        HTTP_GET {
            url { path / status_code 200 }
            connect_timeout 3
            retry 0
            delay_before_retry 1
        }
    }
    real_server 203.0.113.12 8080 {
        weight 1
        HTTP_GET {
            url { path / status_code 200 }
            connect_timeout 3
            retry 0
            delay_before_retry 1
        }
    }
    real_server 203.0.113.13 8080 {
        weight 1
        TCP_CHECK { connect_timeout 3 retry 0 delay_before_retry 1 }
    }
}
";

/// The servers of the service with their weights, by the last part of their addresses.
fn weights(lab: &Lab) -> BTreeMap<String, u32> {
    let services = lab.services();
    let servers = services.iter().flat_map(|service| &service.destinations);
    servers
        .map(|server| {
            let address = server.destination.id.address().to_string();
            let number = address.rsplit('.').next().unwrap().to_owned();
            (number, server.destination.weight.get())
        })
        .collect()
}

fn until(lab: &Lab, keepalived: &Keepalived, expected: &[(&str, u32)]) {
    let expected: BTreeMap<String, u32> = expected
        .iter()
        .map(|(number, weight)| ((*number).to_owned(), *weight))
        .collect();
    let reached = eventually(Duration::from_secs(30), || weights(lab) == expected);
    assert!(
        reached,
        "{:?}, wanted {expected:?}; keepalived says\n{}",
        weights(lab),
        keepalived.log()
    );
}

/// Its web server refuses connections from now on, as one that has died.
fn fail(server: &str) {
    namespace::run(server, "nft add table inet failure");
    namespace::run(
        server,
        "nft add chain inet failure input { type filter hook input priority 0 ; }",
    );
    namespace::run(
        server,
        "nft add rule inet failure input tcp dport 8080 reject with tcp reset",
    );
}

fn mend(server: &str) {
    namespace::run(server, "nft delete table inet failure");
}

#[test]
fn keepalived_takes_failed_servers_out_and_puts_them_back() {
    let lab = Lab::start();
    let keepalived = Keepalived::start("director", KEEPALIVED);
    until(&lab, &keepalived, &[("11", 1), ("12", 1), ("13", 1)]);
    let names = |lab: &Lab| -> Vec<String> { lab.curl_many(VIP4, 30).into_keys().collect() };
    assert_eq!(names(&lab), ["rs1", "rs2", "rs3"]);

    // One is kept at weight 0, one is taken out, and nobody notices.
    fail("rs1");
    fail("rs2");
    until(&lab, &keepalived, &[("11", 0), ("13", 1)]);
    assert_eq!(names(&lab), ["rs3"]);

    mend("rs1");
    mend("rs2");
    until(&lab, &keepalived, &[("11", 1), ("12", 1), ("13", 1)]);
    assert_eq!(names(&lab), ["rs1", "rs2", "rs3"]);

    fail("rs3");
    until(&lab, &keepalived, &[("11", 1), ("12", 1)]);
    assert_eq!(names(&lab), ["rs1", "rs2"]);

    // polluxd may go and come back: what happens meanwhile reaches it.
    lab.script("stop-polluxd");
    mend("rs3");
    std::thread::sleep(Duration::from_millis(1500));
    lab.script("start-polluxd");
    until(&lab, &keepalived, &[("11", 1), ("12", 1), ("13", 1)]);

    drop(keepalived);
    let gone = eventually(Duration::from_secs(10), || lab.services().is_empty());
    assert!(gone, "it takes its service with it");
}

/// Asks until a question is answered with yes and for a second more: when an answer failed to come the last time, and how
/// many times it did.
fn failures_until(lab: &Lab, done: impl Fn() -> bool) -> (Duration, usize) {
    let start = Instant::now();
    let mut last = Duration::ZERO;
    let mut failures = 0;
    let mut more = None;
    while more.is_none_or(|since: Instant| since.elapsed() < Duration::from_secs(1)) {
        if !lab.curl_succeeds(VIP4) {
            last = start.elapsed();
            failures += 1;
        }
        if more.is_none() && done() {
            more = Some(Instant::now());
        }
        assert!(start.elapsed() < Duration::from_secs(30), "it never is");
    }
    (last, failures)
}

#[test]
fn a_failed_server_is_missed_for_seconds_and_its_return_by_nobody() {
    let lab = Lab::start();
    let keepalived = Keepalived::start("director", KEEPALIVED);
    until(&lab, &keepalived, &[("11", 1), ("12", 1), ("13", 1)]);
    fail("rs2");
    let (last, failures) = failures_until(&lab, || weights(&lab).len() == 2);
    println!(
        "{failures} requests failed, the last after {} ms",
        last.as_millis()
    );
    // Its check comes every second, and the machine may be busy.
    assert!(
        last < Duration::from_secs(3),
        "{last:?}\n{}",
        keepalived.log()
    );
    mend("rs2");
    let (_, failures) = failures_until(&lab, || weights(&lab).len() == 3);
    assert_eq!(failures, 0, "{}", keepalived.log());
    assert_eq!(lab.curl_many(VIP4, 30).len(), 3);
}
