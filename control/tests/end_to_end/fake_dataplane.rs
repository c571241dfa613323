//! A data plane without packets: the private socket with a real configuration behind it.
//!
//! It answers every query as `pollux-dataplane` must, counts what it was asked, and can be told to misbehave. Its state
//! outlives its socket, as the real one's does.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pollux_api::configuration::Configuration;
use pollux_api::dataplane::{
    ConnectionPage, ConnectionQuery, ConnectionReport, DirectorStatus, NicCounters, PortStatus,
    Query, Report, StateCount, TableStatus, Timeouts, WorkerStatus,
};
use pollux_api::line::{self, Failure, FailureCode, Request, Response};
use pollux_api::statistics::{
    DestinationStatistics, DropReport, FateCount, ServiceStatistics, TrafficTotals,
};
use pollux_api::synchronisation::{MasterStatus, SyncStatus};
use pollux_api::{Change, ForwardingMethod, Protocol, ServiceId, SyncRole, Transaction};

/// What a data plane knows.
#[derive(Debug, Default)]
pub struct State {
    pub generation: u64,
    pub configuration: Configuration,
    /// Totals of services; each of its destinations reports half of them.
    pub totals: BTreeMap<String, TrafficTotals>,
    pub connections: Vec<ConnectionReport>,
    pub transactions: u64,
    /// Of the last transaction that was done.
    pub last_changes: Vec<Change>,
    /// How to misbehave.
    pub mischief: Mischief,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Mischief {
    #[default]
    None,
    /// Close the connection instead of answering.
    HangUp,
    /// Take that long for an answer.
    Slow(Duration),
    /// Answer when this is over.
    Hold,
    /// Count a packet in no fate.
    LoseCount,
}

/// A running fake; dropped, it is gone, its socket left behind as after a crash.
pub struct FakeDataplane {
    socket: PathBuf,
    stop: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<UnixStream>>>,
    listening: Option<JoinHandle<()>>,
}

impl FakeDataplane {
    /// A new one, or one that comes back with the state of another.
    pub fn start(run_directory: &Path, state: Arc<Mutex<State>>) -> Self {
        fs::create_dir_all(run_directory).unwrap();
        let socket = run_directory.join("dataplane.sock");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let mut fake = Self {
            socket,
            stop: Arc::default(),
            streams: Arc::default(),
            listening: None,
        };
        let (stop, streams) = (Arc::clone(&fake.stop), Arc::clone(&fake.streams));
        fake.listening = Some(thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let stream = stream.unwrap();
                streams.lock().unwrap().push(stream.try_clone().unwrap());
                let state = Arc::clone(&state);
                thread::spawn(move || serve(stream, &state));
            }
        }));
        fake
    }
}

impl Drop for FakeDataplane {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener, which then closes. Until it has, it takes clients that nobody will answer: a dead process
        // takes none.
        if UnixStream::connect(&self.socket).is_ok()
            && let Some(listening) = self.listening.take()
        {
            let _ = listening.join();
        }
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn serve(stream: UnixStream, state: &Mutex<State>) {
    let mut writer = stream.try_clone().unwrap();
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        let request: Request<Query> = line::decode(line.as_bytes()).unwrap();
        let mischief = state.lock().unwrap().mischief;
        match mischief {
            Mischief::HangUp => {
                let _ = writer.shutdown(std::net::Shutdown::Both);
                return;
            }
            Mischief::Slow(time) => thread::sleep(time),
            Mischief::Hold => {
                while state.lock().unwrap().mischief == Mischief::Hold {
                    thread::sleep(Duration::from_millis(5));
                }
            }
            Mischief::None | Mischief::LoseCount => {}
        }
        let result = state.lock().unwrap().answer(request.body);
        let response = line::encode(&Response::new(request.id, result)).unwrap();
        if writer.write_all(&response).is_err() {
            return;
        }
    }
}

impl State {
    pub fn shared() -> Arc<Mutex<Self>> {
        Arc::default()
    }

    pub fn clone_running(&self) -> (u64, Configuration) {
        (self.generation, self.configuration.clone())
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
            Query::Services => Report::Services(self.services()),
            Query::Service { service } => {
                let mut services = self.services();
                services.retain(|known| known.service.id == service);
                Report::Services(services)
            }
            Query::Director => Report::Director(DirectorStatus {
                connections_max: 4096,
                timeouts: Timeouts {
                    tcp_s: 900,
                    tcp_fin_s: 120,
                    udp_s: 300,
                },
                totals: self.director_totals(),
                workers: vec![self.director_totals(), TrafficTotals::default()],
            }),
            Query::Table => Report::Table(self.table()),
            Query::Connections(query) => Report::Connections(self.page(query)),
            Query::Ports => Report::Ports(vec![port()]),
            Query::Workers => Report::Workers(vec![self.worker(0), self.worker(1)]),
            Query::Drops => Report::Drops(vec![self.drops()]),
            Query::Sync => Report::Sync(self.sync()),
        })
    }

    fn sync(&self) -> SyncStatus {
        let master = self.configuration.sync.master.clone();
        SyncStatus {
            master: master.map(|daemon| MasterStatus {
                datagram_bytes_max: daemon.datagram_bytes_max(SyncRole::Master, 1500),
                daemon,
                ports: 1,
                is_open: true,
                datagrams: 5,
                bytes: 600,
                connections: 16,
                dropped: 0,
                send_errors: 0,
            }),
            backup: None,
        }
    }

    fn table(&self) -> TableStatus {
        let state = |kind: &str, state: &str, connections| StateCount {
            kind: kind.to_owned(),
            state: state.to_owned(),
            connections,
        };
        TableStatus {
            connections: 1000,
            connections_max: 4096,
            connections_max_ipv6: 1024,
            connections_ipv6: 24,
            evicted: 0,
            forwarded_without_entry: 0,
            states: vec![
                state("tcp", "NONE", 0),
                state("tcp", "ESTABLISHED", 900),
                state("udp", "UDP", 100),
            ],
        }
    }

    fn director_totals(&self) -> TrafficTotals {
        let mut sum = TrafficTotals::default();
        for totals in self.totals.values() {
            sum.connections += totals.connections;
            sum.inbound_packets += totals.inbound_packets;
            sum.outbound_packets += totals.outbound_packets;
            sum.inbound_bytes += totals.inbound_bytes;
            sum.outbound_bytes += totals.outbound_bytes;
        }
        sum
    }

    fn transact(&mut self, transaction: &Transaction) -> Result<Report, Failure> {
        self.transactions += 1;
        let base = transaction.base_generation;
        if base.is_some_and(|base| base != self.generation) {
            return Err(Failure::new(FailureCode::Conflict, "another generation"));
        }
        self.configuration = self.configuration.apply(&transaction.changes)?;
        self.last_changes.clone_from(&transaction.changes);
        self.generation += 1;
        Ok(Report::Applied {
            generation: self.generation,
        })
    }

    fn zero(&mut self, service: Option<ServiceId>) -> Result<Report, Failure> {
        match service {
            None => self.totals.clear(),
            Some(id) if self.configuration.service(id).is_some() => {
                self.totals.remove(&id.to_string());
            }
            Some(id) => {
                return Err(pollux_api::ChangeError::NoService(id).into());
            }
        }
        Ok(Report::Applied {
            generation: self.generation,
        })
    }

    fn services(&self) -> Vec<ServiceStatistics> {
        let in_force = self.configuration.in_force();
        let services = in_force.services.iter().map(|entry| {
            let totals = self.totals.get(&entry.service.id.to_string());
            let totals = totals.copied().unwrap_or_default();
            let half = TrafficTotals {
                connections: totals.connections / 2,
                inbound_packets: totals.inbound_packets / 2,
                outbound_packets: totals.outbound_packets / 2,
                inbound_bytes: totals.inbound_bytes / 2,
                outbound_bytes: totals.outbound_bytes / 2,
            };
            let destinations = entry
                .destinations
                .iter()
                .map(|destination| DestinationStatistics {
                    destination: destination.clone(),
                    active_connections: 7,
                    inactive_connections: 1234,
                    persistent_connections: 0,
                    totals: half,
                });
            ServiceStatistics {
                service: entry.service.clone(),
                totals,
                destinations: destinations.collect(),
            }
        });
        services.collect()
    }

    fn page(&self, query: ConnectionQuery) -> ConnectionPage {
        let start = query.start as usize;
        let end = (start + query.limit as usize).min(self.connections.len());
        ConnectionPage {
            connections: self.connections[start.min(end)..end].to_vec(),
            next: (end < self.connections.len()).then_some(end as u32),
        }
    }

    fn worker(&self, worker: u16) -> WorkerStatus {
        WorkerStatus {
            worker,
            core: worker + 1,
            loops: 123_456_789,
            busy_loops: 23_456_789,
            received: 12_345_678,
            connections_created: 600,
            connections_expired: 100,
            connections: 500,
            generation: self.generation,
            connections_evicted: 0,
            forwarded_without_entry: 0,
            icmp_errors: 5,
            busy_share: 0.125,
            busy_ns: 1_500_000_000,
            answers_met: 3,
            answers_apart: 1,
        }
    }

    fn drops(&self) -> DropReport {
        let fate = |fate: &str, is_drop, meaning: &str, packets| FateCount {
            fate: fate.to_owned(),
            is_drop,
            meaning: meaning.to_owned(),
            packets,
        };
        let lost = u64::from(self.mischief == Mischief::LoseCount);
        DropReport {
            port: "lan".to_owned(),
            received: 1_000 + lost,
            held: 2,
            fates: vec![
                fate(
                    "forwarded",
                    false,
                    "Sent to a server or back to a client.",
                    900,
                ),
                fate(
                    "punted",
                    false,
                    "Handed to the kernel: not for a virtual service.",
                    90,
                ),
                fate(
                    "ipv4_truncated",
                    true,
                    "IPv4 header or packet longer than the frame.",
                    8,
                ),
                fate(
                    "ipv4_bad_checksum",
                    true,
                    "IPv4 header checksum wrong; the longest of all meanings takes more than one line of 80.",
                    0,
                ),
            ],
        }
    }
}

fn port() -> PortStatus {
    PortStatus {
        name: "lan".to_owned(),
        device: "net_af_packet0,iface=eth1,qpairs=2".to_owned(),
        driver: "net_af_packet".to_owned(),
        mac: "02:00:00:00:00:01".to_owned(),
        mtu: 1500,
        gone: false,
        link_up: true,
        speed_mbps: Some(10_000),
        receive_queues: 2,
        transmit_queues: 2,
        spread: "rss".to_owned(),
        verifies_checksums: true,
        fills_checksums: true,
        exception_path: "vhost-net".to_owned(),
        numa_node: Some(0),
        other_macs: Vec::new(),
        members: Vec::new(),
        nic: NicCounters {
            received_packets: 12_345_678,
            sent_packets: 12_345_600,
            received_bytes: 1_234_567_890,
            sent_bytes: 1_234_567_000,
            missed_packets: 3,
            ..NicCounters::default()
        },
        kernel_transmitted: 42,
        extended: vec![
            ("rx_good_packets".to_owned(), 12_345_678),
            ("rx_q0_errors".to_owned(), 0),
        ],
    }
}

/// A connection from a client port to a server of the usual service.
pub fn connection(client_port: u16) -> ConnectionReport {
    ConnectionReport {
        protocol: Some(Protocol::Tcp),
        service: Some(ServiceId::address(
            Protocol::Tcp,
            "198.51.100.1:80".parse().unwrap(),
        )),
        expires_s: 899,
        state: "ESTABLISHED".to_owned(),
        client: SocketAddr::from(([192, 0, 2, 10], client_port)),
        virtual_address: SocketAddr::from(([198, 51, 100, 1], 80)),
        destination: SocketAddr::from(([203, 0, 113, 11], 80)),
        method: ForwardingMethod::Nat,
        synced: false,
        engine: None,
    }
}
