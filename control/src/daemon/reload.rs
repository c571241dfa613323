//! The configuration file read again, on SIGHUP and on `pollux reload`: validated whole, done as one transaction or not.

use pollux_api::Transaction;
use pollux_api::audit::{AuditAction, ChangeList};
use pollux_api::control::{Answer, StartTable};
use pollux_api::dataplane::{Query, Report};
use pollux_api::line::{Failure, FailureCode};
use tokio::signal::unix::Signal;

use super::caller::Caller;
use super::dataplane_client::{Reread, unexpected};
use super::{Daemon, off_loop, service_manager};
use crate::config::diff;

impl Daemon {
    /// Reloads at each signal. Returns never: without signals there is nothing to do.
    pub async fn keep_reloading(&self, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            // What became of it is logged.
            let _ = self.reload(&Caller::hangup()).await;
        }
        std::future::pending().await
    }

    /// Makes what runs what the file says. What the file has as it runs is not touched.
    ///
    /// # Errors
    /// Everything that is wrong with the file, or why the data plane refused. Nothing was changed then.
    pub async fn reload(&self, caller: &Caller) -> Result<Answer, Failure> {
        service_manager::reloading();
        let mut list = ChangeList::default();
        let result = self.reload_file(&mut list).await;
        service_manager::ready();
        let path = self.dataplane.file().path().display();
        match &result {
            Ok((generation, 0, _)) => {
                log::info!("reload: {path} says what runs already, generation {generation}");
            }
            Ok((generation, changes, _)) => {
                log::info!("reload: {path} runs, changes: {changes}, generation {generation}");
            }
            Err(failure) => log::error!("reload of {path}: nothing was changed: {failure}"),
        }
        let result = result.map(|(generation, changes, waiting)| Answer::Reloaded {
            generation,
            changes,
            waiting,
        });
        self.note(caller, AuditAction::Reload(list), &result).await;
        result
    }

    /// The generation that runs, how many changes that took, which `list` gets as soon as they are known, and what waits.
    async fn reload_file(
        &self,
        list: &mut ChangeList,
    ) -> Result<(u64, usize, Vec<StartTable>), Failure> {
        let read = self.dataplane.file().reload().await;
        let read = read.map_err(|error| Failure::new(FailureCode::Invalid, error))?;
        let waiting = start_tables(&read);
        for table in &waiting {
            log::warn!("reload: {table}");
        }
        let (generation, running) = self.configuration().await?;
        let changes = off_loop(move || diff::changes(&running, read.now.configuration())).await;
        *list = ChangeList::of(&changes);
        let count = changes.len();
        if count == 0 {
            return Ok((generation, 0, waiting));
        }
        let transaction = Transaction {
            base_generation: Some(generation),
            changes,
        };
        match self.dataplane.ask(Query::Transact(transaction)).await? {
            Report::Applied { generation } => Ok((generation, count, waiting)),
            _ => Err(unexpected()),
        }
    }
}

/// Tables that are read at the start and not again, and have changed.
fn start_tables(read: &Reread) -> Vec<StartTable> {
    let Reread { before, now } = read;
    let dataplane = (before.dataplane() != now.dataplane()).then_some(StartTable::Dataplane);
    let control = (before.control() != now.control()).then_some(StartTable::Control);
    dataplane.into_iter().chain(control).collect()
}
