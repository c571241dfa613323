//! Counters that one worker writes and anyone reads.
//!
//! Single writer, so an addition is a load and a store: no locked instruction, and each worker's counters lie on cache
//! lines of their own. Readers sum over the workers; a sum read while packets flow may be a few packets old, never torn.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

use crate::connection::State;
use crate::fate::Fate;

/// A 64-bit counter with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning worker may call it.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(amount),
            Ordering::Relaxed,
        );
    }

    /// Takes away, for a counter that is a gauge; only the owning worker may call it.
    #[inline]
    pub fn subtract(&self, amount: u64) {
        self.add(amount.wrapping_neg());
    }

    /// Sets a gauge; only the owning worker may call it.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker saw on one port.
#[derive(Debug)]
pub struct PortCounters {
    /// Packets received.
    pub received: Counter,
    /// Packets that wait for a neighbour's MAC now (goes up and down).
    pub held: Counter,
    /// Frames of the kernel's sent out of the port.
    pub kernel_transmitted: Counter,
    /// Frames of the kernel's that the port refused.
    pub kernel_transmit_refused: Counter,
    fates: [Counter; Fate::COUNT],
}

impl Default for PortCounters {
    fn default() -> Self {
        Self {
            received: Counter::default(),
            held: Counter::default(),
            kernel_transmitted: Counter::default(),
            kernel_transmit_refused: Counter::default(),
            fates: std::array::from_fn(|_| Counter::default()),
        }
    }
}

impl PortCounters {
    /// Counts a packet's fate.
    #[inline]
    pub fn count(&self, fate: Fate) {
        self.count_many(fate, 1);
    }

    /// Counts the same fate of several packets.
    #[inline]
    pub fn count_many(&self, fate: Fate, packets: u64) {
        if let Some(counter) = self.fates.get(fate as usize) {
            counter.add(packets);
        }
    }

    /// Packets that met this fate.
    pub fn fate(&self, fate: Fate) -> u64 {
        self.fates.get(fate as usize).map_or(0, Counter::get)
    }
}

/// One worker's counters.
#[derive(Debug)]
pub struct WorkerCounters {
    ports: Box<[CachePadded<PortCounters>]>,
    /// Loops run.
    pub loops: CachePadded<Counter>,
    /// Loops that found a packet.
    pub busy_loops: Counter,
    /// Time spent in such loops.
    pub busy_nanoseconds: Counter,
    /// Connections created less those ended by this worker (a gauge; summed over the workers, the entries in use).
    pub connections: Counter,
    /// Connections created.
    pub connections_created: Counter,
    /// Connections reaped after their time.
    pub connections_expired: Counter,
    /// Unestablished connections removed early to make room.
    pub connections_evicted: Counter,
    /// Packets forwarded without an entry, because the table was full.
    pub without_entry: Counter,
    /// ICMP errors made.
    pub icmp_errors_sent: Counter,
    /// Connections answered first on the worker that made them: both directions come to it.
    pub answers_met: Counter,
    /// Connections that another worker made and this one saw answered first.
    pub answers_apart: Counter,
    /// Connections told of to other directors.
    pub sync_told: Counter,
    /// Connections that were to be told of, and for which the queue had no room.
    pub sync_untold: Counter,
    /// Connections of other directors that were new here.
    pub synced_made: Counter,
    /// Connections of other directors that were here already.
    pub synced_changed: Counter,
    /// Ends of connections of other directors in whose place there was another one here.
    pub synced_passed_over: Counter,
    /// Connections of other directors for which there was no room.
    pub synced_no_room: Counter,
    /// Connections of other directors of a kind that is not had here, and templates whose server is not here.
    pub synced_unusable: Counter,
    /// Connections by state, in the order of [`State::ALL`], as the last round of the sweep found them.
    pub states: [Counter; State::ALL.len()],
    /// Entries with room for IPv6 that it found in use.
    pub wide: Counter,
}

impl WorkerCounters {
    /// All zero, for so many ports.
    pub fn new(ports: usize) -> Self {
        Self {
            ports: (0..ports).map(|_| CachePadded::default()).collect(),
            loops: CachePadded::default(),
            busy_loops: Counter::default(),
            busy_nanoseconds: Counter::default(),
            connections: Counter::default(),
            connections_created: Counter::default(),
            connections_expired: Counter::default(),
            connections_evicted: Counter::default(),
            without_entry: Counter::default(),
            icmp_errors_sent: Counter::default(),
            answers_met: Counter::default(),
            answers_apart: Counter::default(),
            sync_told: Counter::default(),
            sync_untold: Counter::default(),
            synced_made: Counter::default(),
            synced_changed: Counter::default(),
            synced_passed_over: Counter::default(),
            synced_no_room: Counter::default(),
            synced_unusable: Counter::default(),
            states: std::array::from_fn(|_| Counter::default()),
            wide: Counter::default(),
        }
    }

    /// The counters of a port; none when there is no such port.
    #[inline]
    pub fn port(&self, port: usize) -> Option<&PortCounters> {
        self.ports.get(port).map(|counters| &**counters)
    }
}

/// Traffic of one destination as one worker saw it: IPVS's five totals.
#[derive(Debug, Default)]
pub struct TrafficCounters {
    /// Connections scheduled.
    pub connections: Counter,
    /// Packets from clients.
    pub inbound_packets: Counter,
    /// IP bytes from clients.
    pub inbound_bytes: Counter,
    /// Packets from the server.
    pub outbound_packets: Counter,
    /// IP bytes from the server.
    pub outbound_bytes: Counter,
}
