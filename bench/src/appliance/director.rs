//! `pollux-dataplane` as it is delivered, in a network namespace, asked and told over its private socket. No polluxd.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use pollux_api::configuration::{Destination, VirtualService};
use pollux_api::dataplane::{Query, Report};
use pollux_api::identity::{Endpoint, Protocol, ServiceId, Weight};
use pollux_api::line::{self, Request, Response};
use pollux_api::statistics::DropReport;
use pollux_api::{Change, Transaction};

use super::device::DpdkDevice;
use super::namespace::Namespace;
use super::process::{Farewell, Reading, RigProcess};
use super::runtime_directory::RuntimeDirectory;
use crate::measurement::{Family, Method, Scheduler, word};
use crate::rig;

/// The port's name, also that of its TAP.
const PORT: &str = "bench0";
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Packets that were not forwarded, of those received, that are overlooked: some came before all was set up.
const LOST_ONE_IN: u64 = 1000;

/// How to start a data plane.
#[derive(Debug)]
pub struct DirectorSpec<'s> {
    /// The program.
    pub program: &'s Path,
    /// Its one port.
    pub device: &'s DpdkDevice,
    /// Entries of its table.
    pub connections: u32,
    /// The worker's CPU.
    pub cpu: usize,
    /// Memory for frames.
    pub memory_mib: u32,
    /// Whether in huge pages.
    pub huge_pages: bool,
    /// Where its sockets, state and output go.
    pub directory: &'s Path,
}

/// What it is to serve.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// How packets reach the servers.
    pub method: Method,
    /// IP version.
    pub family: Family,
    /// Servers.
    pub servers: u32,
    /// Scheduler.
    pub scheduler: Scheduler,
}

/// A running data plane.
#[derive(Debug)]
pub struct Director {
    /// Its process.
    pub process: RigProcess,
    socket: BufReader<UnixStream>,
    requests: u64,
    _runtime: RuntimeDirectory,
}

impl Director {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// It does not start, or does not answer.
    pub fn start(spec: &DirectorSpec<'_>, namespace: &Namespace) -> anyhow::Result<Self> {
        let run = spec.directory.join("run");
        let mut words: Vec<String> = namespace.prefix().map(str::to_owned).to_vec();
        words.push(spec.program.display().to_string());
        words.push(format!("--port={PORT}={}", spec.device));
        words.push(format!("--cores={}", spec.cpu));
        words.push(format!("--connections={}", spec.connections));
        words.push(format!("--memory-mib={}", spec.memory_mib));
        words.push(format!("--file-prefix={}", file_prefix()));
        words.push(format!("--run-dir={}", run.display()));
        words.push(format!(
            "--state-dir={}",
            spec.directory.join("state").display()
        ));
        words.push("--poll=busy".to_owned());
        if !spec.huge_pages {
            words.push("--no-huge".to_owned());
        }
        let runtime = RuntimeDirectory::of(&file_prefix());
        let started = RigProcess::start(
            "pollux-dataplane",
            spec.directory,
            &words,
            Farewell::Terminate,
        );
        let mut process =
            started.context("build it with: cargo build --release -p pollux-dataplane")?;
        let path = run.join("dataplane.sock");
        let stream = process.wait_until("it answers", || Ok(UnixStream::connect(&path).ok()))?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let mut director = Self {
            process,
            socket: BufReader::new(stream),
            requests: 0,
            _runtime: runtime,
        };
        // The socket is there before the ports are; an answer comes when all is.
        let answer = director.connections();
        answer.with_context(|| director.process.last_lines())?;
        Ok(director)
    }

    /// Gives the port of the director its addresses, and the kernel the MACs of servers and gateway.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn set_up_port(&mut self, namespace: &Namespace, service: Service) -> anyhow::Result<()> {
        namespace.ip(&format!("link set {PORT} up"))?;
        let networks = match service.family {
            Family::Ipv4 => ["203.0.113.1/24", "192.0.2.1/24", "192.0.2.254"],
            Family::Ipv6 => ["2001:db8:2::1/64", "2001:db8:1::1/64", "2001:db8:1::fe"],
        };
        let [servers, clients, gateway] = networks;
        let at_once = if service.family == Family::Ipv6 {
            " nodad"
        } else {
            ""
        };
        for own in [servers, clients] {
            namespace.ip(&format!("address replace {own} dev {PORT}{at_once}"))?;
        }
        namespace.ip(&format!("route replace default via {gateway} dev {PORT}"))?;
        let neighbour = |address: &str, mac: &str| {
            namespace.ip(&format!(
                "neighbour replace {address} lladdr {mac} dev {PORT} nud permanent"
            ))
        };
        neighbour(gateway, "02:00:00:00:01:fe")?;
        for number in 0..service.servers {
            let address = rig::server(service.family, number).ip();
            neighbour(
                &address.to_string(),
                &format!("02:00:00:00:02:{number:02x}"),
            )?;
        }
        Ok(())
    }

    /// Makes the service with its servers.
    ///
    /// # Errors
    /// The data plane's refusal.
    pub fn serve(&mut self, service: Service) -> anyhow::Result<()> {
        let address = rig::service(service.family);
        let endpoint = Endpoint::new(address.ip(), address.port())?;
        let id = ServiceId::address(Protocol::Tcp, endpoint);
        let mut changes = vec![Change::AddService {
            service: VirtualService {
                scheduler: word(&service.scheduler).parse()?,
                ..VirtualService::new(id)
            },
        }];
        for number in 0..service.servers {
            let server = rig::server(service.family, number);
            // A tunnelled or unchanged packet keeps its port.
            let port = if service.method == Method::Nat {
                server.port()
            } else {
                address.port()
            };
            let destination = Destination {
                id: Endpoint::new(server.ip(), port)?,
                method: match service.method {
                    Method::Nat => pollux_api::ForwardingMethod::Nat,
                    Method::Tunnel => pollux_api::ForwardingMethod::Tunnel,
                    Method::Direct => pollux_api::ForwardingMethod::Direct,
                },
                weight: Weight::default(),
                tunnel: Default::default(),
                upper_threshold: 0,
                lower_threshold: 0,
            };
            changes.push(Change::AddDestination {
                service: id,
                destination,
            });
        }
        let transaction = Transaction {
            base_generation: None,
            changes,
        };
        self.ask(Query::Transact(transaction)).map(|_| ())
    }

    /// Connections in its table.
    ///
    /// # Errors
    /// It does not answer.
    pub fn connections(&mut self) -> anyhow::Result<u64> {
        match self.ask(Query::Workers)? {
            Report::Workers(workers) => Ok(workers.iter().map(|worker| worker.connections).sum()),
            other => bail!("the data plane answered something else: {other:?}"),
        }
    }

    /// The MAC of its port.
    ///
    /// # Errors
    /// It does not answer.
    pub fn mac(&mut self) -> anyhow::Result<String> {
        match self.ask(Query::Ports)? {
            Report::Ports(ports) => ports
                .into_iter()
                .next()
                .map(|port| port.mac)
                .context("no port"),
            other => bail!("the data plane answered something else: {other:?}"),
        }
    }

    /// CPU time and forwarded packets by now.
    ///
    /// # Errors
    /// It does not answer.
    pub fn read(&mut self) -> anyhow::Result<Reading> {
        let before = self.process.worker_cpu_ns()?;
        let packets = forwarded(&self.fates()?);
        let after = self.process.worker_cpu_ns()?;
        Ok(Reading {
            cpu_ns: before.midpoint(after),
            packets,
        })
    }

    /// What became of its port's packets.
    ///
    /// # Errors
    /// It does not answer.
    pub fn fates(&mut self) -> anyhow::Result<DropReport> {
        match self.ask(Query::Drops)? {
            Report::Drops(ports) => ports.into_iter().next().context("no port"),
            other => bail!("the data plane answered something else: {other:?}"),
        }
    }

    fn ask(&mut self, query: Query) -> anyhow::Result<Report> {
        self.requests += 1;
        let request = line::encode(&Request::new(self.requests, query))?;
        self.socket
            .get_mut()
            .write_all(&request)
            .context("the data plane takes no request")?;
        let mut answer = Vec::new();
        self.socket
            .read_until(b'\n', &mut answer)
            .context("the data plane does not answer")?;
        let answer: Response<Report> = line::decode(&answer)?;
        Ok(answer.result?)
    }
}

/// Sees to it that nearly all packets between two looks were forwarded.
///
/// # Errors
/// They were not, with their fates.
pub fn expect_forwarded(before: &DropReport, after: &DropReport) -> anyhow::Result<()> {
    let received = after.received.saturating_sub(before.received);
    let sent = forwarded(after).saturating_sub(forwarded(before));
    let others = after
        .fates
        .iter()
        .filter(|fate| fate.packets > 0 && fate.fate != "forwarded");
    let others: Vec<String> = others
        .map(|fate| format!("{} {}", fate.fate, fate.packets))
        .collect();
    ensure!(
        received.saturating_sub(sent) <= received / LOST_ONE_IN,
        "of {received} packets {sent} were forwarded; all other fates: {}",
        others.join(", ")
    );
    Ok(())
}

fn forwarded(report: &DropReport) -> u64 {
    let forwarded = report.fates.iter().find(|fate| fate.fate == "forwarded");
    forwarded.map_or(0, |fate| fate.packets)
}

/// DPDK's file prefix, and the first part of the table file's name.
pub fn file_prefix() -> String {
    format!("pollux-bench-{}", std::process::id())
}

/// Where a data plane may have left its table: it is kept for the next one on purpose.
pub fn table_files(directory: &Path) -> Vec<PathBuf> {
    let name = format!("{}-connections", file_prefix());
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let huge = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let path = words.next()?;
        (words.next()? == "hugetlbfs").then(|| Path::new(path).join(&name))
    });
    let others = [
        Path::new("/dev/shm").join(&name),
        directory.join("run").join(&name),
    ];
    huge.chain(others).collect()
}
