//! What the kernel knows and the data plane needs, as one immutable value.
//!
//! A view is made by the mirror, at most once per batch of kernel events, and read by the publisher, which compiles it
//! into the workers' forwarding table. Its rules for a packet are Linux's without policy routing: of the routes that
//! contain the address the longest prefix wins; of those with the same prefix the view holds only the one the kernel
//! would use (table local before main, then the lowest metric).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// A TAP by its place in the list of names given to the mirror, which is also the number of its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TapIndex(u16);

impl TapIndex {
    /// The TAP of the port with this number.
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// The number of its port.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// A way out of the director: a TAP, which stands for its port, or a VLAN interface on top of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Egress {
    /// The TAP.
    pub tap: TapIndex,
    /// The 802.1Q tag of frames that leave this way; none: untagged.
    pub vlan: Option<u16>,
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An interface as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it; another one after it was made anew.
    pub index: u32,
    /// Whether the administrator has it up.
    pub up: bool,
    /// Maximum transmission unit in bytes, without Ethernet header.
    pub mtu: u32,
    /// Its MAC address.
    pub mac: MacAddress,
}

/// An address of the director.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// The length of its network's prefix.
    pub prefix_length: u8,
    /// Where it is configured; none: on `lo`.
    pub egress: Option<Egress>,
    /// Whether it may be the source of packets that leave its link (scope global or site).
    pub global: bool,
}

/// Where packets for a prefix go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What to do with a packet.
    pub target: RouteTarget,
    /// The source address the administrator wants for packets that start here (`ip route ... src`).
    pub preferred_source: Option<IpAddr>,
    /// The path MTU the administrator set on the route (`ip route ... mtu`).
    pub mtu: Option<u32>,
}

/// What to do with a packet that matches a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteTarget {
    /// Send it by one of these next hops; there is at least one, in the kernel's order.
    Send(Vec<NextHop>),
    /// The director itself is meant, or one of its networks' broadcast addresses: punt.
    Local,
    /// It would leave by an interface that is none of the TAPs: punt.
    OtherInterface,
    /// The administrator does not want it forwarded.
    Discard(Discard),
}

/// How a packet that must not be forwarded is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// Not at all (`blackhole`).
    Silently,
    /// By ICMP host unreachable, for IPv6 no route (`unreachable`, and `throw`, as no further table is mirrored).
    Unreachable,
    /// By ICMP administratively prohibited (`prohibit`).
    Prohibited,
}

/// One way to the destinations of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// The way out.
    pub egress: Egress,
    /// The router to send to, of either family (RFC 5549); none: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Its share among the next hops of the route, from 1.
    pub weight: u16,
}

/// What the kernel knows about the MAC address of a neighbour. One that is being resolved is not in the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    /// Frames may be sent to this address (NUD reachable, stale, delay, probe, permanent or noarp).
    Usable(MacAddress),
    /// It was asked for and did not answer.
    Failed,
}

/// The kernel's tables at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelView {
    /// The TAPs by [`TapIndex`]; none: the interface does not exist now.
    pub links: Vec<Option<Link>>,
    /// MAC addresses of macvlan interfaces on the TAPs, in order: what VRRP makes for its virtual MACs.
    pub other_macs: Vec<(TapIndex, MacAddress)>,
    /// VLANs of the TAPs, in order.
    pub vlans: Vec<(TapIndex, u16)>,
    /// The director's own addresses on the TAPs, their VLANs and `lo`, in the kernel's order; unusable ones
    /// (duplicate address detection not passed) are left out.
    pub addresses: Arc<Vec<Address>>,
    /// The one route the kernel would use for each prefix.
    pub routes: Arc<BTreeMap<IpNet, Route>>,
    /// Neighbours on the TAPs and their VLANs.
    pub neighbours: Arc<BTreeMap<(Egress, IpAddr), Neighbour>>,
}

impl KernelView {
    /// The state of a TAP.
    pub fn link(&self, tap: TapIndex) -> Option<&Link> {
        self.links.get(usize::from(tap.get()))?.as_ref()
    }

    /// The route of a packet to this address: the longest prefix that contains it.
    pub fn route(&self, to: IpAddr) -> Option<&Route> {
        let bits = if to.is_ipv4() { 32 } else { 128 };
        (0..=bits).rev().find_map(|length| {
            let prefix = IpNet::new(to, length).ok()?.trunc();
            self.routes.get(&prefix)
        })
    }

    /// What is known about a neighbour; none: it has to be asked for.
    pub fn neighbour(&self, egress: Egress, ip: IpAddr) -> Option<Neighbour> {
        self.neighbours.get(&(egress, ip)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(prefixes: &[(&str, u16)]) -> KernelView {
        let route = |weight| Route {
            target: RouteTarget::Send(vec![NextHop {
                egress: Egress {
                    tap: TapIndex::new(0),
                    vlan: None,
                },
                gateway: None,
                weight,
            }]),
            preferred_source: None,
            mtu: None,
        };
        KernelView {
            routes: Arc::new(
                prefixes
                    .iter()
                    .map(|(prefix, weight)| (prefix.parse().unwrap(), route(*weight)))
                    .collect(),
            ),
            ..KernelView::default()
        }
    }

    fn weight_of(view: &KernelView, ip: &str) -> Option<u16> {
        match &view.route(ip.parse().unwrap())?.target {
            RouteTarget::Send(next_hops) => Some(next_hops[0].weight),
            _ => None,
        }
    }

    #[test]
    fn the_longest_prefix_wins() {
        let view = view(&[
            ("0.0.0.0/0", 1),
            ("10.0.0.0/8", 2),
            ("10.1.2.3/32", 3),
            ("::/0", 4),
            ("2001:db8::1/128", 5),
        ]);
        assert_eq!(weight_of(&view, "192.0.2.1"), Some(1));
        assert_eq!(weight_of(&view, "10.1.2.4"), Some(2));
        assert_eq!(weight_of(&view, "10.1.2.3"), Some(3));
        assert_eq!(weight_of(&view, "2001:db8::2"), Some(4));
        assert_eq!(weight_of(&view, "2001:db8::1"), Some(5));
    }

    #[test]
    fn without_a_route_there_is_no_answer() {
        assert_eq!(weight_of(&view(&[("10.0.0.0/8", 1)]), "11.0.0.1"), None);
        assert_eq!(weight_of(&view(&[("0.0.0.0/0", 1)]), "::1"), None);
    }

    #[test]
    fn a_mac_is_written_as_everyone_writes_it() {
        let mac = MacAddress([0x02, 0, 0, 0, 0xab, 1]);
        assert_eq!(mac.to_string(), "02:00:00:00:ab:01");
    }
}
