//! Counters and rates of a service or destination, in both their forms: 32 bits as first made, and 64 bits.

use pollux_api::statistics::{Rates, TrafficTotals};

use super::attribute::Attribute;

/// Totals with the rates they grow at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// What was counted.
    pub totals: TrafficTotals,
    /// A second.
    pub rates: Rates,
}

impl Statistics {
    /// The nested attribute with 32-bit numbers, but for the bytes; more than they hold is cut, as the kernel does.
    pub fn narrow(&self, kind: u16) -> Attribute {
        let narrow = |(kind, number): (u16, u64)| match kind {
            INBOUND_BYTES | OUTBOUND_BYTES => Attribute::u64(kind, number),
            _ => Attribute::u32(kind, number as u32),
        };
        Attribute::nested(kind, self.numbers().map(narrow).to_vec())
    }

    /// The nested attribute with 64-bit numbers.
    pub fn wide(&self, kind: u16) -> Attribute {
        let wide = |(kind, number)| Attribute::u64(kind, number);
        Attribute::nested(kind, self.numbers().map(wide).to_vec())
    }

    fn numbers(&self) -> [(u16, u64); 10] {
        let (totals, rates) = (self.totals, self.rates);
        [
            (1, totals.connections),
            (2, totals.inbound_packets),
            (3, totals.outbound_packets),
            (INBOUND_BYTES, totals.inbound_bytes),
            (OUTBOUND_BYTES, totals.outbound_bytes),
            (6, rates.connections),
            (7, rates.inbound_packets),
            (8, rates.outbound_packets),
            (9, rates.inbound_bytes),
            (10, rates.outbound_bytes),
        ]
    }
}

const INBOUND_BYTES: u16 = 4;
const OUTBOUND_BYTES: u16 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvs::attribute::Value;

    #[test]
    fn each_number_is_in_its_place() {
        let statistics = Statistics {
            totals: TrafficTotals {
                connections: 1,
                inbound_packets: 2,
                outbound_packets: 3,
                inbound_bytes: 1 << 40,
                outbound_bytes: 5,
            },
            rates: Rates {
                connections: 6,
                inbound_packets: 7,
                outbound_packets: 8,
                inbound_bytes: (1 << 32) + 9,
                outbound_bytes: 10,
            },
        };
        let Value::Nested(narrow) = statistics.narrow(10).value else {
            panic!("not nested")
        };
        let expected = [
            Attribute::u32(1, 1),
            Attribute::u32(2, 2),
            Attribute::u32(3, 3),
            Attribute::u64(4, 1 << 40),
            Attribute::u64(5, 5),
            Attribute::u32(6, 6),
            Attribute::u32(7, 7),
            Attribute::u32(8, 8),
            Attribute::u32(9, 9),
            Attribute::u32(10, 10),
        ];
        assert_eq!(narrow, expected);
        let Value::Nested(wide) = statistics.wide(12).value else {
            panic!("not nested")
        };
        assert_eq!(wide[3], Attribute::u64(4, 1 << 40));
        assert_eq!(wide[8], Attribute::u64(9, (1 << 32) + 9));
    }
}
