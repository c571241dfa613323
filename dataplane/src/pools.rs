//! Memory for frames: a pool on each NUMA node that has NICs.

use std::collections::BTreeMap;

use dpdk_bindings::{Eal, Mempool, MempoolError, MempoolSettings};
use pollux_api::memory::{self, buffer_bytes, frame_bytes, frames_mib_by_node, frames_needed};

/// Pools of frames by the node of the devices that they are for; none is the key of devices that can be anywhere.
#[derive(Debug)]
pub struct Pools {
    by_node: BTreeMap<Option<u16>, Pool>,
    /// One of them.
    first: Mempool,
}

#[derive(Debug, Clone, Copy)]
struct Pool {
    frames: Mempool,
    /// Whether its memory is on the node.
    is_there: bool,
}

impl Pools {
    /// Makes them, for devices on these nodes. `memory_mib` is what DPDK was given, if it was said.
    ///
    /// # Errors
    /// [`MempoolError`] when there is no memory on any node.
    pub fn create(
        eal: &Eal,
        devices: &[Option<u16>],
        workers: usize,
        mtu_max: u16,
        memory_mib: Option<u32>,
    ) -> Result<Self, MempoolError> {
        let shares = frames_mib_by_node(devices, workers, mtu_max, memory_mib);
        let mut by_node = BTreeMap::new();
        for (node, share) in shares {
            let of_node = devices.iter().filter(|known| **known == node).count();
            let settings = MempoolSettings {
                name: node.map_or_else(|| "frames".to_owned(), |node| format!("frames-{node}")),
                mbufs: frames(of_node, workers, mtu_max, memory_mib.map(|_| share)),
                data_room: buffer_bytes(mtu_max),
                numa_node: node,
                ..MempoolSettings::default()
            };
            by_node.insert(node, Pool::create(eal, settings)?);
        }
        let first = match by_node.first_key_value() {
            Some((_, pool)) => pool.frames,
            None => Mempool::create(eal, &MempoolSettings::default())?,
        };
        Ok(Self { by_node, first })
    }

    /// The frames for a device, or a worker, on a node: where there are none of that node, others.
    pub fn near(&self, node: Option<u16>) -> Mempool {
        self.by_node
            .get(&node)
            .map_or(self.first, |pool| pool.frames)
    }

    /// The node, if there was memory on it.
    pub fn with_memory(&self, node: Option<u16>) -> Option<u16> {
        self.by_node
            .get(&node)
            .and_then(|pool| node.filter(|_| pool.is_there))
    }
}

impl Pool {
    /// On its node, where that has memory left.
    fn create(eal: &Eal, settings: MempoolSettings) -> Result<Self, MempoolError> {
        let error = match Mempool::create(eal, &settings) {
            Ok(frames) => {
                return Ok(Self {
                    frames,
                    is_there: true,
                });
            }
            Err(error) => error,
        };
        let Some(node) = settings.numa_node else {
            return Err(error);
        };
        log::warn!("{error}: the frames of NUMA node {node} lie on another");
        let elsewhere = MempoolSettings {
            name: format!("{}-elsewhere", settings.name),
            numa_node: None,
            ..settings
        };
        Ok(Self {
            frames: Mempool::create(eal, &elsewhere)?,
            is_there: false,
        })
    }
}

/// Frames for these devices and workers: at least those that may be on their way at one time, and what fits beside into
/// the memory that was given.
fn frames(devices: usize, workers: usize, mtu_max: u16, memory_mib: Option<u32>) -> u32 {
    let given = u64::from(memory_mib.unwrap_or(0));
    let for_frames = given.saturating_sub(memory::own_mib(devices, workers)) << 20;
    let fitting = u32::try_from(for_frames / frame_bytes(mtu_max)).unwrap_or(u32::MAX);
    fitting.max(frames_needed(devices, workers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_for_the_usual_mtu_is_the_pools_own() {
        assert_eq!(buffer_bytes(1500), MempoolSettings::default().data_room);
    }

    #[test]
    fn memory_that_was_given_is_filled_with_frames() {
        let needed = frames_needed(2, 3);
        assert_eq!(frames(2, 3, 1500, None), needed);
        assert_eq!(frames(2, 3, 1500, Some(16)), needed);
        let reckoned = memory::frames_mib(2, 3, 1500);
        let more = frames(2, 3, 1500, Some(reckoned + 100));
        assert!(more > needed + 40_000, "{more}");
        assert!(frames(2, 3, 9000, Some(reckoned + 100)) < more);
    }
}
