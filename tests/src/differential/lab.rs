//! The lab with the real kernel: takes plans, gives what the kernel made of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::plan::Plan;
use crate::golden::trace::{self, Scenario};

/// Says where the lab is.
pub const VARIABLE: &str = "IPVS_LAB";
/// Lines of the lab's console that are told when it fails.
const TOLD_LINES: usize = 15;
/// So many virtual seconds behind the plan, what lives for seconds only may have ended too early.
const LAG_MAX: f64 = 0.7;
/// How often a plan is recorded until it is not behind.
const ATTEMPTS: usize = 6;
/// Seconds of wall-clock time for a boot, and for each scenario.
const SECONDS: (usize, usize) = (60, 30);

/// A lab.
#[derive(Debug)]
pub struct Lab {
    folder: PathBuf,
    scratch: tempfile::TempDir,
}

/// A scenario as it was recorded, and the line it was read from.
#[derive(Debug)]
pub struct Recording {
    /// The scenario.
    pub scenario: Scenario,
    /// Its line of JSON.
    pub line: String,
}

impl Recording {
    /// Whether the recorder was so far behind the plan that it may show other moments than those that were meant.
    pub fn is_late(&self) -> bool {
        self.scenario.lag > LAG_MAX
    }
}

impl Lab {
    /// The lab of a folder, or of the one that [`VARIABLE`] names.
    ///
    /// # Errors
    /// When none is named, or there is none.
    pub fn find(folder: Option<&Path>) -> Result<Self> {
        let named = std::env::var_os(VARIABLE).map(PathBuf::from);
        let Some(folder) = folder.map(Path::to_path_buf).or(named) else {
            bail!(
                "where is the lab? give --lab FOLDER or {VARIABLE}=FOLDER, with its run.sh and lab.py in it"
            );
        };
        ensure!(
            folder.join("run.sh").is_file(),
            "{}: no run.sh: this is not the lab; its kernel is built by its setup.sh --build",
            folder.display()
        );
        let scratch = tempfile::tempdir().context("a folder for recordings")?;
        Ok(Self { folder, scratch })
    }

    /// Records plans in one boot, and those again that a busy machine has disturbed; some of them may stay late
    /// ([`Recording::is_late`]).
    ///
    /// # Errors
    /// When the kernel did not boot, or did not get through all of them: what it said.
    pub fn record(&self, plans: &[Plan]) -> Result<Vec<Recording>> {
        let mut recordings = self.record_once(plans)?;
        for _ in 1..ATTEMPTS {
            let late: Vec<usize> = (0..plans.len())
                .filter(|number| recordings[*number].is_late())
                .collect();
            if late.is_empty() {
                break;
            }
            let again: Vec<Plan> = late.iter().map(|number| plans[*number].clone()).collect();
            for (number, recording) in late.into_iter().zip(self.record_once(&again)?) {
                recordings[number] = recording;
            }
        }
        Ok(recordings)
    }

    fn record_once(&self, plans: &[Plan]) -> Result<Vec<Recording>> {
        let scratch = self.scratch.path();
        let (planned, recorded) = (scratch.join("plans.json"), scratch.join("recorded.json"));
        let lines = plans.iter().map(serde_json::to_string);
        let lines = lines.collect::<Result<Vec<_>, _>>()?;
        fs::write(&planned, lines.join("\n"))?;
        let limit = SECONDS.0 + SECONDS.1 * plans.len();
        let run = Command::new(self.folder.join("run.sh"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/differential/record.py"))
            .arg(&recorded)
            .arg(&planned)
            .env("IPVS_VM_LIMIT", limit.to_string())
            .output()
            .with_context(|| format!("{}: cannot run it", self.folder.join("run.sh").display()))?;
        let said = String::from_utf8_lossy(&run.stdout).into_owned()
            + &String::from_utf8_lossy(&run.stderr);
        let last: Vec<&str> = said.lines().rev().take(TOLD_LINES).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        ensure!(run.status.success(), "the lab failed:\n{}", last.join("\n"));
        let text = fs::read_to_string(&recorded)?;
        let scenarios = trace::read(&recorded).map_err(anyhow::Error::msg)?;
        ensure!(
            scenarios.len() == plans.len(),
            "{} plans, {} recorded",
            plans.len(),
            scenarios.len()
        );
        let recordings = scenarios.into_iter().zip(text.lines());
        Ok(recordings
            .map(|(scenario, line)| Recording {
                scenario,
                line: line.to_owned(),
            })
            .collect())
    }
}
