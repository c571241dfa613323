//! Why checks are not valid.

use thiserror::Error;

use super::check::JITTER_PERCENT_MAX;
use super::probe::ProbeError;
use crate::identity::{DestinationId, ServiceId};

/// Why checks are not valid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CheckError {
    /// Two checks of one name.
    #[error("check \"{0}\" is there twice: every check needs a name of its own")]
    Exists(String),
    /// A service uses a check that is not there.
    #[error("service {0}: no such check: \"{1}\"; write a [[check]] of that name")]
    NoCheck(ServiceId, String),
    /// A service uses a check twice.
    #[error("service {0}: check \"{1}\" is named twice: once is enough")]
    CheckTwice(ServiceId, String),
    /// A service is there twice.
    #[error("service {0} is checked already: name all its checks in one place")]
    ServiceTwice(ServiceId),
    /// Neither check nor server has a port.
    #[error("server {1} of service {0} has no port to check: write port = NUMBER in check \"{2}\"")]
    NoPort(ServiceId, DestinationId, String),
    /// Only checks take servers off.
    #[error("service {0} has no check, so that nothing would bring server {1} back")]
    NotChecked(ServiceId, DestinationId),
    /// The probes would overlap.
    #[error(
        "check \"{0}\": timeout {1} ms is longer than interval {2} ms: write one at most as long"
    )]
    TimeoutTooLong(String, u32, u32),
    /// A number that means nothing.
    #[error("check \"{0}\": {1} is 0: write at least 1")]
    Zero(String, &'static str),
    /// Too much chance.
    #[error("check \"{0}\": jitter_percent is {1}: write at most {JITTER_PERCENT_MAX}")]
    Jitter(String, u8),
    /// A port for what has none.
    #[error("check \"{0}\": kind {1} asks no port: leave port out")]
    NeedlessPort(String, &'static str),
    /// What goes to no port has no path.
    #[error("check \"{0}\": kind {1} cannot go by a service's path: leave service_path out")]
    PathKind(String, &'static str),
    /// Without a virtual address.
    #[error(
        "service {0}: a service of a firewall mark has no address to ask its servers for, as check \"{1}\" would: \
         use one without service_path"
    )]
    PathMark(ServiceId, String),
    /// The socket would be of one family and the virtual address of another.
    #[error(
        "service {0}: server {1} is of the other family, and check \"{2}\" goes by the service's path only to servers \
         of its own: use one without service_path"
    )]
    PathFamily(ServiceId, DestinationId, String),
    /// What is asked.
    #[error("check \"{0}\": {1}")]
    Probe(String, ProbeError),
    /// A quorum that would never be lost.
    #[error(
        "service {0}: quorum_hysteresis {1} is not below quorum {2}: it would never be lost; write less"
    )]
    Hysteresis(ServiceId, u32, u32),
    /// A quorum that is always there.
    #[error("service {0}: quorum 0 is never lost: write at least 1")]
    NoQuorum(ServiceId),
    /// No program.
    #[error("service {0}: bad {1}: write a program by its path from / on, then its arguments")]
    Hook(ServiceId, &'static str),
    /// No address to announce.
    #[error(
        "service {0}: a service of a firewall mark has no address to announce: leave announce out"
    )]
    NoAddress(ServiceId),
    /// No interface.
    #[error(
        "service {0}: bad announce \"{1}\": write the name of a port, which is that of its TAP"
    )]
    Announce(ServiceId, String),
    /// The sorry server is one of the others.
    #[error("service {0}: sorry server {1} is one of its servers already: write another one")]
    SorryServerTwice(ServiceId, DestinationId),
}
