//! How a pool is made, and where its mbufs lie.

use std::ffi::{CStr, c_int};
use std::ptr::{self, NonNull};

use dpdk_sys::{rte_mbuf, rte_mempool};

use super::MempoolSettings;
use crate::eal::Eal;
use crate::error::{DpdkError, check, check_pointer};

/// `SOCKET_ID_ANY`.
const ANY_NUMA_NODE: c_int = -1;

/// What holds the free mbufs: DPDK's lock-free stack.
///
/// With its default, `ring_mp_mc`, a thread that the kernel preempts within an operation makes all
/// others spin until it runs again: with more threads than CPUs, a test of 0.2 s took minutes.
/// `ring_mt_rts` does not wait, but refuses frames that come back meanwhile, and they are lost.
/// While the caches of the threads do, all of them cost the same.
const STORE: &CStr = c"lf_stack";

/// What `rte_pktmbuf_pool_create` does, with a choice of the store and of where the mbufs lie.
pub(super) fn create(
    eal: &Eal,
    settings: &MempoolSettings,
    name: &CStr,
) -> Result<NonNull<rte_mempool>, DpdkError> {
    let attempted = || format!("create memory pool {}", settings.name);
    let packed = !eal.uses_huge_pages();
    // SAFETY: EAL is initialised (`eal`), the name is NUL-terminated and copied; every number is
    // allowed, those DPDK cannot take are answered with an error.
    let pool = unsafe {
        dpdk_sys::rte_mempool_create_empty(
            name.as_ptr(),
            settings.mbufs,
            element_size(settings.data_room),
            settings.cache,
            size_of::<dpdk_sys::rte_pktmbuf_pool_private>() as u32,
            node(settings),
            if packed {
                dpdk_sys::SHIM_POOL_PACKED
            } else {
                0
            },
        )
    };
    let pool = check_pointer(pool, attempted)?;
    let populated = populate(pool, settings, name, packed);
    if let Err(error) = populated {
        // SAFETY: made above, unknown to anybody else, and forgotten here.
        unsafe { dpdk_sys::rte_mempool_free(pool.as_ptr()) };
        return Err(error);
    }
    Ok(pool)
}

/// Gives an empty pool its store and its mbufs.
fn populate(
    pool: NonNull<rte_mempool>,
    settings: &MempoolSettings,
    name: &CStr,
    packed: bool,
) -> Result<(), DpdkError> {
    let attempted = || format!("create memory pool {}", settings.name);
    // SAFETY: the pool is empty, as is asked; the name is NUL-terminated; the store takes no
    // argument.
    let code = unsafe {
        dpdk_sys::rte_mempool_set_ops_byname(pool.as_ptr(), STORE.as_ptr(), ptr::null_mut())
    };
    check(code, attempted)?;
    let mut private = dpdk_sys::rte_pktmbuf_pool_private {
        mbuf_data_room_size: settings.data_room,
        ..Default::default()
    };
    // SAFETY: the pool was made with room for this structure, which is copied.
    unsafe { dpdk_sys::rte_pktmbuf_pool_init(pool.as_ptr(), (&raw mut private).cast()) };
    if packed {
        populate_packed(pool, settings, name)?;
    } else {
        // SAFETY: the pool is empty and has its store.
        let code = unsafe { dpdk_sys::rte_mempool_populate_default(pool.as_ptr()) };
        check(code, attempted)?;
    }
    // SAFETY: every object of the pool is as `rte_pktmbuf_init` wants it: the element size has room
    // for the mbuf and the data room that the private structure tells.
    unsafe {
        dpdk_sys::rte_mempool_obj_iter(
            pool.as_ptr(),
            Some(dpdk_sys::rte_pktmbuf_init),
            ptr::null_mut(),
        )
    };
    Ok(())
}

/// Lays the mbufs one behind the other into one piece of memory.
///
/// DPDK would let none cross the end of a page. With pages of 4 KB that leaves two fifths of the
/// memory unused, and `net_af_xdp` of DPDK 22.11 takes mbufs that lie in the last two fifths for
/// invalid: nothing at all is received. No device minds: without huge pages those that do DMA use
/// virtual addresses.
fn populate_packed(
    pool: NonNull<rte_mempool>,
    settings: &MempoolSettings,
    name: &CStr,
) -> Result<(), DpdkError> {
    let attempted = || format!("take the memory of pool {}", settings.name);
    let bytes = bytes(settings);
    // SAFETY: EAL is initialised (there is a pool); the name is NUL-terminated and copied.
    let zone = unsafe {
        dpdk_sys::rte_memzone_reserve_aligned(
            name.as_ptr(),
            bytes,
            node(settings),
            0,
            dpdk_sys::SHIM_POOL_ALIGN,
        )
    };
    let zone = check_pointer(zone.cast_mut(), attempted)?;
    // SAFETY: a reserved zone, whose description DPDK does not change; it is packed.
    let description = unsafe { zone.read_unaligned() };
    // SAFETY: both variants of the union are the address, as a pointer and as a number.
    let start = unsafe { description.__bindgen_anon_1.addr };
    // SAFETY: the pool is not populated; the zone is `bytes` of memory that is ours. It stays
    // reserved as long as the pool is there, so there is nothing to call when that goes.
    let code = unsafe {
        dpdk_sys::rte_mempool_populate_iova(
            pool.as_ptr(),
            start.cast(),
            description.iova,
            bytes,
            None,
            ptr::null_mut(),
        )
    };
    check(code, attempted).map(drop).inspect_err(|_| {
        // SAFETY: reserved above, and the pool did not take it.
        unsafe { dpdk_sys::rte_memzone_free(zone.as_ptr()) };
    })
}

/// The memory of all mbufs, without gaps.
pub(super) fn bytes(settings: &MempoolSettings) -> usize {
    // SAFETY: computes with numbers only; no structure is to be filled.
    let object = unsafe {
        dpdk_sys::rte_mempool_calc_obj_size(element_size(settings.data_room), 0, ptr::null_mut())
    };
    (object as usize).saturating_mul(settings.mbufs as usize)
}

/// What the pool's elements are made of.
fn element_size(data_room: u16) -> u32 {
    (size_of::<rte_mbuf>() as u32).saturating_add(u32::from(data_room))
}

fn node(settings: &MempoolSettings) -> c_int {
    settings.numa_node.map_or(ANY_NUMA_NODE, c_int::from)
}
