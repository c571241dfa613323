//! Ports, queues and the ownership of frames, on DPDK's in-memory devices: no network, no huge pages, no root.
//!
//! `net_ring` ports deliver what is sent on queue n to receive queue n of the same port.

#![allow(
    clippy::unwrap_used,
    reason = "a test may panic, outside of its `#[test]` functions too"
)]

use std::sync::OnceLock;

use arrayvec::ArrayVec;
use dpdk_bindings::{Eal, EalArguments, Mbuf, Mempool, MempoolSettings, PortSettings};

fn eal() -> Eal {
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

fn pool(name: &str, mbufs: u32) -> Mempool {
    let settings = MempoolSettings {
        name: String::from(name),
        mbufs,
        cache: 0,
        ..MempoolSettings::default()
    };
    Mempool::create(&eal(), &settings).unwrap()
}

#[test]
fn frames_sent_on_a_ring_come_back_in_order() {
    let pool = pool("order", 255);
    let port = eal().attach("net_ring0").unwrap();
    let mut queues = port
        .start(
            &PortSettings {
                rx_queues: 2,
                tx_queues: 2,
                ..PortSettings::default()
            },
            &pool,
        )
        .unwrap();
    let mut burst = ArrayVec::<Mbuf, 32>::new();
    for number in 0..10u8 {
        let mut mbuf = pool.allocate().unwrap();
        mbuf.append(64).unwrap().fill(number);
        burst.push(mbuf);
    }
    assert_eq!(queues.tx[1].send(&mut burst), 10);
    assert!(burst.is_empty());
    assert_eq!(queues.rx[0].receive(&mut burst), 0);
    assert_eq!(queues.rx[1].receive(&mut burst), 10);
    for (number, mbuf) in burst.iter().enumerate() {
        assert_eq!(usize::from(mbuf.data()[0]), number);
    }
    assert_eq!(pool.in_use(), 10);
    drop(burst);
    assert_eq!(pool.in_use(), 0);
}
