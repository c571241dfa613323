//! The stock `ipvsadm` against polluxd, word for word what it said against Linux' IPVS.
//!
//! Every step of `tests/golden/cli.json` is done: commands by the real tool, through `pollux ipvs` and the real polluxd,
//! behind which the engine takes the trace's frames. The list below says which steps still differ and what they wait for;
//! an entry that is no longer true fails the test as a new difference does.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pollux_tests::golden::dataplane::{Dataplane, lock};
use pollux_tests::golden::refused::Refused;
use pollux_tests::golden::text;
use pollux_tests::golden::tools::{Ended, Machine};
use pollux_tests::golden::trace::{Scenario, Step, scenarios, ticks};

/// Steps that differ, and the feature that they wait for.
const WAITING: &[(&str, &[usize], &str)] = &[(
    "sync/sysctls",
    &[22, 23, 25, 26, 33, 37, 38, 41, 47],
    "values that mean nothing: more than 64 ports, switches other than 0 and 1, less than nothing; and version 0, which is not \
     sent",
)];

/// A recorded listing was read up to this much later after its frames than the trace's sleeps say.
const LATE_S: i64 = 5;

/// Rates follow the estimator's tick of 2 s, and the trace was read some ticks after its frames.
const RATE_PATIENCE: Duration = Duration::from_secs(15);

#[test]
fn ipvsadm_says_what_it_says_on_linux() {
    let mut wrong = Vec::new();
    let mut agreed = 0;
    // What is typed about synchronisation; its messages are the engine's.
    let typed = ["sync/commands", "sync/mixed", "sync/sysctls"];
    let sync = scenarios("sync.json").into_iter();
    let sync = sync.filter(|scenario| typed.contains(&scenario.name.as_str()));
    for scenario in scenarios("cli.json").into_iter().chain(sync) {
        agreed += play(&scenario, &mut wrong);
    }
    println!("{agreed} commands agree");
    assert!(
        wrong.is_empty(),
        "{} steps:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Plays a scenario; how many commands agree.
fn play(scenario: &Scenario, wrong: &mut Vec<String>) -> usize {
    let dataplane = Arc::new(Mutex::new(Dataplane::default()));
    let machine = Machine::start(&format!("ipvsadm {}", scenario.name), &dataplane);
    let mut refused = Refused::default();
    let mut agreed = 0;
    for (number, step) in scenario.steps.iter().enumerate() {
        match step {
            Step::Command { cmd, .. } if refused.is_about(cmd) => {}
            Step::Command { cmd, rc, text } => {
                let expected = Ended {
                    status: *rc,
                    text: text.clone(),
                };
                let waits_for = WAITING
                    .iter()
                    .find(|(name, steps, _)| *name == scenario.name && steps.contains(&number));
                let outcome = run_command(&machine, cmd, &expected, &mut refused);
                match (waits_for, outcome) {
                    (None, Ok(())) => agreed += 1,
                    (Some(_), Err(_)) => {}
                    (None, Err(difference)) => {
                        wrong.push(format!(
                            "{} step {number}: {cmd}\n{difference}",
                            scenario.name
                        ));
                    }
                    (Some((.., feature)), Ok(())) => wrong.push(format!(
                        "{} step {number}: {cmd}: agrees, take it off the list ({feature})",
                        scenario.name
                    )),
                }
            }
            Step::Frame { received, .. } => {
                lock(&dataplane)
                    .director
                    .receive(received.port, &received.bytes);
            }
            Step::Sleep { sleep, .. } => lock(&dataplane).director.pass(ticks(*sleep)),
            Step::Pick { .. } | Step::Note { .. } | Step::Late { .. } | Step::Unknown(_) => {}
        }
    }
    agreed
}

/// Runs a command; where it differs from the kernel's. What is not done must at least be refused.
fn run_command(
    machine: &Machine,
    line: &str,
    expected: &Ended,
    refused: &mut Refused,
) -> Result<(), String> {
    if line.ends_with(" --rate") {
        return until_rates_agree(machine, line, expected, refused);
    }
    let ended = machine.run(line);
    let changes = ["-A", "-E", "-a", "-e", "--set", "--start-daemon"]
        .iter()
        .any(|verb| line.starts_with(&format!("ipvsadm {verb} ")));
    if changes && expected.status == 0 && ended.status != 0 {
        refused.note(line);
    }
    compare(line, expected, &ended, refused)
}

fn until_rates_agree(
    machine: &Machine,
    line: &str,
    expected: &Ended,
    refused: &Refused,
) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let ended = machine.run(line);
        let compared = compare(line, expected, &ended, refused);
        if compared.is_ok() || start.elapsed() > RATE_PATIENCE {
            return compared;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn compare(line: &str, expected: &Ended, ended: &Ended, refused: &Refused) -> Result<(), String> {
    let (theirs, ours) = (
        refused.without(&expected.text),
        refused.without(&ended.text),
    );
    if expected.status != ended.status {
        return Err(format!(
            "kernel: {}\n{theirs}Pollux: {}\n{ours}",
            expected.status, ended.status
        ));
    }
    text::compare(line, &theirs, &ours, LATE_S)
}
