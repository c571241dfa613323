//! One client of the socket for IPVS tools: datagrams of netlink messages, answered in order, within limits.

use std::io;
use std::sync::Arc;

use netlink_packet_core::NetlinkHeader;
use rustix::io::Errno;
use tokio::time::timeout;
use tokio_seqpacket::UnixSeqpacket;

use super::caller::Caller;
use super::clients::Presence;
use super::ipvs_file::{FileError, ProcFile};
use super::limits::ANSWER_TIME_MAX;
use super::{Daemon, off_loop};
use crate::ipvs::message::{Message, Messages};
use crate::ipvs::refusal::Refusal;
use crate::ipvs::reply::Reply;
use crate::ipvs::request::{self, Request};

/// The longest datagram that is taken; libnl's messages have room for 4 KiB.
const DATAGRAM_BYTES_MAX: usize = 16 << 10;

/// Longer lists are written on another thread.
const SHORT_LIST: usize = 64;

/// Refusals of one client that are explained in the log, so that none can fill it.
const REASONS_LOGGED_MAX: u32 = 16;

/// Why a session ends before the client closes it.
#[derive(Debug, thiserror::Error)]
enum SessionEnd {
    #[error("it went away: {0}")]
    Gone(#[from] io::Error),
    #[error("it did not read its answer within {} s", ANSWER_TIME_MAX.as_secs())]
    DoesNotRead,
}

/// Serves a client until it closes, breaks a limit or is dropped to make room.
pub async fn serve(daemon: Arc<Daemon>, socket: UnixSeqpacket, presence: Presence) {
    let caller = Caller::of_ipvs(&socket);
    let mut session = Session {
        daemon,
        caller,
        socket,
        presence,
        reasons_logged: 0,
        written: None,
    };
    if let Err(end) = session.run().await {
        log::info!("IPVS tool cut off: {end}");
    }
}

struct Session {
    daemon: Arc<Daemon>,
    caller: Caller,
    socket: UnixSeqpacket,
    presence: Presence,
    reasons_logged: u32,
    written: Option<Written>,
}

/// The file that a client writes to.
struct Written {
    setting: &'static str,
    /// Why something was not taken, until the client asks.
    refusal: Option<Refusal>,
}

impl Session {
    async fn run(&mut self) -> Result<(), SessionEnd> {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let received = match self.socket.recv(&mut buffer).await {
                Ok(received) => received.bytes_read(),
                // Its answers were not all read: not worth a line.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            if received == 0 {
                return Ok(());
            }
            self.presence.busy();
            let datagram = buffer.get(..received).unwrap_or_default();
            if let Some(written) = self.written.take() {
                self.take(written, datagram).await?;
            } else {
                for message in Messages::new(datagram) {
                    self.answer(message).await?;
                }
            }
            self.presence.idle();
        }
    }

    /// What is written to a file, or the question what became of it.
    async fn take(&mut self, mut written: Written, datagram: &[u8]) -> Result<(), SessionEnd> {
        let asked = Messages::new(datagram)
            .next()
            .and_then(Result::ok)
            .filter(|message| message.header.message_type == request::VERDICT);
        if let Some(question) = asked {
            let answer = match written.refusal.take() {
                Some(refusal) => {
                    self.explain(&refusal);
                    question.answer(Err(&refusal))
                }
                None => vec![question.acknowledgement()],
            };
            self.written = Some(written);
            return self.send(answer).await;
        }
        if let Err(refusal) = self
            .daemon
            .write_setting(&self.caller, written.setting, datagram)
            .await
        {
            written.refusal = Some(refusal);
        }
        self.written = Some(written);
        Ok(())
    }

    async fn answer(
        &mut self,
        message: Result<Message<'_>, Message<'_>>,
    ) -> Result<(), SessionEnd> {
        let (message, request) = match message {
            Ok(message) => (message, Request::read(&message)),
            Err(broken) => (broken, Err(Errno::INVAL)),
        };
        let result = match request {
            Ok(Request::File(path)) => match ProcFile::at(&path) {
                Ok(file) => return self.give(file, &message).await,
                Err(errno) => Err(errno.into()),
            },
            Ok(Request::FileToWrite(path)) => match ProcFile::setting_at(&path) {
                Ok(setting) => {
                    self.written = Some(Written {
                        setting,
                        refusal: None,
                    });
                    return self.send(vec![message.acknowledgement()]).await;
                }
                Err(refusal) => Err(refusal),
            },
            Ok(request) => self.daemon.ipvs(&self.caller, request).await,
            Err(errno) => Err(errno.into()),
        };
        let datagrams = self.datagrams(&message, result).await;
        let bytes = datagrams.iter().map(Vec::len).sum();
        let mut share = self.daemon.budget.share();
        if share.cover(bytes) {
            self.send(datagrams).await
        } else {
            self.send(message.answer(Err(&Errno::BUSY.into()))).await
        }
    }

    async fn datagrams(
        &mut self,
        message: &Message<'_>,
        result: Result<Reply, Refusal>,
    ) -> Vec<Vec<u8>> {
        match result {
            Ok(Reply::Many(list)) if list.len() > SHORT_LIST => {
                let header: NetlinkHeader = message.header;
                let write = move || {
                    let message = Message { header, bytes: &[] };
                    message.answer(Ok(&Reply::Many(list)))
                };
                off_loop(write).await
            }
            Ok(reply) => message.answer(Ok(&reply)),
            Err(refusal) => {
                self.explain(&refusal);
                message.answer(Err(&refusal))
            }
        }
    }

    /// Tools show no more than the number, mostly.
    fn explain(&mut self, refusal: &Refusal) {
        if refusal.reason.is_some() && self.reasons_logged < REASONS_LOGGED_MAX {
            self.reasons_logged += 1;
            log::info!("IPVS tool refused: {refusal}");
        }
    }

    async fn send(&self, datagrams: Vec<Vec<u8>>) -> Result<(), SessionEnd> {
        for datagram in datagrams {
            timeout(ANSWER_TIME_MAX, self.socket.send(&datagram))
                .await
                .map_err(|_| SessionEnd::DoesNotRead)??;
        }
        Ok(())
    }

    /// Gives a file. The reader may take its time: while it does, it counts as idle.
    async fn give(&self, file: ProcFile, message: &Message<'_>) -> Result<(), SessionEnd> {
        let acknowledgement = message.acknowledgement();
        let handing = ProcFile::hand_over(&self.socket, &acknowledgement);
        let mut pipe = timeout(ANSWER_TIME_MAX, handing)
            .await
            .map_err(|_| SessionEnd::DoesNotRead)??;
        self.presence.idle();
        match file.write(&self.daemon, &mut pipe).await {
            // A reader that has seen enough.
            Ok(()) | Err(FileError::Reader(_)) => {}
            Err(error) => log::warn!("a file of /proc was cut short for an IPVS tool: {error}"),
        }
        Ok(())
    }
}
