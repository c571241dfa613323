//! Names for completion: those of services and servers that run, of settings, of schedulers.

use std::collections::BTreeSet;
use std::io::Write;

use clap::ValueEnum;
use pollux_api::ipvs_settings::SETTINGS;
use pollux_api::{Protocol, SchedulerName, ServiceId};

use super::{CliError, Session};

/// What is to be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NameKind {
    /// TCP services.
    Tcp,
    /// UDP services.
    Udp,
    /// SCTP services.
    Sctp,
    /// Firewall marks of services.
    Fwmark,
    /// Servers, of one service or of all.
    Server,
    /// Settings of IPVS, ready for a value.
    Setting,
    /// Schedulers.
    Scheduler,
}

impl<W: Write> Session<'_, W> {
    /// A name a line.
    pub(super) fn names(
        &mut self,
        kind: NameKind,
        service: Option<ServiceId>,
    ) -> Result<(), CliError> {
        let names: BTreeSet<String> = match kind {
            NameKind::Setting => SETTINGS
                .iter()
                .map(|known| format!("{}=", known.name))
                .collect(),
            NameKind::Scheduler => SchedulerName::ALL
                .iter()
                .map(|name| name.as_str().to_owned())
                .collect(),
            NameKind::Server => {
                let services = self.configuration()?.services;
                services
                    .iter()
                    .filter(|entry| service.is_none_or(|id| entry.service.id == id))
                    .flat_map(|entry| &entry.destinations)
                    .map(|server| server.id.to_string())
                    .collect()
            }
            NameKind::Tcp | NameKind::Udp | NameKind::Sctp | NameKind::Fwmark => {
                let services = self.configuration()?.services;
                services
                    .iter()
                    .filter_map(|entry| name(kind, entry.service.id))
                    .collect()
            }
        };
        for name in names {
            writeln!(self.out, "{name}")?;
        }
        Ok(())
    }
}

/// A service as the option for its kind takes it; none when it is of another.
fn name(kind: NameKind, service: ServiceId) -> Option<String> {
    match service {
        ServiceId::Fwmark(id) => (kind == NameKind::Fwmark).then(|| id.fwmark.to_string()),
        ServiceId::Address(id) => {
            let of = match id.protocol {
                Protocol::Tcp => NameKind::Tcp,
                Protocol::Udp => NameKind::Udp,
                Protocol::Sctp => NameKind::Sctp,
            };
            (kind == of).then(|| id.endpoint.to_string())
        }
    }
}
