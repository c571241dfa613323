//! Reads messages of versions 1 and 0 (`ip_vs_process_message`): what the kernel refuses is refused, and what it makes of a
//! message that is broken further on, all before that, is made of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use arrayvec::ArrayVec;
use thiserror::Error;

use super::{
    EngineData, HEADER_BYTES, SEQUENCES_BYTES, Sequence, SyncedConnection, TYPE_V6, V4_BYTES,
    V6_BYTES, VERSION, flag, option, states,
};

const HEADER_BYTES_V0: usize = 4;
const BYTES_V0: usize = 24;

/// Why nothing, or nothing more, is taken of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum MessageError {
    /// No header.
    #[error("the message is shorter than a header")]
    Short,
    /// Its size is another than the datagram's.
    #[error("the message says another size than it has")]
    Size,
    /// For other directors.
    #[error("the message has another sync id")]
    OtherId,
    /// It ends before the entries do that it says it has.
    #[error("the message ends within an entry")]
    Truncated,
    /// An entry of a version that is not known.
    #[error("an entry is of an unknown version")]
    EntryVersion,
    /// An entry that is neither of IPv4 nor of IPv6.
    #[error("an entry is of an unknown type")]
    EntryType,
    /// An entry that is shorter than its addresses.
    #[error("an entry is too short")]
    ShortEntry,
    /// An option that is empty, that ends behind its entry, that is there twice, or that has an impossible length.
    #[error("an option of an entry is broken")]
    Option,
}

/// Why one entry of a message is not taken; those behind it are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Refused {
    /// It has an option that is not known and may not be passed over.
    #[error("an unknown option that may not be passed over")]
    UnknownOption,
    /// Of one packet, or a template without a client's port.
    #[error("flags that do not go together")]
    Flags,
    /// A protocol that there are no connections of.
    #[error("a protocol without connections")]
    Protocol,
    /// No such state.
    #[error("a state that the protocol does not have")]
    State,
    /// Data of a persistence engine without its name.
    #[error("data of a persistence engine without a name")]
    Engine,
}

/// What an entry comes to, or why no more follow.
type Entry = Result<Result<SyncedConnection, Refused>, MessageError>;

/// The entries of a message, in order. After a [`MessageError`] there are no more.
#[derive(Debug, Clone)]
pub struct Entries<'m> {
    rest: &'m [u8],
    left: u8,
    is_v1: bool,
}

/// Reads a datagram. A receiver with sync id 0 takes those of all.
///
/// # Errors
/// [`MessageError`]; nothing is to be taken of it.
pub fn read(datagram: &[u8], sync_id: u8) -> Result<Entries<'_>, MessageError> {
    let (header, rest) = datagram
        .split_first_chunk::<HEADER_BYTES_V0>()
        .ok_or(MessageError::Short)?;
    let [first, id, size @ ..] = *header;
    if usize::from(u16::from_be_bytes(size)) != datagram.len() {
        return Err(MessageError::Size);
    }
    if sync_id != 0 && id != sync_id {
        return Err(MessageError::OtherId);
    }
    match *rest {
        [entries, VERSION, 0, 0, ref rest @ ..] if first == 0 => Ok(Entries {
            rest,
            left: entries,
            is_v1: true,
        }),
        // The number of entries, which is 0 in every later version.
        _ => Ok(Entries {
            rest,
            left: first,
            is_v1: false,
        }),
    }
}

const _: () = assert!(HEADER_BYTES == HEADER_BYTES_V0 + 4);

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        self.left = self.left.checked_sub(1)?;
        let entry = if self.is_v1 {
            self.next_v1()
        } else {
            self.next_v0()
        };
        if entry.is_err() {
            self.left = 0;
        }
        Some(entry)
    }
}

impl<'m> Entries<'m> {
    fn next_v1(&mut self) -> Entry {
        let head = self
            .rest
            .first_chunk::<V4_BYTES>()
            .ok_or(MessageError::Truncated)?;
        let version_and_size = u16::from_be_bytes([head[2], head[3]]);
        let size = usize::from(version_and_size & 0x0fff);
        let entry = self.rest.get(..size).ok_or(MessageError::Truncated)?;
        if version_and_size >> 12 != 0 {
            return Err(MessageError::EntryVersion);
        }
        // The last one may be without its padding.
        let next = size.next_multiple_of(4).min(self.rest.len());
        self.rest = self.rest.get(next..).unwrap_or_default();
        read_entry(entry)
    }

    fn next_v0(&mut self) -> Entry {
        let entry = self.take(BYTES_V0)?;
        let mut fields = Fields(entry);
        let [_, protocol] = fields.array();
        let ports = [(); 3].map(|()| fields.u16());
        let addresses = [(); 3].map(|()| IpAddr::from(Ipv4Addr::from(fields.array::<4>())));
        let flags = u32::from(fields.u16());
        let state = fields.u16();
        let sequences = if flags & (flag::IN_SEQUENCE | flag::OUT_SEQUENCE) == 0 {
            None
        } else {
            // As the sender has them in memory.
            let mut fields = Fields(self.take(SEQUENCES_BYTES)?);
            Some([(); 2].map(|()| fields.sequence(u32::from_ne_bytes)))
        };
        let [client, virtual_service, destination] = ends(addresses, ports);
        Ok(checked(SyncedConnection {
            protocol,
            flags,
            state,
            client,
            virtual_service,
            destination,
            mark: 0,
            timeout_s: 0,
            sequences,
            engine: None,
        }))
    }

    fn take(&mut self, bytes: usize) -> Result<&'m [u8], MessageError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(bytes)
            .ok_or(MessageError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

fn read_entry(entry: &[u8]) -> Entry {
    let kind = *entry.first().ok_or(MessageError::ShortEntry)?;
    let is_v6 = kind & TYPE_V6 != 0;
    if kind != 0 && !is_v6 {
        return Err(MessageError::EntryType);
    }
    let bytes = if is_v6 { V6_BYTES } else { V4_BYTES };
    let (head, options) = entry
        .split_at_checked(bytes)
        .ok_or(MessageError::ShortEntry)?;
    let options = match Options::read(options)? {
        Ok(options) => options,
        Err(refused) => return Ok(Err(refused)),
    };
    let mut fields = Fields(head);
    let [_, protocol, _, _] = fields.array();
    let flags = fields.u32();
    let state = fields.u16();
    let ports = [(); 3].map(|()| fields.u16());
    let (mark, timeout_s) = (fields.u32(), fields.u32());
    let addresses = [(); 3].map(|()| {
        if is_v6 {
            IpAddr::from(Ipv6Addr::from(fields.array::<16>()))
        } else {
            IpAddr::from(Ipv4Addr::from(fields.array::<4>()))
        }
    });
    let [client, virtual_service, destination] = ends(addresses, ports);
    let connection = SyncedConnection {
        protocol,
        flags,
        state,
        client,
        virtual_service,
        destination,
        mark,
        timeout_s,
        sequences: options.sequences,
        engine: None,
    };
    Ok(checked(connection).and_then(|connection| {
        Ok(SyncedConnection {
            engine: options.engine()?,
            ..connection
        })
    }))
}

/// The kernel's last look at an entry, with the flags that a backup takes over.
fn checked(connection: SyncedConnection) -> Result<SyncedConnection, Refused> {
    let flags = connection.flags;
    let is_template = connection.is_template();
    if flags & flag::ONE_PACKET != 0 || (is_template && flags & flag::NO_CLIENT_PORT != 0) {
        return Err(Refused::Flags);
    }
    let states = states(is_template, connection.protocol).ok_or(Refused::Protocol)?;
    if connection.state >= states {
        return Err(Refused::State);
    }
    Ok(SyncedConnection {
        flags: flags & flag::BACKUP | flag::SYNC,
        ..connection
    })
}

#[derive(Debug, Default)]
struct Options<'e> {
    sequences: Option<[Sequence; 2]>,
    data: Option<&'e [u8]>,
    name: Option<&'e [u8]>,
}

impl<'e> Options<'e> {
    fn read(mut bytes: &'e [u8]) -> Result<Result<Self, Refused>, MessageError> {
        let mut options = Self::default();
        while !bytes.is_empty() {
            let [kind, length, rest @ ..] = bytes else {
                return Err(MessageError::Option);
            };
            let (value, rest) = rest
                .split_at_checked((*length).into())
                .filter(|(value, _)| !value.is_empty())
                .ok_or(MessageError::Option)?;
            bytes = rest;
            match kind & !option::MAY_BE_PASSED_OVER {
                option::SEQUENCES => {
                    let is_possible = value.len() == SEQUENCES_BYTES;
                    if !is_possible || options.sequences.is_some() {
                        return Err(MessageError::Option);
                    }
                    let mut fields = Fields(value);
                    options.sequences = Some([(); 2].map(|()| fields.sequence(u32::from_be_bytes)));
                }
                option::ENGINE_DATA => {
                    once(&mut options.data, value, super::ENGINE_DATA_BYTES_MAX)?;
                }
                option::ENGINE_NAME => {
                    once(&mut options.name, value, super::ENGINE_NAME_BYTES_MAX)?;
                }
                _ if kind & option::MAY_BE_PASSED_OVER != 0 => {}
                _ => return Ok(Err(Refused::UnknownOption)),
            }
        }
        Ok(Ok(options))
    }

    /// A name without data says nothing.
    fn engine(&self) -> Result<Option<EngineData>, Refused> {
        let Some(data) = self.data else {
            return Ok(None);
        };
        let name = self.name.ok_or(Refused::Engine)?;
        // As long as they may be, or they had been refused.
        Ok(Some(EngineData {
            name: ArrayVec::try_from(name).unwrap_or_default(),
            data: ArrayVec::try_from(data).unwrap_or_default(),
        }))
    }
}

fn once<'e>(
    place: &mut Option<&'e [u8]>,
    value: &'e [u8],
    bytes_max: usize,
) -> Result<(), MessageError> {
    if value.len() > bytes_max || place.is_some() {
        return Err(MessageError::Option);
    }
    *place = Some(value);
    Ok(())
}

fn ends(addresses: [IpAddr; 3], ports: [u16; 3]) -> [SocketAddr; 3] {
    let [a, b, c] = addresses;
    let [p, q, r] = ports;
    [(a, p), (b, q), (c, r)].map(SocketAddr::from)
}

/// Fields one after the other. Of bytes that are not there, 0: the caller has looked that they are.
struct Fields<'e>(&'e [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.0 = rest;
                *taken
            }
            None => [0; N],
        }
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    fn sequence(&mut self, read: impl Fn([u8; 4]) -> u32) -> Sequence {
        Sequence {
            position: read(self.array()),
            delta: read(self.array()).cast_signed(),
            previous_delta: read(self.array()).cast_signed(),
        }
    }
}
