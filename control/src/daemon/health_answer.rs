//! The answer to `show health`, which may be of ten thousands of servers with sixteen results each: written part by part,
//! each read when its turn comes, so that neither memory nor checks wait for a client.

use std::io::{self, Write as _};
use std::sync::Arc;

use hyper::body::Bytes;
use pollux_api::control::Answer;
use pollux_api::line::{self, Response};
use tokio::sync::mpsc;

use super::Daemon;
use super::pieces::{self, PieceWriter};
use crate::health::REPORT_PART;

/// The line of the answer to a request, in pieces.
pub fn pieces(daemon: Arc<Daemon>, request: u64) -> mpsc::Receiver<Bytes> {
    pieces::written(move |writer| write(&daemon, request, writer))
}

fn write(daemon: &Daemon, request: u64, writer: &mut PieceWriter) -> io::Result<()> {
    let nobody: Response<Answer> = Response::new(request, Ok(Answer::Health(Vec::new())));
    let line = line::encode(&nobody).map_err(io::Error::other)?;
    // The servers are the only list in it.
    let inside = line.windows(2).position(|pair| pair == b"[]");
    let inside = inside.ok_or(io::ErrorKind::InvalidData)? + 1;
    let (before, after) = line.split_at(inside);
    writer.write_all(before)?;
    let listed = daemon.health.listed();
    let mut is_first = true;
    for part in listed.chunks(REPORT_PART) {
        for server in daemon.health.report_of(part) {
            if !std::mem::take(&mut is_first) {
                writer.write_all(b",")?;
            }
            let json = serde_json::to_vec(&server)?;
            writer.write_all(&json)?;
        }
    }
    writer.write_all(after)
}
