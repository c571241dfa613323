//! `show director`: all services together, and how full the connection table is.

use pollux_api::control::DirectorReport;
use pollux_api::dataplane::TableStatus;
use pollux_api::statistics::{Rates, TrafficTotals};

use super::numbers::{percent, shown};
use super::screen::Screen;
use super::table::{Align, Table};

/// Totals and rates in two lines, then the table and its connections by state.
pub fn director(report: &DirectorReport, exact: bool, screen: Screen) -> String {
    let number = (Align::Right, 13);
    let mut traffic = Table::new(&[(Align::Left, 9), number, number, number, number, number]);
    traffic.cells([
        "",
        "connections",
        "in packets",
        "out packets",
        "in bytes",
        "out bytes",
    ]);
    let TrafficTotals {
        connections,
        inbound_packets,
        outbound_packets,
        inbound_bytes,
        outbound_bytes,
    } = report.totals;
    let totals = [
        connections,
        inbound_packets,
        outbound_packets,
        inbound_bytes,
        outbound_bytes,
    ];
    let Rates {
        connections,
        inbound_packets,
        outbound_packets,
        inbound_bytes,
        outbound_bytes,
    } = report.rates;
    let rates = [
        connections,
        inbound_packets,
        outbound_packets,
        inbound_bytes,
        outbound_bytes,
    ];
    for (title, numbers) in [("total", totals), ("a second", rates)] {
        let [a, b, c, d, e] = numbers.map(|number| shown(number, exact));
        traffic.cells([title.to_owned(), a, b, c, d, e]);
    }
    let traffic = traffic.shown(screen);
    format!("{traffic}\n{}", states(&report.table, exact))
}

/// The share of entries in use, 0 to 1.
#[allow(clippy::cast_precision_loss, reason = "a share needs no 64 bits")]
pub fn fill(table: &TableStatus) -> f64 {
    table.connections as f64 / f64::from(table.connections_max.max(1))
}

fn states(table: &TableStatus, exact: bool) -> Table {
    let mut lines = Table::new(&[(Align::Right, 13), (Align::Left, 0)]);
    lines.text(format!(
        "Connection table: {} of {} entries in use ({})",
        table.connections,
        table.connections_max,
        percent(fill(table))
    ));
    lines.text(format!(
        "With room for IPv6: {} of {}",
        table.connections_ipv6, table.connections_max_ipv6
    ));
    for state in table.states.iter().filter(|state| state.connections != 0) {
        let number = shown(state.connections, exact);
        lines.cells([number, format!("{} {}", state.kind, state.state)]);
    }
    if table.evicted != 0 || table.forwarded_without_entry != 0 {
        lines.text("Because it was full, since start:");
        lines.cells([
            shown(table.evicted, exact),
            "unestablished connections ended early to make room".to_owned(),
        ]);
        lines.cells([
            shown(table.forwarded_without_entry, exact),
            "packets forwarded without an entry".to_owned(),
        ]);
    }
    lines
}
