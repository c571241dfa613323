//! The answers as tables for people, 80 columns wide where the addresses allow; services look as in `ipvsadm -L`.

use pollux_api::dataplane::ConnectionReport;
use pollux_api::identity::Endpoint;
use pollux_api::ipvs_settings::SETTINGS;
use pollux_api::statistics::{
    DestinationStatistics, DropReport, RateReport, Rates, ServiceStatistics, TrafficTotals,
};
use pollux_api::{Destination, ForwardingMethod, IpvsSettings, SchedulerName, VirtualService};

use super::numbers::{minutes, shown};
use super::screen::Screen;
use super::table::{Align, Table, wrapped};

/// The order in which servers are listed: by address, or the list's own.
fn in_order<T>(items: &[T], sorted: bool, id: impl Fn(&T) -> Endpoint) -> impl Iterator<Item = &T> {
    let mut items: Vec<&T> = items.iter().collect();
    if sorted {
        items.sort_by_key(|item| id(item));
    }
    items.into_iter()
}

fn server(endpoint: Endpoint) -> String {
    format!("  -> {endpoint}")
}

/// The TunnelInfo column of `ipvsadm -L --tun-info`.
fn tunnel_info(destination: &Destination) -> String {
    match destination.method {
        ForwardingMethod::Tunnel => destination.tunnel.to_string(),
        ForwardingMethod::Nat | ForwardingMethod::Direct => "n/a".to_owned(),
    }
}

/// Behind that: what `ipvsadm` has no words for.
fn timeouts(service: &VirtualService) -> String {
    if service.timeouts.is_default() {
        String::new()
    } else {
        format!(" timeouts {}", service.timeouts)
    }
}

/// What `ipvsadm -L` says behind the scheduler.
fn persistence(service: &VirtualService) -> String {
    let ops = if service.one_packet { " ops" } else { "" };
    let Some(persistence) = service.persistence else {
        return ops.to_owned();
    };
    let mask = persistence.netmask;
    let mask = mask.map_or_else(String::new, |mask| format!(" mask {mask}"));
    let engine = service.persistence_engine;
    let engine = engine.map_or_else(String::new, |engine| format!(" pe {engine}"));
    format!("{ops} persistent {}{mask}{engine}", persistence.timeout_s)
}

/// `show services`: `ipvsadm -L`, with columns for the thresholds when any are set, for the tunnels when any is not IP in
/// IP, and for the templates when any service is persistent.
pub fn services(services: &[ServiceStatistics], sorted: bool) -> Table {
    let any = |is_it: fn(&Destination) -> bool| {
        let mut known = services.iter().flat_map(|service| &service.destinations);
        known.any(|known: &DestinationStatistics| is_it(&known.destination))
    };
    let thresholds = any(|destination| destination.upper_threshold != 0);
    let tunnels = any(|destination| !destination.tunnel.is_default());
    let persistent = services
        .iter()
        .any(|service| service.service.persistence.is_some());
    // As wide as in ipvsadm; with more columns, as wide as a screen allows.
    let address_width = if thresholds || tunnels || persistent {
        31
    } else {
        33
    };
    let columns = [
        (address_width, true),
        (7, true),
        (12, tunnels),
        (6, true),
        (11, persistent),
        (10, true),
        (9, true),
        (5, thresholds),
        (5, thresholds),
    ];
    let widths: Vec<(Align, usize)> = columns
        .iter()
        .filter_map(|(width, shown)| shown.then_some((Align::Left, *width)))
        .collect();
    let mut table = Table::new(&widths);
    let row = |cells: [String; 9]| -> Vec<String> {
        let cells = cells.into_iter().zip(columns);
        cells
            .filter_map(|(cell, (_, shown))| shown.then_some(cell))
            .collect()
    };
    table.text("Prot LocalAddress:Port Scheduler Flags");
    table.row(row([
        "  -> RemoteAddress:Port",
        "Forward",
        "TunnelInfo",
        "Weight",
        "PersistConn",
        "ActiveConn",
        "InActConn",
        "Upper",
        "Lower",
    ]
    .map(str::to_owned)));
    for service in services {
        let id = service.service.id;
        let scheduler = service.service.scheduler;
        let flags = service.service.scheduler_flags;
        let flags = if flags.is_empty() {
            String::new()
        } else {
            format!(" ({flags})")
        };
        table.text(format!(
            "{:<4} {} {scheduler}{flags}{}",
            id.kind(),
            id.listed(),
            persistence(&service.service) + &timeouts(&service.service)
        ));
        for known in in_order(&service.destinations, sorted, |known| known.destination.id) {
            let destination = &known.destination;
            table.row(row([
                server(destination.id),
                destination.method.as_ipvsadm().to_owned(),
                tunnel_info(destination),
                destination.weight.to_string(),
                known.persistent_connections.to_string(),
                known.active_connections.to_string(),
                known.inactive_connections.to_string(),
                destination.upper_threshold.to_string(),
                destination.lower_threshold.to_string(),
            ]));
        }
    }
    table
}

/// A table with five numbers a service and server.
fn five_numbers(titles: [&str; 5]) -> Table {
    let number = (Align::Right, 8);
    let mut table = Table::new(&[(Align::Left, 33), number, number, number, number, number]);
    let [a, b, c, d, e] = titles;
    table.cells(["Prot LocalAddress:Port", a, b, c, d, e]);
    table.text("  -> RemoteAddress:Port");
    table
}

fn add_numbers(table: &mut Table, name: String, numbers: [u64; 5], exact: bool) {
    let [a, b, c, d, e] = numbers.map(|number| shown(number, exact));
    table.cells([name, a, b, c, d, e]);
}

fn total_numbers(totals: &TrafficTotals) -> [u64; 5] {
    [
        totals.connections,
        totals.inbound_packets,
        totals.outbound_packets,
        totals.inbound_bytes,
        totals.outbound_bytes,
    ]
}

fn rate_numbers(rates: &Rates) -> [u64; 5] {
    [
        rates.connections,
        rates.inbound_packets,
        rates.outbound_packets,
        rates.inbound_bytes,
        rates.outbound_bytes,
    ]
}

/// `show stats`: `ipvsadm -L --stats`.
pub fn stats(services: &[ServiceStatistics], exact: bool) -> Table {
    let mut table = five_numbers(["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"]);
    for service in services {
        let id = service.service.id;
        let name = format!("{:<4} {}", id.kind(), id.listed());
        add_numbers(&mut table, name, total_numbers(&service.totals), exact);
        for known in in_order(&service.destinations, true, |known| known.destination.id) {
            let numbers = total_numbers(&known.totals);
            add_numbers(&mut table, server(known.destination.id), numbers, exact);
        }
    }
    table
}

/// `show rates`: `ipvsadm -L --rate`.
pub fn rates(reports: &[RateReport], exact: bool) -> Table {
    let mut table = five_numbers(["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"]);
    for report in reports {
        let id = report.service;
        let name = format!("{:<4} {}", id.kind(), id.listed());
        add_numbers(&mut table, name, rate_numbers(&report.rates), exact);
        for (id, rates) in in_order(&report.destinations, true, |(id, _)| *id) {
            add_numbers(&mut table, server(*id), rate_numbers(rates), exact);
        }
    }
    table
}

/// `show settings`: name, value, the kernel's default where it differs, what it does.
pub fn settings(settings: &IpvsSettings, screen: Screen) -> Table {
    const NAME_WIDTH: usize = 26;
    const VALUE_WIDTH: usize = 10;
    let column = |width| (Align::Left, width);
    let mut table = Table::new(&[column(NAME_WIDTH), column(VALUE_WIDTH), column(0)]);
    table.cells(["NAME", "VALUE", "WHAT IT DOES"].map(str::to_owned));
    let width = screen.text_columns() - NAME_WIDTH - VALUE_WIDTH - 2;
    for known in SETTINGS {
        let value = settings.get(known.name);
        let note = match known.fixed {
            Some(why) => format!("fixed: {why}"),
            None if value != known.default => format!("{} [default {}]", known.what, known.default),
            None => known.what.to_owned(),
        };
        let names = std::iter::once((known.name.to_owned(), value.to_string()));
        let names = names.chain(std::iter::repeat(Default::default()));
        for ((name, value), line) in names.zip(wrapped(&note, width)) {
            table.cells([name, value, line]);
        }
    }
    table
}

/// `show schedulers`: each with its flags, its choice, and what that is good for.
pub fn schedulers(screen: Screen) -> Table {
    const NAME_WIDTH: usize = 5;
    let mut table = Table::new(&[(Align::Left, NAME_WIDTH), (Align::Left, 0)]);
    let width = screen.text_columns() - NAME_WIDTH - 1;
    for name in SchedulerName::ALL {
        let flags = match name.flags() {
            [] => String::new(),
            flags => format!("Flags: {}.", flags.join(", ")),
        };
        let purpose = format!("Good for {}.", name.purpose());
        let texts = [name.choice().to_owned(), purpose, flags];
        let lines = texts.iter().flat_map(|text| wrapped(text, width));
        let names = std::iter::once(name.as_str()).chain(std::iter::repeat(""));
        for (name, line) in names.zip(lines) {
            table.cells([name.to_owned(), line]);
        }
    }
    table
}

/// A page of `show connections`: `ipvsadm -Lc`. Only the first page has a header.
pub fn connections(page: &[ConnectionReport], header: bool) -> Table {
    let address = (Align::Left, 18);
    let mut table = Table::new(&[
        (Align::Left, 3),
        (Align::Left, 6),
        (Align::Left, 11),
        address,
        address,
        address,
    ]);
    if header {
        table.cells(["pro", "expire", "state", "source", "virtual", "destination"]);
    }
    for connection in page {
        table.cells([
            connection.protocol_name().to_owned(),
            minutes(connection.expires_s),
            connection.state.clone(),
            connection.client.to_string(),
            connection.virtual_address.to_string(),
            connection.destination.to_string(),
        ]);
    }
    table
}

/// A port of `show drops`: every packet received is in exactly one line.
pub fn drops(report: &DropReport, all: bool, screen: Screen) -> Table {
    let mut lines = Vec::new();
    let shown = report.fates.iter().filter(|fate| all || fate.packets != 0);
    for fate in shown {
        let name = if fate.is_drop {
            format!("dropped: {}", fate.fate)
        } else {
            fate.fate.clone()
        };
        lines.push((fate.packets, name, fate.meaning.clone()));
    }
    if all || report.held != 0 {
        let meaning = "Waits for the MAC address of its next hop.";
        lines.push((report.held, "held".to_owned(), meaning.to_owned()));
    }
    let sum: u64 = report.fates.iter().map(|fate| fate.packets).sum();
    let sum = sum.saturating_add(report.held);
    let verdict = if sum == report.received {
        "All are accounted for.".to_owned()
    } else {
        format!(
            "BUT {} are received: a counter lies, please report it.",
            report.received
        )
    };
    lines.push((sum, "sum".to_owned(), verdict));
    let name_width = lines.iter().map(|(_, name, _)| name.len()).max();
    let name_width = name_width.unwrap_or_default();
    let count_width = sum.to_string().len().max(8);
    let mut table = Table::new(&[(Align::Right, count_width), (Align::Left, 0)]);
    table.text(format!("{}: {} received", report.port, report.received));
    for (packets, name, meaning) in lines {
        // The count, the name, and a blank behind each stand before the meaning.
        let width = screen
            .text_columns()
            .saturating_sub(count_width + name_width + 2);
        let mut meaning = wrapped(&meaning, width).into_iter();
        let first = meaning.next().unwrap_or_default();
        table.cells([packets.to_string(), format!("{name:<name_width$} {first}")]);
        for more in meaning {
            table.cells([String::new(), format!("{:name_width$} {more}", "")]);
        }
    }
    table
}
