//! gRPC's health protocol, `grpc.health.v1`: one call over HTTP/2, its two messages by hand.
//!
//! ```text
//! HealthCheckRequest  { string service = 1; }
//! HealthCheckResponse { ServingStatus status = 1; }     UNKNOWN 0, SERVING 1, NOT_SERVING 2, SERVICE_UNKNOWN 3
//! ```

use std::net::SocketAddr;
use std::pin::pin;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, HeaderMap, TE};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pollux_api::health::probe::GrpcProbe;
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::outcome::Outcome;
use super::tls::Tls;
use super::way::Way;
use super::{Failed, http};

/// An answer is two bytes in a frame of five.
const ANSWER_BYTES_MAX: usize = 1024;

/// What is asked.
#[derive(Debug)]
pub struct HealthCheck {
    message: Bytes,
    host: Option<String>,
    tls: Option<Tls>,
}

impl HealthCheck {
    /// Makes it ready.
    pub fn new(probe: &GrpcProbe) -> Result<Self, String> {
        let host = probe.host.as_deref();
        let tls = probe.use_tls.then(|| Tls::new(&probe.tls, host, b"h2"));
        Ok(Self {
            message: framed(&request(&probe.service)).into(),
            host: probe.host.clone(),
            tls: tls.transpose()?,
        })
    }

    /// Asks.
    pub async fn ask(&self, way: Way, server: SocketAddr) -> Result<Outcome, Failed> {
        let stream = way.connect().await?;
        match &self.tls {
            None => self.call(stream, server, "http").await,
            Some(tls) => {
                let (stream, expiry) = tls.wrap(stream, server).await?;
                Ok(expiry.warn(self.call(stream, server, "https").await?))
            }
        }
    }

    async fn call<S>(&self, stream: S, server: SocketAddr, scheme: &str) -> Result<Outcome, Failed>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let host = self.host.clone().unwrap_or_else(|| server.to_string());
        let request = Request::post(format!("{scheme}://{host}/grpc.health.v1.Health/Check"))
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .body(Full::new(self.message.clone()))
            .map_err(|error| Failed::wrong(error.to_string()))?;
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(http::failed)?;
        let asked = async {
            let answer = sender.send_request(request).await.map_err(http::failed)?;
            judge(answer).await
        };
        let (mut asked, connection) = (pin!(asked), pin!(connection));
        tokio::select! {
            biased;
            outcome = &mut asked => outcome,
            _ = connection => asked.await,
        }
    }
}

async fn judge(answer: Response<Incoming>) -> Result<Outcome, Failed> {
    let code = answer.status().as_u16();
    if code != 200 {
        return Err(Failed::wrong(format!("status {code}")));
    }
    // An error may come in the headers, without a body.
    refused(answer.headers())?;
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
    let body = body.collect().await;
    let body = body.map_err(|_| Failed::wrong("the answer is no gRPC"))?;
    if let Some(trailers) = body.trailers() {
        refused(trailers)?;
    }
    match serving_status(&body.to_bytes()) {
        Some(1) => Ok(Outcome::good("SERVING")),
        Some(0) => Err(Failed::wrong("UNKNOWN")),
        Some(2) => Err(Failed::wrong("NOT_SERVING")),
        Some(3) => Err(Failed::wrong("SERVICE_UNKNOWN")),
        _ => Err(Failed::wrong("the answer is no gRPC health")),
    }
}

/// `grpc-status`, where it is no success.
fn refused(headers: &HeaderMap) -> Result<(), Failed> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        None | Some("0") => Ok(()),
        Some(status) => {
            let message = text("grpc-message").unwrap_or(match status {
                "5" => "service not known",
                "12" => "no health service",
                _ => "no message",
            });
            Err(Failed::wrong(format!("gRPC status {status}: {message}")))
        }
    }
}

/// Field 1, length-delimited; an empty one is left out.
fn request(service: &str) -> Vec<u8> {
    if service.is_empty() {
        return Vec::new();
    }
    let mut message = vec![1 << 3 | 2];
    let mut length = service.len();
    while length >= 0x80 {
        message.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend(service.as_bytes());
    message
}

/// Not compressed, its length, the message.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or_default();
    let mut frame = vec![0];
    frame.extend(length.to_be_bytes());
    frame.extend(message);
    frame
}

/// The status in a framed answer; none if it is none.
fn serving_status(frame: &[u8]) -> Option<u8> {
    let ([compressed, length @ ..], message) = frame.split_first_chunk::<5>()?;
    let is_whole = u32::from_be_bytes(*length) as usize == message.len();
    if *compressed != 0 || !is_whole {
        return None;
    }
    match message {
        [] => Some(0),
        // Field 1, a number below 128.
        [0x08, status @ ..=0x7f] => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        assert_eq!(framed(&request("")), [0, 0, 0, 0, 0]);
        assert_eq!(framed(&request("ab")), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(request(&"x".repeat(300))[..3], [0x0a, 0xac, 0x02]);
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        for wrong in [
            &[0, 0, 0, 0][..],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 2, 16, 1],
        ] {
            assert_eq!(serving_status(wrong), None, "{wrong:?}");
        }
    }
}
