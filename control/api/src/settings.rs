//! What a data plane process needs to know at its start: the `[dataplane]` table of the configuration file, as JSON.
//!
//! The data plane reads this form and no TOML; `pollux settings FILE` prints it. Every field has a default that is
//! right for a first run.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// Entries a connection table may have.
pub const CONNECTIONS: RangeInclusive<u32> = 1024..=1 << 30;

/// Memory for packet buffers a data plane may be given, in MiB.
pub const MEMORY_MIB: RangeInclusive<u32> = 16..=1 << 20;

/// MTUs a port may be given, in bytes: from what every IPv4 host takes to a jumbo frame.
pub const MTU: RangeInclusive<u16> = 576..=9600;

/// Settings of one `pollux-dataplane` process; they change only with its restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataplaneSettings {
    /// The cores of the workers, one worker a core; none: all but the first CPU of the machine.
    pub cores: Option<Vec<u16>>,
    /// Entries in the connection table, fixed for the life of the process.
    pub connections: u32,
    /// How workers wait; none: adaptive when any port is a virtual device, busy otherwise.
    pub poll: Option<PollMode>,
    /// Whether memory comes from huge pages.
    pub huge_pages: HugePages,
    /// Memory for packet buffers in MiB; none: computed from ports, queues and descriptors.
    pub memory_mib: Option<u32>,
    /// DPDK's file prefix; two data planes on one machine need different ones.
    pub file_prefix: String,
    /// Whether NICs that can fill in the checksums of GUE tunnels. `pollux settings` says so when the file has such tunnels:
    /// several drivers send faster without.
    pub transmit_checksums: bool,
    /// What makes the TAPs, over which the kernel gets what is for it.
    pub exception_path: ExceptionPath,
    /// How much of what is for the kernel it gets.
    pub punt: PuntRates,
    /// The ports; none: every NIC bound to a DPDK driver.
    #[serde(rename = "port")]
    pub ports: Vec<PortSettings>,
}

/// One port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortSettings {
    /// The port's name and that of its TAP: at most 15 characters, as Linux allows.
    pub name: String,
    /// A PCI address (`0000:01:00.0`) or a DPDK virtual device with its arguments (`net_af_xdp0,iface=eth1`).
    pub device: String,
    /// Maximum transmission unit in bytes, without Ethernet header; none: the device's own.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// Who is on this side, where it is one kind only: then a NIC that can chooses queues by the client's end of a
    /// connection, so that its answers come to the worker that has its packets.
    #[serde(default)]
    pub side: Option<PortSide>,
}

/// Who is behind a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortSide {
    /// Clients only.
    Clients,
    /// Servers only.
    Servers,
}

/// What makes a port's TAP and carries frames to the kernel and back: two drivers of DPDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ExceptionPath {
    /// `vhost-net` where the kernel has it, else `net_tap`.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// `net_tap`: a system call of the worker for each frame, and no jumbo frames.
    #[serde(rename = "net_tap")]
    NetTap,
    /// `net_virtio_user` over the kernel's `vhost-net`, whose thread copies the frames.
    #[serde(rename = "vhost-net")]
    VhostNet,
}

impl ExceptionPath {
    /// All, each by its word.
    pub const WORDS: [(&str, Self); 3] = [
        ("auto", Self::Auto),
        ("net_tap", Self::NetTap),
        ("vhost-net", Self::VhostNet),
    ];
}

/// The longest IP packet that `net_tap` gives to the kernel, bytes, whatever the MTU of its interface (DPDK 22.11 to 24.11).
pub const NET_TAP_MTU_MAX: u16 = 1500;

/// Packets a second that each worker hands to the kernel, by class; what is more is dropped, so that a flood of one class
/// leaves the others their place. Short bursts of up to a tenth of a second's worth pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PuntRates {
    /// ARP, and IPv6's neighbour and router discovery.
    pub arp: u32,
    /// VRRP.
    pub vrrp: u32,
    /// BGP, OSPF, IS-IS, RIP, PIM, IGMP, MLD and BFD.
    pub routing: u32,
    /// ICMP but for the above: ping.
    pub icmp: u32,
    /// All else: SSH, DNS, packets to ports that nobody serves.
    pub other: u32,
}

/// Rates of [`PuntRates`] that may be given, packets a second.
pub const PUNT_RATE: RangeInclusive<u32> = 10..=10_000_000;

impl PuntRates {
    /// Each with its key in the configuration file.
    pub fn named(&self) -> [(&'static str, u32); 5] {
        [
            ("arp", self.arp),
            ("vrrp", self.vrrp),
            ("routing", self.routing),
            ("icmp", self.icmp),
            ("other", self.other),
        ]
    }
}

impl Default for PuntRates {
    /// ARP for a network of some thousand hosts that all ask at once; a full table over BGP in a minute; a worker that
    /// spends no more than some tenth of its time on the rest.
    fn default() -> Self {
        Self {
            arp: 10_000,
            vrrp: 2_000,
            routing: 20_000,
            icmp: 5_000,
            other: 50_000,
        }
    }
}

/// How a worker waits for packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PollMode {
    /// Spins: lowest latency, one core always at 100 %.
    Busy,
    /// Sleeps for some microseconds when there is nothing to do.
    Adaptive,
}

/// Where packet buffers and the connection table live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HugePages {
    /// Huge pages when the machine has them free, normal pages otherwise; the start says which.
    #[default]
    Auto,
    /// Huge pages or no start.
    Always,
    /// Normal pages.
    Never,
}

impl Default for DataplaneSettings {
    fn default() -> Self {
        Self {
            cores: None,
            connections: 1_000_000,
            poll: None,
            huge_pages: HugePages::Auto,
            memory_mib: None,
            file_prefix: "pollux".to_owned(),
            transmit_checksums: false,
            exception_path: ExceptionPath::Auto,
            punt: PuntRates::default(),
            ports: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_a_valid_setting() {
        let settings: DataplaneSettings = serde_json::from_str("{}").unwrap();
        assert_eq!(settings, DataplaneSettings::default());
    }

    #[test]
    fn a_misspelt_key_is_refused_by_name() {
        let error = serde_json::from_str::<DataplaneSettings>(r#"{"conections":1}"#).unwrap_err();
        assert!(error.to_string().contains("conections"), "{error}");
    }
}
