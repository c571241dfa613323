//! A client of the lab's web servers that keeps its connection, which curl cannot do for as long as a test wants.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::lab::namespace::inside;
use crate::lab::servers::endpoint;

/// One HTTP connection from pollux-client.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to port 80 of an address.
    pub fn open(address: &str) -> Self {
        let target: SocketAddr = endpoint(address, 80)
            .parse()
            .expect("an address of the lab");
        let stream = inside("client", || {
            TcpStream::connect_timeout(&target, Duration::from_secs(5))
        })
        .unwrap_or_else(|error| panic!("cannot connect to {target}: {error}"));
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a timeout of 5 s is valid");
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// The local address, by which the connection shows in `pollux show connections`.
    pub fn local_address(&self) -> SocketAddr {
        self.stream
            .get_ref()
            .local_addr()
            .expect("a connected socket has an address")
    }

    /// Ends it at once, by a reset.
    pub fn reset(self) {
        // Nothing to wait for: what is not sent yet is given up.
        set_socket_linger(self.stream.get_ref(), Some(Duration::ZERO))
            .expect("a socket of our own");
    }

    /// Asks for a page and returns it; the connection stays open.
    pub fn get(&mut self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n");
        self.stream
            .get_mut()
            .write_all(request.as_bytes())
            .expect("the request goes out");
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stream
                .read_line(&mut line)
                .expect("the answer's header arrives");
            if let Some(number) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = number.trim().parse().expect("a length is a number");
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream
            .read_exact(&mut body)
            .expect("the answer's body arrives");
        String::from_utf8(body)
            .expect("the lab's pages are text")
            .trim()
            .to_owned()
    }
}
