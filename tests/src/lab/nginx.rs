//! What befalls the nginx of a real server.

use std::fs;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::{eventually, lab_dir, namespace};
use std::time::Duration;

/// A way in which a server fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// nginx is ended: connections are refused.
    Stopped,
    /// Its processes get no processor: the kernel takes connections, and nobody answers.
    Hung,
    /// Its link is down.
    CutOff,
    /// It answers every request with status 500.
    Ill,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Stopped, Self::Hung, Self::CutOff, Self::Ill];

    /// Lets a server, `rs1`, fail.
    pub fn begin(self, server: &str) {
        match self {
            Self::Stopped => {
                let master = master(server);
                kill_process(master, Signal::TERM).expect("nginx takes a signal");
                let file = lab_dir().join(server).join("nginx.pid");
                let ended = eventually(Duration::from_secs(5), || !file.exists());
                assert!(ended, "nginx of {server} does not end");
            }
            Self::Hung => signal(server, Signal::STOP),
            Self::CutOff => link(server, "down"),
            Self::Ill => fs::write(ill(server), "").expect("the lab has a folder"),
        }
    }

    /// Ends that.
    pub fn end(self, server: &str) {
        match self {
            Self::Stopped => {
                let dir = lab_dir().join(server);
                let dir = dir.display();
                let start = format!("nginx -e {dir}/nginx.log -c {dir}/nginx.conf");
                namespace::run(server, &start);
            }
            Self::Hung => signal(server, Signal::CONT),
            Self::CutOff => link(server, "up"),
            Self::Ill => fs::remove_file(ill(server)).expect("it was made before"),
        }
    }
}

fn ill(server: &str) -> std::path::PathBuf {
    lab_dir().join(server).join("ill")
}

fn master(server: &str) -> Pid {
    let file = lab_dir().join(server).join("nginx.pid");
    let text =
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let number = text.trim().parse().expect("a pid file holds a number");
    Pid::from_raw(number).expect("no process is 0")
}

/// To the master and its workers, which are a group of their own.
fn signal(server: &str, signal: Signal) {
    kill_process_group(master(server), signal).expect("nginx leads a process group");
}

/// At the router's end, so that the server keeps its addresses and routes.
fn link(server: &str, state: &str) {
    namespace::run("router", &format!("ip link set {server} {state}"));
}
