//! `/proc/net/ip_vs_stats`: counters and rates of all services together, in hexadecimal.

use super::statistics::Statistics;

/// Its path.
pub const PATH: &str = "/proc/net/ip_vs_stats";

/// The text of the file.
pub fn text(statistics: &Statistics) -> String {
    let (totals, rates) = (statistics.totals, statistics.rates);
    let line = |numbers: [u64; 5]| {
        let [connections, packets_in, packets_out, bytes_in, bytes_out] = numbers;
        format!(
            "{connections:8X} {packets_in:8X} {packets_out:8X} {bytes_in:16X} {bytes_out:16X}\n"
        )
    };
    let counted = line([
        totals.connections,
        totals.inbound_packets,
        totals.outbound_packets,
        totals.inbound_bytes,
        totals.outbound_bytes,
    ]);
    let a_second = line([
        rates.connections,
        rates.inbound_packets,
        rates.outbound_packets,
        rates.inbound_bytes,
        rates.outbound_bytes,
    ]);
    format!(
        "{:>8} {:>8} {:>8} {:>16} {:>16}\n{:>8} {:>8} {:>8} {:>16} {:>16}\n{counted}\n\
         {:>8} {:>8} {:>8} {:>16} {:>16}\n{a_second}",
        "Total",
        "Incoming",
        "Outgoing",
        "Incoming",
        "Outgoing",
        "Conns",
        "Packets",
        "Packets",
        "Bytes",
        "Bytes",
        "Conns/s",
        "Pkts/s",
        "Pkts/s",
        "Bytes/s",
        "Bytes/s",
    )
}

#[cfg(test)]
mod tests {
    use pollux_api::statistics::{Rates, TrafficTotals};

    use super::*;

    /// The text of `tests/golden/cli.json`.
    #[test]
    fn the_file_is_the_kernels() {
        let statistics = Statistics {
            totals: TrafficTotals {
                connections: 9,
                inbound_packets: 14,
                outbound_packets: 5,
                inbound_bytes: 0x22e,
                outbound_bytes: 0xc8,
            },
            rates: Rates {
                connections: 1,
                inbound_packets: 1,
                outbound_packets: 0,
                inbound_bytes: 0x27,
                outbound_bytes: 14,
            },
        };
        let expected = concat!(
            "   Total Incoming Outgoing         Incoming         Outgoing\n",
            "   Conns  Packets  Packets            Bytes            Bytes\n",
            "       9        E        5              22E               C8\n",
            "\n",
            " Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n",
            "       1        1        0               27                E\n",
        );
        assert_eq!(text(&statistics), expected);
    }
}
