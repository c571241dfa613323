//! The rates of everything that runs: one [`Estimator`] a service and a destination, fed with the data plane's counters.

use std::collections::HashMap;
use std::hash::Hash;

use pollux_api::control::{PortReport, WorkerReport};
use pollux_api::dataplane::{PortStatus, WorkerStatus};
use pollux_api::estimator::Estimator;
use pollux_api::statistics::{
    PortRates, RateReport, Rates, ServiceStatistics, TrafficTotals, WorkerRates,
};
use pollux_api::{DestinationId, ServiceId};

/// All estimators.
#[derive(Debug, Default)]
pub struct RateTable {
    /// False until the first sample: what runs by then has been counting since before.
    started: bool,
    /// Rates of services and destinations stand still (`run_estimation`).
    is_suspended: bool,
    /// Of all services together; none until its first sample.
    director: Option<Estimator>,
    services: HashMap<ServiceId, ServiceRates>,
    /// By name.
    ports: HashMap<String, Estimator>,
    /// By number.
    workers: HashMap<u16, Estimator>,
}

#[derive(Debug, Default)]
struct ServiceRates {
    own: Estimator,
    destinations: HashMap<DestinationId, Estimator>,
    /// Of destinations that were removed, and how many ticks ago: they go on where they stopped, as the kernel's, if the
    /// destination comes back as the one it was.
    resting: HashMap<DestinationId, (Estimator, u32)>,
}

/// Ticks that the rates of a removed destination are kept: an hour, longer than a connection of it lives by default.
const RESTING_TICKS: u32 = 1800;

impl ServiceRates {
    /// What was there a moment ago and is not in `now` rests.
    fn put_to_rest(&mut self, mut before: Self, ticks: u32) {
        let gone = before
            .destinations
            .into_iter()
            .map(|(id, own)| (id, (own, 0)));
        let rested = before.resting.drain().filter_map(|(id, (own, rested))| {
            let rested = rested.saturating_add(ticks);
            (rested < RESTING_TICKS).then_some((id, (own, rested)))
        });
        let all = rested.chain(gone);
        self.resting
            .extend(all.filter(|(id, _)| !self.destinations.contains_key(id)));
    }
}

impl RateTable {
    /// Lets rates stand still, or go on: then with all that was counted meanwhile in one tick, as in the kernel.
    pub fn suspend(&mut self, is_suspended: bool) {
        self.is_suspended = is_suspended;
    }

    /// Services as Linux tells them: totals are the estimator's, so they stand still with the rates.
    pub fn as_estimated(&self, mut services: Vec<ServiceStatistics>) -> Vec<ServiceStatistics> {
        if !self.is_suspended {
            return services;
        }
        for service in &mut services {
            let known = self.services.get(&service.service.id);
            service.totals = known.map(|known| known.own.totals()).unwrap_or_default();
            for destination in &mut service.destinations {
                let id = destination.destination.id;
                let own = known.and_then(|known| known.destinations.get(&id));
                destination.totals = own.map(Estimator::totals).unwrap_or_default();
            }
        }
        services
    }

    /// The director's totals as Linux tells them.
    pub fn director_as_estimated(&self, totals: TrafficTotals) -> TrafficTotals {
        if self.is_suspended {
            return self.director.map(|own| own.totals()).unwrap_or_default();
        }
        totals
    }

    /// Takes the counters in, `ticks` ticks after the last time. What is not among them is forgotten.
    pub fn sample(&mut self, services: &[ServiceStatistics], ticks: u32) {
        if self.is_suspended {
            return;
        }
        let mut before = std::mem::take(&mut self.services);
        for service in services {
            let id = service.service.id;
            let mut known = before.remove(&id);
            let old = known.as_ref().map(|known| known.own);
            let own = self.next(old, service.totals, ticks);
            let destinations = service.destinations.iter().map(|destination| {
                let id = destination.destination.id;
                let old = known.as_mut().and_then(|known| {
                    let rested = known.resting.remove(&id).map(|(own, _)| own);
                    known.destinations.remove(&id).or(rested)
                });
                (id, self.next(old, destination.totals, ticks))
            });
            let destinations = destinations.collect();
            let mut rates = ServiceRates {
                own,
                destinations,
                resting: HashMap::new(),
            };
            if let Some(before) = known {
                rates.put_to_rest(before, ticks);
            }
            self.services.insert(id, rates);
        }
        self.started = true;
    }

    fn next(&self, old: Option<Estimator>, totals: TrafficTotals, ticks: u32) -> Estimator {
        if !self.started {
            return Estimator::starting_at(totals);
        }
        // Something new has counted from 0 within this tick, as in the kernel.
        let mut estimator = old.unwrap_or_default();
        estimator.sample(totals, if old.is_some() { ticks } else { 1 });
        estimator
    }

    /// Takes the counters of the director as a whole in, `ticks` ticks after the last time.
    pub fn sample_director(&mut self, totals: TrafficTotals, ticks: u32) {
        if self.is_suspended {
            return;
        }
        match &mut self.director {
            Some(estimator) => estimator.sample(totals, ticks),
            first => *first = Some(Estimator::starting_at(totals)),
        }
    }

    /// The rates of the director as a whole.
    pub fn director(&self) -> Rates {
        self.director.map(|own| own.rates()).unwrap_or_default()
    }

    /// Takes the counters of the ports in, `ticks` ticks after the last time.
    pub fn sample_ports(&mut self, ports: &[PortStatus], ticks: u32) {
        let now = ports.iter().map(|port| (port.name.clone(), carried(port)));
        sample_all(&mut self.ports, now, ticks);
    }

    /// Takes the counters of the workers in, `ticks` ticks after the last time.
    pub fn sample_workers(&mut self, workers: &[WorkerStatus], ticks: u32) {
        let now = workers.iter().map(|worker| (worker.worker, done(worker)));
        sample_all(&mut self.workers, now, ticks);
    }

    /// These ports with their rates.
    pub fn report_ports(&self, ports: Vec<PortStatus>) -> Vec<PortReport> {
        let report = ports.into_iter().map(|status| {
            let rates = self.ports.get(&status.name).map(Estimator::rates);
            let rates = rates.unwrap_or_default();
            PortReport {
                status,
                rates: PortRates {
                    received_packets: rates.inbound_packets,
                    sent_packets: rates.outbound_packets,
                    received_bytes: rates.inbound_bytes,
                    sent_bytes: rates.outbound_bytes,
                },
            }
        });
        report.collect()
    }

    /// These workers with their rates.
    pub fn report_workers(&self, workers: Vec<WorkerStatus>) -> Vec<WorkerReport> {
        let report = workers.into_iter().map(|status| {
            let rates = self.workers.get(&status.worker).map(Estimator::rates);
            let rates = rates.unwrap_or_default();
            WorkerReport {
                status,
                rates: WorkerRates {
                    connections: rates.connections,
                    received_packets: rates.inbound_packets,
                },
            }
        });
        report.collect()
    }

    /// The counters of one service or of all were set to zero.
    pub fn zero(&mut self, service: Option<ServiceId>) {
        if service.is_none() {
            self.director = Some(Estimator::default());
        }
        for (id, rates) in &mut self.services {
            if service.is_none_or(|wanted| wanted == *id) {
                rates.own = Estimator::default();
                rates
                    .destinations
                    .values_mut()
                    .for_each(|destination| *destination = Estimator::default());
            }
        }
    }

    /// The rates of these services and destinations, in their order; 0 for what is too new to have any.
    pub fn report(&self, services: &[ServiceStatistics]) -> Vec<RateReport> {
        let report = services.iter().map(|service| {
            let id = service.service.id;
            let known = self.services.get(&id);
            let own = known.map(|known| known.own.rates());
            let destinations = service.destinations.iter().map(|destination| {
                let id = destination.destination.id;
                let rates = known.and_then(|known| {
                    let resting = known.resting.get(&id).map(|(own, _)| own);
                    known.destinations.get(&id).or(resting)
                });
                let rates = rates.map(Estimator::rates);
                (id, rates.unwrap_or_default())
            });
            RateReport {
                service: id,
                rates: own.unwrap_or_default(),
                destinations: destinations.collect(),
            }
        });
        report.collect()
    }
}

/// A port's counters as the estimator takes them: what it receives is inbound.
fn carried(port: &PortStatus) -> TrafficTotals {
    TrafficTotals {
        connections: 0,
        inbound_packets: port.nic.received_packets,
        outbound_packets: port.nic.sent_packets,
        inbound_bytes: port.nic.received_bytes,
        outbound_bytes: port.nic.sent_bytes,
    }
}

/// A worker's counters as the estimator takes them.
fn done(worker: &WorkerStatus) -> TrafficTotals {
    TrafficTotals {
        connections: worker.connections_created,
        inbound_packets: worker.received,
        ..TrafficTotals::default()
    }
}

/// One more sample of each; what is not among them is forgotten, and what is new has counted since before.
fn sample_all<K: Eq + Hash>(
    estimators: &mut HashMap<K, Estimator>,
    now: impl Iterator<Item = (K, TrafficTotals)>,
    ticks: u32,
) {
    let mut before = std::mem::take(estimators);
    estimators.extend(now.map(|(key, totals)| {
        let estimator = match before.remove(&key) {
            Some(mut known) => {
                known.sample(totals, ticks);
                known
            }
            None => Estimator::starting_at(totals),
        };
        (key, estimator)
    }));
}

#[cfg(test)]
mod tests {
    use pollux_api::statistics::DestinationStatistics;
    use pollux_api::{Destination, Protocol, VirtualService};

    use super::*;

    fn service(port: u16, connections: u64) -> ServiceStatistics {
        let totals = TrafficTotals {
            connections,
            ..TrafficTotals::default()
        };
        let endpoint = format!("198.51.100.1:{port}").parse().unwrap();
        let destination = Destination {
            id: "203.0.113.11:80".parse().unwrap(),
            method: Default::default(),
            weight: Default::default(),
            tunnel: Default::default(),
            upper_threshold: 0,
            lower_threshold: 0,
        };
        ServiceStatistics {
            service: VirtualService::new(ServiceId::address(Protocol::Tcp, endpoint)),
            totals,
            destinations: vec![DestinationStatistics {
                destination,
                active_connections: 0,
                inactive_connections: 0,
                persistent_connections: 0,
                totals,
            }],
        }
    }

    fn connection_rates(table: &RateTable, services: &[ServiceStatistics]) -> Vec<u64> {
        let report = table.report(services);
        for one in &report {
            assert_eq!(one.rates, one.destinations[0].1);
        }
        report.iter().map(|one| one.rates.connections).collect()
    }

    #[test]
    fn a_restarted_polluxd_does_not_take_totals_for_a_rate() {
        let mut table = RateTable::default();
        table.sample(&[service(80, 1_000_000)], 1);
        assert_eq!(connection_rates(&table, &[service(80, 1_000_000)]), [0]);
        table.sample(&[service(80, 1_000_200)], 1);
        assert_eq!(connection_rates(&table, &[service(80, 0)]), [25]);
    }

    #[test]
    fn the_director_has_rates_of_its_own() {
        let totals = |connections| TrafficTotals {
            connections,
            ..TrafficTotals::default()
        };
        let mut table = RateTable::default();
        assert_eq!(table.director(), Rates::default());
        table.sample_director(totals(1_000_000), 1);
        assert_eq!(table.director().connections, 0);
        table.sample_director(totals(1_000_200), 1);
        assert_eq!(table.director().connections, 25);
        table.zero(None);
        assert_eq!(table.director(), Rates::default());
    }

    #[test]
    fn new_ones_count_from_zero_and_gone_ones_are_forgotten() {
        let mut table = RateTable::default();
        table.sample(&[service(80, 0)], 1);
        table.sample(&[service(81, 200)], 5);
        assert_eq!(
            connection_rates(&table, &[service(80, 0), service(81, 0)]),
            [0, 25]
        );
        assert_eq!(table.services.len(), 1);
    }

    #[test]
    fn a_removed_destination_that_comes_back_goes_on_where_it_stopped() {
        let without = |connections| ServiceStatistics {
            destinations: Vec::new(),
            ..service(80, connections)
        };
        let of_destination = |table: &RateTable| {
            let report = table.report(&[service(80, 0)]);
            report[0].destinations[0].1.connections
        };
        let mut table = RateTable::default();
        table.sample(&[service(80, 0)], 1);
        // As the kernel showed it: 400 connections in a tick, 4 s, and back after 20 s.
        table.sample(&[service(80, 400)], 1);
        assert_eq!(of_destination(&table), 50);
        for _ in 0..10 {
            table.sample(&[without(400)], 1);
        }
        assert_eq!(of_destination(&table), 50);
        let seen = [37, 28, 21, 16].map(|_| {
            table.sample(&[service(80, 400)], 1);
            of_destination(&table)
        });
        assert_eq!(seen, [37, 28, 21, 16]);
    }

    #[test]
    fn a_destination_that_does_not_come_back_is_forgotten() {
        let mut table = RateTable::default();
        table.sample(&[service(80, 0)], 1);
        let without = ServiceStatistics {
            destinations: Vec::new(),
            ..service(80, 0)
        };
        for _ in 0..=RESTING_TICKS {
            table.sample(std::slice::from_ref(&without), 1);
        }
        assert!(table.services[&without.service.id].resting.is_empty());
    }

    #[test]
    fn suspended_rates_stand_still_and_totals_with_them_for_ipvs_tools() {
        let totals = |table: &RateTable, connections| {
            let told = table.as_estimated(vec![service(80, connections)]);
            let of_server = told[0].destinations[0].totals.connections;
            (told[0].totals.connections, of_server)
        };
        let mut table = RateTable::default();
        table.sample(&[service(80, 0)], 1);
        table.sample(&[service(80, 200)], 1);
        table.suspend(true);
        for _ in 0..3 {
            table.sample(&[service(80, 600)], 1);
        }
        assert_eq!(connection_rates(&table, &[service(80, 0)]), [25]);
        assert_eq!(totals(&table, 600), (200, 200));
        table.suspend(false);
        assert_eq!(totals(&table, 600), (600, 600));
        table.sample(&[service(80, 600)], 1);
        // 400 in one tick of 2 s.
        assert_eq!(connection_rates(&table, &[service(80, 0)]), [69]);
        table.suspend(true);
        table.zero(None);
        assert_eq!(totals(&table, 600), (0, 0));
    }

    #[test]
    fn zero_is_of_one_service_or_of_all() {
        let mut table = RateTable::default();
        let services = [service(80, 200), service(81, 200)];
        table.sample(&[], 1);
        table.sample(&services, 1);
        table.zero(Some(services[0].service.id));
        assert_eq!(connection_rates(&table, &services), [0, 25]);
        table.zero(None);
        assert_eq!(connection_rates(&table, &services), [0, 0]);
    }
}
