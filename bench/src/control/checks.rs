//! Thousands of servers checked once a second: how many checks are made, and at what cost.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::daemons::Daemons;
use crate::arguments::ControlOptions;
use crate::interrupt;
use crate::measurement::ChecksMeasurement;

/// Servers are addresses of the namespace's own, so that nothing but polluxd and the kernel has to do with them.
const SERVICES: u32 = 10;
const PORT: u16 = 7000;
const WAITING: i32 = 4096;
const SETTLE: Duration = Duration::from_secs(3);

/// Checks as many servers as the options say for as many seconds.
///
/// # Errors
/// Daemons that do not start, or refuse the file.
pub fn run(options: &ControlOptions) -> anyhow::Result<ChecksMeasurement> {
    let daemons = Daemons::start(options)?;
    let bind = || TcpListener::bind(("0.0.0.0", PORT));
    let listener = daemons.namespace.inside(bind)??;
    listener.set_nonblocking(true)?;
    // As many as the kernel lets wait: where this thread is kept waiting, servers are not to seem down.
    rustix::net::listen(&listener, WAITING)?;
    let (asked, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| take(&listener, &asked, &is_over));
        let measured = measure(options, &daemons, &asked);
        is_over.store(true, Ordering::Relaxed);
        measured
    })
}

fn take(listener: &TcpListener, asked: &AtomicU64, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        match listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
            }
            // Also one that is gone before it is taken was asked.
            _ => {
                asked.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn measure(
    options: &ControlOptions,
    daemons: &Daemons,
    asked: &AtomicU64,
) -> anyhow::Result<ChecksMeasurement> {
    let file = daemons.directory().join("checked.toml");
    fs::write(&file, checked_file(options.checks))?;
    daemons.pollux(&["apply", file.to_str().context("a path that is no text")?])?;
    interrupt::sleep(SETTLE)?;
    let (asked_before, used_before) = (asked.load(Ordering::Relaxed), daemons.used()?);
    let start = Instant::now();
    interrupt::sleep(Duration::from_secs(options.seconds.into()))?;
    let passed = start.elapsed().as_secs_f64();
    let used = daemons.used()?.since(used_before);
    let checks = (asked.load(Ordering::Relaxed) - asked_before) as f64;
    Ok(ChecksMeasurement {
        servers: options.checks,
        checks_per_second: checks / passed,
        polluxd_cores: used.polluxd_ns as f64 / 1e9 / passed,
        us_per_check: used.polluxd_ns as f64 / 1e3 / checks,
        polluxd_mib: daemons.polluxd_peak_mib()?,
    })
}

fn checked_file(servers: u32) -> String {
    let mut text =
        "[[check]]\nname = \"connect\"\nkind = \"tcp\"\ninterval_ms = 1000\ntimeout_ms = 900\n"
            .to_owned();
    for service in 1..=SERVICES {
        let _ = writeln!(
            text,
            "[[service]]\nprotocol = \"tcp\"\naddress = \"198.51.100.2:{service}\"\ncheck = \"connect\""
        );
        for server in 0..servers / SERVICES {
            let _ = writeln!(
                text,
                "[[service.server]]\naddress = \"127.{service}.{}.{}:{PORT}\"\nmethod = \"nat\"",
                server / 250,
                server % 250 + 1
            );
        }
    }
    text
}
