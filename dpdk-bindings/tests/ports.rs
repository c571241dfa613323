//! Ports and queues, on DPDK's in-memory devices: no network, no huge pages, no root.
//!
//! `net_ring` delivers what is sent on queue n to receive queue n of the same port, in order, up to
//! 1023 frames; `net_null` receives as much as it is asked for and sends anything.

#![allow(
    clippy::unwrap_used,
    reason = "a test may panic, also outside of `#[test]` functions"
)]

mod support;

use dpdk_bindings::{
    AttachError, Distribution, Mbuf, Port, PortError, PortSettings, Queues, RegisteredThread,
    RxQueue, TxQueue,
};
use support::{Burst, eal, frame, pool};

/// A port with as many queues each way.
fn pairs(count: u16) -> PortSettings {
    PortSettings {
        rx_queues: count,
        tx_queues: count,
        ..PortSettings::default()
    }
}

fn numbers(burst: &Burst) -> Vec<u8> {
    burst
        .iter()
        .map(|mbuf| *mbuf.data().first().unwrap())
        .collect()
}

/// Receives and drops until nothing comes.
fn drain(queue: &mut RxQueue) -> usize {
    let mut burst = Burst::new();
    let mut total = 0;
    while queue.receive(&mut burst) > 0 {
        total += burst.len();
        burst.clear();
    }
    total
}

// Handles move between threads; a queue and a registration are never used from two.
const _: () = {
    const fn send<T: Send>() {}
    const fn sync<T: Sync>() {}
    send::<Mbuf>();
    send::<RxQueue>();
    send::<TxQueue>();
    send::<Port>();
    sync::<Port>();
};

/// Fails to compile, for an ambiguous call, when the type has the trait.
macro_rules! assert_not {
    ($trait:ident, $type:ty) => {
        const _: () = {
            trait Ambiguous<A> {
                const FINE: () = ();
            }
            impl<T> Ambiguous<()> for T {}
            impl<T: $trait> Ambiguous<u8> for T {}
            <$type as Ambiguous<_>>::FINE
        };
    };
}
assert_not!(Sync, RxQueue);
assert_not!(Sync, TxQueue);
assert_not!(Clone, RxQueue);
assert_not!(Clone, TxQueue);
assert_not!(Clone, Mbuf);
assert_not!(Clone, Port);
assert_not!(Send, RegisteredThread);

#[test]
fn a_queue_delivers_its_own_frames_in_order() {
    let pool = pool("order", 255);
    let port = eal().attach("net_ring_order").unwrap();
    let Queues {
        mut rx,
        mut tx,
        distribution,
        verifies_ipv4_headers,
        fills_udp_checksums,
    } = port.start(&pairs(2), &pool).unwrap();
    assert_eq!(distribution, Distribution::Driver);
    assert!(!verifies_ipv4_headers && !fills_udp_checksums && !port.is_removed());
    let mut burst: Burst = (0..10).map(|number| frame(&pool, number)).collect();
    assert_eq!(tx[1].send(&mut burst), 10);
    assert!(burst.is_empty());
    assert_eq!(rx[0].receive(&mut burst), 0);

    burst.push(frame(&pool, 99));
    assert_eq!(rx[1].receive(&mut burst), 10);
    assert_eq!(numbers(&burst), [99, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(
        (rx[1].number(), tx[1].number(), rx[1].port()),
        (1, 1, port.id())
    );
    assert_eq!(pool.in_use(), 11);
    drop(burst);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn what_the_device_refuses_stays_with_the_caller_in_order() {
    let pool = pool("refused", 2047);
    let port = eal().attach("net_ring_refused").unwrap();
    let Queues { mut rx, mut tx, .. } = port.start(&pairs(1), &pool).unwrap();
    let mut burst = Burst::new();
    for _ in 0..31 {
        burst.extend((0..32).map(|number| frame(&pool, number)));
        assert_eq!(tx[0].send(&mut burst), 32);
    }
    burst.extend((0..32).map(|number| frame(&pool, number)));
    assert_eq!(tx[0].send(&mut burst), 31);
    assert_eq!(numbers(&burst), [31]);
    assert_eq!(tx[0].send(&mut burst), 0);
    burst.push(frame(&pool, 32));
    assert_eq!(tx[0].send(&mut burst), 0);
    assert_eq!(numbers(&burst), [31, 32]);

    assert_eq!(pool.in_use(), 1023 + 2);
    drop(burst);
    assert_eq!(pool.in_use(), 1023);
    assert_eq!(drain(&mut rx[0]), 1023);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_full_burst_receives_nothing() {
    let pool = pool("full", 255);
    let port = eal().attach("net_ring_full").unwrap();
    let Queues { mut rx, mut tx, .. } = port.start(&pairs(1), &pool).unwrap();
    let mut burst: Burst = (0..32).map(|number| frame(&pool, number)).collect();
    tx[0].send(&mut burst);
    burst.extend((0..30).map(|_| frame(&pool, 0)));
    assert_eq!(rx[0].receive(&mut burst), 2);
    assert_eq!(rx[0].receive(&mut burst), 0);
    assert_eq!(burst.len(), 32);
    assert_eq!(drain(&mut rx[0]), 30);
}

#[test]
fn frames_pass_from_one_port_to_another() {
    let pool = pool("forward", 1023);
    let from = eal().attach("net_null_forward").unwrap();
    let to = eal().attach("net_ring_forward").unwrap();
    let mut from_queues = from.start(&pairs(2), &pool).unwrap();
    let mut to_queues = to.start(&pairs(1), &pool).unwrap();
    let mut burst = Burst::new();
    for rx in &mut from_queues.rx {
        assert_eq!(rx.receive(&mut burst), 32);
        assert!(burst.iter().all(|mbuf| mbuf.port() == Some(from.id())));
        assert_eq!(to_queues.tx[0].send(&mut burst), 32);
    }
    assert_eq!(to_queues.rx[0].receive(&mut burst), 32);
    burst.iter_mut().for_each(|mbuf| mbuf.set_port(to.id()));
    assert!(burst.iter().all(|mbuf| mbuf.port() == Some(to.id())));
    assert_eq!(from_queues.tx[1].send(&mut burst), 32);
    assert_eq!(drain(&mut to_queues.rx[0]), 32);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn workers_on_their_own_queues_lose_nothing() {
    const WORKERS: u16 = 3;
    let pool = pool("workers", 1023);
    let port = eal().attach("net_ring_workers").unwrap();
    let queues = port.start(&pairs(WORKERS), &pool).unwrap();
    let worker = |mut rx: RxQueue, mut tx: TxQueue| {
        let _registered = eal().register_thread().unwrap();
        let mut burst = Burst::new();
        let mut received = 0;
        for _ in 0..1000 {
            burst.extend((0..20).map(|number| frame(&pool, number)));
            assert_eq!(tx.send(&mut burst), 20);
            received += rx.receive(&mut burst);
            assert_eq!(numbers(&burst), (0..20).collect::<Vec<_>>());
            Mbuf::free_all(&mut burst);
        }
        received
    };
    let total: usize = std::thread::scope(|scope| {
        let pairs = queues.rx.into_iter().zip(queues.tx);
        let threads: Vec<_> = pairs
            .map(|(rx, tx)| scope.spawn(move || worker(rx, tx)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(total, 1000 * 20 * usize::from(WORKERS));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_port_has_no_more_queues_than_its_device() {
    let pool = pool("queues", 255);
    let port = eal().attach("net_ring_queues").unwrap();
    let info = port.info().unwrap();
    assert_eq!(
        (info.rx_queues_max, info.tx_queues_max, info.has_rss),
        (16, 16, false)
    );
    let queues = port.start(&pairs(64), &pool).unwrap();
    assert_eq!((queues.rx.len(), queues.tx.len()), (16, 16));
    drop(queues);
    let error = port.start(&pairs(0), &pool).unwrap_err();
    assert_eq!(
        error.to_string(),
        "port net_ring_queues cannot be started with no queue"
    );
}

#[test]
fn a_port_runs_until_its_last_queue_is_gone() {
    let pool = pool("lifetime", 255);
    let port = eal().attach("net_ring_lifetime").unwrap();
    let Queues { rx, mut tx, .. } = port.start(&pairs(1), &pool).unwrap();
    drop(rx);
    let error = port.start(&pairs(1), &pool).unwrap_err();
    assert_eq!(
        error.to_string(),
        "port net_ring_lifetime is running; stop its workers first"
    );
    drop(tx.pop());
    let Queues { mut rx, mut tx, .. } = port.start(&pairs(1), &pool).unwrap();

    // The queues outlive the handle, and the device does so with them.
    drop(port);
    assert_eq!(
        eal().attach("net_ring_lifetime").unwrap_err().to_string(),
        "net_ring_lifetime is in use already"
    );
    let mut burst: Burst = [frame(&pool, 7)].into_iter().collect();
    assert_eq!(tx[0].send(&mut burst), 1);
    assert_eq!(rx[0].receive(&mut burst), 1);
    drop((rx, tx));
    drop(burst);
    assert_eq!(pool.in_use(), 0);
    eal().attach("net_null_lifetime").unwrap();
    eal().attach("net_null_lifetime").unwrap();
}

#[test]
fn rss_is_used_where_the_device_has_it() {
    let pool = pool("rss", 255);
    let port = eal().attach("net_null_rss").unwrap();
    assert!(port.info().unwrap().has_rss);
    let queues = port.start(&pairs(2), &pool).unwrap();
    assert_eq!(
        (queues.rx.len(), queues.distribution),
        (2, Distribution::Rss)
    );
    drop(queues);
    let queues = port.start(&pairs(1), &pool).unwrap();
    assert_eq!(queues.distribution, Distribution::SingleQueue);
}

#[test]
fn an_mtu_must_fit_the_device_and_the_mbufs() {
    let pool = pool("mtu", 255);
    let port = eal().attach("net_null_mtu").unwrap();
    assert_eq!(pool.mtu_max(), 2026);
    let too_long = port
        .start(
            &PortSettings {
                mtu: Some(9000),
                ..pairs(1)
            },
            &pool,
        )
        .unwrap_err();
    assert_eq!(
        too_long.to_string(),
        "an MTU of 9000 on port net_null_mtu needs mbufs for 9022 bytes, and the pool's hold 2048"
    );
    let _queues = port
        .start(
            &PortSettings {
                mtu: Some(1600),
                ..pairs(1)
            },
            &pool,
        )
        .unwrap();
    assert_eq!(port.mtu().unwrap(), 1600);
    port.set_mtu(2026).unwrap();
    assert_eq!(port.mtu().unwrap(), 2026);
    assert!(matches!(
        port.set_mtu(2027),
        Err(PortError::FrameTooLong { needed: 2049, .. })
    ));
    assert_eq!(
        port.set_mtu(20).unwrap_err().to_string(),
        "an MTU of 20 is out of range for port net_null_mtu: 46 to 65535"
    );
    assert_eq!(port.mtu().unwrap(), 2026);
}

#[test]
fn a_port_tells_what_it_is_and_counts() {
    let pool = pool("counts", 255);
    let port = eal().attach("net_ring_counts").unwrap();
    assert_eq!(port.info().unwrap().driver, "net_ring");
    let Queues { mut rx, mut tx, .. } = port.start(&pairs(2), &pool).unwrap();
    let link = port.link().unwrap();
    assert!(link.up && link.full_duplex && link.speed_mbps == Some(10_000));
    let mut burst: Burst = (0..5).map(|number| frame(&pool, number)).collect();
    tx[1].send(&mut burst);
    rx[1].receive(&mut burst);

    let statistics = port.statistics().unwrap();
    assert_eq!((statistics.tx_packets, statistics.rx_packets), (5, 5));
    let extended = port.extended_statistics().unwrap();
    let of = |name: &str| {
        extended
            .iter()
            .find(|entry| entry.name == name)
            .unwrap()
            .value
    };
    assert_eq!((of("rx_q0_packets"), of("rx_q1_packets")), (0, 5));
    port.reset_statistics().unwrap();
    assert_eq!(
        port.statistics().unwrap(),
        dpdk_bindings::PortStatistics::default()
    );

    let refused = port.set_mac([2, 0, 0, 0, 0, 1]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "cannot set the MAC address of port net_ring_counts: Operation not supported (errno 95)"
    );
}

#[test]
fn a_port_changes_its_address_and_what_it_receives() {
    let port = eal().attach("net_null_modes").unwrap();
    port.set_mac([2, 0, 0, 0, 0, 1]).unwrap();
    assert_eq!(port.mac().unwrap(), [2, 0, 0, 0, 0, 1]);
    assert_eq!(port.info().unwrap().mac, [2, 0, 0, 0, 0, 1]);
    assert!(port.set_mac([0xff; 6]).is_err());
    let port = eal().attach("net_ring_modes").unwrap();
    port.set_promiscuous(true).unwrap();
    port.set_promiscuous(false).unwrap();
    port.set_all_multicast(true).unwrap();
    port.set_all_multicast(false).unwrap();
}

#[test]
fn a_device_that_cannot_be_attached_is_named_with_the_reason() {
    let refusal = |device: &str| eal().attach(device).unwrap_err().to_string();
    for (device, text) in [
        (
            "net_foo0",
            "cannot attach net_foo0: Bad address (errno 14); \
             DPDK says: EAL: failed to parse device \"net_foo0\"",
        ),
        (
            "03:00.0",
            "0000:03:00.0 is a PCI device, and DPDK was started without PCI",
        ),
        (
            "",
            "`` is no device: give a PCI address such as 0000:03:00.0 or a DPDK virtual device \
             such as net_af_packet0,iface=eth1",
        ),
    ] {
        assert_eq!(refusal(device), text);
    }
    // The rest is the driver's own, and another with another DPDK and for another user.
    let no_interface = refusal("net_af_packet0,iface=nope0");
    let says_why = no_interface.contains("; DPDK says: ");
    assert!(
        no_interface.starts_with("cannot attach net_af_packet0: ") && says_why,
        "{no_interface}"
    );
    let _port = eal().attach("net_null_taken").unwrap();
    let again = eal().attach("net_null_taken").unwrap_err();
    assert_eq!(again, AttachError::InUse(String::from("net_null_taken")));
    assert!(
        !eal()
            .unattached_devices()
            .contains(&String::from("net_null_taken"))
    );
    assert!(eal().attach("nul\0byte").is_err());
}
