//! What every test here needs: one EAL a process, and a pool of its own.
#![allow(
    clippy::unwrap_used,
    reason = "a test may panic, also outside of `#[test]` functions"
)]
#![allow(dead_code, reason = "not every test file needs all of it")]

use std::sync::OnceLock;

use arrayvec::ArrayVec;
use dpdk_bindings::{Eal, EalArguments, Mbuf, Mempool, MempoolSettings};

/// A burst as a worker has it.
pub type Burst = ArrayVec<Mbuf, 32>;

/// EAL, started by the first test of the process: no huge pages, no PCI, no files.
pub fn eal() -> Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    *EAL.get_or_init(|| {
        let file_prefix = format!("pollux-test-{}", std::process::id());
        Eal::start(&EalArguments {
            file_prefix,
            ..EalArguments::default()
        })
        .unwrap()
    })
}

/// A pool without caches, so that what is in use is exact at any time.
pub fn pool(name: &str, mbufs: u32) -> Mempool {
    let settings = MempoolSettings {
        name: String::from(name),
        mbufs,
        cache: 0,
        ..MempoolSettings::default()
    };
    Mempool::create(&eal(), &settings).unwrap()
}

/// A frame of 60 bytes, the first of which is its number.
pub fn frame(pool: &Mempool, number: u8) -> Mbuf {
    let mut mbuf = pool.allocate().unwrap();
    mbuf.append(60).unwrap().fill(number);
    mbuf
}
