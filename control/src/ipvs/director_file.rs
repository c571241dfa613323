//! `/proc/net/ip_vs_stats` and `/proc/net/ip_vs_stats_percpu`: counters and rates of all services together, in hexadecimal.

use pollux_api::statistics::TrafficTotals;

use super::statistics::Statistics;

/// The path of the file of all.
pub const PATH: &str = "/proc/net/ip_vs_stats";

/// The path of the file that tells each processor's part, too; here, each worker's.
pub const BY_WORKER_PATH: &str = "/proc/net/ip_vs_stats_percpu";

/// The text of the file of all workers. What they have counted goes on when all is set to zero, as in the kernel.
pub fn text_by_worker(statistics: &Statistics, workers: &[TrafficTotals]) -> String {
    let line = |totals: &TrafficTotals| {
        format!(
            "{:8X} {:8X} {:8X} {:16X} {:16X}",
            totals.connections,
            totals.inbound_packets,
            totals.outbound_packets,
            totals.inbound_bytes,
            totals.outbound_bytes
        )
    };
    let workers = workers.iter().zip(0_u32..);
    let workers: String = workers
        .map(|(totals, number)| format!("{number:3X} {}\n", line(totals)))
        .collect();
    let rates = statistics.rates;
    let a_second = TrafficTotals {
        connections: rates.connections,
        inbound_packets: rates.inbound_packets,
        outbound_packets: rates.outbound_packets,
        inbound_bytes: rates.inbound_bytes,
        outbound_bytes: rates.outbound_bytes,
    };
    format!(
        "       Total Incoming Outgoing         Incoming         Outgoing\n\
         CPU    Conns  Packets  Packets            Bytes            Bytes\n\
         {workers}  ~ {}\n\n     Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n    {}\n",
        line(&statistics.totals),
        line(&a_second)
    )
}

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

    fn recorded() -> Statistics {
        Statistics {
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
        }
    }

    /// The texts of `tests/golden/cli.json`.
    #[test]
    fn the_files_are_the_kernels() {
        let statistics = recorded();
        let expected = concat!(
            "   Total Incoming Outgoing         Incoming         Outgoing\n",
            "   Conns  Packets  Packets            Bytes            Bytes\n",
            "       9        E        5              22E               C8\n",
            "\n",
            " Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n",
            "       1        1        0               27                E\n",
        );
        assert_eq!(text(&statistics), expected);
        let expected = concat!(
            "       Total Incoming Outgoing         Incoming         Outgoing\n",
            "CPU    Conns  Packets  Packets            Bytes            Bytes\n",
            "  0        9        E        5              22E               C8\n",
            "  ~        9        E        5              22E               C8\n",
            "\n",
            "     Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n",
            "           1        1        0               27                E\n",
        );
        assert_eq!(text_by_worker(&statistics, &[statistics.totals]), expected);
    }

    #[test]
    fn there_is_a_line_for_each_worker() {
        let workers = [TrafficTotals::default(); 17];
        let text = text_by_worker(&recorded(), &workers);
        assert_eq!(text.lines().count(), 2 + 17 + 1 + 3);
        assert!(text.contains("\n 10        0 "), "{text}");
    }
}
