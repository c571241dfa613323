//! The engine against traces of Linux' IPVS: frames byte for byte, schedulers' choices in order, states, counts.
//!
//! Every scenario of `tests/golden` is replayed. The lists below say which may differ, where and why; an entry that is no
//! longer true fails the test as a new difference does, so the lists are what is missing, no more and no less.

use pollux_tests::golden::replay::{Difference, Replay, replay};
use pollux_tests::golden::trace::{Scenario, Step, scenarios};

const FILES: [&str; 6] = [
    "smoke.json",
    "sched.json",
    "schedulers.json",
    "modes.json",
    "edge.json",
    "cli.json",
];

/// Scenarios of features that are not built: what their names begin or, after `*`, end with, and the feature.
const NOT_BUILT: &[(&str, &str)] = &[
    ("misc/conntrack=1", "entries in nf_conntrack"),
    ("sync/", "connection synchronisation"),
    ("cli/", "ipvsadm's texts"),
];

/// Scenarios of schedulers that draw lots: any server may get a packet that the kernel sent to some server, and the
/// counts of the servers are other ones. What they draw is compared by how often: see `scheduler_traces.rs`.
const RANDOM: &[&str] = &["twos/", "draws/twos"];

/// The kernel sends at most 50 ICMP messages at once (`icmp_msgs_burst`), of all its work; the rest it drops silently.
const ICMP_LIMIT: &str = "the kernel's limit of ICMP messages was used up";
const FRAGMENTS: &str = "packets that must be fragmented, or come in fragments, are not served yet";

const MTU_AT_ONCE: &str = "the first time, the kernel still tells the MTU from before the router's message; Pollux the router's at once";

/// Steps that differ in scenarios that otherwise agree; a `*` in a name stands for anything.
const DIFFERENT: &[(&str, &[usize], &str)] = &[
    ("ovf/w111", &[63], ICMP_LIMIT),
    (
        "ovf/change",
        &[57, 58, 59, 80, 81, 82, 83, 84, 100, 101, 102, 103],
        ICMP_LIMIT,
    ),
    ("ovf/fwm", &[64, 65, 66, 88, 89, 90, 91, 92], ICMP_LIMIT),
    ("nat/mtu", &[26], FRAGMENTS),
    ("nat/udp", &[11, 13, 15], FRAGMENTS),
    ("dr/mtu", &[26], FRAGMENTS),
    ("dr/udp", &[9, 11, 13], FRAGMENTS),
    ("tun/mtu", &[17, 19, 21, 23, 26], FRAGMENTS),
    ("tun/udp", &[9, 11, 13], FRAGMENTS),
    ("tun/icmp", &[33], MTU_AT_ONCE),
    ("tun-gue*/mtu", &[11, 13, 15, 17, 19, 21, 23, 26], FRAGMENTS),
    ("tun-gue*/udp", &[9, 11, 13], FRAGMENTS),
    ("tun-gue*/icmp", &[33], MTU_AT_ONCE),
    ("tun-gre/mtu", &[15, 17, 19, 21, 23, 26], FRAGMENTS),
    ("tun-gre-csum/mtu", &[13, 15, 17, 19, 21, 23, 26], FRAGMENTS),
    ("tun-gre*/udp", &[9, 11, 13], FRAGMENTS),
    ("tun-gre*/icmp", &[33], MTU_AT_ONCE),
    ("tun-4in6/mtu", &[11, 13, 15, 17, 19, 21, 23, 26], FRAGMENTS),
    ("tun-4in6/udp", &[9, 11, 13], FRAGMENTS),
    (
        "nodest/vip not local",
        &[2],
        "Pollux serves a virtual IP whether or not the kernel has it as an address",
    ),
    (
        "misc/local server",
        &[4],
        "a server on the director itself gets its packets as they came, past the connection's state",
    ),
];

#[test]
fn the_engine_does_what_the_kernel_did() {
    let mut wrong = Vec::new();
    let mut passed = 0;
    let mut steps = 0;
    let mut seen = Vec::new();
    for scenario in FILES.iter().flat_map(|file| scenarios(file)) {
        let outcome = replay(&scenario);
        match judge(&scenario, &outcome) {
            Ok(true) => passed += 1,
            Ok(false) => {}
            Err(complaint) => wrong.push(complaint),
        }
        steps += outcome.compared;
        seen.push(scenario.name);
    }
    let unknown = DIFFERENT
        .iter()
        .map(|(name, ..)| name)
        .chain(NOT_BUILT.iter().map(|(name, _)| name));
    wrong.extend(
        unknown
            .filter(|name| !seen.iter().any(|seen| matches(name, seen)))
            .map(|name| format!("no scenario {name}")),
    );
    println!("{passed} scenarios agree, {steps} steps compared");
    assert!(
        wrong.is_empty(),
        "{} scenarios:\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

/// Whether the scenario agrees; or why the lists are wrong about it.
fn judge(scenario: &Scenario, outcome: &Replay) -> Result<bool, String> {
    let name = &scenario.name;
    let not_built = NOT_BUILT.iter().find(|(pattern, _)| matches(pattern, name));
    if let Some((_, feature)) = not_built {
        let agrees = outcome.unsupported.is_none() && outcome.differences.is_empty();
        return if agrees {
            Err(format!(
                "{name} agrees: take it off the list of what is not built ({feature})"
            ))
        } else {
            Ok(false)
        };
    }
    if let Some(feature) = &outcome.unsupported {
        return Err(format!("{name}: not supported: {}", feature.0));
    }
    if let Some(broken) = &outcome.broken {
        return Err(format!("{name}: {broken}"));
    }
    if RANDOM.iter().any(|pattern| matches(pattern, name)) {
        return judge_random(scenario, outcome);
    }
    let listed = DIFFERENT.iter().find(|(listed, ..)| is_named(listed, name));
    let listed = listed.map_or(&[][..], |(_, steps, _)| steps);
    let different: Vec<usize> = outcome.differences.iter().map(|found| found.step).collect();
    if different == listed {
        return Ok(listed.is_empty());
    }
    let told: Vec<String> = outcome
        .differences
        .iter()
        .map(|found| format!("  step {}: {}", found.step, found.what))
        .collect();
    Err(format!(
        "{name}: differs at {different:?}, listed {listed:?}\n{}",
        told.join("\n")
    ))
}

/// Whether nothing differs but who was drawn.
fn judge_random(scenario: &Scenario, outcome: &Replay) -> Result<bool, String> {
    let is_drawn = |found: &&Difference| match scenario.steps.get(found.step) {
        Some(Step::Pick { server, .. }) => server.is_some() && found.what.contains("engine Rs"),
        Some(Step::Command { cmd, .. }) => cmd.starts_with("ipvsadm -Ln"),
        _ => false,
    };
    match outcome.differences.iter().find(|found| !is_drawn(found)) {
        None => Ok(true),
        Some(found) => Err(format!(
            "{}: step {}: {}",
            scenario.name, found.step, found.what
        )),
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some(_) => is_named(pattern, name),
        None => name.starts_with(pattern),
    }
}

fn is_named(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => name
            .strip_prefix(start)
            .is_some_and(|rest| rest.ends_with(end)),
        None => name == pattern,
    }
}
