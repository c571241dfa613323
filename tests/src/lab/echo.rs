//! UDP servers of datagrams of any size, one for each real server: they send back what came, behind their name.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::namespace::inside;
use super::servers::{NAMES, SERVERS4, SERVERS6, VIP4, VIP6};

/// Where they listen.
pub const ECHO_PORT: u16 = 7007;
/// How soon they notice that they are to end.
const LOOK: Duration = Duration::from_millis(100);
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The largest UDP datagram, and more.
const BUFFER_BYTES: usize = 1 << 16;

/// Servers that run as long as it lives.
#[derive(Debug)]
pub struct Echoes {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Echoes {
    /// Starts them at their own addresses and at the virtual ones.
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (number, name) in NAMES.into_iter().enumerate() {
            for address in [SERVERS4[number], SERVERS6[number], VIP4, VIP6] {
                let socket = socket(name, &SocketAddr::new(ip(address), ECHO_PORT), LOOK);
                let stop = Arc::clone(&stop);
                threads.push(thread::spawn(move || answer(&socket, name, &stop)));
            }
        }
        Self { stop, threads }
    }
}

impl Drop for Echoes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn answer(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let answer = [name.as_bytes(), b" ", &buffer[..length]].concat();
            // What cannot be sent is missed by the client.
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// A client's socket with a port of its own, for one server.
#[derive(Debug)]
pub struct EchoClient(UdpSocket);

impl EchoClient {
    /// A socket for datagrams to a virtual address.
    pub fn new(vip: &str) -> Self {
        let any = if vip.contains(':') { "::" } else { "0.0.0.0" };
        let socket = socket("client", &SocketAddr::new(ip(any), 0), PATIENCE);
        inside("client", || socket.connect((vip, ECHO_PORT))).expect("a route to the VIP");
        Self(socket)
    }

    /// Its port, by which its connection shows.
    pub fn port(&self) -> u16 {
        let address = self.0.local_addr().expect("a bound socket has an address");
        address.port()
    }

    /// Sends a datagram and returns who answered. What came back must be what was sent. It is sent once, but when the
    /// path takes no fragments that large (IPv6, in a tunnel), which this machine learns from the error.
    pub fn ask(&self, datagram: &[u8]) -> String {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut send = || {
            self.0.send(datagram).expect("it goes out");
            self.0.recv(&mut buffer)
        };
        let too_big = Some(rustix::io::Errno::MSGSIZE.raw_os_error());
        let answered = match send() {
            Err(error) if error.raw_os_error() == too_big => send(),
            answered => answered,
        };
        let length = answered
            .unwrap_or_else(|error| panic!("no answer to {} bytes: {error}", datagram.len()));
        let answer = &buffer[..length];
        let blank = answer.iter().position(|byte| *byte == b' ');
        let (name, rest) = answer.split_at(blank.expect("a name, a blank and what was sent"));
        assert!(&rest[1..] == datagram, "other bytes came back");
        String::from_utf8_lossy(name).into_owned()
    }
}

fn socket(namespace: &str, address: &SocketAddr, patience: Duration) -> UdpSocket {
    let socket = inside(namespace, || UdpSocket::bind(address))
        .unwrap_or_else(|error| panic!("{namespace} cannot bind {address}: {error}"));
    socket
        .set_read_timeout(Some(patience))
        .expect("a timeout that is not zero");
    socket
}

fn ip(address: &str) -> IpAddr {
    address.parse().expect("an address of the lab")
}
