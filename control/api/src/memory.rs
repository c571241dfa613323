//! How much memory a data plane takes, so that it can be had ready before it starts: what it asks for, `pollux doctor`
//! looks for and `pollux setup` reserves is one number.

use std::collections::BTreeMap;

use crate::numa::{count, home};

/// Frames a queue of a NIC holds.
pub const WIRE_DESCRIPTORS: u16 = 1024;
/// Frames a queue of a TAP holds.
pub const TAP_DESCRIPTORS: u16 = 512;

/// Ports to reckon with when the settings name none.
pub const PORTS_EXPECTED: usize = 4;
/// The MTU to reckon with when the settings name none, in bytes.
pub const MTU_EXPECTED: u16 = 1500;

/// Frames a worker may have in hand: bursts, transmit buffers, the hold queue, the pool's cache.
const FRAMES_PER_WORKER: u32 = 2048;
/// The frame around an IP packet: Ethernet header, two VLAN tags.
const LINK_BYTES: u16 = 14 + 8;
/// The smallest buffer many NICs take.
const BUFFER_BYTES_MIN: u16 = 2048;
/// Checksum of the frame, virtio's header.
const DRIVER_BYTES: u16 = 4 + 12;
/// What DPDK keeps free in front of a frame.
const HEADROOM: u16 = 128;

/// A huge page, in MiB: frames and the table do not share one.
const PAGE_MIB: u32 = 2;
/// A line of the connection table.
const LINE_BYTES: u64 = 64;

/// Frames that may be on their way at one time, with so many ports and workers.
pub fn frames_needed(ports: usize, workers: usize) -> u32 {
    let queues = u32::try_from(ports.saturating_mul(workers)).unwrap_or(u32::MAX);
    let workers = u32::try_from(workers).unwrap_or(u32::MAX);
    let a_queue = 2 * (u32::from(WIRE_DESCRIPTORS) + u32::from(TAP_DESCRIPTORS));
    queues
        .saturating_mul(a_queue)
        .saturating_add(workers.saturating_mul(FRAMES_PER_WORKER))
}

/// Headroom and frame of an MTU, in bytes. Many NICs count buffers in KiB, and drivers ask for room for what they put
/// before or behind a frame.
pub fn buffer_bytes(mtu: u16) -> u16 {
    let frame = mtu.saturating_add(LINK_BYTES);
    let frame = if frame <= BUFFER_BYTES_MIN {
        BUFFER_BYTES_MIN
    } else {
        let with_driver = frame.saturating_add(DRIVER_BYTES);
        with_driver
            .checked_next_multiple_of(1024)
            .unwrap_or(u16::MAX)
    };
    frame.saturating_add(HEADROOM)
}

/// A frame's buffer with what DPDK keeps of it, in bytes.
pub fn frame_bytes(mtu_max: u16) -> u64 {
    u64::from(buffer_bytes(mtu_max)) + 256
}

/// What DPDK takes beside the frames, in MiB.
pub fn own_mib(ports: usize, workers: usize) -> u64 {
    let queues = u64::try_from(ports.saturating_mul(workers)).unwrap_or(u64::MAX);
    queues.saturating_mul(8).saturating_add(32)
}

/// Memory for frames that so many ports and workers need, in MiB of whole huge pages, with what DPDK itself takes.
pub fn frames_mib(ports: usize, workers: usize, mtu_max: u16) -> u32 {
    let frames = u64::from(frames_needed(ports, workers));
    let mebibytes = frames.saturating_mul(frame_bytes(mtu_max)) >> 20;
    let all = u32::try_from(mebibytes.saturating_add(own_mib(ports, workers)));
    whole_pages(all.unwrap_or(u32::MAX))
}

fn whole_pages(mib: u32) -> u32 {
    mib.checked_next_multiple_of(PAGE_MIB).unwrap_or(mib)
}

/// Memory for the frames of devices on these nodes, in MiB for each node: `given` in all, or what is needed. Each worker
/// has frames of every node in hand.
pub fn frames_mib_by_node(
    devices: &[Option<u16>],
    workers: usize,
    mtu_max: u16,
    given: Option<u32>,
) -> BTreeMap<Option<u16>, u32> {
    let share = |count: usize| match given {
        // By devices.
        Some(given) => {
            let share = u64::from(given) * count as u64 / devices.len().max(1) as u64;
            u32::try_from(share).unwrap_or(given)
        }
        None => frames_mib(count, workers, mtu_max),
    };
    let shares = count(devices).into_iter();
    shares.map(|(node, count)| (node, share(count))).collect()
}

/// Huge pages that a data plane takes, in MiB for each node: frames, and the table on the node of most devices.
pub fn huge_mib_by_node(
    frames_mib: &BTreeMap<Option<u16>, u32>,
    devices: &[Option<u16>],
    connections: u32,
) -> BTreeMap<Option<u16>, u64> {
    let each = frames_mib.iter();
    let mut all: BTreeMap<_, _> = each
        .map(|(node, mib)| (*node, u64::from(whole_pages(*mib))))
        .collect();
    *all.entry(home(devices)).or_default() += table_mib(connections);
    all
}

/// Memory of a connection table, in MiB of whole huge pages: entries, half of an index of seven slots a line, and a second line
/// for a quarter of the entries.
pub fn table_mib(connections: u32) -> u64 {
    let entries = u64::from(connections).next_multiple_of(256);
    let second = u64::from(connections / 4).next_multiple_of(256);
    let buckets = (4 * entries).div_ceil(7);
    let page_bytes = u64::from(PAGE_MIB) << 20;
    let pages = ((2 + buckets + entries + second) * LINE_BYTES).div_ceil(page_bytes);
    pages * u64::from(PAGE_MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_connections_take_what_is_said_of_them() {
        // 64 bytes, 37 of index and 16 of IPv6 room each: ARCHITECTURE.md.
        assert_eq!(table_mib(1_000_000), 117_000_000_u64.div_ceil(1 << 20));
        assert_eq!(table_mib(1 << 30), 119_370);
    }

    #[test]
    fn each_node_has_frames_of_its_devices() {
        let devices = [Some(1), Some(1), Some(0)];
        let by_node = |given| frames_mib_by_node(&devices, 4, 1500, given);
        let expected = [
            (Some(0), frames_mib(1, 4, 1500)),
            (Some(1), frames_mib(2, 4, 1500)),
        ];
        assert_eq!(by_node(None), expected.into());
        assert_eq!(by_node(Some(300)), [(Some(0), 100), (Some(1), 200)].into());
        let all = huge_mib_by_node(&by_node(Some(300)), &devices, 1_000_000);
        let expected = [(Some(0), 100), (Some(1), 200 + table_mib(1_000_000))];
        assert_eq!(all, expected.into());
        let anywhere = frames_mib_by_node(&[None, None], 4, 1500, None);
        assert_eq!(anywhere, [(None, frames_mib(2, 4, 1500))].into());
    }

    #[test]
    fn frames_grow_with_ports_workers_and_mtu() {
        assert_eq!(frames_needed(2, 3), 2 * 3 * 3072 + 3 * 2048);
        assert!(frames_mib(2, 3, 1500) < frames_mib(2, 3, 9000));
        assert!(frames_mib(2, 3, 1500) < frames_mib(2, 4, 1500));
        assert_eq!(buffer_bytes(1500), 2048 + 128);
        assert_eq!(buffer_bytes(2027), 3 * 1024 + 128);
        assert_eq!(buffer_bytes(9000), 9 * 1024 + 128);
        assert_eq!(frames_mib(usize::MAX, usize::MAX, u16::MAX), u32::MAX);
    }

    #[test]
    fn frames_and_table_are_of_whole_huge_pages() {
        for workers in 1..9 {
            assert_eq!(frames_mib(2, workers, 1500) % 2, 0);
        }
        // 20,000 connections are 2.2 MiB.
        assert_eq!(table_mib(20_000), 4);
        // What was given is asked for as it was given, and takes pages.
        let given = frames_mib_by_node(&[None], 1, 1500, Some(67));
        assert_eq!(given, [(None, 67)].into());
        let all = huge_mib_by_node(&given, &[None], 20_000);
        assert_eq!(all, [(None, 68 + 4)].into());
    }
}
