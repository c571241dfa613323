//! Fragments, in and out (RFC 791, RFC 8200 4.5).
//!
//! ```text
//! fragment ──► Verdict::Gather ──► Fragments::gather: waits, in a slot, for the rest of its datagram
//!                                     │ all there
//!                                     ▼
//!                      one packet in one buffer ──► Worker ──► verdict ──► cut again ──► frames out
//!                                     ▲
//! packet too large for its way ──► Verdict::Split ──► Fragments::split
//! ```
//!
//! As in Linux, nothing is decided before a datagram is whole: the decision is made about the packet it was, by the code
//! that decides about every packet, and what goes out is cut as it came, in order. That costs a copy, which a datagram of
//! some kilobytes hardly notices, and makes NAT's checksums, tunnels and ICMP errors right without a second
//! implementation.
//!
//! What waits is bounded: so many datagrams, so many fragments of each, so long. A datagram whose fragments overlap is
//! refused as a whole (RFC 5722, and Linux does so for IPv4 too). Fragments of a datagram must come to one [`Fragments`]:
//! [`Handover`] knows to which worker's, and takes them there.

mod cut;
mod datagram;
mod fragments;
mod handover;
mod piece;
mod slot;

pub use fragments::{Fragments, Outgoing};
pub use handover::Handover;
pub(crate) use piece::network_header;
