//! What the control plane costs, with release builds of both daemons and of the CLI in a network namespace: files of thousands
//! of services applied, one server changed, servers checked.
//!
//! Times are of the wall clock, from the start of `pollux` to its end, as whoever types it waits; processor time of the
//! daemons tells what of that other programs on the machine took.

mod checks;
mod daemons;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;

use self::daemons::{Daemons, Used};
use crate::arguments::{ControlOptions, ControlPart};
use crate::interrupt;
use crate::measurement::{ControlMeasurement, ControlTask, Record};
use crate::output::{Output, Progress};
use crate::statistics::median;

/// Where the services are.
const VIP: &str = "198.51.100.2";

/// Measures what the options say.
///
/// # Errors
/// A program that is not there or does not start, no root, or a command that fails.
pub fn run(options: &ControlOptions) -> anyhow::Result<()> {
    interrupt::listen()?;
    let progress = Progress::new(u64::from(options.wants(ControlPart::Changes)) * 5 + 2);
    let mut output = Output::new(options.json, &progress);
    if options.wants(ControlPart::Changes) {
        changes(options, &progress, &mut output)?;
    }
    if options.wants(ControlPart::Checks) {
        progress.next("checks");
        let measured = checks::run(options)?;
        output.record(&Record::Checks(measured))?;
    }
    Ok(())
}

fn changes(
    options: &ControlOptions,
    progress: &Progress,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let daemons = Daemons::start(options)?;
    let file = daemons.directory().join("services.toml");
    let apply = |text: &str| -> anyhow::Result<()> {
        fs::write(&file, text)?;
        daemons.pollux(&["apply", &path(&file)?])
    };
    let (services, servers) = (options.services, options.servers);
    let whole = |weight: u32| services_file(services, servers, weight);
    let edited = format!("{VIP}:{}", 1 + services / 2);
    let few = options.rounds;
    let mut measure = |task, rounds: u32, run: &mut dyn FnMut(u32) -> anyhow::Result<()>| {
        progress.next(&crate::measurement::word(&task));
        let before = daemons.used()?;
        let mut times = Vec::new();
        for round in 0..rounds {
            let start = Instant::now();
            run(round)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let used = daemons.used()?.since(before);
        let Used {
            polluxd_ns,
            dataplane_ns,
        } = used;
        let each = |nanoseconds: u64| nanoseconds as f64 / 1e6 / f64::from(rounds);
        output.record(&Record::Control(ControlMeasurement {
            task,
            services,
            servers,
            rounds,
            wall_ms_greatest: times.iter().copied().fold(0.0, f64::max),
            wall_ms: median(&times),
            polluxd_cpu_ms: each(polluxd_ns),
            dataplane_cpu_ms: each(dataplane_ns),
            polluxd_mib: daemons.polluxd_peak_mib()?,
        }))
    };
    measure(ControlTask::ApplyAll, 1, &mut |_| apply(&whole(1)))?;
    measure(ControlTask::ChangeServer, 10 * few, &mut |round| {
        let weight = (2 + round).to_string();
        let server = [
            "server",
            "edit",
            "-t",
            &edited,
            "-r",
            "203.0.113.1",
            "-w",
            &weight,
        ];
        daemons.pollux(&server)
    })?;
    measure(ControlTask::ApplyOne, few, &mut |round| {
        apply(&whole(1000 + round))
    })?;
    measure(ControlTask::ApplyNothing, few, &mut |_| {
        apply(&whole(1000 + few - 1))
    })?;
    measure(ControlTask::RemoveAll, 1, &mut |_| apply(""))
}

fn path(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().context("a path that is no text")?;
    Ok(text.to_owned())
}

/// Services with servers, of which one has this weight.
fn services_file(services: u32, servers: u32, weight: u32) -> String {
    let mut text = String::new();
    for service in 0..services {
        let _ = writeln!(
            text,
            "[[service]]\nprotocol = \"tcp\"\naddress = \"{VIP}:{}\"",
            1 + service
        );
        for server in 1..=servers {
            let is_it = (service, server) == (services / 2, 1);
            let _ = writeln!(
                text,
                "[[service.server]]\naddress = \"203.0.113.{server}\"\nmethod = \"nat\"\nweight = {}",
                if is_it { weight } else { server }
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_weight_is_the_difference() {
        let [one, other] = [1, 7].map(|weight| services_file(3, 2, weight));
        let differ = one.lines().zip(other.lines()).filter(|(a, b)| a != b);
        assert_eq!(differ.collect::<Vec<_>>(), [("weight = 1", "weight = 7")]);
        assert_eq!(one.matches("[[service.server]]").count(), 6);
    }
}
