//! A pool of mbufs: the memory every frame lies in, all of it taken at the start.

mod create;

use std::ffi::CString;
use std::ptr::NonNull;

use dpdk_sys::rte_mempool;

use crate::eal::Eal;
use crate::error::DpdkError;
use crate::mbuf::Mbuf;

/// Bytes free before the frame in a fresh mbuf: room for the headers of a tunnel.
pub const HEADROOM: u16 = dpdk_sys::RTE_PKTMBUF_HEADROOM as u16;

/// The name must leave room for DPDK's own prefix.
const NAME_LENGTH_MAX: usize = 24;

/// How big a pool is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MempoolSettings {
    /// Name of the pool, unique in the process, up to 24 bytes.
    pub name: String,
    /// How many mbufs it has.
    pub mbufs: u32,
    /// Bytes of each mbuf for headroom and frame. 2048 + [`HEADROOM`] for an MTU of 1500, which
    /// many NICs insist on.
    pub data_room: u16,
    /// Mbufs each registered thread keeps at hand, up to 512 and two thirds of `mbufs`.
    pub cache: u32,
    /// The NUMA node of the memory; `None` for any.
    pub numa_node: Option<u16>,
}

impl Default for MempoolSettings {
    fn default() -> Self {
        Self {
            name: String::from("frames"),
            mbufs: 8191,
            data_room: 2048 + HEADROOM,
            cache: 250,
            numa_node: None,
        }
    }
}

/// Why there is no pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MempoolError {
    /// The name is empty, too long or has a NUL in it.
    #[error("`{0}` is no name for a memory pool: use 1 to 24 bytes, none of them NUL")]
    InvalidName(String),
    /// The data room does not even hold the headroom.
    #[error("a data room of {0} bytes is too small: it must be more than {HEADROOM}")]
    DataRoomTooSmall(u16),
    /// EAL has not enough memory.
    #[error(
        "pool {name} needs about {needed_megabytes} MB of DPDK's memory and there is not as much: \
         give DPDK more, or the pool fewer than {mbufs} mbufs"
    )]
    OutOfMemory {
        /// The pool.
        name: String,
        /// Its mbufs.
        mbufs: u32,
        /// What they need.
        needed_megabytes: u64,
    },
    /// DPDK refused.
    #[error(transparent)]
    Dpdk(#[from] DpdkError),
}

/// A pool of mbufs. A copy is the same pool; it is there until the process ends.
#[derive(Debug, Clone, Copy)]
pub struct Mempool {
    raw: NonNull<rte_mempool>,
    mbufs: u32,
    data_room: u16,
}

// SAFETY: the pool is never freed, its store is lock-free and for any number of threads
// (`lf_stack`, set by `Eal::start`), and its caches belong to the DPDK core number of the thread,
// which no two threads share (`Eal::register_thread`); a thread without one uses the store only.
unsafe impl Send for Mempool {}
// SAFETY: as for `Send`: every operation may be called from several threads at once.
unsafe impl Sync for Mempool {}

impl Mempool {
    /// Takes the memory of a pool.
    ///
    /// # Errors
    /// See [`MempoolError`].
    pub fn create(eal: &Eal, settings: &MempoolSettings) -> Result<Self, MempoolError> {
        let name = &settings.name;
        let c_name = CString::new(name.as_str())
            .ok()
            .filter(|name| (1..=NAME_LENGTH_MAX).contains(&name.as_bytes().len()))
            .ok_or_else(|| MempoolError::InvalidName(name.clone()))?;
        if settings.data_room <= HEADROOM {
            return Err(MempoolError::DataRoomTooSmall(settings.data_room));
        }
        let raw = create::create(eal, settings, &c_name)
            .map_err(|error| out_of_memory(error, settings))?;
        Ok(Self {
            raw,
            mbufs: settings.mbufs,
            data_room: settings.data_room,
        })
    }

    /// A fresh mbuf with no bytes in it, or `None` if all are in use.
    #[inline]
    #[must_use]
    pub fn allocate(&self) -> Option<Mbuf> {
        // SAFETY: the pool is valid for ever and was made by `rte_pktmbuf_pool_create`.
        let mbuf = unsafe { dpdk_sys::shim_mbuf_allocate(self.raw.as_ptr()) };
        // SAFETY: not null, and allocated just now: nobody else has it.
        NonNull::new(mbuf).map(|raw| unsafe { Mbuf::from_raw(raw) })
    }

    /// How many mbufs are held by the program or a device. Slow, and exact only while no thread
    /// uses the pool.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        // SAFETY: the pool is valid for ever; the call reads counters only.
        let available = unsafe { dpdk_sys::rte_mempool_avail_count(self.raw.as_ptr()) };
        self.mbufs.saturating_sub(available)
    }

    /// How many mbufs the pool has.
    #[must_use]
    pub fn mbufs(&self) -> u32 {
        self.mbufs
    }

    /// The longest frame one of its mbufs can hold, with the headroom kept free.
    #[must_use]
    pub fn frame_length_max(&self) -> u16 {
        self.data_room.saturating_sub(HEADROOM)
    }

    /// For the setup of a receive queue.
    pub(crate) fn as_raw(&self) -> *mut rte_mempool {
        self.raw.as_ptr()
    }
}

fn out_of_memory(error: DpdkError, settings: &MempoolSettings) -> MempoolError {
    const ENOMEM: i32 = 12;
    const ENOBUFS: i32 = 105;
    if ![ENOMEM, ENOBUFS].contains(&error.errno()) {
        return MempoolError::Dpdk(error);
    }
    MempoolError::OutOfMemory {
        name: settings.name.clone(),
        mbufs: settings.mbufs,
        needed_megabytes: (create::bytes(settings) as u64 >> 20) + 1,
    }
}
