//! Tells systemd, or whoever set `NOTIFY_SOCKET`, how the data plane is (`sd_notify(3)`).

use std::future::pending;
use std::sync::Arc;

use pollux_engine::counters::WorkerCounters;
use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

/// Packets are forwarded and clients answered from now on.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// Workers are being stopped.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// Says again and again that every worker's loop turns, if a watchdog wants to know (`WatchdogSec=`): a data plane of
/// which one worker hangs is started anew, and takes its connections up again. Never returns.
pub async fn keep_alive(workers: Vec<Arc<WorkerCounters>>) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return pending().await;
    };
    // A third: a worker that slept through one look, on a busy machine, has another one.
    let mut ticks = interval(limit / 3);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = Turns::default();
    loop {
        ticks.tick().await;
        match seen.stuck(workers.iter().map(|counters| counters.loops.get())) {
            None => tell(NotifyState::Watchdog),
            Some(worker) => log::error!("worker {worker} has not turned since the last look"),
        }
    }
}

/// How often each worker's loop had turned at the last look.
#[derive(Debug, Default)]
struct Turns(Vec<u64>);

impl Turns {
    /// The first worker whose loop has not turned since the last look; none at the first look.
    fn stuck(&mut self, now: impl Iterator<Item = u64>) -> Option<usize> {
        let now: Vec<u64> = now.collect();
        let stuck = self.0.iter().zip(&now).position(|(then, now)| then == now);
        self.0 = now;
        stuck
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        log::warn!("cannot tell the service manager: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_does_not_turn_is_seen() {
        let mut turns = Turns::default();
        for (loops, stuck) in [
            ([0, 0], None),
            ([5, 1], None),
            ([9, 1], Some(1)),
            ([9, 2], Some(0)),
            ([10, 3], None),
        ] {
            assert_eq!(turns.stuck(loops.into_iter()), stuck, "{loops:?}");
        }
    }
}
