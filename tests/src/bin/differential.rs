//! Differential fuzzing: scenarios of chance, recorded from a real kernel's IPVS, replayed against the engine.
//!
//! The exit status is 0 when all is equal, 1 on a difference, 2 when the lab does not work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use pollux_tests::differential::generate::generate;
use pollux_tests::differential::lab::{Lab, Recording};
use pollux_tests::differential::plan::Plan;
use pollux_tests::differential::shrink::shrink;
use pollux_tests::golden::replay::{Replay, replay_with};
use pollux_tests::golden::session::Tools;

/// Make up scenarios, record them from a real kernel, replay them against the engine, and tell every difference.
#[derive(Debug, Parser)]
#[command(name = "differential")]
struct Arguments {
    /// The lab's folder, where its run.sh is; without it that of the environment variable `IPVS_LAB`.
    #[arg(long, value_name = "FOLDER")]
    lab: Option<PathBuf>,
    /// How many scenarios.
    #[arg(long, value_name = "N", default_value_t = 300)]
    seeds: u64,
    /// The first one's seed.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    first: u64,
    /// How many are recorded in one boot.
    #[arg(long, value_name = "N", default_value_t = 25)]
    batch: u64,
    /// Leave out of a scenario that differs what does not matter, and tell what remains.
    #[arg(long)]
    shrink: bool,
    /// Tell only the first difference of each scenario: what follows is often of it.
    #[arg(long)]
    terse: bool,
    /// Write what was recorded into this folder, a file a scenario.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

/// What the run came to.
#[derive(Debug, Default)]
struct Tally {
    scenarios: usize,
    differing: Vec<String>,
    late: usize,
    compared: usize,
    aside: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(tally) => {
            println!(
                "{} scenarios, {} differ, {} recorded too late; {} steps compared, {} not compared",
                tally.scenarios,
                tally.differing.len(),
                tally.late,
                tally.compared,
                tally.aside
            );
            ExitCode::from(u8::from(!tally.differing.is_empty() || tally.late > 0))
        }
        Err(error) => {
            eprintln!("differential: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<Tally> {
    let lab = Lab::find(arguments.lab.as_deref())?;
    if let Some(folder) = &arguments.keep {
        fs::create_dir_all(folder)?;
    }
    let mut tally = Tally::default();
    let mut seeds = arguments.first..arguments.first + arguments.seeds;
    loop {
        let plans: Vec<Plan> = seeds
            .by_ref()
            .take(usize::try_from(arguments.batch)?)
            .map(generate)
            .collect();
        if plans.is_empty() {
            return Ok(tally);
        }
        for (plan, recording) in plans.iter().zip(lab.record(&plans)?) {
            tally.scenarios += 1;
            if recording.is_late() {
                println!(
                    "{}: the recorder was {} s behind the plan: the machine is too busy",
                    recording.scenario.name, recording.scenario.lag
                );
                tally.late += 1;
                continue;
            }
            let outcome = replay_with(&recording.scenario, Tools::Never);
            tally.compared += outcome.compared;
            tally.aside += outcome.aside.len();
            keep(arguments.keep.as_deref(), "", &recording)?;
            if tell(&recording, &outcome, arguments.terse) {
                tally.differing.push(plan.name.clone());
                if arguments.shrink {
                    tell_smaller(&lab, plan, arguments.keep.as_deref())?;
                }
            }
        }
    }
}

fn tell_smaller(lab: &Lab, plan: &Plan, folder: Option<&Path>) -> Result<()> {
    let Some((smaller, recording)) = shrink(lab, plan)? else {
        println!("  does not differ a second time");
        return Ok(());
    };
    println!(
        "  {} of its {} steps are enough:",
        smaller.steps.len(),
        plan.steps.len()
    );
    println!("  settings {:?}", smaller.sysctls);
    for (number, step) in recording.scenario.steps.iter().enumerate() {
        println!("  {number}: {}", step.title());
    }
    tell(
        &recording,
        &replay_with(&recording.scenario, Tools::Never),
        false,
    );
    keep(folder, ".small", &recording)
}

fn keep(folder: Option<&Path>, ending: &str, recording: &Recording) -> Result<()> {
    if let Some(folder) = folder {
        let name = recording.scenario.name.replace('/', "-");
        fs::write(
            folder.join(format!("{name}{ending}.json")),
            format!("{}\n", recording.line),
        )?;
    }
    Ok(())
}

/// Tells the differences; whether there are any.
fn tell(recording: &Recording, outcome: &Replay, first_only: bool) -> bool {
    let scenario = &recording.scenario;
    let mut lines = Vec::new();
    let told = if first_only { 1 } else { usize::MAX };
    for found in outcome.differences.iter().take(told) {
        let title = scenario
            .steps
            .get(found.step)
            .map(pollux_tests::golden::trace::Step::title);
        lines.push(format!(
            "  step {}: {}",
            found.step,
            title.unwrap_or_default()
        ));
        lines.push(format!("    {}", found.what.replace('\n', "\n    ")));
    }
    lines.extend(
        outcome
            .unsupported
            .iter()
            .map(|what| format!("  ends early, not understood: {}", what.0)),
    );
    lines.extend(
        outcome
            .broken
            .iter()
            .map(|what| format!("  does not hold at the end: {what}")),
    );
    if !lines.is_empty() {
        println!("{}: DIFFERS\n{}", scenario.name, lines.join("\n"));
    }
    !lines.is_empty()
}
