//! In which scenarios and steps the engine may differ from the traces of `tests/golden`, and why. An entry that is no longer
//! true is a fault as a new difference is, so the lists are what is missing, no more and no less.
//! `tests/golden/DIFFERENCES.md` is [`document`] of them.

use super::command;
use super::kernel;
use super::replay::{Difference, Replay};
use super::trace::{Scenario, Step};

/// The files of `tests/golden`.
pub const FILES: [&str; 13] = [
    "smoke.json",
    "sched.json",
    "schedulers.json",
    "modes.json",
    "edge.json",
    "differential.json",
    "ipsec.json",
    "sip.json",
    "cli.json",
    "settings.json",
    "corners.json",
    "sync.json",
    "tools.json",
];

/// Features that are not built: what commands and settings about them have in them, and the feature. Such a command is passed
/// over, and what listings say of its service.
pub const NOT_BUILT: &[(&str, &str)] = &[("conntrack=1", "entries in nf_conntrack")];

/// The feature that a command or setting is about, if that is not built.
pub fn not_built(text: &str) -> Option<&'static str> {
    let mut features = NOT_BUILT.iter();
    let text = format!("{text} ");
    let (_, feature) = features.find(|(part, _)| text.contains(part))?;
    Some(feature)
}

/// Scenarios of schedulers that draw lots: any server may get a packet that the kernel sent to some server, and the
/// counts of the servers are other ones. What they draw is compared by how often: see `scheduler_traces.rs`.
pub const RANDOM: &[&str] = &["twos/", "draws/twos"];

/// The kernel sends at most 50 ICMP messages at once (`icmp_msgs_burst`), of all its work; the rest it drops silently.
const ICMP_LIMIT: &str = "the kernel's limit of ICMP messages was used up";

const MTU_AT_ONCE: &str = "the first time, the kernel still tells the MTU from before the router's message; Pollux the router's at once";

const CLOSED_BY_RESET: &str = "the kernel's own reset to the client passes IPVS as an answer of the connection that ends, which stays in CLOSE for 10 s";

const REPLY_AGAIN: &str = "a reply 227 that the server sends again is translated again; the kernel lets the server's own address pass";

/// Steps that differ in scenarios that otherwise agree; a `*` in a name stands for anything.
pub const DIFFERENT: &[(&str, &[usize], &str)] = &[
    ("ovf/w111", &[63], ICMP_LIMIT),
    (
        "ovf/change",
        &[57, 58, 59, 80, 81, 82, 83, 84, 100, 101, 102, 103],
        ICMP_LIMIT,
    ),
    ("ovf/fwm", &[64, 65, 66, 88, 89, 90, 91, 92], ICMP_LIMIT),
    ("tun/icmp", &[33], MTU_AT_ONCE),
    ("tun-gue*/icmp", &[33], MTU_AT_ONCE),
    ("tun-gre*/icmp", &[33], MTU_AT_ONCE),
    (
        "nodest/vip not local",
        &[2],
        "Pollux serves a virtual IP whether or not the kernel has it as an address",
    ),
    (
        "sync/backup unbound",
        &[4, 8],
        "a template whose server is not there is not kept: the next packet of its clients tells of it again",
    ),
    (
        "sync/backup flags",
        &[6, 7],
        "whether a connection counts as active follows from its state, whatever the message says",
    ),
    (
        "misc/local server",
        &[4],
        "a server on the director itself gets its packets as they came, past the connection's state",
    ),
    (
        "sip/servers",
        &[13, 14, 15, 17],
        "one client's address and port has one connection to a virtual service; the kernel makes a second one when another server speaks up in its call",
    ),
    ("nodest late/1 -g -s rr", &[27, 31], CLOSED_BY_RESET),
    ("nodest late/1 -g -s rr -p 60", &[27, 31], CLOSED_BY_RESET),
    ("nodest late/2 -g -s rr", &[29, 33], CLOSED_BY_RESET),
    ("ftp/-s rr", &[16], REPLY_AGAIN),
    ("ftp/-s rr -p 60", &[16], REPLY_AGAIN),
];

/// Whether the scenario agrees; or why the lists are wrong about it.
///
/// # Errors
/// That, for people.
pub fn judge(scenario: &Scenario, outcome: &Replay) -> Result<bool, String> {
    let name = &scenario.name;
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
    let mut found = outcome.differences.iter();
    match found.find(|found| !is_drawn(scenario, found)) {
        None => Ok(true),
        Some(found) => Err(format!(
            "{}: step {}: {}",
            scenario.name, found.step, found.what
        )),
    }
}

fn is_drawn(scenario: &Scenario, found: &Difference) -> bool {
    match scenario.steps.get(found.step) {
        Some(Step::Pick { server, .. }) => server.is_some() && found.what.contains("engine Rs"),
        Some(Step::Command { cmd, .. }) => cmd.starts_with("ipvsadm -Ln"),
        _ => false,
    }
}

/// Whether a name begins so, or begins and ends so around a `*`.
pub fn matches(pattern: &str, name: &str) -> bool {
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

/// Whether a scenario has a scheduler that draws lots: any server is right where the kernel sent to some server.
pub fn draws_lots(scenario: &Scenario) -> bool {
    scenario.steps.iter().any(|step| match step {
        Step::Command { cmd, .. } => command::draws_lots(cmd),
        _ => false,
    })
}

/// Why a difference is none, by a rule that holds for traces of any origin. `messages` are the ICMP messages the kernel had
/// sent since it last had time to rest.
pub fn general_reason(
    scenario: &Scenario,
    found: &Difference,
    messages: usize,
) -> Option<&'static str> {
    let step = scenario.steps.get(found.step)?;
    if draws_lots(scenario) && is_drawn(scenario, found) {
        return Some("the scheduler draws lots");
    }
    let is_silent = match step {
        Step::Frame { received, out } => out.is_empty() && kernel::may_be_told(&received.bytes),
        Step::Pick { server, out, .. } => server.is_none() && out.is_empty(),
        _ => false,
    };
    let answers = found.what.contains("engine punted") || found.what.contains("icmp.type");
    (is_silent && answers && messages >= kernel::MESSAGES_AT_ONCE).then_some(ICMP_LIMIT)
}

/// Why a difference in a scenario of `tests/golden` is agreed.
pub fn listed_reason(scenario: &Scenario, step: usize) -> Option<&'static str> {
    let name = &scenario.name;
    let listed = DIFFERENT
        .iter()
        .find(|(listed, steps, _)| is_named(listed, name) && steps.contains(&step));
    listed.map(|(.., reason)| *reason)
}

/// The lists as `tests/golden/DIFFERENCES.md` has them.
pub fn document() -> String {
    let mut text = String::from(
        "# Where the engine differs from the traces\n\n\
         Made of the lists in `tests/src/golden/agreed.rs`, which `tests/tests/golden.rs` checks against every replay: an entry\n\
         that is no longer true fails. To write this file anew: `cargo run -p pollux-tests --bin golden -- --differences`.\n\n\
         ## Steps\n\n\
         Steps are numbered from 0; a `*` stands for anything.\n\n\
         | scenario | steps | reason |\n|---|---|---|\n",
    );
    for (name, steps, reason) in DIFFERENT {
        let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
        text += &format!("| `{name}` | {} | {reason} |\n", steps.join(", "));
    }
    text += "\n## Features that are not built\n\nCommands and settings with this in them are passed over, and their services in listings.\n\n| part | feature |\n|---|---|\n";
    for (name, feature) in NOT_BUILT {
        text += &format!("| `{name}` | {feature} |\n");
    }
    text += "\n## Rules for any trace\n\n";
    for rule in RULES {
        text += &format!("* {rule}\n");
    }
    text
}

/// What counts as equal whatever the trace.
const RULES: [&str; 18] = [
    "Masked: IPv4 identifications and IPv6 flow labels of packets that the kernel makes itself (ICMP, outer headers that may be \
     fragmented), source ports of GUE, the time of day in an IPv4 timestamp option.",
    "Where IPVS lets a packet pass, the frame that comes out is that of the kernel's own stack: a reset, an ICMP message, an \
     echo, plain forwarding. Such a frame must be what that stack does; the engine must have punted.",
    "How an IPv4 datagram that came in fragments to one of the kernel's own addresses goes out in fragments, in a tunnel of \
     IPv6 too: the kernel may copy some together before IPVS sees them, as the buffers of its network card allow. What they \
     make up is compared.",
    "How a datagram in fragments of a service with `--pe sip` goes out, and a segment of a control connection of FTP: to \
     look into it the kernel makes the fragments one buffer (`skb_linearize`) and cuts that anew, over IPv4 into pieces as \
     large as the largest that came, over IPv6 into such of at least 1280 bytes with an identification of its own, which \
     may be a single \"fragment\"; those of known calls keep theirs. Pollux lets every datagram go in the fragments it came \
     in, which have come this far. What they make up is compared.",
    "Errors about packets with record route: the kernel repeats the option in the error, with what it has recorded so far; \
     Pollux answers without options. Type, code and addresses are compared, and the option's bytes counted.",
    "The source of an ICMPv6 error about a packet to an address that is local by a route only (`2001:db8:f::/64` of the lab): \
     the kernel's selection of source addresses takes one of its own.",
    "What a client says on a connection of FTP before its server has taken that (and not damaged, nor by acknowledging what was \
     not said), or says damaged, or in answer to a SYN of its server's in the middle; a SYN of the client's in the place of such a \
     connection; and a client's answer to its server's data connection, where `expire_nodest_conn` ends that: nf_conntrack, which the kernel's FTP helper has follow these connections, drops it behind IPVS. \
     An ICMP error to such a server about a packet of its own, once a reply of its came out longer or shorter than it was: \
     nf_conntrack takes the error for a segment, and mostly drops it. Nor is the sequence number compared of such a server's SYN \
     in the middle.",
    "A client's ICMP error about a connection whose server was removed: the kernel sends it there. Pollux sends nothing to a \
     server that its service does not have.",
    "The order of lines in listings.",
    "An expiry: by two seconds, and as much earlier as the recorder may have taken for its steps since the last listing, half a \
     second for a command and 50 ms for a frame, of which a trace tells nothing. What all connections of a listing are \
     nearer to their ends has passed, and time goes on from there.",
    "Counters and rates (`--stats`, `--rate`, `/proc/net/ip_vs_stats`) are as of a tick of the kernel's estimator, every two \
     seconds and 80 ms: they agree if there is a moment for the ticks that explains every number of the listing, with polluxd's \
     estimator.",
    "IPv6 frames with hop-by-hop options, ICMPv6 of types 130 to 143 and multicast DNS: the recorder does not keep them.",
    "The server that a scheduler drew by lot (`twos`), and the counts that follow of it.",
    "Silence of the kernel once it has sent 50 ICMP messages without a rest of a second: its limit is used up.",
    "What a tool in the director asks a name server, and how long it waits for the answer; reports of multicast membership.",
    "How the kernel's processors share the counts of `/proc/net/ip_vs_stats_percpu`; `sync_qlen_max`, which is of the machine's \
     memory; messages of `modprobe`; the Call-IDs of `--pe sip`, of which Pollux keeps a tag.",
    "The first packet of a second connection of one client's address and port to one server's address and port under NAT: the \
     kernel sends it on, and the answers of both go to one of them; Pollux refuses it (`reply_key_taken`). What follows is \
     compared.",
    "Named and not compared: `/proc/net/nf_conntrack`, `nft list`.",
];
