//! Runs a scenario step by step and collects where the engine differs from the trace.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use pollux_engine::connection::Direction;

use super::agreed;
use super::command::Unsupported;
use super::compare;
use super::conntrack::HalfOpen;
use super::director::{Director, Outcome};
use super::fragments;
use super::kernel;
use super::packet;
use super::session::{Compared, Session, Tools};
use super::synchronisation::{self, Datagram};
use super::topology::{GATEWAY_MAC, mac, server_mac, server_v4};
use super::trace::{self, Frame, Ordered, Scenario, Step, Wire};

/// The step that a scenario's table is compared at: after all others.
const TABLE_CLIENT: &str = "198.51.100.7";

/// A step whose outcome is not the kernel's.
#[derive(Debug)]
pub struct Difference {
    /// Number of the step.
    pub step: usize,
    /// What differs.
    pub what: String,
}

/// In what a scenario is about: frames with hop-by-hop options were kept.
const KEEPS_ALL: &str = "hop-by-hop options kept";

/// What came of a replay.
#[derive(Debug, Default)]
pub struct Replay {
    /// Steps compared.
    pub compared: usize,
    /// Steps that differ.
    pub differences: Vec<Difference>,
    /// Steps that are not compared, and why.
    pub aside: Vec<(usize, String)>,
    /// The feature that ended the replay early.
    pub unsupported: Option<Unsupported>,
    /// What did not hold of counters and tables at the end.
    pub broken: Option<String>,
    /// Every frame that went out and was made of a sound one.
    pub sent: Vec<Vec<u8>>,
}

/// Replays a scenario, with the stock tools where the runner does not know a command itself.
pub fn replay(scenario: &Scenario) -> Replay {
    replay_with(scenario, Tools::WhereNeeded)
}

/// Replays a scenario.
pub fn replay_with(scenario: &Scenario, tools: Tools) -> Replay {
    let mut replay = Replay::default();
    let mut session = match Session::new(scenario, tools) {
        Ok(session) => session,
        Err(unsupported) => {
            replay.unsupported = Some(unsupported);
            return replay;
        }
    };
    session.director().keep_sent();
    let mut half_open = HalfOpen::default();
    let mut run = || {
        for setting in &scenario.sysctls {
            // The tables of states hold under either mode: one server, so rescheduling shows nowhere.
            let about_states =
                scenario.name.starts_with("states/") && setting.ends_with("conn_reuse_mode=0");
            if let Some(feature) = agreed::not_built(setting) {
                replay.aside.push((0, feature.to_owned()));
            } else if !about_states {
                session.begin_with(setting)?;
            }
        }
        for (number, step) in scenario.steps.iter().enumerate() {
            let own;
            let step = match step {
                // What the director sent of itself came out with the next frame.
                Step::Frame { received, out }
                    if out.iter().any(is_sent_by_itself) && !kernel::is_icmp(&received.bytes) =>
                {
                    let mut out = out.clone();
                    out.retain(|frame| !is_sent_by_itself(frame));
                    own = Step::Frame {
                        received: received.clone(),
                        out,
                    };
                    &own
                }
                step => step,
            };
            let result = match step {
                Step::Command { cmd, rc, text } => {
                    session
                        .run_line(cmd, *rc, text)
                        .map_err(|Unsupported(what)| {
                            Unsupported(format!("step {number}: {cmd}: {what}"))
                        })?
                }
                Step::Sleep { sleep, out } => {
                    session.pass(*sleep);
                    Compared::of(compare_by_itself(&mut session.director(), out))
                }
                Step::Unknown(what) => {
                    return Err(Unsupported(format!("step {number}: no known step: {what}")));
                }
                Step::Frame { received, out } => {
                    let refused_before = session.director().refused_reply_keys();
                    let mut result = run_step(&mut session.director(), scenario, step);
                    let is_refused = session.director().refused_reply_keys() != refused_before;
                    if is_refused && matches!(&out[..], [sent] if sent.port == Wire::Rs) {
                        result = Ok(());
                    }
                    if result.is_err()
                        && half_open.explains(&session.director(), &received.bytes, out)
                    {
                        result = Ok(());
                    }
                    half_open.note(&received.bytes, out);
                    let options = options_more(&session.director(), out);
                    session.count_more(options);
                    Compared::of(result)
                }
                _ => {
                    let result = run_step(&mut session.director(), scenario, step);
                    Compared::of(result)
                }
            };
            session.end_step(matches!(step, Step::Command { .. }));
            match result {
                Compared::Same => replay.compared += 1,
                Compared::Different(what) => {
                    replay.compared += 1;
                    replay.differences.push(Difference { step: number, what });
                }
                Compared::Not(why) => replay.aside.push((number, why)),
            }
        }
        Ok(())
    };
    replay.unsupported = run().err();
    replay.broken = session.director().check().err();
    replay.sent = session.director().take_sent();
    replay
}

/// By how many bytes an error of the kernel's is longer for the options that it repeats.
fn options_more(director: &Director, out: &[Frame]) -> usize {
    match (out, director.last_sent()) {
        ([theirs], Some(ours)) if compare::is_error_with_options(&theirs.bytes, ours) => {
            theirs.bytes.len().saturating_sub(ours.len())
        }
        _ => 0,
    }
}

/// A step that is no command.
fn run_step(director: &mut Director, scenario: &Scenario, step: &Step) -> Result<(), String> {
    match step {
        Step::Command { .. } | Step::Sleep { .. } | Step::Unknown(_) => Ok(()),
        Step::Frame { received, out } => {
            let dropped = director.dropped_as_removed();
            let outcome = director.receive(received.port, &received.bytes);
            if director.dropped_as_removed() > dropped && kernel::is_error_to_server(out) {
                return Ok(());
            }
            if let (Outcome::Punt(_), Some(datagram)) = (&outcome, Datagram::read(&received.bytes))
            {
                director.hear(&datagram);
                return compare_by_itself(director, out);
            }
            if scenario.about.contains(KEEPS_ALL)
                && out.is_empty()
                && let Outcome::Out(wire, bytes) = &outcome
                && !compare::is_recorded(bytes)
            {
                let bytes = compare::hex(bytes);
                return Err(format!("kernel nothing, engine {wire:?} {bytes}"));
            }
            check(director, &outcome, &received.bytes, out)
        }
        Step::Pick {
            packet,
            server,
            out,
        } => pick(director, packet, *server, out),
        Step::Note { note } if note.starts_with("rows are reached by ") => {
            fill_table(director, note, &scenario.table)
        }
        Step::Note { note } => expire(director, note),
        Step::Late { late } => compare_by_itself(director, late),
    }
}

/// What came out though nothing came in: the datagrams of a master, and what the kernel's stack sends.
fn compare_by_itself(director: &mut Director, out: &[Frame]) -> Result<(), String> {
    let is_datagram = |frame: &&Frame| Datagram::read(&frame.bytes).is_some();
    let (datagrams, others): (Vec<&Frame>, Vec<&Frame>) = out.iter().partition(is_datagram);
    synchronisation::compare(&datagrams, &director.take_datagrams())?;
    others.into_iter().try_for_each(came_by_itself)
}

fn is_sent_by_itself(frame: &Frame) -> bool {
    kernel::is_about_reassembly(frame) || kernel::is_lookup(frame)
}

/// The engine sends nothing of itself; the kernel's stack gives up a packet that never got whole.
fn came_by_itself(frame: &Frame) -> Result<(), String> {
    if is_sent_by_itself(frame) || kernel::is_membership(frame) {
        return Ok(());
    }
    Err(format!(
        "came out by itself: {:?} {}",
        frame.port, frame.text
    ))
}

fn check(
    director: &Director,
    outcome: &Outcome,
    received: &[u8],
    expected: &[Frame],
) -> Result<(), String> {
    match outcome {
        Outcome::Out(wire, bytes) => compare::compare(expected, Some((*wire, bytes))),
        Outcome::Drop | Outcome::Waits => compare::compare(expected, None),
        Outcome::Fragments(sent) => {
            fragments::compare(expected, sent, received, director.administrator.services())
        }
        Outcome::Punt(_) => kernel::answers(received, expected, director.topology()),
        Outcome::Hold => Err("engine waits for a neighbour".to_owned()),
    }
}

fn pick(
    director: &mut Director,
    packet: &[u8],
    server: Option<u32>,
    out: &[Frame],
) -> Result<(), String> {
    let frame = packet::ethernet(mac(Wire::Cl), GATEWAY_MAC, packet);
    let outcome = director.receive(Wire::Cl, &frame);
    let Some(server) = server else {
        return check(director, &outcome, &frame, out);
    };
    let expected = server_mac(u8::try_from(server).unwrap_or(u8::MAX - 0x10));
    match outcome {
        // A server that is none of the lab's has a MAC address that the recorder did not keep.
        Outcome::Out(Wire::Rs, _) if server == trace::NO_SERVER => Ok(()),
        Outcome::Out(Wire::Rs, bytes) if bytes.starts_with(&expected) => Ok(()),
        Outcome::Out(wire, bytes) => Err(format!(
            "kernel server {server}, engine {wire:?} {}",
            compare::hex(&bytes)
        )),
        other => Err(format!("kernel server {server}, engine {other:?}")),
    }
}

/// "… entry gone between 303 and 304 s after the last packet": the kernel's timers are up to an eighth late, the engine's
/// half a second.
fn expire(director: &mut Director, note: &str) -> Result<(), String> {
    let Some((_, times)) = note.split_once("entry gone between ") else {
        return Ok(());
    };
    let numbers: Vec<u32> = times
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let [last_seen, gone] = *numbers else {
        return Err(format!("cannot read: {note}"));
    };
    // The shortest timeout that the kernel may have meant.
    let alive = last_seen * 8 / 9 - 1;
    director.sleep(alive);
    if director.connections().next().is_none() {
        return Err(format!("{note}; the engine's is gone after {alive} s"));
    }
    director.sleep(gone - alive);
    if director.connections().next().is_some() {
        return Err(format!("{note}; the engine still has it"));
    }
    Ok(())
}

/// Sends the events that the recorder did not write down, and compares the states they lead to.
fn fill_table(
    director: &mut Director,
    note: &str,
    table: &Ordered<Ordered<Option<String>>>,
) -> Result<(), String> {
    let reach = note.trim_start_matches("rows are reached by ");
    let reach: BTreeMap<String, Vec<String>> =
        serde_json::from_str(reach).map_err(|error| error.to_string())?;
    let port = |row: usize, column: usize| u16::try_from(30_000 + 100 * row + column).unwrap();
    let mut wrong = Vec::new();
    for (row, (name, states)) in table.0.iter().enumerate() {
        for (column, (event, expected)) in states.0.iter().enumerate() {
            let before = reach.get(name).ok_or_else(|| format!("no way to {name}"))?;
            let events = before.iter().chain((event != "-").then_some(event));
            events.for_each(|event| send_event(director, event, port(row, column)));
            let state = director
                .connections()
                .find(|connection| {
                    connection.key(Direction::Inbound).source().port() == port(row, column)
                })
                .map(|connection| connection.life().state().name().to_owned());
            if state != *expected {
                wrong.push(format!(
                    "{name} {event}: kernel {expected:?}, engine {state:?}"
                ));
            }
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

/// `iSA` is a segment with SYN and ACK from the client, `oF` one with FIN from server 1.
fn send_event(director: &mut Director, event: &str, port: u16) {
    let client = SocketAddr::new(TABLE_CLIENT.parse().unwrap(), port);
    let service: SocketAddr = "192.0.2.100:80".parse().unwrap();
    let server = SocketAddr::new(server_v4(1), 8080);
    if let Some(flags) = event.strip_prefix('i') {
        let segment = packet::tcp(client, service, flags, &[]);
        director.receive(
            Wire::Cl,
            &packet::ethernet(mac(Wire::Cl), GATEWAY_MAC, &segment),
        );
    } else {
        let segment = packet::tcp(server, client, &event[1..], &[]);
        director.receive(
            Wire::Rs,
            &packet::ethernet(mac(Wire::Rs), server_mac(1), &segment),
        );
    }
}
