//! A keepalived, unmodified, in a director's namespace of the lab.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::namespace;
use super::{lab_dir, program};

/// A running keepalived, asked to end with this value.
pub struct Keepalived {
    child: Child,
    name: String,
}

impl Keepalived {
    /// Starts it in a director's namespace, `director` for `pollux-director`, with this configuration.
    pub fn start(director: &str, configuration: &str) -> Self {
        let name = format!("keepalived-{director}");
        let file = |ending: &str| lab_dir().join(format!("{name}{ending}"));
        fs::write(file(".conf"), configuration).expect("the lab has a folder");
        let log = File::create(file(".log")).expect("the lab has a folder");
        let mut run_dir = std::ffi::OsString::from("POLLUX_RUN_DIR=");
        run_dir.push(run_dir_of(director));
        let child = namespace::command(director, "env")
            .arg(run_dir)
            .arg(program("pollux").get_program())
            .args(["ipvs", "--", "keepalived", "-n", "-l", "-D", "-f"])
            .arg(file(".conf"))
            .arg("-p")
            .arg(file(".pid"))
            .arg("-c")
            .arg(file("-checkers.pid"))
            .arg("-r")
            .arg(file("-vrrp.pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be cloned"))
            .stderr(log)
            .spawn();
        Self {
            child: child.expect("`ip netns exec` starts"),
            name,
        }
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(lab_dir().join(format!("{}.log", self.name))).unwrap_or_default()
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Where the daemons of a director have their sockets.
pub fn run_dir_of(director: &str) -> PathBuf {
    match director {
        "director" => lab_dir().join("run"),
        other => lab_dir().join(other).join("run"),
    }
}
