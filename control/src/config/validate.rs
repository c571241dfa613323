//! From text to [`ValidConfig`]: syntax, keys, values, then what only the whole can show (duplicates, families, ports).
//!
//! What makes services valid is not said here but in [`Configuration::apply`], which the daemons use too.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};

use hashbrown::HashMap;
use pollux_api::bond::Bond;
use pollux_api::configuration::{Change, ChangeError, Configuration, Destination, VirtualService};
use pollux_api::service_timeouts::ServiceTimeoutError;
use pollux_api::settings::{ExceptionPath, NET_TAP_MTU_MAX, PortSettings};
use pollux_api::{
    DataplaneSettings, DestinationId, Persistence, Protocol, ServiceId, ServiceTimeouts, Tunnel,
    TunnelError, Weight,
};
use toml::Spanned;
use toml::de::DeTable;

use super::file_schema::{
    ControlTable, DataplaneTable, FileSchema, MarkTable, ServerTable, ServiceTable, SyncTable,
    TimeoutsTable,
};
use super::health::CheckReader;
use super::problem::{Located, Place, ProblemList, Problems};
use super::valid_config::{ControlSettings, ValidConfig};

/// Linux's limit for the name of an interface (`IFNAMSIZ` with its final NUL is 16).
const INTERFACE_NAME_BYTES_MAX: usize = 15;

/// Reads and validates the text of a file. The empty one is valid.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(file: &str, text: &str) -> Result<ValidConfig, Problems> {
    let (root, problems) = parse_syntax(file, text)?;
    let mut schema = FileSchema::read(root.get_ref(), &problems);
    let config = ValidConfig {
        dataplane: dataplane_settings(std::mem::take(&mut schema.dataplane), &problems),
        control: control_settings(std::mem::take(&mut schema.control), &problems),
        configuration: configuration(schema, &problems),
    };
    problems.unless_any(config)
}

/// Reads and validates `[dataplane]` alone: a data plane starts whatever is wrong with the services in the file.
///
/// # Errors
/// Everything that is wrong with that table, or with the syntax of the file.
pub fn parse_dataplane(file: &str, text: &str) -> Result<DataplaneSettings, Problems> {
    let (root, problems) = parse_syntax(file, text)?;
    let root = root.get_ref();
    let mut table = DataplaneTable::read(root, &problems);
    table
        .transmit_checksums
        .get_or_insert_with(|| super::file_schema::has_summed_gue(root));
    let settings = dataplane_settings(table, &problems);
    problems.unless_any(settings)
}

/// The tables of the file and a list for their problems. What follows a syntax error is read differently than it was
/// meant, so that its problems would only mislead: they are looked for when the syntax is right.
fn parse_syntax<'a>(
    file: &str,
    text: &'a str,
) -> Result<(Spanned<DeTable<'a>>, ProblemList), Problems> {
    let problems = ProblemList::new(file, text);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let place = Place {
            line: problems.line_of(&error.span().unwrap_or_default()),
            ..Place::default()
        };
        problems.add(&place, format!("this is not TOML: {}", error.message()));
    }
    problems.unless_any(())?;
    Ok((root, ProblemList::new(file, text)))
}

impl ValidConfig {
    /// What an empty file says.
    pub fn empty() -> Self {
        Self {
            dataplane: DataplaneSettings::default(),
            control: ControlSettings::default(),
            configuration: Configuration::default(),
        }
    }
}

fn configuration(schema: FileSchema<'_>, problems: &ProblemList) -> Configuration {
    let mut building = Builder {
        configuration: Configuration::default(),
        first_seen: HashMap::new(),
        checks: CheckReader::new(schema.checks, problems),
        problems,
    };
    // Which go together must be set together.
    let is_of_pair = |name: &str| matches!(name, "sync_period" | "sync_threshold");
    let mut pair = (BTreeMap::new(), None);
    for (name, Located { value, place }) in schema.ipvs.0 {
        if is_of_pair(name) {
            pair.0.insert(name.to_owned(), value);
            pair.1.get_or_insert(place);
            continue;
        }
        let settings = BTreeMap::from([(name.to_owned(), value)]);
        building.apply(Change::Set { settings }, &place);
    }
    if let (settings, Some(place)) = pair {
        building.apply(Change::Set { settings }, &place);
    }
    for MarkTable { place, rule } in schema.marks {
        if let Some(rule) = rule {
            building.apply(Change::AddMark { rule }, &place);
        }
    }
    for service in schema.services {
        let mut service = ServiceTable::read(service);
        let servers = std::mem::take(&mut service.servers);
        let id = building.add_service(service);
        // Whatever is wrong with the service, what is wrong with its servers is said, too.
        for server in servers.into_iter().map(ServerTable::read) {
            if let Some(id) = id {
                building.add_server(id, server);
            }
        }
    }
    for SyncTable { place, daemon } in schema.syncs {
        if let Some((role, daemon)) = daemon {
            building.apply(Change::StartSync { role, daemon }, &place);
        }
    }
    building.checks.apply(&mut building.configuration, problems);
    building.configuration
}

fn timeouts(table: &TimeoutsTable) -> ServiceTimeouts {
    let value = |found: &Option<Located<u32>>| found.as_ref().map(|located| located.value);
    ServiceTimeouts {
        tcp_s: value(&table.tcp),
        tcp_fin_s: value(&table.tcp_fin),
        udp_s: value(&table.udp),
    }
}

/// The first timeout that the service cannot have, and where it is written.
fn foreign_timeout(
    service: ServiceId,
    table: &TimeoutsTable,
) -> Option<(&Place, ServiceTimeoutError)> {
    let all = timeouts(table);
    let alone = [
        (
            &table.tcp,
            ServiceTimeouts {
                tcp_s: all.tcp_s,
                ..ServiceTimeouts::default()
            },
        ),
        (
            &table.tcp_fin,
            ServiceTimeouts {
                tcp_fin_s: all.tcp_fin_s,
                ..ServiceTimeouts::default()
            },
        ),
        (
            &table.udp,
            ServiceTimeouts {
                udp_s: all.udp_s,
                ..ServiceTimeouts::default()
            },
        ),
    ];
    alone.into_iter().find_map(|(written, timeout)| {
        let error = timeout.check(service).err()?;
        Some((&written.as_ref()?.place, error))
    })
}

/// Adds what the file says in the file's order, as commands would.
struct Builder<'a> {
    configuration: Configuration,
    /// The line in which a service, or a server of a service, was first defined.
    first_seen: HashMap<(ServiceId, Option<DestinationId>), usize>,
    checks: CheckReader,
    problems: &'a ProblemList,
}

impl Builder<'_> {
    /// The service without its servers; none when it is not known which one it is, or it cannot have any.
    fn add_service(&mut self, table: ServiceTable<'_>) -> Option<ServiceId> {
        let Located { value: id, place } = self.service_id(&table)?;
        let scheduler = table.scheduler.map(|located| located.value);
        let (flags, flags_place) = match table.scheduler_flags {
            Some(located) => (located.value, located.place),
            None => (Vec::new(), place.clone()),
        };
        let persistence = table
            .persistence_timeout
            .as_ref()
            .map(|timeout| Persistence {
                timeout_s: timeout.value,
                netmask: table.persistence_netmask.as_ref().map(|mask| mask.value),
            });
        let one_packet = table.one_packet.as_ref();
        let service = VirtualService {
            id,
            scheduler: scheduler.unwrap_or_default(),
            scheduler_flags: flags.into_iter().collect(),
            persistence,
            persistence_engine: table.persistence_engine.as_ref().map(|engine| engine.value),
            one_packet: one_packet.is_some_and(|given| given.value),
            timeouts: timeouts(&table.timeouts),
        };
        // What is out of range is on the list already.
        if let Some((place, error)) = foreign_timeout(id, &table.timeouts) {
            self.problems.add(place, error);
            return None;
        }
        if let Some(netmask) = &table.persistence_netmask {
            let family = |persistence: Persistence| persistence.checked(id.family());
            if let Some(Err(error)) = service.persistence.map(family) {
                self.problems.add(&netmask.place, error);
                return None;
            }
            if !table.has_persistence_timeout {
                let message = "a netmask without persistence: write persistence_timeout, too, or leave it out";
                self.problems.add(&netmask.place, message);
            }
        }
        let is_udp = match id {
            ServiceId::Address(id) => id.protocol == Protocol::Udp,
            ServiceId::Fwmark(_) => true,
        };
        if let Some(given) = one_packet.filter(|given| given.value && !is_udp) {
            let message = "one-packet scheduling is only for UDP services: leave it out";
            self.problems.add(&given.place, message);
            return None;
        }
        if let Some((flag, of)) = service.scheduler_flags.foreign_to(service.scheduler) {
            let message = format!(
                "{flag} is a flag of scheduler {of}, and this one is {}: leave it out, or write scheduler = \"{of}\"",
                service.scheduler
            );
            self.problems.add(&flags_place, message);
            return None;
        }
        self.apply(Change::AddService { service }, &place);
        let mut checks = table.checks;
        let sorry_server = checks.sorry_server.take();
        let sorry_server = sorry_server.and_then(|server| self.destination(id, server));
        let sorry_server = sorry_server.map(|server| server.value);
        self.checks.used_by(id, checks, sorry_server, self.problems);
        Some(id)
    }

    /// What the service is known by, and where that is written. What is missing is on the list already.
    fn service_id(&self, table: &ServiceTable<'_>) -> Option<Located<ServiceId>> {
        let Some(fwmark) = &table.fwmark else {
            if let Some(family) = &table.family {
                let message =
                    "the address has a family already: leave it out, or write fwmark instead";
                self.problems.add(&family.place, message);
                return None;
            }
            let (protocol, address) = table.protocol.as_ref().zip(table.address.as_ref())?;
            return Some(Located {
                value: ServiceId::address(protocol.value, address.value),
                place: address.place.clone(),
            });
        };
        let needless = [
            table.protocol.as_ref().map(|located| &located.place),
            table.address.as_ref().map(|located| &located.place),
        ];
        if let Some(place) = needless.into_iter().flatten().next() {
            let message =
                "a service is one of a firewall mark or of an address: leave out fwmark, or this";
            self.problems.add(place, message);
            return None;
        }
        let family = table.family.as_ref().map(|located| located.value);
        let mark = NonZeroU32::new(fwmark.value)?;
        Some(Located {
            value: ServiceId::fwmark(mark, family.unwrap_or_default()),
            place: fwmark.place.clone(),
        })
    }

    /// A server as it is written. What is wrong is on the list.
    fn destination(
        &self,
        service: ServiceId,
        mut table: ServerTable,
    ) -> Option<Located<Destination>> {
        let Located {
            value: address,
            place,
        } = table.address.take()?;
        let add = |place: &Place, error: &dyn std::fmt::Display| {
            self.problems.add(place, error);
            None
        };
        let id = match address.endpoint_for(service) {
            Ok(id) => id,
            Err(error) => return add(&place, &error),
        };
        let method = table.method.as_ref().map(|method| method.value);
        let method = method.unwrap_or_default();
        let tunnel = tunnel(&table);
        if let (true, Err(error)) = (table.tunnel_is_read, tunnel.check(method)) {
            let place = tunnel_place(&table, error).unwrap_or(&place);
            return add(place, &error);
        }
        let value = |located: Option<Located<u32>>| located.map(|located| located.value);
        // The reader has checked the range; a weight that was not read has its own entry in the list.
        let weight =
            value(table.weight).and_then(|weight| Weight::try_from(u64::from(weight)).ok());
        let value = Destination {
            id,
            method,
            // One that was not read whole has its own entries in the list.
            tunnel: if table.tunnel_is_read {
                tunnel
            } else {
                Tunnel::default()
            },
            weight: weight.unwrap_or_default(),
            upper_threshold: value(table.upper_threshold).unwrap_or_default(),
            lower_threshold: value(table.lower_threshold).unwrap_or_default(),
        };
        Some(Located { value, place })
    }

    fn add_server(&mut self, service: ServiceId, table: ServerTable) {
        let Some(Located {
            value: destination,
            place,
        }) = self.destination(service, table)
        else {
            return;
        };
        let change = Change::AddDestination {
            service,
            destination,
        };
        self.apply(change, &place);
    }

    fn apply(&mut self, change: Change, place: &Place) {
        let added = match &change {
            Change::AddService { service } => Some((service.id, None)),
            Change::AddDestination {
                service,
                destination,
            } => Some((*service, Some(destination.id))),
            _ => None,
        };
        match self.configuration.apply_one(&change) {
            Ok(()) => {
                if let Some(added) = added {
                    self.first_seen.insert(added, place.line);
                }
            }
            Err(ChangeError::ServiceExists(service)) => self.twice((service, None), place),
            Err(ChangeError::DestinationExists(service, id)) => {
                self.twice((service, Some(id)), place);
            }
            Err(ChangeError::Thresholds(_, _, lower, upper)) => {
                let message = format!(
                    "lower_threshold {lower} is above upper_threshold {upper}: write one at most as large"
                );
                self.problems.add(place, message);
            }
            Err(error) => self.problems.add(place, error),
        }
    }

    fn twice(&self, added: (ServiceId, Option<DestinationId>), place: &Place) {
        let line = self.first_seen.get(&added).copied().unwrap_or_default();
        let what = match added {
            (service, None) => format!("service {service}"),
            (service, Some(id)) => format!("server {id} of service {service}"),
        };
        let message = format!("{what} is already defined in line {line}: keep one of the two");
        self.problems.add(place, message);
    }
}

fn tunnel(table: &ServerTable) -> Tunnel {
    let port = table.tunnel_port.as_ref();
    Tunnel {
        tunnel_type: table
            .tunnel_type
            .as_ref()
            .map_or_else(Default::default, |located| located.value),
        port: port.and_then(|located| NonZeroU16::new(located.value)),
        checksum: table
            .tunnel_checksum
            .as_ref()
            .map_or_else(Default::default, |located| located.value),
    }
}

/// Where what is wrong with a tunnel is written.
fn tunnel_place(table: &ServerTable, error: TunnelError) -> Option<&Place> {
    let tunnel_type = table.tunnel_type.as_ref().map(|located| &located.place);
    let port = table.tunnel_port.as_ref().map(|located| &located.place);
    let checksum = table.tunnel_checksum.as_ref().map(|located| &located.place);
    match error {
        TunnelError::NoTunnel(_) | TunnelError::PortMissing => tunnel_type.or(port).or(checksum),
        TunnelError::NeedlessPort(_) => port,
        TunnelError::Checksum(..) => checksum,
    }
}

fn control_settings(table: ControlTable, problems: &ProblemList) -> ControlSettings {
    let mut settings = ControlSettings::default();
    if let Some(Located { value, place }) = table.socket_mode {
        match u32::from_str_radix(&value, 8) {
            Ok(mode) if mode <= 0o777 => settings.socket_mode = mode,
            _ => problems.add(
                &place,
                format!("bad mode \"{value}\": write it in octal, as in \"0660\""),
            ),
        }
    }
    if let Some(Located { value, place }) = table.socket_group {
        if value.is_empty() {
            problems.add(
                &place,
                "empty group: write the name of a group or its number",
            );
        }
        settings.socket_group = Some(value);
    }
    if let Some(Located { value, place }) = table.metrics {
        match value.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => settings.metrics = Some(address),
            _ => problems.add(
                &place,
                format!(
                    "bad address \"{value}\": write an address of this machine and a port, as in \"127.0.0.1:9750\", or \
                     \"[::]:9750\" for all of its addresses"
                ),
            ),
        }
    }
    settings
}

fn dataplane_settings(table: DataplaneTable, problems: &ProblemList) -> DataplaneSettings {
    let defaults = DataplaneSettings::default();
    if let Some(Located { value, place }) = &table.cores {
        check_cores(value, place, problems);
    }
    if let Some(Located { value, place }) = &table.file_prefix
        && (value.is_empty() || value.contains('/'))
    {
        let message = format!("bad prefix \"{value}\": write a word without a slash");
        problems.add(place, message);
    }
    let mut first_seen = HashMap::new();
    let mut ports = Vec::new();
    for port in table.ports {
        let (Some(name), Some(device)) = (port.name, port.device) else {
            continue;
        };
        check_port_name(&name, problems);
        if let Some(Err(problem)) = Bond::of_device(&device.value) {
            problems.add(&device.place, problem.to_string());
        }
        for (what, located) in [("name", &name), ("device", &device)] {
            let key = (what, located.value.clone());
            let line = *first_seen.entry(key).or_insert(located.place.line);
            if line != located.place.line {
                let message = format!(
                    "{what} \"{}\" is already used in line {line}: every port needs its own",
                    located.value
                );
                problems.add(&located.place, message);
            }
        }
        if let Some(Located {
            value: ExceptionPath::NetTap,
            place,
        }) = &table.exception_path
            && port
                .mtu
                .as_ref()
                .is_some_and(|mtu| mtu.value > NET_TAP_MTU_MAX)
        {
            problems.add(
                place,
                format!(
                    "net_tap carries no frames of an MTU above {NET_TAP_MTU_MAX}, as port \"{}\" has: write \"vhost-net\", or \
                     leave the key out",
                    name.value
                ),
            );
        }
        ports.push(PortSettings {
            name: name.value,
            device: device.value,
            mtu: port.mtu.map(|mtu| mtu.value),
            side: port.side.map(|side| side.value),
        });
    }
    DataplaneSettings {
        cores: table.cores.map(|cores| cores.value),
        connections: table
            .connections
            .map_or(defaults.connections, |located| located.value),
        poll: table.poll.map(|poll| poll.value),
        huge_pages: table.huge_pages.unwrap_or(defaults.huge_pages),
        memory_mib: table.memory_mib.map(|memory| memory.value),
        file_prefix: table
            .file_prefix
            .map_or(defaults.file_prefix, |located| located.value),
        transmit_checksums: table.transmit_checksums.unwrap_or(false),
        exception_path: table
            .exception_path
            .map_or(defaults.exception_path, |located| located.value),
        punt: table.punt,
        ports,
    }
}

fn check_cores(cores: &[u16], place: &Place, problems: &ProblemList) {
    if cores.is_empty() {
        problems.add(
            place,
            "no cores: name at least one, or leave the key out for all but the first",
        );
    }
    for (index, core) in cores.iter().enumerate() {
        if cores.iter().take(index).any(|before| before == core) {
            problems.add(
                place,
                format!("core {core} is named twice: one worker a core"),
            );
        }
    }
}

fn check_port_name(name: &Located<String>, problems: &ProblemList) {
    let text = name.value.as_str();
    let bad = text.is_empty()
        || text.len() > INTERFACE_NAME_BYTES_MAX
        || matches!(text, "." | "..")
        || text.contains(|c: char| !c.is_ascii_graphic() || matches!(c, '/' | ':'));
    if bad {
        let message = format!(
            "bad port name \"{text}\": it names a TAP, so write 1 to {INTERFACE_NAME_BYTES_MAX} \
             letters or digits"
        );
        problems.add(&name.place, message);
    }
}

#[cfg(test)]
mod tests;
