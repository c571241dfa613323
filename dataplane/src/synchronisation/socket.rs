//! Multicast sockets as the kernel's daemons have them (`make_send_sock`, `make_receive_sock`).

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use pollux_api::SyncDaemon;
use rustix::io::Errno;
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, netdevice, socket_with};

/// What an interface is taken for whose MTU is not known, bytes.
const MTU: u16 = 1500;

/// The MTU of an interface, bytes.
pub fn mtu_of(interface: &str) -> u16 {
    let text = fs::read_to_string(format!("/sys/class/net/{interface}/mtu"));
    let mtu = text.ok().and_then(|text| text.trim().parse::<u32>().ok());
    mtu.map_or(MTU, |mtu| u16::try_from(mtu).unwrap_or(u16::MAX))
}

/// Whether an error says that there is no such interface.
pub fn is_no_interface(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

fn open(group: IpAddr) -> io::Result<UdpSocket> {
    let family = match group {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::DGRAM, flags, None)?.into())
}

/// The number of an interface.
///
/// # Errors
/// [`is_no_interface`], and what the kernel says.
pub fn index_of(interface: &str) -> io::Result<u32> {
    let socket = open(IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
    Ok(netdevice::name_to_index(&socket, interface)?)
}

/// Where a daemon's datagrams of its `number`th port go.
pub fn destination(daemon: &SyncDaemon, index: u32, number: usize) -> SocketAddr {
    let number = u16::try_from(number).unwrap_or(0);
    let port = daemon.port.wrapping_add(number);
    match daemon.group {
        IpAddr::V4(group) => (group, port).into(),
        // Groups of a link are of that interface's.
        IpAddr::V6(group) => SocketAddrV6::new(group, port, 0, index).into(),
    }
}

/// A socket to send from, by this interface.
///
/// # Errors
/// What the kernel says.
pub fn sender(daemon: &SyncDaemon, index: u32, buffer_bytes: usize) -> io::Result<UdpSocket> {
    let socket = open(daemon.group)?;
    match daemon.group {
        IpAddr::V4(_) => {
            let any = Ipv4Addr::UNSPECIFIED;
            sockopt::set_ip_multicast_if_with_ifindex(&socket, &any, &any, index)?;
            sockopt::set_ip_multicast_loop(&socket, false)?;
            sockopt::set_ip_multicast_ttl(&socket, daemon.ttl.into())?;
            // Datagrams may be larger than the link's packets.
            sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
        }
        IpAddr::V6(_) => {
            sockopt::set_ipv6_multicast_if(&socket, index)?;
            sockopt::set_ipv6_multicast_loop(&socket, false)?;
            sockopt::set_ipv6_multicast_hops(&socket, daemon.ttl.into())?;
        }
    }
    if buffer_bytes > 0 {
        sockopt::set_socket_send_buffer_size(&socket, buffer_bytes)?;
    }
    Ok(socket)
}

/// A socket to receive with what comes for the `number`th port by this interface.
///
/// # Errors
/// What the kernel says.
pub fn receiver(
    daemon: &SyncDaemon,
    index: u32,
    number: usize,
    buffer_bytes: usize,
) -> io::Result<UdpSocket> {
    let socket = open(daemon.group)?;
    // Another daemon of this machine, in whatever program, may be told the same.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if buffer_bytes > 0 {
        sockopt::set_socket_recv_buffer_size(&socket, buffer_bytes)?;
    }
    bind(&socket, &destination(daemon, index, number))?;
    match daemon.group {
        IpAddr::V4(group) => sockopt::set_ip_add_membership_with_ifindex(
            &socket,
            &group,
            &Ipv4Addr::UNSPECIFIED,
            index,
        )?,
        IpAddr::V6(group) => join_v6(&socket, &group, index)?,
    }
    Ok(socket)
}

fn join_v6(socket: &UdpSocket, group: &Ipv6Addr, index: u32) -> io::Result<()> {
    Ok(sockopt::set_ipv6_add_membership(socket, group, index)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On the loopback, which any machine has; what is sent with loop off comes to nobody there, so it is only looked at that
    /// sockets are what they are to be.
    #[test]
    fn sockets_are_of_their_interface_and_group() {
        let index = index_of("lo").unwrap();
        assert!(is_no_interface(&index_of("no-such-one").unwrap_err()));
        assert!(mtu_of("lo") >= MTU);
        assert_eq!(mtu_of("no-such-one"), MTU);
        let mut daemon = SyncDaemon::new("lo", 7);
        (daemon.ttl, daemon.port) = (9, 18848);
        let socket = sender(&daemon, index, 65_536).unwrap();
        assert_eq!(sockopt::ip_multicast_ttl(&socket).unwrap(), 9);
        assert!(!sockopt::ip_multicast_loop(&socket).unwrap());
        assert!(sockopt::socket_send_buffer_size(&socket).unwrap() >= 65_536);
        for group in ["239.255.18.48", "ff02::1848"] {
            daemon.group = group.parse().unwrap();
            let socket = receiver(&daemon, index, 3, 0).unwrap();
            let local = socket.local_addr().unwrap();
            assert_eq!((local.ip(), local.port()), (daemon.group, 18851));
            // A second one has it, too.
            receiver(&daemon, index, 3, 0).unwrap();
        }
    }
}
