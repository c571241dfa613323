//! The connection table: one mapping of cache lines, shared by all workers, lock-free, of fixed size.
//!
//! ```text
//! line 0            header: magic, layout version, sizes, hash key, chunks handed out
//! lines 1..         buckets ([`super::index`])
//!        ..         hot lines, one an entry, by entry number
//!        ..         wide lines, one an entry number below `wide`: what IPv6 needs besides
//! ```
//!
//! Entries with a wide line serve both families, the others IPv4 only. Memory an entry: 64 bytes, its share of the
//! index, and 64 more bytes for every number with a wide line. Entry numbers are handed to the workers in chunks; from
//! then on each worker allocates from, and sweeps, its own ([`super::Shard`]).
//!
//! The mapping may be a file: whoever maps it next finds the connections of the process that died. Attaching rebuilds
//! the index from the entries that were fully inserted, so nothing half-written survives.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use thiserror::Error;

use super::entry::{Connection, Direction, ForwardingMethod, NewConnection};
use super::expendable::Expendables;
use super::flow_key::HashKey;
use super::free_chain::FreeExchange;
use super::index::{Candidate, Index, Inserted, SLOTS};
use super::{Family, FlowKey, Quiescence};
use crate::clock::{Tick, seconds};
use crate::memory::{LINE_BYTES, Line, Memory, prefetch};

/// Entries a worker takes into its shard at a time.
pub(super) const CHUNK: u32 = 256;
const MAGIC: u64 = u64::from_be_bytes(*b"POLLUXCT");
const LAYOUT_VERSION: u64 = 4;
/// Slots in use when every entry is a NAT connection (two keys), in hundredths of all slots.
const FULL_LOAD_PERCENT: usize = 50;
const HEADER_LINES: usize = 2;

/// Why a table cannot be had.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TableError {
    /// Not a table.
    #[error("not a connection table: remove the file and start again; live connections are lost")]
    Magic,
    /// Made by another release.
    #[error(
        "connection table of layout version {0}, this program uses {LAYOUT_VERSION}: remove the file and start again; live connections are lost"
    )]
    Version(u64),
    /// Made with other settings.
    #[error(
        "connection table for {found} connections, the settings say {wanted}: set `connections` back, or remove the file; then live connections are lost"
    )]
    Size {
        /// In the file.
        found: u64,
        /// In the settings.
        wanted: u32,
    },
    /// The memory is smaller than the table.
    #[error("the table needs {needed} bytes of memory and was given {given}")]
    TooSmall {
        /// Bytes.
        needed: usize,
        /// Bytes.
        given: usize,
    },
}

/// How large a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSize {
    entries: u32,
    wide: u32,
    buckets: usize,
}

impl TableSize {
    /// The smallest table.
    pub const CONNECTIONS_MIN: u32 = CHUNK * 4;
    /// The largest: the chunks' numbers and the index have room for more, but nobody has the memory.
    pub const CONNECTIONS_MAX: u32 = 1 << 30;

    /// For so many connections at a time, a quarter of which may be IPv6; rounded up to whole chunks.
    pub fn for_connections(connections: u32) -> Self {
        Self::with_ipv6(connections, connections / 4)
    }

    /// For so many connections at a time, `ipv6` of which may be IPv6; rounded up to whole chunks.
    pub fn with_ipv6(connections: u32, ipv6: u32) -> Self {
        let connections = connections.clamp(Self::CONNECTIONS_MIN, Self::CONNECTIONS_MAX);
        let entries = connections.next_multiple_of(CHUNK);
        let wide = ipv6.clamp(CHUNK, entries).next_multiple_of(CHUNK);
        let buckets = (2 * entries as usize * 100).div_ceil(FULL_LOAD_PERCENT * SLOTS);
        Self {
            entries,
            wide,
            buckets,
        }
    }

    /// Connections that fit, IPv6 included.
    pub fn connections(self) -> u32 {
        self.entries
    }

    /// IPv6 connections that fit.
    pub fn ipv6_connections(self) -> u32 {
        self.wide
    }

    /// Memory in cache lines.
    pub fn lines(self) -> usize {
        HEADER_LINES + self.buckets + self.entries as usize + self.wide as usize
    }

    /// Memory in bytes.
    pub fn bytes(self) -> usize {
        self.lines() * LINE_BYTES
    }
}

/// A packet's connection.
#[derive(Debug, Clone, Copy)]
pub struct Hit<'t> {
    /// Its entry's number.
    pub number: u32,
    /// Which way the packet goes.
    pub direction: Direction,
    /// The entry.
    pub connection: Connection<'t>,
}

/// Why a connection was not inserted.
#[derive(Debug, Clone, Copy)]
pub enum InsertError<'t> {
    /// Another worker has inserted this very flow: use its entry.
    Exists(Hit<'t>),
    /// Another connection's answers come under the same key.
    ReplyKeyTaken(Hit<'t>),
    /// No free entry, or no free slot in the index.
    Full,
}

/// Hashes of an entry's keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyHashes {
    inbound: u64,
    /// Of the key of the answers, when they are looked up.
    outbound: Option<u64>,
}

/// The table.
#[derive(Debug)]
pub struct ConnectionTable {
    header: Memory,
    buckets: Memory,
    hot: Memory,
    wide: Memory,
    size: TableSize,
    hash_key: HashKey,
    quiescence: Quiescence,
    exchange: [FreeExchange; 2],
    expendables: Expendables,
    /// When a new connection last found no room, as tick + 1; 0: never.
    full_at: AtomicU64,
    /// When a connection was last awaited whose client's port is not known, as tick + 1; 0: never.
    awaited_at: AtomicU64,
    /// Chunks, without and with room for IPv6, that were handed out before this process took the table up.
    inherited: [u32; 2],
}

/// How long after the table was full packets of unknown flows may be of flows that got no entry: as long as an idle
/// established connection lives.
const FULL_ECHO_TICKS: u32 = seconds(900);

/// How long an awaited connection is, and some more (`ip_vs_tcp_conn_listen`: LISTEN, two minutes).
const AWAITED_TICKS: u32 = seconds(125);

impl ConnectionTable {
    /// A new table in zeroed memory, for so many workers. The seed makes the hash unpredictable to clients.
    ///
    /// # Errors
    /// [`TableError::TooSmall`].
    pub fn create(
        memory: Memory,
        size: TableSize,
        workers: usize,
        seed: [u64; 6],
    ) -> Result<Self, TableError> {
        let secret = HashKey::from_seed(seed);
        let table = Self::over(&memory, size, workers, secret)?;
        let fields = [
            LAYOUT_VERSION,
            size.entries.into(),
            size.wide.into(),
            size.buckets as u64,
        ];
        let [_, rest @ ..] = &table.header().0;
        rest.iter()
            .zip(fields)
            .for_each(|(word, value)| word.store(value, Relaxed));
        let words = &table.second_header().0;
        words
            .iter()
            .zip(secret.0)
            .for_each(|(word, value)| word.store(value, Relaxed));
        // Last, so that a table whose making was interrupted is none.
        table.header().0[0].store(MAGIC, Release);
        Ok(table)
    }

    /// Whether nothing was ever written there: what [`ConnectionTable::create`] did not finish is no table.
    pub fn is_blank(memory: &Memory) -> bool {
        memory
            .lines()
            .first()
            .is_none_or(|header| header.0[0].load(Acquire) == 0)
    }

    /// Takes up the table of a process that died: keeps what was fully inserted and has not expired, and makes the
    /// index anew. No other process may use the memory.
    ///
    /// # Errors
    /// [`TableError`] when the memory holds another table than `size` says.
    pub fn attach(
        memory: Memory,
        size: TableSize,
        workers: usize,
        now: Tick,
    ) -> Result<Self, TableError> {
        check_header(memory.lines(), size)?;
        let mut table = Self::over(&memory, size, workers, HashKey([0; 6]))?;
        let mut secret = [0; 6];
        secret
            .iter_mut()
            .zip(&table.second_header().0)
            .for_each(|(to, word)| *to = word.load(Relaxed));
        table.hash_key = HashKey(secret);
        table.inherited = [false, true].map(|wide| table.chunks_handed_out(wide));
        table.take_up(now);
        table.note_awaited(now);
        Ok(table)
    }

    fn over(
        memory: &Memory,
        size: TableSize,
        workers: usize,
        hash_key: HashKey,
    ) -> Result<Self, TableError> {
        let buckets = HEADER_LINES..HEADER_LINES + size.buckets;
        let hot = buckets.end..buckets.end + size.entries as usize;
        let wide = hot.end..hot.end + size.wide as usize;
        let part = |range| {
            memory.part(range).ok_or(TableError::TooSmall {
                needed: size.bytes(),
                given: memory.lines().len() * LINE_BYTES,
            })
        };
        Ok(Self {
            header: part(0..HEADER_LINES)?,
            buckets: part(buckets)?,
            hot: part(hot)?,
            wide: part(wide)?,
            size,
            hash_key,
            quiescence: Quiescence::new(workers),
            exchange: Default::default(),
            expendables: Expendables::new(size.entries),
            full_at: AtomicU64::new(0),
            awaited_at: AtomicU64::new(0),
            inherited: [0; 2],
        })
    }

    /// Its size.
    pub fn size(&self) -> TableSize {
        self.size
    }

    /// The workers' loop boundaries.
    #[inline]
    pub fn quiescence(&self) -> &Quiescence {
        &self.quiescence
    }

    /// The hash of a key in this table.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> u64 {
        key.hash(&self.hash_key)
    }

    /// The tag of a call, by the secret of this table.
    pub(crate) fn tag_of_call(&self, call_id: &[u8]) -> u64 {
        self.hash_key.of_bytes(call_id)
    }

    /// A new connection finds no room.
    pub(crate) fn note_full(&self, now: Tick) {
        self.full_at.store(u64::from(now.0) + 1, Relaxed);
    }

    /// Whether flows may be under way that got no entry.
    #[inline]
    pub(crate) fn was_full(&self, now: Tick) -> bool {
        was_lately(&self.full_at, now, FULL_ECHO_TICKS)
    }

    /// A connection is awaited from a client whose port is not known.
    pub(crate) fn note_awaited(&self, now: Tick) {
        self.awaited_at.store(u64::from(now.0) + 1, Relaxed);
    }

    /// The entry of an awaited connection, if this is its first packet.
    pub(crate) fn find_awaited(&self, key: &FlowKey, now: Tick) -> Option<Hit<'_>> {
        if !key.is_tcp() || !was_lately(&self.awaited_at, now, AWAITED_TICKS) {
            return None;
        }
        let any_port = FlowKey {
            ports: key.ports & 0xffff,
            ..*key
        };
        self.find(&any_port, now)
            .filter(|hit| hit.direction == Direction::Inbound)
    }

    /// Asks for the line that [`ConnectionTable::candidate`] will read.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        if let Some(line) = self.index().home_line(hash) {
            prefetch(line);
        }
    }

    /// First half of a lookup: the entry that probably is the flow's, its lines asked for.
    #[inline]
    pub fn candidate(&self, hash: u64, family: Family) -> Option<Candidate> {
        let found = self.index().first(hash)?;
        if let Some(hot) = self.hot.lines().get(found.number as usize) {
            prefetch(hot);
        }
        if family == Family::V6
            && let Some(wide) = self.wide.lines().get(found.number as usize)
        {
            prefetch(wide);
        }
        Some(found)
    }

    /// Second half: the flow's connection, if there is one. An expired one is none.
    ///
    /// What the first half saw is only a hint: frames of the same burst are decided in between, and may have opened,
    /// ended or reopened the very connection.
    #[inline(always)]
    pub fn confirm(
        &self,
        candidate: Option<Candidate>,
        key: &FlowKey,
        hash: u64,
        now: Tick,
    ) -> Option<Hit<'_>> {
        if let Some(Candidate { number, direction }) = candidate
            && let Some(connection) = self.connection(number)
            && connection.matches(key, direction)
            && connection.life().is_alive(now)
        {
            return Some(Hit {
                number,
                direction,
                connection,
            });
        }
        self.look_again(key, hash, now)
    }

    #[inline(never)]
    fn look_again(&self, key: &FlowKey, hash: u64, now: Tick) -> Option<Hit<'_>> {
        // One that controls others is kept for them, and lives on by a packet.
        self.find_any(key, hash)
            .filter(|hit| hit.connection.is_listed(now))
    }

    /// The flow's connection, if there is one. An expired one is none.
    pub fn find(&self, key: &FlowKey, now: Tick) -> Option<Hit<'_>> {
        self.find_any(key, self.hash(key))
            .filter(|hit| hit.connection.life().is_alive(now))
    }

    pub(super) fn find_any(&self, key: &FlowKey, hash: u64) -> Option<Hit<'_>> {
        let found = self
            .index()
            .find(hash, |candidate| self.is_flow(candidate, key))?;
        self.hit(found)
    }

    fn is_flow(&self, candidate: Candidate, key: &FlowKey) -> bool {
        self.connection(candidate.number)
            .is_some_and(|entry| entry.matches(key, candidate.direction))
    }

    fn hit(&self, candidate: Candidate) -> Option<Hit<'_>> {
        let connection = self.connection(candidate.number)?;
        Some(Hit {
            number: candidate.number,
            direction: candidate.direction,
            connection,
        })
    }

    /// An entry by its number, in use or not.
    #[inline]
    pub fn connection(&self, number: u32) -> Option<Connection<'_>> {
        let hot = self.hot.lines().get(number as usize)?;
        Some(Connection::new(hot, self.wide.lines().get(number as usize)))
    }

    /// The number of an entry, by where it lies.
    pub fn number_of(&self, entry: &Connection<'_>) -> u32 {
        let first = self.hot.lines().as_ptr().addr();
        let bytes = entry.address().saturating_sub(first);
        u32::try_from(bytes / size_of::<Line>()).unwrap_or(u32::MAX)
    }

    /// Hashes of the keys a new connection is to be found by.
    pub(super) fn hashes_of_new(&self, new: &NewConnection) -> KeyHashes {
        KeyHashes {
            inbound: self.hash(&new.inbound),
            outbound: answers_key(new).map(|key| self.hash(&key)),
        }
    }

    /// Hashes of the keys a written entry is found by.
    pub(super) fn hashes_of(&self, entry: &Connection<'_>) -> KeyHashes {
        let outbound = entry.has_outbound_key();
        KeyHashes {
            inbound: self.hash(&entry.key(Direction::Inbound)),
            outbound: outbound.then(|| self.hash(&entry.key(Direction::Outbound))),
        }
    }

    /// Asks for the buckets that keys of these hashes are in, or are to be put into.
    #[inline]
    pub(super) fn prefetch_buckets(&self, hashes: KeyHashes) {
        self.prefetch(hashes.inbound);
        if let Some(hash) = hashes.outbound {
            self.prefetch(hash);
        }
    }

    /// Asks for an entry's first line.
    #[inline]
    pub(super) fn prefetch_entry(&self, number: u32) {
        if let Some(hot) = self.hot.lines().get(number as usize) {
            prefetch(hot);
        }
    }

    /// Asks for the line an entry has for IPv6, if it has one.
    #[inline]
    pub(super) fn prefetch_wide(&self, number: u32) {
        if let Some(wide) = self.wide.lines().get(number as usize) {
            prefetch(wide);
        }
    }

    /// Puts a written entry under its keys, the answers' first: when its own flow leads to it, answers do too.
    pub(super) fn link(
        &self,
        number: u32,
        new: &NewConnection,
        hashes: KeyHashes,
    ) -> Result<(), InsertError<'_>> {
        let index = self.index();
        if let Some((key, hash)) = answers_key(new).zip(hashes.outbound) {
            match index.insert(hash, number, Direction::Outbound, |found| {
                self.is_flow(found, &key)
            }) {
                Inserted::New => {}
                Inserted::Full => return Err(InsertError::Full),
                Inserted::Exists(found) => {
                    let hit = self.hit(found).ok_or(InsertError::Full)?;
                    let same_flow = hit.connection.key(Direction::Inbound) == new.inbound;
                    return Err(if same_flow {
                        InsertError::Exists(hit)
                    } else {
                        InsertError::ReplyKeyTaken(hit)
                    });
                }
            }
        }
        let key = new.inbound;
        let inserted = index.insert(hashes.inbound, number, Direction::Inbound, |found| {
            self.is_flow(found, &key)
        });
        let error = match inserted {
            Inserted::New => return Ok(()),
            Inserted::Exists(found) => self
                .hit(found)
                .map_or(InsertError::Full, InsertError::Exists),
            Inserted::Full => InsertError::Full,
        };
        if let Some(hash) = hashes.outbound {
            index.remove(hash, number, Direction::Outbound);
        }
        Err(error)
    }

    /// Removes a dead entry's slots. Only for the caller that took it out of use.
    pub(super) fn unlink(&self, number: u32, hashes: KeyHashes) {
        let index = self.index();
        index.remove(hashes.inbound, number, Direction::Inbound);
        if let Some(hash) = hashes.outbound {
            index.remove(hash, number, Direction::Outbound);
        }
    }

    /// Removes the slot of an entry that has no key of answers. True for one caller of several.
    pub(super) fn unlink_once(&self, number: u32, entry: &Connection<'_>) -> bool {
        let hash = self.hash(&entry.key(Direction::Inbound));
        self.index().remove_once(hash, number, Direction::Inbound)
    }

    /// The next chunk of entries nobody has, of those with (`wide`) or without room for IPv6.
    pub(super) fn take_chunk(&self, wide: bool) -> Option<u32> {
        let (first, end) = self.chunk_range(wide);
        let taken = self.chunks_taken(wide);
        let handed = taken.fetch_update(AcqRel, Relaxed, |taken| {
            (u64::from(first) + taken < u64::from(end)).then_some(taken + 1)
        });
        handed
            .ok()
            .and_then(|taken| u32::try_from(taken).ok())
            .map(|taken| first + taken)
    }

    /// Numbers of the chunks that the process before this one had handed out. What this one hands out is known to the
    /// shards that take it.
    pub(super) fn chunks_inherited(&self) -> impl Iterator<Item = u32> {
        let [narrow, wide] = self.inherited;
        [(true, wide), (false, narrow)]
            .into_iter()
            .flat_map(|(wide, taken)| {
                let (first, end) = self.chunk_range(wide);
                first..first.saturating_add(taken).min(end)
            })
    }

    /// Whether there is a chunk that no worker has.
    pub(super) fn has_chunk(&self, wide: bool) -> bool {
        let (first, end) = self.chunk_range(wide);
        self.chunks_handed_out(wide) < end - first
    }

    /// Chunks handed out so far.
    fn chunks_handed_out(&self, wide: bool) -> u32 {
        u32::try_from(self.chunks_taken(wide).load(Acquire)).unwrap_or(u32::MAX)
    }

    fn chunk_range(&self, wide: bool) -> (u32, u32) {
        let boundary = self.size.wide / CHUNK;
        if wide {
            (0, boundary)
        } else {
            (boundary, self.size.entries / CHUNK)
        }
    }

    fn chunks_taken(&self, wide: bool) -> &AtomicU64 {
        if wide {
            &self.header().0[5]
        } else {
            &self.header().0[6]
        }
    }

    /// Whether an entry has room for IPv6.
    pub(super) fn is_wide(&self, number: u32) -> bool {
        number < self.size.wide
    }

    /// Where workers with many free entries leave some for those with none.
    pub(super) fn exchange(&self, wide: bool) -> &FreeExchange {
        let [narrow_chains, wide_chains] = &self.exchange;
        if wide { wide_chains } else { narrow_chains }
    }

    /// Which entries may be ended to make room.
    #[inline]
    pub(super) fn expendables(&self) -> &Expendables {
        &self.expendables
    }

    /// The lines of the index.
    pub(super) fn buckets(&self) -> &[Line] {
        self.buckets.lines()
    }

    fn header(&self) -> &Line {
        // The header has two lines (`over` takes no less).
        self.header.lines().first().unwrap_or(&EMPTY_LINE)
    }

    fn second_header(&self) -> &Line {
        self.header.lines().get(1).unwrap_or(&EMPTY_LINE)
    }

    #[inline]
    fn index(&self) -> Index<'_> {
        Index::new(self.buckets())
    }
}

/// Whether a noted time, as tick + 1, is less than `ticks` ago.
#[inline]
fn was_lately(noted: &AtomicU64, now: Tick, ticks: u32) -> bool {
    let since = noted
        .load(Relaxed)
        .checked_sub(1)
        .and_then(|tick| u32::try_from(tick).ok())
        .map(|tick| Tick(tick).until(now));
    since.is_some_and(|since| since.unsigned_abs() < ticks)
}

/// The key of the answers, if they are looked up.
fn answers_key(new: &NewConnection) -> Option<FlowKey> {
    new.outbound
        .filter(|_| new.method == ForwardingMethod::Masquerade)
}

/// Whether the header is that of a table of this size; looked at before anything else is.
fn check_header(lines: &[Line], size: TableSize) -> Result<(), TableError> {
    let header = lines.first().unwrap_or(&EMPTY_LINE);
    let [magic, version, entries, wide, buckets, ..] = &header.0;
    if magic.load(Acquire) != MAGIC {
        return Err(TableError::Magic);
    }
    let found = [version, entries, wide, buckets].map(|word| word.load(Relaxed));
    if found[0] != LAYOUT_VERSION {
        return Err(TableError::Version(found[0]));
    }
    if found[1..] != [size.entries.into(), size.wide.into(), size.buckets as u64] {
        return Err(TableError::Size {
            found: found[1],
            wanted: size.entries,
        });
    }
    Ok(())
}

static EMPTY_LINE: Line = Line([const { AtomicU64::new(0) }; 8]);
