//! Messages as the kernel sends them, and what the view says after each.

use super::*;

const TAP0: u32 = 10;
const TAP1: u32 = 11;
const VLAN100: u32 = 12;
const LO: u32 = 1;
const ETH0: u32 = 2;

fn interface(index: u32, name: &str, flags: LinkFlags) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = flags;
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Mtu(1500),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, u8::try_from(index).unwrap()]),
    ];
    message
}

fn vlan_on(parent: u32, index: u32, data: Vec<InfoVlan>) -> LinkMessage {
    let mut message = interface(index, "any-name", LinkFlags::Up);
    message.attributes.push(LinkAttribute::Link(parent));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Vlan),
        LinkInfo::Data(InfoData::Vlan(data)),
    ]));
    message
}

fn interfaces() -> Vec<LinkMessage> {
    vec![
        interface(LO, "lo", LinkFlags::Up | LinkFlags::Loopback),
        interface(ETH0, "eth0", LinkFlags::Up),
        interface(TAP0, "tap0", LinkFlags::Up),
        interface(TAP1, "tap1", LinkFlags::empty()),
        vlan_on(TAP1, VLAN100, vec![InfoVlan::Id(100)]),
    ]
}

fn tables() -> Tables {
    let names = ["tap0", "tap1"].map(|name| name.parse().unwrap());
    let mut tables = Tables::new(names.to_vec());
    assert!(tables.replace_links(&interfaces()));
    tables
}

fn egress(tap: u16, vlan: Option<u16>) -> Egress {
    let tap = TapIndex::new(tap);
    Egress { tap, vlan }
}

fn neighbour(
    index: u32,
    ip: &str,
    state: NeighbourState,
    last_byte: Option<u8>,
) -> NeighbourMessage {
    let ip: IpAddr = ip.parse().unwrap();
    let mut message = NeighbourMessage::default();
    message.header.ifindex = index;
    message.header.state = state;
    message.attributes = vec![NeighbourAttribute::Destination(ip.into())];
    message.attributes.extend(
        last_byte.map(|byte| NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 1, byte])),
    );
    message
}

fn usable(last_byte: u8) -> Option<Neighbour> {
    Some(Neighbour::Usable(MacAddress([2, 0, 0, 0, 1, last_byte])))
}

#[test]
fn taps_are_found_by_name_and_vlans_by_their_parent() {
    let tables = tables();
    let view = tables.view();
    let link = view.link(TapIndex::new(0)).unwrap();
    assert_eq!((link.index, link.up, link.mtu), (TAP0, true, 1500));
    assert!(!view.link(TapIndex::new(1)).unwrap().up);
    assert_eq!(tables.interface(egress(1, None)), Some(TAP1));
    assert_eq!(tables.interface(egress(1, Some(100))), Some(VLAN100));
    assert_eq!(tables.view().vlans, [(TapIndex::new(1), 100)]);
    assert_eq!(tables.interface(egress(1, Some(200))), None);
}

#[test]
fn an_8021ad_interface_is_not_a_way_out() {
    let mut tables = tables();
    let mut all = interfaces();
    let protocol = InfoVlan::Protocol(VlanProtocol::Ieee8021Ad);
    all[4] = vlan_on(TAP1, VLAN100, vec![InfoVlan::Id(100), protocol]);
    assert!(tables.replace_links(&all));
    assert_eq!(tables.interface(egress(1, Some(100))), None);
}

/// What keepalived makes for `use_vmac`.
#[test]
fn a_macvlan_is_its_parent_with_another_mac() {
    const VMAC: u32 = 20;
    let mut tables = tables();
    let mut all = interfaces();
    let mut vmac = interface(VMAC, "vrrp.51", LinkFlags::Up);
    vmac.attributes.push(LinkAttribute::Link(TAP0));
    vmac.attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(
            InfoKind::MacVlan,
        )]));
    all.push(vmac);
    // One on an interface that is none of ours.
    let mut other = all[5].clone();
    other.header.index = VMAC + 1;
    other
        .attributes
        .retain(|attribute| !matches!(attribute, LinkAttribute::Link(_)));
    other.attributes.push(LinkAttribute::Link(ETH0));
    all.push(other);
    assert!(tables.replace_links(&all));
    assert!(!tables.replace_links(&all));
    let mac = MacAddress([2, 0, 0, 0, 0, 20]);
    assert_eq!(tables.view().other_macs, [(TapIndex::new(0), mac)]);
    assert_eq!(tables.interface(egress(0, None)), Some(TAP0));
    let ip: IpAddr = "192.0.2.100".parse().unwrap();
    let mut message = AddressMessage::default();
    message.header.index = VMAC;
    message.header.prefix_len = 32;
    message.attributes = vec![AddressAttribute::Address(ip)];
    tables.replace_addresses(&[message]);
    assert_eq!(tables.view().addresses[0].egress, Some(egress(0, None)));
    // Its own neighbours are not: the parent's are kept.
    let event = neighbour(VMAC, "192.0.2.9", NeighbourState::Reachable, Some(1));
    tables.note(&RouteNetlinkMessage::NewNeighbour(event));
    assert!(tables.view().neighbours.is_empty());
    assert!(tables.replace_links(&interfaces()));
    assert_eq!(tables.view().other_macs, []);
}

#[test]
fn only_interfaces_that_come_or_go_make_everything_stale() {
    let mut tables = tables();
    assert!(!tables.replace_links(&interfaces()));
    let mut down = interfaces();
    down[2].header.flags = LinkFlags::empty();
    assert!(!tables.replace_links(&down));
    assert!(!tables.view().link(TapIndex::new(0)).unwrap().up);
    down.remove(2);
    assert!(tables.replace_links(&down));
    assert_eq!(tables.view().link(TapIndex::new(0)), None);
}

#[test]
fn addresses_are_those_of_taps_vlans_and_loopback() {
    let address = |index, local: &str, scope, flags| {
        let ip: IpAddr = local.parse().unwrap();
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = 24;
        message.header.scope = scope;
        message.attributes = vec![
            AddressAttribute::Address(ip),
            AddressAttribute::Flags(flags),
        ];
        message
    };
    let fine = AddressFlags::Permanent;
    let mut tables = tables();
    tables.replace_addresses(&[
        address(LO, "198.51.100.1", AddressScope::Universe, fine),
        address(ETH0, "10.0.0.1", AddressScope::Universe, fine),
        address(TAP0, "192.0.2.1", AddressScope::Universe, fine),
        address(VLAN100, "203.0.113.1", AddressScope::Link, fine),
        address(
            TAP0,
            "2001:db8::1",
            AddressScope::Universe,
            AddressFlags::Tentative,
        ),
        address(
            TAP0,
            "2001:db8::2",
            AddressScope::Universe,
            AddressFlags::Dadfailed,
        ),
        address(
            TAP0,
            "2001:db8::3",
            AddressScope::Universe,
            AddressFlags::Tentative | AddressFlags::Optimistic,
        ),
    ]);
    let view = tables.view();
    let seen: Vec<_> = view
        .addresses
        .iter()
        .map(|address| (address.ip.to_string(), address.egress, address.global))
        .collect();
    let expected = [
        ("198.51.100.1", None, true),
        ("192.0.2.1", Some(egress(0, None)), true),
        ("203.0.113.1", Some(egress(1, Some(100))), false),
        ("2001:db8::3", Some(egress(0, None)), true),
    ];
    assert_eq!(
        seen,
        expected.map(|(ip, egress, global)| (ip.to_owned(), egress, global))
    );
}

#[test]
fn a_point_to_point_address_is_the_local_one() {
    let mut message = AddressMessage::default();
    message.header.index = TAP0;
    let (local, peer) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    message.attributes = vec![
        AddressAttribute::Address(peer),
        AddressAttribute::Local(local),
    ];
    let mut tables = tables();
    tables.replace_addresses(&[message]);
    assert_eq!(tables.view().addresses[0].ip, local);
}

#[test]
fn a_neighbour_follows_its_state() {
    use NeighbourState::{Delay, Failed, Incomplete, None as Absent, Probe, Reachable, Stale};
    let key = (egress(0, None), "192.0.2.9".parse().unwrap());
    let steps = [
        (Incomplete, None, Resolution::Asked, None),
        (Reachable, Some(1), Resolution::Fresh, usable(1)),
        (Stale, Some(1), Resolution::Stale, usable(1)),
        (Delay, Some(1), Resolution::Fresh, usable(1)),
        (Probe, Some(1), Resolution::Fresh, usable(1)),
        (Reachable, Some(2), Resolution::Fresh, usable(2)),
        (Failed, None, Resolution::Failed, Some(Neighbour::Failed)),
        (Incomplete, None, Resolution::Asked, Some(Neighbour::Failed)),
        (Failed, None, Resolution::Failed, Some(Neighbour::Failed)),
        (Reachable, Some(3), Resolution::Fresh, usable(3)),
        (Absent, None, Resolution::Unknown, None),
    ];
    let mut tables = tables();
    for (state, mac, resolution, seen) in steps {
        let event = neighbour(TAP0, "192.0.2.9", state, mac);
        assert!(!tables.note(&RouteNetlinkMessage::NewNeighbour(event)).any());
        assert_eq!(tables.resolution(key), resolution, "{state}");
        assert_eq!(tables.view().neighbour(key.0, key.1), seen, "{state}");
    }
}

#[test]
fn a_removed_neighbour_is_unknown() {
    let key = (egress(1, Some(100)), "2001:db8::9".parse().unwrap());
    let message = || neighbour(VLAN100, "2001:db8::9", NeighbourState::Permanent, Some(7));
    let mut tables = tables();
    tables.note(&RouteNetlinkMessage::NewNeighbour(message()));
    assert_eq!(tables.view().neighbour(key.0, key.1), usable(7));
    tables.note(&RouteNetlinkMessage::DelNeighbour(message()));
    assert_eq!(tables.view().neighbour(key.0, key.1), None);
    assert_eq!(tables.resolution(key), Resolution::Unknown);
}

#[test]
fn a_state_that_changes_no_mac_changes_no_view() {
    let mut tables = tables();
    let event =
        |state| RouteNetlinkMessage::NewNeighbour(neighbour(TAP0, "192.0.2.9", state, Some(1)));
    tables.note(&event(NeighbourState::Reachable));
    let before = tables.view();
    tables.note(&event(NeighbourState::Stale));
    assert!(Arc::ptr_eq(&before.neighbours, &tables.view().neighbours));
}

#[test]
fn a_published_view_never_changes() {
    let mut tables = tables();
    let before = tables.view();
    let event = neighbour(TAP0, "192.0.2.9", NeighbourState::Reachable, Some(1));
    tables.note(&RouteNetlinkMessage::NewNeighbour(event));
    assert!(before.neighbours.is_empty());
    assert_eq!(tables.view().neighbours.len(), 1);
}

#[test]
fn neighbours_of_other_interfaces_and_proxies_are_none_of_ours() {
    let mut tables = tables();
    let other = neighbour(ETH0, "10.0.0.9", NeighbourState::Reachable, Some(1));
    let mut proxy = neighbour(TAP0, "192.0.2.9", NeighbourState::Permanent, Some(1));
    proxy.header.flags = NeighbourFlags::Proxy;
    tables.replace_neighbours(&[other, proxy]);
    assert!(tables.view().neighbours.is_empty());
}

#[test]
fn a_dump_forgets_what_it_does_not_name() {
    let mut tables = tables();
    tables.replace_neighbours(&[
        neighbour(TAP0, "192.0.2.8", NeighbourState::Reachable, Some(8)),
        neighbour(TAP0, "192.0.2.9", NeighbourState::Reachable, Some(9)),
    ]);
    tables.replace_neighbours(&[neighbour(TAP0, "192.0.2.9", NeighbourState::Stale, Some(9))]);
    let view = tables.view();
    assert_eq!(view.neighbours.len(), 1);
    let gone = (egress(0, None), "192.0.2.8".parse().unwrap());
    assert_eq!(tables.resolution(gone), Resolution::Unknown);
}

#[test]
fn events_say_what_to_dump() {
    use RouteNetlinkMessage as Event;
    let route = |family, table| {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.header.table = table;
        message
    };
    let routes = Stale {
        routes_v4: true,
        routes_v6: true,
        ..Stale::default()
    };
    let cases = [
        (
            Event::NewLink(LinkMessage::default()),
            Stale {
                links: true,
                ..routes
            },
        ),
        (
            Event::DelLink(LinkMessage::default()),
            Stale {
                links: true,
                ..routes
            },
        ),
        (
            Event::NewAddress(AddressMessage::default()),
            Stale {
                addresses: true,
                ..Stale::default()
            },
        ),
        (
            Event::DelAddress(AddressMessage::default()),
            Stale {
                addresses: true,
                ..routes
            },
        ),
        (
            Event::NewRoute(route(AddressFamily::Inet, 254)),
            Stale {
                routes_v4: true,
                ..Stale::default()
            },
        ),
        (
            Event::DelRoute(route(AddressFamily::Inet6, 255)),
            Stale {
                routes_v6: true,
                ..Stale::default()
            },
        ),
        (
            Event::NewRoute(route(AddressFamily::Inet, 100)),
            Stale::default(),
        ),
    ];
    for (event, stale) in cases {
        assert_eq!(tables().note(&event), stale, "{event:?}");
    }
}
