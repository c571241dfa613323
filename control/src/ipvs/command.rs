//! The commands of the family, and the attributes of the first level of their messages.

/// A command of generic netlink family `IPVS` (`enum` before `__IPVS_CMD_MAX` in `linux/ip_vs.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Command {
    /// Add a service; also what an answer with a service is called.
    NewService = 1,
    /// Replace the settings of a service.
    SetService = 2,
    /// Remove a service.
    DelService = 3,
    /// One service, or all.
    GetService = 4,
    /// Add a destination; also what an answer with one is called.
    NewDest = 5,
    /// Replace the settings of a destination.
    SetDest = 6,
    /// Remove a destination.
    DelDest = 7,
    /// All destinations of a service.
    GetDest = 8,
    /// Start a synchronisation daemon; also what an answer with one is called.
    NewDaemon = 9,
    /// Stop one.
    DelDaemon = 10,
    /// All that run.
    GetDaemon = 11,
    /// Set the timeouts; also what an answer with them is called.
    SetConfig = 12,
    /// The timeouts.
    GetConfig = 13,
    /// What an answer to [`Command::GetInfo`] is called; no request.
    SetInfo = 14,
    /// Version and table size.
    GetInfo = 15,
    /// Counters of a service, or of all, to zero.
    Zero = 16,
    /// Remove every service.
    Flush = 17,
}

impl Command {
    /// Every command, in order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::NewService,
        Self::SetService,
        Self::DelService,
        Self::GetService,
        Self::NewDest,
        Self::SetDest,
        Self::DelDest,
        Self::GetDest,
        Self::NewDaemon,
        Self::DelDaemon,
        Self::GetDaemon,
        Self::SetConfig,
        Self::GetConfig,
        Self::SetInfo,
        Self::GetInfo,
        Self::Zero,
        Self::Flush,
    ];

    /// The command of a number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|command| *command as u8 == number)
    }

    /// Whether it lists with `NLM_F_DUMP` set.
    pub fn lists(self) -> bool {
        matches!(self, Self::GetService | Self::GetDest | Self::GetDaemon)
    }

    /// Whether it works without `NLM_F_DUMP`.
    pub fn acts(self) -> bool {
        !matches!(self, Self::GetDest | Self::GetDaemon | Self::SetInfo)
    }
}

/// First level: a service, nested.
pub const SERVICE: u16 = 1;
/// First level: a destination, nested.
pub const DESTINATION: u16 = 2;
/// First level: a synchronisation daemon, nested.
pub const DAEMON: u16 = 3;
/// First level: timeout of TCP, seconds.
pub const TIMEOUT_TCP: u16 = 4;
/// First level: timeout of TCP after a FIN, seconds.
pub const TIMEOUT_TCP_FIN: u16 = 5;
/// First level: timeout of UDP, seconds.
pub const TIMEOUT_UDP: u16 = 6;

/// The highest of the first level.
pub const ATTRIBUTE_MAX: u16 = TIMEOUT_UDP;

/// In answers to [`Command::GetInfo`]: the version.
pub const INFO_VERSION: u16 = 1;
/// In answers to [`Command::GetInfo`]: size of the connection table.
pub const INFO_TABLE_SIZE: u16 = 2;
