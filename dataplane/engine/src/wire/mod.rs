//! Typed views over the bytes of a frame, one header a file.
//!
//! Every struct here is the header as it stands on the wire: big-endian fields, alignment 1, read and written through
//! `zerocopy` without copying. Reading one from a prefix of a slice is the length check. Big-endian stays in this
//! module: the rest of the engine sees host integers.

pub mod checksum;
pub mod ethernet;
pub mod ftp;
pub mod gre;
pub mod gue;
pub mod icmp;
pub mod ipv4;
pub mod ipv4_options;
pub mod ipv6;
pub mod plain;
pub mod sctp;
pub mod sip;
pub mod sync;
pub mod tcp;
pub mod udp;

/// IP protocol numbers (IANA) the engine knows.
pub mod protocol {
    /// No protocol: the number that IPVS has for what belongs to a firewall mark.
    pub const IP: u8 = 0;
    /// ICMP, RFC 792.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP, RFC 2003.
    pub const IPIP: u8 = 4;
    /// TCP, RFC 9293.
    pub const TCP: u8 = 6;
    /// UDP, RFC 768.
    pub const UDP: u8 = 17;
    /// SCTP, RFC 9260.
    pub const SCTP: u8 = 132;
    /// Generic routing encapsulation, RFC 2784.
    pub const GRE: u8 = 47;
    /// IPv6 in IP, RFC 2473.
    pub const IPV6: u8 = 41;
    /// Encapsulating security payload, RFC 4303.
    pub const ESP: u8 = 50;
    /// Authentication header, RFC 4302.
    pub const AH: u8 = 51;
    /// ICMPv6, RFC 4443.
    pub const ICMPV6: u8 = 58;
}
