//! What survives the process, in the state directory: the last accepted configuration with its generation and the
//! numbers of services and destinations. The connection table lies beside it and refers to those numbers.
//!
//! A configuration is stored before it is acknowledged, so what polluxd was told is what a data plane that comes back
//! runs. The file is replaced as a whole (write beside, fsync, rename, fsync of the directory): after a crash of the
//! machine it is the old one or the new one. What cannot be read is never passed over: forwarding with less than was
//! accepted would look like a fault elsewhere.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pollux_api::{Change, Configuration, DestinationId, ServiceId, SyncRole};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::lock_file::{LockFailure, LockFile, pid_text};
use crate::numbering::{DestinationNumber, Numbering, NumberingError, ServiceNumber};

/// The format this release writes, and the newest it reads.
pub const FORMAT: u32 = 1;

const CONFIGURATION_FILE: &str = "configuration.json";
const LOCK_FILE: &str = "lock";

/// Why the state could not be read or written.
#[derive(Debug, Error)]
pub enum StateError {
    /// Another data plane has this state directory.
    #[error(
        "another data plane{pid} uses the state directory {directory}: stop it, or give this one a directory of its \
         own with --state-dir",
        directory = .directory.display(), pid = pid_text(*.pid)
    )]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// The process that has it.
        pid: Option<u32>,
    },
    /// The disk or the permissions.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error(
        "{path}: {reason}. It holds the last accepted configuration: mend it, or move it away to start without \
         services",
        path = .path.display()
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where that is known.
        reason: String,
    },
    /// The file is of a later release.
    #[error(
        "{path} was written by a newer release (format {found}, this one reads up to {FORMAT}): start that release, \
         or move the file away to start without services",
        path = .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// What is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// Counts accepted transactions.
    pub generation: u64,
    /// The last accepted configuration.
    pub configuration: Configuration,
    /// The numbers of its services and destinations, and of removed ones that connections still refer to.
    pub numbering: Numbering,
}

/// A state directory that is this process's own.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    _lock: LockFile,
}

/// The file as it is written. Its types are stable on their own: a change of any is a new [`FORMAT`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    format: u32,
    generation: u64,
    configuration: Configuration,
    service_numbers: Vec<NumberedService>,
    destination_numbers: Vec<NumberedDestination>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NumberedService {
    number: u32,
    service: ServiceId,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NumberedDestination {
    number: u32,
    service: ServiceId,
    destination: DestinationId,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl StateDirectory {
    /// Makes the directory if need be and takes it for this process.
    ///
    /// # Errors
    /// [`StateError::InUse`] and [`StateError::Io`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let path = path.to_owned();
        fs::create_dir_all(&path).map_err(|source| StateError::Io {
            action: "make the state directory",
            path: path.clone(),
            source,
        })?;
        let lock = path.join(LOCK_FILE);
        match LockFile::take(&lock) {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err(LockFailure::Held { pid }) => Err(StateError::InUse {
                directory: path,
                pid,
            }),
            Err(LockFailure::Io(source)) => Err(StateError::Io {
                action: "lock",
                path: lock,
                source,
            }),
        }
    }

    /// The directory, for what else belongs there.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was stored last; the empty state if nothing ever was.
    ///
    /// # Errors
    /// [`StateError::Broken`], [`StateError::Newer`] and [`StateError::Io`].
    pub fn load(&self) -> Result<State, StateError> {
        let path = self.path.join(CONFIGURATION_FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            Err(source) => {
                return Err(StateError::Io {
                    action: "read",
                    path,
                    source,
                });
            }
        };
        decode(&bytes).map_err(|failure| match failure {
            DecodeFailure::Newer(found) => StateError::Newer { path, found },
            DecodeFailure::Broken(reason) => StateError::Broken { path, reason },
        })
    }

    /// Stores the state in place of what was stored. When this returns, it survives a crash of the machine.
    ///
    /// # Errors
    /// [`StateError::Io`]; then the old state is still there.
    pub fn store(&self, state: &State) -> Result<(), StateError> {
        let path = self.path.join(CONFIGURATION_FILE);
        let beside = self.path.join("configuration.json.new");
        let write = || {
            let mut file = File::create(&beside)?;
            file.write_all(&encode(state)?)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| StateError::Io {
            action: "store the configuration in",
            path: path.clone(),
            source,
        })
    }
}

enum DecodeFailure {
    Newer(u32),
    Broken(String),
}

fn encode(state: &State) -> io::Result<Vec<u8>> {
    let numbering = &state.numbering;
    let file = StateFile {
        format: FORMAT,
        generation: state.generation,
        configuration: state.configuration.clone(),
        service_numbers: numbering
            .services()
            .map(|(number, service)| NumberedService {
                number: number.get(),
                service,
            })
            .collect(),
        destination_numbers: numbering
            .destinations()
            .map(|(number, service, destination)| NumberedDestination {
                number: number.get(),
                service,
                destination,
            })
            .collect(),
    };
    let mut bytes = serde_json::to_vec_pretty(&file)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<State, DecodeFailure> {
    let json = |error: serde_json::Error| DecodeFailure::Broken(error.to_string());
    // The format first, so that a newer file is not called broken.
    let FormatOnly { format } = serde_json::from_slice(bytes).map_err(json)?;
    if format > FORMAT {
        return Err(DecodeFailure::Newer(format));
    }
    let file: StateFile = serde_json::from_slice(bytes).map_err(json)?;
    let configuration = checked(&file.configuration).map_err(DecodeFailure::Broken)?;
    let services = file.service_numbers.iter();
    let destinations = file.destination_numbers.iter();
    let numbering = Numbering::restore(
        services.map(|known| (ServiceNumber::new(known.number), known.service)),
        destinations.map(|known| {
            let number = DestinationNumber::new(known.number);
            (number, known.service, known.destination)
        }),
        &configuration.in_force(),
    )
    .map_err(|error: NumberingError| DecodeFailure::Broken(error.to_string()))?;
    Ok(State {
        generation: file.generation,
        configuration,
        numbering,
    })
}

/// The configuration made again by transactions, which is what says whether it is valid.
fn checked(configuration: &Configuration) -> Result<Configuration, String> {
    let mut changes = Vec::new();
    for entry in &configuration.services {
        changes.push(Change::AddService {
            service: entry.service.clone(),
        });
        // The last of the list was added first.
        let destinations = entry.destinations.iter().rev();
        changes.extend(destinations.map(|destination| Change::AddDestination {
            service: entry.service.id,
            destination: destination.clone(),
        }));
    }
    let settings = configuration.settings.changed();
    changes.push(Change::Set {
        settings: settings
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    });
    changes.push(Change::ReplaceMarks {
        rules: configuration.marks.clone(),
    });
    let health = &configuration.health;
    changes.push(Change::ReplaceChecks {
        checks: health.checks.clone(),
        services: health.services.clone(),
    });
    changes.extend(health.off.iter().map(|off| Change::SwitchServer {
        service: off.service,
        id: off.server,
        off: true,
    }));
    changes.extend(health.adjusted.iter().map(|adjusted| Change::AdjustServer {
        service: adjusted.service,
        id: adjusted.server,
        weight: Some(adjusted.weight),
    }));
    changes.extend(SyncRole::ALL.into_iter().filter_map(|role| {
        let daemon = configuration.sync.get(role)?.clone();
        Some(Change::StartSync { role, daemon })
    }));
    let made = Configuration::default().apply(&changes);
    let mut made = made.map_err(|error| error.to_string())?;
    made.resume_lost_quorums(&health.lost);
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pollux_api::health::{Check, CheckedService, Probe, Quorum};
    use pollux_api::{
        Destination, ForwardingMethod, MarkRule, Protocol, SchedulerName, VirtualService, Weight,
    };
    use std::num::NonZeroU32;

    fn state() -> State {
        let service = ServiceId::address(Protocol::Udp, "[2001:db8:100::1]:53".parse().unwrap());
        let server = |id: &str| Destination {
            id: id.parse().unwrap(),
            method: ForwardingMethod::Nat,
            weight: Weight::default(),
            tunnel: Default::default(),
            upper_threshold: 0,
            lower_threshold: 0,
        };
        let add = |id: &str| Change::AddDestination {
            service,
            destination: server(id),
        };
        let changes = [
            Change::AddService {
                service: VirtualService {
                    scheduler: SchedulerName::RoundRobin,
                    ..VirtualService::new(service)
                },
            },
            add("[2001:db8:2::11]:53"),
            add("[2001:db8:2::12]:53"),
            add("[2001:db8:2::13]:53"),
            add("[2001:db8:2::14]:53"),
            Change::Set {
                settings: [("sloppy_tcp".to_owned(), 1)].into(),
            },
            Change::ReplaceMarks {
                rules: vec![MarkRule {
                    mark: NonZeroU32::MIN,
                    source: None,
                    destination: None,
                    protocol: Some(Protocol::Udp),
                    source_ports: None,
                    destination_ports: None,
                    ingress: None,
                }],
            },
            Change::ReplaceChecks {
                checks: vec![Check {
                    name: "connect".to_owned(),
                    probe: Probe::Ping(Default::default()),
                    port: None,
                    interval_ms: 1000,
                    timeout_ms: 100,
                    rise: 2,
                    fall: 3,
                    service_path: false,
                    jitter_percent: 20,
                }],
                services: vec![CheckedService {
                    // 2 of 3 are up: still lost, once it was.
                    quorum: Quorum {
                        weight: 2,
                        hysteresis: 1,
                        ..Quorum::default()
                    },
                    sorry_server: Some(Destination {
                        id: "[2001:db8:2::19]:53".parse().unwrap(),
                        ..server("[2001:db8:2::11]:53")
                    }),
                    ..CheckedService::new(service, "connect".into())
                }],
            },
            Change::SwitchServer {
                service,
                id: "[2001:db8:2::12]:53".parse().unwrap(),
                off: true,
            },
            Change::AdjustServer {
                service,
                id: "[2001:db8:2::13]:53".parse().unwrap(),
                weight: Some(Weight::ZERO),
            },
        ];
        let before = Configuration::default().apply(&changes).unwrap();
        let removed = Change::RemoveDestination {
            service,
            id: "[2001:db8:2::11]:53".parse().unwrap(),
        };
        let configuration = before.apply(&[removed]).unwrap();
        let mut numbering = Numbering::default();
        numbering.assign(&before);
        numbering.assign(&configuration);
        State {
            generation: 7,
            configuration,
            numbering,
        }
    }

    #[test]
    fn nothing_stored_is_the_empty_state() {
        let directory = tempfile::tempdir().unwrap();
        let nested = directory.path().join("made/for/it");
        let state_directory = StateDirectory::open(&nested).unwrap();
        assert_eq!(state_directory.load().unwrap(), State::default());
    }

    #[test]
    fn what_is_stored_comes_back_with_the_trash() {
        let directory = tempfile::tempdir().unwrap();
        let state_directory = StateDirectory::open(directory.path()).unwrap();
        state_directory.store(&State::default()).unwrap();
        state_directory.store(&state()).unwrap();
        drop(state_directory);
        let again = StateDirectory::open(directory.path()).unwrap();
        assert_eq!(again.load().unwrap(), state());
        assert_eq!(again.load().unwrap().numbering.trash().count(), 1);
    }

    #[test]
    fn a_half_written_file_is_never_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let state_directory = StateDirectory::open(directory.path()).unwrap();
        state_directory.store(&state()).unwrap();
        fs::write(directory.path().join("configuration.json.new"), "{\"for").unwrap();
        assert_eq!(state_directory.load().unwrap(), state());
        state_directory.store(&state()).unwrap();
    }

    #[test]
    fn a_second_data_plane_is_told_who_has_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let _first = StateDirectory::open(directory.path()).unwrap();
        let error = StateDirectory::open(directory.path())
            .unwrap_err()
            .to_string();
        let expected = format!(
            "another data plane (pid {}) uses the state directory {}: stop it, or give this one a directory of its own \
             with --state-dir",
            std::process::id(),
            directory.path().display()
        );
        assert_eq!(error, expected);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_that_says_how_to_mend_it() {
        let directory = tempfile::tempdir().unwrap();
        let state_directory = StateDirectory::open(directory.path()).unwrap();
        let path = directory.path().join(CONFIGURATION_FILE);
        let good = String::from_utf8(encode(&state()).unwrap()).unwrap();
        let numbers_gone = good.replace("\"number\": 1", "\"number\": 0");
        let twice = r#"{"format":1,"generation":1,"configuration":{"services":[{"service":{"id":{"protocol":"tcp",
            "endpoint":"198.51.100.1:80"}}},{"service":{"id":{"protocol":"tcp","endpoint":"198.51.100.1:80"}}}]},
            "service_numbers":[],"destination_numbers":[]}"#;
        let cases = [
            ("", "line 1 column 0"),
            (&good[..good.len() / 2], "EOF while parsing"),
            (
                "{\"format\": 1,\n \"unknown\": 1}",
                "unknown field `unknown`",
            ),
            ("{\"format\": 1,\n \"unknown\": 1}", "line 2 column"),
            (&numbers_gone, "number 0 is given twice"),
            (twice, "already exists"),
            (
                "{\"format\": 2, \"novel\": true}",
                "format 2, this one reads up to 1",
            ),
        ];
        for (content, text) in cases {
            fs::write(&path, content).unwrap();
            let error = state_directory.load().unwrap_err().to_string();
            assert!(error.contains(text), "{content}: {error}");
            let names_the_file = error.contains(&path.display().to_string());
            assert!(
                names_the_file && error.contains("away to start without services"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_disk_that_refuses_leaves_the_old_state() {
        let directory = tempfile::tempdir().unwrap();
        let state_directory = StateDirectory::open(directory.path()).unwrap();
        state_directory.store(&state()).unwrap();
        // A directory in the way: what fails for root, too.
        fs::create_dir(directory.path().join("configuration.json.new")).unwrap();
        let error = state_directory
            .store(&State::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("cannot store the configuration in"),
            "{error}"
        );
        assert_eq!(state_directory.load().unwrap(), state());
    }
}
