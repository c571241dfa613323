//! Writes the services of a configuration into a file, leaving everything else in it as it is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use pollux_api::ipvs_settings::SETTINGS;
use pollux_api::{
    Configuration, Destination, Family, ForwardingMethod, IpvsSettings, MarkRule, SchedulerFlags,
    ServiceEntry, ServiceId, SyncDaemons, SyncRole, Tunnel, VirtualService, Weight,
    synchronisation,
};
use thiserror::Error;
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value, value};

use crate::server_address::ServerAddress;

/// Why a configuration could not be written. The file is as it was.
#[derive(Debug, Error)]
pub enum SaveError {
    /// The file is there but cannot be read.
    #[error("cannot read {0}: {1}; its [dataplane] and [control] tables would be lost")]
    Read(PathBuf, io::Error),
    /// The file is there but is no TOML.
    #[error("{0} is not TOML, so its other tables cannot be kept: `pollux check {0}` says why")]
    NotToml(PathBuf),
    /// The new file could not be put in its place.
    #[error("cannot write {0}: {1}{mend}", mend = mend_of_write(.0, .1))]
    Write(PathBuf, io::Error),
}

/// What to do about a file that cannot be written, behind the error; nothing where only its maker can tell.
pub fn mend_of_write(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(path);
            format!("; make its folder first: `mkdir -p {}`", folder.display())
        }
        io::ErrorKind::PermissionDenied => "; run this as root (`sudo pollux ...`)".to_owned(),
        _ => String::new(),
    }
}

/// Replaces the services in a file with those of a configuration: all of the file or nothing (write, sync, rename).
///
/// # Errors
/// [`SaveError`].
pub fn save(path: &Path, configuration: &Configuration) -> Result<(), SaveError> {
    // A link is followed, so that the file it points to is replaced and not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let old = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(SaveError::Read(path, error)),
    };
    let text = merge(&old, configuration).map_err(|_| SaveError::NotToml(path.clone()))?;
    replace(&path, text.as_bytes()).map_err(|error| SaveError::Write(path, error))
}

/// The text of a file with its services replaced. A service or server that is in the file already keeps its comments
/// and how it is written; only the values that differ change.
///
/// # Errors
/// The old text is no TOML.
pub fn merge(old: &str, configuration: &Configuration) -> Result<String, toml_edit::TomlError> {
    let mut document: DocumentMut = old.parse()?;
    let mut old = tables(document.remove("service"));
    let services: ArrayOfTables = configuration
        .services
        .iter()
        .map(|entry| {
            let known = take(&mut old, |table| describes_service(table, entry));
            let mut table = service_table(known.unwrap_or_default(), entry);
            super::health::write_use(&mut table, entry.service.id, &configuration.health);
            table
        })
        .collect();
    merge_settings(&mut document, &configuration.settings);
    merge_marks(&mut document, &configuration.marks);
    merge_sync(&mut document, &configuration.sync);
    super::health::write_checks(&mut document, &configuration.health);
    if !services.is_empty() {
        document.insert("service", Item::ArrayOfTables(services));
    }
    Ok(document.to_string())
}

/// What differs from the kernel's defaults is written; of what is there already, what is true stays.
fn merge_settings(document: &mut DocumentMut, settings: &IpvsSettings) {
    let mut table = match document.remove("ipvs").map(Item::into_table) {
        Some(Ok(table)) => table,
        _ => Table::new(),
    };
    for known in SETTINGS {
        let value = settings.get(known.name);
        let as_switch = table.get(known.name).and_then(Item::as_bool);
        if as_switch.is_some_and(|on| u32::from(on) == value) {
            continue;
        }
        let default = Some(i64::from(known.default));
        set(&mut table, known.name, i64::from(value), default);
    }
    if !table.is_empty() {
        table.set_position(None);
        document.insert("ipvs", Item::Table(table));
    }
}

/// The rules in their order; those that the file has already keep how they are written.
fn merge_marks(document: &mut DocumentMut, marks: &[MarkRule]) {
    let mut old = tables(document.remove("mark"));
    let rules: ArrayOfTables = marks
        .iter()
        .map(|rule| {
            let new = mark_table(rule);
            let known = take(&mut old, |table| {
                let keys = |table: &Table| table.iter().count();
                keys(table) == keys(&new)
                    && new.iter().all(|(key, item)| {
                        let plain = |item: &Item| item.to_string().trim().to_owned();
                        table.get(key).is_some_and(|old| plain(old) == plain(item))
                    })
            });
            let mut table = known.unwrap_or(new);
            table.set_position(None);
            table
        })
        .collect();
    if !rules.is_empty() {
        document.insert("mark", Item::ArrayOfTables(rules));
    }
}

/// The daemons; those that the file has already keep how they are written.
fn merge_sync(document: &mut DocumentMut, daemons: &SyncDaemons) {
    let mut old = tables(document.remove("sync"));
    let all = SyncRole::ALL.into_iter().filter_map(|role| {
        let daemon = daemons.get(role)?;
        let known = take(&mut old, |table| text(table, "role") == Some(role.as_str()));
        let mut table = known.unwrap_or_default();
        table.set_position(None);
        set(&mut table, "role", role.as_str(), None);
        set(&mut table, "interface", daemon.interface.as_str(), None);
        set(&mut table, "id", i64::from(daemon.id), Some(0));
        let group = daemon.group.to_string();
        let default = synchronisation::GROUP.to_string();
        set(&mut table, "group", group.as_str(), Some(default.as_str()));
        for (key, number, default) in [
            ("port", i64::from(daemon.port), synchronisation::PORT.into()),
            ("ttl", i64::from(daemon.ttl), synchronisation::TTL.into()),
        ] {
            set(&mut table, key, number, Some(default));
        }
        let bytes = daemon.datagram_bytes.map(|bytes| i64::from(bytes).into());
        set_value(&mut table, "datagram_bytes", bytes, None);
        Some(table)
    });
    let all: ArrayOfTables = all.collect();
    if !all.is_empty() {
        document.insert("sync", Item::ArrayOfTables(all));
    }
}

fn mark_table(rule: &MarkRule) -> Table {
    let mut table = Table::new();
    table.insert("mark", value(i64::from(rule.mark.get())));
    let texts = [
        ("source", rule.source.map(|network| network.to_string())),
        (
            "destination",
            rule.destination.map(|network| network.to_string()),
        ),
        (
            "protocol",
            rule.protocol.map(|protocol| protocol.as_word().to_owned()),
        ),
        (
            "source_ports",
            rule.source_ports.map(|ports| ports.to_string()),
        ),
        (
            "destination_ports",
            rule.destination_ports.map(|ports| ports.to_string()),
        ),
        ("ingress", rule.ingress.clone()),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            table.insert(key, value(text));
        }
    }
    table
}

/// The services as a file of their own.
pub fn to_text(configuration: &Configuration) -> String {
    // The empty text is TOML, so there is no error to report.
    merge("", configuration).unwrap_or_default()
}

/// The tables of `[[key]]`, in whichever way they are written.
pub(super) fn tables(item: Option<Item>) -> Vec<Table> {
    match item.map(Item::into_array_of_tables) {
        Some(Ok(array)) => array.into_iter().collect(),
        _ => Vec::new(),
    }
}

pub(super) fn take(tables: &mut Vec<Table>, is_wanted: impl Fn(&Table) -> bool) -> Option<Table> {
    let index = tables.iter().position(is_wanted)?;
    Some(tables.remove(index))
}

pub(super) fn text<'a>(table: &'a Table, key: &str) -> Option<&'a str> {
    table.get(key)?.as_str()
}

fn describes_service(table: &Table, entry: &ServiceEntry) -> bool {
    match entry.service.id {
        ServiceId::Address(id) => {
            let address = text(table, "address").and_then(|address| address.parse().ok());
            text(table, "protocol") == Some(id.protocol.as_word()) && address == Some(id.endpoint)
        }
        ServiceId::Fwmark(id) => {
            let mark = table.get("fwmark").and_then(Item::as_integer);
            mark == Some(id.fwmark.get().into())
                && text(table, "family").unwrap_or("ipv4") == family_word(id.family)
        }
    }
}

fn describes_server(table: &Table, service: ServiceId, destination: &Destination) -> bool {
    let address: Option<ServerAddress> =
        text(table, "address").and_then(|address| address.parse().ok());
    address.and_then(|address| address.endpoint_for(service).ok()) == Some(destination.id)
}

fn family_word(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}

/// The table of a service, made from the one the file had.
fn service_table(mut table: Table, entry: &ServiceEntry) -> Table {
    let id = entry.service.id;
    let mut old_servers = tables(table.remove("server"));
    // Where a table stood matters no more: it goes where the configuration has it.
    table.set_position(None);
    if table.is_empty() {
        match id {
            ServiceId::Address(id) => {
                table.insert("protocol", value(id.protocol.as_word()));
                table.insert("address", value(id.endpoint.to_string()));
            }
            ServiceId::Fwmark(id) => {
                table.insert("fwmark", value(i64::from(id.fwmark.get())));
                set(&mut table, "family", family_word(id.family), Some("ipv4"));
            }
        }
    }
    // The scheduler is always written: it is what people look for.
    set(
        &mut table,
        "scheduler",
        entry.service.scheduler.as_str(),
        None,
    );
    set_flags(&mut table, &entry.service);
    set_persistence(&mut table, &entry.service);
    set_timeouts(&mut table, &entry.service);
    // The list is last added first; the file is in the order of adding.
    let servers: ArrayOfTables = entry
        .destinations
        .iter()
        .rev()
        .map(|destination| {
            let known = take(&mut old_servers, |table| {
                describes_server(table, id, destination)
            });
            server_table(known.unwrap_or_default(), destination)
        })
        .collect();
    if !servers.is_empty() {
        table.insert("server", Item::ArrayOfTables(servers));
    }
    table
}

/// Flags are written when there are any. Those that are there already stay as they are written, comments and all.
fn set_flags(table: &mut Table, service: &VirtualService) {
    const KEY: &str = "scheduler_flags";
    let flags = service.scheduler_flags;
    let known = table.get(KEY).and_then(Item::as_array).map(|array| {
        let texts = array.iter().filter_map(|flag| flag.as_str()?.parse().ok());
        let known: SchedulerFlags = texts.collect();
        known.named_for(service.scheduler)
    });
    if flags.is_empty() {
        table.remove(KEY);
    } else if known != Some(flags) {
        let array: Array = flags.names().into_iter().collect();
        table.insert(KEY, value(array));
    }
}

/// Only what is not the default is written; a netmask without persistence would mean nothing.
fn set_persistence(table: &mut Table, service: &VirtualService) {
    let (timeout, netmask) = ("persistence_timeout", "persistence_netmask");
    match service.persistence {
        Some(persistence) => set(table, timeout, i64::from(persistence.timeout_s), None),
        None => {
            table.remove(timeout);
        }
    }
    match service.persistence.and_then(|found| found.netmask) {
        Some(mask) => set(table, netmask, mask.to_string().as_str(), None),
        None => {
            table.remove(netmask);
        }
    }
    match service.persistence_engine {
        Some(engine) => set(table, "persistence_engine", engine.as_str(), None),
        None => {
            table.remove("persistence_engine");
        }
    }
    if service.one_packet {
        set(table, "one_packet", true, None);
    } else {
        table.remove("one_packet");
    }
}

/// Those that a service has, in one line; a line that says the same stays as it is written.
fn set_timeouts(table: &mut Table, service: &VirtualService) {
    const KEY: &str = "timeouts";
    let wanted: Vec<(&str, i64)> = service
        .timeouts
        .given()
        .map(|(name, seconds)| (name, seconds.into()))
        .collect();
    let known = table.get(KEY).and_then(Item::as_table_like).map(|known| {
        let all = known.iter();
        all.filter_map(|(name, value)| Some((name, value.as_integer()?)))
            .collect::<BTreeMap<&str, i64>>()
    });
    if wanted.is_empty() {
        table.remove(KEY);
    } else if known != Some(wanted.iter().copied().collect()) {
        let inline: InlineTable = wanted.into_iter().collect();
        table.insert(KEY, value(inline));
    }
}

/// The table of a server, made from the one the file had.
pub(super) fn server_table(mut table: Table, destination: &Destination) -> Table {
    table.set_position(None);
    if table.is_empty() {
        table.insert("address", value(destination.id.to_string()));
    }
    let number = |number: u32| i64::from(number);
    let method = destination.method.to_string();
    let default_method = ForwardingMethod::default().to_string();
    set(
        &mut table,
        "method",
        method.as_str(),
        Some(default_method.as_str()),
    );
    set_tunnel(&mut table, destination.tunnel);
    set(
        &mut table,
        "weight",
        number(destination.weight.get()),
        Some(number(Weight::default().get())),
    );
    for (key, threshold) in [
        ("upper_threshold", destination.upper_threshold),
        ("lower_threshold", destination.lower_threshold),
    ] {
        set(&mut table, key, number(threshold), Some(0));
    }
    table
}

/// Only what is not the default is written; of one that is there already, what is true stays and the rest goes.
fn set_tunnel(table: &mut Table, tunnel: Tunnel) {
    let default = Tunnel::default();
    for (key, word, default) in [
        (
            "tunnel_type",
            tunnel.tunnel_type.as_str(),
            default.tunnel_type.as_str(),
        ),
        (
            "tunnel_checksum",
            tunnel.checksum.as_str(),
            default.checksum.as_str(),
        ),
    ] {
        if word == default && text(table, key) != Some(default) {
            table.remove(key);
        } else {
            set(table, key, word, None);
        }
    }
    match tunnel.port {
        Some(port) => set(table, "tunnel_port", i64::from(port.get()), None),
        None => {
            table.remove("tunnel_port");
        }
    }
}

/// Sets a key to a value. A default is only written over another value, and the comment behind it stays.
pub(super) fn set<V>(table: &mut Table, key: &str, new: V, default: Option<V>)
where
    V: Into<Value> + PartialEq,
{
    let is_default = default.is_some_and(|default| default == new);
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = new.into();
            *old.decor_mut() = decor;
        }
        None if is_default => {}
        None => {
            table.insert(key, value(new));
        }
    }
}

/// Sets a key to a value, or removes it for none. A default is not written where nothing stands.
pub(super) fn set_value(table: &mut Table, key: &str, new: Option<Value>, default: Option<Value>) {
    let plain = |value: &Value| value.clone().decorated("", "").to_string();
    let Some(new) = new else {
        table.remove(key);
        return;
    };
    match table.get_mut(key).and_then(Item::as_value_mut) {
        // As it is written, if it says the same.
        Some(old) if plain(old) == plain(&new) => {}
        Some(old) => {
            let decor = old.decor().clone();
            *old = new;
            *old.decor_mut() = decor;
        }
        None if default.is_some_and(|default| plain(&default) == plain(&new)) => {}
        None => {
            table.insert(key, value(new));
        }
    }
}

/// Readers see the old file or the new one, never a part; after a power cut as well.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let written = write_beside(path, &new, bytes).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // The error that matters is the first one.
        let _ = fs::remove_file(&new);
    }
    written?;
    if let Some(directory) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn write_beside(path: &Path, new: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(new)?;
    if let Ok(old) = fs::metadata(path) {
        file.set_permissions(fs::Permissions::from_mode(old.mode()))?;
        chown(new, Some(old.uid()), Some(old.gid()))?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
