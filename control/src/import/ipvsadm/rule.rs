//! What a rule does: the commands of `ipvsadm`, as changes of the draft.

use std::net::{IpAddr, Ipv6Addr};
use std::num::{NonZeroU16, NonZeroU32};
use std::str::FromStr;

use pollux_api::configuration::{Change, Destination, VirtualService};
use pollux_api::identity::Endpoint;
use pollux_api::persistence::TIMEOUT_DEFAULT_S;
use pollux_api::{
    Family, ForwardingMethod, Netmask, Persistence, Protocol, SchedulerFlags, SchedulerName,
    ServiceId, SyncDaemon, SyncRole, Tunnel, TunnelChecksum, TunnelType, Weight,
};

use super::super::draft::Draft;
use super::super::note::Place;
use super::dpvs::{self, ConnectionTimeout};
use super::options::{Given, options};

/// The options of a line, to be asked for.
pub struct Rule {
    given: Vec<Given>,
}

/// Why a rule cannot be carried over.
pub struct Refused(pub String);

impl<T: std::fmt::Display> From<T> for Refused {
    fn from(why: T) -> Self {
        Self(why.to_string())
    }
}

/// Does to the draft what a line says.
pub fn read(place: &Place, words: &[String], draft: &mut Draft) {
    let rule = Rule {
        given: options(words),
    };
    if let Err(Refused(why)) = perform(place, &rule, draft) {
        draft.note(place, format!("left out: {why}"));
    }
}

fn perform(place: &Place, rule: &Rule, draft: &mut Draft) -> Result<(), Refused> {
    for given in &rule.given {
        if given.name.starts_with('-') || is_unknown(&given.name) {
            draft.note(
                place,
                format!("\"{}\" is no option of ipvsadm: left out", given.name),
            );
        }
    }
    if dpvs::perform(place, rule, draft)? {
        return Ok(());
    }
    const COMMANDS: [&str; 9] = [
        "add-service",
        "edit-service",
        "delete-service",
        "add-server",
        "edit-server",
        "delete-server",
        "clear",
        "set",
        "start-daemon",
    ];
    let command = COMMANDS.into_iter().find(|command| rule.has(command));
    match command {
        Some("add-service" | "edit-service") => {
            let service = rule.service_settings(place, draft)?;
            if command == Some("add-service") {
                draft.add_service(place, service);
            } else {
                draft.apply(place, Change::EditService { service }, "the service");
            }
        }
        Some("delete-service") => {
            let id = rule.service()?;
            draft.apply(place, Change::RemoveService { id }, "the service");
        }
        Some("add-server" | "edit-server") => {
            let service = rule.service()?;
            let destination = rule.server_settings(place, service, draft)?;
            if command == Some("add-server") {
                draft.add_server(place, service, destination);
            } else {
                let change = Change::EditDestination {
                    service,
                    destination,
                };
                draft.apply(place, change, "the server");
            }
        }
        Some("delete-server") => {
            let service = rule.service()?;
            let id = rule.server(service)?;
            draft.apply(
                place,
                Change::RemoveDestination { service, id },
                "the server",
            );
        }
        Some("clear") => {
            draft.apply(place, Change::Flush, "everything");
        }
        Some("set") => set_timeouts(place, rule, draft)?,
        Some(_) => {
            let (role, daemon) = rule.sync_daemon()?;
            let what = format!("sync {role}");
            draft.apply(place, Change::StartSync { role, daemon }, &what);
        }
        // They configure nothing.
        None if ["list", "zero", "save", "restore", "stop-daemon"]
            .iter()
            .any(|command| rule.has(command)) => {}
        None => return Err("no command of ipvsadm is in this line".into()),
    }
    Ok(())
}

fn is_unknown(name: &str) -> bool {
    !super::options::is_known(name)
}

fn set_timeouts(place: &Place, rule: &Rule, draft: &mut Draft) -> Result<(), Refused> {
    let values = rule.values("set");
    let names = ["timeout_established", "timeout_finwait", "timeout_udp"];
    if values.len() != names.len() {
        return Err("--set takes three numbers of seconds".into());
    }
    for (name, value) in names.into_iter().zip(values) {
        // 0 keeps what is.
        match value.parse()? {
            0 => {}
            seconds => draft.set(place, name, seconds),
        }
    }
    Ok(())
}

impl Rule {
    /// Whether an option was given.
    pub fn has(&self, name: &str) -> bool {
        self.given.iter().any(|given| given.name == name)
    }

    /// The first value an option was given.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values(name).first().map(String::as_str)
    }

    /// All values an option was given at its first place.
    pub fn values(&self, name: &str) -> &[String] {
        let given = self.given.iter().find(|given| given.name == name);
        given.map_or(&[], |given| given.values.as_slice())
    }

    /// Every value of an option that may be repeated.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let given = self.given.iter().filter(move |given| given.name == name);
        given.filter_map(|given| given.values.first().map(String::as_str))
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Refused> {
        let Some(text) = self.value(name) else {
            let is_bare = self.has(name);
            return if is_bare {
                Err(format!("--{name} takes a number").into())
            } else {
                Ok(None)
            };
        };
        let number = text.parse();
        number.map(Some).map_err(|_| {
            format!("--{name} takes a number, and \"{text}\" is none in its range").into()
        })
    }

    /// The daemon of connection synchronisation that a rule starts.
    fn sync_daemon(&self) -> Result<(SyncRole, SyncDaemon), Refused> {
        let role: SyncRole = self.value("start-daemon").unwrap_or_default().parse()?;
        let interface = self.value("mcast-interface").unwrap_or_default();
        let mut daemon = SyncDaemon::new(interface, self.number("syncid")?.unwrap_or(0));
        if let Some(group) = self.value("mcast-group") {
            daemon.group = group
                .parse()
                .map_err(|_| format!("--mcast-group {group} is no address"))?;
        }
        daemon.port = self.number("mcast-port")?.unwrap_or(daemon.port);
        daemon.ttl = self.number("mcast-ttl")?.unwrap_or(daemon.ttl);
        daemon.datagram_bytes = self.number("sync-maxlen")?;
        Ok((role, daemon))
    }

    /// The service a rule is about.
    pub fn service(&self) -> Result<ServiceId, Refused> {
        let kinds = [
            ("tcp-service", Protocol::Tcp),
            ("udp-service", Protocol::Udp),
            ("sctp-service", Protocol::Sctp),
        ];
        for (name, protocol) in kinds {
            if let Some(text) = self.value(name) {
                let (address, port) = endpoint(text)?;
                let endpoint = Endpoint::new(address, port.unwrap_or(0))?;
                return Ok(ServiceId::address(protocol, endpoint));
            }
        }
        let Some(mark) = self.number::<NonZeroU32>("fwmark-service")? else {
            return Err("it names no service: -t, -u, --sctp-service or -f".into());
        };
        let family = if self.has("ipv6") {
            Family::Ipv6
        } else {
            Family::Ipv4
        };
        Ok(ServiceId::fwmark(mark, family))
    }

    /// The server a rule is about.
    fn server(&self, service: ServiceId) -> Result<Endpoint, Refused> {
        let text = self.value("real-server").ok_or("it names no server: -r")?;
        let (address, port) = endpoint(text)?;
        // As ipvsadm: without a port it is the service's.
        let port = port.filter(|port| *port != 0).unwrap_or(service.port());
        Ok(Endpoint::new(address, port)?)
    }

    fn service_settings(
        &self,
        place: &Place,
        draft: &mut Draft,
    ) -> Result<VirtualService, Refused> {
        let mut service = VirtualService::new(self.service()?);
        let flags = self.value("sched-flags").filter(|flags| !flags.is_empty());
        let flags: Option<SchedulerFlags> = flags.map(str::parse).transpose()?;
        let (scheduler, flags) = match self.value("scheduler") {
            Some(name) => match dpvs::scheduler(place, name, self, draft) {
                Some((scheduler, of_dpvs)) => (scheduler, flags.unwrap_or(of_dpvs)),
                None => (name.parse()?, flags.unwrap_or_default()),
            },
            None => (SchedulerName::default(), flags.unwrap_or_default()),
        };
        service.scheduler = scheduler;
        service.scheduler_flags = flags;
        service.one_packet = self.has("ops");
        if self.has("persistent") {
            let timeout_s = match self.values("persistent") {
                [] => TIMEOUT_DEFAULT_S,
                _ => self.number("persistent")?.unwrap_or(TIMEOUT_DEFAULT_S),
            };
            let netmask: Option<Netmask> = self.value("netmask").map(str::parse).transpose()?;
            service.persistence = Some(Persistence { timeout_s, netmask });
        }
        service.persistence_engine = self.value("pe").map(str::parse).transpose()?;
        if let Some(seconds) = self.number("conn-timeout")? {
            let timeout = ConnectionTimeout::new(place, seconds);
            service.timeouts = timeout.of(service.id, draft);
        }
        dpvs::service_options(place, self, draft);
        Ok(service)
    }

    fn server_settings(
        &self,
        place: &Place,
        service: ServiceId,
        draft: &mut Draft,
    ) -> Result<Destination, Refused> {
        let method = if self.has("masquerading") {
            ForwardingMethod::Nat
        } else if self.has("ipip") {
            ForwardingMethod::Tunnel
        } else {
            dpvs::method(place, self, draft).unwrap_or_default()
        };
        let weight: Option<u64> = self.number("weight")?;
        let weight: Option<Weight> = weight.map(Weight::try_from).transpose()?;
        Ok(Destination {
            id: self.server(service)?,
            method,
            tunnel: self.tunnel()?,
            weight: weight.unwrap_or_default(),
            upper_threshold: self.number("u-threshold")?.unwrap_or(0),
            lower_threshold: self.number("l-threshold")?.unwrap_or(0),
        })
    }

    fn tunnel(&self) -> Result<Tunnel, Refused> {
        let kind = self.value("tun-type");
        let tunnel_type = match kind {
            None => TunnelType::default(),
            Some(word) => TunnelType::ALL
                .into_iter()
                .find(|known| known.as_str() == word)
                .ok_or_else(|| {
                    format!("unknown tunnel type \"{word}\": known are ipip, gre, gue")
                })?,
        };
        let port: Option<NonZeroU16> = self.number("tun-port")?;
        let checksum = TunnelChecksum::ALL
            .into_iter()
            .find(|known| self.has(&format!("tun-{known}")));
        Ok(Tunnel {
            tunnel_type,
            // What other types do with a port is nothing.
            port: port.filter(|_| tunnel_type == TunnelType::Gue),
            checksum: checksum.unwrap_or_default(),
        })
    }
}

/// `ADDRESS`, `ADDRESS:PORT`, `[ADDRESS]:PORT`; only numbers, as `-n` makes them.
pub fn endpoint(text: &str) -> Result<(IpAddr, Option<u16>), Refused> {
    let is_name = || -> Refused {
        format!(
            "\"{text}\" is not an address and a port in numbers; names mean what this machine's resolver says today, so save \
             the rules with `ipvsadm -Sn`"
        )
        .into()
    };
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or_else(is_name)?;
            let address = address.parse::<Ipv6Addr>().map_err(|_| is_name())?;
            let port = match rest {
                "" => None,
                _ => Some(rest.strip_prefix(':').ok_or_else(is_name)?),
            };
            (IpAddr::V6(address), port)
        }
        None => match text.parse() {
            Ok(address) => (address, None),
            Err(_) => {
                let (address, port) = text.rsplit_once(':').ok_or_else(is_name)?;
                (address.parse().map_err(|_| is_name())?, Some(port))
            }
        },
    };
    let port = port.map(str::parse).transpose().map_err(|_| is_name())?;
    Ok((address, port))
}
