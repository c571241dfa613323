//! The columns of services and servers: as many as the screen has room for, and in which order the lines are.

use std::cmp::Reverse;

use pollux_api::statistics::Rates;

use super::app::Row;
use crate::cli::numbers::short;

/// In which order the lines are; all but the name with the largest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Connections a second.
    #[default]
    Connections,
    /// Packets a second from clients.
    Packets,
    /// Bytes a second, both ways.
    Bytes,
    /// Active connections.
    Active,
    /// As in listings.
    Name,
}

/// A column of numbers.
pub struct Column {
    /// Its title for services and for servers.
    pub titles: [&'static str; 2],
    /// Its width.
    pub width: u16,
    /// Only on wide screens.
    wide: bool,
    /// The order that it shows.
    pub order: Option<Order>,
    /// What is in it.
    pub cell: fn(&Row) -> String,
}

/// A screen of this many columns has room for everything.
const WIDE: u16 = 120;

const fn column(
    title: &'static str,
    wide: bool,
    order: Option<Order>,
    cell: fn(&Row) -> String,
) -> Column {
    Column {
        titles: [title, title],
        width: 7,
        wide,
        order,
        cell,
    }
}

const COLUMNS: [Column; 10] = [
    Column {
        titles: ["Sched", "Method"],
        ..column("", true, None, |row| row.about.clone())
    },
    Column {
        titles: ["Serving", "Weight"],
        ..column("", false, None, |row| match row.weight {
            (serving, Some(all)) => format!("{serving}/{all}"),
            (weight, None) => short(weight),
        })
    },
    column("CPS", false, Some(Order::Connections), |row| {
        short(row.rates.connections)
    }),
    column("InPPS", false, Some(Order::Packets), |row| {
        short(row.rates.inbound_packets)
    }),
    column("OutPPS", true, None, |row| {
        short(row.rates.outbound_packets)
    }),
    column("InBPS", false, Some(Order::Bytes), |row| {
        short(row.rates.inbound_bytes)
    }),
    column("OutBPS", false, None, |row| short(row.rates.outbound_bytes)),
    column("Active", false, Some(Order::Active), |row| {
        short(row.active)
    }),
    column("InAct", true, None, |row| short(row.inactive)),
    column("Conns", true, None, |row| short(row.connections)),
];

/// The columns behind the name on a screen of this width.
pub fn shown(width: u16) -> impl Iterator<Item = &'static Column> {
    COLUMNS
        .iter()
        .filter(move |column| !column.wide || width >= WIDE)
}

impl Order {
    /// The next one.
    pub fn next(self) -> Self {
        match self {
            Self::Connections => Self::Packets,
            Self::Packets => Self::Bytes,
            Self::Bytes => Self::Active,
            Self::Active => Self::Name,
            Self::Name => Self::Connections,
        }
    }

    /// Sorts; what is alike stays in the order of the configuration.
    pub fn sort(self, rows: &mut [Row]) {
        match self {
            Self::Connections => rows.sort_by_key(|row| Reverse(row.rates.connections)),
            Self::Packets => rows.sort_by_key(|row| Reverse(row.rates.inbound_packets)),
            Self::Bytes => rows.sort_by_key(|row| {
                let Rates {
                    inbound_bytes,
                    outbound_bytes,
                    ..
                } = row.rates;
                Reverse(inbound_bytes.saturating_add(outbound_bytes))
            }),
            Self::Active => rows.sort_by_key(|row| Reverse(row.active)),
            Self::Name => rows.sort_by(|a, b| a.name.cmp(&b.name)),
        }
    }
}
