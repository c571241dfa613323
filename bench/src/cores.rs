//! The CPUs threads are pinned to, and the CPU time they take.

use std::fs;

use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;

/// Why there is no CPU for a worker.
#[derive(Debug, Error)]
pub enum CoreError {
    /// Fewer CPUs than workers.
    #[error(
        "{workers} workers need as many CPUs, this process may run on {cpus}: give --workers {cpus}"
    )]
    TooFew {
        /// Workers asked for.
        workers: usize,
        /// CPUs the process may run on.
        cpus: usize,
    },
    /// The kernel's refusal.
    #[error("cannot find out, or set, the CPUs of a thread: {0}")]
    System(#[from] rustix::io::Errno),
}

/// CPUs this process may run on, the last first: the first one serves the machine's interrupts more often than not.
///
/// # Errors
/// The system's.
pub fn usable() -> Result<Vec<usize>, CoreError> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .rev()
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}

/// The CPUs for so many workers.
///
/// # Errors
/// [`CoreError::TooFew`].
pub fn for_workers(workers: usize) -> Result<Vec<usize>, CoreError> {
    let mut usable = usable()?;
    if usable.len() < workers {
        return Err(CoreError::TooFew {
            workers,
            cpus: usable.len(),
        });
    }
    usable.truncate(workers);
    Ok(usable)
}

/// Keeps the calling thread on one CPU for as long as this lives.
#[derive(Debug)]
pub struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// Pins the calling thread.
    ///
    /// # Errors
    /// The system's.
    pub fn to(cpu: usize) -> Result<Self, CoreError> {
        let before = sched_getaffinity(None)?;
        let mut only = CpuSet::new();
        only.set(cpu);
        sched_setaffinity(None, &only)?;
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It was the set before, so the kernel takes it.
        let _ = sched_setaffinity(None, &self.before);
    }
}

/// Lets the calling thread, and the processes it starts meanwhile, go before others on their CPUs, nearly as if they had
/// them to themselves. As root; otherwise nothing changes.
#[derive(Debug)]
pub struct FirstInLine {
    thread: Option<i32>,
    session: Option<i32>,
}

/// The least nice value there is.
const FIRST: i32 = -20;
/// Where the kernel groups processes by session, theirs counts first: sched(7), "The autogroup feature".
const SESSION: &str = "/proc/self/autogroup";

impl FirstInLine {
    /// From here on.
    pub fn step() -> Self {
        let thread = getpriority_process(None).ok();
        let session = fs::read_to_string(SESSION);
        let session = session.ok().and_then(|text| session_nice(&text));
        Self {
            thread: thread.filter(|_| setpriority_process(None, FIRST).is_ok()),
            session: session.filter(|_| fs::write(SESSION, FIRST.to_string()).is_ok()),
        }
    }
}

impl Drop for FirstInLine {
    fn drop(&mut self) {
        // A nicer value is always allowed.
        if let Some(before) = self.thread {
            let _ = setpriority_process(None, before);
        }
        if let Some(before) = self.session {
            let _ = fs::write(SESSION, before.to_string());
        }
    }
}

/// Of `/autogroup-22 nice 0`.
fn session_nice(text: &str) -> Option<i32> {
    text.trim().rsplit_once("nice ")?.1.parse().ok()
}

/// CPU time the calling thread has had, in nanoseconds. A system call: about 0.2 µs.
pub fn thread_cpu_ns() -> u64 {
    nanoseconds(ClockId::ThreadCPUTime)
}

/// CPU time all threads of this process have had, in nanoseconds.
pub fn process_cpu_ns() -> u64 {
    nanoseconds(ClockId::ProcessCPUTime)
}

/// The clock a worker reads once a loop: monotonic, and running in suspend.
#[inline]
pub fn boot_ns() -> u64 {
    nanoseconds(ClockId::Boottime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let rest = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_and_lets_go() {
        let before = usable().unwrap();
        {
            let _pinned = Pinned::to(before[0]).unwrap();
            assert_eq!(usable().unwrap(), [before[0]]);
            assert!(
                for_workers(2)
                    .unwrap_err()
                    .to_string()
                    .contains("--workers 1")
            );
        }
        assert_eq!(usable().unwrap(), before);
    }

    #[test]
    fn the_nice_value_of_a_session_is_read() {
        assert_eq!(session_nice("/autogroup-22 nice 0\n"), Some(0));
        assert_eq!(session_nice("/autogroup-7 nice -20\n"), Some(-20));
        assert_eq!(session_nice(""), None);
    }

    #[test]
    fn clocks_run() {
        let (cpu, boot) = (thread_cpu_ns(), boot_ns());
        let sum: u64 = (0..1_000_000).map(std::hint::black_box).sum();
        assert!(sum > 0 && thread_cpu_ns() > cpu && boot_ns() > boot);
    }
}
