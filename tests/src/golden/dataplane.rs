//! The director under test behind the data plane's private socket, so that the real polluxd, and whatever speaks to it,
//! can be run against the engine with frames and time that a test chooses.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use pollux_api::configuration::Change;
use pollux_api::dataplane::{
    ConnectionPage, ConnectionQuery, ConnectionReport, DirectorStatus, Query, Report, TableStatus,
    Timeouts,
};
use pollux_api::identity::Endpoint;
use pollux_api::line::{self, Failure, FailureCode, Request, Response};
use pollux_api::statistics::{DestinationStatistics, ServiceStatistics, TrafficTotals};
use pollux_api::synchronisation::{BackupStatus, MasterStatus, SyncStatus};
use pollux_api::{
    Configuration, Destination, Family, ForwardingMethod, Protocol, ServiceEntry, ServiceId,
    SyncRole, Transaction, TunnelType, VirtualService,
};
use pollux_engine::clock::TICKS_PER_SECOND;
use pollux_engine::connection::{self as engine, Connection, State};
use pollux_engine::service::Destination as Compiled;
use pollux_engine::service::ServiceIdentity;

use super::administrator::Refused;
use super::command::{Command, parse};
use super::director::Director;

/// The MTU of the recorder's interfaces, bytes.
const MTU: u16 = 1500;
/// The size of the connection table that the recorded kernel tells.
const TABLE_SIZE: u32 = 4096;

/// A director and what the data plane knows besides.
#[derive(Debug, Default)]
pub struct Dataplane {
    /// The engine.
    pub director: Director,
    configuration: Configuration,
    generation: u64,
    /// What counters stood at when they were set to zero, by service and server.
    zeroed: BTreeMap<(String, SocketAddr), TrafficTotals>,
}

impl Dataplane {
    /// Serves a data plane on `dataplane.sock` of a run directory, for as long as the process lives.
    ///
    /// # Panics
    /// When the socket cannot be made.
    pub fn serve(run_directory: &Path) -> Arc<Mutex<Self>> {
        let shared = Arc::new(Mutex::new(Self::default()));
        Self::serve_this(&shared, run_directory);
        shared
    }

    /// Serves this data plane on `dataplane.sock` of a run directory, for as long as the process lives.
    ///
    /// # Panics
    /// When the socket cannot be made.
    pub fn serve_this(dataplane: &Arc<Mutex<Self>>, run_directory: &Path) {
        let listener = UnixListener::bind(run_directory.join("dataplane.sock"))
            .expect("the data plane's socket can be made");
        let served = Arc::clone(dataplane);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = Arc::clone(&served);
                thread::spawn(move || serve_client(stream, &served));
            }
        });
    }

    /// A setting that the scenario begins with, as `net.ipv4.vs.sloppy_tcp=1`: polluxd is to know it, if it has it.
    pub fn begin_with(&mut self, setting: &str) {
        let known = setting.strip_prefix("net.ipv4.vs.").unwrap_or(setting);
        let read = known
            .split_once('=')
            .and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
        let Some(setting) = read else { return };
        let change = Change::Set {
            settings: [setting].into(),
        };
        if let Ok(next) = self.configuration.apply(&[change]) {
            self.configuration = next;
            // polluxd keeps what it has seen until another generation runs.
            self.generation += 1;
        }
    }

    fn answer(&mut self, query: Query) -> Result<Report, Failure> {
        Ok(match query {
            Query::Transact(transaction) => self.transact(&transaction)?,
            Query::Zero { service } => self.zero(service)?,
            Query::Generation => Report::Generation {
                generation: self.generation,
            },
            Query::Configuration => Report::Configuration {
                generation: self.generation,
                configuration: self.configuration.clone(),
            },
            Query::Services => Report::Services(self.services(None)),
            Query::Service { service } => Report::Services(self.services(Some(service))),
            Query::Director => Report::Director(self.status()),
            Query::Table => Report::Table(TableStatus {
                connections: 0,
                connections_max: self.status().connections_max,
                connections_max_ipv6: 0,
                connections_ipv6: 0,
                evicted: 0,
                forwarded_without_entry: 0,
                states: Vec::new(),
            }),
            Query::Connections(query) => Report::Connections(self.page(query)),
            Query::Ports => Report::Ports(Vec::new()),
            Query::Workers => Report::Workers(Vec::new()),
            Query::Drops => Report::Drops(Vec::new()),
            Query::Sync => Report::Sync(self.sync()),
        })
    }

    fn transact(&mut self, transaction: &Transaction) -> Result<Report, Failure> {
        let next = self.configuration.apply(&transaction.changes)?;
        for change in &transaction.changes {
            if let Change::Set { settings } = change {
                for line in setting_lines(settings) {
                    self.make(&line)?;
                }
            } else {
                self.make(&command_line(change)?)?;
            }
        }
        self.configuration = next;
        self.generation += 1;
        Ok(self.applied())
    }

    fn applied(&self) -> Report {
        Report::Applied {
            generation: self.generation,
        }
    }

    /// The director takes changes as `ipvsadm` writes them.
    fn make(&mut self, line: &str) -> Result<(), Failure> {
        let internal = |what: String| Failure::new(FailureCode::Internal, what);
        match parse(line) {
            Ok(Command::Change(change)) => {
                self.director
                    .change(&change)
                    .map_err(|refused| match refused {
                        Refused::NoInterface => Failure::new(FailureCode::NoDevice, line),
                        refused => internal(format!("{line}: {refused:?}")),
                    })
            }
            other => Err(internal(format!("{line}: {other:?}"))),
        }
    }

    fn sync(&self) -> SyncStatus {
        let daemons = &self.configuration.sync;
        let master = daemons.master.clone();
        let backup = daemons.backup.clone();
        SyncStatus {
            master: master.map(|daemon| MasterStatus {
                datagram_bytes_max: daemon.datagram_bytes_max(SyncRole::Master, MTU),
                daemon,
                ports: 1,
                is_open: true,
                datagrams: 0,
                bytes: 0,
                connections: 0,
                dropped: 0,
                send_errors: 0,
            }),
            backup: backup.map(|daemon| BackupStatus {
                datagram_bytes_max: daemon.datagram_bytes_max(SyncRole::Backup, MTU),
                daemon,
                ports: 1,
                is_open: true,
                datagrams: 0,
                other_ids: 0,
                broken: 0,
                refused: 0,
                dropped: 0,
                made: 0,
                changed: 0,
                passed_over: 0,
                no_room: 0,
                unusable: 0,
            }),
        }
    }

    fn zero(&mut self, service: Option<ServiceId>) -> Result<Report, Failure> {
        let wanted = self.services(service);
        if let Some(id) = service.filter(|_| wanted.is_empty()) {
            return Err(pollux_api::ChangeError::NoService(id).into());
        }
        for service in &wanted {
            for server in &service.destinations {
                let key = key(service.service.id, &server.destination);
                let before = self.zeroed.remove(&key).unwrap_or_default();
                self.zeroed.insert(key, sum(before, server.totals));
            }
        }
        Ok(self.applied())
    }

    fn status(&self) -> DirectorStatus {
        let timeouts = self.director.snapshot().timeouts();
        let seconds = |state| timeouts.of(state) / TICKS_PER_SECOND;
        DirectorStatus {
            connections_max: TABLE_SIZE,
            timeouts: Timeouts {
                tcp_s: seconds(State::Established),
                tcp_fin_s: seconds(State::FinWait),
                udp_s: seconds(State::Udp),
            },
            totals: self
                .services(None)
                .iter()
                .fold(TrafficTotals::default(), |before, service| {
                    sum(before, service.totals)
                }),
            workers: vec![self.counted_ever()],
        }
    }

    /// What the one worker has counted, whatever was set to zero.
    fn counted_ever(&self) -> TrafficTotals {
        let entries = self.configuration.services.iter();
        let servers = entries.flat_map(|entry| {
            let destinations = entry.destinations.iter();
            destinations.filter_map(|destination| self.compiled(entry.service.id, destination))
        });
        servers.map(counted).fold(TrafficTotals::default(), sum)
    }

    fn services(&self, wanted: Option<ServiceId>) -> Vec<ServiceStatistics> {
        let entries = self.configuration.services.iter();
        entries
            .filter(|entry| wanted.is_none_or(|wanted| wanted == entry.service.id))
            .map(|entry| self.service(entry))
            .collect()
    }

    fn service(&self, entry: &ServiceEntry) -> ServiceStatistics {
        let destinations: Vec<_> = entry
            .destinations
            .iter()
            .map(|destination| self.destination(entry.service.id, destination))
            .collect();
        let totals = destinations.iter().map(|destination| destination.totals);
        ServiceStatistics {
            service: entry.service.clone(),
            totals: totals.fold(TrafficTotals::default(), sum),
            destinations,
        }
    }

    fn destination(&self, service: ServiceId, destination: &Destination) -> DestinationStatistics {
        let compiled = self.compiled(service, destination);
        let counts = compiled
            .map(|found| found.shared.counts())
            .unwrap_or_default();
        let counted = compiled.map(counted).unwrap_or_default();
        let zeroed = self.zeroed.get(&key(service, destination));
        DestinationStatistics {
            destination: destination.clone(),
            active_connections: counts.active,
            inactive_connections: counts.inactive,
            persistent_connections: compiled
                .map_or(0, |found| found.shared.persistent_connections()),
            totals: difference(counted, zeroed.copied().unwrap_or_default()),
        }
    }

    fn compiled(&self, service: ServiceId, destination: &Destination) -> Option<&Compiled> {
        let specs = self.director.administrator.services();
        let spec = specs
            .iter()
            .find(|spec| spec.identity == identity(service))?;
        let server = spec.destinations.iter().find(|server| {
            (server.address, server.port) == (destination.id.address(), destination.id.port())
        })?;
        self.director.snapshot().destination(server.number)
    }

    fn page(&self, query: ConnectionQuery) -> ConnectionPage {
        let report = |connection| self.connection(connection);
        let skipped = usize::try_from(query.start).unwrap_or(usize::MAX);
        ConnectionPage {
            connections: self
                .director
                .connections()
                .skip(skipped)
                .filter_map(report)
                .collect(),
            next: None,
        }
    }

    fn connection(&self, connection: Connection<'_>) -> Option<ConnectionReport> {
        let (key, call) = connection.listed();
        let server = self
            .director
            .snapshot()
            .destination(connection.destination())?;
        let ticks = self
            .director
            .now()
            .until(connection.end(self.director.now()));
        Some(ConnectionReport {
            protocol: Protocol::of_number(key.listed_protocol()),
            service: self
                .director
                .administrator
                .services()
                .iter()
                .find(|spec| spec.number == connection.service())
                .and_then(|spec| service_of(&spec.identity)),
            expires_s: u32::try_from(ticks).unwrap_or(0) / TICKS_PER_SECOND,
            state: connection.life().state().name().to_owned(),
            client: key.source(),
            virtual_address: key.destination(),
            destination: SocketAddr::new(server.spec.address, connection.destination_port()),
            method: ForwardingMethod::Nat,
            synced: connection.is_synced(),
            engine: call.map(ConnectionReport::call),
        })
    }
}

/// The data plane, whatever became of others who had it.
pub fn lock(dataplane: &Mutex<Dataplane>) -> MutexGuard<'_, Dataplane> {
    dataplane.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve_client(stream: UnixStream, dataplane: &Mutex<Dataplane>) {
    let mut writer = stream.try_clone().expect("a socket can be cloned");
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let request: Request<Query> =
            line::decode(line.as_bytes()).expect("polluxd speaks our language");
        let result = lock(dataplane).answer(request.body);
        let response = line::encode(&Response::new(request.id, result)).expect("plain data");
        if writer.write_all(&response).is_err() {
            return;
        }
    }
}

/// A change in `ipvsadm`'s words.
fn command_line(change: &Change) -> Result<String, Failure> {
    Ok(match change {
        Change::AddService { service } => with_settings("-A", service),
        Change::EditService { service } => with_settings("-E", service),
        Change::RemoveService { id } => format!("ipvsadm -D {}", named(*id)),
        Change::AddDestination {
            service,
            destination,
        } => server_line("-a", *service, destination),
        Change::EditDestination {
            service,
            destination,
        } => server_line("-e", *service, destination),
        Change::RemoveDestination { service, id } => {
            format!("ipvsadm -d {} -r {id}", named(*service))
        }
        Change::Flush => "ipvsadm -C".to_owned(),
        Change::StartSync { role, daemon } => format!(
            "ipvsadm --start-daemon {role} --mcast-interface {} --syncid {} --mcast-group {} --mcast-port {} --mcast-ttl {}",
            daemon.interface, daemon.id, daemon.group, daemon.port, daemon.ttl
        ),
        Change::StopSync { role } => format!("ipvsadm --stop-daemon {role}"),
        Change::Set { .. }
        | Change::AddMark { .. }
        | Change::RemoveMark { .. }
        | Change::ReplaceMarks { .. }
        | Change::ReplaceChecks { .. }
        | Change::SwitchServer { .. }
        | Change::AdjustServer { .. }
        | Change::PatchService { .. }
        | Change::PatchDestination { .. } => {
            let what = "no IPVS tool does this";
            return Err(Failure::new(FailureCode::Internal, what));
        }
    })
}

/// Settings as `ipvsadm` and `sysctl` write them.
fn setting_lines(settings: &BTreeMap<String, u32>) -> Vec<String> {
    let timeout = |name: &str| settings.get(name).copied().unwrap_or(0);
    let timeouts = ["timeout_established", "timeout_finwait", "timeout_udp"];
    let [tcp, tcp_fin, udp] = timeouts.map(timeout);
    let others = settings
        .iter()
        .filter(|(name, _)| !name.starts_with("timeout_"))
        .map(|(name, value)| format!("sysctl -w net.ipv4.vs.{name}={value}"));
    others
        .chain([format!("ipvsadm --set {tcp} {tcp_fin} {udp}")])
        .collect()
}

fn named(service: ServiceId) -> String {
    match service {
        ServiceId::Address(id) => {
            let letter = match id.protocol {
                Protocol::Tcp => "-t",
                Protocol::Udp => "-u",
                Protocol::Sctp => "--sctp-service",
            };
            format!("{letter} {}", id.endpoint)
        }
        ServiceId::Fwmark(id) => match id.family {
            Family::Ipv4 => format!("-f {}", id.fwmark),
            Family::Ipv6 => format!("-f {} -6", id.fwmark),
        },
    }
}

fn with_settings(verb: &str, service: &VirtualService) -> String {
    let flags = service.scheduler_flags.names().join(",");
    let flags = if flags.is_empty() {
        flags
    } else {
        format!(" -b {flags}")
    };
    let persistence = service.persistence.map(|persistence| {
        let mask = persistence.netmask.map(|mask| format!(" -M {mask}"));
        let engine = service.persistence_engine;
        let engine = engine.map(|engine| format!(" --pe {engine}"));
        format!(
            " -p {}{}{}",
            persistence.timeout_s,
            mask.unwrap_or_default(),
            engine.unwrap_or_default()
        )
    });
    let one_packet = if service.one_packet { " --ops" } else { "" };
    format!(
        "ipvsadm {verb} {} -s {}{flags}{}{one_packet}",
        named(service.id),
        service.scheduler,
        persistence.unwrap_or_default()
    )
}

fn server_line(verb: &str, service: ServiceId, server: &Destination) -> String {
    let method = match server.method {
        ForwardingMethod::Nat => "-m",
        ForwardingMethod::Tunnel => "-i",
        ForwardingMethod::Direct => "-g",
    };
    let tunnel = match server.tunnel.tunnel_type {
        TunnelType::Ipip => String::new(),
        kind => {
            let port = server.tunnel.port.map(|port| format!(" --tun-port {port}"));
            format!(
                " --tun-type {kind}{} --tun-{}",
                port.unwrap_or_default(),
                server.tunnel.checksum
            )
        }
    };
    format!(
        "ipvsadm {verb} {} -r {} {method}{tunnel} -w {} -x {} -y {}",
        named(service),
        server.id,
        server.weight,
        server.upper_threshold,
        server.lower_threshold
    )
}

fn identity(id: ServiceId) -> ServiceIdentity {
    match id {
        ServiceId::Address(id) => ServiceIdentity::Address {
            protocol: id.protocol.number(),
            address: id.endpoint.address(),
            port: id.endpoint.port(),
        },
        ServiceId::Fwmark(id) => ServiceIdentity::Fwmark {
            mark: id.fwmark.get(),
            family: match id.family {
                Family::Ipv4 => engine::Family::V4,
                Family::Ipv6 => engine::Family::V6,
            },
        },
    }
}

fn service_of(identity: &ServiceIdentity) -> Option<ServiceId> {
    Some(match *identity {
        ServiceIdentity::Address {
            protocol,
            address,
            port,
        } => ServiceId::address(
            Protocol::of_number(protocol)?,
            Endpoint::new(address, port).ok()?,
        ),
        ServiceIdentity::Fwmark { mark, family } => ServiceId::fwmark(
            NonZeroU32::new(mark)?,
            match family {
                engine::Family::V4 => Family::Ipv4,
                engine::Family::V6 => Family::Ipv6,
            },
        ),
    })
}

fn key(service: ServiceId, destination: &Destination) -> (String, SocketAddr) {
    let id = destination.id;
    (
        service.to_string(),
        SocketAddr::new(id.address(), id.port()),
    )
}

fn counted(destination: &Compiled) -> TrafficTotals {
    let workers = destination.shared.all_traffic();
    workers.fold(TrafficTotals::default(), |before, worker| {
        let worker = TrafficTotals {
            connections: worker.connections.get(),
            inbound_packets: worker.inbound_packets.get(),
            outbound_packets: worker.outbound_packets.get(),
            inbound_bytes: worker.inbound_bytes.get(),
            outbound_bytes: worker.outbound_bytes.get(),
        };
        sum(before, worker)
    })
}

fn sum(a: TrafficTotals, b: TrafficTotals) -> TrafficTotals {
    each(a, b, u64::wrapping_add)
}

fn difference(a: TrafficTotals, b: TrafficTotals) -> TrafficTotals {
    each(a, b, u64::wrapping_sub)
}

fn each(a: TrafficTotals, b: TrafficTotals, with: fn(u64, u64) -> u64) -> TrafficTotals {
    TrafficTotals {
        connections: with(a.connections, b.connections),
        inbound_packets: with(a.inbound_packets, b.inbound_packets),
        outbound_packets: with(a.outbound_packets, b.outbound_packets),
        inbound_bytes: with(a.inbound_bytes, b.inbound_bytes),
        outbound_bytes: with(a.outbound_bytes, b.outbound_bytes),
    }
}
