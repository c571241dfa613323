//! `pollux setup`: makes this machine ready for a data plane, says how, or takes it back.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args};
use serde_json::json;
use thiserror::Error;

use super::{CliError, Session, output_json};
use crate::config;
use crate::host::Root;
use crate::setup::{self, Plan, Refusal, Request, StepError};

/// What `pollux setup` takes.
#[derive(Debug, Args)]
pub struct SetupArguments {
    /// NICs, as `lspci -D` writes them [default: those of the configuration file's ports]
    #[arg(value_name = "PCI-ADDRESS")]
    nics: Vec<String>,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
    /// Give the NICs back to the drivers they had, the huge pages to the kernel, and remove what was written
    #[arg(long, conflicts_with_all = ["nics", "force", "no_iommu", "boot"])]
    undo: bool,
    /// Take a NIC that is in use; twice: also one that carries the default route or an SSH connection
    #[arg(long, action = ArgAction::Count)]
    force: u8,
    /// Do without an IOMMU, in virtual machines that have none: NICs may then write to all memory
    #[arg(long)]
    no_iommu: bool,
    /// The configuration file, for the ports and the size of the table
    #[arg(long, value_name = "FILE", env = "POLLUX_CONFIG", hide_env_values = true, default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// As at boot: what was decided before is done again, and nothing is written
    #[arg(long, hide = true)]
    boot: bool,
    /// Below which directory the machine is
    #[arg(long, hide = true, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// Why a machine is not set up.
#[derive(Debug, Error)]
pub enum SetupError {
    /// Something is in the way; nothing was done.
    #[error("this machine is not set up, and nothing was changed:\n{}", lines(.0))]
    Refused(Vec<Refusal>),
    /// It went wrong on the way.
    #[error("{0}\nwhat was done before that stays; `pollux setup --undo` takes it back")]
    Step(#[from] StepError),
}

fn lines(refusals: &[Refusal]) -> String {
    let lines: Vec<String> = refusals.iter().map(Refusal::to_string).collect();
    lines.join("\n")
}

impl<W: Write> Session<'_, W> {
    /// Plans, prints, does.
    pub(super) fn setup(&mut self, arguments: &SetupArguments) -> Result<(), CliError> {
        let root = Root::new(&arguments.root);
        let plan = if arguments.undo {
            setup::undo::undo(&root).map_err(|refusal| SetupError::Refused(vec![refusal]))?
        } else {
            setup::plan(&root, &request(arguments, &root)?).map_err(SetupError::Refused)?
        };
        if !self.json {
            self.print_setup(&plan, arguments.dry_run)?;
        }
        let steps = plan.steps.iter().filter(|_| !arguments.dry_run);
        for step in steps {
            step.perform(&root).map_err(SetupError::Step)?;
        }
        if self.json {
            self.print_setup_json(&plan, arguments.dry_run)?;
        }
        Ok(())
    }

    fn print_setup(&mut self, plan: &Plan, dry_run: bool) -> Result<(), CliError> {
        for step in &plan.steps {
            writeln!(self.out, "{step}")?;
        }
        for note in &plan.notes {
            writeln!(self.out, "# {note}")?;
        }
        if plan.steps.is_empty() {
            writeln!(self.out, "# nothing to do")?;
        } else if dry_run {
            writeln!(self.out, "# nothing was done: --dry-run")?;
        }
        // What is being done stands there before it is done.
        self.out.flush()?;
        Ok(())
    }

    fn print_setup_json(&mut self, plan: &Plan, dry_run: bool) -> Result<(), CliError> {
        let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
        let answer = json!({ "steps": steps, "notes": plan.notes, "done": !dry_run });
        output_json::pretty(self.out, &answer)
    }
}

fn request(arguments: &SetupArguments, root: &Root) -> Result<Request, CliError> {
    let file = if arguments.config == Path::new(config::DEFAULT_PATH) {
        root.path(config::DEFAULT_PATH)
    } else {
        arguments.config.clone()
    };
    // A machine is set up before anybody has written a file, as often as not.
    let settings = if file.exists() || arguments.config != Path::new(config::DEFAULT_PATH) {
        config::load_dataplane(&file)?
    } else {
        pollux_api::DataplaneSettings::default()
    };
    Ok(Request {
        nics: arguments.nics.clone(),
        settings,
        // It was decided when the unit was written.
        force: if arguments.boot { 2 } else { arguments.force },
        no_iommu: arguments.no_iommu,
        only_now: arguments.boot,
    })
}
