//! The stock `ipvsadm` against polluxd, word for word what it said against Linux' IPVS.
//!
//! Every step of `tests/golden/cli.json` is done: commands by the real tool, through `pollux ipvs` and the real polluxd,
//! behind which the engine takes the trace's frames. The list below says which steps still differ and what they wait for;
//! an entry that is no longer true fails the test as a new difference does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pollux_tests::golden::dataplane::{Dataplane, lock};
use pollux_tests::golden::refused::Refused;
use pollux_tests::golden::trace::{Scenario, Step, scenarios, ticks};
use pollux_tests::lab::{eventually, program};

/// Steps that differ, and the feature that they wait for.
const WAITING: &[(&str, &[usize], &str)] = &[
    (
        "cli/lists",
        &[70],
        "sync_qlen_max, which is a part of the kernel's free memory",
    ),
    (
        "cli/errors",
        &[78, 81, 82, 83, 84, 85, 86, 87],
        "connection synchronisation",
    ),
];

/// Rates follow the estimator's tick of 2 s, and the trace was read some ticks after its frames.
const RATE_PATIENCE: Duration = Duration::from_secs(15);

/// A recorded listing was read up to this much later after its frames than the trace's sleeps say.
const EXPIRY_TOLERANCE_S: u64 = 5;

/// A run directory with polluxd in it.
struct Machine {
    directory: PathBuf,
    polluxd: Child,
    dataplane: Arc<Mutex<Dataplane>>,
}

/// What a command came to.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    status: i32,
    text: String,
}

impl Machine {
    fn start(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("pollux-ipvsadm-{name}-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let config = directory.join("pollux.toml");
        // The kernel's interface is root's; the trace shows what others are told.
        fs::write(&config, "[control]\nsocket_mode = \"0600\"\n").unwrap();
        let dataplane = Dataplane::serve(&directory);
        let log = fs::File::create(directory.join("polluxd.log")).unwrap();
        let polluxd = program("polluxd")
            .arg("--run-dir")
            .arg(&directory)
            .arg("--state-dir")
            .arg(&directory)
            .arg("--config")
            .arg(config)
            .stderr(log)
            .spawn()
            .unwrap();
        let socket = directory.join("ipvs.sock");
        assert!(
            eventually(Duration::from_secs(10), || socket.exists()),
            "polluxd does not start"
        );
        Self {
            directory,
            polluxd,
            dataplane,
        }
    }

    /// Runs a command line of the trace in a shell that the tools inherit the library from.
    fn run(&self, line: &str) -> Ended {
        let line = line.replace(
            "/run/save",
            &self.directory.join("save").display().to_string(),
        );
        let mut command: Command = program("pollux");
        let output = command
            .arg("--run-dir")
            .arg(&self.directory)
            .args(["ipvs", "--", "sh", "-c", &format!("exec 2>&1; {line}")])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Ended {
            status: output.status.code().unwrap(),
            text: String::from_utf8(output.stdout).unwrap(),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(self.directory.join("polluxd.log"));
            eprintln!("{}", log.unwrap_or_default());
        }
        let _ = self.polluxd.kill();
        let _ = self.polluxd.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn ipvsadm_says_what_it_says_on_linux() {
    let mut wrong = Vec::new();
    let mut agreed = 0;
    for scenario in scenarios("cli.json") {
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
    let machine = Machine::start(&scenario.name.replace('/', "-"));
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
                lock(&machine.dataplane)
                    .director
                    .receive(received.port, &received.bytes);
            }
            Step::Sleep { sleep, .. } => lock(&machine.dataplane).director.pass(ticks(*sleep)),
            Step::Pick { .. } | Step::Note { .. } | Step::Late { .. } => {}
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
    let theirs: String = theirs
        .lines()
        // The machine of the trace had no modules to load; Pollux has the tool look for none.
        .filter(|text| !text.starts_with("modprobe: "))
        .map(|text| format!("{text}\n"))
        .collect();
    let same_text = if line.starts_with("ipvsadm -Lnc") || line == "cat /proc/net/ip_vs_conn" {
        connections_agree(&theirs, &ours)
    } else if line.ends_with("--nosort") || line == "cat /proc/net/ip_vs" {
        // The kernel lists services as its hash table has them.
        blocks(&theirs) == blocks(&ours)
    } else {
        theirs == ours
    };
    if same_text && expected.status == ended.status {
        Ok(())
    } else {
        Err(format!(
            "kernel: {}\n{theirs}Pollux: {}\n{ours}",
            expected.status, ended.status
        ))
    }
}

/// Services with their servers, in an order of their own.
fn blocks(listing: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    for line in listing.lines() {
        match blocks.last_mut() {
            Some(block) if line.starts_with("  ->") => *block += &format!("{line}\n"),
            _ => blocks.push(format!("{line}\n")),
        }
    }
    blocks.sort();
    blocks
}

/// The kernel lists connections as its hash table has them; seconds may differ a little.
fn connections_agree(theirs: &str, ours: &str) -> bool {
    let (theirs, ours) = (connections(theirs), connections(ours));
    theirs.len() == ours.len()
        && theirs.iter().zip(&ours).all(|(theirs, ours)| {
            theirs.0 == ours.0 && theirs.1.abs_diff(ours.1) <= EXPIRY_TOLERANCE_S
        })
}

/// Lines without their expiry, sorted, and that in seconds.
fn connections(listing: &str) -> Vec<(String, u64)> {
    let minutes_and_seconds = |line: &str| {
        let (minutes, seconds) = line.get(4..9)?.split_once(':')?;
        let seconds = minutes.parse::<u64>().ok()? * 60 + seconds.parse::<u64>().ok()?;
        Some((format!("{}{}", &line[..4], &line[9..]), seconds))
    };
    // The last column of /proc/net/ip_vs_conn.
    let seconds = |line: &str| {
        let (rest, seconds) = line.rsplit_once(' ')?;
        Some((rest.to_owned(), seconds.parse().ok()?))
    };
    let line = |line: &str| {
        minutes_and_seconds(line)
            .or_else(|| seconds(line))
            .unwrap_or_else(|| (line.to_owned(), 0))
    };
    let mut lines: Vec<_> = listing.lines().map(line).collect();
    lines.sort();
    lines
}
