//! The real server's end of a tunnel: takes the outer headers off IP-in-IP, GRE and GUE packets.
//!
//! A real server behind an IPVS director has a `tunl0`, `gre0` or `fou` device for this; the lab must also run on kernels
//! without one. Raw sockets receive the protocols 4 (IPv4 inside) and 41 (IPv6 inside), RFC 2003, 2473 and 4213, and 47
//! (GRE, RFC 2784) over both families; a UDP socket receives GUE. A wrong checksum loses the packet: of UDP the kernel
//! sees to that. What was inside goes back to this machine's own kernel through another raw socket, as if it had come
//! from the network: its destination, the VIP, is an address of `lo`, and the loopback takes packets of 64 kB, so the
//! tunnel lowers nobody's MTU.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::thread;

use anyhow::Context as _;
use clap::Parser;
use pollux_engine::wire::checksum::Sum;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketType, ipproto};

/// Where GUE packets are taken.
const GUE_PORT: u16 = 5555;

/// Room for a burst of the lab's links; a lost packet would only cost a retransmission.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// Takes the outer headers off IP-in-IP, GRE and GUE packets and hands what was inside to this machine's kernel.
#[derive(Parser)]
struct Arguments {
    /// Created as soon as packets are taken.
    #[arg(long)]
    ready_file: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // A raw IPv6 socket leaves the outer header out.
    let whole: Unwrap = |packet| Some(packet);
    let gre_after_ipv4: Unwrap = |packet| gre(after_ipv4(packet)?);
    let tunnels = [
        Tunnel::raw(AddressFamily::INET, ipproto::IPIP, after_ipv4)?,
        Tunnel::raw(AddressFamily::INET, ipproto::IPV6, after_ipv4)?,
        Tunnel::raw(AddressFamily::INET, ipproto::GRE, gre_after_ipv4)?,
        Tunnel::raw(AddressFamily::INET6, ipproto::IPIP, whole)?,
        Tunnel::raw(AddressFamily::INET6, ipproto::IPV6, whole)?,
        Tunnel::raw(AddressFamily::INET6, ipproto::GRE, gre)?,
        Tunnel::gue()?,
    ];
    let path = &arguments.ready_file;
    File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    thread::scope(|scope| {
        for tunnel in &tunnels {
            scope.spawn(|| tunnel.run());
        }
    });
    Ok(())
}

/// Takes off what a socket leaves of the outer headers; none when they are broken.
type Unwrap = fn(&[u8]) -> Option<&[u8]>;

/// One kind of tunnel.
struct Tunnel {
    /// Receives packets of the tunnel.
    from_network: OwnedFd,
    unwrap: Unwrap,
    /// Take a whole inner packet of IPv4 or IPv6, header included, and route it by its destination.
    to_kernel: [OwnedFd; 2],
}

fn raw_socket(family: AddressFamily, protocol: Protocol) -> anyhow::Result<OwnedFd> {
    rustix::net::socket(family, SocketType::RAW, Some(protocol))
        .context("cannot open a raw socket (this needs CAP_NET_RAW)")
}

impl Tunnel {
    fn raw(outer: AddressFamily, protocol: Protocol, unwrap: Unwrap) -> anyhow::Result<Self> {
        Self::new(raw_socket(outer, protocol)?, unwrap)
    }

    /// Over both families. The kernel drops what has no UDP checksum over IPv6: there GUE needs one here.
    fn gue() -> anyhow::Result<Self> {
        let address = (Ipv6Addr::UNSPECIFIED, GUE_PORT);
        let socket =
            UdpSocket::bind(address).with_context(|| format!("cannot bind UDP port {GUE_PORT}"))?;
        Self::new(socket.into(), gue)
    }

    fn new(from_network: OwnedFd, unwrap: Unwrap) -> anyhow::Result<Self> {
        set_socket_recv_buffer_size_force(&from_network, RECEIVE_BUFFER_BYTES)
            .context("cannot enlarge the receive buffer (this needs CAP_NET_ADMIN)")?;
        Ok(Self {
            from_network,
            unwrap,
            to_kernel: [
                raw_socket(AddressFamily::INET, ipproto::RAW)?,
                raw_socket(AddressFamily::INET6, ipproto::RAW)?,
            ],
        })
    }

    fn run(&self) {
        let mut buffer = vec![0; 1 << 16];
        loop {
            if let Err(error) = self.pass_one(&mut buffer) {
                eprintln!("a packet was lost: {error:#}");
            }
        }
    }

    fn pass_one(&self, buffer: &mut [u8]) -> anyhow::Result<()> {
        let (_, length) = rustix::net::recv(&self.from_network, &mut *buffer, RecvFlags::empty())
            .context("cannot receive")?;
        let packet = buffer
            .get(..length)
            .context("longer than the longest packet")?;
        let inner = (self.unwrap)(packet).context("outer header broken")?;
        let destination = destination(inner).context("no IP packet inside")?;
        let [ipv4, ipv6] = &self.to_kernel;
        rustix::net::sendto(
            if destination.is_ipv4() { ipv4 } else { ipv6 },
            inner,
            SendFlags::empty(),
            &SocketAddr::new(destination, 0),
        )
        .with_context(|| format!("cannot hand a packet to {destination} on"))?;
        Ok(())
    }
}

/// A raw IPv4 socket gives the outer header along.
fn after_ipv4(packet: &[u8]) -> Option<&[u8]> {
    let header_length = usize::from(packet.first()? & 0x0f) * 4;
    packet.get(header_length..)
}

/// Behind a GRE header without options, or with the checksum, RFC 2784.
fn gre(packet: &[u8]) -> Option<&[u8]> {
    let inner = match packet.get(..2)? {
        [0x00, 0] => packet.get(4..)?,
        [0x80, 0] if Sum::of(packet).finish() == 0 => packet.get(8..)?,
        _ => return None,
    };
    let version = match packet.get(2..4)? {
        [0x08, 0x00] => 4,
        [0x86, 0xdd] => 6,
        _ => return None,
    };
    (inner.first()? >> 4 == version).then_some(inner)
}

/// Behind a GUE header without options, draft-ietf-intarea-gue-09.
fn gue(packet: &[u8]) -> Option<&[u8]> {
    let (header, inner) = packet.split_first_chunk()?;
    let version = match header {
        [0, 4, 0, 0] => 4,
        [0, 41, 0, 0] => 6,
        _ => return None,
    };
    (inner.first()? >> 4 == version).then_some(inner)
}

/// Where the inner packet is going, by its own version.
fn destination(inner: &[u8]) -> Option<IpAddr> {
    match inner.first()? >> 4 {
        4 => inner
            .get(16..20)?
            .try_into()
            .ok()
            .map(|bytes: [u8; 4]| Ipv4Addr::from(bytes).into()),
        6 => inner
            .get(24..40)?
            .try_into()
            .ok()
            .map(|bytes: [u8; 16]| Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_an_ipv4_header_with_options() {
        let mut packet = vec![0x46; 24];
        packet.extend([1, 2, 3]);
        assert_eq!(after_ipv4(&packet), Some(&[1, 2, 3][..]));
        assert_eq!(after_ipv4(&packet[..23]), None);
    }

    #[test]
    fn strips_gre_and_looks_at_its_checksum() {
        assert_eq!(gre(&[0, 0, 8, 0, 0x45, 1]), Some(&[0x45, 1][..]));
        assert_eq!(gre(&[0, 0, 0x86, 0xdd, 0x60]), Some(&[0x60][..]));
        // 0x8000 + 0x0800 + 0x4501 = 0xcd01, and its complement is 0x32fe.
        let mut summed = [0x80, 0, 8, 0, 0x32, 0xfe, 0, 0, 0x45, 1];
        assert_eq!(gre(&summed), Some(&[0x45, 1][..]));
        summed[9] = 2;
        assert_eq!(gre(&summed), None, "wrong checksum");
        assert_eq!(gre(&[0, 0, 8, 0, 0x60]), None, "not what is announced");
        assert_eq!(gre(&[0x20, 0, 8, 0, 0, 0, 0, 1, 0x45]), None, "a key");
        assert_eq!(gre(&[0, 0, 8, 0]), None);
    }

    #[test]
    fn strips_gue() {
        assert_eq!(gue(&[0, 4, 0, 0, 0x45, 1]), Some(&[0x45, 1][..]));
        assert_eq!(gue(&[0, 41, 0, 0, 0x60]), Some(&[0x60][..]));
        assert_eq!(gue(&[0, 4, 0, 0, 0x60]), None, "not what is announced");
        assert_eq!(gue(&[1, 4, 0, 0, 0, 0, 0, 0, 0x45]), None, "options");
        assert_eq!(gue(&[0, 4, 0]), None);
    }

    #[test]
    fn reads_the_destination_of_both_families() {
        let mut ipv4 = [0u8; 20];
        ipv4[0] = 0x45;
        ipv4[16..].copy_from_slice(&[198, 51, 100, 1]);
        assert_eq!(destination(&ipv4), Some(IpAddr::from([198, 51, 100, 1])));
        let mut ipv6 = [0u8; 40];
        ipv6[0] = 0x60;
        ipv6[39] = 1;
        assert_eq!(destination(&ipv6), Some(IpAddr::from(Ipv6Addr::LOCALHOST)));
        assert_eq!(destination(&ipv6[..39]), None);
        assert_eq!(destination(&[]), None);
    }
}
