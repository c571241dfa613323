//! One client of the control socket: its requests one after the other, each within its limits.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use pollux_api::control::{Answer, Command};
use pollux_api::line::{self, Failure, FailureCode, Request, Response};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::caller::Caller;
use super::clients::Presence;
use super::limits::{REQUEST_TIME_MAX, SMALL_BYTES, Share, answer_time_max};
use super::line_reader::{ReadError, read_line};
use super::{Daemon, decode, health_answer, off_loop};

/// Why a session ends before the client closes it.
#[derive(Debug, thiserror::Error)]
enum SessionEnd {
    #[error("it went away: {0}")]
    Gone(ReadError),
    #[error("it did not read its answer within {} s", .0.as_secs())]
    DoesNotRead(Duration),
    #[error("its request cannot be read to its end: {0}")]
    Unreadable(String),
}

/// Serves a client until it closes, breaks a limit or is dropped to make room.
pub async fn serve(daemon: Arc<Daemon>, stream: UnixStream, presence: Presence) {
    let caller = Caller::of_control(&stream);
    let (read_half, write_half) = stream.into_split();
    let mut session = Session {
        daemon,
        caller,
        reader: BufReader::with_capacity(SMALL_BYTES, read_half),
        writer: write_half,
        presence,
    };
    loop {
        match session.serve_one().await {
            Ok(()) => {}
            Err(SessionEnd::Gone(ReadError::Closed)) => return,
            Err(end) => {
                log::info!("client cut off: {end}");
                return;
            }
        }
    }
}

struct Session {
    daemon: Arc<Daemon>,
    caller: Caller,
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    presence: Presence,
}

impl Session {
    async fn serve_one(&mut self) -> Result<(), SessionEnd> {
        let mut share = self.daemon.budget.share();
        let line = self.read_request(&mut share).await?;
        self.presence.busy();
        let decoded = decode::<Request<Command>>(line).await;
        let response = match decoded {
            Ok(request) if request.body == Command::ShowHealth => {
                let pieces = health_answer::pieces(Arc::clone(&self.daemon), request.id);
                self.answer_in_pieces(pieces).await?;
                self.presence.idle();
                return Ok(());
            }
            Ok(request) => {
                let result = self.daemon.execute(&self.caller, request.body).await;
                Response::new(request.id, result)
            }
            Err(error) => refusal(FailureCode::BadRequest, error),
        };
        self.answer(response, &mut share).await?;
        self.presence.idle();
        Ok(())
    }

    /// A whole line. The client may be silent as long as it likes, but not stop in the middle.
    async fn read_request(&mut self, share: &mut Share) -> Result<Vec<u8>, SessionEnd> {
        let first = self.reader.fill_buf().await;
        first.map_err(|error| SessionEnd::Gone(error.into()))?;
        let reading = read_line(&mut self.reader, |bytes| share.cover(bytes));
        let (code, text) = match timeout(REQUEST_TIME_MAX, reading).await {
            Ok(Ok(line)) => return Ok(line),
            Ok(Err(error @ (ReadError::Closed | ReadError::Truncated | ReadError::Io(_)))) => {
                return Err(SessionEnd::Gone(error));
            }
            Ok(Err(error @ ReadError::Busy)) => (FailureCode::Busy, error.to_string()),
            Ok(Err(error @ ReadError::TooLong)) => (FailureCode::BadRequest, error.to_string()),
            Err(_) => (
                FailureCode::BadRequest,
                format!(
                    "the request did not end within {} s: it must be one line",
                    REQUEST_TIME_MAX.as_secs()
                ),
            ),
        };
        // Where the next request starts is not known: the client is told and that was it.
        let mut nothing = self.daemon.budget.share();
        self.answer(refusal(code, &text), &mut nothing).await?;
        Err(SessionEnd::Unreadable(text))
    }

    /// What is made while it is read is given the time that its bytes take, however long making them took.
    async fn answer_in_pieces(
        &mut self,
        mut pieces: mpsc::Receiver<Bytes>,
    ) -> Result<(), SessionEnd> {
        let (mut sent, mut waited) = (0, Duration::ZERO);
        while let Some(piece) = pieces.recv().await {
            sent += piece.len();
            let limit = answer_time_max(sent);
            let began = Instant::now();
            let left = limit.saturating_sub(waited);
            match timeout(left, self.writer.write_all(&piece)).await {
                Ok(Ok(())) => waited += began.elapsed(),
                Ok(Err(error)) => return Err(SessionEnd::Gone(error.into())),
                Err(_) => return Err(SessionEnd::DoesNotRead(limit)),
            }
        }
        Ok(())
    }

    async fn answer(
        &mut self,
        response: Response<Answer>,
        share: &mut Share,
    ) -> Result<(), SessionEnd> {
        let id = response.id;
        let encoded = match response.result {
            Ok(Answer::Done { .. }) | Err(_) => line::encode(&response),
            // How long the others become is only known afterwards.
            Ok(_) => off_loop(move || line::encode(&response)).await,
        };
        let mut line =
            encoded.unwrap_or_else(|error| encoded_refusal(id, FailureCode::Internal, error));
        if !share.cover(line.len()) {
            line = encoded_refusal(id, FailureCode::Busy, ReadError::Busy);
        }
        let limit = answer_time_max(line.len());
        match timeout(limit, self.writer.write_all(&line)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(SessionEnd::Gone(error.into())),
            Err(_) => Err(SessionEnd::DoesNotRead(limit)),
        }
    }
}

fn refusal(code: FailureCode, message: impl ToString) -> Response<Answer> {
    Response::new(0, Err(Failure::new(code, message)))
}

fn encoded_refusal(id: u64, code: FailureCode, message: impl ToString) -> Vec<u8> {
    let response: Response<Answer> = Response::new(id, Err(Failure::new(code, message)));
    // A failure is two strings and cannot fail to be JSON; an empty line is no answer, which ends the client's wait.
    line::encode(&response).unwrap_or_else(|_| vec![b'\n'])
}
