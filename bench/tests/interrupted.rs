//! A benchmark that is interrupted ends soon and leaves nothing behind. The appliance has its own test.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pollux_bench::interrupt::{self, Interrupted};
use rustix::process::{Pid, Signal, getpid, kill_process};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_table_in_memory_goes_when_its_benchmark_is_interrupted() {
    // Operations come first: one round of them, then the tables that start.
    let words = "table --connections 10k --family ipv4 --threads 1 --rounds 1 --no-huge";
    for signal in [Signal::INT, Signal::TERM] {
        let child = Command::new(env!("CARGO_BIN_EXE_pollux-bench"))
            .args(words.split(' '))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let table = PathBuf::from(format!("/dev/shm/pollux-bench-{}", child.id()));
        let began = Instant::now();
        while !table.exists() {
            assert!(began.elapsed() < PATIENCE, "no {}", table.display());
            std::thread::sleep(Duration::from_millis(1));
        }
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.unwrap(), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("interrupted"), "{said}");
        assert!(!table.exists());
    }
}

#[test]
fn a_signal_ends_waits_and_not_the_process() {
    interrupt::listen().unwrap();
    assert_eq!(interrupt::sleep(Duration::from_millis(1)), Ok(()));
    kill_process(getpid(), Signal::TERM).unwrap();
    assert_eq!(interrupt::sleep(PATIENCE), Err(Interrupted));
    assert_eq!(interrupt::check(), Err(Interrupted));
}
