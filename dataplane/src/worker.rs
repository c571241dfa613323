//! A worker: one core's poll loop over its queues of every port.
//!
//! ```text
//! loop:  newer snapshot? ─► for each port: receive ─► engine ─► transmit buffers, TAP, hold queue
//!        ─► for each TAP: receive ─► transmit buffer of its port ─► flush ─► sweep ─► loop boundary ─► idle?
//! ```

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrayvec::ArrayVec;
use dpdk_bindings::{Mbuf, Mempool, RxQueue};
use pollux_api::bond::BondMode;
use pollux_api::settings::PuntRates;
use pollux_engine::check_path::{CheckPaths, Outcome};
use pollux_engine::connection::ConnectionTable;
use pollux_engine::counters::{PortCounters, WorkerCounters};
use pollux_engine::forwarding_table::Interface;
use pollux_engine::fragment::{Fragments, Handover, Outgoing};
use pollux_engine::{BURST, Context, Fate, Snapshot, Tick, Verdict, Worker as Engine};
use rustix::time::{ClockId, clock_gettime};

use crate::bond::Announcements;
use crate::frame::MbufFrame;
use crate::hold::HoldQueue;
use crate::idle::Idle;
use crate::kernel::{Egress, MirrorHandle, NeighbourKey, TapIndex};
use crate::publication::Publication;
use crate::punt::{Class, PuntLimits};
use crate::settings::PORTS_MAX;
use crate::transmit::{Origin, TransmitBuffer};

/// A worker's queues of one port and of its TAP. Where a device has fewer receive queues than there are workers, some
/// workers have none of it.
#[derive(Debug)]
pub struct PortQueues {
    /// Frames from the wire.
    pub wire_rx: Option<RxQueue>,
    /// Frames to the wire.
    pub wire_tx: TransmitBuffer,
    /// Frames from the kernel.
    pub tap_rx: Option<RxQueue>,
    /// Frames to the kernel.
    pub tap_tx: TransmitBuffer,
}

/// What workers share with the control side.
#[derive(Debug)]
pub struct Shared {
    /// The connections.
    pub table: ConnectionTable,
    /// The running snapshot.
    pub publication: Publication,
    /// Set once, at the end.
    pub stop: AtomicBool,
    /// Fragments that came to another worker than the one that gathers them.
    pub fragments: Handover<Mbuf>,
    /// For each port: whether its device is gone. Workers look when there is a new snapshot, and let go of its queues
    /// before they say that they have it.
    pub gone: Box<[AtomicBool]>,
    /// What switches are to be told of bonds.
    pub announcements: Announcements,
}

/// While frames keep coming from the wires the TAPs are looked at this often: a look costs a system call.
const KERNEL_POLL_NS: u64 = 50_000;

/// Bonds that speak LACP want to be polled, both ways, at least every 100 ms.
const TEND_NS: u64 = 20_000_000;

/// Connections of other directors that are taken over in a loop that has packets, at most.
const SYNCED_BESIDE_PACKETS: usize = 8;

/// One core's worker.
#[derive(Debug)]
pub struct Worker {
    number: usize,
    shared: Arc<Shared>,
    engine: Engine,
    ports: Vec<PortQueues>,
    hold: HoldQueue,
    fragments: Fragments<MbufFrame>,
    /// Where frames come from that fragments are written into.
    pool: Mempool,
    idle: Idle,
    ask_for: MirrorHandle,
    /// Time since the TAPs were looked at.
    since_kernel_poll_ns: u64,
    /// What of the packets for the kernel it gets.
    limits: PuntLimits,
    /// When the loop began, by [`now_nanoseconds`].
    now_ns: u64,
    /// The bonds that this worker tends: it prods those of LACP ([`TransmitBuffer::prod`]) and makes announcements of the
    /// others.
    bonds: ArrayVec<(usize, BondMode), PORTS_MAX>,
    /// Time since they were.
    since_tended_ns: u64,
}

/// What the settings say of a worker.
#[derive(Debug, Clone, Default)]
pub struct WorkerSettings {
    /// How much of each class the kernel gets.
    pub punt: PuntRates,
    /// The bonds that this worker tends.
    pub bonds: ArrayVec<(usize, BondMode), PORTS_MAX>,
}

/// The monotonic clock that also runs in suspend, in nanoseconds: entries of the table outlive the process.
pub fn now_nanoseconds() -> u64 {
    nanoseconds(ClockId::Boottime)
}

/// What the time of day is ahead of [`now_nanoseconds`]; it may be set at any time.
fn time_of_day_ahead() -> u64 {
    nanoseconds(ClockId::Realtime).wrapping_sub(now_nanoseconds())
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds
        .wrapping_mul(1_000_000_000)
        .wrapping_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// A reading of [`now_nanoseconds`] as the engine's tick.
pub fn tick_of(nanoseconds: u64) -> Tick {
    Tick::from_duration(Duration::from_nanos(nanoseconds))
}

impl Worker {
    /// A worker that has not begun.
    pub fn new(
        shared: Arc<Shared>,
        engine: Engine,
        ports: Vec<PortQueues>,
        pool: Mempool,
        idle: Idle,
        ask_for: MirrorHandle,
        settings: WorkerSettings,
    ) -> Self {
        let number = engine.shard().worker();
        Self {
            number,
            shared,
            engine,
            ports,
            hold: HoldQueue::new(),
            fragments: Fragments::default(),
            pool,
            idle,
            ask_for,
            since_kernel_poll_ns: 0,
            limits: PuntLimits::new(&settings.punt),
            now_ns: 0,
            bonds: settings.bonds,
            since_tended_ns: 0,
        }
    }

    /// Runs until told to stop.
    pub fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut snapshot = shared.publication.current();
        shared.table.quiescence().online(self.number);
        shared
            .publication
            .acknowledge(self.number, snapshot.generation());
        let mut loop_start = now_nanoseconds();
        let mut found = false;
        while !shared.stop.load(Ordering::Relaxed) {
            if shared.publication.generation() != snapshot.generation() {
                // The publisher still holds the old one: this frees nothing.
                snapshot = shared.publication.current();
                self.let_go_of_what_is_gone(&shared.gone);
                shared
                    .publication
                    .acknowledge(self.number, snapshot.generation());
                self.release_held(&snapshot);
            }
            let now = now_nanoseconds();
            let elapsed = now.saturating_sub(loop_start);
            loop_start = now;
            self.now_ns = now;
            if found {
                self.engine.counters().busy_loops.add(1);
                self.engine.counters().busy_nanoseconds.add(elapsed);
            }
            let context = Context {
                table: &shared.table,
                snapshot: &snapshot,
                now: tick_of(now),
            };
            self.engine.set_time(now);
            found = self.turn(&context, elapsed);
            if let Some(sleep) = self.idle.after_loop(found) {
                shared.table.quiescence().offline(self.number);
                std::thread::sleep(sleep);
                shared.table.quiescence().online(self.number);
            }
        }
        shared.table.quiescence().offline(self.number);
        shared.publication.acknowledge(self.number, u64::MAX);
    }

    #[cold]
    fn let_go_of_what_is_gone(&mut self, gone: &[AtomicBool]) {
        for (queues, gone) in self.ports.iter_mut().zip(gone) {
            if gone.load(Ordering::Acquire) {
                queues.wire_rx = None;
                queues.wire_tx.let_go();
            }
        }
    }

    /// One loop. Whether it found a packet.
    fn turn(&mut self, context: &Context<'_>, elapsed_ns: u64) -> bool {
        let mut found = false;
        for port in 0..self.ports.len() {
            found |= self.receive_from_wire(context, port);
        }
        self.since_kernel_poll_ns = self.since_kernel_poll_ns.saturating_add(elapsed_ns);
        if !found || self.since_kernel_poll_ns >= KERNEL_POLL_NS {
            self.since_kernel_poll_ns = 0;
            self.engine.set_time_of_day(time_of_day_ahead());
            for port in 0..self.ports.len() {
                found |= self.receive_from_kernel(context, port);
            }
        }
        found |= self.receive_fragments(context);
        found |= self.receive_synced(context, found);
        for port in &mut self.ports {
            port.wire_tx.flush(self.engine.counters());
            port.tap_tx.flush(self.engine.counters());
        }
        if !self.bonds.is_empty() {
            self.tend_bonds(elapsed_ns);
        }
        if !self.hold.is_empty() {
            self.expire_held(context.now);
        }
        if !self.fragments.is_empty() {
            self.fragments.expire(&self.engine, context.now);
        }
        self.engine.tidy(context, elapsed_ns, found);
        self.engine.turn(context.table);
        let counters = self.engine.counters();
        counters.loops.add(1);
        counters.connections.set(self.engine.shard().in_use());
        found
    }

    #[cold]
    fn tend_bonds(&mut self, elapsed_ns: u64) {
        self.since_tended_ns = self.since_tended_ns.saturating_add(elapsed_ns);
        if self.since_tended_ns < TEND_NS {
            return;
        }
        self.since_tended_ns = 0;
        for (port, mode) in &self.bonds {
            if *mode == BondMode::Lacp
                && let Some(queues) = self.ports.get_mut(*port)
            {
                queues.wire_tx.prod();
            }
        }
        for _ in 0..BURST {
            let Some(announcement) = self.shared.announcements.next() else {
                break;
            };
            if let Some(queues) = self.ports.get_mut(usize::from(announcement.port))
                && let Some(frame) = announcement.frame(&self.pool)
            {
                let counters = self.engine.counters();
                queues.wire_tx.push(frame, Origin::Answer, counters);
            }
        }
    }

    fn receive_from_wire(&mut self, context: &Context<'_>, port: usize) -> bool {
        let mut received = ArrayVec::<Mbuf, BURST>::new();
        let Some(queue) = self
            .ports
            .get_mut(port)
            .and_then(|port| port.wire_rx.as_mut())
        else {
            return false;
        };
        if queue.receive(&mut received) == 0 {
            return false;
        }
        let ingress = u16::try_from(port).unwrap_or(u16::MAX);
        let mut frames = ArrayVec::<MbufFrame, BURST>::new();
        for mbuf in received {
            match MbufFrame::new(mbuf) {
                Ok(frame) => frames.push(frame),
                Err(_scattered) => {
                    if let Some(port) = self.engine.counters().port(port) {
                        port.received.add(1);
                        port.count(Fate::MultiSegment);
                    }
                }
            }
        }
        let mut verdicts = ArrayVec::<Verdict, BURST>::new();
        self.engine
            .process(context, ingress, &mut frames, &mut verdicts);
        if let Some(egress) = all_forwarded(&verdicts)
            && let Some(egress) = self.ports.get_mut(usize::from(egress))
        {
            let frames = frames.into_iter().map(MbufFrame::into_mbuf);
            let origin = Origin::forwarded(ingress);
            egress
                .wire_tx
                .push_burst(frames, origin, self.engine.counters());
            return true;
        }
        for (frame, verdict) in frames.into_iter().zip(verdicts) {
            self.carry_out(context, ingress, frame.into_mbuf(), verdict);
        }
        true
    }

    #[inline]
    fn carry_out(&mut self, context: &Context<'_>, ingress: u16, frame: Mbuf, verdict: Verdict) {
        let counters = self.engine.counters();
        match verdict {
            Verdict::Drop => drop(frame),
            Verdict::Forward { port } => match self.ports.get_mut(usize::from(port)) {
                Some(egress) => {
                    egress
                        .wire_tx
                        .push(frame, Origin::forwarded(ingress), counters);
                }
                None => count(counters, ingress, Fate::NoRoute),
            },
            Verdict::Answer { port } => {
                if let Some(egress) = self.ports.get_mut(usize::from(port)) {
                    egress.wire_tx.push(frame, Origin::Answer, counters);
                }
            }
            Verdict::Punt(fate) => {
                if !self.limits.take(Class::of(frame.data()), self.now_ns) {
                    count(counters, ingress, Fate::PuntLimited);
                    return;
                }
                let origin = Origin::Received {
                    ingress,
                    sent: fate,
                    refused: Fate::PuntQueueFull,
                };
                let frame = match context.snapshot.check_paths() {
                    None => frame,
                    Some(paths) => answer_to_check(paths, frame),
                };
                if let Some(port) = self.ports.get_mut(usize::from(ingress)) {
                    port.tap_tx.push(frame, origin, counters);
                }
            }
            Verdict::Hold { place } => {
                self.hold(context, Origin::forwarded(ingress), frame, place);
            }
            Verdict::HoldAnswer { place } => self.hold(context, Origin::Answer, frame, place),
            Verdict::Gather => self.gather(context, ingress, frame),
            Verdict::Split => {
                if let Ok(frame) = MbufFrame::new(frame) {
                    let spare = &mut spare(self.pool);
                    self.fragments
                        .split(&mut self.engine, context, ingress, frame, spare);
                    self.send_fragments(context);
                }
            }
        }
    }

    /// A fragment goes to the worker that gathers its datagram, which may be this one.
    #[cold]
    fn gather(&mut self, context: &Context<'_>, ingress: u16, frame: Mbuf) {
        let counters = self.engine.counters();
        let own = self
            .shared
            .fragments
            .pass_on(self.number, counters, ingress, frame, |frame| frame.data());
        if let Some(frame) = own {
            self.gather_own(context, ingress, frame);
        }
    }

    fn gather_own(&mut self, context: &Context<'_>, ingress: u16, frame: Mbuf) {
        // It was contiguous when it was received.
        if let Ok(frame) = MbufFrame::new(frame) {
            let spare = &mut spare(self.pool);
            self.fragments
                .gather(&mut self.engine, context, ingress, frame, spare);
            self.send_fragments(context);
        }
    }

    /// Connections that other directors have told of: a few beside packets, which they are not to hold up.
    #[inline]
    fn receive_synced(&mut self, context: &Context<'_>, found: bool) -> bool {
        let Some(backup) = context.snapshot.backup() else {
            return false;
        };
        let most = if found { SYNCED_BESIDE_PACKETS } else { BURST };
        for taken in 0..most {
            let Some(told) = backup.take(self.number) else {
                return taken > 0;
            };
            self.engine.take_synced(context, &told);
        }
        true
    }

    /// Fragments that other workers have received.
    #[inline]
    fn receive_fragments(&mut self, context: &Context<'_>) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut found = false;
        for _ in 0..BURST {
            let Some((ingress, frame)) = shared.fragments.next_for(self.number) else {
                break;
            };
            found = true;
            self.gather_own(context, ingress, frame);
        }
        found
    }

    fn send_fragments(&mut self, context: &Context<'_>) {
        while let Some(Outgoing {
            ingress,
            frame,
            verdict,
        }) = self.fragments.next_outgoing()
        {
            self.carry_out(context, ingress, frame.into_mbuf(), verdict);
        }
    }

    /// Keeps a frame whose neighbour's MAC is not known, and has the kernel ask for it.
    #[cold]
    fn hold(&mut self, context: &Context<'_>, origin: Origin, frame: Mbuf, place: u8) {
        let counters = self.engine.counters();
        // The engine names a neighbour with each such verdict; without one the frame has nowhere to go.
        let Some((interface, address)) = self.engine.neighbour(place) else {
            if let Some(port) = account(counters, origin) {
                port.count(Fate::NoRoute);
            }
            return;
        };
        match self
            .hold
            .keep(frame, origin, interface, address, context.now)
        {
            Ok(first) => {
                if let Some(port) = account(counters, origin) {
                    port.held.add(1);
                }
                if first {
                    self.ask_for.want(neighbour_key(interface, address));
                }
            }
            Err(_no_room) => {
                if let Some(port) = account(counters, origin) {
                    port.count(Fate::HoldQueueFull);
                }
            }
        }
    }

    /// The kernel has learnt something: frames that waited for it leave.
    fn release_held(&mut self, snapshot: &Snapshot) {
        let Self {
            hold,
            ports,
            engine,
            ..
        } = self;
        let counters = engine.counters();
        hold.release(snapshot.forwarding(), |held| {
            let account = account(counters, held.origin);
            if let Some(port) = account {
                port.held.subtract(1);
            }
            match ports.get_mut(usize::from(held.interface.port)) {
                Some(egress) => egress.wire_tx.push(held.frame, held.origin, counters),
                None => {
                    if let Some(port) = account {
                        port.count(Fate::NoRoute);
                    }
                }
            }
        });
    }

    #[cold]
    fn expire_held(&mut self, now: Tick) {
        let counters = self.engine.counters();
        self.hold.expire(now, |held| {
            if let Some(port) = account(counters, held.origin) {
                port.held.subtract(1);
                port.count(Fate::NeighbourUnresolved);
            }
        });
    }

    /// What the kernel sends leaves by the port its TAP belongs to.
    fn receive_from_kernel(&mut self, context: &Context<'_>, port: usize) -> bool {
        let mut received = ArrayVec::<Mbuf, BURST>::new();
        let Some(queues) = self.ports.get_mut(port) else {
            return false;
        };
        if queues
            .tap_rx
            .as_mut()
            .is_none_or(|queue| queue.receive(&mut received) == 0)
        {
            return false;
        }
        let origin = Origin::Kernel {
            port: u16::try_from(port).unwrap_or(u16::MAX),
        };
        for frame in received {
            let frame = match context.snapshot.check_paths() {
                None => Some(frame),
                Some(paths) => check_to_server(context, paths, port, frame),
            };
            if let Some(frame) = frame {
                queues.wire_tx.push(frame, origin, self.engine.counters());
            }
        }
        true
    }
}

/// A frame of the kernel's may be one of a health check; none when the link does not take what it becomes, which nobody
/// but polluxd waits for.
#[cold]
fn check_to_server(
    context: &Context<'_>,
    paths: &CheckPaths,
    port: usize,
    frame: Mbuf,
) -> Option<Mbuf> {
    // One in pieces is larger than any check.
    let mut frame = match MbufFrame::new(frame) {
        Ok(frame) => frame,
        Err(frame) => return Some(frame),
    };
    let port = context.snapshot.forwarding().port(port)?;
    match paths.to_server(&mut frame, port.mtu.into()) {
        Outcome::Other | Outcome::Translated => Some(frame.into_mbuf()),
        Outcome::TooLarge => None,
    }
}

/// A frame for the kernel may be an answer to a health check.
#[cold]
fn answer_to_check(paths: &CheckPaths, frame: Mbuf) -> Mbuf {
    match MbufFrame::new(frame) {
        Ok(mut frame) => {
            paths.from_server(&mut frame);
            frame.into_mbuf()
        }
        Err(frame) => frame,
    }
}

/// Frames to write fragments into, as long as the pool has some.
fn spare(pool: Mempool) -> impl FnMut() -> Option<MbufFrame> {
    move || MbufFrame::new(pool.allocate()?).ok()
}

/// The port that all frames of a burst leave by, as they do more often than not.
#[inline]
fn all_forwarded(verdicts: &[Verdict]) -> Option<u16> {
    let first = verdicts.first()?;
    match first {
        Verdict::Forward { port } if verdicts.iter().all(|verdict| verdict == first) => Some(*port),
        _ => None,
    }
}

fn count(counters: &WorkerCounters, ingress: u16, fate: Fate) {
    if let Some(port) = counters.port(ingress.into()) {
        port.count(fate);
    }
}

/// The counters of the port on whose account a frame still stands; an ICMP error stands on none.
fn account(counters: &WorkerCounters, origin: Origin) -> Option<&PortCounters> {
    counters.port(origin.ingress()?.into())
}

fn neighbour_key(interface: Interface, address: IpAddr) -> NeighbourKey {
    (
        Egress {
            tap: TapIndex::new(interface.port),
            vlan: interface.vlan,
        },
        address,
    )
}
