//! The numbers in what `ipvsadm` printed, and the engine's: servers' counts, connections with states, traffic.
//!
//! Texts and their layout belong to the command line and are not compared here.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use pollux_engine::clock::TICKS_PER_SECOND;
use pollux_engine::connection::{Direction, ForwardingMethod, State, UNBOUND};
use pollux_engine::counters::Counter;
use pollux_engine::service::{Destination, ServiceIdentity, ServiceSpec};
use pollux_engine::wire::protocol;

use super::command::Listing;
use super::director::Director;
use super::saved;

/// The kernel shows whole seconds, counted down from just below the timeout; Pollux refreshes in steps of half a second.
const EXPIRY_TOLERANCE_SECONDS: i64 = 2;

/// Lines by what they are about; seconds until expiry apart, because they may differ a little.
type Lines = BTreeMap<String, i64>;

/// Says where a printed listing and the director differ.
///
/// # Errors
/// Both, for people.
pub fn compare(
    listing: Listing,
    of: Option<ServiceIdentity>,
    printed: &str,
    director: &Director,
    zeroed: &Zeroed,
) -> Result<(), String> {
    let (theirs, ours) = match listing {
        Listing::Saved => return saved::compare(printed, &director.administrator),
        Listing::Timeouts => return compare_timeouts(printed, director),
        Listing::Connections => (printed_connections(printed), connections(director)),
        _ => (
            printed_servers(printed, listing),
            servers(director, listing, of, zeroed),
        ),
    };
    let same = theirs.len() == ours.len()
        && theirs
            .iter()
            .zip(&ours)
            .all(|((their_line, theirs), (our_line, ours))| {
                their_line == our_line && (theirs - ours).abs() <= EXPIRY_TOLERANCE_SECONDS
            });
    if !same {
        return Err(difference(&theirs, &ours));
    }
    match listing {
        Listing::Servers => saved::compare_services(printed, &director.administrator, of),
        _ => Ok(()),
    }
}

/// What counters stood at when they were set to zero, by number of the server.
pub type Zeroed = BTreeMap<u32, [u64; 5]>;

/// What counters stand at.
pub fn counted(director: &Director, of: Option<ServiceIdentity>) -> Zeroed {
    let services = director.administrator.services().iter();
    services
        .filter(|service| of.is_none_or(|of| of == service.identity))
        .flat_map(|service| &service.destinations)
        .filter_map(|spec| {
            let destination = director.snapshot().destination(spec.number)?;
            Some((spec.number, statistics(destination)))
        })
        .collect()
}

/// Lines that only one has, or with another expiry.
fn difference(theirs: &Lines, ours: &Lines) -> String {
    let differs = |line: &str| match (theirs.get(line), ours.get(line)) {
        (Some(theirs), Some(ours)) => (theirs - ours).abs() > EXPIRY_TOLERANCE_SECONDS,
        _ => true,
    };
    let of = |whose: &str, lines: &Lines| {
        let lines = lines.iter().filter(|(line, _)| differs(line));
        lines
            .map(|(line, expiry)| format!("{whose} {line} expires {expiry}\n"))
            .collect::<String>()
    };
    of("- kernel", theirs) + &of("+ engine", ours)
}

/// `Timeout (tcp tcpfin udp): 900 120 300`.
fn compare_timeouts(printed: &str, director: &Director) -> Result<(), String> {
    let timeouts = director.snapshot().timeouts();
    let seconds = |state| (timeouts.of(state) / TICKS_PER_SECOND).to_string();
    let ours = [State::Established, State::FinWait, State::Udp].map(seconds);
    let theirs = printed.rsplit_once(": ").map_or("", |(_, numbers)| numbers);
    if theirs.split_whitespace().eq(ours.iter()) {
        Ok(())
    } else {
        Err(format!("- kernel {theirs}\n+ engine {}", ours.join(" ")))
    }
}

/// `pro expire state source virtual destination`, and of a persistence engine's template that and what it goes by, which the
/// engine keeps no more than a tag of.
fn printed_connections(text: &str) -> Lines {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [
            protocol,
            expiry,
            state,
            source,
            virtual_address,
            destination,
            ref engine @ ..,
        ] = *words
        else {
            return None;
        };
        if !matches!(engine, [] | ["sip", _]) {
            return None;
        }
        let (minutes, seconds) = expiry.split_once(':')?;
        let seconds = minutes.parse::<i64>().ok()? * 60 + seconds.parse::<i64>().ok()?;
        let about = format!("{protocol} {source} {virtual_address} {destination} {state}");
        Some((about, seconds))
    };
    text.lines().filter_map(line).collect()
}

fn connections(director: &Director) -> Lines {
    let line = |connection: pollux_engine::connection::Connection<'_>| {
        let (key, _) = connection.listed();
        let number = connection.destination();
        let destination = director.snapshot().destination(number);
        let destination = match destination {
            None if number == UNBOUND => connection.key(Direction::Outbound).source().to_string(),
            None => format!("destination {number}"),
            Some(found) => {
                let port = connection.destination_port();
                SocketAddr::new(found.spec.address, port).to_string()
            }
        };
        let about = format!(
            "{} {} {} {destination} {}",
            protocol_name(key.listed_protocol()),
            key.source(),
            key.destination(),
            connection.life().state().name()
        );
        let ticks = director.now().until(connection.end(director.now()));
        (about, i64::from(ticks) / i64::from(TICKS_PER_SECOND))
    };
    director.connections().map(line).collect()
}

/// Lines of services name what the lines of servers after them belong to.
fn printed_servers(text: &str, listing: Listing) -> Lines {
    let mut service = String::new();
    let mut lines = Lines::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words {
            [protocol @ ("TCP" | "UDP" | "SCTP" | "FWM"), address, ..] => {
                service = format!("{protocol} {address}");
            }
            ["->", server, ref rest @ ..] if server != "RemoteAddress:Port" => {
                lines.insert(format!("{service} -> {server} {}", rest.join(" ")), 0);
            }
            _ => {}
        }
    }
    // Statistics of long runs are shortened (12K); none here is.
    debug_assert!(listing != Listing::Connections);
    lines
}

fn servers(
    director: &Director,
    listing: Listing,
    of: Option<ServiceIdentity>,
    zeroed: &Zeroed,
) -> Lines {
    let line = |service: &ServiceSpec, number: u32| {
        let destination = director.snapshot().destination(number).unwrap();
        let about = format!(
            "{} -> {} {}",
            service_name(&service.identity),
            address(destination),
            numbers(destination, listing, zeroed.get(&number))
        );
        (about, 0)
    };
    let services = director.administrator.services().iter();
    services
        .filter(|service| of.is_none_or(|of| of == service.identity))
        .flat_map(|service| {
            service
                .destinations
                .iter()
                .map(move |spec| line(service, spec.number))
        })
        .collect()
}

fn numbers(destination: &Destination, listing: Listing, zeroed: Option<&[u64; 5]>) -> String {
    let spec = &destination.spec;
    let counts = destination.shared.counts();
    let columns = match listing {
        Listing::Thresholds => vec![
            spec.upper_threshold.to_string(),
            spec.lower_threshold.to_string(),
            counts.active.to_string(),
            counts.inactive.to_string(),
        ],
        Listing::Persistent => vec![
            spec.weight.to_string(),
            destination.shared.persistent_connections().to_string(),
            counts.active.to_string(),
            counts.inactive.to_string(),
        ],
        Listing::Statistics => {
            let since = zeroed.copied().unwrap_or_default();
            let counted = statistics(destination).into_iter().zip(since);
            counted
                .map(|(now, before)| (now - before).to_string())
                .collect()
        }
        _ => vec![
            method_name(spec.method).to_owned(),
            spec.weight.to_string(),
            counts.active.to_string(),
            counts.inactive.to_string(),
        ],
    };
    columns.join(" ")
}

/// Connections, packets in and out, bytes in and out.
fn statistics(destination: &Destination) -> [u64; 5] {
    let mut sums = [0; 5];
    for traffic in destination.shared.all_traffic() {
        let counters: [&Counter; 5] = [
            &traffic.connections,
            &traffic.inbound_packets,
            &traffic.outbound_packets,
            &traffic.inbound_bytes,
            &traffic.outbound_bytes,
        ];
        for (sum, counter) in sums.iter_mut().zip(counters) {
            *sum += counter.get();
        }
    }
    sums
}

fn address(destination: &Destination) -> SocketAddr {
    SocketAddr::new(destination.spec.address, destination.spec.port)
}

fn service_name(identity: &ServiceIdentity) -> String {
    match identity {
        ServiceIdentity::Address {
            protocol,
            address,
            port,
        } => format!(
            "{} {}",
            protocol_name(*protocol),
            SocketAddr::new(*address, *port)
        ),
        ServiceIdentity::Fwmark { mark, .. } => format!("FWM {mark}"),
    }
}

fn protocol_name(number: u8) -> &'static str {
    match number {
        protocol::TCP => "TCP",
        protocol::UDP => "UDP",
        protocol::SCTP => "SCTP",
        _ => "IP",
    }
}

fn method_name(method: ForwardingMethod) -> &'static str {
    match method {
        ForwardingMethod::Masquerade => "Masq",
        ForwardingMethod::Tunnel => "Tunnel",
        ForwardingMethod::DirectRoute => "Route",
    }
}
