//! The two sockets of the mirror: one hears what changes, the other asks. rtnetlink(7), netlink(7).
//!
//! They are separate because the kernel stamps a notification with the sequence number of whoever caused it, which on
//! a shared socket could be taken for the answer to a question of ours. Neither queues anything in this process: what
//! is not read waits in the kernel's buffer, and when that overflows, [`NetlinkError::Overrun`] says so.

use std::io;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use thiserror::Error;
use tokio::time::timeout;

/// The multicast groups to hear (`rtnetlink.h`): LINK, NEIGH, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR,
/// IPV6_ROUTE, IPV6_RULE.
const GROUPS: [u32; 8] = [1, 3, 5, 7, 8, 9, 11, 19];

/// The kernel never sends more at once than 32 KiB, but for a single message that is longer.
const DATAGRAM_BYTES_MAX: usize = 1 << 18;

/// The kernel answers within microseconds; a longer silence is a fault.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// `ENOBUFS`: events were lost because the receive buffer was full.
const ENOBUFS: i32 = 105;

/// Why the kernel could not be asked or heard.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// The socket could not be made or failed.
    #[error("the netlink socket to the kernel failed: {0}")]
    Socket(#[from] io::Error),
    /// The kernel said no.
    #[error("the kernel refused to {what}: {source}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// No answer.
    #[error("the kernel did not answer when asked to {what}")]
    Timeout {
        /// What was asked.
        what: &'static str,
    },
    /// Events came faster than they were read, and some are lost.
    #[error("the kernel changed faster than it was listened to, and some changes were missed")]
    Overrun,
}

/// Whether a dump shows one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dump {
    /// It does.
    Whole,
    /// The table changed meanwhile, something may be missing: ask again.
    Interrupted,
}

/// A netlink socket with the buffer its datagrams are read into.
struct Channel {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl Channel {
    fn open(groups: &[u32], receive_buffer_bytes: Option<usize>) -> Result<Self, NetlinkError> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        if let Some(bytes) = receive_buffer_bytes {
            socket.socket_ref().set_rx_buf_sz(bytes)?;
        }
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        for group in groups {
            socket.socket_mut().add_membership(*group)?;
        }
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(DATAGRAM_BYTES_MAX),
        })
    }

    /// One datagram of messages, as soon as there is one. Nothing is lost when the future is dropped.
    async fn receive(&mut self) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, NetlinkError> {
        self.buffer.clear();
        let received = self.socket.recv_from(&mut self.buffer).await;
        read(received, &self.buffer)
    }

    /// One datagram of messages, if one is there.
    fn try_receive(
        &mut self,
    ) -> Result<Option<Vec<NetlinkMessage<RouteNetlinkMessage>>>, NetlinkError> {
        self.buffer.clear();
        let received = self.socket.socket_ref().recv_from(&mut self.buffer, 0);
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            received => read(received.map(|(_, source)| source), &self.buffer).map(Some),
        }
    }
}

fn read(
    received: io::Result<SocketAddr>,
    mut bytes: &[u8],
) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, NetlinkError> {
    let source = match received {
        Ok(source) => source,
        Err(error) if error.raw_os_error() == Some(ENOBUFS) => return Err(NetlinkError::Overrun),
        Err(error) => return Err(error.into()),
    };
    let mut messages = Vec::new();
    if source.port_number() != 0 {
        log::warn!("ignored a netlink message that is not the kernel's: {source}");
        return Ok(messages);
    }
    while let Ok(message) = NetlinkBuffer::new_checked(bytes) {
        let length = usize::try_from(message.length()).unwrap_or(bytes.len());
        match NetlinkMessage::deserialize(bytes) {
            Ok(message) => messages.push(message),
            // A kind of interface or route this release of the library does not know; none of ours.
            Err(error) => log::debug!("ignored a netlink message: {error}"),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(messages)
}

/// The socket that hears what changes.
pub struct Events(Channel);

impl Events {
    /// Listens from now on. The kernel's default buffer is used if no size is given.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    pub fn subscribe(receive_buffer_bytes: Option<usize>) -> Result<Self, NetlinkError> {
        Channel::open(&GROUPS, receive_buffer_bytes).map(Self)
    }

    /// The next events. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// [`NetlinkError::Overrun`] when events were lost; then this socket is of no use any more, as events older than
    /// the loss may still come. [`NetlinkError::Socket`].
    pub async fn next(&mut self) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.0.receive().await.map(events)
    }

    /// Events that are there already.
    ///
    /// # Errors
    /// As [`Events::next`].
    pub fn try_next(&mut self) -> Result<Option<Vec<RouteNetlinkMessage>>, NetlinkError> {
        Ok(self.0.try_receive()?.map(events))
    }
}

fn events(messages: Vec<NetlinkMessage<RouteNetlinkMessage>>) -> Vec<RouteNetlinkMessage> {
    let payloads = messages.into_iter().map(|message| message.payload);
    payloads
        .filter_map(|payload| match payload {
            NetlinkPayload::InnerMessage(event) => Some(event),
            _ => None,
        })
        .collect()
}

/// The socket that asks, one question at a time.
pub struct Requests {
    channel: Channel,
    sequence: u32,
}

impl Requests {
    /// Opens the socket.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            channel: Channel::open(&[], None)?,
            sequence: 0,
        })
    }

    /// Reads a table of the kernel, entry by entry.
    ///
    /// # Errors
    /// Any but [`NetlinkError::Overrun`].
    pub async fn dump(
        &mut self,
        what: &'static str,
        request: RouteNetlinkMessage,
        mut entry: impl FnMut(RouteNetlinkMessage),
    ) -> Result<Dump, NetlinkError> {
        self.send(request, NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut dump = Dump::Whole;
        loop {
            // A long dump is always ready to be read: the other tasks of the thread want their turn, too.
            tokio::task::yield_now().await;
            for message in self.answers(what).await? {
                if message.header.flags & NLM_F_DUMP_INTR != 0 {
                    dump = Dump::Interrupted;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => entry(message),
                    NetlinkPayload::Done(done) if done.code == 0 => return Ok(dump),
                    NetlinkPayload::Done(done) => return refused(what, done.code),
                    NetlinkPayload::Error(error) => return refused(what, error.raw_code()),
                    _ => {}
                }
            }
        }
    }

    /// Has the kernel do something.
    ///
    /// # Errors
    /// Any but [`NetlinkError::Overrun`].
    pub async fn change(
        &mut self,
        what: &'static str,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        self.send(request, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        loop {
            for message in self.answers(what).await? {
                match message.payload {
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                    NetlinkPayload::Error(error) => return refused(what, error.raw_code()),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, request: RouteNetlinkMessage, flags: u16) -> Result<(), NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(request);
        message.header.flags = flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        // The kernel takes and answers a request within the call; the socket is never too full to send.
        let socket = self.channel.socket.socket_ref();
        socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        Ok(())
    }

    /// Answers to the last question; those to one that was given up are skipped.
    async fn answers(
        &mut self,
        what: &'static str,
    ) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, NetlinkError> {
        let mut messages = timeout(ANSWER_TIMEOUT, self.channel.receive())
            .await
            .map_err(|_| NetlinkError::Timeout { what })??;
        messages.retain(|message| message.header.sequence_number == self.sequence);
        Ok(messages)
    }
}

fn refused<T>(what: &'static str, code: i32) -> Result<T, NetlinkError> {
    let source = io::Error::from_raw_os_error(code.saturating_abs());
    Err(NetlinkError::Refused { what, source })
}
