//! The command line of `pollux-bench`.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::appliance::device::DeviceChoice;
use crate::flows::Order;
use crate::measurement::{Case, Family, Method, Scheduler};
use crate::quantity::Quantity;
use crate::rig::SERVERS_MAX;

/// Measures how fast Pollux is.
#[derive(Debug, Parser)]
#[command(
    name = "pollux-bench",
    version,
    after_help = "Figures come from release builds: cargo run --release -p pollux-bench -- pipeline"
)]
pub struct Arguments {
    /// What to measure
    #[command(subcommand)]
    pub command: Command,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What a packet costs in the engine alone, without any port
    Pipeline(PipelineOptions),
    /// What the connection table alone can do: operations, memory, start, expiry
    Table(TableOptions),
    /// What the whole process does on DPDK ports, beside dpdk-testpmd
    Appliance(ApplianceOptions),
    /// What the control plane does with thousands of services and of checked servers
    Control(ControlOptions),
    /// Markdown and plots of measurements that were written with --json
    Report(ReportOptions),
}

/// Options of `pollux-bench pipeline`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without any option: every case of NAT over IPv4 at 10 k and 1 M connections, one worker; under a \
                  minute. With --all, what is not narrowed by another option is measured in every combination: hours."
)]
pub struct PipelineOptions {
    /// What packets do to the connection table
    #[arg(long, value_delimiter = ',')]
    pub case: Vec<Case>,
    /// How packets reach the servers
    #[arg(long, value_delimiter = ',')]
    pub method: Vec<Method>,
    /// IP version
    #[arg(long, value_delimiter = ',')]
    pub family: Vec<Family>,
    /// Established connections: 10k,1M
    #[arg(long, value_delimiter = ',', value_name = "N")]
    pub connections: Vec<Quantity>,
    /// Workers at the same time, each on a CPU of its own
    #[arg(long, value_delimiter = ',', value_name = "N", value_parser = workers())]
    pub workers: Vec<usize>,
    /// In which order packets go through the flows
    #[arg(long, default_value = "random")]
    pub order: Order,
    /// Servers of the service
    #[arg(long, default_value = "8", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(SERVERS_MAX)))]
    pub servers: u32,
    /// Scheduler of the service
    #[arg(long, default_value = "rr")]
    pub scheduler: Scheduler,
    /// Entries of the connection table; default: 1M, or the connections and a quarter more
    #[arg(long, value_name = "N")]
    pub table: Option<Quantity>,
    /// Every combination of what is not given
    #[arg(long)]
    pub all: bool,
    /// Rounds a figure is the median of
    #[arg(long, default_value = "11", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Engine time of a round
    #[arg(long, default_value = "100", value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub round_ms: u32,
    /// Normal pages for the connection table, even where huge ones are to be had
    #[arg(long)]
    pub no_huge: bool,
    /// One JSON object a line instead of a table
    #[arg(long)]
    pub json: bool,
}

/// A part of `pollux-bench table`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TablePart {
    /// Bytes a connection
    Memory,
    /// Creations, lookups and removals, by fill level and threads
    Operations,
    /// A new table, and the table of a process that died
    Start,
    /// A full table expires while established connections are hit
    Expiry,
}

/// Options of `pollux-bench table`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without any option: operations on tables of 1 M connections, on 1 thread to as many as there are CPUs; \
                  start and expiry of a table of 10 M. Some minutes."
)]
pub struct TableOptions {
    /// What to measure; default: everything
    #[arg(long, value_delimiter = ',')]
    pub part: Vec<TablePart>,
    /// Entries of every table: 1M, 10M
    #[arg(long, value_name = "N")]
    pub connections: Option<Quantity>,
    /// IP version
    #[arg(long, value_delimiter = ',')]
    pub family: Vec<Family>,
    /// Threads at the same time, each on a CPU of its own
    #[arg(long, value_delimiter = ',', value_name = "N", value_parser = workers())]
    pub threads: Vec<usize>,
    /// Rounds a figure is the median of
    #[arg(long, default_value = "3", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// How long a connection lives in the table that expires
    #[arg(long, default_value = "15", value_name = "S", value_parser = clap::value_parser!(u32).range(1..=900))]
    pub timeout_s: u32,
    /// 1 M connections for start and expiry too
    #[arg(long)]
    pub quick: bool,
    /// Normal pages for the tables, even where huge ones are to be had
    #[arg(long)]
    pub no_huge: bool,
    /// One JSON object a line instead of tables
    #[arg(long)]
    pub json: bool,
}

/// Options of `pollux-bench appliance`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without any option: NAT over IPv4 at 10 k connections on pcap and memif. Needs root, dpdk-testpmd (apt \
                  install dpdk) and two CPUs; everything runs in a network namespace of its own. Something else on those \
                  CPUs disturbs rates and latencies on memif: what waited for a CPU is in every record, and said.\n\n\
                  Devices:\n  \
                  pcap   frames from memory without end: cost of a packet in CPU time, by that of testpmd\n  \
                  memif  a generator in this process at the other end of two rings: the highest rate without loss \
                  (RFC 2544), and latency at parts of it, of testpmd and of the data plane\n  \
                  03:00.0  a NIC bound to a DPDK driver (dpdk-devbind.py --bind=vfio-pci 0000:03:00.0): cost of a packet. \
                  At the other end of its cable must be a generator that sends, without pause and faster than either program \
                  takes it, TCP packets of many flows to 198.51.100.1:80 (IPv6: [2001:db8:ffff::1]:80) and to the MAC of the \
                  NIC: SYNs, and ACKs of the same flows, all the time, for the programs take turns. The packets come back on \
                  the same cable, testpmd's to their sender, the data plane's to MACs from 02:00:00:00:02:00 on; nobody has to \
                  answer them\n  \
                  net_…  the same with any DPDK virtual device that needs no interface of the kernel: \
                  net_memif0,role=server,socket=/run/generator.sock,socket-abstract=no"
)]
pub struct ApplianceOptions {
    /// pcap, memif, or a device with a generator at its other end; repeat for more
    #[arg(long, value_name = "DEVICE")]
    pub device: Vec<DeviceChoice>,
    /// How packets reach the servers
    #[arg(long, value_delimiter = ',')]
    pub method: Vec<Method>,
    /// IP version
    #[arg(long, value_delimiter = ',')]
    pub family: Vec<Family>,
    /// Connections: 10k,100k; on pcap each has a frame in memory
    #[arg(long, value_delimiter = ',', value_name = "N")]
    pub connections: Vec<Quantity>,
    /// In which order packets go through the flows
    #[arg(long, default_value = "random")]
    pub order: Order,
    /// Servers of the service
    #[arg(long, default_value = "8", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(SERVERS_MAX)))]
    pub servers: u32,
    /// Scheduler of the service
    #[arg(long, default_value = "rr")]
    pub scheduler: Scheduler,
    /// Turns of each program that a figure is the median of
    #[arg(long, default_value = "9", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Length of a turn
    #[arg(long, default_value = "1000", value_name = "MS", value_parser = clap::value_parser!(u32).range(100..=60_000))]
    pub round_ms: u32,
    /// Length of a trial on memif
    #[arg(long, default_value = "1000", value_name = "MS", value_parser = clap::value_parser!(u32).range(10..=60_000))]
    pub trial_ms: u32,
    /// Loss that a rate "without loss" may have on memif, percent of the packets
    #[arg(long, default_value = "0", value_name = "PERCENT", value_parser = percent)]
    pub loss: f64,
    /// Loads at which latency is measured, percent of the rate without loss
    #[arg(long, default_value = "10,50,80", value_delimiter = ',', value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub load: Vec<u32>,
    /// The data plane, if not the one beside this program
    #[arg(long, value_name = "PROGRAM")]
    pub dataplane: Option<PathBuf>,
    /// Normal pages, even where huge ones are to be had
    #[arg(long)]
    pub no_huge: bool,
    /// One JSON object a line instead of a table
    #[arg(long)]
    pub json: bool,
}

/// A part of `pollux-bench control`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ControlPart {
    /// Files applied, and one server changed
    Changes,
    /// Servers checked once a second
    Checks,
}

/// Options of `pollux-bench control`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without any option: 2,000 services with 20 servers each, and 10,000 checks a second; half a minute. Needs \
                  root; everything runs in a network namespace of its own, without traffic."
)]
pub struct ControlOptions {
    /// What to measure; default: everything
    #[arg(long, value_delimiter = ',')]
    pub part: Vec<ControlPart>,
    /// Services
    #[arg(long, default_value = "2000", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub services: u32,
    /// Servers of each
    #[arg(long, default_value = "20", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=250))]
    pub servers: u32,
    /// Servers that are checked once a second
    #[arg(long, default_value = "10000", value_name = "N", value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub checks: u32,
    /// How long checks are counted
    #[arg(long, default_value = "10", value_name = "S", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// Rounds a figure is the median of; ten times as many of one server
    #[arg(long, default_value = "5", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// The folder of pollux, polluxd and pollux-dataplane, if not that of this program
    #[arg(long, value_name = "FOLDER")]
    pub programs: Option<PathBuf>,
    /// One JSON object a line instead of tables
    #[arg(long)]
    pub json: bool,
}

impl ControlOptions {
    /// Whether a part is to be measured.
    pub fn wants(&self, part: ControlPart) -> bool {
        self.part.is_empty() || self.part.contains(&part)
    }
}

/// Options of `pollux-bench report`.
#[derive(Debug, Args)]
#[command(
    after_help = "scripts/bench measures everything that a report has a place for, and makes it. Of two measurements of \
                  the same thing the one that comes last is shown."
)]
pub struct ReportOptions {
    /// Lines of JSON of one machine; none, or -: standard input
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where RESULTS.md goes, and a folder results/ with the plots
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub output: PathBuf,
}

fn percent(text: &str) -> Result<f64, String> {
    let value = text.parse().ok();
    value
        .filter(|value| (0.0..100.0).contains(value))
        .ok_or_else(|| "write a share in percent, from 0 to below 100, as in 0.001".to_owned())
}

fn workers() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn words_that_make_no_sense_are_refused_with_what_to_write() {
        let refusal = |words: &str| refusal_of("pipeline", words);
        assert!(refusal("--case miss").contains("hit, new, syn_flood, reply"));
        assert!(refusal("--connections many").contains("write 10000, 10_000, 10k or 1M"));
        assert!(refusal("--servers 900").contains("1..=250"));
        let refusal = |words: &str| refusal_of("appliance", words);
        assert!(refusal("--device ring").contains("Take memif"));
        assert!(refusal("--device eth0").contains("write pcap, memif"));
        assert!(refusal("--loss 100").contains("as in 0.001"));
        assert!(refusal("--load 50,101").contains("1..=100"));
    }

    fn refusal_of(command: &str, words: &str) -> String {
        let words = ["pollux-bench", command]
            .into_iter()
            .chain(words.split_whitespace());
        Arguments::try_parse_from(words).unwrap_err().to_string()
    }
}
