//! Why a request is not done: the kernel's error number, and what the log says of it.
//!
//! Most tools look at the number only, so the words go to polluxd's log, too, where whoever looks for the reason finds it.

use std::fmt;

use pollux_api::line::{Failure, FailureCode};
use rustix::io::Errno;

/// A refusal. Nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// As the kernel has it.
    pub errno: Errno,
    /// What is wrong; none when the number says it all.
    pub reason: Option<String>,
}

impl Refusal {
    /// A refusal with its reason.
    pub fn because(errno: Errno, reason: impl Into<String>) -> Self {
        Self {
            errno,
            reason: Some(reason.into()),
        }
    }

    /// What IPVS has and Pollux does not have yet.
    pub fn not_yet(feature: &str) -> Self {
        Self::because(Errno::OPNOTSUPP, format!("{feature}: not supported yet"))
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self {
            errno,
            reason: None,
        }
    }
}

impl From<Failure> for Refusal {
    /// `NotFound` becomes `ESRCH`: who asked about a destination knows better.
    fn from(failure: Failure) -> Self {
        let errno = match failure.code {
            FailureCode::AlreadyExists => Errno::EXIST,
            FailureCode::NotFound => Errno::SRCH,
            FailureCode::NoDevice => Errno::NODEV,
            FailureCode::BadRequest | FailureCode::Invalid => Errno::INVAL,
            FailureCode::Conflict | FailureCode::DataplaneDown => Errno::AGAIN,
            FailureCode::Busy => Errno::BUSY,
            FailureCode::Internal => Errno::NOMEM,
        };
        Self::because(errno, failure.message)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "{reason} ({})", self.errno),
            None => self.errno.fmt(f),
        }
    }
}
