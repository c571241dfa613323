//! A process of the rig: started with its output in a file, stopped and continued so that two of them take turns on one
//! CPU, ended when the rig goes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to start, or to end.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of its output that are shown when it fails.
const LOG_LINES: usize = 12;

/// A running process.
#[derive(Debug)]
pub struct RigProcess {
    name: String,
    child: Child,
    log: PathBuf,
}

/// CPU time of a process's busiest thread, and how many packets it has forwarded by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Nanoseconds.
    pub cpu_ns: u64,
    /// Packets.
    pub packets: u64,
}

impl Reading {
    /// Packets a second of CPU time since an earlier reading.
    #[allow(clippy::cast_precision_loss)] // of some seconds
    pub fn rate_since(self, earlier: Self) -> f64 {
        let packets = self.packets.saturating_sub(earlier.packets) as f64;
        packets * 1e9 / self.cpu_ns.saturating_sub(earlier.cpu_ns) as f64
    }
}

impl RigProcess {
    /// Starts it. Its standard input stays open as long as it runs.
    ///
    /// # Errors
    /// The program is not there.
    pub fn start<S: AsRef<OsStr>>(
        name: &str,
        directory: &Path,
        words: &[S],
    ) -> anyhow::Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let (program, arguments) = words.split_first().context("no program")?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", Path::new(program).display()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Waits until something has come true of it.
    ///
    /// # Errors
    /// It has ended, or takes too long; with the end of its output.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{} has ended ({status}) before {what}:\n{}",
                    self.name,
                    self.last_lines()
                );
            }
            let seen = look();
            match seen {
                Ok(Some(found)) => return Ok(found),
                _ if began.elapsed() < PATIENCE => std::thread::sleep(LOOK_EVERY),
                Ok(None) => bail!(
                    "{} takes too long: not {what}:\n{}",
                    self.name,
                    self.last_lines()
                ),
                Err(error) => return Err(error.context(format!("{}: {what}", self.name))),
            }
        }
    }

    /// Lets it run, or stops it where it is.
    ///
    /// # Errors
    /// It has ended.
    pub fn set_running(&self, running: bool) -> anyhow::Result<()> {
        let signal = if running { Signal::CONT } else { Signal::STOP };
        self.signal(signal)
    }

    /// CPU time of its busiest thread: that of the one worker.
    ///
    /// # Errors
    /// It has ended.
    pub fn worker_cpu_ns(&self) -> anyhow::Result<u64> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()))?;
        let mut most = None;
        for task in tasks {
            let path = task?.path().join("schedstat");
            // A thread may end meanwhile.
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let ran = text
                .split(' ')
                .next()
                .and_then(|word| word.parse::<u64>().ok());
            most = most.max(ran);
        }
        most.with_context(|| format!("{} has no threads", self.name))
    }

    /// Ends it as an administrator would.
    ///
    /// # Errors
    /// It does not end.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.set_running(true)?;
        self.signal(Signal::TERM)?;
        self.has_ended()
            .with_context(|| format!("{} does not end", self.name))
    }

    fn has_ended(&mut self) -> Option<()> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if self.child.try_wait().ok()?.is_some() {
                return Some(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        None
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("{} has no process id", self.name))?;
        kill_process(pid, signal).with_context(|| format!("{} has ended", self.name))
    }

    /// The end of its output.
    pub fn last_lines(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let first = lines.len().saturating_sub(LOG_LINES);
        lines.get(first..).unwrap_or_default().join("\n")
    }
}

impl Drop for RigProcess {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // The rig goes whatever became of the measurement; who is dead already needs no killing.
        let _ = self.set_running(true);
        let _ = self.signal(Signal::TERM);
        if self.has_ended().is_none() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_cpu_time() {
        let first = Reading {
            cpu_ns: 1_000,
            packets: 50,
        };
        let later = Reading {
            cpu_ns: 1_000_001_000,
            packets: 70,
        };
        assert_eq!(later.rate_since(first).to_bits(), 20.0_f64.to_bits());
    }

    #[test]
    fn what_ends_early_is_shown_with_its_last_words() {
        let directory = std::env::temp_dir();
        let name = format!("early-{}", std::process::id());
        let mut process = RigProcess::start(
            &name,
            &directory,
            &["sh", "-c", "echo no such port; exit 3"],
        )
        .unwrap();
        let error = process
            .wait_until("it answers", || Ok(None::<()>))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no such port") && error.contains("exit status: 3"),
            "{error}"
        );
        fs::remove_file(directory.join(format!("{name}.log"))).unwrap();
    }

    #[test]
    fn a_stopped_process_uses_no_time_and_is_ended_all_the_same() {
        let directory = std::env::temp_dir();
        let name = format!("stopped-{}", std::process::id());
        let process =
            RigProcess::start(&name, &directory, &["sh", "-c", "while :; do :; done"]).unwrap();
        process.set_running(false).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let before = process.worker_cpu_ns().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(process.worker_cpu_ns().unwrap(), before);
        process.end().unwrap();
        fs::remove_file(directory.join(format!("{name}.log"))).unwrap();
    }
}
