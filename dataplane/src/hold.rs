//! Frames that wait for a neighbour's MAC: bounded in number, in number for one neighbour, and in time.

use std::collections::VecDeque;
use std::net::IpAddr;

use dpdk_bindings::Mbuf;
use pollux_engine::Tick;
use pollux_engine::clock::seconds;
use pollux_engine::forwarding_table::{ForwardingTable, Interface};

use crate::transmit::Origin;

/// Frames one worker holds at most.
const FRAMES_MAX: usize = 512;
/// Frames it holds for one neighbour at most; Linux holds about a hundred.
const FRAMES_PER_NEIGHBOUR_MAX: usize = 64;
/// Three probes, a second apart: then Linux gives a neighbour up, too.
const HOLD_TICKS: u32 = seconds(3);

/// A frame complete but for its destination MAC.
#[derive(Debug)]
pub struct Held {
    /// The frame.
    pub frame: Mbuf,
    /// Whose it is, and what is counted when it leaves.
    pub origin: Origin,
    /// Where it is to go.
    pub interface: Interface,
    /// Whose MAC is missing.
    pub address: IpAddr,
    until: Tick,
}

/// One worker's waiting frames, oldest first.
#[derive(Debug)]
pub struct HoldQueue {
    waiting: VecDeque<Held>,
}

impl HoldQueue {
    /// An empty one; it never allocates again.
    pub fn new() -> Self {
        Self {
            waiting: VecDeque::with_capacity(FRAMES_MAX),
        }
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Keeps a frame. True when it is the first for this neighbour, which then has to be asked for.
    ///
    /// # Errors
    /// The frame, when there is no room.
    pub fn keep(
        &mut self,
        frame: Mbuf,
        origin: Origin,
        interface: Interface,
        address: IpAddr,
        now: Tick,
    ) -> Result<bool, Mbuf> {
        let same = self
            .waiting
            .iter()
            .filter(|held| held.interface == interface && held.address == address)
            .count();
        if same >= FRAMES_PER_NEIGHBOUR_MAX || self.waiting.len() >= FRAMES_MAX {
            return Err(frame);
        }
        self.waiting.push_back(Held {
            frame,
            origin,
            interface,
            address,
            until: now.after(HOLD_TICKS),
        });
        Ok(same == 0)
    }

    /// Gives out every frame whose neighbour has become known, its MAC written in, in order of arrival.
    pub fn release(&mut self, forwarding: &ForwardingTable, mut send: impl FnMut(Held)) {
        for _ in 0..self.waiting.len() {
            let Some(mut held) = self.waiting.pop_front() else {
                return;
            };
            let known = forwarding
                .neighbour(held.interface, held.address)
                .map(|adjacency| adjacency.macs[0]);
            match known.zip(held.frame.data_mut().first_chunk_mut::<6>()) {
                Some((mac, field)) => {
                    *field = mac;
                    send(held);
                }
                None => self.waiting.push_back(held),
            }
        }
    }

    /// Gives out frames that have waited too long.
    pub fn expire(&mut self, now: Tick, mut give_up: impl FnMut(Held)) {
        while let Some(held) = self.waiting.pop_front_if(|held| held.until.has_passed(now)) {
            give_up(held);
        }
    }
}

impl Default for HoldQueue {
    fn default() -> Self {
        Self::new()
    }
}
