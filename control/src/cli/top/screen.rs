//! Draws the screen: what the director does in three lines, the lines of a page, what keys do.

use pollux_api::control::{PortReport, WorkerReport};
use pollux_api::dataplane::MemberStatus;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row as Cells, Table};

use super::app::{App, Page, Row};
use super::columns;
use super::feed::Reading;
use crate::cli::numbers::{percent, short, speed};
use crate::cli::output_director::fill;

/// The smallest screen on which lines make sense.
const WIDTH_MIN: u16 = 60;
const HEIGHT_MIN: u16 = 8;

/// Room for names, if there is any; also for the title above them.
const NAME_WIDTH_MIN: usize = 32;

/// A screen of this many columns has room for what fates mean.
const MEANING_WIDTH: u16 = 120;

/// Workers that have a number each in the head.
const WORKERS_SHOWN: usize = 4;

/// Room for a port's name, so that its numbers stay on the narrowest screen.
const PORT_WIDTH_MAX: usize = 20;

/// Room for a link's speed.
const LINK_WIDTH: u16 = 11;

const TITLE: Style = Style::new().add_modifier(Modifier::BOLD);
const HEAD: Style = Style::new().add_modifier(Modifier::REVERSED);
const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);

/// Draws everything.
pub fn draw(app: &mut App, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        let text = format!("too small: needs {WIDTH_MIN} x {HEIGHT_MIN}; q quits");
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let [head, page, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    match &app.reading {
        Some(reading) => frame.render_widget(Paragraph::new(summary(app, reading)), head),
        None => frame.render_widget(Paragraph::new("Pollux: waiting for polluxd"), head),
    }
    match app.page {
        Page::Services | Page::Servers(_) => draw_rows(app, frame, page),
        Page::Drops => draw_fates(app, frame, page),
        Page::Workers => {
            if let Some(reading) = &app.reading {
                draw_workers(reading, frame, page);
            }
        }
    }
    frame.render_widget(Paragraph::new(bottom(app, area.width)), foot);
}

/// The director as a whole.
fn summary(app: &App, reading: &Reading) -> Vec<Line<'static>> {
    let rates = &reading.director.rates;
    let table = &reading.director.table;
    let drops: Option<u64> = app
        .fates
        .iter()
        .filter(|row| row.fate.is_drop)
        .map(|row| row.a_second)
        .sum();
    let drops = match drops {
        Some(0) => Span::raw("drops 0/s"),
        Some(drops) => Span::styled(format!("drops {}/s", short(drops)), BAD),
        None => Span::raw("drops -/s"),
    };
    let full = fill(table);
    let fill = format!(
        "{} of {} ({})",
        short(table.connections),
        short(table.connections_max.into()),
        percent(full)
    );
    let services = reading.services.len();
    let servers: usize = reading
        .services
        .iter()
        .map(|service| service.destinations.len())
        .sum();
    vec![
        Line::from(vec![
            Span::styled("Pollux", TITLE),
            Span::raw(format!(
                "   services {services}   servers {servers}   connections "
            )),
            Span::styled(fill, if full > 0.9 { BAD } else { Style::new() }),
        ]),
        Line::raw(format!(
            "new {}/s   in {} p/s {} B/s   out {} p/s {} B/s",
            short(rates.connections),
            short(rates.inbound_packets),
            short(rates.inbound_bytes),
            short(rates.outbound_packets),
            short(rates.outbound_bytes),
        )),
        busy(&reading.workers, drops),
    ]
}

/// What is lost, and how busy the workers are: each, or the least, the mean and the most of many.
#[allow(clippy::cast_precision_loss, reason = "as many as there are cores")]
fn busy(workers: &[WorkerReport], drops: Span<'static>) -> Line<'static> {
    let shares: Vec<f64> = workers
        .iter()
        .map(|worker| worker.status.busy_share)
        .collect();
    let most = shares.iter().copied().fold(0.0, f64::max);
    let text = if shares.len() <= WORKERS_SHOWN {
        let each: Vec<String> = shares.iter().map(|share| percent(*share)).collect();
        format!("workers busy {}", each.join("  "))
    } else {
        let least = shares.iter().copied().fold(1.0, f64::min);
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        format!(
            "{} workers, busy {} to {}, mean {}",
            shares.len(),
            percent(least),
            percent(most),
            percent(mean)
        )
    };
    let style = if most > 0.9 { BAD } else { Style::new() };
    Line::from(vec![drops, Span::raw("   "), Span::styled(text, style)])
}

/// Services, or servers of one.
fn draw_rows(app: &mut App, frame: &mut Frame<'_>, area: Rect) {
    let columns: Vec<_> = columns::shown(area.width).collect();
    let taken: u16 = columns.iter().map(|column| column.width + 1).sum();
    let longest = app.rows.iter().map(|row| row.name.chars().count()).max();
    let longest = longest.unwrap_or(0).max(NAME_WIDTH_MIN);
    let (title, kind) = match app.page {
        Page::Servers(id) => (format!("Servers of {id}"), 1),
        _ => ("Service".to_owned(), 0),
    };
    let longest = longest.max(title.chars().count() + 1);
    let room = usize::from(area.width.saturating_sub(taken)).min(longest);
    let heads = columns.iter().map(|column| {
        let title = column.titles.get(kind).copied().unwrap_or_default();
        let mark = if column.order == Some(app.order) {
            "*"
        } else {
            ""
        };
        right(&format!("{mark}{title}"), column.width)
    });
    let mark = if app.order == columns::Order::Name {
        "*"
    } else {
        ""
    };
    let name = Cell::from(format!("{mark}{}", shortened(&title, room)));
    let header = Cells::new(std::iter::once(name).chain(heads)).style(HEAD);
    let lines = app.rows.iter().map(|row| {
        let cells = columns
            .iter()
            .map(|column| right(&(column.cell)(row), column.width));
        let name = Cell::from(shortened(&row.name, room));
        Cells::new(std::iter::once(name).chain(cells)).style(style_of(row))
    });
    let widths = columns
        .iter()
        .map(|column| Constraint::Length(column.width));
    let name_width = u16::try_from(room).unwrap_or(u16::MAX);
    let widths = std::iter::once(Constraint::Length(name_width)).chain(widths);
    let table = Table::new(lines, widths)
        .header(header)
        .row_highlight_style(SELECTED);
    frame.render_stateful_widget(table, area, &mut app.table);
}

/// What serves nobody is told apart.
fn style_of(row: &Row) -> Style {
    match row.weight {
        (0, Some(_)) => BAD,
        (0, None) => DIM,
        _ => Style::new(),
    }
}

fn right(text: &str, width: u16) -> Cell<'static> {
    let width = usize::from(width);
    Cell::from(format!("{text:>width$}"))
}

/// The end of a name that is too long: addresses differ there.
fn shortened(name: &str, room: usize) -> String {
    let length = name.chars().count();
    if length <= room {
        return name.to_owned();
    }
    let end: String = name.chars().skip(length + 1 - room.max(1)).collect();
    format!("…{end}")
}

/// What became of packets.
fn draw_fates(app: &mut App, frame: &mut Frame<'_>, area: Rect) {
    let meaning = area.width >= MEANING_WIDTH;
    let header = Cells::new([
        Cell::from("Port"),
        Cell::from("Fate"),
        right("Packets", 8),
        right("a second", 8),
        Cell::from(if meaning { "Meaning" } else { "" }),
    ])
    .style(HEAD);
    let names = app.fates.iter().map(|row| row.port.as_str());
    let name_width = port_width(names);
    let lines = app.fates.iter().map(|row| {
        let is_now = row.a_second.is_some_and(|rate| rate > 0);
        let style = match (row.fate.is_drop, is_now) {
            (true, true) => BAD,
            _ => Style::new(),
        };
        Cells::new([
            Cell::from(row.port.clone()),
            Cell::from(row.fate.fate.clone()),
            right(&short(row.fate.packets), 8),
            right(&row.a_second.map_or_else(|| "-".to_owned(), short), 8),
            Cell::from(if meaning {
                row.fate.meaning.clone()
            } else {
                String::new()
            }),
        ])
        .style(style)
    });
    let widths = [
        Constraint::Length(name_width),
        Constraint::Length(20),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Fill(1),
    ];
    let table = Table::new(lines, widths)
        .header(header)
        .row_highlight_style(SELECTED);
    frame.render_stateful_widget(table, area, &mut app.table);
}

/// Workers, and below them ports.
fn draw_workers(reading: &Reading, frame: &mut Frame<'_>, area: Rect) {
    let height = u16::try_from(reading.workers.len()).unwrap_or(u16::MAX);
    let [workers, _, ports] = Layout::vertical([
        Constraint::Max(height.saturating_add(1)),
        Constraint::Length(1),
        Constraint::Min(3),
    ])
    .areas(area);
    frame.render_widget(worker_table(&reading.workers), workers);
    frame.render_widget(port_table(&reading.ports), ports);
}

fn worker_table(workers: &[WorkerReport]) -> Table<'static> {
    let titles = [
        "Worker", "Core", "Busy", "PPS", "CPS", "Conns", "Created", "Expired",
    ];
    let header = Cells::new(titles.map(|title| right(title, 8))).style(HEAD);
    let lines = workers.iter().map(|WorkerReport { status, rates }| {
        let cells = [
            status.worker.to_string(),
            status.core.to_string(),
            percent(status.busy_share),
            short(rates.received_packets),
            short(rates.connections),
            short(status.connections),
            short(status.connections_created),
            short(status.connections_expired),
        ];
        let style = if status.busy_share > 0.9 {
            BAD
        } else {
            Style::new()
        };
        Cells::new(cells.map(|cell| right(&cell, 8))).style(style)
    });
    Table::new(lines, [Constraint::Length(8); 8]).header(header)
}

fn port_table(ports: &[PortReport]) -> Table<'static> {
    let titles = ["InPPS", "OutPPS", "InBPS", "OutBPS", "Missed", "Errors"];
    let titles = titles.map(|title| right(title, 7));
    let names = [Cell::from("Port"), Cell::from("Link")];
    let header = Cells::new(names.into_iter().chain(titles)).style(HEAD);
    let lines = ports.iter().flat_map(|port| {
        let members = port.status.members.iter().map(member_line);
        std::iter::once(port_line(port)).chain(members)
    });
    let names = ports.iter().flat_map(|PortReport { status, .. }| {
        let members = status.members.iter().map(member_name);
        std::iter::once(status.name.clone()).chain(members)
    });
    let names = [port_width(names), LINK_WIDTH].map(Constraint::Length);
    let numbers = [Constraint::Length(7); 6];
    Table::new(lines, names.into_iter().chain(numbers)).header(header)
}

fn port_line(PortReport { status, rates }: &PortReport) -> Cells<'static> {
    let link = match (status.link_up, status.speed_mbps) {
        _ if status.gone => "gone".to_owned(),
        (false, _) => "down".to_owned(),
        (true, None) => "up".to_owned(),
        (true, Some(mbps)) => speed(mbps),
    };
    let errors = status.nic.receive_errors + status.nic.send_errors;
    let numbers = [
        rates.received_packets,
        rates.sent_packets,
        rates.received_bytes,
        rates.sent_bytes,
        status.nic.missed_packets,
        errors,
    ];
    let names = [Cell::from(status.name.clone()), Cell::from(link)];
    let numbers = numbers.map(|number| right(&short(number), 7));
    let style = if status.link_up { Style::new() } else { BAD };
    Cells::new(names.into_iter().chain(numbers)).style(style)
}

/// Below the port that it is part of.
fn member_line(member: &MemberStatus) -> Cells<'static> {
    let link = match (member.link_up, member.carries) {
        _ if member.gone => "gone",
        (false, _) => "down",
        (true, false) => "up",
        (true, true) => "up, carries",
    };
    let style = if member.link_up { Style::new() } else { BAD };
    Cells::new([Cell::from(member_name(member)), Cell::from(link)]).style(style)
}

/// Without what a driver is told.
fn member_name(member: &MemberStatus) -> String {
    let device = member.device.split(',').next().unwrap_or_default();
    format!("  {device}")
}

/// What the longest name of a port takes: 15 at most, as of any interface of Linux, or more with members of bonds.
fn port_width<N: AsRef<str>>(names: impl Iterator<Item = N>) -> u16 {
    let longest = names.map(|name| name.as_ref().chars().count()).max();
    u16::try_from(longest.unwrap_or(0).clamp(8, PORT_WIDTH_MAX)).unwrap_or(u16::MAX)
}

/// A question, news, or what the keys do.
fn bottom(app: &App, width: u16) -> Line<'static> {
    if let Some(drain) = app.question {
        let text = format!(
            "Drain {} (weight 0, connections go on)? y or n",
            drain.server
        );
        return Line::styled(text, BAD);
    }
    if let Some(message) = &app.message {
        return Line::styled(message.clone(), TITLE);
    }
    if app.page == Page::Drops
        && width < MEANING_WIDTH
        && let Some(row) = app.table.selected().and_then(|at| app.fates.get(at))
    {
        return Line::raw(row.fate.meaning.clone());
    }
    let text = match app.page {
        Page::Services => "1 services 2 drops 3 workers  s sort r reverse  Enter servers  q quit",
        Page::Servers(_) => "Esc services  s sort r reverse  d drain  q quit",
        Page::Drops | Page::Workers => "1 services 2 drops 3 workers  q quit",
    };
    Line::styled(text, DIM)
}
