//! The lab with both daemons running, for one test at a time: what the end-to-end tests share.
//!
//! The tests themselves are in `tests/tests/end_to_end/`, one file for each thing that is shown. They run as root, one
//! at a time, in the network namespaces that `scripts/lab` makes, against the release build of both daemons. A lab that
//! does not come up fails the test: nothing is skipped.

pub mod bird;
pub mod capture;
pub mod client;
pub mod echo;
pub mod frames;
pub mod http;
pub mod keepalived;
pub mod lag;
pub mod load;
pub mod machine;
pub mod namespace;
pub mod nginx;
pub mod prometheus;
pub mod sctp;
pub mod servers;
pub mod tools;
pub mod trunk;
pub mod wrk;

use std::env;
use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use pollux_api::dataplane::{ConnectionReport, PortStatus, WorkerStatus};
use pollux_api::statistics::{DestinationStatistics, DropReport, ServiceStatistics};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;

use capture::Capture;

/// A running lab. Its end checks that no packet was lost count of, that both daemons live and that every checksum they
/// sent was right, and takes it down.
pub struct Lab {
    /// Whoever holds this name has the lab. It goes with the process, however that ends.
    _turn: UnixListener,
    /// Whether the daemons must be alive when the test is over.
    check_end: bool,
    /// What the director has sent, to be judged when the test is over.
    capture: Option<Capture>,
}

impl Lab {
    /// The lab with two workers, no service, and every counter at zero.
    pub fn start() -> Self {
        Self::start_with("--workers 2")
    }

    /// The lab with arguments of `scripts/lab start-daemons`.
    pub fn start_with(arguments: &str) -> Self {
        let mut lab = Self::without_daemons();
        let capture = Capture::start();
        lab.start_daemons(arguments);
        capture.await_beginning();
        lab.capture = Some(capture);
        lab.check_end = true;
        lab
    }

    /// The network and the real servers, but no Pollux.
    pub fn without_daemons() -> Self {
        let turn = wait_for_turn();
        let lab = Self {
            _turn: turn,
            check_end: false,
            capture: None,
        };
        // Anew: half a second, and nothing that client and servers have learnt of paths and neighbours is left.
        lab.script("down");
        lab.script("up");
        lab
    }

    /// Starts both daemons.
    pub fn start_daemons(&self, arguments: &str) {
        self.script(&format!("start-daemons {arguments}"));
    }

    /// The test killed a daemon: its end asks for none.
    pub fn expects_daemons_dead(mut self) {
        self.check_end = false;
    }

    /// The test sends frames with wrong checksums, which stay as wrong as they were on their way: nothing is judged.
    pub fn expects_wrong_checksums(&mut self) {
        self.capture = None;
    }

    /// Runs `scripts/lab` with arguments split at blanks. It must succeed.
    pub fn script(&self, line: &str) -> String {
        let output = self.try_script(line);
        assert!(
            output.status.success(),
            "scripts/lab {line}: {}\n{}",
            output.status,
            text_of(&output)
        );
        text_of(&output)
    }

    /// Runs `scripts/lab`, whatever comes of it.
    pub fn try_script(&self, line: &str) -> Output {
        script_command(line).output().expect("scripts/lab starts")
    }

    /// Runs the command line of Pollux with arguments split at blanks. It must succeed.
    pub fn pollux(&self, line: &str) -> String {
        let output = self.try_pollux(line);
        assert!(
            output.status.success(),
            "pollux {line}: {}\n{}",
            output.status,
            text_of(&output)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs the command line of Pollux, whatever comes of it.
    pub fn try_pollux(&self, line: &str) -> Output {
        program("pollux")
            .args(line.split_whitespace())
            .output()
            .expect("pollux starts")
    }

    /// What `pollux show WHAT --json` says.
    pub fn show<T: DeserializeOwned>(&self, what: &str) -> T {
        let text = self.pollux(&format!("show {what} --json"));
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("pollux show {what} --json: {error}\n{text}"))
    }

    /// All services.
    pub fn services(&self) -> Vec<ServiceStatistics> {
        self.show("services")
    }

    /// The server at this address, of any service.
    pub fn server(&self, address: &str) -> DestinationStatistics {
        let mut all = self
            .services()
            .into_iter()
            .flat_map(|service| service.destinations);
        all.find(|server| server.destination.id.address().to_string() == address)
            .unwrap_or_else(|| panic!("{address} is no server of any service"))
    }

    /// The fates of all packets by port.
    pub fn drops(&self) -> Vec<DropReport> {
        self.show("drops --all")
    }

    /// All workers.
    pub fn workers(&self) -> Vec<WorkerStatus> {
        self.show("workers")
    }

    /// All ports.
    pub fn ports(&self) -> Vec<PortStatus> {
        self.show("ports")
    }

    /// The connection table.
    pub fn connections(&self) -> Vec<ConnectionReport> {
        self.show("connections")
    }

    /// The process of a daemon.
    pub fn process(&self, daemon: &str) -> u32 {
        let path = lab_dir().join(format!("{daemon}.pid"));
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim().parse().expect("a pid file holds a number")
    }

    /// Kills a daemon as the kernel would when memory is out.
    pub fn kill(&self, daemon: &str) {
        let process = Pid::from_raw(self.process(daemon).cast_signed()).expect("no process is 0");
        kill_process(process, Signal::KILL).unwrap_or_else(|error| panic!("{daemon}: {error}"));
        let ended = eventually(Duration::from_secs(5), || !self.is_alive(daemon));
        assert!(ended, "{daemon} does not die");
    }

    /// The number of packets of which this became, over all ports.
    pub fn fate(&self, name: &str) -> u64 {
        let fates = self.drops().into_iter().flat_map(|port| port.fates);
        fates
            .filter(|fate| fate.fate == name)
            .map(|fate| fate.packets)
            .sum()
    }

    /// Received packets are the sum of what became of them, on every port; what the NIC counted, too.
    pub fn assert_every_packet_is_accounted_for(&self) {
        // Packets go on coming, an ARP question every now and then, and the looks at NIC and workers are two.
        let accounted = eventually(Duration::from_secs(3), || {
            let ports = self.ports();
            self.drops().iter().all(|port| {
                let fates: u64 = port.fates.iter().map(|fate| fate.packets).sum();
                let nic = ports.iter().find(|status| status.name == port.port);
                port.received == fates + port.held
                    && nic.is_some_and(|nic| match nic.driver.as_str() {
                        _ if nic.gone => true,
                        // It keeps LACP's frames, which its members count, to itself; a member takes its counters along.
                        "net_bonding" => {
                            nic.members.iter().any(|member| member.gone)
                                || nic.nic.received_packets >= port.received
                        }
                        _ => nic.nic.received_packets == port.received,
                    })
            })
        });
        assert!(
            accounted,
            "packets are missing:\n{}\n{:#?}",
            self.pollux("show drops --all"),
            self.ports()
        );
    }

    fn assert_daemons_live(&self) {
        for daemon in ["pollux-dataplane", "polluxd"] {
            assert!(self.is_alive(daemon), "{daemon} died");
        }
    }

    /// Whether any of its threads runs; the first may be a zombie while others have not closed its sockets yet.
    fn is_alive(&self, daemon: &str) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.process(daemon))) else {
            return false;
        };
        let mut files = threads.flatten().map(|thread| thread.path().join("stat"));
        files.any(|file| {
            // proc(5): the state follows the name, which ends with the last bracket.
            let text = fs::read_to_string(file).unwrap_or_default();
            let state = text
                .rsplit(") ")
                .next()
                .and_then(|rest| rest.chars().next());
            state.is_some_and(|state| !['Z', 'X'].contains(&state))
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let failed = thread::panicking();
        if failed {
            eprintln!("{}", logs());
        } else if self.check_end {
            self.assert_daemons_live();
            self.assert_every_packet_is_accounted_for();
        }
        if let Some(capture) = self.capture.take().filter(|_| !failed) {
            capture.assert_checksums_are_right();
        }
        let down = self.try_script("down");
        assert!(
            failed || down.status.success(),
            "scripts/lab down: {}",
            text_of(&down)
        );
    }
}

/// What a process has had of processors so far.
pub fn processor_time(process: u32) -> Duration {
    processor_time_in(&format!("/proc/{process}/stat"))
}

/// What the first thread of a process has had: of the data plane, the one that does everything but packets.
pub fn processor_time_of_main(process: u32) -> Duration {
    processor_time_in(&format!("/proc/{process}/task/{process}/stat"))
}

fn processor_time_in(path: &str) -> Duration {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    // proc(5): fields 14 and 15, in hundredths of a second; the name, in brackets, is field 2.
    let fields = text.rsplit(") ").next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks = ticks.filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// Repeats a question until its answer is yes or the time is over; says which.
pub fn eventually(patience: Duration, mut question: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if question() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// `scripts/lab` with arguments split at blanks.
pub fn script_command(line: &str) -> Command {
    let mut command = Command::new(top().join("scripts/lab"));
    command
        .args(line.split_whitespace())
        .env("POLLUX_BIN_DIR", bin_dir())
        .stdin(Stdio::null());
    command
}

/// A program of Pollux that speaks to the daemons of the lab.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(bin_dir().join(name));
    command
        .env("POLLUX_RUN_DIR", lab_dir().join("run"))
        .env("POLLUX_STATE_DIR", lab_dir().join("state"));
    command.stdin(Stdio::null());
    command
}

/// Where the lab keeps its files.
pub fn lab_dir() -> PathBuf {
    env::var_os("POLLUX_LAB_DIR").map_or_else(|| PathBuf::from("/run/pollux-lab"), PathBuf::from)
}

/// All that a program printed.
pub fn text_of(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The top folder of the repository.
pub fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests have a folder of their own")
}

/// Where the programs under test are: `scripts/test` has built them and says where, otherwise they are built now.
fn bin_dir() -> &'static Path {
    static BIN_DIR: OnceLock<PathBuf> = OnceLock::new();
    BIN_DIR.get_or_init(|| {
        if let Some(path) = env::var_os("POLLUX_BIN_DIR") {
            return path.into();
        }
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let build = Command::new(cargo)
            .args(["build", "--release", "--workspace", "--bins"])
            .current_dir(top())
            .status()
            .expect("cargo starts");
        assert!(build.success(), "cargo build --release: {build}");
        env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| top().join("target"), PathBuf::from)
            .join("release")
    })
}

/// Waits until no other test has the lab, in this process or another.
fn wait_for_turn() -> UnixListener {
    let name = SocketAddr::from_abstract_name("pollux-lab").expect("a short name is valid");
    let mut turn = None;
    let got_it = eventually(Duration::from_secs(600), || {
        turn = UnixListener::bind_addr(&name).ok();
        turn.is_some()
    });
    assert!(got_it, "another test holds the lab for 10 minutes");
    turn.expect("it was bound just now")
}

/// The ends of the daemons' logs.
fn logs() -> String {
    ["pollux-dataplane", "polluxd"]
        .map(|daemon| {
            let text =
                fs::read_to_string(lab_dir().join(format!("{daemon}.log"))).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            format!(
                "--- the end of {daemon}.log\n{}",
                lines[lines.len().saturating_sub(25)..].join("\n")
            )
        })
        .join("\n")
}
