//! A configuration file that was found valid. Only [`parse`](super::validate::parse) makes one.

use std::net::SocketAddr;

use pollux_api::{Configuration, DataplaneSettings};

/// What a valid file says, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidConfig {
    pub(super) dataplane: DataplaneSettings,
    pub(super) control: ControlSettings,
    pub(super) configuration: Configuration,
}

/// `[control]`, for polluxd itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlSettings {
    /// Permission bits of the control socket.
    pub socket_mode: u32,
    /// Group of the control socket, a name or a number; none: that of the process.
    pub socket_group: Option<String>,
    /// Where `GET /metrics` is answered; none: nowhere.
    pub metrics: Option<SocketAddr>,
}

impl Default for ControlSettings {
    /// For the owner and the group of the process.
    fn default() -> Self {
        Self {
            socket_mode: 0o660,
            socket_group: None,
            metrics: None,
        }
    }
}

impl ValidConfig {
    /// What `pollux-dataplane` starts with.
    pub fn dataplane(&self) -> &DataplaneSettings {
        &self.dataplane
    }

    /// What `polluxd` starts with.
    pub fn control(&self) -> &ControlSettings {
        &self.control
    }

    /// The services and their servers.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }
}
