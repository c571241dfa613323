//! Replays traces of a real kernel's IPVS, recorded by the lab, against the engine, and tells every difference.
//!
//! The exit status is 0 when all is equal, 1 on a difference, 2 when a file cannot be read.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use pollux_tests::golden::replay::{Replay, replay_with};
use pollux_tests::golden::session::Tools;
use pollux_tests::golden::trace::{self, Scenario, Step};
use pollux_tests::golden::{agreed, kernel};

/// Replay recorded traces of Linux IPVS with the engine under virtual time, and compare.
#[derive(Debug, Parser)]
#[command(name = "golden")]
struct Arguments {
    /// Traces, one scenario a line, as shared/ipvs-lab records them.
    #[arg(required_unless_present = "differences")]
    files: Vec<PathBuf>,
    /// Only scenarios whose names begin so.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    scenario: String,
    /// Differences only: not what agrees, nor what is not compared.
    #[arg(long)]
    quiet: bool,
    /// Compare as if no difference were agreed for the scenarios of tests/golden.
    #[arg(long)]
    strict: bool,
    /// When commands are run by the stock tools (ipvsadm, a shell, grep …) against polluxd before the engine. Where needed: in
    /// scenarios with a command that the runner does not know itself, or whose exact text matters.
    #[arg(long, value_enum, default_value_t = ToolsArgument::Needed)]
    tools: ToolsArgument,
    /// Print tests/golden/DIFFERENCES.md, as made of the lists.
    #[arg(long)]
    differences: bool,
}

/// See [`Tools`].
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ToolsArgument {
    Never,
    Needed,
    Always,
}

/// What the run came to.
#[derive(Debug, Default)]
struct Tally {
    scenarios: usize,
    differing: usize,
    compared: usize,
    agreed: usize,
    aside: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.differences {
        print!("{}", agreed::document());
        return ExitCode::SUCCESS;
    }
    let known: Vec<Scenario> = agreed::FILES
        .iter()
        .flat_map(|file| trace::scenarios(file))
        .collect();
    let mut tally = Tally::default();
    let mut unreadable = false;
    for file in &arguments.files {
        match trace::read(file) {
            Ok(scenarios) => run_file(file, &scenarios, &known, &arguments, &mut tally),
            Err(complaint) => {
                eprintln!("golden: {complaint}");
                unreadable = true;
            }
        }
    }
    if tally.scenarios == 0 && !unreadable {
        eprintln!("golden: no scenario begins with {:?}", arguments.scenario);
        unreadable = true;
    }
    println!(
        "{} scenarios, {} differ; {} steps compared, {} agreed differences, {} steps not compared",
        tally.scenarios, tally.differing, tally.compared, tally.agreed, tally.aside
    );
    match (unreadable, tally.differing) {
        (true, _) => ExitCode::from(2),
        (false, 0) => ExitCode::SUCCESS,
        (false, _) => ExitCode::from(1),
    }
}

fn run_file(
    file: &Path,
    scenarios: &[Scenario],
    known: &[Scenario],
    arguments: &Arguments,
    tally: &mut Tally,
) {
    let wanted = scenarios
        .iter()
        .filter(|scenario| scenario.name.starts_with(&arguments.scenario));
    // The kernel's limit of ICMP messages is one for all scenarios of a boot, and time stands still but for sleeps.
    let mut messages = 0;
    for scenario in wanted {
        let tools = match arguments.tools {
            ToolsArgument::Never => Tools::Never,
            ToolsArgument::Needed => Tools::WhereNeeded,
            ToolsArgument::Always => Tools::Always,
        };
        let outcome = replay_with(scenario, tools);
        let is_known =
            !arguments.strict && known.iter().any(|known| is_recording_of(known, scenario));
        let mut report = Report {
            lines: Vec::new(),
            differs: false,
        };
        report.scenario(scenario, &outcome, is_known, &mut messages, tally);
        tally.scenarios += 1;
        tally.differing += usize::from(report.differs);
        tally.compared += outcome.compared;
        tally.aside += outcome.aside.len();
        let word = if report.differs { "DIFFERS" } else { "agrees" };
        if report.differs || !arguments.quiet {
            println!("{}: {}: {word}", file.display(), scenario.name);
        }
        for (is_difference, line) in &report.lines {
            if *is_difference || !arguments.quiet {
                println!("{line}");
            }
        }
    }
}

/// Whether two are recordings of one scenario: its commands and its length are the same.
fn is_recording_of(known: &Scenario, scenario: &Scenario) -> bool {
    fn commands(scenario: &Scenario) -> impl Iterator<Item = &str> {
        scenario.steps.iter().filter_map(|step| match step {
            Step::Command { cmd, .. } => Some(cmd.as_str()),
            _ => None,
        })
    }
    known.name == scenario.name
        && known.steps.len() == scenario.steps.len()
        && commands(known).eq(commands(scenario))
}

/// What is said of a scenario: lines, and whether each is of a difference.
struct Report {
    lines: Vec<(bool, String)>,
    differs: bool,
}

impl Report {
    fn scenario(
        &mut self,
        scenario: &Scenario,
        outcome: &Replay,
        is_known: bool,
        messages: &mut usize,
        tally: &mut Tally,
    ) {
        for (number, step) in scenario.steps.iter().enumerate() {
            for (_, why) in outcome.aside.iter().filter(|(step, _)| *step == number) {
                let told = format!("  step {number}: not compared: {}: {why}", step.title());
                self.lines.push((false, told));
            }
            let mut found = outcome.differences.iter();
            if let Some(found) = found.find(|found| found.step == number) {
                let listed = is_known
                    .then(|| agreed::listed_reason(scenario, number))
                    .flatten();
                let general = || agreed::general_reason(scenario, found, *messages);
                let titled = format!("step {number}: {}", step.title());
                if let Some(reason) = listed.or_else(general) {
                    tally.agreed += 1;
                    let told = format!("  agreed difference at {titled}: {reason}");
                    self.lines.push((false, told));
                } else {
                    let told = format!("  {titled}\n    {}", found.what.replace('\n', "\n    "));
                    self.difference(told);
                }
            }
            *messages = match step {
                Step::Frame { out, .. } | Step::Pick { out, .. } => {
                    *messages + kernel::messages(out)
                }
                Step::Sleep { sleep, .. } if *sleep >= 1.0 => 0,
                _ => *messages,
            };
        }
        if let Some(unsupported) = &outcome.unsupported {
            let reason = is_known
                .then(|| agreed::listed_reason(scenario, usize::MAX))
                .flatten();
            if let Some(reason) = reason {
                tally.agreed += 1;
                let told = format!("  agreed: ends early, for want of: {reason}");
                self.lines.push((false, told));
            } else {
                let what = &unsupported.0;
                self.difference(format!("  ends early, not understood: {what}"));
            }
        }
        if let Some(broken) = &outcome.broken {
            self.difference(format!("  does not hold at the end: {broken}"));
        }
    }

    fn difference(&mut self, line: String) {
        self.differs = true;
        self.lines.push((true, line));
    }
}
