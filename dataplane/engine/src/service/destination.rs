//! A real server of one service, as workers see it, and what outlives the snapshots it appears in.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::{AtomicU32, AtomicU64};

use crossbeam::utils::CachePadded;

use super::ResponseTime;
use crate::connection::{ForwardingMethod, State, Timeouts};
use crate::counters::TrafficCounters;
use crate::forward::tunnel::{Encapsulation, Outer};
use crate::forwarding_table::{Adjacency, ForwardingTable, NextHop};
use crate::scheduler::LoadTree;
use crate::wire::ipv6::IPV6_MTU_MIN;

/// A destination as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationSpec {
    /// Its number, the same for as long as any connection refers to it.
    pub number: u32,
    /// Real server's address.
    pub address: IpAddr,
    /// Real server's port, host byte order; 0: that of the packet.
    pub port: u16,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// What a tunnel's outer IP header is followed by.
    pub encapsulation: Encapsulation,
    /// Share of new connections; 0: none.
    pub weight: u32,
    /// No new connections at this many; 0: no limit.
    pub upper_threshold: u32,
    /// New connections again below this many; 0: three quarters of the upper one.
    pub lower_threshold: u32,
}

/// Active and inactive connections, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionCounts {
    /// In an active state.
    pub active: u32,
    /// In any other.
    pub inactive: u32,
}

impl ConnectionCounts {
    /// IPVS's estimate of the work a server has: an active connection weighs 256 inactive ones.
    #[inline]
    pub fn overhead(self) -> u64 {
        (u64::from(self.active) << 8) + u64::from(self.inactive)
    }

    /// All.
    #[inline]
    pub fn total(self) -> u64 {
        u64::from(self.active) + u64::from(self.inactive)
    }
}

/// Counters of a destination, kept from snapshot to snapshot: connection counts exact and shared, on a line of their
/// own; traffic per worker.
#[derive(Debug)]
pub struct DestinationShared {
    /// `active << 32 | inactive << 1 | overloaded`: one word, so that all change together and every reader sees a state
    /// that was. A connection may end on another worker before the one that made it has counted it, so the counts may
    /// pass through less than nothing; the flag is where no borrow reaches it.
    counts: CachePadded<AtomicU64>,
    /// Persistence templates.
    persistent: AtomicU32,
    /// How long it takes to answer, where that is measured.
    pub response_time: ResponseTime,
    traffic: Arc<[CachePadded<TrafficCounters>]>,
}

const OVERLOADED: u64 = 1;
const INACTIVE: u64 = 1 << 1;
const ACTIVE: u64 = 1 << 32;

fn unit(state: State) -> u64 {
    if state.is_active() { ACTIVE } else { INACTIVE }
}

#[allow(clippy::cast_possible_truncation)] // the low half is meant
fn unpack(word: u64) -> ConnectionCounts {
    ConnectionCounts {
        active: (word >> 32) as u32,
        inactive: word as u32 >> 1,
    }
}

/// When a destination takes no more connections and when it takes some again, by all its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Thresholds {
    upper: u64,
    lower: u64,
}

impl Thresholds {
    /// None when there is no limit. The lower one is three quarters of the upper one, rounded up, unless it is given.
    fn of(spec: &DestinationSpec) -> Option<Self> {
        let (upper, lower) = (spec.upper_threshold, spec.lower_threshold);
        (upper != 0).then(|| Self {
            upper: upper.into(),
            lower: if lower == 0 {
                upper - (upper >> 2)
            } else {
                lower
            }
            .into(),
        })
    }

    /// The word after a change of its counts or of the thresholds: overloaded from the upper threshold on, not
    /// overloaded below the lower one, between them as before (`__ip_vs_dest_update_overload`).
    fn judge(thresholds: Option<Self>, word: u64) -> u64 {
        let total = unpack(word).total();
        match thresholds {
            Some(limits) if total >= limits.upper => word | OVERLOADED,
            Some(limits) if total >= limits.lower => word,
            _ => word & !OVERLOADED,
        }
    }
}

impl DestinationShared {
    /// All zero, for so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            counts: CachePadded::default(),
            persistent: AtomicU32::new(0),
            response_time: ResponseTime::default(),
            traffic: (0..workers).map(|_| CachePadded::default()).collect(),
        }
    }

    /// Active and inactive connections.
    #[inline]
    pub fn counts(&self) -> ConnectionCounts {
        unpack(self.counts.load(Relaxed))
    }

    /// Persistence templates that lead to it.
    #[inline]
    pub fn persistent_connections(&self) -> u32 {
        self.persistent.load(Relaxed)
    }

    /// Whether nothing in the table refers to it, neither a connection nor a template.
    pub fn is_unused(&self) -> bool {
        self.counts().total() == 0 && self.persistent_connections() == 0
    }

    /// Adds to the counts, and judges whether that is an overload. Without thresholds there is nothing to judge: one
    /// addition, which no other worker's can make fail.
    fn change(&self, difference: u64, thresholds: Option<Thresholds>) {
        if thresholds.is_none() {
            self.counts.fetch_add(difference, AcqRel);
            return;
        }
        let change = |word: u64| Thresholds::judge(thresholds, word.wrapping_add(difference));
        let mut word = self.counts.load(Relaxed);
        while let Err(other) =
            self.counts
                .compare_exchange_weak(word, change(word), AcqRel, Relaxed)
        {
            word = other;
        }
    }

    /// Every worker's traffic counters.
    pub fn all_traffic(&self) -> impl Iterator<Item = &TrafficCounters> {
        self.traffic.iter().map(|counters| &**counters)
    }
}

/// A destination in a snapshot.
#[derive(Debug, Clone)]
pub struct Destination {
    /// As configured.
    pub spec: DestinationSpec,
    /// False once it is removed: its connections pause until it returns or they expire.
    pub available: bool,
    /// Whether the sweep ends its connections: it was removed, and `expire_nodest_conn` was set when any destination was last
    /// removed (`ip_vs_expire_nodest_conn_flush`).
    pub(crate) is_flushed: bool,
    /// Whether its service keeps no connections of UDP.
    pub one_packet: bool,
    /// How long its connections live without traffic, at hand.
    pub(crate) timeouts: Arc<Timeouts>,
    /// Its latest weight other than 0 since it was added; 0 when there was none. Hash tables keep a drained server's
    /// part by it.
    pub last_weight: u32,
    /// Where its packets go.
    pub next_hop: NextHop,
    /// The adjacency of `next_hop`, at hand.
    pub(crate) adjacency: Option<Adjacency>,
    /// Largest IP packet on the way there, bytes, before a tunnel's headers; 0 when the way is too narrow for a tunnel.
    pub mtu: u16,
    /// Bytes of those headers.
    pub(crate) overhead: u16,
    /// The outer header of a tunnel; none without an address of the director's for it.
    pub(crate) outer: Option<Outer>,
    /// Whether packets too large for its tunnel go in fragments though they forbid it (`pmtu_disc`).
    pub(crate) ignores_df: bool,
    /// What outlives the snapshot.
    pub shared: Arc<DestinationShared>,
    /// The traffic counters in `shared`, at hand; of a removed one others, which nobody reads: its packets count nowhere
    /// (`ip_vs_out_stats`).
    traffic: Arc<[CachePadded<TrafficCounters>]>,
    /// Its place in its scheduler's tree, if that chooses by load.
    pub(crate) leaf: Option<Leaf>,
    /// Whether its answers are timed, for its scheduler.
    pub(crate) is_timed: bool,
}

/// The kernel sends nothing into a tunnel that takes only smaller packets (`__ip_vs_get_out_rt`): those of that IP version
/// must fit, bytes.
fn smallest_in_tunnel(server: IpAddr) -> u16 {
    const IPV4_MTU_MIN: u16 = 68;
    if server.is_ipv4() {
        IPV4_MTU_MIN
    } else {
        IPV6_MTU_MIN
    }
}

/// A destination's word in its service's [`LoadTree`].
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub tree: Arc<LoadTree>,
    pub place: usize,
}

impl Destination {
    /// A destination whose packets take this way, to be told its place in its scheduler's tree.
    pub(crate) fn new(
        spec: DestinationSpec,
        available: bool,
        forwarding: &ForwardingTable,
        shared: Arc<DestinationShared>,
    ) -> Self {
        let next_hop = forwarding.route(spec.address);
        let adjacency = match next_hop {
            NextHop::Adjacent(number) => forwarding.adjacency(number).copied(),
            _ => None,
        };
        let link_mtu = adjacency.map_or_else(
            || forwarding.mtu_to(spec.address),
            |adjacency| adjacency.mtu,
        );
        let is_tunnel = spec.method == ForwardingMethod::Tunnel;
        let overhead = if is_tunnel {
            Outer::bytes_to(spec.address, spec.encapsulation)
        } else {
            0
        };
        let overhead = u16::try_from(overhead).unwrap_or(u16::MAX);
        let mtu = link_mtu.saturating_sub(overhead);
        // Whatever the method is now: connections keep the one they were made with. Nothing goes through a tunnel that leaves
        // less than the IP version's smallest MTU (`__ip_vs_get_out_rt`).
        let is_wide = !is_tunnel || mtu >= smallest_in_tunnel(spec.address);
        let device_sums = adjacency.is_some_and(|adjacency| {
            let port = forwarding.port(adjacency.interface.port.into());
            port.is_some_and(|port| port.fills_udp_checksums)
        });
        let outer = forwarding
            .source_address(spec.address)
            .filter(|_| is_wide)
            .and_then(|source| Outer::new(source, spec.address, spec.encapsulation))
            .map(|outer| outer.with_device_sums(device_sums));
        Self {
            available,
            is_flushed: false,
            one_packet: false,
            timeouts: Arc::new(Timeouts::default()),
            last_weight: spec.weight,
            next_hop,
            adjacency,
            mtu: if is_wide { mtu } else { 0 },
            overhead,
            outer,
            ignores_df: false,
            traffic: Arc::clone(&shared.traffic),
            shared,
            spec,
            leaf: None,
            is_timed: false,
        }
    }

    /// Lets its packets be counted in these counters of each worker, not in its own.
    pub(crate) fn count_into(&mut self, others: &Arc<[CachePadded<TrafficCounters>]>) {
        self.traffic = Arc::clone(others);
    }

    /// Lets the packets in its tunnel be fragmented, whatever they say themselves.
    pub(crate) fn ignore_df(&mut self) {
        self.ignores_df = self.spec.method == ForwardingMethod::Tunnel;
        self.outer = self.outer.map(Outer::without_df);
    }

    /// The largest packet to it by another method than its own, before a tunnel's headers, and the bytes of those.
    #[cold]
    pub(crate) fn room_by(&self, method: ForwardingMethod) -> (u16, u16) {
        let link_mtu = self.mtu.saturating_add(self.overhead);
        let overhead = match self.outer {
            Some(outer) if method == ForwardingMethod::Tunnel => outer.bytes(),
            _ => 0,
        };
        let overhead = u16::try_from(overhead).unwrap_or(u16::MAX);
        (link_mtu.saturating_sub(overhead), overhead)
    }

    /// One worker's traffic counters.
    #[inline]
    pub fn traffic(&self, worker: usize) -> Option<&TrafficCounters> {
        self.traffic.get(worker).map(|counters| &**counters)
    }

    /// The port that a connection to this port of the virtual service has at the destination: port 0 keeps it.
    #[inline]
    pub fn port_for(&self, virtual_port: u16) -> u16 {
        if self.spec.port == 0 {
            virtual_port
        } else {
            self.spec.port
        }
    }

    /// Whether new connections may go to it.
    #[inline]
    pub fn is_usable(&self) -> bool {
        self.spec.weight > 0 && self.shared.counts.load(Relaxed) & OVERLOADED == 0
    }

    /// A connection moved between states. Called once for each change, by whoever made it.
    #[inline]
    pub fn moved(&self, before: State, after: State) {
        if before.is_active() != after.is_active() {
            // As many as before: nothing that thresholds are about.
            let difference = unit(after).wrapping_sub(unit(before));
            self.shared.change(difference, None);
            self.refresh_load();
        }
    }

    /// Tells the scheduler's tree how loaded it is now.
    pub(crate) fn refresh_load(&self) {
        if let Some(leaf) = &self.leaf {
            leaf.tree.refresh(leaf.place, self);
        }
    }

    /// A connection in this state, or a template, was bound to it.
    pub fn bind(&self, state: State) {
        if state.is_template() {
            self.shared.persistent.fetch_add(1, Relaxed);
            return;
        }
        self.shared.change(unit(state), Thresholds::of(&self.spec));
        if let Some(leaf) = &self.leaf {
            leaf.tree.raise(leaf.place, self);
        }
    }

    /// A connection in this state, or a template, ended.
    pub fn unbind(&self, state: State) {
        if state.is_template() {
            self.shared.persistent.fetch_sub(1, Relaxed);
            return;
        }
        let difference = unit(state).wrapping_neg();
        self.shared.change(difference, Thresholds::of(&self.spec));
        self.refresh_load();
    }

    /// Judges the load anew after the thresholds were edited. A worker that has the old ones until it takes the next
    /// snapshot may undo that, so it is done once more after all have taken it.
    pub(crate) fn judge_overload(&self) {
        let thresholds = Thresholds::of(&self.spec);
        let judged = |word| Some(Thresholds::judge(thresholds, word));
        // It is never refused.
        let _ = self.shared.counts.fetch_update(AcqRel, Relaxed, judged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(upper_threshold: u32, lower_threshold: u32) -> Destination {
        let spec = DestinationSpec {
            number: 0,
            address: IpAddr::from([203, 0, 113, 11]),
            port: 80,
            method: ForwardingMethod::Masquerade,
            encapsulation: Encapsulation::default(),
            weight: 1,
            upper_threshold,
            lower_threshold,
        };
        let forwarding = ForwardingTable::new(1, Vec::new(), &[], &[]);
        Destination::new(spec, true, &forwarding, Arc::new(DestinationShared::new(1)))
    }

    /// Whether it takes connections after each of so many that come, then after each that goes.
    fn usable(found: &Destination, come: u32, go: u32) -> Vec<bool> {
        let state = |number: u32| {
            if number.is_multiple_of(2) {
                State::Established
            } else {
                State::Close
            }
        };
        let come = (0..come).map(|number| {
            found.bind(state(number));
            found.is_usable()
        });
        let mut seen: Vec<bool> = come.collect();
        seen.extend((0..go).map(|number| {
            found.unbind(state(number));
            found.is_usable()
        }));
        seen
    }

    #[test]
    fn closes_at_the_upper_threshold_and_opens_below_the_lower_one() {
        let found = destination(4, 2);
        let seen = usable(&found, 4, 3);
        assert_eq!(seen, [true, true, true, false, false, false, true]);
        assert_eq!(found.shared.counts().total(), 1);
    }

    #[test]
    fn the_lower_threshold_is_three_quarters_rounded_up() {
        for (upper, opens_at) in [
            (1, 0),
            (2, 1),
            (3, 2),
            (4, 2),
            (5, 3),
            (6, 4),
            (7, 5),
            (8, 5),
        ] {
            let found = destination(upper, 0);
            let seen = usable(&found, upper, upper);
            let (came, gone) = seen.split_at(upper as usize);
            assert_eq!(came.iter().filter(|usable| !**usable).count(), 1);
            let total = upper as usize - gone.iter().position(|usable| *usable).unwrap() - 1;
            assert_eq!(total, opens_at, "upper threshold {upper}");
        }
    }

    #[test]
    fn edited_thresholds_are_judged_by_what_is_there() {
        let mut found = destination(4, 2);
        usable(&found, 4, 0);
        for (upper, lower, usable) in [
            (5, 2, false), // between the two: as it was
            (5, 5, true),
            (5, 4, true), // between the two: as it was
            (4, 4, false),
            (0, 0, true),
            (3, 1, false),
        ] {
            (found.spec.upper_threshold, found.spec.lower_threshold) = (upper, lower);
            found.judge_overload();
            assert_eq!(found.is_usable(), usable, "-x {upper} -y {lower}");
        }
        assert_eq!(
            found.shared.counts(),
            ConnectionCounts {
                active: 2,
                inactive: 2
            }
        );
    }

    #[test]
    fn counts_may_pass_through_less_than_nothing() {
        for (upper, lower) in [(0, 0), (2, 1)] {
            let found = destination(upper, lower);
            // Ended, and judged, before it was counted.
            found.moved(State::Established, State::Close);
            found.judge_overload();
            found.unbind(State::Close);
            found.judge_overload();
            found.bind(State::Established);
            assert_eq!(found.shared.counts(), ConnectionCounts::default());
            assert!(found.is_usable());
        }
    }

    #[test]
    fn workers_at_once_leave_it_neither_open_nor_closed_by_mistake() {
        let found = destination(1, 1);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..50_000 {
                        found.bind(State::Established);
                        assert!(!found.is_usable());
                        found.unbind(State::Established);
                    }
                });
            }
        });
        assert_eq!(found.shared.counts().total(), 0);
        assert!(found.is_usable());
    }
}
