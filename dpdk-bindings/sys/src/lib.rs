//! Raw bindings to DPDK: bindgen output and a C shim, nothing else.
//!
//! `build.rs` lists what is bound. DPDK's inline functions and the structures whose C shape differs
//! between DPDK 22.11 and 24.11 come through `shim.h`. Only the crate `dpdk-bindings` uses this
//! one.

#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unnameable_types,
    unsafe_op_in_unsafe_fn
)]
#![allow(clippy::all, clippy::pedantic)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

#[cfg(test)]
mod tests {
    use super::{rte_mbuf, shim_mbuf};

    #[test]
    fn an_mbuf_is_two_cache_lines() {
        assert_eq!(size_of::<rte_mbuf>(), 128);
        assert_eq!(align_of::<rte_mbuf>(), 64);
    }

    #[test]
    fn the_view_covers_the_first_cache_line() {
        assert_eq!(size_of::<shim_mbuf>(), 64);
    }
}
