//! Settings of `net.ipv4.vs`, as scenarios give them.

use pollux_engine::clock::seconds;
use pollux_engine::{Defence, IpvsSettings};

use super::command::Unsupported;

/// A setting the engine heeds, or one that says what Pollux does anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    name: &'static str,
    value: u32,
    /// Of the one setting that may have two.
    second: Option<u32>,
}

/// Those that only one value of is had: what they are named, and that value.
const FIXED: [(&str, u32); 5] = [
    ("conntrack", 0),
    ("snat_reroute", 1),
    ("cache_bypass", 0),
    ("run_estimation", 1),
    ("sync_version", 1),
];
const HEEDED: [&str; 25] = [
    "conn_reuse_mode",
    "expire_nodest_conn",
    "expire_quiescent_template",
    "sloppy_tcp",
    "sloppy_sctp",
    "nat_icmp_send",
    "schedule_icmp",
    "pmtu_disc",
    "drop_packet",
    "am_droprate",
    "drop_entry",
    "secure_tcp",
    "ignore_tunneled",
    "lblc_expiration",
    "lblcr_expiration",
    "mh_tab_index",
    "backup_only",
    "sync_threshold",
    "sync_period",
    "sync_ports",
    "sync_qlen_max",
    "sync_sock_size",
    "sync_refresh_period",
    "sync_retries",
    "sync_persist_mode",
];

/// Reads `net.ipv4.vs.sloppy_tcp=1`.
///
/// # Errors
/// A setting that Pollux does not have.
pub fn read(text: &str) -> Result<Setting, Unsupported> {
    let unsupported = || Unsupported(text.to_owned());
    let (name, value) = text.split_once('=').ok_or_else(unsupported)?;
    let name = name.trim_start_matches("net.ipv4.vs.");
    let (value, second) = match value.split_once(' ') {
        Some((value, second)) => (value, Some(second)),
        None => (value, None),
    };
    let number = |text: &str| text.parse::<u32>().map_err(|_| unsupported());
    let (value, second) = (number(value)?, second.map(number).transpose()?);
    let heeded = HEEDED.iter().find(|known| **known == name);
    let fixed = FIXED.iter().find(|known| **known == (name, value));
    let name = heeded.or(fixed.map(|(name, _)| name));
    name.map(|name| Setting {
        name,
        value,
        second,
    })
    .ok_or_else(unsupported)
}

/// Settings of synchronisation, of memory, and of the machine around IPVS that change nothing of what is replayed.
const WITHOUT_EFFECT: [&str; 11] = [
    "net.ipv4.vs.sync_",
    "net.ipv4.vs.amemthresh=",
    "net.ipv4.vs.est_",
    "net.ipv4.vs.conn_tab",
    "net.ipv4.conf.",
    "net.ipv6.conf.",
    "net.ipv4.icmp_",
    "net.ipv6.icmp.",
    "net.ipv4.ip_forward=1",
    "net.core.",
    "net.netfilter.",
];

/// Reads a setting that a scenario begins with; nothing for one that changes nothing here.
///
/// # Errors
/// A setting that Pollux does not have.
pub fn of_scenario(text: &str) -> Result<Option<Setting>, Unsupported> {
    match read(text) {
        Ok(setting) => Ok(Some(setting)),
        Err(_) if WITHOUT_EFFECT.iter().any(|part| text.starts_with(part)) => Ok(None),
        Err(unsupported) => Err(unsupported),
    }
}

impl Setting {
    /// Sets it.
    pub fn apply(self, settings: &mut IpvsSettings) {
        let on = self.value != 0;
        let defence = match self.value {
            0 => Defence::Never,
            3 => Defence::Always,
            _ => Defence::WhenFull,
        };
        match self.name {
            "conn_reuse_mode" => settings.conn_reuse_mode = u8::try_from(self.value).unwrap_or(0),
            "expire_nodest_conn" => settings.expire_nodest_conn = on,
            "expire_quiescent_template" => settings.expire_quiescent_template = on,
            "sloppy_tcp" => settings.sloppy_tcp = on,
            "sloppy_sctp" => settings.sloppy_sctp = on,
            "nat_icmp_send" => settings.nat_icmp_send = on,
            "schedule_icmp" => settings.schedule_icmp = on,
            "pmtu_disc" => settings.pmtu_disc = on,
            "drop_packet" => settings.drop_packet = defence,
            "am_droprate" => settings.am_droprate = self.value,
            "drop_entry" => settings.drop_entry = defence,
            "lblc_expiration" => settings.lblc_expiration = seconds(self.value),
            "lblcr_expiration" => settings.lblcr_expiration = seconds(self.value),
            "mh_tab_index" => settings.mh_tab_index = u8::try_from(self.value).unwrap_or(12),
            "secure_tcp" => settings.secure_tcp = defence,
            "backup_only" => settings.backup_only = on,
            "sync_threshold" => {
                settings.sync.threshold = self.value;
                settings.sync.period = self.second.unwrap_or(settings.sync.period);
            }
            "sync_period" => settings.sync.period = self.value,
            "sync_refresh_period" => settings.sync.refresh = seconds(self.value),
            "sync_retries" => settings.sync.retries = self.value,
            "sync_persist_mode" => settings.sync.persist_mode = on,
            _ => {}
        }
    }
}
