//! Totals that people see: workers' counters, less what they stood at when they were set to zero, and with what removed
//! destinations had counted for their service.
//!
//! A service's totals are the sum over its destinations, past ones included: workers count each packet once. Counters
//! themselves are never written from here, they have one writer each.

use std::collections::BTreeMap;
use std::ops::{Add, Sub};

use pollux_api::ServiceId;
use pollux_api::statistics::TrafficTotals;
use pollux_engine::Snapshot;

use crate::numbering::DestinationNumber;

/// Marks and remainders.
#[derive(Debug, Default)]
pub struct Totals {
    /// What a destination's counters stood at when its totals began.
    destination_start: BTreeMap<DestinationNumber, Amounts>,
    /// What destinations that are gone had counted since the service's totals began; negative amounts wrap.
    service_rest: BTreeMap<ServiceId, Amounts>,
    /// What destinations whose numbers are free again had counted, by worker.
    forgotten: Vec<Amounts>,
    /// What everything stood at when the director's totals began.
    director_start: Amounts,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Amounts(TrafficTotals);

impl Add for Amounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.each(other, u64::wrapping_add)
    }
}

impl Sub for Amounts {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.each(other, u64::wrapping_sub)
    }
}

impl Amounts {
    fn each(self, other: Self, change: fn(u64, u64) -> u64) -> Self {
        let (a, b) = (self.0, other.0);
        Self(TrafficTotals {
            connections: change(a.connections, b.connections),
            inbound_packets: change(a.inbound_packets, b.inbound_packets),
            outbound_packets: change(a.outbound_packets, b.outbound_packets),
            inbound_bytes: change(a.inbound_bytes, b.inbound_bytes),
            outbound_bytes: change(a.outbound_bytes, b.outbound_bytes),
        })
    }

    /// What each worker has counted for a destination since it got its number.
    fn by_worker(
        number: DestinationNumber,
        snapshot: &Snapshot,
    ) -> impl Iterator<Item = Self> + use<'_> {
        let workers = snapshot
            .destination(number.get())
            .into_iter()
            .flat_map(|found| found.shared.all_traffic());
        workers.map(|worker| {
            Self(TrafficTotals {
                connections: worker.connections.get(),
                inbound_packets: worker.inbound_packets.get(),
                outbound_packets: worker.outbound_packets.get(),
                inbound_bytes: worker.inbound_bytes.get(),
                outbound_bytes: worker.outbound_bytes.get(),
            })
        })
    }

    /// What all workers have counted for it.
    fn counted(number: DestinationNumber, snapshot: &Snapshot) -> Self {
        Self::by_worker(number, snapshot).fold(Self::default(), Self::add)
    }
}

/// Adds what each worker has counted for a destination.
fn add_by_worker(sums: &mut Vec<Amounts>, number: DestinationNumber, snapshot: &Snapshot) {
    for (worker, counted) in Amounts::by_worker(number, snapshot).enumerate() {
        match sums.get_mut(worker) {
            Some(sum) => *sum = *sum + counted,
            None => sums.push(counted),
        }
    }
}

impl Totals {
    /// A destination's totals.
    pub fn destination(&self, number: DestinationNumber, snapshot: &Snapshot) -> TrafficTotals {
        self.of(number, snapshot).0
    }

    fn of(&self, number: DestinationNumber, snapshot: &Snapshot) -> Amounts {
        Amounts::counted(number, snapshot)
            - self
                .destination_start
                .get(&number)
                .copied()
                .unwrap_or_default()
    }

    /// A service's totals; `destinations` are all that have a number, removed ones too.
    pub fn service(
        &self,
        id: ServiceId,
        destinations: impl Iterator<Item = DestinationNumber>,
        snapshot: &Snapshot,
    ) -> TrafficTotals {
        let rest = self.service_rest.get(&id).copied().unwrap_or_default();
        destinations
            .fold(rest, |sum, number| sum + self.of(number, snapshot))
            .0
    }

    /// The totals of a service and of these destinations of it begin now. Those that were removed from it keep theirs for when
    /// they come back, as in Linux.
    pub fn zero(
        &mut self,
        id: ServiceId,
        destinations: impl Iterator<Item = DestinationNumber>,
        removed: impl Iterator<Item = DestinationNumber>,
        snapshot: &Snapshot,
    ) {
        for number in destinations {
            self.begin(number, snapshot);
        }
        let kept = removed.fold(Amounts::default(), |sum, number| {
            sum + self.of(number, snapshot)
        });
        self.service_rest.insert(id, Amounts::default() - kept);
    }

    /// A destination's totals begin now.
    pub fn begin(&mut self, number: DestinationNumber, snapshot: &Snapshot) {
        self.destination_start
            .insert(number, Amounts::counted(number, snapshot));
    }

    /// A destination's totals begin now; what it had counted stays its service's.
    pub fn retire(&mut self, service: ServiceId, number: DestinationNumber, snapshot: &Snapshot) {
        let had = self.of(number, snapshot);
        let rest = self.service_rest.entry(service).or_default();
        *rest = *rest + had;
        self.begin(number, snapshot);
    }

    /// The director's totals; `destinations` are all that have a number.
    pub fn director(
        &self,
        destinations: impl Iterator<Item = DestinationNumber>,
        snapshot: &Snapshot,
    ) -> TrafficTotals {
        (self.ever(destinations, snapshot) - self.director_start).0
    }

    /// The director's totals begin now.
    pub fn zero_director(
        &mut self,
        destinations: impl Iterator<Item = DestinationNumber>,
        snapshot: &Snapshot,
    ) {
        self.director_start = self.ever(destinations, snapshot);
    }

    fn ever(
        &self,
        destinations: impl Iterator<Item = DestinationNumber>,
        snapshot: &Snapshot,
    ) -> Amounts {
        let forgotten = self.forgotten.iter().copied();
        let forgotten = forgotten.fold(Amounts::default(), Amounts::add);
        destinations.fold(forgotten, |sum, number| {
            sum + Amounts::counted(number, snapshot)
        })
    }

    /// What each worker has counted since start, whatever was set to zero; `destinations` are all that have a number.
    pub fn workers(
        &self,
        destinations: impl Iterator<Item = DestinationNumber>,
        snapshot: &Snapshot,
    ) -> Vec<TrafficTotals> {
        let mut sums = self.forgotten.clone();
        for number in destinations {
            add_by_worker(&mut sums, number, snapshot);
        }
        sums.into_iter().map(|sum| sum.0).collect()
    }

    /// A number is free: its next owner's counters start at 0.
    pub fn forget_destination(&mut self, number: DestinationNumber, snapshot: &Snapshot) {
        add_by_worker(&mut self.forgotten, number, snapshot);
        self.destination_start.remove(&number);
    }

    /// A service is gone.
    pub fn forget_service(&mut self, id: ServiceId) {
        self.service_rest.remove(&id);
    }
}
