//! ICMP: errors about packets that were delivered, about none, and echoes.

use std::net::SocketAddr;

use super::conversation::Flow;
use super::segment;
use super::world::World;
use crate::golden::packet;
use crate::golden::topology::{server_v4, server_v6};

/// An error about the last packet of a flow that a server or the client got, from whoever got it or from a router on the
/// way.
pub fn error(world: &mut World, flow: &Flow) {
    let to_server = world.chance.one_in(2);
    let Some(delivered) = &flow.delivered[usize::from(!to_server)] else {
        return;
    };
    let Some((from, to, _)) = segment::ends(delivered) else {
        return;
    };
    let is_v4 = from.is_ipv4();
    let mut quoted = delivered.clone();
    if world.chance.one_in(2) {
        // As little as RFC 792 asks for.
        let header = if is_v4 {
            usize::from(quoted[0] & 15) * 4
        } else {
            40
        };
        quoted.truncate(header + world.chance.of(&[4, 8, 8, 20]));
    }
    quoted.truncate(1200);
    let router = if is_v4 {
        "198.18.0.1"
    } else {
        "2001:db8:e::ff"
    };
    let (sender, source) = if to_server {
        let number = 1 + u8::try_from(world.chance.below(3)).unwrap();
        let own = if is_v4 {
            server_v4(number)
        } else {
            server_v6(number)
        };
        (Some(number), own)
    } else {
        (
            None,
            if world.chance.one_in(3) {
                router.parse().unwrap()
            } else {
                to.ip()
            },
        )
    };
    // What a tunnel's packet was too large for changes the kernel's routes: the traces of modes.json compare that.
    let is_translated = flow.server.is_some();
    let too_big = if is_v4 { (3, 4) } else { (2, 0) };
    let (kind, code) = if is_translated && world.chance.one_in(5) {
        too_big
    } else {
        world.chance.of(if is_v4 {
            &[
                (3, 1),
                (3, 3),
                (3, 0),
                (3, 13),
                (11, 0),
                (11, 1),
                (4, 0),
                (12, 0),
                (5, 1),
            ]
        } else {
            &[
                (1, 0),
                (1, 4),
                (3, 0),
                (3, 1),
                (4, 0),
                (4, 1),
                (1, 1),
                (127, 0),
                (1, 3),
            ]
        })
    };
    let rest = if (kind, code) == too_big {
        world.chance.of(&[0, 1280, 1400, 1492])
    } else {
        0
    };
    let source = SocketAddr::new(source, 0);
    let message = packet::icmp(source, from, kind, code, rest, &quoted);
    world.packet(sender, &message);
}

/// An echo to the virtual address, or an error about a flow that nobody knows.
pub fn stray(world: &mut World, flow: &Flow) {
    let (client, target) = (flow.client(), flow.target());
    let (echo, unreachable) = if client.is_ipv4() {
        ((8, 0), (3, 3))
    } else {
        ((128, 0), (1, 4))
    };
    let bytes = if world.chance.one_in(2) {
        packet::icmp(client, target, echo.0, echo.1, 0x0001_0001, b"ping")
    } else {
        let unknown = SocketAddr::new(client.ip(), 7);
        let quoted = packet::udp(target, unknown, b"nobody asked");
        packet::icmp(unknown, target, unreachable.0, unreachable.1, 0, &quoted)
    };
    world.packet(None, &bytes);
}

/// An error about a packet that the service's client or server might have sent, and that nobody knows: with `schedule_icmp`
/// a server is chosen for it.
pub fn scheduled(world: &mut World, flow: &Flow) {
    let client = SocketAddr::new(flow.client().ip(), 30_000 + world.chance.number() % 1000);
    let target = flow.target();
    let quoted = if world.chance.one_in(2) {
        packet::tcp(target, client, "A", b"unknown")
    } else {
        packet::udp(target, client, b"unknown")
    };
    let (kind, code) = if client.is_ipv4() {
        world.chance.of(&[(3, 1), (3, 3), (11, 0)])
    } else {
        world.chance.of(&[(1, 0), (1, 4), (3, 0)])
    };
    let message = packet::icmp(client, target, kind, code, 0, &quoted);
    world.packet(None, &message);
}

/// A packet of a server's that belongs to no connection.
pub fn unasked(world: &mut World, flow: &Flow) {
    let client = flow.client();
    let number = 1 + u8::try_from(world.chance.below(6)).unwrap();
    let address = if client.is_ipv4() {
        server_v4(number)
    } else {
        server_v6(number)
    };
    let port = world.chance.of(&[80, 8080, 53, 7]);
    let from = SocketAddr::new(address, port);
    let bytes = match world.chance.below(3) {
        0 => packet::udp(from, client, b"unasked"),
        1 => packet::tcp(from, client, "SA", b""),
        _ => packet::tcp(from, client, "A", b"unasked"),
    };
    world.packet(Some(number), &bytes);
}
