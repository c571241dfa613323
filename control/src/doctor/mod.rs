//! `pollux doctor`: looks at this machine and says what keeps Pollux from forwarding, or from doing it fast, and what to type.
//!
//! ```text
//! settings, services ─┐
//! host (/sys, /proc) ─┼─► exception_path, huge_pages, devices, cores, queues, addresses, neighbours, daemons, boot, services, checks ──► findings
//! polluxd's answers ──┘
//! ```
//!
//! Each part is a function of a [`Patient`], so that each finding has a test with a machine that was made up.

mod addresses;
mod boot;
mod checks;
mod cores;
mod daemons;
mod devices;
mod exception_path;
mod huge_pages;
mod neighbours;
mod queues;
mod services;

use std::collections::BTreeSet;
use std::net::IpAddr;

use pollux_api::bond::Bond;
use pollux_api::dataplane::{PortStatus, WorkerStatus};
use pollux_api::{Configuration, DataplaneSettings, Destination, ServiceId};
use serde::Serialize;

use crate::host::Root;
use crate::host::appliance;
use crate::host::cpus::Cpus;
use crate::host::pci;

/// What is looked at.
#[derive(Debug)]
pub struct Patient {
    /// The machine.
    pub root: Root,
    /// How the data plane is, or will be, started.
    pub settings: DataplaneSettings,
    /// The services: those that run, or those of the file.
    pub configuration: Configuration,
    /// What the daemons say.
    pub daemons: Daemons,
}

/// What the daemons say of themselves.
#[derive(Debug, Default)]
pub struct Daemons {
    /// Why polluxd could not be asked, with what to do about it; none when it answers.
    pub polluxd: Option<String>,
    /// Why the data plane could not be asked; none when it answers, or polluxd does not.
    pub dataplane: Option<String>,
    /// Whether there is a socket for unmodified IPVS tools.
    pub ipvs_socket: bool,
    /// The ports.
    pub ports: Vec<PortStatus>,
    /// The workers.
    pub workers: Vec<WorkerStatus>,
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Packets are lost, or the start fails.
    Wrong,
    /// It works, and could work better.
    Advice,
    /// As it should be.
    Fine,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What it is about: `huge pages`, `devices`, ...
    pub about: &'static str,
    /// What is so.
    pub text: String,
    /// What to type, or to write, line by line.
    pub mend: Vec<String>,
}

impl Finding {
    fn new(level: Level, about: &'static str, text: impl Into<String>) -> Self {
        Self {
            level,
            about,
            text: text.into(),
            mend: Vec::new(),
        }
    }

    fn wrong(about: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Wrong, about, text)
    }

    fn advice(about: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Advice, about, text)
    }

    fn fine(about: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Fine, about, text)
    }

    fn mend(mut self, line: impl Into<String>) -> Self {
        self.mend.push(line.into());
        self
    }
}

/// Looks at everything.
pub fn examine(patient: &Patient) -> Vec<Finding> {
    let parts: [fn(&Patient) -> Vec<Finding>; 11] = [
        daemons::examine,
        exception_path::examine,
        huge_pages::examine,
        devices::examine,
        cores::examine,
        queues::examine,
        addresses::examine,
        neighbours::examine,
        services::examine,
        checks::examine,
        boot::examine,
    ];
    parts.iter().flat_map(|part| part(patient)).collect()
}

impl Patient {
    /// The cores of the workers.
    fn workers(&self, cpus: &Cpus) -> Vec<u16> {
        self.settings
            .cores
            .clone()
            .unwrap_or_else(|| cpus.default_workers(&self.nodes()))
    }

    /// The NUMA nodes of the ports' devices, those of a bond's members each; none of one that has none.
    fn nodes(&self) -> Vec<Option<u16>> {
        let ports = self.settings.ports.iter();
        let devices = ports.flat_map(|port| Bond::devices(&port.device));
        devices
            .map(|device| pci::node_of(&self.root, &device))
            .collect()
    }

    /// Whether any port is a NIC that DPDK has for itself.
    fn has_nics(&self) -> bool {
        let mut ports = self.settings.ports.iter();
        ports.any(|port| pci::address(&port.device).is_some())
    }

    /// `pollux setup` for the ports' NICs, and for more.
    fn setup(&self, more: &[&str]) -> String {
        if more.is_empty() && appliance::is(&self.root) {
            return appliance::SET_UP.to_owned();
        }
        let mut words = vec!["pollux setup".to_owned()];
        if !more.is_empty() {
            let ports = self.settings.ports.iter();
            words.extend(ports.filter_map(|port| pci::address(&port.device)));
            words.extend(more.iter().map(|address| (*address).to_owned()));
        }
        words.join(" ")
    }

    /// The names of the ports, which are those of their TAPs: as they run, else as they are configured.
    fn port_names(&self) -> Vec<&str> {
        if self.daemons.ports.is_empty() {
            return self
                .settings
                .ports
                .iter()
                .map(|port| port.name.as_str())
                .collect();
        }
        self.daemons
            .ports
            .iter()
            .map(|port| port.name.as_str())
            .collect()
    }

    /// Every server with its service, sorry servers among them.
    fn servers(&self) -> impl Iterator<Item = (ServiceId, &Destination)> {
        let services = self.configuration.services.iter();
        services.flat_map(|entry| {
            let servers = self.configuration.servers_and_sorry_server(entry);
            servers.map(|server| (entry.service.id, server))
        })
    }

    /// The virtual addresses of all services.
    fn virtual_addresses(&self) -> BTreeSet<IpAddr> {
        let services = self.configuration.services.iter();
        services
            .filter_map(|entry| match entry.service.id {
                ServiceId::Address(id) => Some(id.endpoint.address()),
                ServiceId::Fwmark(_) => None,
            })
            .collect()
    }

    /// A number below `/proc/sys/net/ipv4/conf`: the larger one of all interfaces' and of this one's, as the kernel reads it.
    fn ipv4_conf(&self, interface: &str, name: &str) -> u32 {
        let of = |interface: &str| {
            let path = format!("proc/sys/net/ipv4/conf/{interface}/{name}");
            self.root.value(&path).unwrap_or(0)
        };
        u32::max(of("all"), of(interface))
    }
}

#[cfg(test)]
mod tests;
