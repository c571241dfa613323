//! `pollux sync`: the daemons of connection synchronisation.

use std::net::IpAddr;

use clap::{Args, Subcommand, ValueEnum};
use pollux_api::{Change, SyncDaemon, SyncRole};

/// What to do with the daemons.
#[derive(Debug, Subcommand)]
pub enum SyncVerb {
    /// Start a daemon: `master` tells other directors of connections, `backup` takes theirs over
    ///
    /// As `ipvsadm --start-daemon`, in the protocol of Linux, so that directors of both kinds go together. Both may run in one
    /// director, with an id each. What is told when is in the settings sync_threshold, sync_period, sync_refresh_period,
    /// sync_retries and sync_persist_mode.
    Start {
        /// Which
        #[arg(value_name = "DAEMON")]
        role: RoleWord,
        /// How.
        #[command(flatten)]
        options: SyncOptions,
    },
    /// Stop a daemon; connections that were taken over stay
    Stop {
        /// Which
        #[arg(value_name = "DAEMON")]
        role: RoleWord,
    },
}

/// The daemons by their words.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RoleWord {
    /// Tells
    Master,
    /// Is told
    Backup,
}

/// How a daemon is started.
#[derive(Debug, Args)]
pub struct SyncOptions {
    /// The interface of the multicasts: a port's TAP, or any other of this machine
    #[arg(
        long = "interface",
        visible_alias = "mcast-interface",
        value_name = "NAME"
    )]
    interface: String,
    /// Which directors belong together; a backup of id 0 takes what all of them tell
    #[arg(
        long = "id",
        visible_alias = "syncid",
        value_name = "N",
        default_value_t = 0
    )]
    id: u8,
    /// The multicast group, IPv4 or IPv6
    #[arg(long = "group", visible_alias = "mcast-group", value_name = "ADDRESS",
        default_value_t = pollux_api::synchronisation::GROUP)]
    group: IpAddr,
    /// Its UDP port
    #[arg(long = "port", visible_alias = "mcast-port", value_name = "PORT",
        default_value_t = pollux_api::synchronisation::PORT)]
    port: u16,
    /// Hops that a master's datagrams go
    #[arg(long = "ttl", visible_alias = "mcast-ttl", value_name = "HOPS",
        default_value_t = pollux_api::synchronisation::TTL)]
    ttl: u8,
    /// UDP payload of a datagram at most; without, as the MTU allows
    #[arg(
        long = "datagram-bytes",
        visible_alias = "sync-maxlen",
        value_name = "BYTES"
    )]
    datagram_bytes: Option<u16>,
}

impl From<RoleWord> for SyncRole {
    fn from(word: RoleWord) -> Self {
        match word {
            RoleWord::Master => Self::Master,
            RoleWord::Backup => Self::Backup,
        }
    }
}

impl SyncVerb {
    /// The change that it asks for.
    pub fn change(self) -> Change {
        match self {
            Self::Start { role, options } => Change::StartSync {
                role: role.into(),
                daemon: SyncDaemon {
                    interface: options.interface,
                    id: options.id,
                    group: options.group,
                    port: options.port,
                    ttl: options.ttl,
                    datagram_bytes: options.datagram_bytes,
                },
            },
            Self::Stop { role } => Change::StopSync { role: role.into() },
        }
    }
}
