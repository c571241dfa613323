//! What the data plane tells polluxd: sums over the workers' counters, pages of the table, the state of the ports.
//!
//! Nothing here takes a lock that a worker takes. The table is read while it changes: an entry that is freed and used
//! again meanwhile may be shown as either connection.

use std::collections::HashMap;
use std::net::SocketAddr;

use dpdk_bindings::{Distribution, LinkState, PortError, PortStatistics};
use pollux_api::dataplane::{
    ConnectionPage, ConnectionQuery, ConnectionReport, DirectorStatus, NicCounters, PortStatus,
    StateCount, TableStatus, Timeouts, WorkerStatus,
};
use pollux_api::line::{Failure, FailureCode};
use pollux_api::statistics::{DestinationStatistics, DropReport, FateCount, ServiceStatistics};
use pollux_api::synchronisation::SyncStatus;
use pollux_api::{ChangeError, Configuration, ForwardingMethod, Protocol, ServiceId, Transaction};
use pollux_engine::clock::TICKS_PER_SECOND;
use pollux_engine::connection::{self, Connection, State, UNBOUND};
use pollux_engine::counters::{Counter, PortCounters, WorkerCounters};
use pollux_engine::{Fate, Snapshot};

use crate::kernel::MacAddress;
use crate::port::OpenPort;
use crate::private_socket::DataplaneControl;
use crate::publisher::{Publisher, Running};
use crate::worker::{now_nanoseconds, tick_of};

/// Entries looked at for one page, at most, so that no answer takes long.
const PAGE_ENTRIES_MAX: u32 = 1 << 16;

impl DataplaneControl for Publisher {
    async fn transact(&self, transaction: Transaction) -> Result<u64, Failure> {
        Self::transact(self, &transaction).await
    }

    async fn zero(&self, service: Option<ServiceId>) -> Result<u64, Failure> {
        let mut running = self.running().await;
        let snapshot = self.shared.publication.current();
        let configured = running
            .state
            .configuration
            .services
            .iter()
            .map(|entry| entry.service.id);
        let ids: Vec<ServiceId> = configured
            .filter(|id| service.is_none_or(|wanted| wanted == *id))
            .collect();
        match service {
            Some(wanted) if ids.is_empty() => return Err(ChangeError::NoService(wanted).into()),
            _ => {}
        }
        for id in ids {
            running.zero(id, &snapshot);
        }
        if service.is_none() {
            let numbers: Vec<_> = running.numbers().collect();
            running.totals.zero_director(numbers.into_iter(), &snapshot);
        }
        Ok(running.state.generation)
    }

    async fn generation(&self) -> Result<u64, Failure> {
        Ok(self.running().await.state.generation)
    }

    async fn configuration(&self) -> Result<(u64, Configuration), Failure> {
        let running = self.running().await;
        Ok((
            running.state.generation,
            running.state.configuration.clone(),
        ))
    }

    async fn services(&self) -> Result<Vec<ServiceStatistics>, Failure> {
        let running = self.running().await;
        let snapshot = self.shared.publication.current();
        let in_force = running.state.configuration.in_force();
        let entries = in_force.services.iter();
        Ok(entries
            .map(|entry| service_report(&running, entry, &snapshot))
            .collect())
    }

    async fn service(&self, service: ServiceId) -> Result<Option<ServiceStatistics>, Failure> {
        let running = self.running().await;
        let snapshot = self.shared.publication.current();
        let in_force = running.state.configuration.in_force();
        let entry = in_force.service(service);
        Ok(entry.map(|entry| service_report(&running, entry, &snapshot)))
    }

    async fn director(&self) -> Result<DirectorStatus, Failure> {
        let running = self.running().await;
        let snapshot = self.shared.publication.current();
        let timeout_s = |state| snapshot.timeouts().of(state) / TICKS_PER_SECOND;
        Ok(DirectorStatus {
            connections_max: self.shared.table.size().connections(),
            timeouts: Timeouts {
                tcp_s: timeout_s(State::Established),
                tcp_fin_s: timeout_s(State::FinWait),
                udp_s: timeout_s(State::Udp),
            },
            totals: running.totals.director(running.numbers(), &snapshot),
            workers: running.totals.workers(running.numbers(), &snapshot),
        })
    }

    async fn table(&self) -> Result<TableStatus, Failure> {
        let size = self.shared.table.size();
        let sum = |count: fn(&WorkerCounters) -> u64| -> u64 {
            self.counters.iter().map(|worker| count(worker)).sum()
        };
        let states = State::ALL.into_iter().enumerate();
        let states = states.map(|(index, state)| StateCount {
            kind: state.kind().to_owned(),
            state: state.name().to_owned(),
            connections: self
                .counters
                .iter()
                .filter_map(|worker| worker.states.get(index))
                .map(Counter::get)
                .sum(),
        });
        Ok(TableStatus {
            // A gauge: connections may end on another worker than they began.
            connections: self
                .counters
                .iter()
                .map(|worker| worker.connections.get())
                .fold(0, u64::wrapping_add),
            connections_max: size.connections(),
            connections_max_ipv6: size.ipv6_connections(),
            connections_ipv6: sum(|worker| worker.wide.get()),
            evicted: sum(|worker| worker.connections_evicted.get()),
            forwarded_without_entry: sum(|worker| worker.without_entry.get()),
            states: states.collect(),
        })
    }

    async fn connections(&self, query: ConnectionQuery) -> Result<ConnectionPage, Failure> {
        let now = tick_of(now_nanoseconds());
        let snapshot = self.shared.publication.current();
        let services: HashMap<u32, ServiceId> = self
            .running()
            .await
            .state
            .numbering
            .services()
            .map(|(number, id)| (number.get(), id))
            .collect();
        let table = &self.shared.table;
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX).max(1);
        let mut page = ConnectionPage {
            connections: Vec::new(),
            next: None,
        };
        let end = table.size().connections();
        let last = query.start.saturating_add(PAGE_ENTRIES_MAX).min(end);
        for number in query.start..last {
            if page.connections.len() >= limit {
                page.next = Some(number);
                return Ok(page);
            }
            if let Some(entry) = table
                .connection(number)
                .filter(|entry| entry.is_listed(now))
            {
                page.connections
                    .extend(connection_report(&entry, &snapshot, &services, now));
            }
        }
        page.next = Some(last).filter(|last| *last < end);
        Ok(page)
    }

    async fn ports(&self) -> Result<Vec<PortStatus>, Failure> {
        self.ports
            .iter()
            .enumerate()
            .map(|(number, port)| self.port_status(number, port))
            .collect()
    }

    async fn workers(&self) -> Result<Vec<WorkerStatus>, Failure> {
        let numbered = self.counters.iter().zip(&self.cores).enumerate();
        Ok(numbered
            .map(|(worker, (counters, core))| {
                let ports = 0..self.ports.len();
                let received = ports
                    .filter_map(|port| counters.port(port))
                    .map(|port| port.received.get());
                WorkerStatus {
                    worker: u16::try_from(worker).unwrap_or(u16::MAX),
                    core: *core,
                    loops: counters.loops.get(),
                    busy_loops: counters.busy_loops.get(),
                    received: received.sum(),
                    connections_created: counters.connections_created.get(),
                    connections_expired: counters.connections_expired.get(),
                    connections: counters.connections.get(),
                    generation: self.shared.publication.seen_by(worker),
                    connections_evicted: counters.connections_evicted.get(),
                    forwarded_without_entry: counters.without_entry.get(),
                    icmp_errors: counters.icmp_errors_sent.get(),
                    busy_share: self.busy_share.of(worker),
                    busy_ns: counters.busy_nanoseconds.get(),
                    answers_met: counters.answers_met.get(),
                    answers_apart: counters.answers_apart.get(),
                }
            })
            .collect())
    }

    async fn sync(&self) -> Result<SyncStatus, Failure> {
        Ok(self.running().await.daemons.status(&self.counters))
    }

    async fn drops(&self) -> Result<Vec<DropReport>, Failure> {
        let numbered = self.ports.iter().enumerate();
        Ok(numbered
            .map(|(number, port)| {
                let sum = |value: &dyn Fn(&PortCounters) -> u64| -> u64 {
                    let of_workers = self
                        .counters
                        .iter()
                        .filter_map(|worker| worker.port(number));
                    // Held goes up and down on different workers' counters: only the wrapping sum is right.
                    of_workers.map(value).fold(0, u64::wrapping_add)
                };
                let fates = Fate::ALL.into_iter().map(|fate| FateCount {
                    fate: fate.name().to_owned(),
                    is_drop: fate.is_drop(),
                    meaning: fate.meaning().to_owned(),
                    packets: sum(&|port| port.fate(fate)),
                });
                DropReport {
                    port: port.name.to_string(),
                    fates: fates.collect(),
                    held: sum(&|port| port.held.get()),
                    received: sum(&|port| port.received.get()),
                }
            })
            .collect())
    }
}

impl Publisher {
    fn port_status(&self, number: usize, port: &OpenPort) -> Result<PortStatus, Failure> {
        let failed = |error| {
            Failure::new(
                FailureCode::Internal,
                format!("port {}: {error}", port.name),
            )
        };
        let asked = port.wire.ask(|wire| {
            let (statistics, link) = (wire.statistics()?, wire.link()?);
            Ok::<_, PortError>((statistics, link, wire.extended_statistics()?))
        });
        let gone = asked.is_none();
        let (statistics, link, extended) = match asked {
            Some(answer) => answer.map_err(failed)?,
            None => (PortStatistics::default(), NO_LINK, Vec::new()),
        };
        let other_macs = port.wire.other_macs();
        let of_workers = self
            .counters
            .iter()
            .filter_map(|worker| worker.port(number));
        Ok(PortStatus {
            name: port.name.to_string(),
            device: port.device.clone(),
            driver: port.info.driver.clone(),
            mac: MacAddress(port.mac).to_string(),
            mtu: port.mtu,
            gone,
            link_up: link.up,
            speed_mbps: link.speed_mbps,
            receive_queues: port.rx_queues,
            transmit_queues: port.tx_queues,
            spread: spread(port.distribution).to_owned(),
            verifies_checksums: port.verifies_ipv4_headers,
            fills_checksums: port.fills_udp_checksums,
            exception_path: port.tap_driver.name().to_owned(),
            numa_node: port.info.numa_node,
            other_macs: other_macs.iter().map(MacAddress::to_string).collect(),
            members: port.wire.members(),
            nic: NicCounters {
                received_packets: statistics.rx_packets,
                sent_packets: statistics.tx_packets,
                received_bytes: statistics.rx_bytes,
                sent_bytes: statistics.tx_bytes,
                missed_packets: statistics.rx_missed,
                receive_errors: statistics.rx_errors,
                send_errors: statistics.tx_errors,
                no_buffer: statistics.rx_no_mbuf,
            },
            kernel_transmitted: of_workers.map(|port| port.kernel_transmitted.get()).sum(),
            extended: extended
                .into_iter()
                .map(|statistic| (statistic.name, statistic.value))
                .collect(),
        })
    }
}

/// Of a device that is gone.
const NO_LINK: LinkState = LinkState {
    up: false,
    speed_mbps: None,
    full_duplex: false,
};

fn spread(distribution: Distribution) -> &'static str {
    match distribution {
        Distribution::SingleQueue => "one queue",
        Distribution::Rss => "rss",
        Distribution::RssOfOneEnd => "rss of the clients' end",
        Distribution::Driver => "the driver's way",
    }
}

fn service_report(
    running: &Running,
    entry: &pollux_api::ServiceEntry,
    snapshot: &Snapshot,
) -> ServiceStatistics {
    let id = entry.service.id;
    ServiceStatistics {
        service: entry.service.clone(),
        totals: running.totals.service(id, running.numbers_of(id), snapshot),
        destinations: destinations(running, entry, snapshot),
    }
}

fn destinations(
    running: &Running,
    entry: &pollux_api::ServiceEntry,
    snapshot: &Snapshot,
) -> Vec<DestinationStatistics> {
    let configured = entry.destinations.iter();
    configured
        .map(|destination| {
            let number = running
                .state
                .numbering
                .destination(entry.service.id, destination.id);
            let compiled = number.and_then(|number| snapshot.destination(number.get()));
            let counts = compiled
                .map(|found| found.shared.counts())
                .unwrap_or_default();
            DestinationStatistics {
                destination: destination.clone(),
                active_connections: counts.active,
                inactive_connections: counts.inactive,
                persistent_connections: compiled
                    .map_or(0, |found| found.shared.persistent_connections()),
                totals: number
                    .map(|number| running.totals.destination(number, snapshot))
                    .unwrap_or_default(),
            }
        })
        .collect()
}

fn connection_report(
    entry: &Connection<'_>,
    snapshot: &Snapshot,
    services: &HashMap<u32, ServiceId>,
    now: pollux_engine::Tick,
) -> Option<ConnectionReport> {
    let (inbound, call) = entry.listed();
    let address = match snapshot.destination(entry.destination()) {
        Some(destination) => destination.spec.address,
        // Of another director, and its server is not known here.
        None if entry.destination() == UNBOUND => {
            entry.key(connection::Direction::Outbound).source().ip()
        }
        None => return None,
    };
    let left = now.until(entry.end(now));
    Some(ConnectionReport {
        protocol: Protocol::of_number(inbound.listed_protocol()),
        service: services.get(&entry.service()).copied(),
        expires_s: u32::try_from(left).unwrap_or(0) / TICKS_PER_SECOND,
        state: entry.life().state().name().to_owned(),
        client: inbound.source(),
        virtual_address: inbound.destination(),
        destination: SocketAddr::new(address, entry.destination_port()),
        synced: entry.is_synced(),
        method: match entry.method() {
            connection::ForwardingMethod::Masquerade => ForwardingMethod::Nat,
            connection::ForwardingMethod::Tunnel => ForwardingMethod::Tunnel,
            connection::ForwardingMethod::DirectRoute => ForwardingMethod::Direct,
        },
        engine: call.map(ConnectionReport::call),
    })
}
