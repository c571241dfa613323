//! Random configurations that change while clients send: no packet goes to a server that its service does not have at
//! that moment, no new connection to one that is drained, and no connection from its server to another one. Nothing that
//! goes to a client names a server.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use pollux_engine::connection::Direction;
use pollux_engine::service::{DestinationSpec, ServiceIdentity};
use pollux_engine::wire::protocol;
use pollux_tests::fuzz::choices::Seeded;
use pollux_tests::golden::command::{Command, parse};
use pollux_tests::golden::director::{Director, Outcome};
use pollux_tests::golden::packet::{self, ethernet};
use pollux_tests::golden::topology::{GATEWAY_MAC, SERVERS, mac, server_mac, server_v4, server_v6};
use pollux_tests::golden::trace::Wire;
use pollux_tests::sound;

const LIVES: u64 = 500;
const STEPS: u32 = 400;

/// The letter of the protocol, and the virtual address.
const SERVICES: [(&str, &str); 4] = [
    ("t", "192.0.2.100:80"),
    ("u", "192.0.2.100:53"),
    ("t", "[2001:db8::100]:80"),
    ("u", "[2001:db8::100]:53"),
];
const SCHEDULERS: [&str; 18] = [
    "rr",
    "wrr",
    "lc",
    "wlc",
    "lblc",
    "lblcr",
    "dh",
    "sh",
    "sh -b sh-fallback,sh-port",
    "sed",
    "nq",
    "fo",
    "ovf",
    "mh",
    "mh -b mh-fallback",
    "twos",
    "rr -p 30",
    "mh -p 5",
];
const SETTINGS: [&str; 6] = [
    "sysctl -w net.ipv4.vs.expire_nodest_conn=1",
    "sysctl -w net.ipv4.vs.expire_nodest_conn=0",
    "sysctl -w net.ipv4.vs.expire_quiescent_template=1",
    "sysctl -w net.ipv4.vs.expire_quiescent_template=0",
    "sysctl -w net.ipv4.vs.conn_reuse_mode=0",
    "sysctl -w net.ipv4.vs.conn_reuse_mode=1",
];
/// Of TCP segments from clients: SYN more often than all else.
const FLAGS: [u8; 8] = [2, 2, 2, 16, 16, 24, 17, 4];

/// What it takes to say that something was shown.
#[derive(Debug, Default)]
struct Seen {
    to_servers: u32,
    to_clients: u32,
    new: u32,
    /// Packets of connections whose server was gone, that went nowhere.
    orphans: u32,
}

/// What makes a flow: protocol, client, virtual address.
type Flow = (u8, SocketAddr, SocketAddr);

struct Life {
    director: Director,
    seeded: Seeded,
    seen: Seen,
}

fn is_served(identity: &ServiceIdentity, flow: &Flow) -> bool {
    let (flow_protocol, _, virtual_address) = *flow;
    matches!(*identity, ServiceIdentity::Address { protocol, address, port }
        if protocol == flow_protocol && SocketAddr::new(address, port) == virtual_address)
}

/// Where a frame of a flow went: the server's address, and its port where the packet says it.
fn target(flow: &Flow, frame: &[u8]) -> (IpAddr, Option<u16>) {
    let outer = sound::read(frame).unwrap();
    if outer.destination == flow.2 {
        let by_mac = (1..=SERVERS).find(|server| frame.starts_with(&server_mac(*server)));
        let server = by_mac.expect("to a server's MAC address");
        let own = if flow.2.is_ipv4() {
            server_v4
        } else {
            server_v6
        };
        return (own(server), None);
    }
    let address = outer.destination.ip();
    match outer.protocol {
        protocol::IPIP | protocol::IPV6 | protocol::GRE => (address, None),
        _ => (address, Some(outer.destination.port())),
    }
}

impl Life {
    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.seeded.below(all.len())]
    }

    /// Refused or not: both are answers.
    fn command(&mut self, line: &str) -> bool {
        match parse(line) {
            Ok(Command::Change(change)) => self.director.change(&change).is_ok(),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn administer(&mut self) {
        let (letter, vip) = self.pick(&SERVICES);
        let is_v4 = !vip.starts_with('[');
        let number = u8::try_from(1 + self.seeded.below(4)).unwrap();
        let own = if is_v4 { server_v4 } else { server_v6 };
        let port = vip.rsplit(':').next().unwrap();
        let nat_port = self.pick(&[port, "81"]);
        let endpoint = |port: &str| {
            let port: u16 = port.parse().unwrap();
            SocketAddr::new(own(number), port).to_string()
        };
        let weight = self.seeded.below(4);
        let (server, method) = match self.seeded.below(4) {
            0 | 1 => (endpoint(nat_port), "-m"),
            2 => (endpoint(port), self.pick(&["-i", "-i --tun-type gre"])),
            _ => (endpoint(port), "-g"),
        };
        let limits = self.pick(&["", "", "-x 3 -y 1"]);
        match self.seeded.below(12) {
            0..=3 => {
                let line =
                    format!("ipvsadm -a -{letter} {vip} -r {server} {method} -w {weight} {limits}");
                self.command(line.trim());
            }
            4..=6 => {
                let line = format!("ipvsadm -d -{letter} {vip} -r {server}");
                self.command(&line);
            }
            7..=8 => {
                let line =
                    format!("ipvsadm -e -{letter} {vip} -r {server} {method} -w {weight} {limits}");
                self.command(line.trim());
            }
            9 => {
                let scheduler = self.pick(&SCHEDULERS);
                self.command(&format!("ipvsadm -E -{letter} {vip} -s {scheduler}"));
            }
            10 => {
                let setting = self.pick(&SETTINGS);
                self.command(setting);
            }
            _ if self.seeded.below(4) == 0 => {
                self.command(&format!("ipvsadm -D -{letter} {vip}"));
            }
            _ => {
                let scheduler = self.pick(&SCHEDULERS);
                self.command(&format!("ipvsadm -A -{letter} {vip} -s {scheduler}"));
            }
        }
    }

    fn flow(&mut self) -> Flow {
        let (letter, vip) = self.pick(&SERVICES);
        let vip: SocketAddr = vip.parse().unwrap();
        let number = 1 + self.seeded.below(4);
        let client: IpAddr = if vip.is_ipv4() {
            format!("198.51.100.{number}").parse().unwrap()
        } else {
            format!("2001:db8:c::{number}").parse().unwrap()
        };
        let port = 4000 + u16::try_from(self.seeded.below(3)).unwrap();
        let number = if letter == "t" {
            protocol::TCP
        } else {
            protocol::UDP
        };
        (number, SocketAddr::new(client, port), vip)
    }

    /// The server of the connection that the flow has, if it has one.
    fn bound_to(&self, flow: &Flow) -> Option<DestinationSpec> {
        let found = self.director.connections().find(|connection| {
            let key = connection.key(Direction::Inbound);
            !connection.is_template() && (key.protocol, key.source(), key.destination()) == *flow
        })?;
        let destination = self.director.snapshot().destination(found.destination())?;
        Some(destination.spec.clone())
    }

    /// The servers of the flow's service, as configured now.
    fn servers(&self, flow: &Flow) -> Vec<DestinationSpec> {
        let services = self.director.administrator.services();
        services
            .iter()
            .filter(|service| is_served(&service.identity, flow))
            .flat_map(|service| service.destinations.clone())
            .collect()
    }

    fn client_sends(&mut self) {
        let flow = self.flow();
        let (number, client, vip) = flow;
        let flags = self.pick(&FLAGS);
        let segment = if number == protocol::TCP {
            packet::tcp_segment(client, vip, flags, &[0; 20])
        } else {
            packet::udp_datagram(client, vip, &[0; 20])
        };
        let sent = packet::ip(client, vip, number, &segment);
        let bound = self.bound_to(&flow);
        let servers = self.servers(&flow);
        let sent = ethernet(mac(Wire::Cl), GATEWAY_MAC, &sent);
        let outcome = self.director.receive(Wire::Cl, &sent);
        let is = |server: &DestinationSpec, other: &DestinationSpec| {
            (server.address, server.port) == (other.address, other.port)
        };
        let is_there = |server: &DestinationSpec| servers.iter().any(|other| is(server, other));
        let Outcome::Out(Wire::Rs, frame) = outcome else {
            if bound.is_some_and(|server| !is_there(&server)) {
                self.seen.orphans += 1;
            }
            return;
        };
        self.seen.to_servers += 1;
        let (address, port) = target(&flow, &frame);
        let fits = |server: &DestinationSpec| {
            server.address == address && port.is_none_or(|port| server.port == port)
        };
        let known = servers.iter().any(&fits);
        assert!(
            known,
            "{flow:?} went to {address} {port:?}, of {servers:#?}"
        );
        match bound {
            Some(bound) => {
                // A SYN may begin a new connection in the place of one that is over.
                let goes_on = number != protocol::TCP || flags & 2 == 0;
                let stays = fits(&bound) && is_there(&bound);
                // So does any packet of one whose server went before that was set.
                let settings = self.director.snapshot().settings();
                let is_over = settings.expire_nodest_conn && !is_there(&bound);
                assert!(
                    stays || !goes_on || is_over,
                    "{flow:?}: from {bound:?} to {address} {port:?}"
                );
            }
            None => {
                self.seen.new += 1;
                // Only a template leads to a server that takes no connections.
                let takes = servers
                    .iter()
                    .any(|server| fits(server) && server.weight > 0);
                assert!(takes || self.is_persistent(&flow), "{flow:?} to {address}");
            }
        }
    }

    fn is_persistent(&self, flow: &Flow) -> bool {
        let mut services = self.director.administrator.services().iter();
        services.any(|service| is_served(&service.identity, flow) && service.persistence.is_some())
    }

    /// Any server answers any client, of a connection or not, also when it is no server any more.
    fn server_sends(&mut self) {
        let flow = self.flow();
        let (number, client, vip) = flow;
        let own = if vip.is_ipv4() { server_v4 } else { server_v6 };
        let chosen = u8::try_from(1 + self.seeded.below(4)).unwrap();
        let bound = self.bound_to(&flow).filter(|_| self.seeded.below(4) > 0);
        let server = bound
            .as_ref()
            .and_then(|bound| (1..=SERVERS).find(|server| own(*server) == bound.address));
        let server = server.unwrap_or(chosen);
        let port = bound.map_or_else(|| self.pick(&[vip.port(), 81]), |bound| bound.port);
        let from = SocketAddr::new(own(server), port);
        let answer = if self.seeded.below(6) == 0 {
            // Port unreachable: the quoted packet is the one that went to the server.
            let segment = packet::udp_datagram(client, from, &[0; 20]);
            let quoted = packet::ip(client, from, number, &segment);
            let kind_and_code = if vip.is_ipv4() { [3, 3] } else { [1, 4] };
            let (icmp, message) = packet::icmp_message(from, client, kind_and_code, 0, &quoted);
            packet::ip(from, client, icmp, &message)
        } else if number == protocol::TCP {
            let flags = self.pick(&[18, 16, 24, 17, 4]);
            let segment = packet::tcp_segment(from, client, flags, &[0; 20]);
            packet::ip(from, client, number, &segment)
        } else {
            let datagram = packet::udp_datagram(from, client, &[0; 20]);
            packet::ip(from, client, number, &datagram)
        };
        let sent = ethernet(mac(Wire::Rs), server_mac(server), &answer);
        if let Outcome::Out(Wire::Cl, frame) = self.director.receive(Wire::Rs, &sent) {
            self.seen.to_clients += 1;
            let address = match own(server) {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            let names_it = frame.windows(address.len()).any(|bytes| bytes == address);
            assert!(
                !names_it,
                "{from} shows in what goes to {client}: {frame:02x?}"
            );
        }
    }
}

#[test]
fn packets_go_to_servers_of_their_service_only() {
    let mut total = Seen::default();
    for seed in 0..LIVES {
        let mut life = Life {
            director: Director::default(),
            seeded: Seeded(seed),
            seen: Seen::default(),
        };
        for (letter, vip) in SERVICES {
            let scheduler = life.pick(&SCHEDULERS);
            life.command(&format!("ipvsadm -A -{letter} {vip} -s {scheduler}"));
        }
        for _ in 0..30 {
            life.administer();
        }
        for _ in 0..STEPS {
            match life.seeded.below(20) {
                0..=12 => life.client_sends(),
                13..=16 => life.server_sends(),
                17..=18 => life.administer(),
                _ => {
                    let passed = life.pick(&[0, 1, 4, 15, 61, 130]);
                    life.director.sleep(passed);
                }
            }
        }
        life.director.check().unwrap();
        let seen = life.seen;
        total.to_servers += seen.to_servers;
        total.to_clients += seen.to_clients;
        total.new += seen.new;
        total.orphans += seen.orphans;
    }
    println!("{total:?}");
    let shown = [total.to_servers, total.to_clients, total.new, total.orphans];
    let counts: BTreeMap<_, _> = ["to servers", "to clients", "new", "orphans"]
        .into_iter()
        .zip(shown)
        .collect();
    assert!(shown.iter().all(|count| *count > 500), "{counts:?}");
}
