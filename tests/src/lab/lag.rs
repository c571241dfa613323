//! A switch's end of two links that are one by LACP (IEEE 802.1AX-2020, 6.4): the partner of a bond on `client0`. It shares
//! nothing with DPDK's own.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::lab_dir;
use super::namespace::{Background, run};
use super::trunk::{as_datagrams, bound, bridge_port, forward};

/// The links' ends on the network.
const LINKS: [&str; 2] = ["director-client", "director-spare"];
/// Fast periodic transmission is once a second; sooner is allowed.
const PERIOD: Duration = Duration::from_millis(400);
/// Slow protocols: where LACP's frames go to, their type, and LACP among them with its version.
const SLOW_PROTOCOLS: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 2];
const LACP: [u8; 4] = [0x88, 0x09, 1, 1];
/// Where what a sender says of itself begins, and how long it is.
const ACTOR: std::ops::Range<usize> = 18..36;
/// This switch: its priority, its address, the key of its links.
const OWN: [u8; 10] = [0x80, 0, 0x02, 0, 0, 0, 0x01, 0xfd, 0, 7];

/// Bits of a state.
pub mod state {
    /// It speaks without being asked.
    pub const ACTIVITY: u8 = 1;
    /// It wants to hear from the other every second.
    pub const SHORT_TIMEOUT: u8 = 2;
    /// The link may be one of several.
    pub const AGGREGATION: u8 = 4;
    /// The link is in the right group.
    pub const SYNCHRONIZATION: u8 = 8;
    /// Frames are taken.
    pub const COLLECTING: u8 = 16;
    /// Frames are sent.
    pub const DISTRIBUTING: u8 = 32;
}

/// What a system says of one of its links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// The system: priority and address.
    pub system: [u8; 8],
    /// What links that may be one have in common.
    pub key: u16,
    /// The link's number.
    pub port: u16,
    /// Bits of [`state`].
    pub state: u8,
}

#[derive(Debug, Default, Clone, Copy)]
struct Link {
    is_out: bool,
    is_unplugged: bool,
    heard: Option<[u8; 18]>,
    lacp_frames: u64,
    data_frames: u64,
}

impl Link {
    fn state(&self) -> u8 {
        use state::{
            ACTIVITY, AGGREGATION, COLLECTING, DISTRIBUTING, SHORT_TIMEOUT, SYNCHRONIZATION,
        };
        let always = ACTIVITY | SHORT_TIMEOUT | AGGREGATION;
        if self.is_out {
            always
        } else {
            always | SYNCHRONIZATION | COLLECTING | DISTRIBUTING
        }
    }

    /// Whether the other end takes frames.
    fn is_open(&self) -> bool {
        let both = state::SYNCHRONIZATION | state::COLLECTING;
        !self.is_out
            && !self.is_unplugged
            && self.heard.is_some_and(|heard| heard[14] & both == both)
    }

    fn frame(&self, number: u8) -> Vec<u8> {
        let mut frame = Vec::with_capacity(124);
        frame.extend(SLOW_PROTOCOLS);
        frame.extend([0x02, 0, 0, 0, 0x01, 0xf0 + number]);
        frame.extend(LACP);
        // Of itself; of the other what it said; nothing of how long frames may wait; the end.
        frame.extend([1, 20]);
        frame.extend(OWN);
        frame.extend([0x80, 0, 0, number + 1, self.state(), 0, 0, 0]);
        frame.extend([2, 20]);
        frame.extend(self.heard.unwrap_or_default());
        frame.extend([3, 16]);
        frame.extend([0; 14]);
        frame.extend([0; 52]);
        frame
    }
}

/// The switch, as long as it lives.
pub struct Lag {
    links: Arc<Mutex<[Link; 2]>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _socats: Vec<Background>,
}

fn path(name: &str) -> PathBuf {
    lab_dir().join(format!("lag-{name}.sock"))
}

fn lock(links: &Mutex<[Link; 2]>) -> MutexGuard<'_, [Link; 2]> {
    links.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lag {
    /// Takes both links, which are there since the daemons were started with a bond, off the bridge, and speaks LACP on
    /// them.
    pub fn start() -> Self {
        let links = Arc::new(Mutex::new([Link::default(); 2]));
        let stop = Arc::new(AtomicBool::new(false));
        let (mut threads, mut socats) = (Vec::new(), Vec::new());
        let network = bound(&path("network"));
        let mut sockets = Vec::new();
        for link in LINKS {
            run("router", &format!("ip link set {link} nomaster up"));
            let own = bound(&path(link));
            let socat = path(&format!("{link}-socat"));
            socats.push(as_datagrams(link, &socat, &path(link)));
            sockets.push((own, socat));
        }
        let to_network = path("network-socat");
        socats.push(bridge_port("client", &to_network, &path("network")));
        for (number, (socket, _)) in sockets.iter().enumerate() {
            let (links, from) = (Arc::clone(&links), Arc::clone(socket));
            let (out, to) = (Arc::clone(&network), to_network.clone());
            threads.push(forward(&stop, from, move |frame| {
                if frame.get(12..16) == Some(&LACP) {
                    let mut links = lock(&links);
                    links[number].lacp_frames += 1;
                    links[number].heard = frame.get(ACTOR).and_then(|said| said.try_into().ok());
                    return;
                }
                lock(&links)[number].data_frames += 1;
                // Lost, as on a wire, while nobody listens.
                let _ = out.send_to(frame, &to);
            }));
        }
        let outward: Vec<(Arc<UnixDatagram>, PathBuf)> = sockets.clone();
        let of_links = Arc::clone(&links);
        threads.push(forward(&stop, network, move |frame| {
            let links = *lock(&of_links);
            let open: Vec<usize> = (0..2).filter(|link| links[*link].is_open()).collect();
            // Addresses and ports of IPv4.
            let flow = frame.get(26..38).unwrap_or_default();
            let sum: usize = flow.iter().map(|byte| usize::from(*byte)).sum();
            if let Some(link) = open.get(sum % open.len().max(1)) {
                let (socket, to) = &outward[*link];
                let _ = socket.send_to(frame, to);
            }
        }));
        let (of_links, stop_telling) = (Arc::clone(&links), Arc::clone(&stop));
        threads.push(thread::spawn(move || {
            while !stop_telling.load(Ordering::Relaxed) {
                let links = *lock(&of_links);
                let numbered = (0..).zip(links).zip(&sockets);
                for ((number, link), (socket, to)) in
                    numbered.filter(|((_, link), _)| !link.is_unplugged)
                {
                    let _ = socket.send_to(&link.frame(number), to);
                }
                thread::sleep(PERIOD);
            }
        }));
        Self {
            links,
            stop,
            threads,
            _socats: socats,
        }
    }

    /// Takes a link out of the group, or in again.
    pub fn set_out(&self, link: usize, is_out: bool) {
        lock(&self.links)[link].is_out = is_out;
    }

    /// Pulls the cable at this end, or puts it in again; the kernel's interface stays up.
    pub fn set_unplugged(&self, link: usize, is_unplugged: bool) {
        let mut links = lock(&self.links);
        links[link].is_unplugged = is_unplugged;
        links[link].heard = None;
    }

    /// What the bond says of its end of each link.
    pub fn said(&self) -> [Option<Said>; 2] {
        lock(&self.links).map(|link| {
            let heard = link.heard?;
            Some(Said {
                system: heard[..8].try_into().ok()?,
                key: u16::from_be_bytes([heard[8], heard[9]]),
                port: u16::from_be_bytes([heard[12], heard[13]]),
                state: heard[14],
            })
        })
    }

    /// Frames of LACP that came by each link.
    pub fn lacp_frames(&self) -> [u64; 2] {
        lock(&self.links).map(|link| link.lacp_frames)
    }

    /// All other frames that came by each link.
    pub fn data_frames(&self) -> [u64; 2] {
        lock(&self.links).map(|link| link.data_frames)
    }
}

impl Drop for Lag {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has failed the test already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_as_long_as_the_standard_has_it_and_says_what_was_heard() {
        let mut link = Link::default();
        let frame = link.frame(0);
        assert_eq!(frame.len(), 14 + 110);
        assert_eq!(frame[ACTOR][14], 0x3f);
        link.heard = Some([7; 18]);
        link.is_out = true;
        let frame = link.frame(1);
        assert_eq!(frame[ACTOR][..10], OWN);
        assert_eq!((frame[ACTOR][13], frame[ACTOR][14]), (2, 7));
        assert_eq!(frame[38..56], [7; 18]);
        assert_eq!(frame[56..58], [3, 16]);
    }
}
