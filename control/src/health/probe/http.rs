//! HTTP/1.1: status and body of the answer to a `GET`.

use std::net::SocketAddr;
use std::pin::pin;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use md5::{Digest, Md5};
use pollux_api::health::probe::from_hex;
use pollux_api::health::{HttpProbe, Statuses};
use regex::bytes::Regex;
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::outcome::Outcome;
use super::Failed;
use super::exchange::pattern;

/// Bodies that are looked at may not be longer.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What is asked and what is to be answered.
#[derive(Debug)]
pub struct Http {
    path: String,
    host: Option<String>,
    status: Statuses,
    body: Option<Regex>,
    body_without: Option<Regex>,
    digest: Option<Vec<u8>>,
}

impl Http {
    /// Makes it ready.
    pub fn new(probe: &HttpProbe) -> Result<Self, String> {
        Ok(Self {
            path: probe.path.clone(),
            host: probe.host.clone(),
            status: probe.status.clone(),
            body: pattern(probe.body.as_deref())?,
            body_without: pattern(probe.body_without.as_deref())?,
            digest: probe.digest.as_deref().and_then(from_hex),
        })
    }

    /// Asks over a connection.
    pub async fn ask<S>(&self, stream: S, server: SocketAddr) -> Result<Outcome, Failed>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let host = self.host.clone().unwrap_or_else(|| server.to_string());
        let request = Request::get(&self.path)
            .header(header::HOST, host)
            .header(header::USER_AGENT, "pollux")
            .header(header::ACCEPT, "*/*")
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| Failed::wrong(error.to_string()))?;
        // As people write them: some servers are picky.
        let handshake = http1::Builder::new()
            .title_case_headers(true)
            .handshake(TokioIo::new(stream))
            .await;
        let (mut sender, connection) = handshake.map_err(failed)?;
        let asked = async {
            let answer = sender.send_request(request).await.map_err(failed)?;
            self.judge(answer).await
        };
        let (mut asked, connection) = (pin!(asked), pin!(connection));
        tokio::select! {
            biased;
            outcome = &mut asked => outcome,
            // It has ended, so what was asked ends as well.
            _ = connection => asked.await,
        }
    }

    async fn judge(&self, answer: Response<Incoming>) -> Result<Outcome, Failed> {
        let code = answer.status().as_u16();
        if !self.status.contains(code) {
            return Err(Failed::wrong(format!("status {code}")));
        }
        if self.body.is_some() || self.body_without.is_some() || self.digest.is_some() {
            let body = Limited::new(answer.into_body(), BODY_BYTES_MAX);
            let body = body.collect().await;
            let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
                Ok(error) => failed(*error),
                Err(_) => Failed::wrong(format!("the body is longer than {BODY_BYTES_MAX} bytes")),
            })?;
            self.judge_body(code, &body.to_bytes())?;
        }
        Ok(Outcome::good(match code {
            200 => "status 200".into(),
            _ => std::borrow::Cow::from(format!("status {code}")),
        }))
    }

    fn judge_body(&self, code: u16, body: &[u8]) -> Result<(), Failed> {
        let matches = |pattern: &Regex| pattern.is_match(body);
        if self.body.as_ref().is_some_and(|pattern| !matches(pattern)) {
            let reason = format!("status {code}, but the body does not match");
            return Err(Failed::wrong(reason));
        }
        if self.body_without.as_ref().is_some_and(matches) {
            let reason = format!("status {code}, but the body matches what it must not");
            return Err(Failed::wrong(reason));
        }
        let Some(wanted) = &self.digest else {
            return Ok(());
        };
        let found = match wanted.len() {
            16 => Md5::digest(body).to_vec(),
            _ => Sha256::digest(body).to_vec(),
        };
        if found == *wanted {
            return Ok(());
        }
        let digits: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
        let reason = format!("status {code}, but the body has digest {digits}");
        Err(Failed::wrong(reason))
    }
}

/// What hyper says, in our words.
pub fn failed(error: hyper::Error) -> Failed {
    if error.is_parse() {
        return Failed::wrong("the answer is no HTTP");
    }
    if error.is_incomplete_message() {
        return Failed::Closed;
    }
    let cause = std::error::Error::source(&error);
    let reason = cause.map_or_else(|| error.to_string(), ToString::to_string);
    Failed::wrong(format!("connected, then: {reason}"))
}
