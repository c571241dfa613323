//! One question to one server, over an ordinary socket of the kernel.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pollux_api::health::{Probe, StatusRange};
use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::history::Outcome;

/// An answer whose first line is longer is no HTTP.
const STATUS_LINE_BYTES_MAX: usize = 1024;

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("connect: {0}")]
    Connect(io::Error),
    #[error("connected, then: {0}")]
    Exchange(io::Error),
    #[error("closed the connection without an answer")]
    Closed,
    #[error("the answer is no HTTP")]
    NoHttp,
    #[error("status {0}")]
    Status(u16),
}

/// Asks. None when this machine could not ask, which says nothing about the server; the error is logged by the caller.
///
/// # Errors
/// What this machine lacks.
pub async fn ask(probe: &Probe, server: SocketAddr, limit: Duration) -> Result<Outcome, io::Error> {
    let start = Instant::now();
    let asked = async {
        match probe {
            Probe::Tcp => connect(server).await.map(|_| "connected".to_owned()),
            Probe::Http { path, host, status } => {
                http(server, path, host.as_deref(), *status).await
            }
        }
    };
    let took = |what: String| format!("{what} in {} ms", start.elapsed().as_millis());
    Ok(match timeout(limit, asked).await {
        Ok(Ok(what)) => Outcome {
            good: true,
            reason: took(what),
        },
        Ok(Err(Failed::Connect(error))) if is_ours(&error) => return Err(error),
        Ok(Err(error)) => Outcome {
            good: false,
            reason: error.to_string(),
        },
        Err(_) => Outcome {
            good: false,
            reason: format!("no answer within {} ms", limit.as_millis()),
        },
    })
}

/// Whether it was this machine that could not.
fn is_ours(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL)
    )
}

async fn connect(server: SocketAddr) -> Result<TcpStream, Failed> {
    TcpStream::connect(server).await.map_err(Failed::Connect)
}

async fn http(
    server: SocketAddr,
    path: &str,
    host: Option<&str>,
    status: StatusRange,
) -> Result<String, Failed> {
    let mut stream = connect(server).await?;
    let host = host.map_or_else(|| server.to_string(), str::to_owned);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: pollux\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    let asked = stream.write_all(request.as_bytes()).await;
    asked.map_err(Failed::Exchange)?;
    let mut answer = Vec::with_capacity(STATUS_LINE_BYTES_MAX);
    let mut part = [0; STATUS_LINE_BYTES_MAX];
    let line = loop {
        let read = stream.read(&mut part).await.map_err(Failed::Exchange)?;
        if read == 0 {
            return Err(if answer.is_empty() {
                Failed::Closed
            } else {
                Failed::NoHttp
            });
        }
        answer.extend_from_slice(part.get(..read).unwrap_or_default());
        if let Some(line) = answer.split_inclusive(|byte| *byte == b'\n').next()
            && line.ends_with(b"\n")
        {
            break line;
        }
        if answer.len() >= STATUS_LINE_BYTES_MAX {
            return Err(Failed::NoHttp);
        }
    };
    let code = status_code(line).ok_or(Failed::NoHttp)?;
    if !status.contains(code) {
        return Err(Failed::Status(code));
    }
    Ok(format!("status {code}"))
}

/// The code of `HTTP/1.1 200 OK`.
fn status_code(line: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(line.get(..13)?).ok()?;
    let rest = text
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| text.strip_prefix("HTTP/1.0 "))?;
    let (digits, end) = rest.split_at_checked(3)?;
    let is_code =
        digits.bytes().all(|byte| byte.is_ascii_digit()) && end.starts_with([' ', '\r', '\n']);
    is_code.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
