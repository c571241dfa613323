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
use super::estimation::Estimation;
use super::saved;
use super::text;

/// Lines by what they are about; seconds until expiry apart, because they may differ a little, the shortest first: many lines
/// may be about the same, as the templates of one client's calls are.
type Lines = BTreeMap<String, Vec<i64>>;

/// Says where a printed listing and the director differ. Up to `late_s` seconds have passed that the trace does not tell.
///
/// # Errors
/// Both, for people.
pub fn compare(
    listing: Listing,
    of: Option<ServiceIdentity>,
    printed: &str,
    director: &Director,
    estimation: &Estimation,
    late_s: i64,
) -> Result<(), String> {
    let (theirs, ours) = match listing {
        Listing::Saved => return saved::compare(printed, &director.administrator),
        Listing::Timeouts => return compare_timeouts(printed, director),
        Listing::Statistics | Listing::Rates => {
            return compare_counts(of, printed, estimation);
        }
        Listing::Connections => (printed_connections(printed), connections(director)),
        _ => (printed_servers(printed), servers(director, listing, of)),
    };
    let same = theirs.len() == ours.len()
        && theirs
            .iter()
            .all(|(line, theirs)| are_near(theirs, ours.get(line), late_s));
    if !same {
        return Err(difference(&theirs, &ours, late_s));
    }
    match listing {
        Listing::Servers => saved::compare_services(printed, &director.administrator, of),
        _ => Ok(()),
    }
}

/// Counters or rates of one service with its servers, or of all.
///
/// # Errors
/// The lines that differ.
pub fn compare_counts(
    of: Option<ServiceIdentity>,
    printed: &str,
    estimation: &Estimation,
) -> Result<(), String> {
    let (counts, _) = text::without_counts(printed).ok_or("no counters in the listing")?;
    let of = of.map(|of| service_name(&of));
    counts
        .iter()
        .try_for_each(|(kind, rows)| estimation.compare(*kind, of.as_deref(), rows))
}

/// By how many seconds more all of the kernel's connections are nearer to their ends: time that passed unseen.
pub fn unseen(printed: &str, director: &Director) -> i64 {
    let ours = connections(director);
    let theirs = printed_connections(printed);
    let both = theirs.iter().filter_map(|(line, theirs)| {
        let ours = ours.get(line)?;
        (ours.len() == theirs.len()).then(|| theirs.iter().zip(ours))
    });
    let more = both
        .flatten()
        .filter(|(theirs, _)| **theirs > 0)
        .map(|(theirs, ours)| ours - theirs);
    more.min().unwrap_or(0)
}

/// Whether lines about the same end at the same times.
fn are_near(theirs: &[i64], ours: Option<&Vec<i64>>, late_s: i64) -> bool {
    ours.is_some_and(|ours| {
        let mut both = theirs.iter().zip(ours);
        theirs.len() == ours.len()
            && both.all(|(theirs, ours)| text::is_near(*theirs, *ours, late_s))
    })
}

fn lines_of(lines: impl Iterator<Item = (String, i64)>) -> Lines {
    let mut all = Lines::new();
    for (line, expiry) in lines {
        all.entry(line).or_default().push(expiry);
    }
    all.values_mut()
        .for_each(|expiries| expiries.sort_unstable());
    all
}

/// Lines that only one has, or with another expiry.
fn difference(theirs: &Lines, ours: &Lines, late_s: i64) -> String {
    let differs = |line: &str| {
        theirs
            .get(line)
            .is_none_or(|theirs| !are_near(theirs, ours.get(line), late_s))
    };
    let of = |whose: &str, lines: &Lines| {
        let lines = lines.iter().filter(|(line, _)| differs(line));
        let each =
            lines.flat_map(|(line, expiries)| expiries.iter().map(move |expiry| (line, expiry)));
        each.map(|(line, expiry)| format!("{whose} {line} expires {expiry}\n"))
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
    lines_of(text.lines().filter_map(line))
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
    lines_of(director.connections().map(line))
}

/// Lines of services name what the lines of servers after them belong to.
fn printed_servers(text: &str) -> Lines {
    let mut service = String::new();
    let mut lines = Lines::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words {
            [protocol @ ("TCP" | "UDP" | "SCTP" | "FWM"), address, ..] => {
                service = format!("{protocol} {address}");
            }
            ["->", server, ref rest @ ..] if server != "RemoteAddress:Port" => {
                let line = format!("{service} -> {server} {}", rest.join(" "));
                lines.insert(line, vec![0]);
            }
            _ => {}
        }
    }
    lines
}

fn servers(director: &Director, listing: Listing, of: Option<ServiceIdentity>) -> Lines {
    let line = |service: &ServiceSpec, number: u32| {
        let destination = director.snapshot().destination(number).unwrap();
        let about = format!(
            "{} -> {} {}",
            service_name(&service.identity),
            address(destination),
            numbers(destination, listing)
        );
        (about, 0)
    };
    let services = director.administrator.services().iter();
    let lines = services
        .filter(|service| of.is_none_or(|of| of == service.identity))
        .flat_map(|service| {
            service
                .destinations
                .iter()
                .map(move |spec| line(service, spec.number))
        });
    lines_of(lines)
}

fn numbers(destination: &Destination, listing: Listing) -> String {
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
pub fn statistics(destination: &Destination) -> [u64; 5] {
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

/// Address and port.
pub fn address(destination: &Destination) -> SocketAddr {
    SocketAddr::new(destination.spec.address, destination.spec.port)
}

/// As listings name it: `TCP 192.0.2.100:80`, `FWM 7`.
pub fn service_name(identity: &ServiceIdentity) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_of_a_client_is_compared() {
        let line = |expiry: &str| {
            format!("UDP {expiry} NONE 100.64.0.5:0 192.0.2.100:5060 10.1.0.14:5060\n")
        };
        let lines = |expiries: [&str; 2]| printed_connections(&expiries.map(line).concat());
        let theirs = lines(["00:28", "00:56"]);
        assert_eq!(theirs.values().next(), Some(&vec![28, 56]));
        let near = |ours: &Lines| {
            let mut all = theirs.iter();
            all.all(|(line, theirs)| are_near(theirs, ours.get(line), 0))
        };
        assert!(near(&lines(["00:57", "00:29"])));
        assert!(!near(&lines(["00:57", "00:57"])));
        assert!(!near(&printed_connections(&line("00:57"))));
        let ours = lines(["00:57", "00:57"]);
        assert_eq!(difference(&theirs, &ours, 0).lines().count(), 4);
        assert_eq!(difference(&theirs, &theirs, 0), "");
    }
}
