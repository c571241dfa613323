//! Follows the configuration that runs and switches servers: what [`crate::health`] finds becomes transactions.

use std::time::Duration;

use pollux_api::dataplane::{Query, Report};
use pollux_api::line::Failure;
use pollux_api::{Configuration, Transaction};
use tokio::time::sleep;

use super::Daemon;
use super::dataplane_client::unexpected;
use crate::health::Asking;

/// Pause after the data plane could not be told.
const RETRY: Duration = Duration::from_millis(250);

impl Daemon {
    /// Checks servers and switches them, for ever.
    pub async fn keep_healthy(&self) {
        let (asking, mut findings) = Asking::new();
        let mut changes = self.dataplane.changes();
        changes.mark_changed();
        // None: another one may run by now.
        let mut running: Option<(u64, Configuration)> = None;
        let mut is_settled = true;
        loop {
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    running = None;
                    is_settled = false;
                }
                Some(found) = findings.recv() => {
                    let mut changed = self.health.record(found);
                    while let Ok(more) = findings.try_recv() {
                        changed |= self.health.record(more);
                    }
                    is_settled &= !changed;
                }
                () = sleep(RETRY), if !is_settled => {}
            }
            if is_settled {
                continue;
            }
            match self.settle(&mut running, &asking).await {
                Ok(()) => is_settled = true,
                Err(failure) => {
                    running = None;
                    log::debug!("health: {failure}");
                }
            }
        }
    }

    /// Makes what runs what the checks say.
    async fn settle(
        &self,
        running: &mut Option<(u64, Configuration)>,
        asking: &Asking,
    ) -> Result<(), Failure> {
        let (generation, configuration) = match running {
            Some(known) => known,
            None => {
                let Report::Configuration {
                    generation,
                    configuration,
                } = self.dataplane.ask(Query::Configuration).await?
                else {
                    return Err(unexpected());
                };
                self.health.follow(&configuration, asking);
                running.insert((generation, configuration))
            }
        };
        let changes = self.health.changes(configuration);
        if changes.is_empty() {
            return Ok(());
        }
        // Against the generation it was found for: after another change it is found again.
        let transaction = Transaction {
            base_generation: Some(*generation),
            changes,
        };
        self.dataplane.ask(Query::Transact(transaction)).await?;
        *running = None;
        Ok(())
    }
}
