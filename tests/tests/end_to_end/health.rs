//! Health checks under load: whoever fails is out in time, comes back by itself, and costs nobody else a request.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pollux_api::health::{QuorumState, ServerHealth, ServerState, ServiceHealth};
use pollux_tests::lab::bird::Routers;
use pollux_tests::lab::client::url;
use pollux_tests::lab::nginx::Failure;
use pollux_tests::lab::servers::{NAMES, SERVERS4, SERVERS6, VIP4, VIP6, endpoint};
use pollux_tests::lab::wrk::{CLIENTS, Wrk};
use pollux_tests::lab::{Lab, eventually, lab_dir, namespace, processor_time};
use rustix::net::sockopt::set_socket_linger;
use rustix::time::{ClockId, clock_gettime};

const INTERVAL: Duration = Duration::from_millis(300);
const TIMEOUT: Duration = Duration::from_millis(200);
const FALL: usize = 2;
const RISE: usize = 2;
const WEIGHT: u32 = 40;

/// How long anything may take: a machine may do other things meanwhile. What is promised is looked at by polluxd's clock.
const PATIENCE: Duration = Duration::from_secs(15);

fn apply(lab: &Lab, file: &str) {
    let path = lab_dir().join("health.toml");
    fs::write(&path, file).unwrap();
    lab.pollux(&format!("apply {}", path.display()));
}

/// A check of this name and kind, with more keys.
fn check(name: &str, kind: &str, more: &str) -> String {
    format!(
        "[[check]]\nname = \"{name}\"\nkind = \"{kind}\"\ninterval_ms = {}\ntimeout_ms = {}\nfall = {FALL}\nrise = {RISE}\n\
         {more}\n",
        INTERVAL.as_millis(),
        TIMEOUT.as_millis(),
    )
}

/// A service with a check and more keys.
fn service(protocol: &str, address: &str, port: u16, check: &str, more: &str) -> String {
    let address = endpoint(address, port);
    format!(
        "[[service]]\nprotocol = \"{protocol}\"\naddress = \"{address}\"\nscheduler = \"rr\"\ncheck = \"{check}\"\n{more}\n"
    )
}

/// A server of the service before it.
fn server(address: &str, port: u16, method: &str) -> String {
    let address = endpoint(address, port);
    format!("[[service.server]]\naddress = \"{address}\"\nweight = {WEIGHT}\nmethod = {method}\n")
}

const BY_NAT: &str = "\"nat\"";

/// Some of the servers, checked by their page; `more` keys of the service.
fn web(servers: &[&str], more: &str) -> String {
    let servers = servers.iter().map(|address| server(address, 80, BY_NAT));
    let servers: String = servers.collect();
    let service = service("tcp", VIP4, 80, "web", more);
    format!("{}{service}{servers}", check("web", "http", ""))
}

fn weight(lab: &Lab, server: &str) -> u32 {
    lab.server(server).destination.weight.get()
}

/// What polluxd says of a server.
fn health(lab: &Lab, server: &str) -> ServerHealth {
    let all: Vec<ServerHealth> = lab.show("health");
    let mut all = all.into_iter();
    let found = all.find(|known| known.server.address().to_string() == server);
    found.unwrap_or_else(|| panic!("{server} is not checked"))
}

/// The bad answers in a row that took a server off: how many, and how long it took from the first to the last.
fn fall(health: &ServerHealth) -> (usize, Duration) {
    let older = health.recent.iter();
    let older = older.skip_while(|result| result.age_ms < health.since_ms);
    let bad: Vec<u64> = older
        .take_while(|result| !result.good)
        .map(|result| result.age_ms)
        .collect();
    let took = bad.last().copied().unwrap_or_default() - bad.first().copied().unwrap_or_default();
    (bad.len(), Duration::from_millis(took))
}

#[test]
fn every_failure_takes_a_server_out_in_time_and_costs_only_its_own_requests() {
    let lab = Lab::start();
    apply(&lab, &web(&SERVERS4, "slow_start_s = 2"));
    let page = url(VIP4, "/");
    let (name, server) = (NAMES[0], SERVERS4[0]);
    for failure in Failure::ALL {
        let during = Wrk::start(&page);
        thread::sleep(Duration::from_millis(500));
        let before = lab.server(server).totals.connections;
        let start = Instant::now();
        failure.begin(name);
        let out = eventually(PATIENCE, || weight(&lab, server) == 0);
        let took = start.elapsed();
        assert!(out, "{failure:?}: {}", lab.pollux("show health"));
        let found = health(&lab, server);
        let (bad, from_first) = fall(&found);
        println!(
            "{failure:?}: out after {} ms, {bad} bad answers in {} ms",
            took.as_millis(),
            from_first.as_millis()
        );
        assert_eq!(
            (found.state, bad),
            (ServerState::Down, FALL),
            "{failure:?}: {found:?}"
        );
        let sent = lab.server(server).totals.connections - before;

        // Out is out: of all that comes from now on, nothing fails.
        let after = Wrk::start(&page);
        thread::sleep(Duration::from_secs(1));
        let after = after.finish();
        println!("{failure:?}: {after:?} once it was out");
        assert_eq!(after.failed, 0, "{failure:?}");
        assert!(after.requests > 100, "{failure:?}: {after:?}");
        let sent_in_all = lab.server(server).totals.connections - before;
        assert_eq!(sent_in_all, sent, "{failure:?}");

        // Back by itself, with a small weight first.
        failure.end(name);
        let mut weights = vec![0];
        let back = eventually(PATIENCE, || {
            let weight = weight(&lab, server);
            if weights.last() != Some(&weight) {
                weights.push(weight);
            }
            weight == WEIGHT
        });
        println!("{failure:?}: back with weights {weights:?}");
        assert!(back, "{failure:?}: {}", lab.pollux("show health"));
        assert!(
            weights.is_sorted() && weights[1] < WEIGHT,
            "{failure:?}: {weights:?}"
        );
        let since = lab.server(server).totals.connections;
        let serves = eventually(PATIENCE, || lab.server(server).totals.connections > since);
        assert!(serves, "{failure:?}: nobody comes");
        let during = during.finish();
        println!("{failure:?}: {during:?} while it failed, connections sent to it: {sent}");
        // Those under way when it began, and those that were sent to it before it was out.
        assert!(
            during.failed <= sent + CLIENTS,
            "{failure:?}: {during:?}, sent {sent}"
        );
    }
}

/// A file that each run of a program of a quorum adds a line to, and the keys that say so.
fn quorum_programs(hook: &Path) -> String {
    let program = format!(
        "[\"/bin/sh\", \"-c\", \"echo $POLLUX_SERVICE_PROTOCOL $POLLUX_SERVICE_ADDRESS $POLLUX_SERVICE_PORT $POLLUX_QUORUM >> {}\"]",
        hook.display()
    );
    format!("quorum_up = {program}\nquorum_down = {program}\n")
}

#[test]
fn the_sorry_server_serves_and_the_address_is_withdrawn_while_the_quorum_is_lost() {
    let lab = Lab::start();
    let hook = lab_dir().join("quorum");
    // Lost below 30, back from 80 on.
    let more = format!(
        "on_failure = \"remove\"\nannounce = \"client0\"\nquorum = 55\nquorum_hysteresis = 25\n{}\
         [service.sorry_server]\naddress = \"{}:8080\"\nmethod = \"nat\"\n",
        quorum_programs(&hook),
        SERVERS4[2],
    );
    let routers = Routers::start();
    let is_announced = || {
        let addresses = namespace::run("director", "ip -br addr show dev client0");
        addresses.contains(&format!("{VIP4}/32"))
    };
    let told = |expected: &str| {
        let lines: String = expected
            .split_whitespace()
            .map(|word| format!("tcp {VIP4} 80 {word}\n"))
            .collect();
        let told = eventually(PATIENCE, || {
            fs::read_to_string(&hook).is_ok_and(|told| told == lines)
        });
        assert!(told, "{:?} instead of {lines}", fs::read_to_string(&hook));
    };
    let quorum = |state: QuorumState, weight_up: u64| {
        let mut last = Vec::new();
        let reached = eventually(PATIENCE, || {
            last = lab.show::<Vec<ServiceHealth>>("quorums");
            last.iter()
                .all(|known| (known.state, known.weight_up) == (state, weight_up))
        });
        assert!(reached, "{last:?}");
    };

    assert!(!is_announced() && !routers.have_route());
    apply(&lab, &web(&SERVERS4[..2], &more));
    assert!(eventually(PATIENCE, is_announced));
    assert!(
        eventually(PATIENCE, || routers.have_route()),
        "{}",
        routers.shown()
    );
    told("up");
    let answers = lab.curl_many(VIP4, 20);
    assert_eq!(answers.len(), 2, "{answers:?}");

    // One of two is enough, within the hysteresis.
    Failure::Ill.begin(NAMES[0]);
    quorum(QuorumState::Up, 40);
    assert!(is_announced() && routers.have_route());
    Failure::Ill.begin(NAMES[1]);
    quorum(QuorumState::Lost, 0);
    assert!(eventually(PATIENCE, || !is_announced()));
    assert!(
        eventually(PATIENCE, || !routers.have_route()),
        "{}",
        routers.shown()
    );
    told("up lost");
    // Whoever still has the address is answered.
    let answers = lab.curl_many(VIP4, 20);
    assert_eq!(answers.keys().collect::<Vec<_>>(), [NAMES[2]]);
    let services = lab.services();
    let servers = services[0].destinations.iter();
    let servers: Vec<String> = servers
        .map(|known| known.destination.id.to_string())
        .collect();
    assert_eq!(servers, [format!("{}:8080", SERVERS4[2])]);
    let shown = lab.pollux("show health");
    assert!(shown.contains("quorum lost since"), "{shown}");

    // One of two is not enough.
    Failure::Ill.end(NAMES[0]);
    quorum(QuorumState::Lost, 40);
    assert_eq!(
        lab.curl_many(VIP4, 5).keys().collect::<Vec<_>>(),
        [NAMES[2]]
    );
    assert!(!is_announced() && !routers.have_route());
    Failure::Ill.end(NAMES[1]);
    quorum(QuorumState::Up, 80);
    assert!(eventually(PATIENCE, is_announced));
    assert!(
        eventually(PATIENCE, || routers.have_route()),
        "{}",
        routers.shown()
    );
    told("up lost up");
    let answers = lab.curl_many(VIP4, 20);
    assert_eq!(answers.keys().collect::<Vec<_>>(), [NAMES[0], NAMES[1]]);
}

/// Checks by the path of the service: the virtual address is asked for, on each server, as its method has it.
#[test]
fn a_server_without_the_virtual_address_is_found_by_the_path_of_the_service() {
    const GUE: &str =
        "\"tunnel\"\ntunnel_type = \"gue\"\ntunnel_port = 5555\ntunnel_checksum = \"csum\"";
    const GRE: &str = "\"tunnel\"\ntunnel_type = \"gre\"";
    let lab = Lab::start();
    let by_path = "service_path = true";
    let mut file = [
        check("page", "http", &format!("{by_path}\nbody = \"rs\"")),
        check("connect", "tcp", by_path),
        check(
            "names",
            "dns",
            &format!("{by_path}\nquery = \"whoami.pollux.test\"\nrecord = \"TXT\""),
        ),
        check("own", "http", ""),
    ]
    .concat();
    let paths = [
        ("tcp", VIP4, 80, "page", "\"direct\""),
        ("tcp", VIP4, 8080, "page", "\"tunnel\""),
        ("tcp", VIP4, 443, "connect", GUE),
        ("udp", VIP4, 53, "names", "\"direct\""),
        ("tcp", VIP6, 80, "page", GRE),
        ("tcp", VIP6, 8080, "connect", "\"direct\""),
        ("udp", VIP6, 53, "names", "\"tunnel\""),
    ];
    for (protocol, address, port, check, method) in paths {
        file.push_str(&service(
            protocol,
            address,
            port,
            check,
            "start_down = true",
        ));
        let servers = if address == VIP4 { SERVERS4 } else { SERVERS6 };
        for address in servers {
            file.push_str(&server(address, port, method));
        }
    }
    // The same servers by their own addresses.
    file.push_str(&service("tcp", VIP4, 81, "own", ""));
    for address in SERVERS4 {
        file.push_str(&server(address, 80, BY_NAT));
    }
    apply(&lab, &file);
    let states = || {
        let all: Vec<ServerHealth> = lab.show("health");
        let down = all.iter().filter(|known| known.state == ServerState::Down);
        let name = |known: &ServerHealth| format!("{} of {}", known.server, known.service);
        down.map(name).collect::<Vec<_>>()
    };
    // Each had to be found good first.
    let all_up = || states().is_empty();
    assert!(
        eventually(PATIENCE, all_up),
        "{}",
        lab.pollux("show health")
    );

    let first = |address: &str, port: u16| {
        let servers = if address == VIP4 { SERVERS4 } else { SERVERS6 };
        endpoint(servers[0], port)
    };
    let expected = paths.map(|(protocol, address, port, ..)| {
        let service = endpoint(address, port);
        format!(
            "{} of {} {service}",
            first(address, port),
            protocol.to_uppercase()
        )
    });
    let mut expected: Vec<String> = expected.into();
    expected.sort();
    let as_expected = || {
        let mut states = states();
        states.sort();
        states == expected
    };
    namespace::run("rs1", &format!("ip addr del {VIP4}/32 dev lo"));
    namespace::run("rs1", &format!("ip addr del {VIP6}/128 dev lo"));
    assert!(
        eventually(PATIENCE, as_expected),
        "{}",
        lab.pollux("show health")
    );
    println!("{}", lab.pollux("show health"));
    // One that sends on what is not its own does not get the answers of the others.
    namespace::run(
        "rs1",
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
    );
    thread::sleep(INTERVAL * 6);
    assert!(as_expected(), "{}", lab.pollux("show health"));
    namespace::run("rs1", &format!("ip addr add {VIP4}/32 dev lo"));
    namespace::run("rs1", &format!("ip addr add {VIP6}/128 dev lo nodad"));
    assert!(
        eventually(PATIENCE, all_up),
        "{}",
        lab.pollux("show health")
    );
}

/// Processor time that the kernel takes for a connection to a server which is reset at once: what a check cannot do without.
/// `work` is done in the director's namespace.
fn bare_connection() -> Duration {
    const CONNECTIONS: u32 = 4000;
    let used =
        || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("it is positive");
    namespace::inside("director", || {
        let before = used();
        for number in 0..CONNECTIONS {
            // Of the same many addresses as checks have.
            let [.., high, low] = number.to_be_bytes();
            let server = (Ipv4Addr::new(127, 100, high, low.max(1)), 7000);
            let stream = TcpStream::connect(server).expect("the listener is there");
            set_socket_linger(&stream, Some(Duration::ZERO)).expect("it is a socket");
        }
        (used() - before) / CONNECTIONS
    })
}

/// Most of a check is the kernel's, on a slow machine 34 to 50 us of 56 to 64, so what is looked at is how much more a check takes
/// than that. Where a connection takes 25 us, twice as much 10,000 times a second is half a core.
/// Addresses of the director's own, so that nothing but polluxd and the kernel has to do with them.
#[test]
fn ten_thousand_checks_a_second_take_less_than_twice_their_connections() {
    const SERVICES: usize = 10;
    const SERVERS: usize = 1000;
    const WINDOWS: usize = 4;
    const SECONDS: u64 = 4;
    let lab = Lab::start();
    let listener = namespace::inside("director", || TcpListener::bind("0.0.0.0:7000").unwrap());
    listener.set_nonblocking(true).unwrap();
    // As many as the kernel lets wait: where this thread is kept waiting, servers are not to seem down.
    rustix::net::listen(&listener, 4096).unwrap();
    let (asked, is_over) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let taking = {
        let (asked, is_over) = (Arc::clone(&asked), Arc::clone(&is_over));
        thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok(_) => {
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        thread::sleep(Duration::from_millis(1));
                    }
                    // Gone again before it was taken: it was asked all the same.
                    Err(_) => {
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        })
    };
    let mut file =
        "[[check]]\nname = \"connect\"\nkind = \"tcp\"\ninterval_ms = 1000\ntimeout_ms = 900\n"
            .to_owned();
    for service in 1..=SERVICES {
        file.push_str(&format!(
            "[[service]]\nprotocol = \"tcp\"\naddress = \"{VIP4}:{service}\"\ncheck = \"connect\"\n"
        ));
        for server in 0..SERVERS {
            let (high, low) = (server / 250, server % 250 + 1);
            file.push_str(&format!(
                "[[service.server]]\naddress = \"127.{service}.{high}.{low}:7000\"\nmethod = \"nat\"\n"
            ));
        }
    }
    apply(&lab, &file);
    thread::sleep(Duration::from_secs(3));
    let polluxd = lab.process("polluxd");
    // Turn by turn, as others do more or less with the caches from second to second.
    let (mut checks, mut all, mut bare) = (0, 0.0, 0.0);
    for _ in 0..WINDOWS {
        let (asked_before, used_before) = (asked.load(Ordering::Relaxed), processor_time(polluxd));
        let start = Instant::now();
        thread::sleep(Duration::from_secs(SECONDS));
        let passed = start.elapsed().as_secs_f64();
        let asked = asked.load(Ordering::Relaxed) - asked_before;
        let used = (processor_time(polluxd) - used_before).as_secs_f64();
        let each = used / asked as f64;
        let kernel = bare_connection().as_secs_f64();
        println!(
            "{:.0} checks a second take {:.3} cores, {:.1} us each; a bare connection {:.1} us",
            asked as f64 / passed,
            used / passed,
            each * 1e6,
            kernel * 1e6,
        );
        checks += asked;
        all += each;
        bare += kernel;
    }
    let services: Vec<ServiceHealth> = lab.show("quorums");
    let up: u64 = services.iter().map(|service| service.weight_up).sum();
    is_over.store(true, Ordering::Relaxed);
    taking.join().unwrap();
    assert_eq!(up, (SERVICES * SERVERS) as u64);
    // A machine that does other things gets to fewer in a second.
    assert!(checks > 8_000 * WINDOWS as u64, "{checks}");
    assert!(
        all < bare * 2.0,
        "{:.2} times a bare connection",
        all / bare
    );
}
