//! Ethernet II and 802.1Q.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A MAC address in wire order.
pub type MacAddress = [u8; 6];

/// EtherType values.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// A customer VLAN tag follows, 802.1Q.
    pub const VLAN: u16 = 0x8100;
    /// A service VLAN tag follows, 802.1ad.
    pub const SERVICE_VLAN: u16 = 0x88a8;
}

/// Ethernet II header, 14 bytes.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EthernetHeader {
    /// Who is to receive it.
    pub destination: MacAddress,
    /// Who sent it.
    pub source: MacAddress,
    /// What follows.
    pub ethertype: U16,
}

impl EthernetHeader {
    /// Writes destination and source, which stand first, as one.
    #[inline(always)]
    pub fn set_macs(&mut self, macs: [MacAddress; 2]) {
        if let Some(place) = self.as_mut_bytes().first_chunk_mut() {
            let macs: [u8; 12] = zerocopy::transmute!(macs);
            *place = macs;
        }
    }
}

/// The four bytes of an 802.1Q tag after the outer EtherType.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct VlanTag {
    /// Priority (3 bits), drop eligible (1), VLAN id (12).
    pub control: U16,
    /// What follows.
    pub ethertype: U16,
}

/// Bytes of an Ethernet header without tags.
pub const ETHERNET_BYTES: usize = size_of::<EthernetHeader>();
/// Bytes of the shortest frame, without its check sequence: what is shorter is padded (IEEE 802.3 3.2.8).
pub const FRAME_BYTES_MIN: usize = 60;
/// Bytes of one 802.1Q tag.
pub const VLAN_TAG_BYTES: usize = size_of::<VlanTag>();

const _: () = assert!(ETHERNET_BYTES == 14 && VLAN_TAG_BYTES == 4);
