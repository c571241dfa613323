//! A table full of connections that were opened and forgotten expires while others go on: how long it takes, and what
//! it costs those.

use anyhow::{Context as _, ensure};

use crate::cores::{self, Pinned, boot_ns};
use crate::flows::{Order, Picker};
use crate::measurement::{ExpiryMeasurement, Family, Method, Scheduler};
use crate::output::Progress;
use crate::pipeline::driver::{Driver, Pass};
use crate::pipeline::source::Source;
use crate::quantity::Quantity;
use crate::rig::{Rig, RigSpec};
use crate::statistics::median;

/// Connections that go on.
const HOT: u32 = 10_000;
/// What is left of a table that counts as full, entries: its workers keep some free.
const SLACK: u32 = 16_384;
/// Flow numbers of those that are forgotten.
const FORGOTTEN: u64 = 1 << 33;
/// Hits are counted over so much time at once.
const WINDOW_NS: u64 = 100_000_000;

/// What is done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Entries of the table.
    pub entries: u32,
    /// How long a forgotten connection lives.
    pub timeout_s: u32,
    /// Whether huge pages are tried.
    pub huge_pages: bool,
}

/// Hits of some time.
#[derive(Debug, Clone, Copy)]
struct Window {
    /// When it ended.
    at: u64,
    ns_per_packet: f64,
    in_use: u64,
}

/// Fills a table and watches it expire.
///
/// # Errors
/// No memory; a table that takes longer to fill than connections live; one that does not expire at all.
pub fn run(plan: &Plan, progress: &Progress) -> anyhow::Result<ExpiryMeasurement> {
    let spec = RigSpec {
        method: Method::Nat,
        family: Family::Ipv4,
        servers: 8,
        scheduler: Scheduler::Rr,
        workers: 1,
        capacity: plan.entries,
        syn_timeout_s: Some(plan.timeout_s),
        huge_pages: plan.huge_pages,
    };
    let entries = Quantity(plan.entries);
    progress.next(&format!("filling a table of {entries}"));
    let cpus = cores::for_workers(1)?;
    let _pinned = Pinned::to(cpus.first().copied().unwrap_or(0))?;
    let (rig, engines) = Rig::build(&spec)?;
    let engine = engines.into_iter().next().context("no worker")?;
    let mut driver = Driver::new(&rig, engine);
    driver.establish(0..HOT.into(), |_| {})?;
    let full = u64::from(rig.table.size().connections() - SLACK);
    let began = boot_ns();
    let mut forgotten = Source::fresh(&rig, FORGOTTEN);
    while driver.in_use() < full {
        let before = driver.in_use();
        driver.pass(&mut forgotten);
        progress.within(driver.in_use().saturating_sub(before), full);
        let elapsed_s = (boot_ns() - began) / 1_000_000_000;
        ensure!(
            elapsed_s < plan.timeout_s.into(),
            "{entries} connections cannot be opened within {} s: give a longer --timeout-s",
            plan.timeout_s
        );
    }
    let filled = boot_ns();
    let in_use = driver.in_use();
    progress.next(&format!(
        "a table of {entries} expires, {} s",
        plan.timeout_s
    ));
    let mut hits = Source::hits(&rig, Picker::new(0, HOT.into(), Order::Random, 1));
    let timeout_ns = u64::from(plan.timeout_s) * 1_000_000_000;
    let mut windows = Vec::new();
    while driver.in_use() > HOT.into() {
        windows.push(window(&mut driver, &mut hits)?);
        let elapsed = boot_ns() - filled;
        ensure!(
            elapsed < 10 * timeout_ns,
            "{} entries are left after ten times the timeout",
            driver.in_use()
        );
    }
    Ok(measurement(plan, in_use, filled, &windows))
}

/// Hits connections for the time of a window.
#[allow(clippy::cast_precision_loss)] // packets of a tenth of a second
fn window(driver: &mut Driver<'_>, hits: &mut Source) -> anyhow::Result<Window> {
    let mut total = Pass::default();
    while total.engine_ns < WINDOW_NS {
        total.add(driver.pass(hits));
    }
    driver.expect_forwarded(total.packets, total.forwarded.iter().sum())?;
    Ok(Window {
        at: boot_ns(),
        ns_per_packet: total.engine_ns as f64 / total.packets as f64,
        in_use: driver.in_use(),
    })
}

#[allow(clippy::cast_precision_loss)] // nanoseconds of a few minutes
fn measurement(plan: &Plan, full: u64, filled: u64, windows: &[Window]) -> ExpiryMeasurement {
    let before: Vec<f64> = windows
        .iter()
        .take_while(|window| window.in_use == full)
        .map(|window| window.ns_per_packet)
        .collect();
    let during: Vec<f64> = windows
        .iter()
        .skip(before.len())
        .map(|window| window.ns_per_packet)
        .collect();
    let undisturbed = median(&before);
    let rate = |cost: f64| undisturbed / cost;
    let mean = during.iter().sum::<f64>() / during.len() as f64;
    let last = windows.last().map_or(filled, |window| window.at);
    ExpiryMeasurement {
        connections: plan.entries,
        timeout_s: plan.timeout_s,
        seconds_until_empty: (last - filled) as f64 / 1e9,
        seconds_expiring: during.len() as f64 * WINDOW_NS as f64 / 1e9,
        ns_per_packet_before: undisturbed,
        hit_rate_meanwhile: rate(mean),
        hit_rate_least: during
            .iter()
            .copied()
            .map(rate)
            .fold(f64::INFINITY, f64::min),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_compare_windows_before_and_after_the_first_end() {
        let plan = Plan {
            entries: 100,
            timeout_s: 10,
            huge_pages: false,
        };
        let window = |at: u64, ns_per_packet, in_use| Window {
            at: at * 1_000_000_000,
            ns_per_packet,
            in_use,
        };
        let windows = [
            window(1, 20.0, 100),
            window(2, 20.0, 100),
            window(11, 40.0, 50),
            window(12, 25.0, 10),
        ];
        let measured = measurement(&plan, 100, 0, &windows);
        let close = |value: f64, wanted: f64| (value - wanted).abs() < 1e-9;
        assert!(close(measured.seconds_until_empty, 12.0), "{measured:?}");
        assert!(close(measured.seconds_expiring, 0.2), "{measured:?}");
        assert!(close(measured.hit_rate_least, 0.5), "{measured:?}");
        assert!(
            close(measured.hit_rate_meanwhile, 20.0 / 32.5),
            "{measured:?}"
        );
    }
}
