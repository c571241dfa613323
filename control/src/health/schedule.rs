//! When servers are asked: each at its own time, spread from the start on, and not too many at once.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pollux_api::Check;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::history::Outcome;
use super::probe;

/// Probes under way at once: half of the file descriptors that a process has by default.
const PROBES_MAX: usize = 512;

/// What a probe found.
#[derive(Debug)]
pub struct Found {
    /// Of which target.
    pub target: u64,
    /// What.
    pub outcome: Outcome,
}

/// Starts tasks that ask, and takes what they find.
#[derive(Debug)]
pub struct Asking {
    room: Arc<Semaphore>,
    /// Whether the log says that this machine cannot ask.
    is_failing: Arc<AtomicBool>,
    found: mpsc::Sender<Found>,
}

impl Asking {
    /// What finds for a receiver.
    pub fn new() -> (Self, mpsc::Receiver<Found>) {
        let (found, receiver) = mpsc::channel(PROBES_MAX);
        let asking = Self {
            room: Arc::new(Semaphore::new(PROBES_MAX)),
            is_failing: Arc::default(),
            found,
        };
        (asking, receiver)
    }

    /// Asks a server again and again until aborted.
    pub fn start(&self, target: u64, server: SocketAddr, check: Check) -> AbortHandle {
        let room = Arc::clone(&self.room);
        let is_failing = Arc::clone(&self.is_failing);
        let found = self.found.clone();
        let interval = Duration::from_millis(check.interval_ms.into());
        let limit = Duration::from_millis(check.timeout_ms.into());
        let ask_for_ever = async move {
            sleep(interval.mul_f64(chance())).await;
            loop {
                let Ok(turn) = room.acquire().await else {
                    return;
                };
                let start = Instant::now();
                let asked = probe::ask(&check.probe, server, limit).await;
                drop(turn);
                match asked {
                    Ok(outcome) => {
                        is_failing.store(false, Ordering::Relaxed);
                        if found.send(Found { target, outcome }).await.is_err() {
                            return;
                        }
                    }
                    Err(error) if !is_failing.swap(true, Ordering::Relaxed) => {
                        log::error!(
                            "servers cannot be checked: {error}; they stay as they are. More files may be opened with \
                             LimitNOFILE= in polluxd.service"
                        );
                    }
                    Err(_) => {}
                }
                // Never later than asked for, so that a server is off in time; up to a tenth earlier, so that checks
                // that fell together part again.
                sleep_until(start + interval.mul_f64(1.0 - chance() / 10.0)).await;
            }
        };
        tokio::spawn(ask_for_ever).abort_handle()
    }
}

/// A number from 0 to 1, another one each time.
fn chance() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    (random >> 11) as f64 / (1_u64 << 53) as f64
}
