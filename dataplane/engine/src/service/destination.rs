//! A real server of one service, as workers see it, and what outlives the snapshots it appears in.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use crossbeam::utils::CachePadded;

use crate::connection::{ForwardingMethod, State};
use crate::counters::TrafficCounters;
use crate::forward::tunnel::{Encapsulation, Outer};
use crate::forwarding_table::{Adjacency, ForwardingTable, NextHop};
use crate::scheduler::{Load, LoadTree};

/// A destination as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationSpec {
    /// Its number, the same for as long as any connection refers to it.
    pub number: u32,
    /// Real server's address.
    pub address: IpAddr,
    /// Real server's port, host byte order.
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
    /// `active << 32 | inactive`: one word, so that both change together and every reader sees a pair that was.
    counts: CachePadded<AtomicU64>,
    overloaded: CachePadded<AtomicBool>,
    traffic: Arc<[CachePadded<TrafficCounters>]>,
}

const ACTIVE: u64 = 1 << 32;
const INACTIVE: u64 = 1;

fn unit(state: State) -> u64 {
    if state.is_active() { ACTIVE } else { INACTIVE }
}

impl DestinationShared {
    /// All zero, for so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            counts: CachePadded::default(),
            overloaded: CachePadded::default(),
            traffic: (0..workers).map(|_| CachePadded::default()).collect(),
        }
    }

    /// Active and inactive connections.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the low half is meant
    pub fn counts(&self) -> ConnectionCounts {
        let counts = self.counts.load(Relaxed);
        ConnectionCounts {
            active: (counts >> 32) as u32,
            inactive: counts as u32,
        }
    }

    fn moved(&self, before: State, after: State) {
        self.counts
            .fetch_add(unit(after).wrapping_sub(unit(before)), AcqRel);
    }

    fn opened(&self, state: State) {
        self.counts.fetch_add(unit(state), AcqRel);
    }

    fn closed(&self, state: State) {
        self.counts.fetch_sub(unit(state), AcqRel);
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
    /// Where its packets go.
    pub next_hop: NextHop,
    /// The adjacency of `next_hop`, at hand.
    pub(crate) adjacency: Option<Adjacency>,
    /// Largest IP packet on the way there, bytes.
    pub mtu: u16,
    /// The outer header of a tunnel; none without an address of the director's for it.
    pub(crate) outer: Option<Outer>,
    /// What outlives the snapshot.
    pub shared: Arc<DestinationShared>,
    /// The traffic counters in `shared`, at hand.
    traffic: Arc<[CachePadded<TrafficCounters>]>,
    /// Its place in its scheduler's tree, if that chooses by load.
    pub(crate) leaf: Option<Leaf>,
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
        let outer = forwarding
            .source_address(spec.address)
            .filter(|_| is_tunnel)
            .and_then(|source| Outer::new(source, spec.address, spec.encapsulation));
        let overhead = if is_tunnel {
            Outer::bytes_to(spec.address, spec.encapsulation)
        } else {
            0
        };
        Self {
            available,
            next_hop,
            adjacency,
            mtu: link_mtu.saturating_sub(u16::try_from(overhead).unwrap_or(u16::MAX)),
            outer,
            traffic: Arc::clone(&shared.traffic),
            shared,
            spec,
            leaf: None,
        }
    }

    /// One worker's traffic counters.
    #[inline]
    pub fn traffic(&self, worker: usize) -> Option<&TrafficCounters> {
        self.traffic.get(worker).map(|counters| &**counters)
    }

    /// Whether new connections may go to it.
    #[inline]
    pub fn is_usable(&self) -> bool {
        self.spec.weight > 0 && !self.shared.overloaded.load(Relaxed)
    }

    /// A connection moved between states. Called once for each change, by whoever made it.
    #[inline]
    pub fn moved(&self, before: State, after: State) {
        if before.is_active() != after.is_active() {
            self.shared.moved(before, after);
            self.refresh_load();
        }
    }

    /// Tells the scheduler's tree how loaded it is now.
    pub(crate) fn refresh_load(&self) {
        if let Some(leaf) = &self.leaf {
            leaf.tree.set(leaf.place, self.load());
        }
    }

    fn load(&self) -> Load {
        if self.is_usable() {
            Load::of(self.shared.counts().overhead(), self.spec.weight)
        } else {
            Load::UNUSABLE
        }
    }

    /// A connection in this state was bound to it.
    pub fn bind(&self, state: State) {
        self.shared.opened(state);
        let upper = u64::from(self.spec.upper_threshold);
        if upper != 0 && self.shared.counts().total() >= upper {
            self.shared.overloaded.store(true, Relaxed);
        }
        if let Some(leaf) = &self.leaf {
            leaf.tree.raise(leaf.place, self.load());
        }
    }

    /// A connection in this state ended.
    pub fn unbind(&self, state: State) {
        self.shared.closed(state);
        if self.shared.overloaded.load(Relaxed) && self.is_below_threshold() {
            self.shared.overloaded.store(false, Relaxed);
        }
        self.refresh_load();
    }

    /// After its thresholds were edited: a raised or removed upper one admits connections at once, as in Linux.
    pub(crate) fn thresholds_edited(&self, old_upper: u32) {
        let upper = self.spec.upper_threshold;
        if upper == 0 || upper > old_upper {
            self.shared.overloaded.store(false, Relaxed);
        }
    }

    fn is_below_threshold(&self) -> bool {
        let total = self.shared.counts().total();
        match (self.spec.lower_threshold, self.spec.upper_threshold) {
            (0, 0) => true,
            (0, upper) => total * 4 < u64::from(upper) * 3,
            (lower, _) => total < u64::from(lower),
        }
    }
}
