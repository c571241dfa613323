//! From a stopped port to one whose queues can be polled, and back when they are gone.

use std::sync::Arc;

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
/// 2012).
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
    /// The MTU; `None` leaves it as it is.
    pub mtu: Option<u16>,
}

impl Default for PortSettings {
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: None,
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
        let info = self.raw_info()?;
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
        let distribution = self.configure(rx_queues, tx_queues, mtu, &info)?;
        if settings.mtu.is_some() {
            self.set_mtu_of_driver(mtu)?;
        }
        self.set_up_queues(settings, rx_queues, tx_queues, pool)?;
        // SAFETY: the id is of a device that is ours until it is closed; it is configured and all
        // its queues are set up.
        let code = unsafe { dpdk_sys::rte_eth_dev_start(self.device.id.0) };
        self.device.check(code, "start port")?;
        *state = State::Started { frame_length_max };
        drop(state);
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
        })
    }
    /// Tells the device its queues, with RSS if it has that and there is something to spread.
    fn configure(
        &self,
        rx_queues: u16,
        tx_queues: u16,
        mtu: u16,
        info: &dpdk_sys::rte_eth_dev_info,
    ) -> Result<Distribution, PortError> {
        let mut conf = dpdk_sys::rte_eth_conf::default();
        conf.rxmode.mtu = u32::from(mtu);
        conf.rxmode.mq_mode = dpdk_sys::SHIM_RX_MODE_NONE;
        if rx_queues == 1 {
            self.raw_configure(rx_queues, tx_queues, &conf)?;
            return Ok(Distribution::SingleQueue);
        }
        let hashes = info.flow_type_rss_offloads & dpdk_sys::SHIM_RSS_TYPES;
        if hashes != 0 {
            let mut key = [0; RSS_KEY_LENGTH_MAX];
            for (to, from) in key
                .iter_mut()
                .zip(SYMMETRIC_RSS_PATTERN.into_iter().cycle())
            {
                *to = from;
            }
            let mut with_rss = conf;
            with_rss.rxmode.mq_mode = dpdk_sys::SHIM_RX_MODE_RSS;
            with_rss.rx_adv_conf.rss_conf.rss_hf = hashes;
            if info.hash_key_size != 0 {
                with_rss.rx_adv_conf.rss_conf.rss_key = key.as_mut_ptr();
                with_rss.rx_adv_conf.rss_conf.rss_key_len = info.hash_key_size;
            }
            match self.raw_configure(rx_queues, tx_queues, &with_rss) {
                Ok(()) => return Ok(Distribution::Rss),
                Err(error) => log::warn!("no RSS: {error}"),
            }
        }
        self.raw_configure(rx_queues, tx_queues, &conf)?;
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
            // SAFETY: the device is configured with this queue; a null configuration stands for the
            // driver's default; the pool is never freed.
            let code = unsafe {
                dpdk_sys::rte_eth_rx_queue_setup(
                    id,
                    queue,
                    rx_descriptors,
                    ANY_NUMA_NODE,
                    std::ptr::null(),
                    pool.as_raw(),
                )
            };
            self.device
                .check(code, &format!("set up receive queue {queue} of port"))?;
        }
        for queue in 0..tx_queues {
            // SAFETY: the device is configured with this queue; a null configuration stands for the
            // driver's default.
            let code = unsafe {
                dpdk_sys::rte_eth_tx_queue_setup(
                    id,
                    queue,
                    tx_descriptors,
                    ANY_NUMA_NODE,
                    std::ptr::null(),
                )
            };
            self.device
                .check(code, &format!("set up transmit queue {queue} of port"))?;
        }
        Ok(())
    }
}
