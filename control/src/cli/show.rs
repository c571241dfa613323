//! `pollux show`: asks, picks what was asked for, prints.

use std::collections::BTreeMap;
use std::io::Write;

use pollux_api::configuration::ChangeError;
use pollux_api::control::{Answer, Command};
use pollux_api::dataplane::{ConnectionPage, ConnectionQuery, ConnectionReport};
use pollux_api::ipvs_settings::SETTINGS;
use pollux_api::statistics::{RateReport, ServiceStatistics};
use pollux_api::{SchedulerName, ServiceId};
use serde_json::json;

use super::arguments::View;
use super::connection::Connection;
use super::{
    CliError, Session, output_director, output_health, output_json, output_ports, output_sync,
    output_table,
};
use crate::config::write;

/// Connections asked for at once: few enough that polluxd and the data plane have time for others in between.
const PAGE_CONNECTIONS: u32 = 4096;

impl<W: Write> Session<'_, W> {
    pub(super) fn show(&mut self, view: View) -> Result<(), CliError> {
        let screen = self.screen;
        match view {
            View::Services { service, nosort } => {
                let services = self.services(service.id())?;
                self.print(&services, |services| {
                    output_table::services(services, !nosort).shown(screen)
                })
            }
            View::Stats { service, exact } => {
                let services = self.services(service.id())?;
                self.print(&services, |services| {
                    output_table::stats(services, exact).shown(screen)
                })
            }
            View::Rates { service, exact } => {
                let rates = self.rates(service.id())?;
                self.print(&rates, |rates| {
                    output_table::rates(rates, exact).shown(screen)
                })
            }
            View::Director { exact } => {
                let Answer::Director(director) = self.ask(Command::ShowDirector)? else {
                    return Err(CliError::Unexpected);
                };
                self.print(&director, |director| {
                    output_director::director(director, exact, screen)
                })
            }
            View::Connections { service } => self.connections(service.id()),
            View::Ports { extended } => {
                let Answer::Ports(ports) = self.ask(Command::ShowPorts)? else {
                    return Err(CliError::Unexpected);
                };
                self.print(&ports, |ports| {
                    blocks(ports.iter().map(|port| output_ports::port(port, extended)))
                })
            }
            View::Workers => {
                let Answer::Workers(workers) = self.ask(Command::ShowWorkers)? else {
                    return Err(CliError::Unexpected);
                };
                self.print(&workers, |workers| {
                    output_ports::workers(workers).shown(screen)
                })
            }
            View::Drops { all } => {
                let Answer::Drops(drops) = self.ask(Command::ShowDrops)? else {
                    return Err(CliError::Unexpected);
                };
                self.print(&drops, |drops| {
                    blocks(
                        drops
                            .iter()
                            .map(|report| output_table::drops(report, all, screen)),
                    )
                })
            }
            View::Health { service } => {
                let Answer::Health(servers) = self.ask(Command::ShowHealth)? else {
                    return Err(CliError::Unexpected);
                };
                let Answer::ServiceHealth(services) = self.ask(Command::ShowServiceHealth)? else {
                    return Err(CliError::Unexpected);
                };
                let wanted = service.id();
                let servers: Vec<_> = servers
                    .into_iter()
                    .filter(|server| wanted.is_none_or(|id| server.service == id))
                    .collect();
                self.must_be_known(wanted, servers.is_empty())?;
                self.print(&servers, |servers| {
                    output_health::health(&services, servers).shown(screen)
                })
            }
            View::Quorums { service } => {
                let Answer::ServiceHealth(services) = self.ask(Command::ShowServiceHealth)? else {
                    return Err(CliError::Unexpected);
                };
                let wanted = service.id();
                let services: Vec<_> = services
                    .into_iter()
                    .filter(|known| wanted.is_none_or(|id| known.service == id))
                    .collect();
                self.must_be_known(wanted, services.is_empty())?;
                self.print(&services, |services| {
                    output_health::quorums(services).shown(screen)
                })
            }
            View::Sync { exact } => {
                let Answer::Sync(status) = self.ask(Command::ShowSync)? else {
                    return Err(CliError::Unexpected);
                };
                self.print(&status, |status| output_sync::sync(status, exact))
            }
            View::Schedulers => {
                let schedulers = SchedulerName::ALL.map(|name| {
                    json!({
                        "name": name,
                        "choice": name.choice(),
                        "good_for": name.purpose(),
                        "flags": name.flags(),
                    })
                });
                self.print(&schedulers, |_| {
                    output_table::schedulers(screen).to_string()
                })
            }
            View::Settings => {
                let settings = self.configuration()?.settings;
                if self.json {
                    let all: BTreeMap<&str, u32> = SETTINGS
                        .iter()
                        .map(|known| (known.name, settings.get(known.name)))
                        .collect();
                    return output_json::pretty(self.out, &all);
                }
                self.print(&settings, |settings| {
                    output_table::settings(settings, screen).to_string()
                })
            }
            View::Configuration => {
                let configuration = self.configuration()?;
                self.print(&configuration, write::to_text)
            }
        }
    }

    fn print<T: serde::Serialize>(
        &mut self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        if self.json {
            return output_json::pretty(self.out, value);
        }
        self.out.write_all(table(value).as_bytes())?;
        Ok(())
    }

    /// Of a service nothing was found: because there is none?
    fn must_be_known(
        &self,
        wanted: Option<ServiceId>,
        found_nothing: bool,
    ) -> Result<(), CliError> {
        let Some(id) = wanted.filter(|_| found_nothing) else {
            return Ok(());
        };
        let services = self.configuration()?.services;
        if services.iter().any(|entry| entry.service.id == id) {
            return Ok(());
        }
        Err(CliError::Refused(ChangeError::NoService(id).into()))
    }

    fn services(&self, wanted: Option<ServiceId>) -> Result<Vec<ServiceStatistics>, CliError> {
        let Answer::Services(services) = self.ask(Command::ShowServices)? else {
            return Err(CliError::Unexpected);
        };
        only(wanted, services, |service| service.service.id)
    }

    fn rates(&self, wanted: Option<ServiceId>) -> Result<Vec<RateReport>, CliError> {
        let Answer::Rates(rates) = self.ask(Command::ShowRates)? else {
            return Err(CliError::Unexpected);
        };
        only(wanted, rates, |report| report.service)
    }

    /// Walks the table page by page and prints as it goes: it may have millions of entries.
    fn connections(&mut self, wanted: Option<ServiceId>) -> Result<(), CliError> {
        let mut polluxd = Connection::open(&self.directory)?;
        let is_wanted =
            |connection: &ConnectionReport| wanted.is_none_or(|id| connection.service == Some(id));
        let mut array = output_json::Array::default();
        let mut start = Some(0);
        let mut first = true;
        while let Some(at) = start {
            let query = ConnectionQuery {
                start: at,
                limit: PAGE_CONNECTIONS,
            };
            let Answer::Connections(ConnectionPage {
                mut connections,
                next,
            }) = polluxd.ask(Command::ShowConnections(query))?
            else {
                return Err(CliError::Unexpected);
            };
            connections.retain(is_wanted);
            if self.json {
                for connection in &connections {
                    array.push(self.out, connection)?;
                }
            } else {
                write!(
                    self.out,
                    "{}",
                    output_table::connections(&connections, first).shown(self.screen)
                )?;
            }
            first = false;
            // A page that leads nowhere new would be walked for ever.
            start = next.filter(|next| *next > at);
        }
        if self.json {
            array.end(self.out)?;
        }
        Ok(())
    }
}

/// The wanted one of some services; all when none is named.
fn only<T>(
    wanted: Option<ServiceId>,
    mut all: Vec<T>,
    id: impl Fn(&T) -> ServiceId,
) -> Result<Vec<T>, CliError> {
    let Some(wanted) = wanted else {
        return Ok(all);
    };
    all.retain(|one| id(one) == wanted);
    if all.is_empty() {
        return Err(CliError::Refused(ChangeError::NoService(wanted).into()));
    }
    Ok(all)
}

/// Tables one under the other, a blank line between.
fn blocks(tables: impl Iterator<Item = super::table::Table>) -> String {
    tables
        .map(|table| table.to_string())
        .collect::<Vec<_>>()
        .join("\n")
}
