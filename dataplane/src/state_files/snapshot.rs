//! The state file: everything that was accepted up to some record, as JSON that people can read and mend.

use std::io;

use pollux_api::{Change, Configuration, DestinationId, ServiceId, SyncRole};
use serde::{Deserialize, Serialize};

use super::FORMAT;
use crate::numbering::{DestinationNumber, Numbering, NumberingError, ServiceNumber};
use crate::state::State;

/// The file as it is written. Its types are stable on their own: a change of any is a new [`FORMAT`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    format: u32,
    /// The last record of the journal that is in it; none in format 1.
    #[serde(default)]
    sequence: Option<u64>,
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

/// Why a state file cannot be used.
#[derive(Debug)]
pub enum DecodeFailure {
    /// It is of a newer release, with this format.
    Newer(u32),
    /// It is not what was written.
    Broken(String),
}

/// The file of a state that has all records up to this one.
///
/// # Errors
/// None that these types allow.
pub fn encode(state: &State, sequence: u64) -> io::Result<Vec<u8>> {
    let numbering = &state.numbering;
    let file = StateFile {
        format: FORMAT,
        sequence: Some(sequence),
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

/// A state, and the last record that it has; none when it is older than journals.
///
/// # Errors
/// [`DecodeFailure`].
pub fn decode(bytes: &[u8]) -> Result<(State, Option<u64>), DecodeFailure> {
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
    let state = State {
        generation: file.generation,
        configuration,
        numbering,
    };
    Ok((state, file.sequence))
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
