//! The commands of a scenario: what `ipvsadm` and `ip` were told, or that Pollux has no such feature yet.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use pollux_engine::clock::seconds;
use pollux_engine::connection::{Family, ForwardingMethod};
use pollux_engine::forward::tunnel::Encapsulation;
use pollux_engine::scheduler::{HashFlags, MaglevFlags, SchedulerKind};
use pollux_engine::service::{MarkRule, Persistence, PersistenceEngine, ServiceIdentity};
use pollux_engine::wire::protocol;

use super::ask;
use super::nft;
use super::setting::{self, Setting};
use super::synchronisation::{self, Daemon, Role};
use super::wiring::{self, Wiring};

/// What `ipvsadm -p` means without a number.
const PERSISTENCE_SECONDS: u32 = 360;

/// More than 31 days `ipvsadm` does not take.
const TIMEOUT_SECONDS_MAX: u32 = 31 * 86_400;

/// A service's settings as given to `ipvsadm -A` or `-E`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceOptions {
    /// Who gets the next connection.
    pub scheduler: SchedulerKind,
    /// `-p` and `-M`.
    pub persistence: Option<Persistence>,
    /// `--ops`.
    pub one_packet: bool,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `-A`.
    AddService(ServiceIdentity, ServiceOptions),
    /// `-E`.
    EditService(ServiceIdentity, ServiceOptions),
    /// `-D`.
    RemoveService(ServiceIdentity),
    /// `-C`.
    Clear,
    /// `-a`.
    AddServer(ServiceIdentity, ServerOptions),
    /// `-e`.
    EditServer(ServiceIdentity, ServerOptions),
    /// `-d`.
    RemoveServer(ServiceIdentity, SocketAddr),
    /// `--set tcp tcpfin udp`, seconds; 0 keeps.
    Timeouts([u32; 3]),
    /// `nft`: rules that give marks, in order.
    Marks(Vec<MarkRule>),
    /// `sysctl -w`, or a setting of the scenario.
    Setting(Setting),
    /// `--start-daemon`.
    StartDaemon(Role, Daemon),
    /// `--stop-daemon`.
    StopDaemon(Role),
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
    /// `-Ln --rate`: the same a second.
    Rates,
    /// `-Ln --persistent-conn`: weights, templates, active and inactive connections.
    Persistent,
    /// `-Lnc`: the connections.
    Connections,
    /// `-Sn`: services and servers with their settings.
    Saved,
    /// `-L --timeout`.
    Timeouts,
}

/// A command of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Changes services or servers.
    Change(Change),
    /// Prints something that is compared; of one service, or of all.
    List(Listing, Option<ServiceIdentity>),
    /// `-Z`: counts from here on, of one service, or of all.
    Zero(Option<ServiceIdentity>),
    /// `-Sn > FILE`.
    Save(String),
    /// `-R < FILE`.
    Restore(String),
    /// `ip`: another address, route, neighbour or MTU.
    Wire(Wiring),
    /// Changes nothing of what is compared, and what it prints is not compared: why.
    Aside(&'static str),
}

/// A feature that Pollux does not have yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported(pub String);

fn unsupported<T>(feature: &str) -> Result<T, Unsupported> {
    Err(Unsupported(feature.to_owned()))
}

/// Reads a command, of which a line has one or [several](ask::parts).
///
/// # Errors
/// [`Unsupported`] names the feature that is missing.
pub fn parse(line: &str) -> Result<Command, Unsupported> {
    let words = ask::words(line);
    match *words {
        ["ipvsadm", "-C"] => Ok(Command::Change(Change::Clear)),
        ["ipvsadm", "--set", tcp, tcp_fin, udp] => {
            let seconds = |text: &str| {
                text.parse()
                    .ok()
                    .filter(|value| *value <= TIMEOUT_SECONDS_MAX)
                    .ok_or_else(|| Unsupported(format!("--set {text}")))
            };
            let timeouts = [seconds(tcp)?, seconds(tcp_fin)?, seconds(udp)?];
            Ok(Command::Change(Change::Timeouts(timeouts)))
        }
        ["ipvsadm", "--start-daemon", role, ref options @ ..] => {
            synchronisation::start(role, options).map(Command::Change)
        }
        ["ipvsadm", "--stop-daemon", role] => synchronisation::stop(role).map(Command::Change),
        ["ipvsadm", "-R", "<", file] => Ok(Command::Restore(file.to_owned())),
        ["ipvsadm", "--version" | "-h" | "--help"] => Ok(Command::Aside("a text of ipvsadm's own")),
        ["ipvsadm", "-Z", ref options @ ..] => {
            Options::read(options).map(|options| Command::Zero(options.service))
        }
        ["ipvsadm", verb, ref options @ ..] => match ask::read(&words[1..]) {
            Some(asked) => asked,
            None => Options::read(options)?.change(verb).map(Command::Change),
        },
        ["ip", ref words @ ..] => wiring::read(words).map(Command::Wire),
        ["nft", ..] if line.contains("mark set") => {
            nft::mark_rules(line).map(|rules| Command::Change(Change::Marks(rules)))
        }
        ["sysctl", "-w", setting] | ["sysctl", setting] if setting.contains('=') => {
            Ok(match setting::of_scenario(setting)? {
                Some(setting) => Command::Change(Change::Setting(setting)),
                None => Command::Aside("a setting that changes nothing here"),
            })
        }
        ["nft", ..] => Ok(Command::Aside("rules that give no marks")),
        ["cat" | "sysctl" | "sh", ..] => Ok(Command::Aside(
            "files of /proc: tests/ipvsadm.rs compares them",
        )),
        _ => unsupported(line),
    }
}

/// The options of one `ipvsadm` call.
#[derive(Debug, Default)]
struct Options<'l> {
    service: Option<ServiceIdentity>,
    mark: Option<u32>,
    is_v6: bool,
    persistence: Option<u32>,
    is_sip: bool,
    netmask: Option<&'l str>,
    one_packet: bool,
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
        let mut words = words.iter().copied().peekable();
        while let Some(word) = words.next() {
            if word == "-p" {
                // The timeout may be left out.
                let seconds = words.next_if(|next| !next.starts_with('-'));
                let timeout = seconds.map_or(Ok(PERSISTENCE_SECONDS), number)?;
                if timeout > TIMEOUT_SECONDS_MAX {
                    return unsupported(word);
                }
                options.persistence = Some(timeout);
                continue;
            }
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
                "-f" => options.mark = Some(number(value()?)?),
                "-6" => options.is_v6 = true,
                "--pe" if value()? == "sip" => options.is_sip = true,
                "-M" => options.netmask = Some(value()?),
                "-b" => options.scheduler_flags = value()?,
                "-o" | "--ops" => options.one_packet = true,
                "--sctp-service" => options.service = Some(service(protocol::SCTP, value()?)?),
                "--tun-type" => options.tunnel_type = Some(value()?),
                "--tun-port" => options.tunnel_port = number(value()?)?,
                "--tun-nocsum" => options.tunnel_checksum = false,
                // Without the receiver's offer, which GUE has no way to make, the kernel writes a plain checksum.
                "--tun-csum" | "--tun-remcsum" => options.tunnel_checksum = true,
                _ => return unsupported(word),
            }
        }
        if let Some(mark) = options.mark {
            let family = if options.is_v6 {
                Family::V6
            } else {
                Family::V4
            };
            options.service = Some(ServiceIdentity::Fwmark { mark, family });
        }
        Ok(options)
    }

    fn change(&self, verb: &str) -> Result<Change, Unsupported> {
        let Some(service) = self.service else {
            return unsupported(verb);
        };
        match verb {
            "-A" => Ok(Change::AddService(service, self.service_options(service)?)),
            "-E" => Ok(Change::EditService(service, self.service_options(service)?)),
            "-D" => Ok(Change::RemoveService(service)),
            "-a" => Ok(Change::AddServer(service, self.server_options(service)?)),
            "-e" => Ok(Change::EditServer(service, self.server_options(service)?)),
            "-d" => Ok(Change::RemoveServer(service, self.server(service)?)),
            _ => unsupported(verb),
        }
    }

    fn service_options(&self, service: ServiceIdentity) -> Result<ServiceOptions, Unsupported> {
        let mask = match (self.netmask, service.family()) {
            (None, _) => u128::MAX,
            (Some(mask), Family::V4) => mask
                .parse::<Ipv4Addr>()
                .map(|mask| mask.to_bits().into())
                .map_err(|_| Unsupported(format!("-M {mask}")))?,
            (Some(length), Family::V6) => {
                let rest = 128_u32.checked_sub(number(length)?);
                let rest = rest.ok_or_else(|| Unsupported(format!("-M {length}")))?;
                u128::MAX.checked_shl(rest).unwrap_or(0)
            }
        };
        Ok(ServiceOptions {
            scheduler: self.scheduler()?,
            persistence: self.persistence.map(|timeout| Persistence {
                timeout: seconds(timeout),
                mask,
                engine: self.is_sip.then_some(PersistenceEngine::Sip),
            }),
            one_packet: self.one_packet,
        })
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
            // Of Pollux alone: for tests.
            Some("p2c") => Ok(SchedulerKind::PowerOfTwoChoices),
            Some("ewma") => Ok(SchedulerKind::FastestAnswer),
            Some(other) => Err(Unsupported(format!("scheduler {other}"))),
        }
    }

    fn has_flag(&self, name: &str, number: &str) -> bool {
        let mut given = self.scheduler_flags.split(',');
        given.any(|flag| flag == name || flag == number)
    }

    /// A server given without port has the service's.
    fn server(&self, service: ServiceIdentity) -> Result<SocketAddr, Unsupported> {
        let text = self.server.unwrap_or_default();
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let read = text.parse().ok().or_else(|| {
            let address: IpAddr = bare.parse().ok()?;
            Some(SocketAddr::new(address, service.port()))
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

    fn server_options(&self, service: ServiceIdentity) -> Result<ServerOptions, Unsupported> {
        let mut address = self.server(service)?;
        let method = self.method.unwrap_or(ForwardingMethod::DirectRoute);
        let has_port = matches!(service, ServiceIdentity::Address { .. });
        if method != ForwardingMethod::Masquerade && has_port {
            // Ports do not change on such a way, whatever is said; for a mark, ipvsadm keeps what was said.
            address.set_port(service.port());
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

/// Whether a command gives a service a scheduler that draws lots.
pub fn draws_lots(line: &str) -> bool {
    let words = ask::words(line);
    words.windows(2).any(|pair| pair == ["-s", "twos"])
}

/// The service that an option and its value name.
///
/// # Errors
/// What is no service's name.
pub fn service_of(option: &str, text: &str, is_v6: bool) -> Result<ServiceIdentity, Unsupported> {
    let words: &[&str] = if is_v6 {
        &[option, text, "-6"]
    } else {
        &[option, text]
    };
    let read = Options::read(words)?.service;
    read.ok_or_else(|| Unsupported(text.to_owned()))
}

fn service(protocol: u8, text: &str) -> Result<ServiceIdentity, Unsupported> {
    match text.parse::<SocketAddr>() {
        Ok(address) => Ok(ServiceIdentity::Address {
            protocol,
            address: address.ip(),
            port: address.port(),
        }),
        Err(_) => unsupported(text),
    }
}

fn number(text: &str) -> Result<u32, Unsupported> {
    text.parse().map_err(|_| Unsupported(text.to_owned()))
}
