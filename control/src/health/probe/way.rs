//! How a server is reached: at its own address, or by the path of a service's connections ([`pollux_api::health::path`]).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

use pollux_api::health::path::CHECK_PORTS;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::Failed;

/// How a server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// Here.
    Address(SocketAddr),
    /// By a path: the server's address, and the path's number for a port.
    Path(SocketAddr),
}

/// Payload of a segment, bytes: with all headers of any tunnel it passes any link of IPv6.
const SEGMENT_BYTES: u32 = 1120;

/// Ports that are tried, at most: others have them.
const TRIES: usize = 64;

impl Way {
    /// A connection that ends by a reset.
    pub(super) async fn connect(self) -> Result<TcpStream, Failed> {
        let stream = match self {
            Self::Address(server) => TcpStream::connect(server).await,
            Self::Path(server) => {
                let socket = from_a_port_of_its_own(server.ip(), Type::STREAM);
                let socket = socket.map_err(Failed::Unasked)?;
                socket.set_tcp_mss(SEGMENT_BYTES).map_err(Failed::Unasked)?;
                TcpSocket::from_std_stream(socket.into())
                    .connect(server)
                    .await
            }
        };
        let stream = stream.map_err(Failed::Connect)?;
        // Closed by a reset: thousands of checks a second would leave as many connections to wait for a minute each.
        let _ = stream.set_zero_linger();
        Ok(stream)
    }

    /// A socket that takes answers of this server only, and its refusals.
    pub(super) async fn datagrams(self) -> Result<UdpSocket, Failed> {
        let (socket, server) = match self {
            Self::Address(server) => (UdpSocket::bind(any(server.ip(), 0)).await, server),
            Self::Path(server) => {
                let socket = from_a_port_of_its_own(server.ip(), Type::DGRAM);
                (
                    socket.and_then(|socket| UdpSocket::from_std(socket.into())),
                    server,
                )
            }
        };
        let socket = socket.map_err(Failed::Unasked)?;
        socket.connect(server).await.map_err(Failed::Connect)?;
        Ok(socket)
    }
}

/// Any address of the family of this one.
fn any(server: IpAddr, port: u16) -> SocketAddr {
    match server {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
    }
}

/// A socket from one of the ports that the data plane looks at. No other socket has it: without `SO_REUSEADDR` the kernel
/// gives it once.
fn from_a_port_of_its_own(server: IpAddr, kind: Type) -> io::Result<Socket> {
    /// In turn, so that a late answer finds nobody at its port.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let (domain, protocol) = (
        if server.is_ipv4() {
            Domain::IPV4
        } else {
            Domain::IPV6
        },
        if kind == Type::STREAM {
            Protocol::TCP
        } else {
            Protocol::UDP
        },
    );
    let socket = Socket::new(domain, kind.nonblocking(), Some(protocol))?;
    if server.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let count = CHECK_PORTS.end() - CHECK_PORTS.start() + 1;
    let mut bound = Ok(());
    for _ in 0..TRIES {
        let port = CHECK_PORTS.start() + NEXT.fetch_add(1, Ordering::Relaxed) % count;
        bound = socket.bind(&any(server, port).into());
        match &bound {
            Err(error) if Errno::from_io_error(error) == Some(Errno::ADDRINUSE) => {}
            _ => break,
        }
    }
    bound.map_err(|error| {
        let (first, last) = (CHECK_PORTS.start(), CHECK_PORTS.end());
        let text = format!(
            "no port of {first} to {last} is free for a check by a service's path: {error}"
        );
        io::Error::new(error.kind(), text)
    })?;
    Ok(socket)
}
