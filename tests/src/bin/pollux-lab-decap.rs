//! The real server's end of a tunnel: takes the outer header off IP-in-IP packets.
//!
//! A real server behind an IPVS director has a `tunl0` device for this; the lab must also run on kernels without one.
//! Raw sockets receive the protocols 4 (IPv4 inside) and 41 (IPv6 inside) over both families, RFC 2003, 2473 and
//! 4213. What was inside goes back to this machine's own kernel through another raw socket, as if it had come from the
//! network: its destination, the VIP, is an address of `lo`, and the loopback takes packets of 64 kB, so the
//! tunnel lowers nobody's MTU.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::thread;

use anyhow::Context as _;
use clap::Parser;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketType, ipproto};

/// Room for a burst of the lab's links; a lost packet would only cost a retransmission.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// Takes the outer header off IP-in-IP packets and hands what was inside to this machine's kernel.
#[derive(Parser)]
struct Arguments {
    /// Created as soon as packets are taken.
    #[arg(long)]
    ready_file: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let tunnels = [
        Tunnel::open(AddressFamily::INET, ipproto::IPIP)?,
        Tunnel::open(AddressFamily::INET, ipproto::IPV6)?,
        Tunnel::open(AddressFamily::INET6, ipproto::IPIP)?,
        Tunnel::open(AddressFamily::INET6, ipproto::IPV6)?,
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

/// One outer family and one inner protocol.
struct Tunnel {
    outer: AddressFamily,
    /// Receives packets of the tunnel.
    from_network: OwnedFd,
    /// Takes a whole inner packet, header included, and routes it by its destination.
    to_kernel: OwnedFd,
}

impl Tunnel {
    fn open(outer: AddressFamily, inner: Protocol) -> anyhow::Result<Self> {
        let raw = |family, protocol| {
            rustix::net::socket(family, SocketType::RAW, Some(protocol))
                .context("cannot open a raw socket (this needs CAP_NET_RAW)")
        };
        let inner_family = if inner == ipproto::IPIP {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let from_network = raw(outer, inner)?;
        set_socket_recv_buffer_size_force(&from_network, RECEIVE_BUFFER_BYTES)
            .context("cannot enlarge the receive buffer (this needs CAP_NET_ADMIN)")?;
        Ok(Self {
            outer,
            from_network,
            to_kernel: raw(inner_family, ipproto::RAW)?,
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
        let inner = inner_packet(self.outer, packet).context("outer header broken")?;
        let destination = destination(inner).context("no IP packet inside")?;
        rustix::net::sendto(
            &self.to_kernel,
            inner,
            SendFlags::empty(),
            &SocketAddr::new(destination, 0),
        )
        .with_context(|| format!("cannot hand a packet to {destination} on"))?;
        Ok(())
    }
}

/// A raw IPv4 socket gives the outer header along, a raw IPv6 socket does not.
fn inner_packet(outer: AddressFamily, packet: &[u8]) -> Option<&[u8]> {
    if outer == AddressFamily::INET6 {
        return Some(packet);
    }
    let header_length = usize::from(packet.first()? & 0x0f) * 4;
    packet.get(header_length..)
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
        assert_eq!(
            inner_packet(AddressFamily::INET, &packet),
            Some(&[1, 2, 3][..])
        );
        assert_eq!(
            inner_packet(AddressFamily::INET6, &packet),
            Some(&packet[..])
        );
        assert_eq!(inner_packet(AddressFamily::INET, &packet[..23]), None);
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
