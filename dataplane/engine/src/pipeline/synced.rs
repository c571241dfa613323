//! A backup takes over what another director tells of a connection (`ip_vs_proc_conn`).

use std::net::SocketAddr;

use super::Worker;
use super::tell::SIP;
use super::worker::{Context, unbind};
use crate::clock::{TICKS_PER_SECOND, seconds};
use crate::connection::{
    Direction, FlowKey, ForwardingMethod, Hit, InsertError, NewConnection, State, Template, UNBOUND,
};
use crate::service::Destination;
use crate::synchronisation::of_kernel_number;
use crate::wire::sync::{SyncedConnection, flag};

/// An entry in the way may have to be removed before a new one fits; once is enough but for a lost race.
const ATTEMPTS: usize = 3;
/// A template that is told of without its timeout lives so long.
const TEMPLATE_TIMEOUT: u32 = seconds(180);
/// The longest timeout that ticks can tell from one that has passed, seconds; the kernel's is longer than that.
const TIMEOUT_MAX_S: u32 = (i32::MAX as u32) / TICKS_PER_SECOND - 1;

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Taken {
    /// It is new here.
    Made,
    /// It was here already: state and end are those that were told.
    Changed,
    /// It is the end of a connection in whose place there is another one here.
    PassedOver,
    /// There is no room for it, or another connection's answers are under its key.
    NoRoom,
    /// A kind of connection that this director has not, or a template whose server is not here.
    Unusable,
}

impl Worker {
    /// Takes over what was told.
    pub fn take_synced(&mut self, context: &Context<'_>, told: &SyncedConnection) -> Taken {
        let taken = self.take(context, told).unwrap_or(Taken::Unusable);
        let counters = &self.counters;
        match taken {
            Taken::Made => counters.synced_made.add(1),
            Taken::Changed => counters.synced_changed.add(1),
            Taken::PassedOver => counters.synced_passed_over.add(1),
            Taken::NoRoom => counters.synced_no_room.add(1),
            Taken::Unusable => counters.synced_unusable.add(1),
        }
        taken
    }

    fn take(&mut self, context: &Context<'_>, told: &SyncedConnection) -> Option<Taken> {
        let wanted = Wanted::read(context, told)?;
        if let Some(hit) = wanted.find(context) {
            let entry = hit.connection;
            let is_other =
                !told.is_template() && entry.key(Direction::Outbound).source() != told.destination;
            if is_other && told.flags & flag::INACTIVE != 0 {
                return Some(Taken::PassedOver);
            }
            let is_bound_now = entry.destination() == UNBOUND && wanted.destination.is_some();
            if !is_other && !is_bound_now {
                wanted.change(context, &hit);
                return Some(Taken::Changed);
            }
            if let Some(ended) = self
                .shard
                .end(context.table, hit.number, |life| life.children() == 0)
            {
                unbind(context.snapshot, ended);
            }
        }
        self.make(context, &wanted)
    }

    fn make(&mut self, context: &Context<'_>, wanted: &Wanted<'_>) -> Option<Taken> {
        let new = wanted.new_connection()?;
        if !self.shard.has_room(context.table, new.inbound.family) {
            return Some(Taken::NoRoom);
        }
        let timeouts = match wanted.destination {
            Some(destination) => &destination.timeouts,
            None => context.snapshot.timeouts(),
        };
        for _ in 0..ATTEMPTS {
            match self
                .shard
                .insert(context.table, &new, context.now, timeouts)
            {
                Ok(hit) => {
                    self.counters.connections_created.add(1);
                    if let Some(destination) = wanted.destination {
                        destination.bind(new.state);
                    }
                    wanted.note(context, &hit);
                    if wanted.told.flags & flag::NO_CLIENT_PORT != 0 {
                        context.table.note_awaited(context.now);
                    }
                    return Some(Taken::Made);
                }
                Err(InsertError::Exists(hit)) => self.clear_away(context, hit.number, false),
                Err(InsertError::ReplyKeyTaken(hit)) => self.clear_away(context, hit.number, true),
                Err(InsertError::Full) => return Some(Taken::NoRoom),
            }
        }
        Some(Taken::NoRoom)
    }
}

/// What was told, in the words of this director.
struct Wanted<'c> {
    told: &'c SyncedConnection,
    key: FlowKey,
    /// Of a call's template: the client's address, which the key has only mixed with the call's tag.
    caller: Option<[u64; 2]>,
    state: State,
    service: u32,
    destination: Option<&'c Destination>,
    /// Ticks.
    timeout: u32,
}

impl<'c> Wanted<'c> {
    fn read(context: &Context<'c>, told: &'c SyncedConnection) -> Option<Self> {
        let is_template = told.is_template();
        let state = of_kernel_number(is_template, told.protocol, told.state)?;
        let flow = FlowKey::from_sockets(told.protocol, told.client, told.virtual_service)?;
        let (mut key, mut caller) = (flow, None);
        if is_template {
            key = flow.template();
            if key.protocol == flow.protocol {
                // Of no protocol that there are templates of.
                return None;
            }
            if let Some(engine) = &told.engine {
                if engine.name.as_slice() != SIP {
                    return None;
                }
                caller = Some(flow.source_words());
                key = key.of_call(context.table.tag_of_call(&engine.data));
            }
        }
        let service = context.snapshot.services().of_synced(&flow, told.mark);
        let destination = service.and_then(|service| {
            let (first, second) = ports_of(told);
            let place = |port| SocketAddr::new(told.destination.ip(), port);
            let find = |port| context.snapshot.server_at(service.number, place(port));
            find(first).or_else(|| find(second))
        });
        let timeout = match (told.timeout_s, is_template, destination) {
            (0, true, _) => TEMPLATE_TIMEOUT,
            (0, false, Some(destination)) => destination.timeouts.of(state),
            (0, false, None) => context.snapshot.timeouts().of(state),
            (timeout, ..) => seconds(timeout.min(TIMEOUT_MAX_S)),
        };
        Some(Self {
            told,
            key,
            caller,
            state,
            service: service.map_or(0, |service| service.number),
            destination,
            timeout,
        })
    }

    /// The entry there is already.
    fn find(&self, context: &Context<'c>) -> Option<Hit<'c>> {
        let (table, now) = (context.table, context.now);
        if self.told.is_template() {
            return table.find_template(&self.key, now);
        }
        let found = table.find(&self.key, now);
        found.filter(|hit| hit.direction == Direction::Inbound && !hit.connection.is_template())
    }

    fn change(&self, context: &Context<'_>, hit: &Hit<'_>) {
        let entry = hit.connection;
        let moved = entry.become_synced(self.state, context.now, self.timeout);
        if let Some(moved) = moved
            && let Some(destination) = context.snapshot.destination(entry.destination())
        {
            destination.moved(moved.before, moved.after);
        }
        self.note(context, hit);
    }

    /// What goes with a connection, made or changed.
    fn note(&self, context: &Context<'_>, hit: &Hit<'_>) {
        if hit.connection.is_ftp_control()
            && let Some([_, server]) = self.told.sequences
        {
            hit.connection.take_sequence(server);
        }
        if let Some(master) = context.snapshot.master() {
            let packets = context.snapshot.settings().sync.threshold;
            let marks = master.marks();
            marks.begin(hit.number, self.state, packets, context.now);
        }
    }

    /// None when it cannot be one.
    fn new_connection(&self) -> Option<NewConnection> {
        let told = self.told;
        let is_template = told.is_template();
        let method = match (self.destination, told.flags & flag::METHOD) {
            (Some(destination), _) => destination.spec.method,
            // It would lead nowhere, and the next packet of its clients tells of it again.
            (None, _) if is_template => return None,
            (None, flag::MASQUERADE) => ForwardingMethod::Masquerade,
            (None, flag::TUNNEL) => ForwardingMethod::Tunnel,
            (None, flag::DIRECT_ROUTE) => ForwardingMethod::DirectRoute,
            (None, _) => return None,
        };
        let outbound = if is_template {
            None
        } else {
            let flow = FlowKey::from_sockets(told.protocol, told.destination, told.client);
            Some(flow?)
        };
        Some(NewConnection {
            inbound: self.key,
            outbound,
            destination: self.destination.map_or(UNBOUND, |found| found.spec.number),
            destination_port: told.destination.port(),
            service: self.service,
            method,
            state: self.state,
            template: is_template.then_some(Template {
                timeout: self.timeout,
                caller: self.caller,
            }),
            control: None,
            counts_packets: false,
            lifetime: Some(self.timeout),
            is_synced: true,
        })
    }
}

/// The ports that a server of a connection may be configured with, the likelier first (`ip_vs_find_dest`).
fn ports_of(told: &SyncedConnection) -> (u16, u16) {
    let port = told.destination.port();
    if told.mark != 0 && told.flags & flag::METHOD != flag::MASQUERADE {
        (0, port)
    } else {
        (port, 0)
    }
}
