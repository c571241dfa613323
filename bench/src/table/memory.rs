//! What a connection needs, all in: its entry, its part of the index, its part of the room for IPv6.

use pollux_engine::connection::TableSize;

use crate::measurement::{Family, MemoryMeasurement};

/// Entries of the table reckoned with: so many that its header counts for nothing.
const ENTRIES: u32 = 10_000_000;

/// The size of a table as the data plane makes it, a quarter of whose entries take IPv6; and of one made for one family.
#[allow(clippy::cast_precision_loss)] // sizes of some gigabytes
pub fn of(family: Family) -> MemoryMeasurement {
    let only = match family {
        Family::Ipv4 => TableSize::with_ipv6(ENTRIES, 0),
        Family::Ipv6 => TableSize::with_ipv6(ENTRIES, ENTRIES),
    };
    let each = |size: TableSize| size.bytes() as f64 / f64::from(size.connections());
    MemoryMeasurement {
        family,
        bytes_per_connection: each(only),
        bytes_per_connection_by_default: each(TableSize::for_connections(ENTRIES)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What must be reached: 128 bytes for IPv4 and 224 for IPv6.
    #[test]
    fn a_connection_is_small() {
        let v4 = of(Family::Ipv4);
        assert!(v4.bytes_per_connection <= 128.0, "{v4:?}");
        assert!(v4.bytes_per_connection_by_default <= 128.0, "{v4:?}");
        assert!(of(Family::Ipv6).bytes_per_connection <= 224.0);
    }
}
