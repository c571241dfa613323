//! UDP: a datagram and its answer.

use std::io;
use std::time::Duration;

use pollux_api::health::probe::UdpProbe;
use regex::bytes::Regex;
use tokio::time::timeout;

use super::super::outcome::Outcome;
use super::Failed;
use super::exchange::pattern;
use super::way::Way;

/// The largest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// What is sent and what is to be answered.
#[derive(Debug)]
pub struct Datagram {
    payload: Vec<u8>,
    reply: bool,
    expect: Option<Regex>,
}

impl Datagram {
    /// Makes it ready.
    pub fn new(probe: &UdpProbe) -> Result<Self, String> {
        Ok(Self {
            payload: probe.payload().ok_or("send_hex is no bytes")?,
            reply: probe.reply,
            expect: pattern(probe.expect.as_deref())?,
        })
    }

    /// Asks.
    pub async fn ask(&self, way: Way, limit: Duration) -> Result<Outcome, Failed> {
        let socket = way.datagrams().await?;
        socket.send(&self.payload).await.map_err(refused)?;
        let mut answer = Vec::with_capacity(DATAGRAM_BYTES_MAX);
        let received = socket.recv_buf(&mut answer);
        let received = if self.reply {
            received.await
        } else {
            // A refusal comes soon or never.
            match timeout(limit.mul_f32(0.9), received).await {
                Ok(received) => received,
                Err(_) => return Ok(Outcome::good("not refused")),
            }
        };
        received.map_err(refused)?;
        match &self.expect {
            Some(expect) if !expect.is_match(&answer) => {
                Err(Failed::wrong("the answer does not match"))
            }
            Some(_) => Ok(Outcome::good("the answer matches")),
            None => Ok(Outcome::good("answered")),
        }
    }
}

/// What ICMP said of a datagram.
pub fn refused(error: io::Error) -> Failed {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failed::wrong("port unreachable"),
        _ => Failed::Connect(error),
    }
}
