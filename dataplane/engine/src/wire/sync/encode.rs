//! Writes messages of version 1 (`ip_vs_sync_conn`).

use std::net::IpAddr;

use super::{
    EngineData, HEADER_BYTES, SEQUENCES_BYTES, Sequence, SyncedConnection, TYPE_V6, V4_BYTES,
    V6_BYTES, VERSION, option,
};

/// The count of entries has one byte. The kernel counts on past it, and its message is then none.
const ENTRIES_MAX: u8 = u8::MAX;

/// A message that is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
    bytes_max: usize,
    entries: u8,
}

impl Message {
    /// One without entries, of so many bytes at most; the first entry fits whatever they are.
    pub fn new(sync_id: u8, bytes_max: usize) -> Self {
        let mut bytes = Vec::with_capacity(bytes_max.max(HEADER_BYTES));
        bytes.extend([0, sync_id, 0, 0, 0, VERSION, 0, 0]);
        Self {
            bytes,
            bytes_max,
            entries: 0,
        }
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Entries.
    pub fn entries(&self) -> u8 {
        self.entries
    }

    /// Adds an entry. False, and nothing done, when there is no room for it.
    pub fn push(&mut self, connection: &SyncedConnection) -> bool {
        let padding = self.bytes.len().next_multiple_of(4) - self.bytes.len();
        let size = size_of_entry(connection);
        let end = self.bytes.len() + padding + size;
        let fits = self.is_empty() || (end <= self.bytes_max && self.entries < ENTRIES_MAX);
        if !fits {
            return false;
        }
        self.bytes.extend([0; 3].iter().take(padding));
        self.write(connection, size);
        self.entries += 1;
        true
    }

    fn write(&mut self, connection: &SyncedConnection, size: usize) {
        let bytes = &mut self.bytes;
        let kind = if connection.is_v6() { TYPE_V6 } else { 0 };
        bytes.extend([kind, connection.protocol]);
        // An entry has 400 bytes at most, so that the four bits of the version stay 0.
        bytes.extend(u16::try_from(size).unwrap_or(0).to_be_bytes());
        bytes.extend(connection.flags.to_be_bytes());
        bytes.extend(connection.state.to_be_bytes());
        let ends = [
            connection.client,
            connection.virtual_service,
            connection.destination,
        ];
        for end in ends {
            bytes.extend(end.port().to_be_bytes());
        }
        bytes.extend(connection.mark.to_be_bytes());
        bytes.extend(connection.timeout_s.to_be_bytes());
        for end in ends {
            match end.ip() {
                IpAddr::V4(address) => bytes.extend(address.octets()),
                IpAddr::V6(address) => bytes.extend(address.octets()),
            }
        }
        if let Some(sequences) = &connection.sequences {
            bytes.extend([option::SEQUENCES, byte(SEQUENCES_BYTES)]);
            sequences
                .iter()
                .for_each(|sequence| write_sequence(bytes, sequence));
        }
        if let Some(EngineData { name, data }) = &connection.engine {
            for (kind, text) in [
                (option::ENGINE_DATA, data.as_slice()),
                (option::ENGINE_NAME, name.as_slice()),
            ] {
                if !text.is_empty() {
                    bytes.extend([kind, byte(text.len())]);
                    bytes.extend(text);
                }
            }
        }
    }

    /// The datagram.
    pub fn finish(mut self) -> Vec<u8> {
        // It never has more: a first entry has some hundred bytes, others keep to what a datagram may have.
        let size = u16::try_from(self.bytes.len()).unwrap_or(u16::MAX);
        let fields = size.to_be_bytes().into_iter().chain([self.entries]);
        self.bytes
            .iter_mut()
            .skip(2)
            .zip(fields)
            .for_each(|(to, from)| *to = from);
        self.bytes
    }
}

/// A length that fits into its byte.
fn byte(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

fn size_of_entry(connection: &SyncedConnection) -> usize {
    let addresses = if connection.is_v6() {
        V6_BYTES
    } else {
        V4_BYTES
    };
    let option = |bytes: usize| if bytes == 0 { 0 } else { 2 + bytes };
    let sequences = connection.sequences.map_or(0, |_| SEQUENCES_BYTES);
    let engine = connection.engine.as_ref();
    let engine = engine.map_or(0, |engine| {
        option(engine.data.len()) + option(engine.name.len())
    });
    addresses + option(sequences) + engine
}

fn write_sequence(bytes: &mut Vec<u8>, sequence: &Sequence) {
    bytes.extend(sequence.position.to_be_bytes());
    bytes.extend(sequence.delta.to_be_bytes());
    bytes.extend(sequence.previous_delta.to_be_bytes());
}
