//! TCP: a connection, or what a server says over one.

use pollux_api::health::probe::TcpProbe;
use regex::bytes::Regex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::outcome::Outcome;
use super::Failed;

/// An answer of which this much does not match never will.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What is said and what is to be answered.
#[derive(Debug)]
pub struct Exchange {
    send: Option<String>,
    expect: Option<Regex>,
}

/// Compiles a pattern.
pub fn pattern(text: Option<&str>) -> Result<Option<Regex>, String> {
    let compile = |text: &str| Regex::new(text).map_err(|error| error.to_string());
    text.map(compile).transpose()
}

impl Exchange {
    /// Makes it ready.
    pub fn new(probe: &TcpProbe) -> Result<Self, String> {
        Ok(Self {
            send: probe.send.clone(),
            expect: pattern(probe.expect.as_deref())?,
        })
    }

    /// Asks.
    pub async fn ask(&self, mut stream: TcpStream) -> Result<Outcome, Failed> {
        if let Some(text) = &self.send {
            let sent = stream.write_all(text.as_bytes()).await;
            sent.map_err(Failed::Exchange)?;
        }
        let Some(expect) = &self.expect else {
            return Ok(Outcome::good("connected"));
        };
        let mut answer = Vec::new();
        loop {
            let read = stream.read_buf(&mut answer).await;
            let read = read.map_err(Failed::Exchange)?;
            if expect.is_match(&answer) {
                return Ok(Outcome::good("the answer matches"));
            }
            if read == 0 && answer.is_empty() {
                return Err(Failed::Closed);
            }
            if read == 0 || answer.len() >= ANSWER_BYTES_MAX {
                return Err(Failed::wrong("the answer does not match"));
            }
        }
    }
}
