//! Servers that fail in every way are off in time, come back by themselves, and keep their weight all along.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pollux_api::health::ServerHealth;

use super::machine::{Machine, PATIENCE};

const INTERVAL: Duration = Duration::from_millis(400);
/// Enough for an answer on a machine that does other things.
const TIMEOUT: Duration = Duration::from_millis(400);
pub const FALL: usize = 3;

/// What a server does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    Answers(&'static str),
    Hangs,
    HangsUp,
}

pub const GOOD: Habit = Habit::Answers("HTTP/1.1 200 OK\r\n\r\n");

pub struct Server {
    habit: Arc<Mutex<Habit>>,
    /// Connections it has taken.
    asked: Arc<AtomicUsize>,
    pub address: String,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let habit = Arc::new(Mutex::new(GOOD));
        let asked = Arc::<AtomicUsize>::default();
        let (its_habit, count) = (Arc::clone(&habit), Arc::clone(&asked));
        thread::spawn(move || {
            let mut hung: Vec<TcpStream> = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let habit = *its_habit.lock().unwrap();
                if habit == Habit::Hangs {
                    hung.push(stream);
                    continue;
                }
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while lines
                    .next()
                    .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
                {}
                if let Habit::Answers(answer) = habit {
                    let _ = stream.write_all(answer.as_bytes());
                }
            }
        });
        Self {
            habit,
            asked,
            address,
        }
    }

    pub fn is_now(&self, habit: Habit) {
        *self.habit.lock().unwrap() = habit;
    }
}

/// A machine with a service of a server that is checked and one that always answers.
pub fn checked() -> (Machine, Server) {
    let (server, other) = (Server::start(), Server::start());
    let mut machine = Machine::new();
    let file = format!(
        r#"
[[check]]
name = "web"
kind = "http"
path = "/healthy"
interval_ms = {}
timeout_ms = {}
rise = 2
fall = {FALL}

[[service]]
protocol = "tcp"
address = "127.0.0.9:0"
persistence_timeout = 300
check = "web"

[[service.server]]
address = "{}"
method = "nat"
weight = 7

[[service.server]]
address = "{}"
method = "nat"
weight = 2
"#,
        INTERVAL.as_millis(),
        TIMEOUT.as_millis(),
        server.address,
        other.address
    );
    machine.write("pollux.toml", &file);
    machine.start_dataplane();
    machine.start_polluxd();
    machine.until("both servers were asked", |machine| {
        let shown = machine.json("show health");
        let servers = shown.as_array().unwrap();
        servers.len() == 2 && servers.iter().all(|one| !one["recent"][0].is_null())
    });
    (machine, server)
}

/// The weight of a server as schedulers see it.
fn weight(machine: &Machine, server: &Server) -> u32 {
    let state = machine.state.lock().unwrap();
    let in_force = state.configuration.in_force();
    let destinations = &in_force.services[0].destinations;
    let wanted = server.address.parse().unwrap();
    let found = destinations.iter().find(|known| known.id == wanted);
    found.unwrap().weight.get()
}

/// What polluxd says of a server.
fn health(machine: &Machine, server: &Server) -> ServerHealth {
    let shown: Vec<ServerHealth> = serde_json::from_value(machine.json("show health")).unwrap();
    let mut servers = shown.into_iter();
    let found = servers.find(|one| one.server.to_string() == server.address);
    found.unwrap()
}

fn last_result(machine: &Machine, server: &Server) -> String {
    health(machine, server).recent[0].reason.clone()
}

/// How many bad answers in a row took a server off, and the time from the first of them to the last: what
/// `interval × fall + timeout` is by polluxd's clock, whatever a machine that does other things makes of it.
pub fn fall(machine: &Machine, server: &Server) -> (usize, Duration) {
    let health = health(machine, server);
    let older = health.recent.iter();
    let older = older.skip_while(|result| result.age_ms < health.since_ms);
    let bad: Vec<u64> = older
        .take_while(|result| !result.good)
        .map(|result| result.age_ms)
        .collect();
    let took = bad[bad.len() - 1] - bad[0];
    (bad.len(), Duration::from_millis(took))
}

pub fn until_weight(machine: &Machine, server: &Server, wanted: u32) {
    let start = Instant::now();
    while weight(machine, server) != wanted {
        assert!(start.elapsed() < PATIENCE, "{}", machine.log());
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn every_failure_takes_a_server_off_in_time_and_it_comes_back_by_itself() {
    let (machine, server) = checked();
    for (habit, why) in [
        (Habit::Answers("HTTP/1.1 500 No\r\n\r\n"), "status 500"),
        (Habit::Hangs, "no answer within 400 ms"),
        (Habit::HangsUp, "closed the connection without an answer"),
        (Habit::Answers("SSH-2.0-x\r\n"), "the answer is no HTTP"),
    ] {
        server.is_now(habit);
        until_weight(&machine, &server, 0);
        assert_eq!(fall(&machine, &server).0, FALL, "{habit:?}");
        assert_eq!(last_result(&machine, &server), why);
        server.is_now(GOOD);
        until_weight(&machine, &server, 7);
    }
    let shown = machine.shown("show health");
    assert!(
        shown.contains("127.0.0.9:0") && shown.contains("status 200 in"),
        "{shown}"
    );
    assert!(machine.log().contains("is down: status 500"));
}

#[test]
fn a_server_that_is_off_stays_so_whatever_is_done_to_its_weight() {
    let (mut machine, server) = checked();
    server.is_now(Habit::HangsUp);
    until_weight(&machine, &server, 0);
    machine.done(&format!(
        "server edit -t 127.0.0.9:0 -r {} -w 9",
        server.address
    ));
    assert_eq!(weight(&machine, &server), 0);
    // Fail static, and the next polluxd takes over.
    machine.signal_polluxd("KILL");
    server.is_now(GOOD);
    thread::sleep(INTERVAL * 4);
    assert_eq!(weight(&machine, &server), 0);
    server.is_now(Habit::HangsUp);
    machine.start_polluxd();
    thread::sleep(INTERVAL * 4);
    assert_eq!(weight(&machine, &server), 0);
    machine.done("save");
    let saved = fs::read_to_string(machine.path("pollux.toml")).unwrap();
    assert!(
        saved.contains("weight = 9") && saved.contains("check = \"web\""),
        "{saved}"
    );
    server.is_now(GOOD);
    until_weight(&machine, &server, 9);
}

/// Twenty services of one server, by checks of two names that ask alike: it is asked as for one.
#[test]
fn services_that_check_a_server_alike_share_a_check() {
    const SERVICES: usize = 20;
    let server = Server::start();
    let mut file = String::new();
    for name in ["one", "other"] {
        file.push_str(&format!(
            "[[check]]\nname = \"{name}\"\nkind = \"http\"\ninterval_ms = 200\ntimeout_ms = 200\n"
        ));
    }
    for service in 1..=SERVICES {
        let name = ["one", "other"][service % 2];
        file.push_str(&format!(
            "[[service]]\nprotocol = \"tcp\"\naddress = \"198.51.100.1:{service}\"\ncheck = \"{name}\"\n\
             [[service.server]]\naddress = \"{}\"\nmethod = \"nat\"\n",
            server.address
        ));
    }
    let mut machine = Machine::new();
    machine.write("pollux.toml", &file);
    machine.start_dataplane();
    machine.start_polluxd();
    machine.until("it was asked ten times", |_| {
        server.asked.load(Ordering::Relaxed) >= 10
    });
    let shown = machine.json("show health");
    let asked = server.asked.load(Ordering::Relaxed);
    let shown = shown.as_array().unwrap();
    assert_eq!(shown.len(), SERVICES);
    let results = |one: &serde_json::Value| one["recent"].as_array().unwrap().clone();
    let first = results(&shown[0]);
    assert!(first.len() >= 9, "{first:?}");
    for one in shown {
        assert_eq!(results(one), first, "the same answers to all");
    }
    // Each time it was asked, all of them had the answer; one may be on its way.
    assert!(
        asked <= first.len() + 2 || first.len() == 16,
        "{asked} {}",
        first.len()
    );
    server.is_now(Habit::HangsUp);
    machine.until("it is off in all of them", |machine| {
        machine.state.lock().unwrap().configuration.health.off.len() == SERVICES
    });
}

#[test]
fn without_checks_there_is_nothing_to_show() {
    let machine = Machine::up();
    machine.done("service add -t 198.51.100.1:80");
    machine.done("server add -t 198.51.100.1:80 -r 203.0.113.11");
    assert_eq!(machine.json("show health"), serde_json::json!([]));
    assert_eq!(machine.shown("show health").lines().count(), 1);
}

/// 40,000 servers that one listener answers for: they are all addresses of this machine.
#[test]
fn many_checked_servers_need_little_memory() {
    const SERVICES: usize = 40;
    const SERVERS: usize = 1000;
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    // As many as the kernel lets wait: where this thread is kept waiting, servers are not to seem down.
    rustix::net::listen(&listener, 4096).unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::<Mutex<HashSet<SocketAddr>>>::default();
    let seen = Arc::clone(&asked);
    thread::spawn(move || {
        for server in listener.incoming().flatten() {
            seen.lock().unwrap().extend(server.local_addr());
        }
    });
    let mut file =
        "[[check]]\nname = \"connect\"\nkind = \"tcp\"\ninterval_ms = 12_000\ntimeout_ms = 12_000\n"
            .to_owned();
    for service in 1..=SERVICES {
        file.push_str(&format!(
            "[[service]]\nprotocol = \"tcp\"\naddress = \"198.51.100.1:{service}\"\ncheck = \"connect\"\n"
        ));
        for server in 0..SERVERS {
            let (high, low) = (server / 250, server % 250 + 1);
            file.push_str(&format!(
                "[[service.server]]\naddress = \"127.{service}.{high}.{low}:{port}\"\nmethod = \"nat\"\n"
            ));
        }
    }
    let mut machine = Machine::new();
    machine.write("pollux.toml", &file);
    machine.start_dataplane();
    machine.start_polluxd();
    let start = Instant::now();
    // However long a busy machine takes for it, as long as it goes on.
    let (mut count, mut last_came) = (0, Instant::now());
    while count < SERVICES * SERVERS {
        thread::sleep(Duration::from_millis(100));
        let now = asked.lock().unwrap().len();
        if now > count {
            (count, last_came) = (now, Instant::now());
        }
        assert!(last_came.elapsed() < PATIENCE, "{count}\n{}", machine.log());
    }
    println!(
        "{count} servers were asked after {} ms",
        start.elapsed().as_millis()
    );
    // This takes memory as well.
    let shown = machine.json("show health");
    assert_eq!(shown.as_array().unwrap().len(), SERVICES * SERVERS);
    let off = machine.state.lock().unwrap().configuration.health.off.len();
    assert_eq!(off, 0);
    let status = fs::read_to_string(format!("/proc/{}/status", machine.polluxd_pid())).unwrap();
    let mut lines = status.lines();
    let peak = lines.find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("most memory of polluxd: {}", peak.trim());
    let kib: u64 = peak.split_whitespace().next().unwrap().parse().unwrap();
    assert!(kib < 200 << 10, "{kib} KiB");
}
