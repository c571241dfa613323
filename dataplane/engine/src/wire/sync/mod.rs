//! Messages of connection synchronisation between directors (`ip_vs_sync.c`), each one UDP datagram: version 1 is written and
//! read, version 0 of kernels before 2.6.39 only read. All fields are in network byte order but where it is said.
//!
//! ```text
//! header   0 reserved = 0 | 1 sync id | 2 size of the datagram, bytes | 4 entries | 5 version = 1 | 6 spare = 0 (2)
//! entry    0 type: bit 0 IPv6 | 1 protocol | 2 version (4 bits) and size (12) | 4 flags (4) | 8 state (2)
//!          10 ports of client, virtual service, destination (2 each) | 16 firewall mark (4) | 20 timeout, seconds (4)
//!          24 addresses of client, virtual service, destination (4 or 16 each) | options
//! option   0 type, 0x40: may be passed over | 1 bytes | ...
//! ```
//!
//! The next entry begins at a multiple of four bytes behind this one's first byte; the size of an entry is without that
//! padding.

mod decode;
mod encode;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use arrayvec::ArrayVec;

pub use decode::{Entries, MessageError, Refused, read};
pub use encode::Message;

use super::protocol;

/// The group of the kernel's (`IP_VS_SYNC_GROUP`).
pub const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81));
/// The port of the kernel's (`IP_VS_SYNC_PORT`).
pub const PORT: u16 = 8848;
/// Bytes of a message before its entries.
pub const HEADER_BYTES: usize = 8;
/// Bytes of an entry of IPv4 without options.
pub const V4_BYTES: usize = 36;
/// Bytes of an entry of IPv6 without options.
pub const V6_BYTES: usize = 72;
/// The longest name of a persistence engine, bytes (`IP_VS_PENAME_MAXLEN`).
pub const ENGINE_NAME_BYTES_MAX: usize = 16;
/// The longest data of one, bytes (`IP_VS_PEDATA_MAXLEN`).
pub const ENGINE_DATA_BYTES_MAX: usize = 255;

const VERSION: u8 = 1;
const TYPE_V6: u8 = 1;
/// Bytes of the two [`Sequence`] of a connection.
const SEQUENCES_BYTES: usize = 24;

/// Flags of a connection (`IP_VS_CONN_F_*`), of which bits 0 to 15 are sent.
pub mod flag {
    /// How packets reach the destination, under this mask.
    pub const METHOD: u32 = 0x0007;
    /// By network address translation.
    pub const MASQUERADE: u32 = 0;
    /// Through a tunnel.
    pub const TUNNEL: u32 = 2;
    /// Unchanged.
    pub const DIRECT_ROUTE: u32 = 3;
    /// It was made by synchronisation.
    pub const SYNC: u32 = 0x0020;
    /// No answer has passed.
    pub const NO_OUTPUT: u32 = 0x0080;
    /// It counts as inactive.
    pub const INACTIVE: u32 = 0x0100;
    /// Sequence numbers of the server's are to be changed.
    pub const OUT_SEQUENCE: u32 = 0x0200;
    /// Sequence numbers of the client's are to be changed.
    pub const IN_SEQUENCE: u32 = 0x0400;
    /// Its client's port is not known yet.
    pub const NO_CLIENT_PORT: u32 = 0x0800;
    /// It is a template of a persistent service.
    pub const TEMPLATE: u32 = 0x1000;
    /// It is for one packet; never sent.
    pub const ONE_PACKET: u32 = 0x2000;
    /// What a backup takes over of those that it is sent (`IP_VS_CONN_F_BACKUP_MASK`).
    pub const BACKUP: u32 =
        METHOD | NO_OUTPUT | INACTIVE | OUT_SEQUENCE | IN_SEQUENCE | NO_CLIENT_PORT | TEMPLATE;
}

/// Options of an entry (`IPVS_OPT_*`).
mod option {
    pub const SEQUENCES: u8 = 1;
    pub const ENGINE_DATA: u8 = 2;
    pub const ENGINE_NAME: u8 = 3;
    /// A receiver that does not know the option passes it over.
    pub const MAY_BE_PASSED_OVER: u8 = 0x40;
}

/// By how much sequence numbers of one direction are put off (`struct ip_vs_seq`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sequence {
    /// Numbers behind this one are put off by `delta`, this and those before by `previous_delta`.
    pub position: u32,
    /// Bytes, signed.
    pub delta: i32,
    /// Bytes, signed.
    pub previous_delta: i32,
}

/// What a persistence engine knows a client by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineData {
    /// Its name: `sip`.
    pub name: ArrayVec<u8, ENGINE_NAME_BYTES_MAX>,
    /// The Call-ID.
    pub data: ArrayVec<u8, ENGINE_DATA_BYTES_MAX>,
}

/// A connection, or a template, as directors tell each other of it. All addresses are of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncedConnection {
    /// IP protocol number; 0 for templates of firewall marks.
    pub protocol: u8,
    /// [`flag`].
    pub flags: u32,
    /// The kernel's number of the state.
    pub state: u16,
    /// The client.
    pub client: SocketAddr,
    /// What it speaks to; of a template of a firewall mark, the mark as an address.
    pub virtual_service: SocketAddr,
    /// The real server.
    pub destination: SocketAddr,
    /// Firewall mark; 0: none.
    pub mark: u32,
    /// How long it lives without traffic, seconds; 0: as its state says.
    pub timeout_s: u32,
    /// Of the client's numbers and of the server's.
    pub sequences: Option<[Sequence; 2]>,
    /// Of a template that a persistence engine made.
    pub engine: Option<EngineData>,
}

impl SyncedConnection {
    /// Whether it is a template.
    pub fn is_template(&self) -> bool {
        self.flags & flag::TEMPLATE != 0
    }

    fn is_v6(&self) -> bool {
        self.client.is_ipv6()
    }
}

/// How many states there are, of templates, or of a protocol's connections; none for a protocol that IPVS has no states of.
fn states(is_template: bool, protocol: u8) -> Option<u16> {
    if is_template {
        return Some(2);
    }
    match protocol {
        protocol::TCP => Some(11),
        protocol::UDP => Some(1),
        protocol::SCTP => Some(14),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
