//! The director under test: the engine's tables and one worker, the lab's topology, and a clock that tests move.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;
use pollux_engine::clock::{Tick, seconds};
use pollux_engine::connection::{
    Connection, ConnectionTable, Direction, Shard, TableSize, UNBOUND,
};
use pollux_engine::counters::WorkerCounters;
use pollux_engine::fate::Fate;
use pollux_engine::fragment::Fragments;
use pollux_engine::frame::{Frame as _, HeapFrame};
use pollux_engine::memory::Memory;
use pollux_engine::service::ConnectionCounts;
use pollux_engine::wire::checksum::Sum;
use pollux_engine::wire::sync::SyncedConnection;
use pollux_engine::{BURST, Context, Snapshot, SnapshotSpec, Verdict, Worker};

use super::administrator::{Administrator, Refused};
use super::command::{Change, Command, parse};
use super::synchronisation::{Datagram, Role, Telling};
use super::topology::{Topology, port};
use super::trace::Wire;
use crate::sound;

/// The start is near the wrap of the tick, so that every scenario of some length passes over it.
const START: Tick = Tick(u32::MAX - seconds(20));
const SEED: [u64; 6] = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
];

/// Whose services have the FTP helper.
const FTP: u16 = 21;
/// How often the kernel looks whether removed servers can be forgotten.
const TRASH_LOOK_SECONDS: u32 = 60;

/// What became of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It went out.
    Out(Wire, Vec<u8>),
    /// The kernel got it as it came.
    Punt(Fate),
    /// It waits for a neighbour.
    Hold,
    /// Nothing came of it.
    Drop,
    /// A fragment that waits for the rest of its datagram.
    Waits,
    /// A datagram is whole, or a packet was cut: these went out.
    Fragments(Vec<(Wire, Vec<u8>)>),
}

impl Outcome {
    /// The frames that went out.
    fn frames(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Out(_, bytes) => vec![bytes.clone()],
            Self::Fragments(sent) => sent.iter().map(|(_, bytes)| bytes.clone()).collect(),
            Self::Punt(_) | Self::Hold | Self::Drop | Self::Waits => Vec::new(),
        }
    }
}

/// A director.
#[derive(Debug)]
pub struct Director {
    /// The services and servers.
    pub administrator: Administrator,
    topology: Topology,
    table: ConnectionTable,
    counters: Arc<WorkerCounters>,
    worker: Worker,
    fragments: Fragments<HeapFrame>,
    snapshot: Arc<Snapshot>,
    generation: u32,
    now: Tick,
    /// What went out, if it is kept.
    sent: Option<Vec<Vec<u8>>>,
    /// Whether its NICs verify the checksums of IPv4 headers.
    verifies: bool,
    telling: Option<Telling>,
    datagrams: Vec<Datagram>,
}

impl Default for Director {
    fn default() -> Self {
        Self::new(TableSize::for_connections(TableSize::CONNECTIONS_MIN))
    }
}

impl Director {
    /// A director with an empty configuration.
    pub fn new(size: TableSize) -> Self {
        let memory = Memory::anonymous(size.lines(), false).unwrap();
        let table = ConnectionTable::create(memory, size, 1, SEED).unwrap();
        let shard = Shard::new(&table, 0, 1, |_| {});
        table.quiescence().online(0);
        let counters = Arc::new(WorkerCounters::new(2));
        let topology = Topology::default();
        let forwarding = Arc::new(topology.forwarding_table(1));
        let mut administrator = Administrator::default();
        let snapshot = Arc::new(Snapshot::compile(
            &administrator.spec(1),
            forwarding,
            None,
            1,
        ));
        Self {
            administrator,
            topology,
            table,
            worker: Worker::new(shard, Arc::clone(&counters)),
            fragments: Fragments::default(),
            counters,
            snapshot,
            generation: 1,
            now: START,
            sent: None,
            verifies: false,
            telling: None,
            datagrams: Vec::new(),
        }
    }

    /// The datagrams of synchronisation that went out since this was asked.
    pub fn take_datagrams(&mut self) -> Vec<Datagram> {
        std::mem::take(&mut self.datagrams)
    }

    /// A datagram has come that a daemon may wait for.
    pub fn hear(&mut self, datagram: &Datagram) {
        if let Some(backup) = self.administrator.daemon(Role::Backup) {
            self.take(&datagram.told(&backup));
        }
    }

    /// Another director has told of connections.
    pub fn take(&mut self, told: &[SyncedConnection]) {
        let context = Context {
            table: &self.table,
            snapshot: &self.snapshot,
            now: self.now,
        };
        for told in told {
            self.worker.take_synced(&context, told);
        }
        self.worker.turn(&self.table);
    }

    /// What the worker has told goes into datagrams.
    fn gather_told(&mut self) {
        if let Some(telling) = &mut self.telling {
            telling.gather(self.now);
            self.datagrams.extend(telling.due(self.now));
        }
    }

    /// Packets that were dropped because their connection's server was removed.
    pub fn dropped_as_removed(&self) -> u64 {
        let ports = (0..2).filter_map(|port| self.counters.port(port));
        ports.map(|port| port.fate(Fate::DestinationRemoved)).sum()
    }

    /// Packets of connections that there was no room for beside another one with the same answers.
    pub fn refused_reply_keys(&self) -> u64 {
        let ports = [0, 1].into_iter();
        let refused =
            ports.filter_map(|port| Some(self.counters.port(port)?.fate(Fate::ReplyKeyTaken)));
        refused.sum()
    }

    /// From now on its NICs verify the checksums of IPv4 headers, and say so of those that are right.
    pub fn verify_headers(&mut self) {
        self.verifies = true;
    }

    /// Keeps, from now on, every frame that goes out and was made of a sound one.
    pub fn keep_sent(&mut self) {
        self.sent.get_or_insert_default();
    }

    /// The last frame that was kept.
    pub fn last_sent(&self) -> Option<&[u8]> {
        self.sent.as_ref()?.last().map(Vec::as_slice)
    }

    /// What was kept since the last call.
    pub fn take_sent(&mut self) -> Vec<Vec<u8>> {
        self.sent.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// A director configured by these `ipvsadm` commands.
    ///
    /// # Panics
    /// When a command changes no configuration, or is refused.
    pub fn configured(commands: &[&str]) -> Self {
        let mut director = Self::default();
        for line in commands {
            match parse(line) {
                Ok(Command::Change(change)) => director.change(&change).unwrap(),
                other => panic!("{line}: {other:?}"),
            }
        }
        director
    }

    /// Makes a change of the configuration.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed.
    pub fn change(&mut self, change: &Change) -> Result<(), Refused> {
        self.administrator.apply(change)?;
        self.publish();
        self.sweep();
        Ok(())
    }

    /// The topology.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Changes the topology.
    pub fn rewire(&mut self, edit: impl FnOnce(&mut Topology)) {
        edit(&mut self.topology);
        self.publish();
    }

    fn publish(&mut self) {
        self.generation += 1;
        match self.administrator.daemon(Role::Master) {
            None => self.telling = None,
            Some(daemon) if self.telling.is_none() => {
                self.telling = Some(Telling::new(daemon, self.table.size()));
            }
            Some(_) => {}
        }
        let forwarding = Arc::new(self.topology.forwarding_table(self.generation));
        let spec = self.administrator.spec(self.generation.into());
        let master = self.telling.as_ref().map(|telling| &telling.master);
        let spec = SnapshotSpec {
            now: self.now,
            master: master.map(Arc::clone),
            ..spec
        };
        self.snapshot = Arc::new(Snapshot::compile(
            &spec,
            forwarding,
            Some(&self.snapshot),
            1,
        ));
    }

    /// One frame in.
    pub fn receive(&mut self, wire: Wire, bytes: &[u8]) -> Outcome {
        self.receive_burst(wire, &[bytes]).remove(0)
    }

    /// Up to [`BURST`] frames in at once; what became of each, in order.
    pub fn receive_burst(&mut self, wire: Wire, burst: &[&[u8]]) -> Vec<Outcome> {
        let received = |bytes: &&[u8]| {
            let verified = self.verifies && has_right_header(bytes);
            HeapFrame::new(bytes).with_header_verified(verified)
        };
        let mut frames: Vec<HeapFrame> = burst.iter().map(received).collect();
        let mut verdicts = ArrayVec::<Verdict, BURST>::new();
        let context = Context {
            table: &self.table,
            snapshot: &self.snapshot,
            now: self.now,
        };
        self.worker
            .process(&context, port(wire), &mut frames, &mut verdicts);
        self.worker.turn(&self.table);
        self.gather_told();
        assert_eq!(verdicts.len(), burst.len(), "a verdict for every frame");
        let came = burst.iter().zip(frames);
        let outcomes = came.zip(verdicts).map(|((bytes, frame), verdict)| {
            let context = Context {
                table: &self.table,
                snapshot: &self.snapshot,
                now: self.now,
            };
            let (worker, ingress) = (&mut self.worker, port(wire));
            let spare = &mut || Some(HeapFrame::new(&[]));
            match verdict {
                Verdict::Gather => {
                    self.fragments
                        .gather(worker, &context, ingress, frame, spare);
                }
                Verdict::Split => self
                    .fragments
                    .split(worker, &context, ingress, frame, spare),
                verdict => return self.settle(wire, bytes, &frame, verdict),
            }
            self.settle_fragments(verdict)
        });
        let outcomes: Vec<Outcome> = outcomes.collect();
        if let Some(sent) = &mut self.sent {
            let sound = burst.iter().zip(&outcomes);
            let sound = sound.filter(|(came, _)| sound::read(came).is_ok());
            sent.extend(sound.flat_map(|(_, outcome)| outcome.frames()));
        }
        outcomes
    }

    fn settle_fragments(&mut self, verdict: Verdict) -> Outcome {
        let outgoing: Vec<_> = self.fragments.outgoing().collect();
        let outcomes: Vec<Outcome> = outgoing
            .iter()
            .map(|out| {
                self.settle(
                    self.wire(out.ingress),
                    out.frame.bytes(),
                    &out.frame,
                    out.verdict,
                )
            })
            .collect();
        let punted = outcomes
            .iter()
            .find(|outcome| matches!(outcome, Outcome::Punt(_) | Outcome::Hold));
        if let Some(outcome) = punted {
            return outcome.clone();
        }
        let sent: Vec<_> = outcomes
            .into_iter()
            .filter_map(|outcome| match outcome {
                Outcome::Out(to, bytes) => Some((to, bytes)),
                _ => None,
            })
            .collect();
        match (verdict, sent.is_empty()) {
            (Verdict::Gather, true) => Outcome::Waits,
            (_, true) => Outcome::Drop,
            _ => Outcome::Fragments(sent),
        }
    }

    /// Does the caller's part of the accounting.
    fn settle(&self, wire: Wire, came: &[u8], frame: &HeapFrame, verdict: Verdict) -> Outcome {
        let counters = self.counters.port(port(wire).into()).unwrap();
        match verdict {
            Verdict::Forward { port: egress } => {
                counters.count(Fate::Forwarded);
                Outcome::Out(self.wire(egress), frame.bytes().to_vec())
            }
            Verdict::Answer { port: egress } => {
                Outcome::Out(self.wire(egress), frame.bytes().to_vec())
            }
            Verdict::Punt(fate) => {
                counters.count(fate);
                // What the kernel gets is what came, but for the padding that Ethernet adds.
                assert!(
                    came.starts_with(frame.bytes()),
                    "a punted frame was changed"
                );
                Outcome::Punt(fate)
            }
            Verdict::Hold { .. } => {
                counters.count(Fate::NeighbourUnresolved);
                Outcome::Hold
            }
            Verdict::HoldAnswer { .. } => Outcome::Hold,
            Verdict::Drop => Outcome::Drop,
            Verdict::Gather | Verdict::Split => panic!("of a frame that was gathered or cut"),
        }
    }

    fn wire(&self, egress: u16) -> Wire {
        [Wire::Cl, Wire::Rs]
            .into_iter()
            .find(|wire| port(*wire) == egress)
            .unwrap()
    }

    /// The worker and what it runs against, for tests that look closer.
    pub fn engine(&mut self) -> (&mut Worker, Context<'_>) {
        let context = Context {
            table: &self.table,
            snapshot: &self.snapshot,
            now: self.now,
        };
        (&mut self.worker, context)
    }

    /// What has expired goes, as after a second.
    fn sweep(&mut self) {
        let context = Context {
            table: &self.table,
            snapshot: &self.snapshot,
            now: self.now,
        };
        // The sweep may begin anywhere, and ends a round at the end of the shard.
        for _ in 0..2 {
            self.worker
                .sweep(&context, self.table.size().connections() + 1);
        }
        self.worker.turn(&self.table);
    }

    /// Time passes; what has expired goes.
    pub fn sleep(&mut self, passed: u32) {
        self.pass(seconds(passed));
    }

    /// Time passes, in ticks; what has expired goes.
    pub fn pass(&mut self, mut ticks: u32) {
        while let Some(step) = self.step().filter(|step| ticks > *step) {
            self.pass_at_once(step);
            ticks -= step;
        }
        self.pass_at_once(ticks);
    }

    /// What happens in between: the trash is looked at, and a master tells, second by second, as the sweep comes round.
    fn step(&self) -> Option<u32> {
        if self.telling.is_some() {
            return Some(seconds(1));
        }
        self.administrator
            .has_trash()
            .then_some(seconds(TRASH_LOOK_SECONDS))
    }

    fn pass_at_once(&mut self, ticks: u32) {
        self.now = self.now.after(ticks);
        self.fragments.expire(&self.worker, self.now);
        self.sweep();
        let (table, now) = (&self.table, self.now);
        let has_forgotten = self.administrator.empty_trash(now, |number| {
            alive(table, now).any(|connection| connection.destination() == number)
        });
        self.gather_told();
        if has_forgotten {
            self.publish();
        }
    }

    /// Checks what must hold between any two packets: received = sum of the fates; a destination's counts are those of
    /// its entries; every live connection is found by its keys.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check(&self) -> Result<(), String> {
        for port in [0, 1] {
            let counters = self.counters.port(port).unwrap();
            let fates: u64 = Fate::ALL.into_iter().map(|fate| counters.fate(fate)).sum();
            let (received, held) = (counters.received.get(), counters.held.get());
            if received != fates + held {
                return Err(format!(
                    "port {port}: {received} received, {fates} fates, {held} held"
                ));
            }
        }
        self.check_counts()?;
        self.check_index()
    }

    fn check_counts(&self) -> Result<(), String> {
        let mut recount = BTreeMap::<u32, ConnectionCounts>::new();
        let mut templates = 0;
        for (_, entry) in self.entries() {
            if entry.is_template() {
                templates += 1;
                continue;
            }
            let counts = recount.entry(entry.destination()).or_default();
            if entry.life().state().is_active() {
                counts.active += 1;
            } else {
                counts.inactive += 1;
            }
        }
        let total: u64 = recount.values().map(|counts| counts.total()).sum();
        if total + templates != self.worker.shard().in_use() {
            return Err(format!(
                "{total} entries and {templates} templates, {} in use",
                self.worker.shard().in_use()
            ));
        }
        // Another director's connection to a server that is not here counts for none.
        recount.remove(&UNBOUND);
        let mut destinations = recount
            .keys()
            .copied()
            .chain(0..self.administrator.destinations());
        destinations.try_for_each(|number| match self.snapshot.destination(number) {
            Some(found) => {
                let recounted = recount.get(&number).copied().unwrap_or_default();
                let counts = found.shared.counts();
                if counts == recounted {
                    Ok(())
                } else {
                    Err(format!(
                        "destination {number}: {counts:?}, entries {recounted:?}"
                    ))
                }
            }
            None if recount.contains_key(&number) => {
                Err(format!("destination {number} has entries and is not known"))
            }
            None => Ok(()),
        })
    }

    fn check_index(&self) -> Result<(), String> {
        let alive = |(_, connection): &(u32, Connection<'_>)| {
            connection.life().is_alive(self.now) && !connection.is_dead_template()
        };
        self.entries()
            .filter(alive)
            .try_for_each(|(number, connection)| {
                let directions = [Direction::Inbound, Direction::Outbound];
                let mut indexed = directions.into_iter().filter(|direction| {
                    *direction == Direction::Inbound || connection.has_outbound_key()
                });
                indexed.try_for_each(|direction| {
                    let key = connection.key(direction);
                    match self.table.find(&key, self.now) {
                        Some(hit) if (hit.number, hit.direction) == (number, direction) => Ok(()),
                        other => Err(format!("{key:?} of entry {number} leads to {other:?}")),
                    }
                })
            })
    }

    /// All entries in use with their numbers, also those whose time has come.
    fn entries(&self) -> impl Iterator<Item = (u32, Connection<'_>)> {
        (0..self.table.size().connections())
            .filter_map(|number| Some((number, self.table.connection(number)?)))
            .filter(|(_, connection)| connection.life().is_used())
    }

    /// The configuration as the worker sees it.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The worker's counters.
    pub fn counters(&self) -> &WorkerCounters {
        &self.counters
    }

    /// The time.
    pub fn now(&self) -> Tick {
        self.now
    }

    /// The connections whose time has not come.
    pub fn connections(&self) -> impl Iterator<Item = Connection<'_>> {
        alive(&self.table, self.now)
    }

    /// Whether a client's flow is one of FTP: a control connection, or one that such a one controls.
    pub fn is_of_ftp(&self, client: SocketAddr, virtual_end: SocketAddr) -> bool {
        let is_controlled = |connection: &Connection<'_>| {
            let control = connection.control();
            let control = control.and_then(|number| self.table.connection(number));
            control.is_some_and(|control| !control.is_template())
        };
        self.connections().any(|connection| {
            let key = connection.key(Direction::Inbound);
            (key.source(), key.destination()) == (client, virtual_end)
                && (virtual_end.port() == FTP || is_controlled(&connection))
        })
    }
}

fn alive(table: &ConnectionTable, now: Tick) -> impl Iterator<Item = Connection<'_>> {
    (0..table.size().connections())
        .filter_map(|number| table.connection(number))
        .filter(move |connection| connection.is_listed(now))
}

/// Whether a frame without tags has an IPv4 header with a right checksum, as a NIC finds it.
fn has_right_header(frame: &[u8]) -> bool {
    let Some((link, packet)) = frame.split_at_checked(14) else {
        return false;
    };
    let header_bytes = packet
        .first()
        .map_or(0, |first| usize::from(first & 0xf) * 4);
    let header = packet
        .get(..header_bytes)
        .filter(|header| header.len() >= 20);
    link.ends_with(&[0x08, 0x00]) && header.is_some_and(|header| Sum::of(header).finish() == 0)
}
