//! What the whole process does on a port, measured from outside: how fast without loss, and how long packets take.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::{Family, Method, Pages};
use crate::flows::Order;

/// The program that forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Program {
    /// `pollux-dataplane`.
    PolluxDataplane,
    /// `dpdk-testpmd --forward-mode=macswap`: what DPDK itself can do on the device.
    Testpmd,
}

/// What is the same in all measurements of a program under load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadSetting {
    /// Who forwards.
    pub program: Program,
    /// The kind of DPDK device: `memif`.
    pub device: String,
    /// How packets reach the servers. `testpmd` is sent the same frames and only swaps MACs.
    pub method: Method,
    /// IP version.
    pub family: Family,
    /// Established connections.
    pub connections: u32,
    /// Workers.
    pub workers: u32,
    /// Bytes of a frame on its way to the program, without its check sequence.
    pub frame_bytes: u32,
    /// In which order flows were picked.
    pub order: Order,
    /// Pages of the program's memory.
    pub pages: Pages,
    /// The largest part of the time that the worker or the generator was ready to run and something else had its CPU.
    pub cpu_waited_share: f64,
    /// Part of the time that was not counted but made good, because of that.
    #[serde(default)]
    pub discarded_share: f64,
}

/// The highest rate without loss (RFC 2544, 26.1), found by halving.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThroughputMeasurement {
    /// What was measured.
    #[serde(flatten)]
    pub setting: LoadSetting,
    /// The rate: packets a second, each way.
    pub packets_per_second: f64,
    /// Packets lost at that rate, of those offered.
    pub loss: f64,
    /// Loss that was overlooked, of those offered; 0 unless asked for.
    pub loss_allowed: f64,
    /// What came back each second when more was offered than the program takes.
    pub packets_per_second_overloaded: f64,
    /// The generator could offer no more: the program may be faster than this.
    pub generator_limited: bool,
    /// Length of a trial.
    pub trial_ms: u32,
    /// Rates tried.
    pub trials: u32,
    /// `packets_per_second` by that of `testpmd` in the same run; none of `testpmd` itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_to_testpmd: Option<f64>,
}

/// How long packets take at a constant rate, from when each should have been sent until it is back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyMeasurement {
    /// What was measured.
    #[serde(flatten)]
    pub setting: LoadSetting,
    /// The rate offered by the highest rate without loss of the same program, percent.
    pub load_percent: u32,
    /// The rate offered: packets a second.
    pub packets_per_second: f64,
    /// Packets whose time was taken.
    pub packets: u64,
    /// Packets lost, of those offered.
    pub loss: f64,
    /// The fastest.
    pub least_ns: u64,
    /// Half of the packets took no longer.
    pub p50_ns: u64,
    /// 99 % took no longer.
    pub p99_ns: u64,
    /// 99.9 % took no longer.
    pub p999_ns: u64,
    /// The slowest.
    pub greatest_ns: u64,
    /// `p50_ns` by that of `testpmd` at the same part of its own highest rate, in the same run; none of `testpmd`
    /// itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_to_testpmd: Option<f64>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::measurement::Record;

    fn setting() -> LoadSetting {
        LoadSetting {
            program: Program::PolluxDataplane,
            device: "memif".to_owned(),
            method: Method::Nat,
            family: Family::Ipv4,
            connections: 10_000,
            workers: 1,
            frame_bytes: 60,
            order: Order::Random,
            pages: Pages::Huge,
            cpu_waited_share: 0.0,
            discarded_share: 0.0,
        }
    }

    pub(crate) fn throughput() -> ThroughputMeasurement {
        ThroughputMeasurement {
            setting: setting(),
            packets_per_second: 5.25e6,
            loss: 0.0,
            loss_allowed: 0.0,
            packets_per_second_overloaded: 5.5e6,
            generator_limited: false,
            trial_ms: 1000,
            trials: 9,
            ratio_to_testpmd: Some(0.75),
        }
    }

    pub(crate) fn latency() -> LatencyMeasurement {
        LatencyMeasurement {
            setting: setting(),
            load_percent: 50,
            packets_per_second: 2.625e6,
            packets: 2_625_000,
            loss: 0.0,
            least_ns: 900,
            p50_ns: 4_500,
            p99_ns: 15_000,
            p999_ns: 81_000,
            greatest_ns: 1_250_000,
            ratio_to_testpmd: Some(1.25),
        }
    }

    #[test]
    fn a_line_of_throughput_has_the_agreed_names() {
        let line = serde_json::to_value(Record::Throughput(throughput())).unwrap();
        for (name, value) in [
            ("benchmark", serde_json::json!("throughput")),
            ("program", serde_json::json!("pollux_dataplane")),
            ("device", serde_json::json!("memif")),
            ("method", serde_json::json!("nat")),
            ("family", serde_json::json!("ipv4")),
            ("connections", serde_json::json!(10_000)),
            ("packets_per_second", serde_json::json!(5.25e6)),
            ("loss", serde_json::json!(0.0)),
            ("ratio_to_testpmd", serde_json::json!(0.75)),
        ] {
            assert_eq!(line.get(name), Some(&value), "{name}");
        }
        let read: Record = serde_json::from_value(line).unwrap();
        assert_eq!(read, Record::Throughput(throughput()));
    }

    #[test]
    fn a_line_of_latency_has_the_agreed_names() {
        let line = serde_json::to_value(Record::Latency(latency())).unwrap();
        for (name, value) in [
            ("benchmark", serde_json::json!("latency")),
            ("load_percent", serde_json::json!(50)),
            ("packets_per_second", serde_json::json!(2.625e6)),
            ("p50_ns", serde_json::json!(4_500)),
            ("p99_ns", serde_json::json!(15_000)),
            ("p999_ns", serde_json::json!(81_000)),
            ("ratio_to_testpmd", serde_json::json!(1.25)),
        ] {
            assert_eq!(line.get(name), Some(&value), "{name}");
        }
        let read: Record = serde_json::from_value(line).unwrap();
        assert_eq!(read, Record::Latency(latency()));
    }
}
