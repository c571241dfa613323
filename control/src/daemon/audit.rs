//! The audit log: a JSON line for each command that was to change something, in `<state-dir>/audit.jsonl`.

use pollux_api::audit::{AuditAction, AuditEntry, AuditOutcome};
use pollux_api::control::{Answer, Command};
use pollux_api::line::Failure;

use super::caller::Caller;
use super::{Daemon, journal, off_loop};

impl Daemon {
    /// Writes down what a caller has asked for and what came of it. Waits until it is written, so that who is told that
    /// something is done can read about it.
    pub(super) async fn note(
        &self,
        caller: &Caller,
        action: AuditAction,
        result: &Result<Answer, Failure>,
    ) {
        let outcome = match result {
            Ok(Answer::Done { generation } | Answer::Reloaded { generation, .. }) => {
                AuditOutcome::Done {
                    generation: *generation,
                }
            }
            // No command that changes something has another answer.
            Ok(_) => return,
            Err(failure) => AuditOutcome::Refused {
                code: failure.code,
                message: failure.message.clone(),
            },
        };
        let log = self.audit.clone();
        let caller = caller.clone();
        let write = move || {
            let entry = AuditEntry {
                time: journal::now(),
                origin: caller.origin,
                peer: caller.peer(),
                action,
                outcome,
            };
            log.write(&[entry]);
        };
        off_loop(write).await;
    }

    /// The last entries of the log.
    pub(super) async fn audit_entries(&self, last: usize) -> Answer {
        let log = self.audit.clone();
        Answer::Audit(off_loop(move || log.last(last, |_| true)).await)
    }
}

/// What a command is in the log, if it is one that changes something. What `reload` changes is known only afterwards.
pub fn action_of(command: &Command) -> Option<AuditAction> {
    use pollux_api::audit::ChangeList;
    match command {
        Command::Change { changes, .. } => Some(AuditAction::Change(ChangeList::of(changes))),
        Command::Zero { service } => Some(AuditAction::Zero { service: *service }),
        _ => None,
    }
}
