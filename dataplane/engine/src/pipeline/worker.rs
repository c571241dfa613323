//! A worker's engine: what it owns, and the stages run over a burst.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::decide::is_secure;
use super::drop_entry::Dropper;
use super::icmp_error::ErrorBudget;
use super::meta::Meta;
use super::parse::OwnMacs;
use super::plan::Plans;
use super::sweep_pace::SweepPace;
use super::tell::Telling;
use super::{lookup, parse};
use crate::clock::{Microsecond, Tick, WallClock};
use crate::connection::{Connection, ConnectionTable, Ended, Family, Shard, SweepBudget};
use crate::counters::WorkerCounters;
use crate::fate::Fate;
use crate::forwarding_table::Interface;
use crate::frame::Frame;
use crate::memory::{prefetch, prefetch_to_write};
use crate::service::lookup::Families;
use crate::settings::Defence;
use crate::snapshot::Snapshot;

/// Frames of one call to [`Worker::process`], at most.
pub const BURST: usize = 32;

/// How many frames ahead the first bytes of a frame are asked for.
const LOOK_AHEAD: usize = 4;

/// What the caller is to do with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it out of this port, then count [`Fate::Forwarded`] or, if the port refuses it, [`Fate::TransmitQueueFull`].
    Forward {
        /// Egress port.
        port: u16,
    },
    /// It has become an ICMP error: send it out of this port. The packet it was is counted.
    Answer {
        /// Egress port.
        port: u16,
    },
    /// Hand it to the kernel, then count this fate or, if the TAP refuses it, [`Fate::PuntQueueFull`].
    Punt(Fate),
    /// Keep it until the neighbour's MAC is known, write that over the first six bytes, and send it. Then count
    /// [`Fate::Forwarded`], or [`Fate::NeighbourUnresolved`] or [`Fate::HoldQueueFull`] if it cannot be kept.
    Hold {
        /// Which neighbour: [`Worker::neighbour`] knows it until the next burst. Told apart from the verdict, which is
        /// written for every frame and has to be small.
        place: u8,
    },
    /// As [`Self::Hold`], but it has become an ICMP error: the packet it was is counted, so this is not.
    HoldAnswer {
        /// As in [`Self::Hold`].
        place: u8,
    },
    /// Free it. It is counted.
    Drop,
    /// A fragment: to be given, through [`crate::fragment::Handover`], to [`crate::fragment::Fragments::gather`] of the
    /// worker that its datagram's addresses and identification name.
    Gather,
    /// Too large for its way, and may be cut: to be given to [`crate::fragment::Fragments::split`].
    Split,
}

/// What is known of a packet that is decided about outside of its burst: a datagram put together, or one to be cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole {
    /// Bytes of the largest fragment it came in, if it did.
    pub fragment_max: Option<u16>,
    /// Its connection has taken its step already.
    pub is_counted: bool,
}

const _: () = assert!(size_of::<Verdict>() <= 4);

/// Neighbours whose MAC frames of a burst wait for.
pub(super) type Neighbours = ArrayVec<(Interface, IpAddr), BURST>;

/// What a burst is run against: read once a burst, the same for all of its frames.
#[derive(Debug, Clone, Copy)]
pub struct Context<'c> {
    /// The connections.
    pub table: &'c ConnectionTable,
    /// The configuration and the kernel's routes.
    pub snapshot: &'c Snapshot,
    /// The time.
    pub now: Tick,
}

/// A burst's notes, on cache lines of their own: what lies beside them may be another worker's.
#[derive(Debug)]
#[repr(align(128))]
struct Metas([Meta; BURST]);

/// One worker's engine, on cache lines of its own too.
#[derive(Debug)]
#[repr(align(128))]
pub struct Worker {
    pub(super) number: usize,
    /// The port that the current burst came in by.
    pub(super) ingress: u16,
    /// When the loop began.
    pub(super) microsecond: Microsecond,
    /// The same, and the time of day.
    pub(super) wall_clock: WallClock,
    /// While a whole datagram is decided about.
    pub(super) whole: Option<Whole>,
    /// The largest packet on the way that the last whole datagram took, bytes.
    pub(super) cut_limit: usize,
    /// What is no larger goes whole, bytes.
    pub(super) cut_above: usize,
    /// What was counted last.
    last_fate: Cell<Fate>,
    pub(super) shard: Shard,
    pub(super) counters: Arc<WorkerCounters>,
    pub(super) error_budget: ErrorBudget,
    /// IPv4 identification of packets the director makes itself.
    pub(super) identification: u16,
    /// There between any two bursts.
    metas: Option<Box<Metas>>,
    /// Packets until `drop_packet` drops the next one.
    pub(super) until_drop: u32,
    dropper: Dropper,
    sweep_pace: SweepPace,
    /// Of the current burst.
    pub(super) neighbours: Neighbours,
    /// Of the current burst.
    pub(super) plans: Plans,
}

impl Worker {
    /// The engine of worker `shard.worker()`.
    pub fn new(shard: Shard, counters: Arc<WorkerCounters>) -> Self {
        let dropper = Dropper::new(shard.worker());
        Self {
            number: shard.worker(),
            ingress: 0,
            microsecond: Microsecond(0),
            wall_clock: WallClock::default(),
            whole: None,
            cut_limit: 0,
            cut_above: 0,
            last_fate: Cell::new(Fate::Forwarded),
            shard,
            counters,
            error_budget: ErrorBudget::new(),
            identification: 1,
            metas: Some(Box::new(Metas([Meta::EMPTY; BURST]))),
            until_drop: 1,
            dropper,
            sweep_pace: SweepPace::default(),
            neighbours: Neighbours::new(),
            plans: Plans::default(),
        }
    }

    /// Its counters, also for the fates that the caller decides.
    #[inline]
    pub fn counters(&self) -> &WorkerCounters {
        &self.counters
    }

    /// Where a frame of the last burst is to go once its MAC is known ([`Verdict::Hold`]).
    pub fn neighbour(&self, place: u8) -> Option<(Interface, IpAddr)> {
        self.neighbours.get(usize::from(place)).copied()
    }

    /// Tells the time, once a loop, by a monotonic clock that all workers share, nanoseconds: for what is measured finer than
    /// by ticks.
    #[inline]
    pub fn set_time(&mut self, now_ns: u64) {
        self.microsecond = Microsecond::from_nanoseconds(now_ns);
        self.wall_clock.now_ns = now_ns;
    }

    /// Tells, now and then, what the time of day is ahead of that clock: nanoseconds since 1970 less its reading; wraps.
    pub fn set_time_of_day(&mut self, ahead_ns: u64) {
        self.wall_clock.ahead_ns = ahead_ns;
    }

    /// Its part of the connection table.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Runs up to [`BURST`] frames received on port `ingress`; a verdict for each is appended, in order.
    pub fn process<F: Frame>(
        &mut self,
        context: &Context<'_>,
        ingress: u16,
        frames: &mut [F],
        verdicts: &mut ArrayVec<Verdict, BURST>,
    ) {
        let macs = OwnMacs::of(context.snapshot.forwarding(), ingress);
        let frames = frames
            .get_mut(..frames.len().min(BURST))
            .unwrap_or_default();
        if let Some(port) = self.counters.port(usize::from(ingress)) {
            port.received.add(frames.len() as u64);
        }
        self.neighbours.clear();
        self.ingress = ingress;
        // Taken out while the stages run over them.
        let Some(mut taken) = self.metas.take() else {
            return;
        };
        let Metas(metas) = &mut *taken;
        let tunnels = context.snapshot.has_tunnels();
        frames
            .iter()
            .take(LOOK_AHEAD)
            .for_each(|frame| ask_for(frame, tunnels));
        for at in 0..frames.len() {
            if let Some(ahead) = frames.get(at + LOOK_AHEAD) {
                ask_for(ahead, tunnels);
            }
            if let Some((frame, meta)) = frames.get(at).zip(metas.get_mut(at)) {
                parse::parse(frame.bytes(), frame.is_header_verified(), &macs, meta);
                lookup::start(context.table, meta);
            }
        }
        let mut unknown = 0_u32;
        let metas = metas.get_mut(..frames.len()).unwrap_or_default();
        for meta in metas.iter_mut() {
            lookup::narrow(context.table, meta);
            unknown += u32::from(meta.candidate.is_none());
        }
        if unknown > 1 {
            self.plan(context, metas);
        }
        // Without any service of its family, a packet is the kernel's, as in Linux, even of a known connection. The other
        // table of states is the second tier's, and so is all telling of other directors.
        let serving = if is_secure(context) || context.snapshot.is_synchronised() {
            Families::NONE
        } else {
            context.snapshot.services().families()
        };
        for (frame, meta) in frames.iter_mut().zip(metas.iter()) {
            let hit = if serving.contain(meta.key.family) {
                self.hit(context, frame, meta)
            } else {
                None
            };
            let verdict = hit.unwrap_or_else(|| self.decide(context, ingress, frame, meta));
            // As many verdicts as frames, at most BURST: there is room.
            let _ = verdicts.try_push(verdict);
        }
        if !self.plans.is_empty() {
            self.end_plans(context);
        }
        self.metas = Some(taken);
    }

    /// Decides about a datagram, which may be larger than its way.
    pub(crate) fn process_whole<F: Frame>(
        &mut self,
        context: &Context<'_>,
        ingress: u16,
        frame: &mut F,
        whole: Whole,
    ) -> Verdict {
        let macs = OwnMacs::of(context.snapshot.forwarding(), ingress);
        self.neighbours.clear();
        self.ingress = ingress;
        let mut meta = Meta::EMPTY;
        parse::parse(frame.bytes(), false, &macs, &mut meta);
        lookup::start(context.table, &mut meta);
        lookup::narrow(context.table, &mut meta);
        self.whole = Some(whole);
        self.cut_limit = usize::from(u16::MAX);
        self.cut_above = match (meta.key.family, whole.fragment_max) {
            // What came in fragments goes in fragments; but IPv6's that fit into the largest of them, its fragment header
            // gone, go in one (`ip6_finish_output`).
            (Family::V4, Some(_)) => 0,
            (_, largest) => usize::from(largest.unwrap_or(u16::MAX)),
        };
        let verdict = self.decide(context, ingress, frame, &meta);
        self.whole = None;
        verdict
    }

    /// How large the fragments of the last whole datagram may be, bytes, and from what size on it goes in fragments.
    pub(crate) fn cut_limits(&self) -> (usize, usize) {
        (self.cut_limit, self.cut_above)
    }

    pub(crate) fn last_fate(&self) -> Fate {
        self.last_fate.get()
    }

    /// Once a loop, which took so long and did (`busy`) or did not find packets: ends connections whose time has come,
    /// and makes room in a full table, at a pace that packets hardly notice.
    #[inline]
    pub fn tidy(&mut self, context: &Context<'_>, elapsed_ns: u64, busy: bool) {
        let (entries, created) = (self.shard.entries(), self.shard.created());
        let budget = self.sweep_pace.budget(entries, created, elapsed_ns, busy);
        if budget.looks > 0 {
            let done = self.end_expired(context, budget);
            self.sweep_pace.spend(done);
        }
        self.make_room(context);
    }

    /// Looks at the next `looks` entries of this worker's shard, to the end of the round at most, whatever it costs, and
    /// makes room in a full table.
    pub fn sweep(&mut self, context: &Context<'_>, looks: u32) {
        self.end_expired(context, SweepBudget::looks(looks));
        self.make_room(context);
    }

    fn end_expired(&mut self, context: &Context<'_>, budget: SweepBudget) -> SweepBudget {
        let Self {
            shard,
            counters,
            dropper,
            ..
        } = self;
        let settings = context.snapshot.settings();
        let drops = settings.drop_entry != Defence::Never
            && settings
                .drop_entry
                .is_up(context.table.was_full(context.now));
        // What `expire_nodest_conn` ends (`ip_vs_expire_nodest_conn_flush`).
        let has_no_destination = |connection: &Connection<'_>| {
            settings.expire_nodest_conn
                && context
                    .snapshot
                    .destination(connection.destination())
                    .is_some_and(|destination| destination.is_flushed)
        };
        let is_doomed = |entry: &Connection<'_>| {
            has_no_destination(entry) || (drops && dropper.is_to_end(context, entry))
        };
        let telling = context
            .snapshot
            .master()
            .map(|master| Telling::new(context.snapshot, context.table, context.now, master));
        let worker = shard.worker();
        let outlived = |number, entry: &Connection<'_>| {
            if let Some(telling) = telling {
                telling.outlived(worker, counters, number, entry);
            }
        };
        let done = shard.sweep_with_controls(
            context.table,
            context.now,
            budget,
            (is_doomed, outlived),
            |ended, was_doomed| {
                unbind(context.snapshot, ended);
                if was_doomed && drops {
                    counters.connections_evicted.add(1);
                } else {
                    counters.connections_expired.add(1);
                }
            },
        );
        if let Some(live) = shard.take_round() {
            for (counter, count) in counters.states.iter().zip(live.by_state) {
                counter.set(count.into());
            }
            counters.wide.set(live.wide.into());
        }
        done
    }

    fn make_room(&mut self, context: &Context<'_>) {
        let Self {
            shard, counters, ..
        } = self;
        shard.make_room(context.table, context.now, |ended| {
            unbind(context.snapshot, ended);
            counters.connections_evicted.add(1);
        });
    }

    /// At each loop boundary, when the worker holds no reference into table or snapshot.
    pub fn turn(&mut self, table: &ConnectionTable) {
        table.quiescence().pass(self.number);
        self.shard.turn(table);
    }

    pub(crate) fn next_identification(&mut self) -> u16 {
        // 0 is for packets that may not be fragmented.
        self.identification = self.identification.checked_add(1).unwrap_or(1);
        self.identification
    }

    pub(super) fn drop_as(&self, ingress: u16, fate: Fate) -> Verdict {
        self.count(ingress, fate);
        Verdict::Drop
    }

    pub(crate) fn count(&self, ingress: u16, fate: Fate) {
        if self.whole.is_some() {
            self.last_fate.set(fate);
        }
        if let Some(port) = self.counters.port(usize::from(ingress)) {
            port.count(fate);
        }
    }
}

/// Asks for a frame's first line and, when headers may be put in front of it, for the one before.
#[inline(always)]
fn ask_for<F: Frame>(frame: &F, front_too: bool) {
    prefetch(frame.bytes());
    if front_too && let Some(last) = frame.headroom().last() {
        prefetch_to_write(last);
    }
}

/// The connection no longer counts for its destination.
pub(super) fn unbind(snapshot: &Snapshot, ended: Ended) {
    if let Some(destination) = snapshot.destination(ended.destination) {
        destination.unbind(ended.state);
    }
}
