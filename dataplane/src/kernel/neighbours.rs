//! Which neighbours to ask the kernel for, and when. Pure; the mirror sends what this module decides.
//!
//! The data plane sends frames to neighbours past the kernel, so the kernel does not see that they are in use: it would
//! neither resolve a new one nor notice that an old one has got another MAC. So it is told (RTM_NEWNEIGH with
//! `NTF_USE`), which does what a packet of its own would do: an unknown or failed neighbour is asked for by ARP or
//! neighbour discovery, a stale one is probed (RFC 4861 7.3).
//!
//! Two kinds of neighbours are asked for: those a worker has a packet for *now* ([`Upkeep::want`]) and those the
//! forwarding table refers to ([`Upkeep::set_in_use`]). No neighbour is asked for more than once in [`ASK_INTERVAL`],
//! and not more than [`ASKS_MAX`] in that time altogether: a flood from made-up addresses on a link must not become a
//! flood of questions there.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::view::Egress;

/// A neighbour: where it is, and its address there.
pub type NeighbourKey = (Egress, IpAddr);

/// How far the kernel is with a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// The kernel does not know it.
    Unknown,
    /// The kernel is asking for it.
    Asked,
    /// It did not answer.
    Failed,
    /// Known, but not confirmed for long.
    Stale,
    /// Known and confirmed, being confirmed, or set by the administrator.
    Fresh,
}

/// The shortest time between two questions for the same neighbour; that of the kernel itself (`retrans_time_ms`).
pub const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest time between two probes of a stale neighbour in use. The kernel waits 5 s before it sends the first and
/// gives up after 3 unanswered ones, so a MAC that changed silently is noticed within half a minute.
pub const STALE_INTERVAL: Duration = Duration::from_secs(10);

/// How soon a failed neighbour in use is asked for again; the kernel took 3 s to find that it does not answer.
pub const FAILED_INTERVAL: Duration = Duration::from_secs(3);

/// The most questions asked in one [`ASK_INTERVAL`]; the other neighbours wait for the next.
pub const ASKS_MAX: usize = 1024;

/// The most neighbours that packets wait for at one time; for more there is no asking, until their next packet.
pub const WANTED_MAX: usize = 4096;

/// The neighbours in use and when each was last asked for.
#[derive(Debug, Default)]
pub struct Upkeep {
    in_use: BTreeSet<NeighbourKey>,
    wanted: BTreeSet<NeighbourKey>,
    last_asked: HashMap<NeighbourKey, Instant>,
    /// Since when questions are counted, and how many there were.
    window: Option<(Instant, usize)>,
}

impl Upkeep {
    /// These are what the forwarding table refers to from now on.
    pub fn set_in_use(&mut self, in_use: BTreeSet<NeighbourKey>) {
        self.in_use = in_use;
    }

    /// A packet waits for this one. It is remembered until it is asked for or known.
    pub fn want(&mut self, key: NeighbourKey) {
        if self.wanted.len() < WANTED_MAX {
            self.wanted.insert(key);
        }
    }

    /// The neighbours to ask for now, wanted ones first; each counts as asked.
    pub fn due(
        &mut self,
        now: Instant,
        resolution: impl Fn(NeighbourKey) -> Resolution,
    ) -> Vec<NeighbourKey> {
        self.last_asked.retain(|key, asked| {
            self.in_use.contains(key) || now.duration_since(*asked) < ASK_INTERVAL
        });
        self.wanted
            .retain(|key| matches!(resolution(*key), Resolution::Unknown | Resolution::Failed));
        let last_asked = &self.last_asked;
        let waited = |key: &NeighbourKey, least: Duration| {
            last_asked
                .get(key)
                .is_none_or(|asked| now.duration_since(*asked) >= least)
        };
        let wanted = self.wanted.iter().filter(|key| waited(key, ASK_INTERVAL));
        let in_use = self.in_use.iter().filter(|key| {
            !self.wanted.contains(key)
                && match resolution(**key) {
                    Resolution::Unknown => waited(key, ASK_INTERVAL),
                    Resolution::Failed => waited(key, FAILED_INTERVAL),
                    Resolution::Stale => waited(key, STALE_INTERVAL),
                    Resolution::Asked | Resolution::Fresh => false,
                }
        });
        let asked_before = match self.window {
            Some((since, asked)) if now.duration_since(since) < ASK_INTERVAL => asked,
            _ => 0,
        };
        let allowed = ASKS_MAX.saturating_sub(asked_before);
        let due: Vec<NeighbourKey> = wanted.chain(in_use).copied().take(allowed).collect();
        if asked_before == 0 {
            self.window = Some((now, 0));
        }
        if let Some((_, asked)) = &mut self.window {
            *asked += due.len();
        }
        for key in &due {
            self.wanted.remove(key);
            self.last_asked.insert(*key, now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::view::TapIndex;

    fn key(last: u8) -> NeighbourKey {
        let tap = TapIndex::new(0);
        (Egress { tap, vlan: None }, IpAddr::from([192, 0, 2, last]))
    }

    /// What is due at each of these seconds, in a kernel where nothing ever changes.
    fn seconds_asked(upkeep: &mut Upkeep, resolution: Resolution, seconds: u64) -> Vec<u64> {
        let start = Instant::now();
        (0..seconds)
            .filter(|second| {
                let now = start + Duration::from_secs(*second);
                !upkeep.due(now, |_| resolution).is_empty()
            })
            .collect()
    }

    fn in_use(keys: &[NeighbourKey]) -> Upkeep {
        let mut upkeep = Upkeep::default();
        upkeep.set_in_use(keys.iter().copied().collect());
        upkeep
    }

    #[test]
    fn neighbours_in_use_are_asked_for_as_often_as_their_state_needs() {
        let cases: [(Resolution, &[u64]); 5] = [
            (Resolution::Unknown, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
            (Resolution::Failed, &[0, 3, 6, 9]),
            (Resolution::Stale, &[0, 10]),
            (Resolution::Asked, &[]),
            (Resolution::Fresh, &[]),
        ];
        for (resolution, seconds) in cases {
            let asked = seconds_asked(&mut in_use(&[key(1)]), resolution, 12);
            assert_eq!(asked, seconds, "{resolution:?}");
        }
    }

    #[test]
    fn a_waiting_packet_asks_at_once_but_not_twice_a_second() {
        let mut upkeep = Upkeep::default();
        let start = Instant::now();
        let mut asked = Vec::new();
        for tenth in 0..20 {
            upkeep.want(key(1));
            let now = start + Duration::from_millis(100 * tenth);
            if !upkeep.due(now, |_| Resolution::Failed).is_empty() {
                asked.push(tenth);
            }
        }
        assert_eq!(asked, [0, 10]);
    }

    #[test]
    fn a_packet_that_comes_too_early_is_not_forgotten() {
        let mut upkeep = Upkeep::default();
        upkeep.want(key(1));
        let start = Instant::now();
        assert_eq!(upkeep.due(start, |_| Resolution::Unknown), [key(1)]);
        upkeep.want(key(1));
        assert_eq!(seconds_asked(&mut upkeep, Resolution::Failed, 4), [1]);
    }

    #[test]
    fn a_packet_for_a_known_neighbour_asks_nothing() {
        let mut upkeep = Upkeep::default();
        for resolution in [Resolution::Fresh, Resolution::Stale, Resolution::Asked] {
            upkeep.want(key(1));
            assert!(upkeep.due(Instant::now(), |_| resolution).is_empty());
        }
    }

    #[test]
    fn a_flood_of_unknown_neighbours_is_asked_for_slowly_and_wanted_ones_go_first() {
        let many = |network: u32| {
            let hosts = 0..u32::try_from(ASKS_MAX).unwrap();
            let address = move |host| std::net::Ipv4Addr::from_bits(network << 24 | host);
            hosts.map(move |host| (key(0).0, IpAddr::from(address(host))))
        };
        let mut upkeep = Upkeep::default();
        upkeep.set_in_use(many(20).collect());
        many(10).for_each(|key| upkeep.want(key));
        let start = Instant::now();
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        let unknown = |_| Resolution::Unknown;
        let first = upkeep.due(start, unknown);
        assert_eq!(first, many(10).collect::<Vec<_>>());
        assert!(upkeep.due(after(999), unknown).is_empty());
        let second = upkeep.due(after(1000), unknown);
        assert_eq!(second, many(20).collect::<Vec<_>>());
    }

    #[test]
    fn no_more_packets_are_remembered_than_there_is_room_for() {
        let mut upkeep = Upkeep::default();
        for host in 0..2 * WANTED_MAX {
            let address = std::net::Ipv4Addr::from_bits(u32::try_from(host).unwrap());
            upkeep.want((key(0).0, address.into()));
        }
        assert_eq!(upkeep.wanted.len(), WANTED_MAX);
    }

    #[test]
    fn what_is_no_longer_in_use_is_forgotten() {
        let mut upkeep = in_use(&[key(1)]);
        let start = Instant::now();
        assert_eq!(upkeep.due(start, |_| Resolution::Stale), [key(1)]);
        upkeep.set_in_use(BTreeSet::new());
        let later = start + STALE_INTERVAL;
        assert!(upkeep.due(later, |_| Resolution::Stale).is_empty());
        assert!(upkeep.last_asked.is_empty());
    }
}
