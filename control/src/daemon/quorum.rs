//! What is done when a service loses its quorum or has it again: programs are run, one after the other for a service.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pollux_api::ServiceId;
use pollux_api::events::EventKind;
use tokio::time::timeout;

use super::{Daemon, lock};
use crate::health::QuorumChange;
use crate::health::probe::{run, service_names};

/// A program that runs longer is killed, with all it started.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Programs under way: for each service whose program runs, what is to run next, if anything. A change that another one
/// overtakes is left out.
#[derive(Debug, Clone, Default)]
pub struct QuorumPrograms(Arc<Mutex<HashMap<ServiceId, Option<QuorumChange>>>>);

impl Daemon {
    /// Does what is to be done about quorums that changed.
    pub(super) fn act_on_quorums(&self) {
        let mut happened = Vec::new();
        for change in self.health.take_quorum_changes() {
            let service = change.service;
            // What is found at the start did not happen now.
            if !change.is_first {
                let kind = if change.is_lost {
                    EventKind::QuorumLost
                } else {
                    EventKind::QuorumBack
                };
                happened.push((service, kind));
            }
            if change.is_lost {
                log::warn!("service {service} has lost its quorum");
            } else if !change.is_first {
                log::info!("service {service} has its quorum again");
            }
            self.announcing.notify_one();
            if !change.command().is_empty() {
                self.programs.start(change);
            }
        }
        self.events.push(happened);
    }
}

impl QuorumPrograms {
    fn start(&self, change: QuorumChange) {
        let service = change.service;
        {
            let mut programs = lock(&self.0);
            if let Some(next) = programs.get_mut(&service) {
                *next = Some(change);
                return;
            }
            programs.insert(service, None);
        }
        let programs = self.clone();
        tokio::spawn(async move {
            let mut change = change;
            loop {
                run_program(&change).await;
                let mut programs = lock(&programs.0);
                match programs.get_mut(&service).and_then(Option::take) {
                    Some(next) => change = next,
                    None => {
                        programs.remove(&service);
                        return;
                    }
                }
            }
        });
    }
}

async fn run_program(change: &QuorumChange) {
    let service = change.service;
    let state = if change.is_lost { "lost" } else { "up" };
    let mut names = service_names(service);
    names.push(("POLLUX_QUORUM", state.to_owned()));
    let what = format!("service {service}: the program for a quorum that is {state}");
    match timeout(TIME_MAX, run(change.command(), names)).await {
        Ok(Ok((status, said))) if !status.success() => {
            log::error!("{what} failed: {status} {said}");
        }
        Ok(Ok(_)) => log::debug!("{what} has run"),
        Ok(Err(error)) => log::error!("{what} cannot be run: {error}"),
        Err(_) => log::error!("{what} was killed after {} s", TIME_MAX.as_secs()),
    }
}
