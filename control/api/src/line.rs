//! Framing of both sockets: one JSON object a line, each with the protocol version and the number of its request.
//!
//! A request is answered by exactly one response with the same `id`; requests of one connection are answered in order.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The version of the wire format. A peer of another version is refused with [`LineError::Version`].
pub const VERSION: u32 = 1;

/// The longest line either side takes, in bytes; a configuration of 2,000 services with 20 servers each fits.
pub const LINE_BYTES_MAX: usize = 64 << 20;

/// One question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request<T> {
    /// [`VERSION`].
    pub version: u32,
    /// Chosen by the asker, returned in the response.
    pub id: u64,
    /// What is asked.
    pub body: T,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response<T> {
    /// [`VERSION`].
    pub version: u32,
    /// The request's number; 0 when the request could not be read.
    pub id: u64,
    /// The answer, or why there is none.
    pub result: Result<T, Failure>,
}

/// Why a request was not done. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
#[error("{message}")]
pub struct Failure {
    /// For programs.
    pub code: FailureCode,
    /// For people: what is wrong, where, and how to mend it.
    pub message: String,
}

/// The kinds of failure a program may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The line was no request of this version.
    BadRequest,
    /// The service or destination exists already.
    AlreadyExists,
    /// There is no such service or destination.
    NotFound,
    /// The values do not make a valid configuration.
    Invalid,
    /// This machine has no such interface.
    NoDevice,
    /// The configuration changed since the generation the transaction was based on.
    Conflict,
    /// The data plane is not running or does not answer.
    DataplaneDown,
    /// A limit of the daemon is reached: too many clients, too much in flight. Later it may be possible.
    Busy,
    /// The daemon itself failed: disk full, out of memory.
    Internal,
}

/// Why a line is not a message.
#[derive(Debug, Error)]
pub enum LineError {
    /// Not JSON, or not the JSON expected.
    #[error("not a message of this socket: {0}")]
    Json(#[from] serde_json::Error),
    /// Another version of the protocol.
    #[error(
        "message version {found}, this program speaks version {VERSION}: use the same release on both sides"
    )]
    Version {
        /// The version in the message.
        found: u32,
    },
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

/// Reads one line (without or with its newline).
///
/// # Errors
/// [`LineError`]; the version is looked at first, so that a newer message is not called malformed.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, LineError> {
    let VersionOnly { version: found } = serde_json::from_slice(line)?;
    if found != VERSION {
        return Err(LineError::Version { found });
    }
    Ok(serde_json::from_slice(line)?)
}

/// Writes one line with its newline.
///
/// # Errors
/// [`LineError::Json`] when the value cannot be JSON, which none of this crate's types allows.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, LineError> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

impl<T> Request<T> {
    /// A request of this version.
    pub fn new(id: u64, body: T) -> Self {
        Self {
            version: VERSION,
            id,
            body,
        }
    }
}

impl<T> Response<T> {
    /// A response of this version.
    pub fn new(id: u64, result: Result<T, Failure>) -> Self {
        Self {
            version: VERSION,
            id,
            result,
        }
    }
}

impl Failure {
    /// A failure of a kind with its message.
    pub fn new(code: FailureCode, message: impl ToString) -> Self {
        Self {
            code,
            message: message.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_wire() {
        let request = Request::new(7, "x".to_owned());
        let line = encode(&request).unwrap();
        assert_eq!(line.last(), Some(&b'\n'));
        assert_eq!(decode::<Request<String>>(&line).unwrap(), request);
    }

    #[test]
    fn another_version_is_named_before_anything_else() {
        let error = decode::<Request<String>>(br#"{"version":2,"novel":true}"#).unwrap_err();
        assert!(error.to_string().contains("version 2"), "{error}");
    }
}
