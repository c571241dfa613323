//! What is on the screen and what keys do to it; no terminal.

use std::collections::HashMap;
use std::time::Duration;

use pollux_api::statistics::{FateCount, RateReport, Rates, ServiceStatistics};
use pollux_api::{DestinationId, ServiceId};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::widgets::TableState;

use super::columns::Order;
use super::feed::Reading;

/// Lines that PageUp and PageDown move by.
const PAGE_LINES: isize = 10;

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Page {
    /// All services.
    #[default]
    Services,
    /// The servers of one.
    Servers(ServiceId),
    /// What became of packets.
    Drops,
    /// Workers and ports.
    Workers,
}

/// What a line is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A service.
    Service(ServiceId),
    /// A server of the service that is open.
    Server(DestinationId),
}

/// A service or a server.
#[derive(Debug, Clone)]
pub struct Row {
    /// Which.
    pub key: Key,
    /// Its name.
    pub name: String,
    /// Scheduler or method.
    pub about: String,
    /// Servers with a weight and servers in all, or its weight.
    pub weight: (u64, Option<u64>),
    /// Its rates.
    pub rates: Rates,
    /// Connections in an active state.
    pub active: u64,
    /// Connections in other states.
    pub inactive: u64,
    /// Connections since start.
    pub connections: u64,
}

/// A fate of a port, with its rate since the reading before.
#[derive(Debug, Clone)]
pub struct FateRow {
    /// The port.
    pub port: String,
    /// The fate.
    pub fate: FateCount,
    /// Packets a second; none in the first reading.
    pub a_second: Option<u64>,
}

/// A server to be drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// Of which service.
    pub service: ServiceId,
    /// Which.
    pub server: DestinationId,
}

/// What the terminal is to do after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Draw again.
    Nothing,
    /// End.
    Quit,
    /// Drain a server.
    Drain(Drain),
}

/// The program's state.
#[derive(Debug, Default)]
pub struct App {
    /// What is shown.
    pub page: Page,
    /// In which order.
    pub order: Order,
    /// The smallest first.
    pub reversed: bool,
    /// Asked and not answered yet.
    pub question: Option<Drain>,
    /// The last thing that is to be said.
    pub message: Option<String>,
    /// The last reading.
    pub reading: Option<Reading>,
    /// Lines of the page, in order.
    pub rows: Vec<Row>,
    /// What became of packets, drops first, the most frequent first.
    pub fates: Vec<FateRow>,
    /// Selected line, and the first one on the screen.
    pub table: TableState,
    /// The selected one stays selected where it goes.
    selected: Option<Key>,
}

impl App {
    /// Takes a reading.
    pub fn update(&mut self, reading: Reading) {
        self.fates = fates(&reading, self.reading.as_ref());
        self.reading = Some(reading);
        self.message = None;
        if let Page::Servers(service) = self.page
            && self.opened(service).is_none()
        {
            self.message = Some(format!("service {service} is gone"));
            self.go(Page::Services);
        }
        self.sort();
    }

    /// Says something below the lines until there is news.
    pub fn say(&mut self, message: String) {
        self.message = Some(message);
    }

    /// Does what a key is for.
    pub fn press(&mut self, key: KeyEvent) -> Action {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Action::Quit;
        }
        if let Some(drain) = self.question.take() {
            // Anything but a clear yes is a no.
            let is_yes = matches!(key.code, KeyCode::Char('y' | 'Y'));
            self.message = (!is_yes).then(|| "not drained".to_owned());
            return if is_yes {
                Action::Drain(drain)
            } else {
                Action::Nothing
            };
        }
        match key.code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Char('1') => self.go(Page::Services),
            KeyCode::Char('2') => self.go(Page::Drops),
            KeyCode::Char('3') => self.go(Page::Workers),
            KeyCode::Tab => self.go(match self.page {
                Page::Services | Page::Servers(_) => Page::Drops,
                Page::Drops => Page::Workers,
                Page::Workers => Page::Services,
            }),
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Up | KeyCode::Char('k') => self.move_by(-1),
            KeyCode::Down | KeyCode::Char('j') => self.move_by(1),
            KeyCode::PageUp => self.move_by(-PAGE_LINES),
            KeyCode::PageDown => self.move_by(PAGE_LINES),
            KeyCode::Home => self.move_by(isize::MIN),
            KeyCode::End => self.move_by(isize::MAX),
            KeyCode::Enter | KeyCode::Right => {
                if let (Page::Services, Some(Key::Service(id))) = (self.page, self.selected) {
                    self.go(Page::Servers(id));
                }
            }
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => {
                if let Page::Servers(id) = self.page {
                    self.go(Page::Services);
                    self.selected = Some(Key::Service(id));
                }
            }
            KeyCode::Char('d') => {
                if let (Page::Servers(service), Some(Key::Server(server))) =
                    (self.page, self.selected)
                {
                    self.question = Some(Drain { service, server });
                } else {
                    self.message = Some("open a service and choose the server to drain".to_owned());
                }
            }
            _ => {}
        }
        self.sort();
        Action::Nothing
    }

    fn go(&mut self, page: Page) {
        if self.page != page {
            self.page = page;
            self.selected = None;
            self.table = TableState::default();
        }
    }

    fn opened(&self, id: ServiceId) -> Option<(&ServiceStatistics, Option<&RateReport>)> {
        let reading = self.reading.as_ref()?;
        let found = reading
            .services
            .iter()
            .find(|known| known.service.id == id)?;
        Some((
            found,
            reading.rates.iter().find(|rates| rates.service == id),
        ))
    }

    /// Makes the page's lines and finds the selected one among them.
    fn sort(&mut self) {
        let mut rows = match (self.page, &self.reading) {
            (Page::Services, Some(reading)) => services(reading),
            (Page::Servers(id), _) => self
                .opened(id)
                .map(|(service, rates)| servers(service, rates))
                .unwrap_or_default(),
            _ => Vec::new(),
        };
        self.order.sort(&mut rows);
        if self.reversed {
            rows.reverse();
        }
        self.rows = rows;
        if self.page == Page::Drops {
            // Fates have no order to choose: the place stays.
            return self.move_by(0);
        }
        let index = self
            .selected
            .and_then(|key| self.rows.iter().position(|row| row.key == key));
        self.select(index.unwrap_or(0));
    }

    fn move_by(&mut self, lines: isize) {
        let last = match self.page {
            Page::Drops => self.fates.len(),
            _ => self.rows.len(),
        };
        let now = self.table.selected().unwrap_or(0);
        let to = now.saturating_add_signed(lines).min(last.saturating_sub(1));
        self.select(to);
    }

    fn select(&mut self, index: usize) {
        if self.page == Page::Drops {
            self.table.select(Some(index));
            return;
        }
        let row = self.rows.get(index);
        self.selected = row.map(|row| row.key);
        self.table.select(row.map(|_| index));
    }
}

fn services(reading: &Reading) -> Vec<Row> {
    let rates: HashMap<ServiceId, Rates> = reading
        .rates
        .iter()
        .map(|report| (report.service, report.rates))
        .collect();
    let rows = reading.services.iter().map(|service| {
        let servers = &service.destinations;
        let serving = servers
            .iter()
            .filter(|server| server.destination.weight.get() != 0);
        let sum = |count: fn(&pollux_api::statistics::DestinationStatistics) -> u32| {
            servers.iter().map(|server| u64::from(count(server))).sum()
        };
        let id = service.service.id;
        Row {
            key: Key::Service(id),
            name: id.to_string(),
            about: service.service.scheduler.to_string(),
            weight: (serving.count() as u64, Some(servers.len() as u64)),
            rates: rates.get(&id).copied().unwrap_or_default(),
            active: sum(|server| server.active_connections),
            inactive: sum(|server| server.inactive_connections),
            connections: service.totals.connections,
        }
    });
    rows.collect()
}

fn servers(service: &ServiceStatistics, rates: Option<&RateReport>) -> Vec<Row> {
    let rates: HashMap<DestinationId, Rates> = rates
        .map(|report| report.destinations.iter().copied().collect())
        .unwrap_or_default();
    let rows = service.destinations.iter().map(|server| {
        let id = server.destination.id;
        Row {
            key: Key::Server(id),
            name: id.to_string(),
            about: server.destination.method.to_string(),
            weight: (server.destination.weight.get().into(), None),
            rates: rates.get(&id).copied().unwrap_or_default(),
            active: server.active_connections.into(),
            inactive: server.inactive_connections.into(),
            connections: server.totals.connections,
        }
    });
    rows.collect()
}

fn fates(reading: &Reading, before: Option<&Reading>) -> Vec<FateRow> {
    let elapsed = before.map(|before| reading.at.duration_since(before.at));
    let mut rows = Vec::new();
    for report in &reading.drops {
        let before =
            before.and_then(|before| before.drops.iter().find(|known| known.port == report.port));
        for fate in report.fates.iter().filter(|fate| fate.packets != 0) {
            let count = before.map(|before| {
                let known = before.fates.iter().find(|known| known.fate == fate.fate);
                known.map_or(0, |known| known.packets)
            });
            rows.push(FateRow {
                port: report.port.clone(),
                fate: fate.clone(),
                a_second: count
                    .zip(elapsed)
                    .map(|(count, elapsed)| rate(fate.packets.saturating_sub(count), elapsed)),
            });
        }
    }
    rows.sort_by_key(|row| {
        let rate = row.a_second.unwrap_or(0);
        std::cmp::Reverse((row.fate.is_drop, rate, row.fate.packets))
    });
    rows
}

fn rate(packets: u64, elapsed: Duration) -> u64 {
    let milliseconds = elapsed.as_millis().max(1);
    u64::try_from(u128::from(packets) * 1000 / milliseconds).unwrap_or(u64::MAX)
}
