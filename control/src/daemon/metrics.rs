//! `GET /metrics` over HTTP, on the address that `[control]` says, if it does.
//!
//! What a client can cost is bounded: the bytes of a request, the time for all of it and its answer, the number of clients;
//! one too many takes the place of the one that has been there longest, which a scraper that reads has long left. The data
//! plane is asked once a second at most, whoever asks how often. Answers are written piece by piece as they are read.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout};

use super::clients::{Clients, Presence};
use super::{Daemon, pieces};
use crate::metrics::{DataplaneSample, Format, Sample, encode};

/// Scrapers at once; each costs a thread while it is answered.
const CLIENTS_MAX: usize = 16;

/// From the connection to the last byte of the answer; as long as Prometheus waits unless told otherwise.
const SCRAPE_TIME_MAX: Duration = Duration::from_secs(10);

/// From the connection to the end of the request's header.
const HEADER_TIME_MAX: Duration = Duration::from_secs(5);

/// The longest header of a request, in bytes.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// A sample is shared by all who ask within this time.
const SAMPLE_AGE_MAX: Duration = Duration::from_secs(1);

/// Pause after the address could not be listened on.
const RETRY: Duration = Duration::from_secs(5);

/// The last sample, as long as it is fresh.
#[derive(Debug, Default)]
pub struct LastSample(Mutex<Option<(Instant, Arc<Sample>)>>);

/// Serves scrapers for ever. An address that cannot be had is tried again: it may belong to an interface that comes up
/// later.
pub async fn serve(daemon: &Arc<Daemon>, address: Option<SocketAddr>) {
    let Some(address) = address else {
        return std::future::pending().await;
    };
    let listener = listen(address).await;
    let clients = Arc::new(Clients::new(CLIENTS_MAX));
    let next = async || Ok(listener.accept().await?.0);
    super::accept(&clients, next, |stream, presence| {
        answer_one(Arc::clone(daemon), stream, presence)
    })
    .await;
}

async fn listen(address: SocketAddr) -> TcpListener {
    let mut is_first = true;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                log::info!("metrics: http://{address}/metrics");
                return listener;
            }
            Err(error) if is_first => log::error!(
                "control.metrics: cannot listen on {address}: {error}; trying again every {} s",
                RETRY.as_secs()
            ),
            Err(_) => {}
        }
        is_first = false;
        sleep(RETRY).await;
    }
}

/// One request of one client; whoever wants more connects again.
async fn answer_one(daemon: Arc<Daemon>, stream: TcpStream, _presence: Presence) {
    let service = service_fn(move |request| {
        let daemon = Arc::clone(&daemon);
        async move { Ok::<_, Infallible>(answer(&daemon, &request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(SCRAPE_TIME_MAX, connection).await {
        // Broken requests have been answered; clients that went away need no answer.
        Ok(Ok(()) | Err(_)) => {}
        Err(_) => log::info!(
            "a scraper was cut off: it was not done within {} s",
            SCRAPE_TIME_MAX.as_secs()
        ),
    }
}

async fn answer(daemon: &Daemon, request: &Request<Incoming>) -> Response<Pieces> {
    if request.uri().path() != "/metrics" {
        return short(StatusCode::NOT_FOUND, "there is only /metrics\n");
    }
    if request.method() != Method::GET {
        let mut refusal = short(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        let get = HeaderValue::from_static("GET");
        refusal.headers_mut().insert(ALLOW, get);
        return refusal;
    }
    let accepted = request.headers().get(ACCEPT);
    let accepted = accepted.and_then(|value| value.to_str().ok());
    let format = Format::accepted(accepted.unwrap_or_default());
    let sample = daemon.sample().await;
    let pieces = pieces::written(move |writer| {
        encode(sample, format, writer).map_err(|_| io::ErrorKind::BrokenPipe.into())
    });
    let mut response = Response::new(Pieces(pieces));
    let content_type = HeaderValue::from_static(format.content_type());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn short(status: StatusCode, text: &'static str) -> Response<Pieces> {
    let (sender, pieces) = mpsc::channel(1);
    // There is room for one.
    let _ = sender.try_send(Bytes::from_static(text.as_bytes()));
    let mut response = Response::new(Pieces(pieces));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// The body of an answer, piece by piece.
struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = self.0.poll_recv(context);
        piece.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

impl LastSample {
    /// Frees a sample that nobody will be given any more.
    pub fn forget_old(&self) {
        if let Ok(mut last) = self.0.try_lock()
            && last
                .as_ref()
                .is_some_and(|(taken, _)| taken.elapsed() > SAMPLE_AGE_MAX)
        {
            *last = None;
        }
    }
}

impl Daemon {
    /// What is to be told now.
    async fn sample(&self) -> Arc<Sample> {
        let mut last = self.last_sample.0.lock().await;
        if let Some((taken, sample)) = &*last
            && taken.elapsed() <= SAMPLE_AGE_MAX
        {
            return Arc::clone(sample);
        }
        // Not two at a time.
        *last = None;
        let sample = Arc::new(Sample {
            dataplane: self.sample_dataplane().await,
            health: self.health.report(),
            quorums: self.health.services(),
        });
        *last = Some((Instant::now(), Arc::clone(&sample)));
        sample
    }

    /// What can be had of the data plane: a port that does not answer takes only the ports' counters along.
    async fn sample_dataplane(&self) -> Option<DataplaneSample> {
        Some(DataplaneSample {
            totals: self.director().await.ok()?.totals,
            table: self.table().await.ok()?,
            services: self.services().await.ok()?,
            ports: self.ports().await.unwrap_or_default(),
            workers: self.workers().await.ok()?,
            drops: self.drops().await.ok()?,
            sync: self.sync_status().await.ok()?,
        })
    }
}
