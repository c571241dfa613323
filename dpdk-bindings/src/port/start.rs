//! From a stopped port to one whose queues can be polled, and back when they are gone.

use std::ffi::c_int;
use std::sync::Arc;

use super::info::driver_name;
use super::{Device, Port, PortError, State};
use crate::mempool::Mempool;
use crate::rx_queue::RxQueue;
use crate::tx_queue::TxQueue;

/// `SOCKET_ID_ANY`.
const ANY_NUMA_NODE: u32 = u32::MAX;
/// The longest RSS key of any device.
const RSS_KEY_LENGTH_MAX: usize = 256;
/// With this pattern Toeplitz gives both directions of a flow one hash, so that they meet on one
/// worker (Woo and Park, "Scalable TCP Session Monitoring with Symmetric Receive-side Scaling",
/// 2012). It repeats every 16 bits, so that an address and a port give one hash as source and as
/// destination, wherever a device puts them in what it hashes: what [`HashedEnd`] rests on.
const SYMMETRIC_RSS_PATTERN: [u8; 2] = [0x6d, 0x5a];

/// How a port is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortSettings {
    /// Receive queues wanted.
    pub rx_queues: u16,
    /// Transmit queues wanted.
    pub tx_queues: u16,
    /// Frames a receive queue holds, brought to what the device can.
    pub rx_descriptors: u16,
    /// Frames a transmit queue holds, brought to what the device can.
    pub tx_descriptors: u16,
    /// The NUMA node of the queues' memory, as far as it goes; `None` for any.
    pub numa_node: Option<u16>,
    /// The MTU; `None` leaves it as it is.
    pub mtu: Option<u16>,
    /// Which end of a flow chooses the queue, where the device can go by one.
    pub hash: HashedEnd,
    /// Whether the device is to verify the checksums of IPv4 headers, if it can.
    pub verify_ipv4_headers: bool,
    /// Whether the device is to fill in checksums of UDP, if it can
    /// ([`Mbuf::ask_udp_checksum`](crate::Mbuf::ask_udp_checksum)). Several drivers send faster without.
    pub fill_udp_checksums: bool,
    /// Whether a device that drops frames of VLANs it was not told of is to be told
    /// ([`Port::set_vlan`]).
    pub name_vlans: bool,
}

/// Which end of a flow RSS goes by. Behind NAT the two directions of a connection have only the
/// client in common: with its end on both sides they come to one queue number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashedEnd {
    /// Source and destination.
    #[default]
    Both,
    /// The source: of frames from clients.
    Source,
    /// The destination: of frames to clients.
    Destination,
}

impl Default for PortSettings {
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            numa_node: None,
            mtu: None,
            hash: HashedEnd::Both,
            verify_ipv4_headers: false,
            fill_udp_checksums: false,
            name_vlans: false,
        }
    }
}

/// How received frames come to the queues of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// There is one receive queue.
    SingleQueue,
    /// By RSS over addresses and, for TCP, UDP and SCTP, ports; with a symmetric key where the
    /// device takes a key.
    Rss,
    /// By RSS over the address and port of one end, as [`HashedEnd`] has it.
    RssOfOneEnd,
    /// The driver has its own way, or none and all come to the first queue.
    Driver,
}

/// What a started port has: fewer queues than wanted if the device has no more.
#[derive(Debug)]
pub struct Queues {
    /// The receive queues, numbered from 0.
    pub rx: Vec<RxQueue>,
    /// The transmit queues, numbered from 0.
    pub tx: Vec<TxQueue>,
    /// How frames are spread over `rx`.
    pub distribution: Distribution,
    /// Whether the device verifies the checksums of IPv4 headers.
    pub verifies_ipv4_headers: bool,
    /// Whether the device fills in checksums of UDP.
    pub fills_udp_checksums: bool,
}

/// What RSS is to go by on a device that offers `capabilities` (`flow_type_rss_offloads`), best
/// first: each with what it is called.
fn hash_choices(capabilities: u64, end: HashedEnd) -> Vec<(u64, Distribution)> {
    let fields = capabilities & dpdk_sys::SHIM_RSS_TYPES;
    if fields == 0 {
        return Vec::new();
    }
    let only = match end {
        HashedEnd::Both => 0,
        HashedEnd::Source => dpdk_sys::SHIM_RSS_SOURCE_ONLY,
        HashedEnd::Destination => dpdk_sys::SHIM_RSS_DESTINATION_ONLY,
    };
    let mut choices = Vec::new();
    if only != 0 && capabilities & only == only {
        choices.push((fields | only, Distribution::RssOfOneEnd));
    }
    choices.push((fields, Distribution::Rss));
    choices
}

/// A started device; stopped on drop. Every queue holds it.
#[derive(Debug)]
pub(crate) struct Running {
    device: Arc<Device>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.device.lock();
        // SAFETY: the id is of a device that is ours until it is closed, which is after this. No
        // queue is in use: each of them held `self`.
        let code = unsafe { dpdk_sys::rte_eth_dev_stop(self.device.id.0) };
        if let Err(error) = self.device.check(code, "stop port") {
            log::error!("{error}");
        }
        *state = State::Stopped;
    }
}

impl Port {
    /// Sets the port up, starts it and gives out its queues. Received frames lie in mbufs of
    /// `pool`.
    ///
    /// The port runs until the last of the queues is dropped; then it can be started again.
    ///
    /// # Errors
    /// See [`PortError`]. The port is stopped then, and can be tried again.
    pub fn start(&self, settings: &PortSettings, pool: &Mempool) -> Result<Queues, PortError> {
        let mut state = self.device.lock();
        if *state != State::Stopped {
            return Err(PortError::Running(self.device.name.clone()));
        }
        let mut info = self.raw_info()?;
        if driver_name(&info) == "net_bonding" {
            // Its members join with the first configuration, and only then does it say what all of them can.
            self.raw_configure(1, 1, &dpdk_sys::rte_eth_conf::default())?;
            info = self.raw_info()?;
        }
        let rx_queues = settings.rx_queues.min(info.max_rx_queues);
        let tx_queues = settings.tx_queues.min(info.max_tx_queues);
        if rx_queues == 0 || tx_queues == 0 {
            return Err(PortError::NoQueues(self.device.name.clone()));
        }
        let mtu = match settings.mtu {
            Some(mtu) => mtu,
            None => self.mtu()?,
        };
        self.check_mtu(mtu, &info)?;
        let frame_length_max = Self::frame_length_max(pool, &info);
        self.check_frame_length(mtu, frame_length_max)?;
        let verifies_ipv4_headers = settings.verify_ipv4_headers && verifies(&info);
        let filters_vlans = settings.name_vlans && is_to_be_told_vlans(&info);
        let offload = |is_wanted, bit| if is_wanted { bit } else { 0 };
        let offloads = offload(verifies_ipv4_headers, dpdk_sys::SHIM_RX_IPV4_CHECKSUM)
            | offload(filters_vlans, dpdk_sys::SHIM_RX_VLAN_FILTER);
        let mut conf = dpdk_sys::rte_eth_conf::default();
        conf.rxmode.mtu = u32::from(mtu);
        conf.rxmode.mq_mode = dpdk_sys::SHIM_RX_MODE_NONE;
        conf.rxmode.offloads = offloads;
        let fills_udp_checksums = settings.fill_udp_checksums && fills_udp(&info);
        conf.txmode.offloads = offload(fills_udp_checksums, dpdk_sys::SHIM_TX_UDP_CHECKSUM);
        let distribution = self.configure((rx_queues, tx_queues), &conf, settings.hash, &info)?;
        if settings.mtu.is_some() {
            self.set_mtu_of_driver(mtu)?;
        }
        self.set_up_queues(settings, rx_queues, tx_queues, pool)?;
        // SAFETY: the id is of a device that is ours until it is closed; it is configured and all
        // its queues are set up.
        let code = unsafe { dpdk_sys::rte_eth_dev_start(self.device.id.0) };
        self.device.check(code, "start port")?;
        *state = State::Started {
            frame_length_max,
            filters_vlans,
        };
        drop(state);
        self.device.watch_removal();
        let running = Arc::new(Running {
            device: Arc::clone(&self.device),
        });
        let id = self.device.id;
        Ok(Queues {
            rx: (0..rx_queues)
                .map(|queue| RxQueue::new(id, queue, Arc::clone(&running)))
                .collect(),
            tx: (0..tx_queues)
                .map(|queue| TxQueue::new(id, queue, Arc::clone(&running)))
                .collect(),
            distribution,
            verifies_ipv4_headers,
            fills_udp_checksums,
        })
    }

    /// Tells the device its queues, with RSS if it has that and there is something to spread.
    fn configure(
        &self,
        (rx_queues, tx_queues): (u16, u16),
        conf: &dpdk_sys::rte_eth_conf,
        hash: HashedEnd,
        info: &dpdk_sys::rte_eth_dev_info,
    ) -> Result<Distribution, PortError> {
        if rx_queues == 1 {
            self.raw_configure(rx_queues, tx_queues, conf)?;
            return Ok(Distribution::SingleQueue);
        }
        let mut key = [0; RSS_KEY_LENGTH_MAX];
        for (to, from) in key
            .iter_mut()
            .zip(SYMMETRIC_RSS_PATTERN.into_iter().cycle())
        {
            *to = from;
        }
        for (fields, distribution) in hash_choices(info.flow_type_rss_offloads, hash) {
            let mut with_rss = *conf;
            with_rss.rxmode.mq_mode = dpdk_sys::SHIM_RX_MODE_RSS;
            with_rss.rx_adv_conf.rss_conf.rss_hf = fields;
            if info.hash_key_size != 0 {
                with_rss.rx_adv_conf.rss_conf.rss_key = key.as_mut_ptr();
                with_rss.rx_adv_conf.rss_conf.rss_key_len = info.hash_key_size;
            }
            match self.raw_configure(rx_queues, tx_queues, &with_rss) {
                Ok(()) => return Ok(distribution),
                Err(error) => log::warn!("no {distribution:?}: {error}"),
            }
        }
        self.raw_configure(rx_queues, tx_queues, conf)?;
        Ok(Distribution::Driver)
    }

    fn raw_configure(
        &self,
        rx_queues: u16,
        tx_queues: u16,
        conf: &dpdk_sys::rte_eth_conf,
    ) -> Result<(), PortError> {
        // SAFETY: the id is of a device that is ours until it is closed; `conf` lives through the
        // call, which copies it, and so does the RSS key it points to, if any, of the length it
        // tells.
        let code = unsafe {
            dpdk_sys::rte_eth_dev_configure(self.device.id.0, rx_queues, tx_queues, conf)
        };
        let attempted =
            format!("configure {rx_queues} receive and {tx_queues} transmit queues of port");
        self.device.check(code, &attempted)?;
        Ok(())
    }

    /// A driver without an MTU of its own was told all it has to know by `configure`.
    fn set_mtu_of_driver(&self, mtu: u16) -> Result<(), PortError> {
        const ENOTSUP: i32 = 95;
        match self.raw_set_mtu(mtu) {
            Err(PortError::Dpdk(error)) if error.errno() == ENOTSUP => Ok(()),
            result => result,
        }
    }

    fn set_up_queues(
        &self,
        settings: &PortSettings,
        rx_queues: u16,
        tx_queues: u16,
        pool: &Mempool,
    ) -> Result<(), PortError> {
        let id = self.device.id.0;
        let mut rx_descriptors = settings.rx_descriptors;
        let mut tx_descriptors = settings.tx_descriptors;
        // SAFETY: the id is of a device that is ours until it is closed; both numbers live through
        // the call.
        let code = unsafe {
            dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(
                id,
                &raw mut rx_descriptors,
                &raw mut tx_descriptors,
            )
        };
        self.device
            .check(code, "find the number of descriptors of port")?;
        for queue in 0..rx_queues {
            let code = near(settings.numa_node, |node| {
                // SAFETY: the device is configured with this queue; a null configuration stands for
                // the driver's default; the pool is never freed.
                unsafe {
                    dpdk_sys::rte_eth_rx_queue_setup(
                        id,
                        queue,
                        rx_descriptors,
                        node,
                        std::ptr::null(),
                        pool.as_raw(),
                    )
                }
            });
            self.device
                .check(code, &format!("set up receive queue {queue} of port"))?;
        }
        for queue in 0..tx_queues {
            let code = near(settings.numa_node, |node| {
                // SAFETY: the device is configured with this queue; a null configuration stands for
                // the driver's default.
                unsafe {
                    dpdk_sys::rte_eth_tx_queue_setup(
                        id,
                        queue,
                        tx_descriptors,
                        node,
                        std::ptr::null(),
                    )
                }
            });
            self.device
                .check(code, &format!("set up transmit queue {queue} of port"))?;
        }
        Ok(())
    }
}

/// Sets a queue up in the memory of a node, or anywhere when that has none left.
fn near(node: Option<u16>, set_up: impl Fn(u32) -> c_int) -> c_int {
    const NO_MEMORY: c_int = -12;
    match set_up(node.map_or(ANY_NUMA_NODE, u32::from)) {
        NO_MEMORY if node.is_some() => set_up(ANY_NUMA_NODE),
        code => code,
    }
}

/// Whether it fills in checksums of UDP itself: `net_tap` does so with the CPU.
fn fills_udp(info: &dpdk_sys::rte_eth_dev_info) -> bool {
    info.tx_offload_capa & dpdk_sys::SHIM_TX_UDP_CHECKSUM != 0 && driver_name(info) != "net_tap"
}

/// Whether it verifies checksums of IPv4 headers itself: `net_tap` does so with the CPU.
fn verifies(info: &dpdk_sys::rte_eth_dev_info) -> bool {
    info.rx_offload_capa & dpdk_sys::SHIM_RX_IPV4_CHECKSUM != 0 && driver_name(info) != "net_tap"
}

/// Whether it drops frames of VLANs that it was not told of, as a virtio device that offers the filter does: the host
/// sees to it. Others let all pass until they are asked to filter. Of a bond, whose members may be such, this can be asked
/// whatever they are.
fn is_to_be_told_vlans(info: &dpdk_sys::rte_eth_dev_info) -> bool {
    info.rx_offload_capa & dpdk_sys::SHIM_RX_VLAN_FILTER != 0
        && ["net_virtio", "net_bonding"].contains(&driver_name(info).as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: u64 = dpdk_sys::SHIM_RSS_TYPES & !1;

    #[test]
    fn a_hash_goes_by_one_end_where_the_device_can() {
        let source = dpdk_sys::SHIM_RSS_SOURCE_ONLY;
        let destination = dpdk_sys::SHIM_RSS_DESTINATION_ONLY;
        let all = TCP | source | destination | 1 << 40;
        let both = (TCP, Distribution::Rss);
        assert_eq!(hash_choices(all, HashedEnd::Both), [both]);
        let one = |only| (TCP | only, Distribution::RssOfOneEnd);
        assert_eq!(hash_choices(all, HashedEnd::Source), [one(source), both]);
        let choices = hash_choices(all, HashedEnd::Destination);
        assert_eq!(choices, [one(destination), both]);
        // One of the two bits is half of what is wanted: a hash over both ports with one address.
        let half = TCP | source & (source - 1);
        assert_eq!(hash_choices(half, HashedEnd::Source), [both]);
        assert_eq!(hash_choices(TCP, HashedEnd::Destination), [both]);
        assert_eq!(hash_choices(source, HashedEnd::Source), []);
    }

    /// Toeplitz over `input` with the key as it is given to devices.
    fn toeplitz(input: &[u8]) -> u32 {
        let bit = |at: usize| {
            let byte = SYMMETRIC_RSS_PATTERN[at / 8 % SYMMETRIC_RSS_PATTERN.len()];
            u32::from(byte >> (7 - at % 8) & 1)
        };
        let window = |at: usize| (at..at + 32).fold(0, |word, at| word << 1 | bit(at));
        let ones = (0..input.len() * 8).filter(|at| input[at / 8] >> (7 - at % 8) & 1 == 1);
        ones.fold(0, |hash, at| hash ^ window(at))
    }

    #[test]
    fn one_end_hashes_alike_as_source_and_as_destination() {
        let (client, port) = ([192, 0, 2, 77], [0xc3, 0x51]);
        let none = ([0; 4], [0; 2]);
        let input = |from: ([u8; 4], [u8; 2]), to: ([u8; 4], [u8; 2])| {
            [&from.0[..], &to.0, &from.1, &to.1].concat()
        };
        // What is left out is zero in the input, or not in it at all.
        let as_source = toeplitz(&input((client, port), none));
        let as_destination = toeplitz(&input(none, (client, port)));
        let alone = toeplitz(&[&client[..], &port].concat());
        assert_eq!(as_source, as_destination);
        assert_eq!(as_source, alone);
        assert_ne!(as_source, toeplitz(&input((client, [0xc3, 0x52]), none)));
        let server = ([10, 0, 0, 9], [0, 80]);
        let there = toeplitz(&input((client, port), server));
        assert_eq!(there, toeplitz(&input(server, (client, port))));
    }
}
