//! The socket against a data plane that is a few values, and clients of every kind.

use std::sync::atomic::{AtomicU64, Ordering};

use pollux_api::dataplane::Timeouts;
use pollux_api::statistics::TrafficTotals;
use pollux_api::{Protocol, VirtualService};
use tokio::sync::Notify;

use super::*;

const DIRECTOR: DirectorStatus = DirectorStatus {
    connections_max: 1024,
    timeouts: Timeouts {
        tcp_s: 900,
        tcp_fin_s: 120,
        udp_s: 300,
    },
    totals: TrafficTotals {
        connections: 1,
        inbound_packets: 2,
        outbound_packets: 3,
        inbound_bytes: 4,
        outbound_bytes: 5,
    },
    workers: Vec::new(),
};

/// A data plane of a configuration and a generation. Ports are slow to list: they wait for [`Fake::open_gate`].
#[derive(Default)]
struct Fake {
    generation: AtomicU64,
    gate: Notify,
}

impl DataplaneControl for Fake {
    async fn transact(&self, transaction: Transaction) -> Result<u64, Failure> {
        let now = self.generation.load(Ordering::Relaxed);
        if transaction.base_generation.is_some_and(|base| base != now) {
            return Err(Failure::new(FailureCode::Conflict, "changed meanwhile"));
        }
        let changed = Configuration::default().apply(&transaction.changes);
        changed.map_err(Failure::from)?;
        Ok(self.generation.fetch_add(1, Ordering::Relaxed) + 1)
    }

    async fn zero(&self, _service: Option<ServiceId>) -> Result<u64, Failure> {
        Ok(self.generation.load(Ordering::Relaxed))
    }

    async fn generation(&self) -> Result<u64, Failure> {
        Ok(self.generation.load(Ordering::Relaxed))
    }

    async fn configuration(&self) -> Result<(u64, Configuration), Failure> {
        let generation = self.generation.load(Ordering::Relaxed);
        Ok((generation, Configuration::default()))
    }

    async fn services(&self) -> Result<Vec<ServiceStatistics>, Failure> {
        Ok(Vec::new())
    }

    async fn service(&self, id: ServiceId) -> Result<Option<ServiceStatistics>, Failure> {
        let service = VirtualService::new(id);
        Ok((id == only_service()).then(|| ServiceStatistics {
            service,
            totals: Default::default(),
            destinations: Vec::new(),
        }))
    }

    async fn director(&self) -> Result<DirectorStatus, Failure> {
        Ok(DIRECTOR)
    }

    async fn table(&self) -> Result<TableStatus, Failure> {
        Ok(table())
    }

    async fn connections(&self, query: ConnectionQuery) -> Result<ConnectionPage, Failure> {
        let next = Some(query.start + query.limit);
        let connections = Vec::new();
        Ok(ConnectionPage { connections, next })
    }

    async fn ports(&self) -> Result<Vec<PortStatus>, Failure> {
        self.gate.notified().await;
        Ok(Vec::new())
    }

    async fn workers(&self) -> Result<Vec<WorkerStatus>, Failure> {
        Ok(Vec::new())
    }

    async fn drops(&self) -> Result<Vec<DropReport>, Failure> {
        // More than a socket buffer holds.
        let report = |port: u32| DropReport {
            port: format!("port{port}"),
            received: 0,
            held: 0,
            fates: Vec::new(),
        };
        Ok((0..100_000).map(report).collect())
    }

    async fn sync(&self) -> Result<SyncStatus, Failure> {
        Ok(SyncStatus::default())
    }
}

/// The fake's table.
fn table() -> TableStatus {
    TableStatus {
        connections: 3,
        connections_max: 1024,
        connections_max_ipv6: 256,
        connections_ipv6: 9,
        evicted: 0,
        forwarded_without_entry: 0,
        states: Vec::new(),
    }
}

/// The one service that the fake has when asked for one.
fn only_service() -> ServiceId {
    ServiceId::address(Protocol::Tcp, "198.51.100.1:80".parse().unwrap())
}

/// A running socket and where it is.
struct Server {
    directory: tempfile::TempDir,
    fake: Arc<Fake>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    fn start(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = PrivateSocket::open(directory.path(), limits).unwrap();
        let fake = Arc::new(Fake::default());
        let control = Arc::clone(&fake);
        let task = tokio::spawn(async move { socket.serve(control).await });
        Self {
            directory,
            fake,
            task,
        }
    }

    async fn connect(&self) -> BufReader<UnixStream> {
        let path = self.directory.path().join("dataplane.sock");
        BufReader::new(UnixStream::connect(path).await.unwrap())
    }
}

async fn send(client: &mut BufReader<UnixStream>, bytes: &[u8]) {
    client.write_all(bytes).await.unwrap();
}

async fn receive(client: &mut BufReader<UnixStream>) -> Response<Report> {
    let mut line = Vec::new();
    client.read_until(b'\n', &mut line).await.unwrap();
    line::decode(&line).unwrap()
}

async fn ask(client: &mut BufReader<UnixStream>, id: u64, query: Query) -> Result<Report, Failure> {
    send(client, &line::encode(&Request::new(id, query)).unwrap()).await;
    let response = receive(client).await;
    assert_eq!(response.id, id);
    response.result
}

fn transaction(base_generation: Option<u64>) -> Query {
    Query::Transact(Transaction {
        base_generation,
        changes: Vec::new(),
    })
}

#[tokio::test]
async fn every_query_has_its_report() {
    let server = Server::start(Limits::default());
    server.fake.gate.notify_one();
    let client = &mut server.connect().await;
    let page = ConnectionQuery { start: 5, limit: 7 };
    let listed = ConnectionPage {
        connections: Vec::new(),
        next: Some(12),
    };
    let running = Report::Configuration {
        generation: 1,
        configuration: Configuration::default(),
    };
    let applied = Report::Applied { generation: 1 };
    assert_eq!(ask(client, 1, transaction(None)).await, Ok(applied.clone()));
    assert_eq!(
        ask(client, 2, Query::Zero { service: None }).await,
        Ok(applied)
    );
    assert_eq!(ask(client, 3, Query::Configuration).await, Ok(running));
    assert_eq!(
        ask(client, 4, Query::Services).await,
        Ok(Report::Services(Vec::new()))
    );
    assert_eq!(
        ask(client, 5, Query::Connections(page)).await,
        Ok(Report::Connections(listed))
    );
    assert_eq!(
        ask(client, 6, Query::Ports).await,
        Ok(Report::Ports(Vec::new()))
    );
    assert_eq!(
        ask(client, 7, Query::Workers).await,
        Ok(Report::Workers(Vec::new()))
    );
    let service = only_service();
    let Ok(Report::Services(one)) = ask(client, 9, Query::Service { service }).await else {
        panic!("no service");
    };
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].service.id, service);
    assert_eq!(
        ask(client, 10, Query::Director).await,
        Ok(Report::Director(DIRECTOR))
    );
    assert_eq!(
        ask(client, 11, Query::Table).await,
        Ok(Report::Table(table()))
    );
    let Ok(Report::Drops(drops)) = ask(client, 8, Query::Drops).await else {
        panic!("no drops");
    };
    assert_eq!(drops.len(), 100_000);
}

#[tokio::test]
async fn a_failure_arrives_with_its_code() {
    let server = Server::start(Limits::default());
    let client = &mut server.connect().await;
    let failure = ask(client, 1, transaction(Some(9))).await.unwrap_err();
    assert_eq!(failure.code, FailureCode::Conflict);
    let removal = Query::Transact(Transaction {
        base_generation: None,
        changes: vec![pollux_api::Change::RemoveService {
            id: ServiceId::address(
                pollux_api::Protocol::Tcp,
                "198.51.100.1:80".parse().unwrap(),
            ),
        }],
    });
    let failure = ask(client, 2, removal).await.unwrap_err();
    assert_eq!(failure.code, FailureCode::NotFound);
    assert!(failure.message.contains("no such service"), "{failure}");
}

#[tokio::test]
async fn what_is_no_request_is_answered_and_the_next_one_served() {
    let server = Server::start(Limits::default());
    let client = &mut server.connect().await;
    let cases: [(&[u8], &str); 4] = [
        (b"hello\n", "not a message of this socket"),
        (b"\n", "not a message of this socket"),
        (
            b"{\"version\":2,\"id\":1,\"body\":{}}\n",
            "message version 2",
        ),
        (
            b"{\"version\":1,\"id\":1,\"body\":{\"query\":\"dance\"}}\n",
            "unknown variant `dance`",
        ),
    ];
    for (bytes, text) in cases {
        send(client, bytes).await;
        let response = receive(client).await;
        let failure = response.result.unwrap_err();
        assert_eq!((response.id, failure.code), (0, FailureCode::BadRequest));
        assert!(failure.message.contains(text), "{failure}");
    }
    assert!(ask(client, 1, Query::Services).await.is_ok());
}

/// `splitmix64`.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[tokio::test]
async fn a_thousand_malformed_requests_have_an_error_each_and_change_nothing() {
    let server = Server::start(Limits::default());
    let good = line::encode(&Request::new(1, transaction(None))).unwrap();
    let good = &good[..good.len() - 1];
    let mut state = 7;
    let mut client = server.connect().await;
    for round in 0..1000_usize {
        let mut bytes = match round % 4 {
            0 => (0..random(&mut state) % 300)
                .map(|_| random(&mut state) as u8)
                .collect(),
            // A byte that no JSON of this request has there, not UTF-8 among them.
            1 => {
                let mut bytes = good.to_vec();
                let at = random(&mut state) as usize % bytes.len();
                bytes[at] = [b'~', 0, 0xff, b'\\'][round / 4 % 4];
                bytes
            }
            2 => {
                let version = format!("\"version\":{}", 2 + random(&mut state) % 1000);
                let text = String::from_utf8(good.to_vec()).unwrap();
                text.replace("\"version\":1", &version).into_bytes()
            }
            _ => good[..random(&mut state) as usize % (good.len() - 1)].to_vec(),
        };
        bytes.retain(|byte| *byte != b'\n');
        bytes.push(b'\n');
        send(&mut client, &bytes).await;
        let response = receive(&mut client).await;
        let failure = response.result.unwrap_err();
        assert_eq!(
            (response.id, failure.code),
            (0, FailureCode::BadRequest),
            "{}",
            String::from_utf8_lossy(&bytes)
        );
        // Some leave in the middle of a request.
        if round % 50 == 0 {
            send(&mut client, &good[..20]).await;
            client = server.connect().await;
        }
    }
    assert_eq!(server.fake.generation.load(Ordering::Relaxed), 0);
    let applied = ask(&mut client, 1, transaction(None)).await;
    assert_eq!(applied, Ok(Report::Applied { generation: 1 }));
}

#[tokio::test]
async fn requests_sent_together_are_answered_in_order() {
    let server = Server::start(Limits::default());
    let client = &mut server.connect().await;
    let mut bytes = Vec::new();
    for id in 1..=100 {
        bytes.extend(line::encode(&Request::new(id, transaction(None))).unwrap());
    }
    send(client, &bytes).await;
    for id in 1..=100 {
        let response = receive(client).await;
        assert_eq!(
            response,
            Response::new(id, Ok(Report::Applied { generation: id }))
        );
    }
}

#[tokio::test]
async fn slow_clients_hold_up_nobody() {
    let server = Server::start(Limits::default());
    // One stops in the middle of a request, one waits for a slow answer, one does not read a long one.
    let mut half = server.connect().await;
    send(&mut half, b"{\"version\":1,").await;
    let mut waits = server.connect().await;
    send(
        &mut waits,
        &line::encode(&Request::new(1, Query::Ports)).unwrap(),
    )
    .await;
    let mut deaf = server.connect().await;
    send(
        &mut deaf,
        &line::encode(&Request::new(1, Query::Drops)).unwrap(),
    )
    .await;
    let client = &mut server.connect().await;
    for id in 1..=3 {
        assert!(ask(client, id, Query::Services).await.is_ok());
    }
    server.fake.gate.notify_one();
    assert_eq!(
        receive(&mut waits).await,
        Response::new(1, Ok(Report::Ports(Vec::new())))
    );
    let all = receive(&mut deaf).await.result;
    assert!(matches!(all, Ok(Report::Drops(drops)) if drops.len() == 100_000));
}

/// Time stands still while there is something to do, so that whatever a slow machine does, a client that waits for longer
/// than the limit sees the end of it: an answer that took longer to make than the client waited came whole.
#[tokio::test(start_paused = true)]
async fn limits_are_kept() {
    let limits = Limits {
        line_bytes_max: 100,
        line_timeout: Duration::from_millis(50),
        clients_max: 2,
    };
    let server = Server::start(limits);
    let mut long = server.connect().await;
    send(&mut long, &[b'x'; 100]).await;
    let failure = receive(&mut long).await.result.unwrap_err();
    assert!(failure.message.contains("more than 100 bytes"), "{failure}");
    assert!(long.fill_buf().await.unwrap().is_empty(), "still connected");

    let mut slow = server.connect().await;
    send(&mut slow, b"{").await;
    assert!(slow.fill_buf().await.unwrap().is_empty(), "still connected");

    let mut deaf = server.connect().await;
    send(
        &mut deaf,
        &line::encode(&Request::new(1, Query::Drops)).unwrap(),
    )
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut rest = Vec::new();
    deaf.read_to_end(&mut rest).await.unwrap();
    assert!(!rest.ends_with(b"\n"), "all of it came");

    // An idle client has all the time there is.
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(ask(&mut one, 1, Query::Services).await.is_ok());
    assert!(ask(&mut two, 1, Query::Services).await.is_ok());
    let mut third = server.connect().await;
    let failure = receive(&mut third).await.result.unwrap_err();
    assert!(
        failure.message.contains("2 clients are connected already"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_dead_ones_socket_is_replaced_and_a_living_ones_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dataplane.sock");
    // What is left after kill -9: a socket nobody listens on.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let socket = PrivateSocket::open(directory.path(), Limits::default()).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let error = PrivateSocket::open(directory.path(), Limits::default()).unwrap_err();
    let expected = format!(
        "another data plane runs with this run dir (pid {}): stop it, or give this one a directory of its own instead \
         of {} with --run-dir",
        std::process::id(),
        directory.path().display()
    );
    assert_eq!(error.to_string(), expected);
    drop(socket);
    assert!(!path.exists());
    PrivateSocket::open(directory.path(), Limits::default()).unwrap();
}

#[tokio::test]
async fn a_place_that_cannot_hold_a_socket_is_named() {
    let error = PrivateSocket::open(Path::new("/proc/pollux"), Limits::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("cannot make the run directory /proc/pollux"),
        "{text}"
    );
}

#[tokio::test]
async fn a_stopped_server_takes_its_socket_along() {
    let server = Server::start(Limits::default());
    let path = server.directory.path().join("dataplane.sock");
    assert!(path.exists());
    server.task.abort();
    assert!(server.task.await.unwrap_err().is_cancelled());
    assert!(!path.exists());
}
