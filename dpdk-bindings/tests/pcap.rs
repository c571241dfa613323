//! A frame longer than an mbuf, which only a driver that ignores the MTU delivers: `net_pcap`.

#![allow(
    clippy::unwrap_used,
    reason = "a test may panic, also outside of `#[test]` functions"
)]

mod support;

use std::fs;
use std::path::Path;

use dpdk_bindings::{MbufError, PortSettings};
use support::{Burst, eal, pool};

/// Longer than the 2048 bytes the first mbuf of a chain has.
const LONG: usize = 3000;

/// A capture file (`pcap(5)`, Ethernet) with one frame of rising bytes.
fn write_capture(path: &Path, frame: &[u8]) {
    let length = u32::try_from(frame.len()).unwrap();
    let header: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1];
    let record = [0, 0, length, length];
    let words = header
        .iter()
        .chain(&record)
        .flat_map(|word| word.to_ne_bytes());
    fs::write(
        path,
        words.chain(frame.iter().copied()).collect::<Vec<u8>>(),
    )
    .unwrap();
}

#[test]
fn a_chain_shows_its_first_part_and_is_sent_whole() {
    let directory = std::env::temp_dir().join(format!("pollux-pcap-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let (from, to) = (directory.join("from.pcap"), directory.join("to.pcap"));
    let frame: Vec<u8> = (0..=255).cycle().take(LONG).collect();
    write_capture(&from, &frame);

    let pool = pool("pcap", 1023);
    let device = format!(
        "net_pcap0,rx_pcap={},tx_pcap={}",
        from.display(),
        to.display()
    );
    let port = eal().attach(&device).unwrap();
    let mut queues = port.start(&PortSettings::default(), &pool).unwrap();
    let mut burst = Burst::new();
    assert_eq!(queues.rx[0].receive(&mut burst), 1);
    let mbuf = &mut burst[0];
    assert_eq!(mbuf.port(), Some(port.id()));
    assert!(!mbuf.is_contiguous());
    assert_eq!(mbuf.length(), LONG);
    assert_eq!(mbuf.data(), &frame[..2048]);
    assert_eq!(mbuf.tailroom(), 0);
    assert_eq!(mbuf.append(1), Err(MbufError::NotContiguous));
    assert_eq!(mbuf.trim(1), Err(MbufError::NotContiguous));
    assert_eq!(mbuf.linearize(), Err(MbufError::NoTailroom));
    mbuf.adj(10).unwrap();
    mbuf.prepend(10).unwrap();
    assert_eq!(queues.tx[0].send(&mut burst), 1);
    assert_eq!(pool.in_use(), 0);
    drop((queues, port));
    assert!(fs::read(&to).unwrap().ends_with(&frame));
    fs::remove_dir_all(&directory).unwrap();
}
