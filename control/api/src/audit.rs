//! Who changed what: an entry for each command that changes something, done or refused.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::identity::ServiceId;
use crate::line::FailureCode;

/// Changes of one entry that are kept as they are.
pub const CHANGES_MAX: usize = 32;

/// The longest change that is kept as it is, in bytes of JSON; of a longer one only its name and length.
pub const CHANGE_BYTES_MAX: usize = 2 << 10;

/// One command that was to change something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When it was over: RFC 3339, UTC, milliseconds.
    pub time: String,
    /// By which way it came.
    pub origin: AuditOrigin,
    /// Who asked; none for a signal, which does not tell.
    pub peer: Option<Peer>,
    /// What was asked.
    pub action: AuditAction,
    /// What became of it.
    pub outcome: AuditOutcome,
}

/// A way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuditOrigin {
    /// `control.sock`: `pollux` and scripts.
    #[serde(rename = "control.sock")]
    Control,
    /// `ipvs.sock`: ipvsadm, keepalived.
    #[serde(rename = "ipvs.sock")]
    Ipvs,
    /// The signal that has polluxd read its file again.
    #[serde(rename = "SIGHUP")]
    Hangup,
}

/// The process at the other end of a socket, by the kernel's word (`SO_PEERCRED`) as of when it connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its effective user.
    pub uid: u32,
    /// That user's name on this machine, or the number.
    pub user: String,
    /// Its process id; none for one of another PID namespace.
    pub pid: Option<u32>,
    /// What it calls itself (`/proc/PID/comm`), which it may choose; none when that could not be read.
    pub command: Option<String>,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum AuditAction {
    /// A transaction.
    Change(ChangeList),
    /// The file was to be read again and applied; with what differed from what ran.
    Reload(ChangeList),
    /// Counters to zero.
    Zero {
        /// Of which service; none: all.
        service: Option<ServiceId>,
    },
}

/// Changes, of which those beyond [`CHANGES_MAX`] are only counted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ChangeList {
    /// How many there are.
    pub count: usize,
    /// The first of them: [`crate::Change`] as on the socket, or its name with `omitted_bytes` when it is too long. Plain
    /// JSON, so that entries of other releases can be read.
    pub changes: Vec<Value>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum AuditOutcome {
    /// Done.
    Done {
        /// The generation that runs since.
        generation: u64,
    },
    /// Refused: nothing was done, unless the message says that this is not known.
    Refused {
        /// For programs.
        code: FailureCode,
        /// For people.
        message: String,
    },
}

impl AuditOrigin {
    /// The name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control.sock",
            Self::Ipvs => "ipvs.sock",
            Self::Hangup => "SIGHUP",
        }
    }
}

impl ChangeList {
    /// The list for these changes.
    pub fn of<T: Serialize>(changes: &[T]) -> Self {
        Self {
            count: changes.len(),
            changes: changes.iter().take(CHANGES_MAX).map(bounded).collect(),
        }
    }
}

fn bounded<T: Serialize>(change: &T) -> Value {
    // What is sent over the socket can be JSON.
    let mut value = serde_json::to_value(change).unwrap_or_default();
    let bytes = value.to_string().len();
    if bytes > CHANGE_BYTES_MAX
        && let Some(fields) = value.as_object_mut()
    {
        fields.retain(|name, _| name == "change");
        fields.insert("omitted_bytes".to_owned(), bytes.into());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Change, MarkRule};

    #[test]
    fn long_lists_and_long_changes_are_cut() {
        let many = ChangeList::of(&vec![Change::Flush; 1000]);
        assert_eq!((many.count, many.changes.len()), (1000, CHANGES_MAX));
        assert_eq!(many.changes[0], serde_json::json!({"change": "flush"}));
        let rule: MarkRule = serde_json::from_value(serde_json::json!({"mark": 7})).unwrap();
        let rules = vec![rule; 1000];
        let long = ChangeList::of(&[Change::ReplaceMarks { rules }]);
        assert_eq!(long.changes[0]["change"], "replace_marks");
        assert!(long.changes[0]["omitted_bytes"].as_u64().unwrap() > 2048);
        assert!(long.changes[0].to_string().len() < 100);
    }

    #[test]
    fn an_entry_survives_the_file() {
        let entry = AuditEntry {
            time: "2026-11-26T14:00:00.000Z".to_owned(),
            origin: AuditOrigin::Ipvs,
            peer: Some(Peer {
                uid: 0,
                user: "root".to_owned(),
                pid: Some(7),
                command: Some("ipvsadm".to_owned()),
            }),
            action: AuditAction::Change(ChangeList::of(&[Change::Flush])),
            outcome: AuditOutcome::Done { generation: 7 },
        };
        let line = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<AuditEntry>(&line).unwrap(), entry);
        assert!(line.contains(r#""origin":"ipvs.sock""#), "{line}");
    }
}
