//! What became of a packet. Every packet a worker receives meets exactly one fate, and `received = sum of all fates`
//! (plus those that wait for a neighbour at this moment).

macro_rules! fates {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $is_drop:literal;)+) => {
        /// What became of a received packet: error, counter and metric label in one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Fate {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Fate {
            /// Every fate, in the order they are listed to people.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$variant),+];
            /// How many there are.
            pub const COUNT: usize = [$($name),+].len();

            /// The name in counters and metrics.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// Whether the packet itself went no further. A few of these were answered with an ICMP error.
            pub fn is_drop(self) -> bool {
                match self { $(Self::$variant => $is_drop),+ }
            }

            /// What it means, for people.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii()),+ }
            }
        }
    };
}

fates! {
    /// Sent to a server or back to a client.
    Forwarded = "forwarded", false;
    /// Handed to the kernel: not for a virtual service.
    Punted = "punted", false;
    /// Handed to the kernel: a fragment of a datagram that is not for a virtual service.
    PuntedFragment = "punted_fragment", false;
    /// The kernel's TAP took no more frames.
    PuntQueueFull = "punt_queue_full", true;
    /// For the kernel, but more of its class than a second may bring: see `[dataplane.punt]`.
    PuntLimited = "punt_limited", true;
    /// The egress port's device is gone.
    PortGone = "port_gone", true;
    /// The egress port took no more frames.
    TransmitQueueFull = "transmit_queue_full", true;
    /// Shorter than its Ethernet header or its VLAN tag.
    EthernetTruncated = "ethernet_truncated", true;
    /// Spread over several buffers; jumbo frames need an MTU that fits one buffer.
    MultiSegment = "multi_segment", true;
    /// IPv4 header or packet longer than the frame.
    Ipv4Truncated = "ipv4_truncated", true;
    /// IPv4 version or header length wrong.
    Ipv4BadHeader = "ipv4_bad_header", true;
    /// IPv4 header checksum wrong.
    Ipv4BadChecksum = "ipv4_bad_checksum", true;
    /// IPv6 header or packet longer than the frame.
    Ipv6Truncated = "ipv6_truncated", true;
    /// IPv6 version wrong, or its extension headers run past the packet.
    Ipv6BadHeader = "ipv6_bad_header", true;
    /// Header of TCP, UDP or SCTP longer than the packet, or SCTP for a service without a chunk.
    TransportTruncated = "transport_truncated", true;
    /// Checksum of an ICMP error about a connection wrong.
    IcmpBadChecksum = "icmp_bad_checksum", true;
    /// Checksum of a segment of an FTP control connection wrong.
    HelperBadChecksum = "helper_bad_checksum", true;
    /// Time to live used up; answered with ICMP time exceeded.
    TimeExceeded = "time_exceeded", true;
    /// No server of the service takes connections; answered with ICMP port unreachable.
    NoDestination = "no_destination", true;
    /// The connection's server was removed; it takes the connection up again when it returns.
    DestinationRemoved = "destination_removed", true;
    /// Larger than the way to the server takes; answered with ICMP fragmentation needed or packet too big.
    TooBig = "too_big", true;
    /// A router says that a tunnel's packet was too large, and the sender allows fragments: nobody is to hear of it.
    NeedsFragmentation = "needs_fragmentation", true;
    /// To be cut into fragments, and there was no frame for them.
    NoFragmentRoom = "no_fragment_room", true;
    /// A fragment that is empty, not in eights, or past the end of the largest packet.
    FragmentBroken = "fragment_broken", true;
    /// A fragment that was there already.
    FragmentDuplicate = "fragment_duplicate", true;
    /// A datagram whose fragments overlap (RFC 5722).
    FragmentOverlap = "fragment_overlap", true;
    /// Of a datagram of which the rest did not come in time.
    FragmentTimeout = "fragment_timeout", true;
    /// Too many fragments, or too many datagrams, waited already: the oldest goes.
    FragmentsFull = "fragments_full", true;
    /// The kernel has no route to the server or client; answered with ICMP host or network unreachable.
    NoRoute = "no_route", true;
    /// The neighbour's MAC did not become known in time.
    NeighbourUnresolved = "neighbour_unresolved", true;
    /// Too many packets already waited for that neighbour.
    HoldQueueFull = "hold_queue_full", true;
    /// No room in front of the frame for the tunnel's header.
    NoHeadroom = "no_headroom", true;
    /// Dropped by `drop_packet`: one new connection in each `am_droprate`.
    DropPacket = "drop_packet", true;
    /// From a server behind NAT, and of no connection; answered with ICMP port unreachable (`nat_icmp_send`).
    NoConnection = "no_connection", true;
    /// For a service with the persistence engine sip, and without a Call-ID.
    NoCallId = "no_call_id", true;
    /// The connection table is full and the service's method needs an entry.
    TableFull = "table_full", true;
    /// The server already has a connection from this client address and port through another service.
    ReplyKeyTaken = "reply_key_taken", true;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_names_and_order_agree() {
        for (index, fate) in Fate::ALL.into_iter().enumerate() {
            assert_eq!(fate as usize, index);
            assert!(fate.meaning().ends_with('.'), "{}", fate.name());
            assert!(
                fate.name()
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
            );
        }
        let mut names = Fate::ALL.map(Fate::name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
