//! The kernel as the data plane sees it: interfaces, addresses, routes and neighbours, mirrored over rtnetlink.
//!
//! ```text
//! kernel ──multicast groups──► mirror ──watch──► Arc<KernelView> ──► publisher ──► forwarding table
//!        ◄──────dumps────────         ◄── neighbours in use, neighbours missing ──
//! ```
//!
//! * [`view`] is what the rest of the data plane gets: plain values, nothing of netlink.
//! * [`tables`] turns netlink messages into a view. Pure: no sockets, no clock.
//! * [`mirror`] owns the sockets and keeps the view true.
//! * [`neighbours`] decides which neighbours to ask for and when. Pure as well.
//! * [`tap`] names the TAPs and sets them up.
//!
//! The crates `rtnetlink` and `netlink-packet-route` are used in this folder only.

pub mod mirror;
pub mod neighbours;
mod netlink;
mod policy_rules;
mod route_message;
pub mod tables;
pub mod tap;
pub mod view;

pub use mirror::{Mirror, MirrorHandle};
pub use neighbours::NeighbourKey;
pub use netlink::NetlinkError;
pub use tap::{TapName, TapNameError};
pub use view::{
    Address, Discard, Egress, KernelView, Link, MacAddress, Neighbour, NextHop, Route, RouteTarget,
    TapIndex,
};
