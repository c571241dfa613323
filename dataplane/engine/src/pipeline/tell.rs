//! A master tells other directors of connections (`ip_vs_sync_conn`): after each packet from a client it is looked whether
//! it is time to, for the connection and for what controls it. Answers tell of nothing, as in Linux.

use std::net::{IpAddr, SocketAddr};

use super::Worker;
use super::meta::Meta;
use super::persist::call_id_in;
use super::worker::Context;
use crate::clock::{TICKS_PER_SECOND, Tick};
use crate::connection::template::EXPIRE_LATER;
use crate::connection::{Connection, ConnectionTable, Direction, ForwardingMethod, Hit, State};
use crate::counters::WorkerCounters;
use crate::snapshot::Snapshot;
use crate::synchronisation::{Facts, Master, Packets, Told, kernel_number};
use crate::wire::sync::{EngineData, Sequence, SyncedConnection, flag};

/// The name of the persistence engine of SIP.
pub(super) const SIP: &[u8] = b"sip";
/// A connection of FTP, what controls it, and the template of that.
const CHAIN_MAX: usize = 4;

impl Worker {
    /// A packet from the client has passed, in this frame; what a call's template is told by is in it.
    #[inline]
    pub(super) fn tell(
        &self,
        context: &Context<'_>,
        (number, connection): (u32, &Connection<'_>),
        (meta, frame): (&Meta, &[u8]),
    ) {
        if let Some(master) = context.snapshot.master() {
            let telling = Telling::new(context.snapshot, context.table, context.now, master);
            let call = || call_id_in(meta, frame);
            telling.packet(self.number, &self.counters, (number, *connection), &call);
        }
    }

    /// A packet that leaves no connection behind has passed, of this call if it is of one: its template alone is told of.
    pub(super) fn tell_template(
        &self,
        context: &Context<'_>,
        template: &Hit<'_>,
        call: Option<&[u8]>,
    ) {
        if let Some(master) = context.snapshot.master() {
            let telling = Telling::new(context.snapshot, context.table, context.now, master);
            let entry = (template.number, template.connection);
            telling.packet(self.number, &self.counters, entry, &|| call);
        }
    }

    /// A connection begins that others know nothing of.
    pub(super) fn begin_telling(context: &Context<'_>, number: u32) {
        if let Some(master) = context.snapshot.master() {
            let marks = master.marks();
            marks.begin(number, State::None, 0, context.now);
        }
    }
}

/// A master at work.
#[derive(Clone, Copy)]
pub(super) struct Telling<'c> {
    snapshot: &'c Snapshot,
    table: &'c ConnectionTable,
    now: Tick,
    master: &'c Master,
}

impl<'c> Telling<'c> {
    pub fn new(
        snapshot: &'c Snapshot,
        table: &'c ConnectionTable,
        now: Tick,
        master: &'c Master,
    ) -> Self {
        Self {
            snapshot,
            table,
            now,
            master,
        }
    }

    #[inline(never)]
    fn packet<'f>(
        self,
        worker: usize,
        counters: &WorkerCounters,
        (mut number, mut entry): (u32, Connection<'c>),
        call: &dyn Fn() -> Option<&'f [u8]>,
    ) {
        let mut packets = Packets::One;
        for _ in 0..CHAIN_MAX {
            let timeout = self.timeout_of(&entry);
            if self.is_due((number, &entry), packets, timeout)
                && let Some(connection) = self.describe(&entry, timeout, call)
            {
                self.send(worker, counters, number, connection);
            }
            let Some((next, control)) = self.control_of(&entry) else {
                return;
            };
            (number, entry) = (next, control);
            packets = if control.is_template() {
                Packets::One
            } else {
                Packets::AtThreshold
            };
        }
    }

    /// An entry that controls others lives on though its time has come: it is told of once for each minute.
    pub fn outlived(
        self,
        worker: usize,
        counters: &WorkerCounters,
        number: u32,
        entry: &Connection<'c>,
    ) {
        if self.master.marks().is_outlived(number, self.now)
            && self.is_due((number, entry), Packets::AtThreshold, EXPIRE_LATER)
            && let Some(connection) = self.describe(entry, EXPIRE_LATER, &|| None)
        {
            self.send(worker, counters, number, connection);
        }
    }

    fn send(
        self,
        worker: usize,
        counters: &WorkerCounters,
        entry: u32,
        connection: SyncedConnection,
    ) {
        let counter = if self.master.tell(worker, Told { entry, connection }) {
            &counters.sync_told
        } else {
            &counters.sync_untold
        };
        counter.add(1);
    }

    fn is_due(
        self,
        (number, entry): (u32, &Connection<'_>),
        packets: Packets,
        timeout: u32,
    ) -> bool {
        let settings = &self.snapshot.settings().sync;
        let facts = Facts {
            state: entry.life().state(),
            timeout,
            is_persistent: settings.persist_mode && self.has_template(entry),
        };
        let marks = self.master.marks();
        marks.is_due(number, packets, facts, settings, self.now)
    }

    fn timeout_of(self, entry: &Connection<'_>) -> u32 {
        if entry.is_template() {
            return entry.template_timeout();
        }
        let state = entry.life().state();
        match self.snapshot.destination(entry.destination()) {
            Some(destination) => destination.timeouts.of(state),
            None => self.snapshot.timeouts().of(state),
        }
    }

    fn control_of(self, entry: &Connection<'_>) -> Option<(u32, Connection<'c>)> {
        let number = entry.control()?;
        Some((number, self.table.connection(number)?))
    }

    fn has_template(self, entry: &Connection<'_>) -> bool {
        let first = self.control_of(entry);
        let mut controls = std::iter::successors(first, |(_, entry)| self.control_of(entry));
        controls.any(|(_, entry)| entry.is_template())
    }

    /// What others are told; none of a call's template when the call is not at hand.
    fn describe<'f>(
        self,
        entry: &Connection<'_>,
        timeout: u32,
        call: &dyn Fn() -> Option<&'f [u8]>,
    ) -> Option<SyncedConnection> {
        let life = entry.life();
        let state = life.state();
        let is_template = entry.is_template();
        let (key, tag) = entry.listed();
        let engine = match tag {
            None => None,
            Some(tag) => {
                let call = call().filter(|call| self.table.tag_of_call(call) & TAG == tag)?;
                Some(EngineData {
                    name: SIP.iter().copied().collect(),
                    data: call.iter().copied().collect(),
                })
            }
        };
        let mut flags = match entry.method() {
            ForwardingMethod::Masquerade => flag::MASQUERADE,
            ForwardingMethod::Tunnel => flag::TUNNEL,
            ForwardingMethod::DirectRoute => flag::DIRECT_ROUTE,
        };
        for (is_set, flag) in [
            (entry.is_synced(), flag::SYNC),
            (life.no_output(), flag::NO_OUTPUT),
            (is_template || !state.is_active(), flag::INACTIVE),
            (is_template, flag::TEMPLATE),
        ] {
            if is_set {
                flags |= flag;
            }
        }
        let sequences = sequences_of(entry);
        if sequences.is_some() {
            flags |= flag::OUT_SEQUENCE;
        }
        Some(SyncedConnection {
            protocol: key.listed_protocol(),
            flags,
            state: kernel_number(state),
            client: key.source(),
            virtual_service: key.destination(),
            destination: self.destination_of(entry)?,
            mark: self.snapshot.services().mark_of(entry.service()),
            timeout_s: timeout / TICKS_PER_SECOND,
            sequences,
            engine,
        })
    }

    /// None for one of the other family, which goes into no message.
    fn destination_of(self, entry: &Connection<'_>) -> Option<SocketAddr> {
        let is_v6 = entry.key(Direction::Inbound).source().is_ipv6();
        let found = self.snapshot.destination(entry.destination());
        let address: IpAddr = match found {
            Some(found) => found.spec.address,
            None if entry.is_template() => return None,
            None => entry.key(Direction::Outbound).source().ip(),
        };
        let destination = SocketAddr::new(address, entry.destination_port());
        (destination.is_ipv6() == is_v6).then_some(destination)
    }
}

/// What a table keeps of a call's tag.
const TAG: u64 = (1 << 48) - 1;

/// By how much the numbers of a server of FTP are put off.
fn sequences_of(entry: &Connection<'_>) -> Option<[Sequence; 2]> {
    if !entry.is_ftp_control() {
        return None;
    }
    let control = entry.ftp_control();
    (!control.is_unshifted()).then(|| [Sequence::default(), control.sequence()])
}
