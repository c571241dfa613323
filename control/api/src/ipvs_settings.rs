//! The settings of IPVS: what Linux has below `/proc/sys/net/ipv4/vs`, by the kernel's names, and the timeouts by state, by
//! the names that `ipvsadm(8)` has for them.
//!
//! Every name the kernel knows is known here. Those that cannot mean anything in Pollux, or not yet, keep the kernel's
//! default; setting them to it is fine, to anything else an error that says why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What is known of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The kernel's name.
    pub name: &'static str,
    /// The kernel's default.
    pub default: u32,
    /// The smallest value.
    pub min: u32,
    /// The largest value; the default when [`Setting::fixed`].
    pub max: u32,
    /// Whether it is a file of `/proc/sys/net/ipv4/vs`.
    pub is_sysctl: bool,
    /// Why it cannot be changed, when it cannot.
    pub fixed: Option<&'static str>,
    /// What it does, for people.
    pub what: &'static str,
}

const fn acts(name: &'static str, default: u32, max: u32, what: &'static str) -> Setting {
    Setting {
        name,
        default,
        min: 0,
        max,
        is_sysctl: true,
        fixed: None,
        what,
    }
}

const fn fixed(name: &'static str, default: u32, why: &'static str) -> Setting {
    Setting {
        name,
        default,
        min: default,
        max: default,
        is_sysctl: true,
        fixed: Some(why),
        what: why,
    }
}

const fn timeout(name: &'static str, default: u32, what: &'static str) -> Setting {
    Setting {
        name,
        default,
        min: 1,
        // The kernel counts them in an `int` of ticks, of which there are up to 1000 a second.
        max: i32::MAX as u32 / 1000,
        is_sysctl: false,
        fixed: None,
        what,
    }
}

const NO_CONNTRACK: &str = "packets do not pass the kernel's connection tracking";
const OLD_VERSION: &str =
    "messages of version 0, of kernels before 2.6.39, are understood and not sent";
const NO_MEMORY_WATCH: &str =
    "the connection table has a fixed size, so its fill counts, not free memory";
/// Seconds: 115 days, some less than ticks can be compared over.
const EXPIRATION_MAX: u32 = 10_000_000;

/// All settings, in the order of their names.
pub const SETTINGS: &[Setting] = &[
    acts(
        "am_droprate",
        10,
        i32::MAX as u32,
        "drop_packet drops one new connection in so many",
    ),
    fixed("amemthresh", 1024, NO_MEMORY_WATCH),
    acts(
        "backup_only",
        0,
        1,
        "while the sync backup runs, packets of clients are the kernel's",
    ),
    fixed("cache_bypass", 0, "there is no way past a cache cluster"),
    acts(
        "conn_reuse_mode",
        1,
        3,
        "which old connections a SYN on their ports ends: 1 over ones, 2 also half-closed ones \
        whose answers do not pass here, 0 none",
    ),
    fixed("conntrack", 0, NO_CONNTRACK),
    acts(
        "drop_entry",
        0,
        3,
        "end connections that look dead, at random: 0 never, 1 and 2 while the table is full, 3 always",
    ),
    acts(
        "drop_packet",
        0,
        3,
        "refuse some new connections: 0 never, 1 and 2 while the table is full, 3 always",
    ),
    acts(
        "expire_nodest_conn",
        0,
        1,
        "connections of a server end when it is removed, or with their next packet; 0: they wait for it to return",
    ),
    acts(
        "expire_quiescent_template",
        0,
        1,
        "a server of weight 0 keeps no persistent clients",
    ),
    acts(
        "ignore_tunneled",
        0,
        1,
        "packets of unknown protocols are the kernel's, as they are anyway",
    ),
    acts(
        "lblc_expiration",
        86_400,
        EXPIRATION_MAX,
        "seconds; lblc forgets, each half hour, the addresses that it was not asked for so long",
    ),
    acts(
        "lblcr_expiration",
        86_400,
        EXPIRATION_MAX,
        "seconds; the same of lblcr, and a set of servers that stayed so long loses its most loaded",
    ),
    Setting {
        name: "mh_tab_index",
        default: 12,
        min: 8,
        max: 17,
        is_sysctl: false,
        fixed: None,
        what: "tables of mh have some less than 2 to the power of it buckets, as Linux' CONFIG_IP_VS_MH_TAB_INDEX; the more \
        (13 for ten servers, 14 for thirty, 16 for a hundred), the fewer clients move when others' servers go",
    },
    acts(
        "nat_icmp_send",
        0,
        1,
        "tell a server whose packet belongs to no connection",
    ),
    acts(
        "pmtu_disc",
        1,
        1,
        "the client is told the size that fits the tunnel; 0: what is too large goes in fragments",
    ),
    acts(
        "run_estimation",
        1,
        1,
        "0: rates of services and servers stand still, and IPVS tools see totals as they stood",
    ),
    acts(
        "schedule_icmp",
        0,
        1,
        "an ICMP error about an unknown flow of a service goes to a server; 0: to the kernel",
    ),
    acts(
        "secure_tcp",
        0,
        3,
        "TCP states that believe clients less: 0 never, 1 and 2 while the table is full, 3 always",
    ),
    acts(
        "sloppy_sctp",
        0,
        1,
        "any SCTP packet but ABORT may open a connection",
    ),
    acts(
        "sloppy_tcp",
        0,
        1,
        "any TCP segment but RST may open a connection",
    ),
    fixed(
        "snat_reroute",
        1,
        "answers are routed by their new source anyway",
    ),
    Setting {
        // The second number in the kernel's file `sync_threshold`.
        is_sysctl: false,
        ..acts(
            "sync_period",
            50,
            i32::MAX as u32,
            "the sync master tells of a connection again with each so many packets; 0: once",
        )
    },
    acts(
        "sync_persist_mode",
        0,
        1,
        "the sync master tells of templates, and not of the connections made after them",
    ),
    Setting {
        min: 1,
        ..acts(
            "sync_ports",
            1,
            64,
            "UDP ports that messages are spread over: 1, 2, 4, 8, 16, 32 or 64; as a daemon is started",
        )
    },
    acts(
        "sync_qlen_max",
        4096,
        i32::MAX as u32,
        "messages that may wait for the socket of the sync master; the kernel's default is a part of its memory",
    ),
    acts(
        "sync_refresh_period",
        0,
        // The kernel counts it in an `int` of ticks.
        i32::MAX as u32 / 1000,
        "seconds that the end of a connection moves before it is told of again; 0: packets alone decide",
    ),
    acts(
        "sync_retries",
        0,
        3,
        "how often it is told of again before that, an eighth of sync_refresh_period apart",
    ),
    acts(
        "sync_sock_size",
        0,
        i32::MAX as u32,
        "bytes of the sync daemons' socket buffers; 0: the kernel's default; as a daemon is started",
    ),
    acts(
        "sync_threshold",
        3,
        i32::MAX as u32,
        "with its packet of this number a connection is told of first, and then with each sync_period",
    ),
    fixed("sync_version", 1, OLD_VERSION),
    timeout("timeout_close", 10, "TCP, state CLOSE"),
    timeout("timeout_closewait", 60, "TCP, state CLOSE_WAIT"),
    timeout(
        "timeout_established",
        900,
        "TCP, state ESTABLISHED; `ipvsadm --set`",
    ),
    timeout(
        "timeout_finwait",
        120,
        "TCP, state FIN_WAIT; `ipvsadm --set`",
    ),
    timeout("timeout_lastack", 30, "TCP, state LAST_ACK"),
    timeout("timeout_listen", 120, "TCP, state LISTEN"),
    timeout("timeout_synack", 120, "TCP, state SYNACK"),
    timeout("timeout_synrecv", 60, "TCP, state SYN_RECV"),
    timeout("timeout_synsent", 120, "TCP, state SYN_SENT"),
    timeout("timeout_timewait", 120, "TCP, state TIME_WAIT"),
    timeout("timeout_udp", 300, "UDP; `ipvsadm --set`"),
];

/// Why a setting cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingError {
    /// No such name.
    #[error("no such setting: {0}; `pollux show settings` lists them all")]
    Unknown(String),
    /// Out of range.
    #[error("{name} = {value} is out of range: write a number from {min} to {max}")]
    Range {
        /// The setting.
        name: &'static str,
        /// What was asked for.
        value: u32,
        /// The smallest that is possible.
        min: u32,
        /// The largest that is possible.
        max: u32,
    },
    /// Only powers of two.
    #[error("sync_ports = {0}: write 1, 2, 4, 8, 16, 32 or 64")]
    Ports(u32),
    /// A packet that no period has.
    #[error(
        "sync_threshold = {threshold} is not below sync_period = {period}: write a smaller one, or a period that is \
         larger or 0"
    )]
    Threshold {
        /// As set.
        threshold: u32,
        /// As set.
        period: u32,
    },
    /// Only one value is to be had.
    #[error("{name} can only be {value}: {why}")]
    Fixed {
        /// The setting.
        name: &'static str,
        /// The value it has.
        value: u32,
        /// Why.
        why: &'static str,
    },
}

/// What is known of a setting of this name.
///
/// # Errors
/// [`SettingError::Unknown`].
pub fn setting(name: &str) -> Result<&'static Setting, SettingError> {
    SETTINGS
        .iter()
        .find(|known| known.name == name)
        .ok_or_else(|| SettingError::Unknown(name.to_owned()))
}

/// The settings that differ from the kernel's defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, u32>", into = "BTreeMap<String, u32>")]
pub struct IpvsSettings(BTreeMap<&'static str, u32>);

impl IpvsSettings {
    /// Whether all are the kernel's defaults.
    pub fn is_default(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a setting; 0 of one that there is none of.
    pub fn get(&self, name: &str) -> u32 {
        let default = || setting(name).map_or(0, |known| known.default);
        self.0.get(name).copied().unwrap_or_else(default)
    }

    /// Sets one.
    ///
    /// # Errors
    /// [`SettingError`]; nothing has changed.
    pub fn set(&mut self, name: &str, value: u32) -> Result<(), SettingError> {
        let known = setting(name)?;
        if !(known.min..=known.max).contains(&value) {
            return Err(match known.fixed {
                Some(why) => SettingError::Fixed {
                    name: known.name,
                    value: known.default,
                    why,
                },
                None => SettingError::Range {
                    name: known.name,
                    value,
                    min: known.min,
                    max: known.max,
                },
            });
        }
        if known.name == "sync_ports" && !value.is_power_of_two() {
            return Err(SettingError::Ports(value));
        }
        if value == known.default {
            self.0.remove(known.name);
        } else {
            self.0.insert(known.name, value);
        }
        Ok(())
    }

    /// Whether they go together; each by itself is possible.
    ///
    /// # Errors
    /// [`SettingError::Threshold`].
    pub fn check(&self) -> Result<(), SettingError> {
        let (threshold, period) = (self.get("sync_threshold"), self.get("sync_period"));
        if period != 0 && threshold >= period {
            return Err(SettingError::Threshold { threshold, period });
        }
        Ok(())
    }

    /// Those that differ from their defaults, by name.
    pub fn changed(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.0.iter().map(|(name, value)| (*name, *value))
    }
}

impl TryFrom<BTreeMap<String, u32>> for IpvsSettings {
    type Error = SettingError;

    fn try_from(values: BTreeMap<String, u32>) -> Result<Self, SettingError> {
        let mut settings = Self::default();
        for (name, value) in values {
            settings.set(&name, value)?;
        }
        settings.check()?;
        Ok(settings)
    }
}

impl From<IpvsSettings> for BTreeMap<String, u32> {
    fn from(settings: IpvsSettings) -> Self {
        settings
            .changed()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_defaults_are_possible() {
        assert!(SETTINGS.is_sorted_by_key(|known| known.name));
        for known in SETTINGS {
            let mut settings = IpvsSettings::default();
            settings.set(known.name, known.default).unwrap();
            assert!(settings.is_default(), "{}", known.name);
            assert_eq!(settings.get(known.name), known.default);
        }
    }

    #[test]
    fn what_cannot_be_set_is_refused_with_the_reason() {
        let mut settings = IpvsSettings::default();
        for (name, value, expected) in [
            ("no_such", 1, "no such setting: no_such"),
            ("conn_reuse_mode", 4, "write a number from 0 to 3"),
            ("timeout_udp", 0, "write a number from 1 to"),
            (
                "conntrack",
                1,
                "conntrack can only be 0: packets do not pass",
            ),
        ] {
            let error = settings.set(name, value).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(settings.is_default());
    }

    #[test]
    fn a_threshold_is_a_packet_of_the_period() {
        let mut settings = IpvsSettings::default();
        settings.set("sync_threshold", 50).unwrap();
        let error = settings.check().unwrap_err().to_string();
        assert!(error.contains("not below sync_period = 50"), "{error}");
        for period in [51, 0] {
            settings.set("sync_period", period).unwrap();
            assert_eq!(settings.check(), Ok(()));
        }
        for ports in [3, 63] {
            assert_eq!(
                settings.set("sync_ports", ports),
                Err(SettingError::Ports(ports))
            );
        }
        settings.set("sync_ports", 64).unwrap();
        assert!(serde_json::from_str::<IpvsSettings>(r#"{"sync_threshold":50}"#).is_err());
    }

    #[test]
    fn only_what_differs_is_written() {
        let mut settings = IpvsSettings::default();
        settings.set("sloppy_tcp", 1).unwrap();
        settings.set("timeout_udp", 60).unwrap();
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(text, r#"{"sloppy_tcp":1,"timeout_udp":60}"#);
        assert_eq!(
            serde_json::from_str::<IpvsSettings>(&text).unwrap(),
            settings
        );
        let error = serde_json::from_str::<IpvsSettings>(r#"{"sloppy_tcp":2}"#).unwrap_err();
        assert!(error.to_string().contains("from 0 to 1"), "{error}");
    }
}
