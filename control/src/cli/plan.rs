//! `pollux plan`, `apply` and `reload`: the configuration file against what runs.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};

use pollux_api::control::{Answer, Command};
use pollux_api::{Change, Configuration};
use serde_json::json;

use super::{CliError, Outcome, Session, output_json, output_plan};
use crate::config;
use crate::config::diff;
use crate::config::plan::Plan;

impl<W: Write> Session<'_, W> {
    pub(super) fn plan(&mut self, path: Option<&Path>) -> Result<Outcome, CliError> {
        let plan = match path {
            Some(path) => self.plan_of(path)?,
            None => self.unsaved()?,
        };
        if self.json {
            output_json::pretty(self.out, &plan)?;
        } else {
            let text = match path {
                Some(path) => output_plan::to_come(&plan, path),
                None => output_plan::unsaved(&plan, &default_file()),
            };
            self.out.write_all(text.as_bytes())?;
        }
        Ok(if plan.is_empty() {
            Outcome::Done
        } else {
            Outcome::Differs
        })
    }

    pub(super) fn apply(&mut self, path: &Path) -> Result<(), CliError> {
        if self.json {
            let plan = self.plan_of(path)?;
            let changes = plan.changes();
            let generation = self.transact(plan.base_generation, changes)?;
            let done = json!({ "generation": generation, "changes": plan.changes });
            return output_json::pretty(self.out, &done);
        }
        // What becomes of live connections nobody asks but who reads the plan.
        let wanted = config::load_existing(path)?;
        let (before, running) = self.running()?;
        let changes = diff::changes(&running, wanted.configuration());
        let count = changes.len();
        let generation = self.transact(before, changes)?;
        self.say_done(&path.display().to_string(), generation, count)
    }

    /// What runs then: the same, if there is nothing to change.
    fn transact(&self, before: u64, changes: Vec<Change>) -> Result<u64, CliError> {
        if changes.is_empty() {
            return Ok(before);
        }
        let command = Command::Change {
            base_generation: Some(before),
            changes,
        };
        match self.ask(command)? {
            Answer::Done { generation } => Ok(generation),
            _ => Err(CliError::Unexpected),
        }
    }

    pub(super) fn reload(&mut self) -> Result<(), CliError> {
        let Answer::Reloaded {
            generation,
            changes,
            waiting,
        } = self.ask(Command::Reload)?
        else {
            return Err(CliError::Unexpected);
        };
        if self.json {
            let done = json!({ "generation": generation, "changes": changes, "waiting": waiting });
            return output_json::pretty(self.out, &done);
        }
        self.say_done("polluxd's file", generation, changes)?;
        for table in waiting {
            writeln!(self.out, "{table}")?;
        }
        Ok(())
    }

    fn say_done(&mut self, file: &str, generation: u64, changes: usize) -> Result<(), CliError> {
        match changes {
            0 => writeln!(
                self.out,
                "{file}: nothing to do, generation {generation} runs it already"
            )?,
            _ => writeln!(
                self.out,
                "{file}: applied, changes: {changes}; generation {generation} runs"
            )?,
        }
        Ok(())
    }

    /// From what runs to what a file says, with the live connections that it touches.
    fn plan_of(&self, path: &Path) -> Result<Plan, CliError> {
        let wanted = config::load_existing(path)?;
        let (generation, running) = self.running()?;
        let plan = |live: &[_]| Plan::new(generation, &running, wanted.configuration(), live);
        let without_live = plan(&[]);
        if without_live.is_empty() {
            return Ok(without_live);
        }
        let Answer::Services(live) = self.ask(Command::ShowServices)? else {
            return Err(CliError::Unexpected);
        };
        Ok(plan(&live))
    }

    /// From what the file says to what runs: that has happened already, so no connection is counted.
    fn unsaved(&self) -> Result<Plan, CliError> {
        let saved = config::load(&default_file())?;
        let (generation, running) = self.running()?;
        Ok(Plan::new(generation, saved.configuration(), &running, &[]))
    }

    fn running(&self) -> Result<(u64, Configuration), CliError> {
        match self.ask(Command::ShowRunning)? {
            Answer::Running {
                generation,
                configuration,
            } => Ok((generation, configuration)),
            _ => Err(CliError::Unexpected),
        }
    }
}

/// The file that is meant when none is named, as for `save`.
fn default_file() -> PathBuf {
    env::var_os("POLLUX_CONFIG").map_or_else(|| config::DEFAULT_PATH.into(), PathBuf::from)
}
