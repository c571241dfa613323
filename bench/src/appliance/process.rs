//! A process of the rig: started with its output in a file, stopped and continued so that two of them take turns on one
//! CPU, ended when the rig goes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::interrupt;

/// How long a process may take to start, or to end.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of its output that are shown when it fails.
const LOG_LINES: usize = 12;

/// How a program is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// By SIGTERM.
    Terminate,
    /// By the end of its input. SIGTERM comes later, in case it is deaf on that ear.
    EndOfInput,
}

/// A running process.
#[derive(Debug)]
pub struct RigProcess {
    name: String,
    child: Child,
    log: PathBuf,
    farewell: Farewell,
    patience: Duration,
}

/// What the kernel has counted of a thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scheduled {
    /// Time it ran, nanoseconds.
    pub ran_ns: u64,
    /// Time it was ready to run and something else had its CPU, nanoseconds.
    pub waited_ns: u64,
}

/// CPU time of a process's worker, and how many packets it has forwarded by then.
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
        farewell: Farewell,
    ) -> anyhow::Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let (program, arguments) = words.split_first().context("no program")?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C is for us: this one may be stopped, or still be starting, and is told to end as it likes it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", Path::new(program).display()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
            farewell,
            patience: PATIENCE,
        })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
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
                _ if began.elapsed() < self.patience => interrupt::sleep(LOOK_EVERY)?,
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

    /// CPU time of its worker.
    ///
    /// # Errors
    /// It has ended.
    pub fn worker_cpu_ns(&self) -> anyhow::Result<u64> {
        Ok(self.worker_scheduled()?.ran_ns)
    }

    /// What the kernel has counted of its worker: of the busiest thread that is called so, for starting takes the main
    /// thread a while. Both programs name their threads.
    ///
    /// # Errors
    /// It has ended.
    pub fn worker_scheduled(&self) -> anyhow::Result<Scheduled> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let tasks = tasks.with_context(|| format!("{} has ended", self.name))?;
        // A thread may end meanwhile.
        let threads = tasks.filter_map(|task| {
            let thread = task.ok()?.path();
            let name = fs::read_to_string(thread.join("comm")).ok()?;
            Some((name, scheduled(&thread).ok()?))
        });
        worker_of(threads).with_context(|| format!("{} has no threads", self.name))
    }

    /// Ends it as an administrator would.
    ///
    /// # Errors
    /// It did not end by itself and had to be killed; with the end of its output.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.make_end()
    }

    /// It has ended after this, whatever comes back.
    fn make_end(&mut self) -> anyhow::Result<()> {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return Ok(());
        }
        // One that is stopped hears nothing.
        let _ = self.set_running(true);
        if self.farewell == Farewell::EndOfInput {
            drop(self.child.stdin.take());
            if self.has_ended_within(self.patience / 2) {
                return Ok(());
            }
        }
        let _ = self.signal(Signal::TERM);
        if self.has_ended_within(self.patience / 2) {
            return Ok(());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        bail!(
            "{} did not end and was killed:\n{}",
            self.name,
            self.last_lines()
        )
    }

    fn has_ended_within(&mut self, time: Duration) -> bool {
        let began = Instant::now();
        loop {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            if began.elapsed() > time {
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
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
        // The rig goes whatever became of the measurement.
        if let Err(error) = self.make_end() {
            eprintln!("pollux-bench: {error:#}");
        }
    }
}

/// The busiest of the threads that are called workers; of all, if none is.
fn worker_of(threads: impl Iterator<Item = (String, Scheduled)>) -> Option<Scheduled> {
    let ranked = threads.map(|(name, scheduled)| (name.contains("worker"), scheduled));
    ranked.max().map(|(_, scheduled)| scheduled)
}

/// What the kernel has counted of the thread with this directory in `/proc`.
///
/// # Errors
/// The thread has ended, or the kernel counts nothing.
pub fn scheduled(thread: &Path) -> anyhow::Result<Scheduled> {
    let path = thread.join("schedstat");
    let text = fs::read_to_string(&path)?;
    let mut words = text.split_whitespace().map(str::parse);
    match (words.next(), words.next()) {
        (Some(Ok(ran_ns)), Some(Ok(waited_ns))) => Ok(Scheduled { ran_ns, waited_ns }),
        _ => bail!("{} holds something else: {text}", path.display()),
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
            Farewell::Terminate,
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

    /// A shell that runs this, its name, and what goes with them.
    fn shell(name: &str, script: &str, farewell: Farewell) -> (RigProcess, impl Drop) {
        struct Log(PathBuf);
        impl Drop for Log {
            fn drop(&mut self) {
                fs::remove_file(&self.0).unwrap();
            }
        }
        let directory = std::env::temp_dir();
        let name = format!("{name}-{}", std::process::id());
        let process = RigProcess::start(&name, &directory, &["sh", "-c", script], farewell);
        (process.unwrap(), Log(directory.join(format!("{name}.log"))))
    }

    #[test]
    fn a_stopped_process_uses_no_time_and_is_ended_all_the_same() {
        let script = "while :; do :; done";
        let (process, _log) = shell("stopped", script, Farewell::Terminate);
        process.set_running(false).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let before = process.worker_cpu_ns().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(process.worker_cpu_ns().unwrap(), before);
        process.end().unwrap();
    }

    /// A rate by the time of a thread that has done its work would be infinite.
    #[test]
    fn the_worker_is_known_by_its_name_and_not_by_what_starting_took() {
        let thread = |name: &str, ran_ns| {
            let waited_ns = 1;
            (name.to_owned(), Scheduled { ran_ns, waited_ns })
        };
        let ran = |threads: &[(String, Scheduled)]| {
            worker_of(threads.iter().cloned()).map(|of| of.ran_ns)
        };
        let testpmd = [
            thread("dpdk-testpmd", 900),
            thread("rte-worker-1", 5),
            thread("telemetry-v2", 7),
        ];
        assert_eq!(ran(&testpmd), Some(5));
        let own = [
            thread("pollux-dataplane", 900),
            thread("worker-1", 4),
            thread("worker-0", 30),
        ];
        assert_eq!(ran(&own), Some(30));
        assert_eq!(ran(&[thread("sh", 3), thread("sh", 6)]), Some(6));
        assert_eq!(ran(&[]), None);
    }

    /// testpmd forgets a SIGTERM that comes while it starts, and then waits for its input.
    #[test]
    fn who_forgets_a_signal_while_starting_is_ended_by_the_end_of_input() {
        let script = "trap '' TERM; echo starting; sleep 0.2; read line; echo bye";
        let (process, log) = shell("forgetful", script, Farewell::EndOfInput);
        process.set_running(false).unwrap();
        process.end().unwrap();
        drop(log);
    }

    #[test]
    fn who_does_not_end_is_killed_and_complained_about() {
        let script = "trap '' TERM; echo not yet; while :; do sleep 0.01; done";
        let (mut process, _log) = shell("stubborn", script, Farewell::Terminate);
        let ready = |process: &RigProcess| process.last_lines().contains("not yet");
        while !ready(&process) {
            std::thread::sleep(LOOK_EVERY);
        }
        process.patience = Duration::from_millis(200);
        let id = process.child.id();
        let error = process.end().unwrap_err().to_string();
        assert!(
            error.contains("was killed") && error.contains("not yet"),
            "{error}"
        );
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }
}
