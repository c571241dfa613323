//! The administrator's side: services and servers with their numbers, and the trash where removed servers wait for
//! their connections to end or for their own return.

use std::net::SocketAddr;
use std::sync::Arc;

use pollux_engine::IpvsSettings;
use pollux_engine::SnapshotSpec;
use pollux_engine::clock::{Tick, seconds};
use pollux_engine::connection::{Family, State, Timeouts};
use pollux_engine::service::{DestinationSpec, MarkRule, ServiceIdentity, ServiceSpec};
use pollux_engine::synchronisation::Backup;

use super::command::{Change, ServerOptions};
use super::synchronisation::{Daemon, Role};

/// A removed server without connections is forgotten after this time, as in Linux.
const TRASH_SECONDS: u32 = 120;

/// Why a change was refused: the kernel refuses it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A timeout that Linux cannot count.
    TimeoutTooLarge,
    /// "Service already exists".
    ServiceExists,
    /// "No such service".
    NoService,
    /// "Destination already exists".
    DestinationExists,
    /// "No such destination".
    NoDestination,
    /// "Daemon has already run".
    DaemonRuns,
    /// "No daemon is running".
    NoDaemon,
    /// "No such device".
    NoInterface,
    /// Of a server of another family while a daemon runs, or the other way round.
    MixedFamilies,
}

/// A server and the service that it counts for.
#[derive(Debug, Clone, Copy)]
pub struct Placed<'a> {
    /// Its number.
    pub number: u32,
    /// None when it is gone.
    pub service: Option<&'a ServiceSpec>,
    /// Whether the server is not in the trash.
    pub is_listed: bool,
}

#[derive(Debug, Clone)]
struct Removed {
    service: ServiceIdentity,
    destination: DestinationSpec,
    idle_since: Option<Tick>,
}

/// The configuration and its history.
#[derive(Debug, Default, Clone)]
pub struct Administrator {
    services: Vec<ServiceSpec>,
    trash: Vec<Removed>,
    timeouts: Timeouts,
    settings: IpvsSettings,
    marks: Vec<MarkRule>,
    /// The master and the backup.
    daemons: [Option<Daemon>; 2],
    next_service: u32,
    next_destination: u32,
    /// Servers in the trash whose service is gone too.
    orphans: Vec<u32>,
    /// Servers that came out of the trash to a new service.
    adopted: Vec<u32>,
    /// Services of which a server was edited since the last snapshot.
    edited: Vec<u32>,
}

fn is_at(destination: &DestinationSpec, address: SocketAddr) -> bool {
    (destination.address, destination.port) == (address.ip(), address.port())
}

impl Administrator {
    /// The services.
    pub fn services(&self) -> &[ServiceSpec] {
        &self.services
    }

    /// The servers that there are, also those in the trash.
    pub fn placed(&self) -> impl Iterator<Item = Placed<'_>> {
        let listed = self.services.iter().flat_map(|service| {
            let servers = service.destinations.iter();
            servers.map(move |server| Placed {
                number: server.number,
                service: Some(service),
                is_listed: true,
            })
        });
        let removed = self.trash.iter().map(|removed| {
            let number = removed.destination.number;
            let mut services = self.services.iter();
            let service = services.find(|service| service.identity == removed.service);
            Placed {
                number,
                service: service.filter(|_| !self.orphans.contains(&number)),
                is_listed: false,
            }
        });
        listed.chain(removed)
    }

    /// Servers that came out of the trash to another service of the same name since this was asked.
    pub fn take_adopted(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.adopted)
    }

    /// Numbers given to destinations so far.
    pub fn destinations(&self) -> u32 {
        self.next_destination
    }

    /// What the next snapshot is made of.
    pub fn spec(&mut self, generation: u64) -> SnapshotSpec {
        SnapshotSpec {
            generation,
            now: Tick::default(),
            services: self.services.clone(),
            removed: self
                .trash
                .iter()
                .map(|removed| removed.destination.clone())
                .collect(),
            timeouts: self.timeouts,
            settings: self.settings,
            marks: self.marks.clone(),
            edited: std::mem::take(&mut self.edited),
            master: None,
            backup: self.daemon(Role::Backup).map(|_| Arc::new(Backup::new(1))),
            check_paths: Vec::new(),
        }
    }

    /// A daemon of synchronisation, if it runs.
    pub fn daemon(&self, role: Role) -> Option<Daemon> {
        self.daemons[role as usize]
    }

    fn start_daemon(&mut self, role: Role, daemon: Daemon) -> Result<(), Refused> {
        if self.services.iter().any(has_other_family) {
            return Err(Refused::MixedFamilies);
        }
        if !daemon.has_interface {
            return Err(Refused::NoInterface);
        }
        match &mut self.daemons[role as usize] {
            Some(_) => Err(Refused::DaemonRuns),
            place => {
                *place = Some(daemon);
                Ok(())
            }
        }
    }

    /// Whether servers were removed that are not forgotten yet.
    pub fn has_trash(&self) -> bool {
        !self.trash.is_empty()
    }

    /// Forgets removed servers whose time is over; `is_referred_to` says whether connections have the number. Whether
    /// there were any.
    pub fn empty_trash(&mut self, now: Tick, is_referred_to: impl Fn(u32) -> bool) -> bool {
        let before = self.trash.len();
        self.trash.retain_mut(|removed| {
            if is_referred_to(removed.destination.number) {
                removed.idle_since = None;
                return true;
            }
            let since = *removed.idle_since.get_or_insert(now);
            !since.after(seconds(TRASH_SECONDS)).has_passed(now)
        });
        self.trash.len() < before
    }

    /// Makes a change.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed.
    pub fn apply(&mut self, change: &Change) -> Result<(), Refused> {
        match *change {
            Change::AddService(service, options) => {
                if self.service(service).is_ok() {
                    return Err(Refused::ServiceExists);
                }
                let number = self.next_service;
                self.next_service += 1;
                self.services.push(ServiceSpec {
                    number,
                    identity: service,
                    scheduler: options.scheduler,
                    persistence: options.persistence,
                    one_packet: options.one_packet,
                    timeouts: None,
                    destinations: Vec::new(),
                });
            }
            Change::EditService(service, options) => {
                let known = self.service(service)?;
                known.scheduler = options.scheduler;
                known.persistence = options.persistence;
                known.one_packet = options.one_packet;
            }
            // Of several rules of nftables that match, the last one's mark stays.
            Change::Marks(ref rules) => {
                for rule in rules {
                    self.marks.insert(0, rule.clone());
                }
            }
            Change::Setting(setting) => setting.apply(&mut self.settings),
            Change::StartDaemon(role, daemon) => self.start_daemon(role, daemon)?,
            Change::StopDaemon(role) => {
                let stopped = self.daemons[role as usize].take();
                stopped.ok_or(Refused::NoDaemon)?;
            }
            Change::RemoveService(service) => {
                self.service(service)?;
                self.remove_services(|spec| spec.identity == service);
            }
            Change::Clear => self.remove_services(|_| true),
            Change::AddServer(service, options) => self.add_server(service, options)?,
            Change::EditServer(service, options) => {
                let destination = self.destination(service, options.address)?;
                *destination = specify(destination.number, &options);
                let number = self.service(service)?.number;
                self.edited.push(number);
            }
            Change::RemoveServer(service, address) => {
                let number = self.destination(service, address)?.number;
                let list = &mut self.service(service)?.destinations;
                let gone: Vec<_> = list.extract_if(.., |spec| spec.number == number).collect();
                self.throw_away(service, gone);
            }
            Change::Timeouts(values) => {
                let states = [State::Established, State::FinWait, State::Udp];
                for (state, value) in states
                    .into_iter()
                    .zip(values)
                    .filter(|(_, value)| *value > 0)
                {
                    let ticks = value
                        .checked_mul(seconds(1))
                        .ok_or(Refused::TimeoutTooLarge)?;
                    self.timeouts.set(state, ticks);
                }
            }
        }
        Ok(())
    }

    /// Gives a service timeouts of its own, or takes them from it. No tool of IPVS does that.
    ///
    /// # Errors
    /// [`Refused::NoService`].
    pub fn give_timeouts(
        &mut self,
        service: ServiceIdentity,
        timeouts: Option<Timeouts>,
    ) -> Result<(), Refused> {
        self.service(service)?.timeouts = timeouts;
        Ok(())
    }

    fn service(&mut self, wanted: ServiceIdentity) -> Result<&mut ServiceSpec, Refused> {
        self.services
            .iter_mut()
            .find(|spec| spec.identity == wanted)
            .ok_or(Refused::NoService)
    }

    fn destination(
        &mut self,
        service: ServiceIdentity,
        address: SocketAddr,
    ) -> Result<&mut DestinationSpec, Refused> {
        self.service(service)?
            .destinations
            .iter_mut()
            .find(|spec| is_at(spec, address))
            .ok_or(Refused::NoDestination)
    }

    /// A server that lies in the trash comes back with its number, and so with its connections.
    fn add_server(
        &mut self,
        service: ServiceIdentity,
        options: ServerOptions,
    ) -> Result<(), Refused> {
        match self.destination(service, options.address) {
            Ok(_) => return Err(Refused::DestinationExists),
            Err(Refused::NoDestination) => {}
            Err(refused) => return Err(refused),
        }
        let family = self.service(service)?.identity.family();
        let is_mixed = options.address.is_ipv4() != (family == Family::V4);
        if is_mixed && self.daemons.iter().any(Option::is_some) {
            return Err(Refused::MixedFamilies);
        }
        let is_it = |removed: &mut Removed| {
            removed.service == service && is_at(&removed.destination, options.address)
        };
        let returned = self.trash.extract_if(.., is_it).next();
        let number = returned.map_or(self.next_destination, |removed| removed.destination.number);
        self.next_destination = self.next_destination.max(number + 1);
        self.adopted
            .extend(self.orphans.extract_if(.., |orphan| *orphan == number));
        // The last added is the first in the kernel's list.
        let destinations = &mut self.service(service)?.destinations;
        destinations.insert(0, specify(number, &options));
        Ok(())
    }

    fn remove_services(&mut self, is_it: impl Fn(&ServiceSpec) -> bool) {
        let gone: Vec<_> = self.services.extract_if(.., |spec| is_it(spec)).collect();
        for service in gone {
            self.throw_away(service.identity, service.destinations);
            let trash = self.trash.iter();
            let orphans = trash.filter(|removed| removed.service == service.identity);
            self.orphans
                .extend(orphans.map(|removed| removed.destination.number));
        }
    }

    fn throw_away(&mut self, service: ServiceIdentity, gone: Vec<DestinationSpec>) {
        self.trash
            .extend(gone.into_iter().map(|destination| Removed {
                service,
                destination,
                idle_since: None,
            }));
    }
}

fn has_other_family(service: &ServiceSpec) -> bool {
    let is_v4 = service.identity.family() == Family::V4;
    service
        .destinations
        .iter()
        .any(|server| server.address.is_ipv4() != is_v4)
}

fn specify(number: u32, options: &ServerOptions) -> DestinationSpec {
    DestinationSpec {
        number,
        address: options.address.ip(),
        port: options.address.port(),
        method: options.method,
        encapsulation: options.encapsulation,
        weight: options.weight,
        upper_threshold: options.upper_threshold,
        lower_threshold: options.lower_threshold,
    }
}
