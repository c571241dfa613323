//! What each forwarding method does to the bytes of a packet: one file a method. All work in place.

pub mod direct_route;
pub mod masquerade;
pub mod tunnel;
pub mod tunnel_gre;
pub mod tunnel_gue;
