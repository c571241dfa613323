//! Follows the configuration that runs and switches servers: what [`crate::health`] finds becomes transactions.

use std::time::Duration;

use pollux_api::Transaction;
use pollux_api::dataplane::{Query, Report};
use pollux_api::line::Failure;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::dataplane_client::unexpected;
use super::{Daemon, lock};
use crate::health::Asking;

/// Pause after the data plane could not be told.
const RETRY: Duration = Duration::from_millis(250);

/// Longer than anyone sleeps.
const LONG: Duration = Duration::from_secs(3600);

impl Daemon {
    /// Checks servers and switches them, for ever.
    pub async fn keep_healthy(&self) {
        let (found, followed) = (Notify::new(), Notify::new());
        tokio::select! {
            () = self.keep_asking(&found, &followed) => {}
            () = self.keep_switching(&found, &followed) => {}
        }
    }

    /// Asks servers when they are due. `found`: there is something to switch; `followed`: others may be due.
    async fn keep_asking(&self, found: &Notify, followed: &Notify) {
        let (asking, mut findings) = Asking::new();
        loop {
            let next = self.health.next();
            let next = next.map_or_else(|| Instant::now() + LONG, Instant::from_std);
            tokio::select! {
                Some(first) = findings.recv() => {
                    let mut changed = self.health.record(first);
                    while let Ok(more) = findings.try_recv() {
                        changed |= self.health.record(more);
                    }
                    if changed {
                        found.notify_one();
                    }
                }
                () = followed.notified() => {}
                () = sleep_until(next) => {}
            }
            // Also after answers: they have made room.
            self.health.ask(&asking);
        }
    }

    /// Switches servers.
    async fn keep_switching(&self, found: &Notify, followed: &Notify) {
        let mut changes = self.dataplane.changes();
        changes.mark_changed();
        // None: another configuration may run by now.
        let mut running: Option<u64> = None;
        let mut is_settled = true;
        loop {
            let step = self.health.next_step();
            let step = step.map_or_else(|| Instant::now() + LONG, Instant::from_std);
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // Our own change is known already.
                    let generation = *changes.borrow_and_update();
                    if generation.is_none() || generation != running {
                        running = None;
                        is_settled = false;
                    }
                }
                () = found.notified() => is_settled = false,
                () = sleep_until(step) => is_settled = false,
                () = sleep(RETRY), if !is_settled => {}
            }
            if is_settled {
                continue;
            }
            match self.settle(&mut running, followed).await {
                Ok(()) => is_settled = true,
                Err(failure) => {
                    running = None;
                    log::debug!("health: {failure}");
                }
            }
        }
    }

    /// Makes what runs what the checks say.
    async fn settle(&self, running: &mut Option<u64>, followed: &Notify) -> Result<(), Failure> {
        loop {
            let base = match *running {
                Some(generation) => generation,
                None => {
                    let (generation, configuration) = self.configuration().await?;
                    self.health.follow(&configuration);
                    let estimates = configuration.settings.get("run_estimation") != 0;
                    lock(&self.rates).suspend(!estimates);
                    followed.notify_one();
                    *running.insert(generation)
                }
            };
            let changes = self.health.changes();
            if changes.is_empty() {
                self.act_on_quorums();
                return Ok(());
            }
            // Against the generation it was found for: after another change it is found again.
            let transaction = Transaction {
                base_generation: Some(base),
                changes: changes.clone(),
            };
            let Report::Applied { generation } =
                self.dataplane.ask(Query::Transact(transaction)).await?
            else {
                return Err(unexpected());
            };
            self.health.done(&changes);
            self.events.push(self.health.switched(&changes));
            *running = Some(generation);
        }
    }
}
