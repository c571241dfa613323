//! The commands of a scenario: what `ipvsadm` and `ip` were told, or that Pollux has no such feature yet.

use std::net::{IpAddr, SocketAddr};

use pollux_engine::connection::ForwardingMethod;
use pollux_engine::forward::tunnel::Encapsulation;
use pollux_engine::scheduler::{HashFlags, MaglevFlags, SchedulerKind};
use pollux_engine::wire::protocol;

/// A virtual service by what packets carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceId {
    /// IP protocol number.
    pub protocol: u8,
    /// Virtual address and port.
    pub address: SocketAddr,
}

/// A server as given to `ipvsadm -a` or `-e`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerOptions {
    /// Address and port.
    pub address: SocketAddr,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// What a tunnel's outer IP header is followed by.
    pub encapsulation: Encapsulation,
    /// Share of new connections.
    pub weight: u32,
    /// `-x`.
    pub upper_threshold: u32,
    /// `-y`.
    pub lower_threshold: u32,
}

/// A change of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// `-A`.
    AddService(ServiceId, SchedulerKind),
    /// `-E`.
    EditService(ServiceId, SchedulerKind),
    /// `-D`.
    RemoveService(ServiceId),
    /// `-C`.
    Clear,
    /// `-a`.
    AddServer(ServiceId, ServerOptions),
    /// `-e`.
    EditServer(ServiceId, ServerOptions),
    /// `-d`.
    RemoveServer(ServiceId, SocketAddr),
    /// `--set tcp tcpfin udp`, seconds; 0 keeps.
    Timeouts([u32; 3]),
}

/// A listing whose numbers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// `-Ln`: weights, active and inactive connections.
    Servers,
    /// `-Ln --thresholds`: thresholds, active and inactive connections.
    Thresholds,
    /// `-Ln --stats`: connections, packets, bytes.
    Statistics,
    /// `-Lnc`: the connections.
    Connections,
}

/// A command of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Changes services or servers.
    Change(Change),
    /// Prints something that is compared.
    List(Listing),
    /// `ip link set rs0 mtu N`.
    ServerSideMtu(u16),
    /// The only route by way of the gateway.
    OnlyRoute(IpAddr, u8),
    /// Nothing to do with the engine.
    Aside,
}

/// A feature that Pollux does not have yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported(pub String);

fn unsupported<T>(feature: &str) -> Result<T, Unsupported> {
    Err(Unsupported(feature.to_owned()))
}

/// Reads a command line.
///
/// # Errors
/// [`Unsupported`] names the feature that is missing.
pub fn parse(line: &str) -> Result<Command, Unsupported> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match *words {
        ["ipvsadm", "-Ln"] => Ok(Command::List(Listing::Servers)),
        ["ipvsadm", "-Ln", "--thresholds"] => Ok(Command::List(Listing::Thresholds)),
        ["ipvsadm", "-Ln", "--stats"] => Ok(Command::List(Listing::Statistics)),
        ["ipvsadm", "-Lnc", ..] => Ok(Command::List(Listing::Connections)),
        ["ipvsadm", "-C"] => Ok(Command::Change(Change::Clear)),
        ["ipvsadm", "--set", tcp, tcp_fin, udp] => {
            let seconds = |text: &str| {
                text.parse()
                    .map_err(|_| Unsupported(format!("--set {text}")))
            };
            let timeouts = [seconds(tcp)?, seconds(tcp_fin)?, seconds(udp)?];
            Ok(Command::Change(Change::Timeouts(timeouts)))
        }
        ["ipvsadm", verb, ref options @ ..] => {
            Options::read(options)?.change(verb).map(Command::Change)
        }
        ["ip", "link", "set", "rs0", "mtu", mtu] => match mtu.parse() {
            Ok(mtu) => Ok(Command::ServerSideMtu(mtu)),
            Err(_) => unsupported("this MTU"),
        },
        [
            "ip",
            "route",
            "del",
            "default;",
            "ip",
            "route",
            "add",
            network,
            "via",
            _,
        ] => only_route(network),
        ["nft", ..] if line.contains("mark set") => unsupported("fwmark"),
        ["nft" | "cat" | "sysctl", ..] => Ok(Command::Aside),
        _ => unsupported(line),
    }
}

fn only_route(network: &str) -> Result<Command, Unsupported> {
    let parts = network
        .split_once('/')
        .and_then(|(address, length)| Some((address.parse().ok()?, length.parse().ok()?)));
    match parts {
        Some((address, length)) => Ok(Command::OnlyRoute(address, length)),
        None => unsupported(network),
    }
}

/// The options of one `ipvsadm` call.
#[derive(Debug, Default)]
struct Options<'l> {
    service: Option<ServiceId>,
    scheduler: Option<&'l str>,
    scheduler_flags: &'l str,
    server: Option<&'l str>,
    method: Option<ForwardingMethod>,
    weight: Option<u32>,
    upper_threshold: u32,
    lower_threshold: u32,
    tunnel_type: Option<&'l str>,
    tunnel_port: u32,
    tunnel_checksum: bool,
}

impl<'l> Options<'l> {
    fn read(words: &[&'l str]) -> Result<Self, Unsupported> {
        let mut options = Self::default();
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .ok_or_else(|| Unsupported(format!("{word} without value")))
            };
            match word {
                "-t" => options.service = Some(service(protocol::TCP, value()?)?),
                "-u" => options.service = Some(service(protocol::UDP, value()?)?),
                "-s" => options.scheduler = Some(value()?),
                "-r" => options.server = Some(value()?),
                "-m" => options.method = Some(ForwardingMethod::Masquerade),
                "-i" => options.method = Some(ForwardingMethod::Tunnel),
                "-g" => options.method = Some(ForwardingMethod::DirectRoute),
                "-w" => options.weight = Some(number(value()?)?),
                "-x" => options.upper_threshold = number(value()?)?,
                "-y" => options.lower_threshold = number(value()?)?,
                "-f" => return unsupported("fwmark"),
                "-p" => return unsupported("persistence"),
                "-b" => options.scheduler_flags = value()?,
                "--ops" => return unsupported("one-packet scheduling"),
                "--sctp-service" => return unsupported("SCTP"),
                "--tun-type" => options.tunnel_type = Some(value()?),
                "--tun-port" => options.tunnel_port = number(value()?)?,
                "--tun-nocsum" => options.tunnel_checksum = false,
                // Without the receiver's offer, which GUE has no way to make, the kernel writes a plain checksum.
                "--tun-csum" | "--tun-remcsum" => options.tunnel_checksum = true,
                _ => return unsupported(word),
            }
        }
        Ok(options)
    }

    fn change(&self, verb: &str) -> Result<Change, Unsupported> {
        let Some(service) = self.service else {
            return unsupported(verb);
        };
        match verb {
            "-A" => Ok(Change::AddService(service, self.scheduler()?)),
            "-E" => Ok(Change::EditService(service, self.scheduler()?)),
            "-D" => Ok(Change::RemoveService(service)),
            "-a" => Ok(Change::AddServer(service, self.server_options(service)?)),
            "-e" => Ok(Change::EditServer(service, self.server_options(service)?)),
            "-d" => Ok(Change::RemoveServer(service, self.server(service)?)),
            _ => unsupported(verb),
        }
    }

    fn scheduler(&self) -> Result<SchedulerKind, Unsupported> {
        match self.scheduler {
            Some("rr") => Ok(SchedulerKind::RoundRobin),
            Some("wrr") => Ok(SchedulerKind::WeightedRoundRobin),
            Some("lc") => Ok(SchedulerKind::LeastConnection),
            Some("wlc") | None => Ok(SchedulerKind::WeightedLeastConnection),
            Some("lblc") => Ok(SchedulerKind::LocalityBased),
            Some("lblcr") => Ok(SchedulerKind::LocalityBasedReplicated),
            Some("dh") => Ok(SchedulerKind::DestinationHashing),
            Some("sh") => Ok(SchedulerKind::SourceHashing(HashFlags {
                fallback: self.has_flag("sh-fallback", "flag-1"),
                port: self.has_flag("sh-port", "flag-2"),
            })),
            Some("mh") => Ok(SchedulerKind::MaglevHashing(MaglevFlags {
                fallback: self.has_flag("mh-fallback", "flag-1"),
                port: self.has_flag("mh-port", "flag-2"),
                bounded: None,
            })),
            Some("sed") => Ok(SchedulerKind::ShortestExpectedDelay),
            Some("nq") => Ok(SchedulerKind::NeverQueue),
            Some("fo") => Ok(SchedulerKind::WeightedFailover),
            Some("ovf") => Ok(SchedulerKind::WeightedOverflow),
            Some("twos") => Ok(SchedulerKind::TwoRandomChoices),
            Some(other) => Err(Unsupported(format!("scheduler {other}"))),
        }
    }

    fn has_flag(&self, name: &str, number: &str) -> bool {
        let mut given = self.scheduler_flags.split(',');
        given.any(|flag| flag == name || flag == number)
    }

    /// A server given without port has the service's.
    fn server(&self, service: ServiceId) -> Result<SocketAddr, Unsupported> {
        let text = self.server.unwrap_or_default();
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let read = text.parse().ok().or_else(|| {
            let address: IpAddr = bare.parse().ok()?;
            Some(SocketAddr::new(address, service.address.port()))
        });
        read.ok_or_else(|| Unsupported(format!("-r {text}")))
    }

    fn encapsulation(&self) -> Result<Encapsulation, Unsupported> {
        let checksum = self.tunnel_checksum;
        match self.tunnel_type {
            None | Some("ipip") => Ok(Encapsulation::Ipip),
            Some("gre") => Ok(Encapsulation::Gre { checksum }),
            Some("gue") => {
                let port = u16::try_from(self.tunnel_port)
                    .map_err(|_| Unsupported(format!("--tun-port {}", self.tunnel_port)))?;
                Ok(Encapsulation::Gue { port, checksum })
            }
            Some(other) => unsupported(other),
        }
    }

    fn server_options(&self, service: ServiceId) -> Result<ServerOptions, Unsupported> {
        let mut address = self.server(service)?;
        let method = self.method.unwrap_or(ForwardingMethod::DirectRoute);
        if method != ForwardingMethod::Masquerade {
            // Ports do not change on such a way, whatever is said.
            address.set_port(service.address.port());
        }
        Ok(ServerOptions {
            address,
            method,
            encapsulation: self.encapsulation()?,
            weight: self.weight.unwrap_or(1),
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
        })
    }
}

fn service(protocol: u8, text: &str) -> Result<ServiceId, Unsupported> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => unsupported("services of all ports"),
        Ok(address) => Ok(ServiceId { protocol, address }),
        Err(_) => unsupported(text),
    }
}

fn number(text: &str) -> Result<u32, Unsupported> {
    text.parse().map_err(|_| Unsupported(text.to_owned()))
}

/// A setting `name=value` of a scenario: is it the one behaviour Pollux has?
///
/// # Errors
/// [`Unsupported`] with the setting.
pub fn check_setting(setting: &str) -> Result<(), Unsupported> {
    // Names below net.ipv4.vs. and their defaults.
    const AS_POLLUX_DOES: [&str; 5] = [
        "conn_reuse_mode=1",
        "conntrack=0",
        "expire_nodest_conn=0",
        "nat_icmp_send=0",
        "sloppy_tcp=0",
    ];
    let name = setting.trim_start_matches("net.ipv4.vs.");
    if AS_POLLUX_DOES.contains(&name) {
        Ok(())
    } else {
        unsupported(name)
    }
}
