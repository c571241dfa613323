//! The settings of IPVS that the engine heeds: those below `net.ipv4.vs` in Linux, with the kernel's names and defaults
//! (`Documentation/networking/ipvs-sysctl.rst`).

use crate::clock::seconds;
use crate::synchronisation::SyncSettings;

/// When a defence against overload is up, as the kernel's modes 0 to 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Defence {
    /// 0: never.
    #[default]
    Never,
    /// 1 and 2: while the connection table is full. The kernel looks at its free memory instead.
    WhenFull,
    /// 3: always.
    Always,
}

impl Defence {
    /// Whether it is up.
    #[inline]
    pub fn is_up(self, full: bool) -> bool {
        match self {
            Self::Never => false,
            Self::WhenFull => full,
            Self::Always => true,
        }
    }
}

/// Settings, part of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpvsSettings {
    /// Which old connections a SYN on their ports ends: bit 0: those in TIME_WAIT or CLOSE; bit 1: also those in FIN_WAIT
    /// whose answers do not pass here.
    pub conn_reuse_mode: u8,
    /// Connections of a removed destination end with their next packet instead of waiting for it to return, and a SYN on
    /// the ports of one to a destination of weight 0 goes to another.
    pub expire_nodest_conn: bool,
    /// A persistence template whose destination has weight 0 holds no more.
    pub expire_quiescent_template: bool,
    /// Any TCP segment but RST opens a connection, not only SYN.
    pub sloppy_tcp: bool,
    /// Any SCTP packet but ABORT opens a connection, not only INIT.
    pub sloppy_sctp: bool,
    /// A real server whose packet belongs to no connection is told so by ICMP port unreachable.
    pub nat_icmp_send: bool,
    /// An ICMP error about a packet of no connection opens one, as that packet's answer would, and goes to its server.
    pub schedule_icmp: bool,
    /// A client whose packet is too large for the tunnel to a server, and may not be fragmented, is told so, and outer
    /// headers forbid fragmentation as the packets in them do. If not, such packets go in fragments.
    pub pmtu_disc: bool,
    /// New connections are refused, one of each [`IpvsSettings::am_droprate`] packets.
    pub drop_packet: Defence,
    /// See [`IpvsSettings::drop_packet`]; at least 1.
    pub am_droprate: u32,
    /// Connections that look dead end at random: half-open ones, unproven templates, and those idle for a minute that
    /// have had few packets (`ip_vs_random_dropentry`).
    pub drop_entry: Defence,
    /// How long `lblc` remembers an address that it was not asked for, in ticks.
    pub lblc_expiration: u32,
    /// How long `lblcr` remembers an address that it was not asked for, and leaves a set of servers as it is, in ticks.
    pub lblcr_expiration: u32,
    /// How large the tables of `mh` are: Linux' `CONFIG_IP_VS_MH_TAB_INDEX`, from 8 to 17. The table has some less than two to
    /// the power of it buckets.
    pub mh_tab_index: u8,
    /// TCP states by the table that believes clients less: only the server's packets lead to ESTABLISHED.
    pub secure_tcp: Defence,
    /// What other directors are told of, and when.
    pub sync: SyncSettings,
    /// While there is a backup, this director does nothing else: packets of clients are the kernel's.
    pub backup_only: bool,
}

impl Default for IpvsSettings {
    /// The kernel's.
    fn default() -> Self {
        Self {
            conn_reuse_mode: 1,
            expire_nodest_conn: false,
            expire_quiescent_template: false,
            sloppy_tcp: false,
            sloppy_sctp: false,
            nat_icmp_send: false,
            schedule_icmp: false,
            pmtu_disc: true,
            drop_packet: Defence::Never,
            am_droprate: 10,
            drop_entry: Defence::Never,
            lblc_expiration: seconds(24 * 60 * 60),
            lblcr_expiration: seconds(24 * 60 * 60),
            mh_tab_index: 12,
            secure_tcp: Defence::Never,
            sync: SyncSettings::default(),
            backup_only: false,
        }
    }
}
