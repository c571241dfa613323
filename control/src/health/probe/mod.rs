//! One question to one server, over an ordinary socket of the kernel.

mod agent;
mod dns;
mod exchange;
mod grpc;
mod http;
mod ping;
mod script;
mod smtp;
mod tls;
mod udp;
mod way;

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pollux_api::health::{Check, Probe};
use pollux_api::{DestinationId, ServiceId};
use rustix::io::Errno;
use tokio::time::timeout;

use super::outcome::Outcome;

pub use script::{run, service_names};
pub use way::Way;

/// A check made ready to be asked: patterns compiled, certificates read.
#[derive(Debug)]
pub struct Question {
    /// What it is made of.
    pub check: Check,
    /// What is wrong, if it cannot be asked.
    asker: Result<Asker, String>,
}

#[derive(Debug)]
enum Asker {
    Tcp(exchange::Exchange),
    Http(http::Http),
    Https(tls::Tls, http::Http),
    Udp(udp::Datagram),
    Dns(dns::Query),
    Ping,
    Smtp(String),
    Grpc(grpc::HealthCheck),
    Script(script::Script),
    Agent(agent::Agent),
}

/// Who is asked, for whom.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    /// What it is called where names are asked for: its address and port, or the virtual ones.
    pub server: SocketAddr,
    /// How it is reached.
    pub way: Way,
    /// For which service and which of its servers, if that matters.
    pub user: Option<(ServiceId, DestinationId)>,
}

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("connect: {0}")]
    Connect(io::Error),
    #[error("connected, then: {0}")]
    Exchange(io::Error),
    /// This machine could not ask.
    #[error("{0}")]
    Unasked(io::Error),
    #[error("closed the connection without an answer")]
    Closed,
    #[error("{0}")]
    Wrong(Cow<'static, str>),
}

impl Failed {
    fn wrong(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Wrong(reason.into())
    }
}

impl Question {
    /// Makes a check ready. What is wrong with it is said when it is asked.
    pub fn new(check: Check) -> Self {
        let asker = Asker::new(&check.probe);
        Self { check, asker }
    }

    /// Asks.
    ///
    /// # Errors
    /// What this machine lacks; that says nothing about the server.
    pub async fn ask(&self, subject: Subject) -> Result<Outcome, io::Error> {
        let asker = match &self.asker {
            Ok(asker) => asker,
            Err(why) => return Ok(Outcome::silent(format!("cannot be asked: {why}"))),
        };
        let limit = Duration::from_millis(self.check.timeout_ms.into());
        let start = Instant::now();
        match timeout(limit, asker.ask(subject, limit)).await {
            Ok(Ok(outcome)) => Ok(Outcome {
                took: Some(start.elapsed()),
                ..outcome.printable()
            }),
            Ok(Err(Failed::Unasked(error))) => Err(error),
            Ok(Err(Failed::Connect(error))) if is_ours(&error) => Err(error),
            Ok(Err(error)) => Ok(asker.failed(plain(&error.to_string())).printable()),
            Err(_) => Ok(asker.late(limit)),
        }
    }
}

impl Asker {
    fn new(probe: &Probe) -> Result<Self, String> {
        Ok(match probe {
            Probe::Tcp(tcp) => Self::Tcp(exchange::Exchange::new(tcp)?),
            Probe::Http(http) => Self::Http(http::Http::new(http)?),
            Probe::Https(https) => {
                let host = https.http.host.as_deref();
                let tls = tls::Tls::new(&https.tls, host, b"http/1.1")?;
                Self::Https(tls, http::Http::new(&https.http)?)
            }
            Probe::Udp(udp) => Self::Udp(udp::Datagram::new(udp)?),
            Probe::Dns(dns) => Self::Dns(dns::Query::new(dns)),
            Probe::Ping(_) => Self::Ping,
            Probe::Smtp(smtp) => Self::Smtp(smtp.helo.clone()),
            Probe::Grpc(grpc) => Self::Grpc(grpc::HealthCheck::new(grpc)?),
            Probe::Script(script) => Self::Script(script::Script::new(script)),
            Probe::Agent(agent) => Self::Agent(agent::Agent::new(agent)),
        })
    }

    async fn ask(&self, subject: Subject, limit: Duration) -> Result<Outcome, Failed> {
        let Subject { server, way, .. } = subject;
        match self {
            Self::Tcp(exchange) => exchange.ask(way.connect().await?).await,
            Self::Http(http) => http.ask(way.connect().await?, server).await,
            // Of many kinds of futures the largest counts, for each server that is asked: the rare ones are elsewhere.
            Self::Https(tls, http) => {
                let asked = async {
                    let (stream, expiry) = tls.wrap(way.connect().await?, server).await?;
                    Ok(expiry.warn(http.ask(stream, server).await?))
                };
                Box::pin(asked).await
            }
            Self::Udp(datagram) => datagram.ask(way, limit).await,
            Self::Dns(query) => query.ask(way).await,
            Self::Ping => ping::ask(server.ip()).await,
            Self::Smtp(helo) => Box::pin(smtp::ask(way.connect().await?, helo)).await,
            Self::Grpc(grpc) => Box::pin(grpc.ask(way, server)).await,
            Self::Script(script) => Box::pin(script.ask(subject)).await,
            Self::Agent(agent) => agent.ask(way).await,
        }
    }

    fn failed(&self, why: String) -> Outcome {
        match self {
            Self::Agent(_) => agent::unreachable(&why),
            _ => Outcome::bad(why),
        }
    }

    fn late(&self, limit: Duration) -> Outcome {
        let late = Outcome::late(limit);
        match self {
            Self::Agent(_) => Outcome {
                is_late: true,
                ..agent::unreachable(&late.reason)
            },
            _ => late,
        }
    }
}

/// Without the kernel's numbers of errors, which the words stand for.
fn plain(text: &str) -> String {
    let number = text.rsplit_once(" (os error ");
    let before = number.filter(|(_, number)| number.ends_with(')'));
    before.map_or(text, |(before, _)| before).to_owned()
}

/// Whether it was this machine that could not.
fn is_ours(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL)
    )
}

#[cfg(test)]
mod tests;
