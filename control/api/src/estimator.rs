//! The rate estimator of Linux IPVS (`net/netfilter/ipvs/ip_vs_est.c`): what `ipvsadm --rate` shows, to the digit.
//!
//! Every [`TICK`] the rate since the last tick moves the average a quarter of the way: `avg += (rate - avg) >> 2`, which
//! looks back about 8 s. Connections and packets are kept scaled by 2^10, bytes by 2^5, in 64 bits. No clock here: the
//! caller says how many ticks have passed.

use std::time::Duration;

use crate::statistics::{Rates, TrafficTotals};

/// The time between two samples.
pub const TICK: Duration = Duration::from_secs(2);

/// Ticks fed at most for one sample. After so many the average has nothing left of what was before.
const TICKS_MAX: u32 = 64;

/// The average of one counter, scaled by 2^`SCALE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Average<const SCALE: u32>(i64);

impl<const SCALE: u32> Average<SCALE> {
    /// One tick in which the counter grew by `delta`. Wraps as the kernel's does; no counter gets there.
    fn tick(&mut self, delta: u64) {
        // A tick is 2 s, so the rate a second is half the growth: one bit less of scale.
        let rate = delta.wrapping_shl(SCALE - 1).cast_signed();
        self.0 = self.0.wrapping_add(rate.wrapping_sub(self.0) >> 2);
    }

    /// The average a second, rounded as the kernel does.
    fn get(self) -> u64 {
        let almost_half = (1 << (SCALE - 1)) - 1;
        (self.0.wrapping_add(almost_half) >> SCALE).cast_unsigned()
    }
}

/// The rates of one service or destination.
#[derive(Debug, Clone, Copy, Default)]
pub struct Estimator {
    last: TrafficTotals,
    connections: Average<10>,
    inbound_packets: Average<10>,
    outbound_packets: Average<10>,
    inbound_bytes: Average<5>,
    outbound_bytes: Average<5>,
}

impl Estimator {
    /// An estimator whose counters have these totals already; all rates are 0.
    pub fn starting_at(totals: TrafficTotals) -> Self {
        Self {
            last: totals,
            ..Self::default()
        }
    }

    /// The totals of the last sample.
    pub fn totals(&self) -> TrafficTotals {
        self.last
    }

    /// The counters now, `ticks` ticks after the last sample; more than one when samples were missed.
    pub fn sample(&mut self, totals: TrafficTotals, ticks: u32) {
        let last = self.last;
        let grown = [
            (totals.connections, last.connections),
            (totals.inbound_packets, last.inbound_packets),
            (totals.outbound_packets, last.outbound_packets),
            (totals.inbound_bytes, last.inbound_bytes),
            (totals.outbound_bytes, last.outbound_bytes),
        ]
        .map(|(now, before)| now.checked_sub(before));
        let [
            Some(connections),
            Some(inbound_packets),
            Some(outbound_packets),
            Some(inbound_bytes),
            Some(outbound_bytes),
        ] = grown
        else {
            // A counter that falls was set to zero, which sets the rates to zero too (`ip_vs_zero_estimator`).
            *self = Self::starting_at(totals);
            return;
        };
        self.last = totals;
        let ticks = ticks.clamp(1, TICKS_MAX);
        let each = u64::from(ticks);
        for _ in 0..ticks {
            self.connections.tick(connections / each);
            self.inbound_packets.tick(inbound_packets / each);
            self.outbound_packets.tick(outbound_packets / each);
            self.inbound_bytes.tick(inbound_bytes / each);
            self.outbound_bytes.tick(outbound_bytes / each);
        }
    }

    /// The rates a second.
    pub fn rates(&self) -> Rates {
        Rates {
            connections: self.connections.get(),
            inbound_packets: self.inbound_packets.get(),
            outbound_packets: self.outbound_packets.get(),
            inbound_bytes: self.inbound_bytes.get(),
            outbound_bytes: self.outbound_bytes.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(count: u64) -> TrafficTotals {
        TrafficTotals {
            connections: count,
            inbound_packets: count,
            outbound_packets: count,
            inbound_bytes: count,
            outbound_bytes: count,
        }
    }

    /// A steady 100 a second: each tick a quarter of what is missing.
    #[test]
    fn rises_as_the_kernels() {
        let mut estimator = Estimator::default();
        let mut seen = Vec::new();
        for tick in 1..=12 {
            estimator.sample(totals(200 * tick), 1);
            seen.push(estimator.rates().connections);
        }
        assert_eq!(seen, [25, 44, 58, 68, 76, 82, 87, 90, 92, 94, 96, 97]);
    }

    #[test]
    fn bytes_have_the_smaller_scale() {
        // 3 bytes in 2 s: 3 << 4 = 48, a quarter is 12, (12 + 15) >> 5 = 0; packets: 3 << 9 >> 2 = 384, + 511 >> 10 = 0.
        let mut estimator = Estimator::default();
        estimator.sample(totals(3), 1);
        assert_eq!(estimator.inbound_bytes, Average(12));
        assert_eq!(estimator.inbound_packets, Average(384));
        // One more tick with 9: bytes 12 + ((144 - 12) >> 2) = 45 -> (45 + 15) >> 5 = 1.
        estimator.sample(totals(12), 1);
        assert_eq!(estimator.rates().inbound_bytes, 1);
    }

    #[test]
    fn falls_to_zero_and_not_below() {
        let mut estimator = Estimator::default();
        estimator.sample(totals(1_000_000), 1);
        for _ in 0..100 {
            estimator.sample(totals(1_000_000), 1);
        }
        assert_eq!(estimator.rates(), Rates::default());
    }

    #[test]
    fn a_zeroed_counter_zeroes_the_rates() {
        let mut estimator = Estimator::default();
        estimator.sample(totals(1_000), 1);
        estimator.sample(totals(10), 1);
        assert_eq!(estimator.rates(), Rates::default());
        estimator.sample(totals(210), 1);
        assert_eq!(estimator.rates().connections, 25);
    }

    #[test]
    fn missed_ticks_give_no_spike() {
        let (mut steady, mut late) = (Estimator::default(), Estimator::default());
        for tick in 1..=10 {
            steady.sample(totals(200 * tick), 1);
        }
        late.sample(totals(200), 1);
        late.sample(totals(2000), 9);
        assert_eq!(steady.rates(), late.rates());
    }

    #[test]
    fn line_rate_does_not_overflow() {
        // 400 Gbit/s for a year, in one go.
        let mut estimator = Estimator::starting_at(totals(50_000_000_000 * 31_536_000));
        let second = 50_000_000_000;
        for tick in 1..=200 {
            estimator.sample(totals(50_000_000_000 * 31_536_000 + 2 * second * tick), 1);
        }
        assert_eq!(estimator.rates().inbound_bytes, second);
    }
}
