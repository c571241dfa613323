//! The rates of everything that runs: one [`Estimator`] a service and a destination, fed with the data plane's counters.

use std::collections::HashMap;

use pollux_api::statistics::{RateReport, Rates, ServiceStatistics, TrafficTotals};
use pollux_api::{DestinationId, ServiceId};

use super::estimator::Estimator;

/// All estimators.
#[derive(Debug, Default)]
pub struct RateTable {
    /// False until the first sample: what runs by then has been counting since before.
    started: bool,
    /// Of all services together; none until its first sample.
    director: Option<Estimator>,
    services: HashMap<ServiceId, ServiceRates>,
}

#[derive(Debug, Default)]
struct ServiceRates {
    own: Estimator,
    destinations: HashMap<DestinationId, Estimator>,
}

impl RateTable {
    /// Takes the counters in, `ticks` ticks after the last time. What is not among them is forgotten.
    pub fn sample(&mut self, services: &[ServiceStatistics], ticks: u32) {
        let mut before = std::mem::take(&mut self.services);
        for service in services {
            let id = service.service.id;
            let mut known = before.remove(&id);
            let old = known.as_ref().map(|known| known.own);
            let own = self.next(old, service.totals, ticks);
            let destinations = service.destinations.iter().map(|destination| {
                let id = destination.destination.id;
                let old = known
                    .as_mut()
                    .and_then(|known| known.destinations.remove(&id));
                (id, self.next(old, destination.totals, ticks))
            });
            let destinations = destinations.collect();
            self.services.insert(id, ServiceRates { own, destinations });
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
        match &mut self.director {
            Some(estimator) => estimator.sample(totals, ticks),
            first => *first = Some(Estimator::starting_at(totals)),
        }
    }

    /// The rates of the director as a whole.
    pub fn director(&self) -> Rates {
        self.director.map(|own| own.rates()).unwrap_or_default()
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
                let rates = known
                    .and_then(|known| known.destinations.get(&id))
                    .map(Estimator::rates);
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
