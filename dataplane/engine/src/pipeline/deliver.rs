//! Last stage: the Ethernet header of the way out, and whom the frame goes to.

use zerocopy::FromBytes;
use zerocopy::byteorder::network_endian::U16;

use super::Verdict;
use super::worker::Neighbours;
use crate::connection::Family;
use crate::fate::Fate;
use crate::forwarding_table::{ForwardingTable, Interface, NextHop};
use crate::frame::Frame;
use crate::wire::ethernet::{
    ETHERNET_BYTES, EthernetHeader, MacAddress, VLAN_TAG_BYTES, VlanTag, ethertype,
};

/// Puts the link header of `next_hop` in front of the IP packet at offset `ip`, in place of what was there.
///
/// # Errors
/// [`Fate::NoRoute`], [`Fate::NoHeadroom`].
#[inline(always)]
pub(super) fn deliver<F: Frame>(
    forwarding: &ForwardingTable,
    frame: &mut F,
    ip: usize,
    family: Family,
    next_hop: NextHop,
    neighbours: &mut Neighbours,
) -> Result<Verdict, Fate> {
    // Nearly always: the neighbour is known, and no tag comes or goes, so that the header is written where one was.
    if let NextHop::Adjacent(number) = next_hop
        && let Some(adjacency) = forwarding.adjacency(number)
        && adjacency.interface.vlan.is_none()
        && ip == ETHERNET_BYTES
        && let Ok((header, _)) = EthernetHeader::mut_from_prefix(frame.bytes_mut())
    {
        // In place: a header put together on the stack first would be read before its parts have left the store buffer.
        header.set_macs(adjacency.macs);
        header.ethertype = ethertype_of(family);
        return Ok(Verdict::Forward {
            port: adjacency.interface.port,
        });
    }
    deliver_otherwise(forwarding, frame, ip, family, next_hop, neighbours)
}

#[inline(never)]
fn deliver_otherwise<F: Frame>(
    forwarding: &ForwardingTable,
    frame: &mut F,
    ip: usize,
    family: Family,
    next_hop: NextHop,
    neighbours: &mut Neighbours,
) -> Result<Verdict, Fate> {
    match next_hop {
        NextHop::Adjacent(number) => {
            let adjacency = forwarding.adjacency(number).ok_or(Fate::NoRoute)?;
            write_link_header(frame, ip, family, adjacency.interface, adjacency.macs)?;
            Ok(Verdict::Forward {
                port: adjacency.interface.port,
            })
        }
        NextHop::Unresolved(interface, address) => {
            let port = forwarding
                .port(usize::from(interface.port))
                .ok_or(Fate::NoRoute)?;
            write_link_header(frame, ip, family, interface, [[0; 6], port.mac])?;
            // As many as frames, at most: there is room.
            let place = u8::try_from(neighbours.len()).unwrap_or(u8::MAX);
            let _ = neighbours.try_push((interface, address));
            Ok(Verdict::Hold { place })
        }
        NextHop::Local | NextHop::Unreachable => Err(Fate::NoRoute),
    }
}

#[inline]
fn ethertype_of(family: Family) -> U16 {
    U16::new(match family {
        Family::V4 => ethertype::IPV4,
        Family::V6 => ethertype::IPV6,
    })
}

fn write_link_header<F: Frame>(
    frame: &mut F,
    ip: usize,
    family: Family,
    interface: Interface,
    macs: [MacAddress; 2],
) -> Result<(), Fate> {
    let needed = ETHERNET_BYTES
        + if interface.vlan.is_some() {
            VLAN_TAG_BYTES
        } else {
            0
        };
    if ip > needed {
        frame.trim_front(ip - needed);
    } else if ip < needed && !frame.prepend(needed - ip) {
        return Err(Fate::NoHeadroom);
    }
    let network = ethertype_of(family);
    let (header, rest) =
        EthernetHeader::mut_from_prefix(frame.bytes_mut()).map_err(|_| Fate::NoHeadroom)?;
    header.set_macs(macs);
    header.ethertype = network;
    if let Some(id) = interface.vlan {
        header.ethertype = U16::new(ethertype::VLAN);
        let (tag, _) = VlanTag::mut_from_prefix(rest).map_err(|_| Fate::NoHeadroom)?;
        *tag = VlanTag {
            control: U16::new(id),
            ethertype: network,
        };
    }
    Ok(())
}
