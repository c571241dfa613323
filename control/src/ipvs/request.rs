//! What a message asks for.

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use netlink_packet_generic::GenlHeader;
use netlink_packet_generic::constants::{CTRL_CMD_GETFAMILY, GENL_HDRLEN};
use pollux_api::SyncRole;
use rustix::io::Errno;

use super::attribute::Attributes;
use super::command::{self, ATTRIBUTE_MAX, Command};
use super::destination::{self, DestinationKey, DestinationSettings};
use super::family::Family;
use super::message::Message;
use super::service::{self, ServiceKey, ServiceSettings};
use super::sync_daemon::{self, SyncDaemon};
use super::timeouts::NewTimeouts;

/// Not netlink's: the preloaded library asks for the text of a file of `/proc` with a message of this type, whose payload
/// is the path. The answer is an acknowledgement with the reading end of a pipe, or an error.
pub const FILE: u16 = 0x7f00;

/// Not netlink's either: the preloaded library opens a file of `/proc` for writing with a message of this type, whose
/// payload is the path. After the acknowledgement, all that comes is what is written to the file, but for messages of
/// type [`VERDICT`].
pub const FILE_TO_WRITE: u16 = 0x7f01;

/// Whether what was written to a file since the last such question was taken: answered by an acknowledgement or an error.
pub const VERDICT: u16 = 0x7f02;

/// The longest path that is looked at.
const PATH_BYTES_MAX: usize = 255;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// What a family is.
    Family(Family),
    /// What families there are.
    Families,
    /// Add a service.
    AddService(ServiceKey, ServiceSettings),
    /// Replace a service's settings.
    EditService(ServiceKey, ServiceSettings),
    /// Remove a service.
    RemoveService(ServiceKey),
    /// Show a service.
    Service(ServiceKey),
    /// List all services.
    Services,
    /// Add a destination.
    AddDestination(ServiceKey, DestinationKey, DestinationSettings),
    /// Replace a destination's settings.
    EditDestination(ServiceKey, DestinationKey, DestinationSettings),
    /// Remove a destination.
    RemoveDestination(ServiceKey, DestinationKey),
    /// List the destinations of a service.
    Destinations(ServiceKey),
    /// Start a synchronisation daemon.
    StartDaemon(SyncDaemon),
    /// Stop one.
    StopDaemon(SyncRole),
    /// List those that run.
    Daemons,
    /// Set timeouts.
    SetTimeouts(NewTimeouts),
    /// Show timeouts.
    Timeouts,
    /// Show version and size.
    Info,
    /// Set counters to zero, of one service or all.
    Zero(Option<ServiceKey>),
    /// Remove everything.
    Flush,
    /// Read a file of `/proc`.
    File(String),
    /// Write to a file of `/proc`.
    FileToWrite(String),
}

impl Request {
    /// Reads a message.
    ///
    /// # Errors
    /// As the kernel: `ENOENT` for an unknown family, `EOPNOTSUPP` for an unknown command, `EINVAL` for what cannot be
    /// read or lacks something.
    pub fn read(message: &Message<'_>) -> Result<Self, Errno> {
        if !message.has(NLM_F_REQUEST) {
            return Err(Errno::INVAL);
        }
        let kind = message.header.message_type;
        if matches!(kind, FILE | FILE_TO_WRITE) {
            let path = message.payload();
            let path = path.get(..path.len().min(PATH_BYTES_MAX));
            let path = str::from_utf8(path.unwrap_or_default()).map_err(|_| Errno::INVAL)?;
            return Ok(if kind == FILE {
                Self::File(path.to_owned())
            } else {
                Self::FileToWrite(path.to_owned())
            });
        }
        let family = Family::of_id(message.header.message_type).ok_or(Errno::NOENT)?;
        let header = GenlHeader::parse(message.payload()).map_err(|_| Errno::INVAL)?;
        let payload = message.payload().get(GENL_HDRLEN..).unwrap_or_default();
        let lists = message.has(NLM_F_DUMP);
        match (family, header.cmd) {
            (Family::Controller, CTRL_CMD_GETFAMILY) if lists => Ok(Self::Families),
            (Family::Controller, CTRL_CMD_GETFAMILY) => Family::read(payload).map(Self::Family),
            (Family::Controller, _) => Err(Errno::OPNOTSUPP),
            (Family::Ipvs, number) => {
                let command = Command::from_number(number).ok_or(Errno::OPNOTSUPP)?;
                let attributes = Attributes::parse(payload, ATTRIBUTE_MAX)?;
                if lists {
                    Self::read_list(command, &attributes)
                } else {
                    Self::read_act(command, &attributes)
                }
            }
        }
    }

    fn read_list(command: Command, attributes: &Attributes<'_>) -> Result<Self, Errno> {
        match command {
            Command::GetService => Ok(Self::Services),
            Command::GetDest => Ok(Self::Destinations(key_of(attributes)?)),
            Command::GetDaemon => Ok(Self::Daemons),
            _ => Err(Errno::OPNOTSUPP),
        }
    }

    fn read_act(command: Command, attributes: &Attributes<'_>) -> Result<Self, Errno> {
        let key = || key_of(attributes);
        let settings = || ServiceSettings::read(&service_of(attributes)?);
        let destination = || destination_of(attributes);
        let destination_key = || DestinationKey::read(&destination()?);
        let destination_settings = || DestinationSettings::read(&destination()?);
        let daemon = || {
            attributes
                .nested(command::DAEMON, sync_daemon::ATTRIBUTE_MAX)?
                .ok_or(Errno::INVAL)
        };
        Ok(match command {
            Command::NewService => Self::AddService(key()?, settings()?),
            Command::SetService => Self::EditService(key()?, settings()?),
            Command::DelService => Self::RemoveService(key()?),
            Command::GetService => Self::Service(key()?),
            Command::NewDest => {
                Self::AddDestination(key()?, destination_key()?, destination_settings()?)
            }
            Command::SetDest => {
                Self::EditDestination(key()?, destination_key()?, destination_settings()?)
            }
            Command::DelDest => Self::RemoveDestination(key()?, destination_key()?),
            Command::NewDaemon => Self::StartDaemon(SyncDaemon::read(&daemon()?)?),
            Command::DelDaemon => Self::StopDaemon(sync_daemon::read_role(&daemon()?)?),
            Command::SetConfig => Self::SetTimeouts(NewTimeouts::read(attributes)?),
            Command::GetConfig => Self::Timeouts,
            Command::GetInfo => Self::Info,
            Command::Zero if attributes.bytes(command::SERVICE).is_none() => Self::Zero(None),
            Command::Zero => Self::Zero(Some(key()?)),
            Command::Flush => Self::Flush,
            Command::GetDest | Command::GetDaemon | Command::SetInfo => {
                return Err(Errno::OPNOTSUPP);
            }
        })
    }
}

fn service_of<'a>(attributes: &Attributes<'a>) -> Result<Attributes<'a>, Errno> {
    attributes
        .nested(command::SERVICE, service::ATTRIBUTE_MAX)?
        .ok_or(Errno::INVAL)
}

fn key_of(attributes: &Attributes<'_>) -> Result<ServiceKey, Errno> {
    ServiceKey::read(&service_of(attributes)?)
}

fn destination_of<'a>(attributes: &Attributes<'a>) -> Result<Attributes<'a>, Errno> {
    attributes
        .nested(command::DESTINATION, destination::ATTRIBUTE_MAX)?
        .ok_or(Errno::INVAL)
}

#[cfg(test)]
mod tests;
