//! Services and servers made up, and what is changed of them while connections live.

use std::net::{IpAddr, SocketAddr};

use pollux_engine::wire::protocol;

use super::kinds::Kind;
use super::pause::ESTIMATOR;
use super::world::World;
use crate::golden::topology::{server_v4, server_v6};

const VIPS: [[&str; 2]; 2] = [
    ["192.0.2.100", "203.0.113.5"],
    ["2001:db8::100", "2001:db8:f::5"],
];
const NETWORKS: [&str; 2] = ["203.0.113.0/24", "2001:db8:f::/64"];
const PORTS: [u16; 3] = [80, 443, 53];
const SCHEDULERS: [&str; 20] = [
    "rr",
    "wrr",
    "lc",
    "wlc",
    "lblc",
    "lblcr",
    "dh",
    "sh",
    "sh -b sh-port",
    "sh -b sh-fallback",
    "sh -b sh-fallback,sh-port",
    "sed",
    "nq",
    "fo",
    "ovf",
    "mh",
    "mh -b mh-port",
    "mh -b mh-fallback",
    "mh -b mh-fallback,mh-port",
    "wlc",
];
const TUNNELS: [&str; 8] = [
    "",
    "",
    " --tun-type gre",
    " --tun-type gre --tun-csum",
    " --tun-type gue --tun-port 5555",
    " --tun-type gue --tun-port 6080 --tun-nocsum",
    " --tun-type gue --tun-port 6080 --tun-csum",
    " --tun-type gue --tun-port 5555 --tun-remcsum",
];

/// A service, there or deleted.
#[derive(Debug, Clone)]
pub struct Service {
    /// How commands name it: `-t 192.0.2.100:80`.
    pub name: String,
    /// Whether its addresses are IPv6.
    pub is_v6: bool,
    /// Where clients send to: protocol, address and port.
    pub targets: Vec<(u8, SocketAddr)>,
    /// Its servers, there or deleted.
    pub servers: Vec<Server>,
    /// Whether it has a mark in place of an address.
    pub is_marked: bool,
    /// What its servers speak.
    pub kind: Kind,
    port: u16,
    method: Method,
    /// What it was last added or edited with.
    options: String,
}

/// A server of a service.
#[derive(Debug, Clone)]
pub struct Server {
    /// Which of the lab's.
    pub number: u8,
    /// Its address and port.
    pub address: SocketAddr,
    /// What it was last added or edited with.
    options: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Masquerade,
    Tunnel,
    DirectRoute,
}

/// Adds a service and its servers; another one than those there are.
pub fn add_service(world: &mut World, others: &[Service]) -> Option<Service> {
    let mut service = make_up(world, others);
    if others.iter().any(|other| other.name == service.name) {
        return None;
    }
    service.options = options(world, &service);
    if service.is_marked {
        add_marks(world, &mut service, others.len() + 1);
    }
    world.command(&format!("ipvsadm -A {}{}", service.name, service.options));
    for number in 1..=2 + u8::try_from(world.chance.below(4)).unwrap() {
        if !world.chance.one_in(6) {
            add_server(world, &mut service, number);
        }
    }
    Some(service)
}

fn make_up(world: &mut World, others: &[Service]) -> Service {
    let mut set = world.plan.sysctls.iter();
    let ends_without_server = set.any(|setting| setting.ends_with("expire_nodest_conn=1"));
    let chance = &mut world.chance;
    let is_v6 = chance.one_in(3);
    let family = usize::from(is_v6);
    let vip: IpAddr = VIPS[family][chance.below(2)].parse().unwrap();
    let port = if chance.one_in(8) {
        0
    } else {
        chance.of(&PORTS)
    };
    let (option, number) = chance.of(&[
        ("-t", protocol::TCP),
        ("-t", protocol::TCP),
        ("-t", protocol::TCP),
        ("-u", protocol::UDP),
        ("-u", protocol::UDP),
        ("--sctp-service", protocol::SCTP),
    ]);
    let kind = match Kind::any(chance) {
        // In which order the kernel ends a control connection, its data's and a template is that of its hash table.
        Kind::Ftp if ends_without_server => Kind::Plain,
        kind => kind,
    };
    let (option, number, port) = kind.service().unwrap_or((option, number, port));
    let is_marked = kind == Kind::Plain && chance.one_in(6);
    let mut method = chance.of(&[
        Method::Masquerade,
        Method::Masquerade,
        Method::Tunnel,
        Method::DirectRoute,
    ]);
    if kind == Kind::Ftp {
        method = Method::Masquerade;
    }
    let name = if is_marked {
        format!("-f {}{}", others.len() + 1, if is_v6 { " -6" } else { "" })
    } else {
        format!("{option} {}", SocketAddr::new(vip, port))
    };
    let ports: &[u16] = if port == 0 { &[80, 443, 9999] } else { &[port] };
    let targets = ports
        .iter()
        .map(|port| (number, SocketAddr::new(vip, *port)));
    Service {
        name,
        is_v6,
        targets: targets.collect(),
        servers: Vec::new(),
        is_marked,
        kind,
        port: if is_marked { 0 } else { port },
        method,
        options: String::new(),
    }
}

/// Rules that give packets the service's mark.
fn add_marks(world: &mut World, service: &mut Service, mark: usize) {
    let family = usize::from(service.is_v6);
    let table = ["ip", "ip6"][family];
    let network = NETWORKS[family];
    let what = world.chance.of(&[
        "",
        " tcp dport { 80, 443 }",
        " tcp dport 80-90",
        " udp dport 53",
        " meta l4proto udp",
    ]);
    let chain = "{ type filter hook prerouting priority -150; }";
    world.command(&format!(
        "nft 'add table {table} t; add chain {table} t p {chain}; \
         add rule {table} t p {table} daddr {network}{what} meta mark set {mark}'"
    ));
    let addresses: [&str; 2] = [
        ["203.0.113.5", "203.0.113.9"],
        ["2001:db8:f::5", "2001:db8:f::9"],
    ][family];
    let ends = [
        (protocol::TCP, 80),
        (protocol::TCP, 443),
        (protocol::UDP, 53),
        (protocol::TCP, 90),
    ];
    service.targets = addresses
        .iter()
        .flat_map(|address| {
            let address: IpAddr = address.parse().unwrap();
            ends.map(|(protocol, port)| (protocol, SocketAddr::new(address, port)))
        })
        .collect();
}

/// Scheduler, persistence and so on.
fn options(world: &mut World, service: &Service) -> String {
    let chance = &mut world.chance;
    let mut options = format!(" -s {}", chance.of(&SCHEDULERS));
    let port_is_open = service.port == 0 && !service.is_marked;
    let is_sip = service.kind == Kind::Sip;
    if port_is_open || is_sip || chance.one_in(4) {
        options += &format!(" -p {}", chance.of(&[50, 100, 360]));
        if is_sip {
            options += " --pe sip";
        }
        if chance.one_in(2) {
            options += match service.is_v6 {
                true => chance.of(&[" -M 64", " -M 48", " -M 128"]),
                false => chance.of(&[
                    " -M 255.255.255.0",
                    " -M 255.255.0.0",
                    " -M 255.255.255.255",
                ]),
            };
        }
    }
    let is_udp = service
        .targets
        .iter()
        .all(|(number, _)| *number == protocol::UDP);
    let may_be_one_packet = matches!(service.kind, Kind::Plain | Kind::Sip);
    if (is_udp || service.is_marked) && may_be_one_packet && chance.one_in(4) {
        options += " -o";
    }
    options
}

fn server_options(world: &mut World, method: Method) -> String {
    let chance = &mut world.chance;
    let mut options = match method {
        Method::Masquerade => " -m".to_owned(),
        Method::Tunnel => format!(" -i{}", chance.of(&TUNNELS)),
        Method::DirectRoute => " -g".to_owned(),
    };
    let weight = chance.of(&[1, 1, 1, 1, 2, 3, 5, 100, 0]);
    options += &format!(" -w {weight}");
    if chance.one_in(6) {
        options += chance.of(&[" -x 3", " -x 4 -y 2", " -x 1", " -x 8 -y 8"]);
    }
    options
}

fn method_of(world: &mut World, service: &Service, server: IpAddr) -> Method {
    let mut method = if world.chance.one_in(10) {
        let methods = [Method::Masquerade, Method::Tunnel, Method::DirectRoute];
        world.chance.of(&methods)
    } else {
        service.method
    };
    // Only tunnels lead to servers of the other family.
    let is_other_family = server.is_ipv6() != service.is_v6;
    if is_other_family {
        method = Method::Tunnel;
    }
    // The kernel keeps one route for all methods of a server. One that was looked up for another method leads direct
    // routing astray: it asks on the link who has the virtual address.
    let is_direct = method == Method::DirectRoute;
    let key = (service.name.clone(), server);
    let was_direct = *world.direct.entry(key).or_insert(is_direct);
    match (is_direct, was_direct) {
        (false, true) => Method::DirectRoute,
        (true, false) if is_other_family => Method::Tunnel,
        (true, false) => Method::Masquerade,
        _ => method,
    }
}

/// Adds or edits a server; whether that was taken.
fn put_server(
    world: &mut World,
    verb: &str,
    service: &Service,
    server: &Server,
    options: &str,
) -> bool {
    let name = &service.name;
    world.command(&format!(
        "ipvsadm {verb} {name} -r {}{options}",
        server.address
    ))
}

/// Adds a server, or tries to.
fn add_server(world: &mut World, service: &mut Service, number: u8) {
    let crosses = service.method == Method::Tunnel && world.chance.one_in(6);
    let is_v6 = service.is_v6 != crosses;
    let address = if is_v6 {
        server_v6(number)
    } else {
        server_v4(number)
    };
    let method = method_of(world, service, address);
    let port =
        if method == Method::Masquerade && service.kind == Kind::Plain && world.chance.one_in(2) {
            8080
        } else {
            service.port
        };
    let server = Server {
        number,
        address: SocketAddr::new(address, port),
        options: server_options(world, method),
    };
    if put_server(world, "-a", service, &server, &server.options) {
        service.servers.push(server);
    }
}

/// One change of what is there.
pub fn change(world: &mut World, services: &mut Vec<Service>) {
    if world.chance.one_in(8) && services.len() < 5 {
        let added = add_service(world, services);
        services.extend(added);
        return;
    }
    if services.is_empty() {
        return;
    }
    let at = world.chance.below(services.len());
    let service = &mut services[at];
    match world.chance.below(16) {
        0..=6 => edit_server(world, service),
        7..=9 => delete_server(world, service),
        10 | 11 => {
            let number = 1 + u8::try_from(world.chance.below(6)).unwrap();
            add_server(world, service, number);
        }
        12 | 13 => {
            // Now and then to what it is already.
            if !world.chance.one_in(4) {
                service.options = options(world, service);
            }
            world.command(&format!("ipvsadm -E {}{}", service.name, service.options));
        }
        14 => delete_service(world, service),
        _ => refused(world, service),
    }
}

fn some_server(world: &mut World, service: &Service) -> Option<Server> {
    (!service.servers.is_empty()).then(|| world.chance.of(&service.servers))
}

/// Edits a server, now and then to what it is already.
fn edit_server(world: &mut World, service: &mut Service) {
    if service.servers.is_empty() {
        return;
    }
    let at = world.chance.below(service.servers.len());
    let server = service.servers[at].clone();
    if world.chance.one_in(5) {
        put_server(world, "-e", service, &server, &server.options);
        return;
    }
    let method = method_of(world, service, server.address.ip());
    let options = server_options(world, method);
    if put_server(world, "-e", service, &server, &options) {
        service.servers[at].options = options;
    }
}

/// Deletes a server, and often brings it back at once, or after packets.
fn delete_server(world: &mut World, service: &mut Service) {
    let Some(server) = some_server(world, service) else {
        return;
    };
    world.command(&format!(
        "ipvsadm -d {} -r {}",
        service.name, server.address
    ));
    service
        .servers
        .retain(|other| other.address != server.address);
    if world.chance.one_in(3) {
        let method = method_of(world, service, server.address.ip());
        let options = server_options(world, method);
        if put_server(world, "-a", service, &server, &options) {
            service.servers.push(Server { options, ..server });
        }
    }
}

/// Deletes a service, and often brings it back with some of its servers.
fn delete_service(world: &mut World, service: &mut Service) {
    // What the estimator has not seen yet it counts for the next service.
    if !world.pause(&ESTIMATOR) {
        return;
    }
    world.command(&format!("ipvsadm -D {}", service.name));
    if world.chance.one_in(3) {
        return;
    }
    world.command(&format!("ipvsadm -A {}{}", service.name, service.options));
    for server in std::mem::take(&mut service.servers) {
        if world.chance.one_in(3) {
            continue;
        }
        let method = method_of(world, service, server.address.ip());
        let options = server_options(world, method);
        put_server(world, "-a", service, &server, &options);
        service.servers.push(Server { options, ..server });
    }
}

/// What kernel and engine refuse.
fn refused(world: &mut World, service: &Service) {
    let name = &service.name;
    let line = match world.chance.below(4) {
        0 => format!("ipvsadm -A {name} -s rr"),
        1 => format!(
            "ipvsadm -d {name} -r {}",
            if service.is_v6 {
                "[2001:db8:1::77]:80"
            } else {
                "10.1.0.77:80"
            }
        ),
        2 => "ipvsadm -D -t 192.0.2.77:80".to_owned(),
        _ => format!("ipvsadm -E {}", "-u 192.0.2.77:80 -s rr"),
    };
    world.command(&line);
}
