//! Connection synchronisation between directors: what the two daemons of IPVS are, here parts of the data plane.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::identity::{DestinationId, ServiceId};

/// The group of the kernel's.
pub const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81));
/// The port of the kernel's.
pub const PORT: u16 = 8848;
/// The hops of the kernel's.
pub const TTL: u8 = 1;
/// `IFNAMSIZ`, without the NUL, bytes.
pub const INTERFACE_BYTES_MAX: usize = 15;
/// A backup takes messages of at least so many bytes, whatever is said.
const BACKUP_BYTES_MIN: u16 = 1024;
/// What a master's messages are made for, bytes.
const MTU: u16 = 1500;

/// Which of the two: both may run in one director, with ids of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncRole {
    /// Tells other directors of connections.
    Master,
    /// Takes over connections of other directors.
    Backup,
}

impl SyncRole {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Master, Self::Backup];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Backup => "backup",
        }
    }
}

impl fmt::Display for SyncRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for SyncRole {
    type Err = SyncError;

    fn from_str(text: &str) -> Result<Self, SyncError> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| SyncError::Role(text.to_owned()))
    }
}

/// A daemon as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncDaemon {
    /// The kernel's interface of the multicasts: a port's TAP, or any other.
    pub interface: String,
    /// Which directors belong together. A backup of id 0 takes what all of them tell.
    #[serde(default)]
    pub id: u8,
    /// The multicast group.
    #[serde(default = "default_group", skip_serializing_if = "is_default_group")]
    pub group: IpAddr,
    /// Its UDP port; with several (`sync_ports`) the first.
    #[serde(default = "default_port", skip_serializing_if = "is_default_port")]
    pub port: u16,
    /// Time to live of a master's datagrams, hops.
    #[serde(default = "default_ttl", skip_serializing_if = "is_default_ttl")]
    pub ttl: u8,
    /// UDP payload of a datagram, bytes, at most; none: what a packet of 1500 bytes carries, of a backup what the interface's
    /// does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagram_bytes: Option<u16>,
}

fn default_group() -> IpAddr {
    GROUP
}

fn default_port() -> u16 {
    PORT
}

fn default_ttl() -> u8 {
    TTL
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_default_group(group: &IpAddr) -> bool {
    *group == GROUP
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_default_port(port: &u16) -> bool {
    *port == PORT
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_default_ttl(ttl: &u8) -> bool {
    *ttl == TTL
}

/// The daemons that run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncDaemons {
    /// The master.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<SyncDaemon>,
    /// The backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<SyncDaemon>,
}

/// Why a daemon cannot be started or stopped.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SyncError {
    /// Neither.
    #[error("{0:?} is no daemon of synchronisation: write master or backup")]
    Role(String),
    /// It runs.
    #[error("the sync {0} runs already: stop it first with `pollux sync stop {0}`")]
    Runs(SyncRole),
    /// It does not run.
    #[error("the sync {0} does not run: `pollux show sync` tells which do")]
    DoesNotRun(SyncRole),
    /// No interface has such a name.
    #[error(
        "{0:?} is no name of an interface: write that of one of this machine, as `ip link` lists it"
    )]
    Interface(String),
    /// Not a multicast address.
    #[error(
        "{0} is no multicast group: write one of 224.0.0.0/4 or ff00::/8, such as {GROUP}, or leave it out"
    )]
    Group(IpAddr),
    /// Port 0.
    #[error("port 0 is no port: write a number from 1 to 65535, or leave it out for {PORT}")]
    Port,
    /// No hops.
    #[error("a ttl of 0 leads nowhere: write a number from 1 to 255, or leave it out for {TTL}")]
    Ttl,
    /// Datagrams too large or too small.
    #[error("datagrams of {bytes} bytes: write a number from {min} to {max}, or leave it out")]
    DatagramBytes {
        /// What was asked for.
        bytes: u16,
        /// The least.
        min: u16,
        /// The most.
        max: u16,
    },
    /// The protocol has no room for two families in one entry.
    #[error(
        "server {1} of service {0} is of another address family than its service, which connection synchronisation \
         cannot tell of: remove it, or do without synchronisation"
    )]
    MixedFamilies(ServiceId, DestinationId),
}

impl SyncDaemon {
    /// One of all defaults.
    pub fn new(interface: impl Into<String>, id: u8) -> Self {
        Self {
            interface: interface.into(),
            id,
            group: GROUP,
            port: PORT,
            ttl: TTL,
            datagram_bytes: None,
        }
    }

    /// Bytes of the headers in front of a datagram's payload.
    fn header_bytes(&self) -> u16 {
        if self.group.is_ipv4() { 28 } else { 48 }
    }

    /// How small and how large its datagrams may be, bytes.
    pub fn datagram_range(&self, role: SyncRole) -> (u16, u16) {
        let min = match role {
            SyncRole::Master => 1,
            SyncRole::Backup => BACKUP_BYTES_MIN,
        };
        (min, u16::MAX - self.header_bytes())
    }

    /// How large its datagrams are at most, bytes, on an interface of this MTU.
    pub fn datagram_bytes_max(&self, role: SyncRole, mtu: u16) -> u16 {
        let mtu = match role {
            SyncRole::Master => MTU,
            SyncRole::Backup => mtu.max(MTU),
        };
        self.datagram_bytes.unwrap_or(mtu - self.header_bytes())
    }

    /// Whether it is possible, whatever the machine is like.
    ///
    /// # Errors
    /// [`SyncError`].
    pub fn check(&self, role: SyncRole) -> Result<(), SyncError> {
        let name = &self.interface;
        let is_name = (1..=INTERFACE_BYTES_MAX).contains(&name.len())
            && !name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control());
        if !is_name {
            return Err(SyncError::Interface(name.clone()));
        }
        if !self.group.is_multicast() {
            return Err(SyncError::Group(self.group));
        }
        if self.port == 0 {
            return Err(SyncError::Port);
        }
        if self.ttl == 0 {
            return Err(SyncError::Ttl);
        }
        let (min, max) = self.datagram_range(role);
        match self.datagram_bytes {
            Some(bytes) if !(min..=max).contains(&bytes) => {
                Err(SyncError::DatagramBytes { bytes, min, max })
            }
            _ => Ok(()),
        }
    }
}

impl SyncDaemons {
    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.master.is_none() && self.backup.is_none()
    }

    /// One of them, if it runs.
    pub fn get(&self, role: SyncRole) -> Option<&SyncDaemon> {
        match role {
            SyncRole::Master => self.master.as_ref(),
            SyncRole::Backup => self.backup.as_ref(),
        }
    }

    fn place(&mut self, role: SyncRole) -> &mut Option<SyncDaemon> {
        match role {
            SyncRole::Master => &mut self.master,
            SyncRole::Backup => &mut self.backup,
        }
    }

    /// Starts one.
    ///
    /// # Errors
    /// [`SyncError`]; nothing has changed.
    pub fn start(&mut self, role: SyncRole, daemon: &SyncDaemon) -> Result<(), SyncError> {
        daemon.check(role)?;
        let place = self.place(role);
        if place.is_some() {
            return Err(SyncError::Runs(role));
        }
        *place = Some(daemon.clone());
        Ok(())
    }

    /// Stops one.
    ///
    /// # Errors
    /// [`SyncError::DoesNotRun`].
    pub fn stop(&mut self, role: SyncRole) -> Result<(), SyncError> {
        let stopped = self.place(role).take();
        stopped.map(drop).ok_or(SyncError::DoesNotRun(role))
    }
}

/// The daemons as they are now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SyncStatus {
    /// The master.
    pub master: Option<MasterStatus>,
    /// The backup.
    pub backup: Option<BackupStatus>,
}

/// The master, with what it has done since it was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterStatus {
    /// As configured.
    #[serde(flatten)]
    pub daemon: SyncDaemon,
    /// UDP payload of a datagram, bytes, at most.
    pub datagram_bytes_max: u16,
    /// How many UDP ports it sends to.
    pub ports: u8,
    /// Whether its sockets are open: without, it tries again each second.
    pub is_open: bool,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Bytes of their payload.
    pub bytes: u64,
    /// Connections in them.
    pub connections: u64,
    /// Connections that were not told of, because too many waited: for the main thread or, more than `sync_qlen_max`
    /// datagrams of them, for the socket.
    pub dropped: u64,
    /// Datagrams that the kernel refused.
    pub send_errors: u64,
}

/// The backup, with what it has done since it was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupStatus {
    /// As configured.
    #[serde(flatten)]
    pub daemon: SyncDaemon,
    /// UDP payload of a datagram, bytes, at most.
    pub datagram_bytes_max: u16,
    /// How many UDP ports it listens on.
    pub ports: u8,
    /// Whether its sockets are open: without, it tries again each second.
    pub is_open: bool,
    /// Datagrams received.
    pub datagrams: u64,
    /// Those of another id.
    pub other_ids: u64,
    /// Those that were no message, or broke off.
    pub broken: u64,
    /// Entries of messages that were refused: flags, states, protocols or options that are not known.
    pub refused: u64,
    /// Connections that were dropped because workers had too many to take over already.
    pub dropped: u64,
    /// Connections that were new here, since the data plane's start, as those that follow.
    pub made: u64,
    /// Connections that were here already.
    pub changed: u64,
    /// Ends of connections in whose place there is another one here.
    pub passed_over: u64,
    /// Connections for which there was no room.
    pub no_room: u64,
    /// Connections of kinds that are not had here, and templates whose server is not here.
    pub unusable: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written() {
        let daemon = SyncDaemon::new("wan", 7);
        let text = serde_json::to_string(&daemon).unwrap();
        assert_eq!(text, r#"{"interface":"wan","id":7}"#);
        assert_eq!(serde_json::from_str::<SyncDaemon>(&text).unwrap(), daemon);
    }

    #[test]
    fn what_cannot_be_is_refused_and_says_what_can() {
        let plain = SyncDaemon::new("wan", 7);
        let check = |change: &dyn Fn(&mut SyncDaemon), role| {
            let mut daemon = plain.clone();
            change(&mut daemon);
            daemon.check(role).map_err(|error| error.to_string())
        };
        let master = SyncRole::Master;
        for (change, role, expected) in [
            (
                &(|daemon: &mut SyncDaemon| daemon.interface.clear()) as &dyn Fn(&mut SyncDaemon),
                master,
                "no name of an interface",
            ),
            (
                &|daemon| daemon.interface = "0123456789abcdef".into(),
                master,
                "`ip link`",
            ),
            (
                &|daemon| daemon.group = "10.0.0.1".parse().unwrap(),
                master,
                "224.0.0.0/4",
            ),
            (&|daemon| daemon.port = 0, master, "from 1 to 65535"),
            (&|daemon| daemon.ttl = 0, master, "from 1 to 255"),
            (
                &|daemon| daemon.datagram_bytes = Some(0),
                master,
                "from 1 to 65507",
            ),
            (
                &|daemon| daemon.datagram_bytes = Some(1000),
                SyncRole::Backup,
                "from 1024 to 65507",
            ),
        ] {
            let error = check(change, role).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(check(&|_| {}, master), Ok(()));
        let sizes = |group: &str, role, mtu| {
            let mut daemon = plain.clone();
            daemon.group = group.parse().unwrap();
            daemon.datagram_bytes_max(role, mtu)
        };
        assert_eq!(sizes("224.0.0.81", master, 9000), 1472);
        assert_eq!(sizes("ff02::51", SyncRole::Backup, 9000), 8952);
        assert_eq!(sizes("ff02::51", SyncRole::Backup, 1000), 1452);
    }

    #[test]
    fn each_runs_once() {
        let (mut daemons, daemon) = (SyncDaemons::default(), SyncDaemon::new("wan", 7));
        for role in SyncRole::ALL {
            assert_eq!(daemons.stop(role), Err(SyncError::DoesNotRun(role)));
            daemons.start(role, &daemon).unwrap();
            assert_eq!(daemons.start(role, &daemon), Err(SyncError::Runs(role)));
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        for role in SyncRole::ALL {
            daemons.stop(role).unwrap();
        }
        assert!(daemons.is_empty());
    }
}
