//! What arrives: fills a ring with the frames of a case. Runs apart from the engine, and its time is counted apart.

use std::net::SocketAddr;

use crate::flows::{Client, Picker};
use crate::frame_arena::ArenaFrame;
use crate::frame_template::{FrameTemplate, flag};
use crate::rig::{CLIENT_PORT, Rig, SERVER_PORT, macs_on};

/// Who answers flows: schedulers here give them to the servers in turn, so that nothing need be looked up.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Number of the flow that the turn starts with.
    pub first_flow: u64,
    /// Servers in turn.
    pub servers: Vec<SocketAddr>,
}

/// Frames of one case.
#[derive(Debug)]
pub enum Source {
    /// Packets of clients on known flows.
    Hits {
        /// The frames.
        template: FrameTemplate,
        /// The flows.
        picker: Picker,
    },
    /// Answers of servers on known flows.
    Replies {
        /// Frames by turn.
        templates: Vec<FrameTemplate>,
        /// Of each worker's flows: where their turn starts and at which template.
        first_flows: Vec<u64>,
        /// The flows.
        picker: Picker,
    },
    /// SYNs of flows never seen, one after the other.
    Fresh {
        /// The frames.
        template: FrameTemplate,
        /// The next flow's number.
        next: u64,
    },
    /// Packets on known flows, and as many SYNs in between from sources never seen.
    Flood {
        /// Frames on known flows.
        hits: FrameTemplate,
        /// The known flows.
        picker: Picker,
        /// Frames of the flood.
        syns: FrameTemplate,
        /// The next SYN's number.
        next: u64,
    },
}

/// Frames of clients with these flags.
pub fn from_clients(rig: &Rig, flags: u8) -> FrameTemplate {
    FrameTemplate::from_clients(macs_on(CLIENT_PORT), rig.service(), flags)
}

impl Source {
    /// Packets on known flows.
    pub fn hits(rig: &Rig, picker: Picker) -> Self {
        let template = from_clients(rig, flag::ACK);
        Self::Hits { template, picker }
    }

    /// Answers on known flows. `turns` are of all flows that may be picked, in order.
    pub fn replies(turns: &[Turn], picker: Picker) -> Self {
        let template = |server: &SocketAddr| {
            FrameTemplate::to_clients(macs_on(SERVER_PORT), *server, flag::ACK)
        };
        Self::Replies {
            templates: turns
                .iter()
                .flat_map(|turn| turn.servers.iter().map(template))
                .collect(),
            first_flows: turns.iter().map(|turn| turn.first_flow).collect(),
            picker,
        }
    }

    /// SYNs of new flows from this number on.
    pub fn fresh(rig: &Rig, next: u64) -> Self {
        let template = from_clients(rig, flag::SYN);
        Self::Fresh { template, next }
    }

    /// Known flows and a flood, the SYNs of which start with this number.
    pub fn flood(rig: &Rig, picker: Picker, next: u64) -> Self {
        Self::Flood {
            hits: from_clients(rig, flag::ACK),
            picker,
            syns: from_clients(rig, flag::SYN),
            next,
        }
    }

    /// The port the frames arrive on.
    pub fn ingress(&self) -> u16 {
        match self {
            Self::Replies { .. } => SERVER_PORT,
            _ => CLIENT_PORT,
        }
    }

    /// Writes a frame into each place. Of a flood, those at odd places are SYNs.
    pub fn fill(&mut self, frames: &mut [ArenaFrame]) {
        match self {
            Self::Hits { template, picker } => {
                for frame in frames {
                    template.write(frame, Client::of_flow(picker.pick()));
                }
            }
            Self::Replies {
                templates,
                first_flows,
                picker,
            } => {
                let each = (templates.len() / first_flows.len().max(1)).max(1);
                for frame in frames {
                    let flow = picker.pick();
                    let turn = first_flows
                        .iter()
                        .rposition(|first| *first <= flow)
                        .unwrap_or(0);
                    let place = flow - first_flows.get(turn).copied().unwrap_or(0);
                    let server = turn * each + (place as usize) % each;
                    if let Some(template) = templates.get(server) {
                        template.write(frame, Client::of_flow(flow));
                    }
                }
            }
            Self::Fresh { template, next } => {
                for frame in frames {
                    template.write(frame, Client::of_flow(*next));
                    *next += 1;
                }
            }
            Self::Flood {
                hits,
                picker,
                syns,
                next,
            } => {
                for pair in frames.chunks_mut(2) {
                    if let Some(frame) = pair.first_mut() {
                        hits.write(frame, Client::of_flow(picker.pick()));
                    }
                    if let Some(frame) = pair.get_mut(1) {
                        syns.write(frame, Client::of_flood(*next));
                        *next += 1;
                    }
                }
            }
        }
    }
}
