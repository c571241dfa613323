//! What a data plane that comes back goes on with, and what a transaction makes of it. Pure.

use std::borrow::Cow;

use pollux_api::{Change, ChangeError, Configuration, ServiceId};

use crate::numbering::{DestinationNumber, Numbered, Numbering};

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

/// What a transaction makes of a state.
#[derive(Debug)]
pub struct NextState {
    /// The state.
    pub state: State,
    /// Services that may be in force otherwise than before, in the order they are configured, then those that are gone.
    pub changed: Vec<ServiceId>,
    /// What has got a number.
    pub numbered: Numbered,
}

impl State {
    /// The state after a transaction; this one is untouched.
    ///
    /// # Errors
    /// The first change that is not valid.
    pub fn apply(&self, changes: &[Change]) -> Result<NextState, ChangeError> {
        let configuration = self.configuration.apply(changes)?;
        let changed = configuration.changed_services(&self.configuration);
        let mut numbering = self.numbering.clone();
        // A server that a check removed is one without a number of its own, as if it had been removed by command.
        let numbered = numbering.assign_services(&changed, |id| configuration.service_in_force(id));
        Ok(NextState {
            state: Self {
                generation: self.generation + 1,
                configuration,
                numbering,
            },
            changed,
            numbered,
        })
    }

    /// No connection refers to these destinations any more: their numbers are free. Those of destinations that are configured
    /// stay.
    pub fn release(&mut self, numbers: impl IntoIterator<Item = DestinationNumber>) {
        for number in numbers {
            self.numbering.release(number, &self.configuration);
        }
    }

    /// Every destination that was removed from this service and has a number yet.
    pub fn removed_from(&self, service: ServiceId) -> impl Iterator<Item = DestinationNumber> {
        let all = self.numbering.destinations_of(service);
        let numbers = all.map(|(number, _)| number);
        numbers.filter(|number| self.numbering.is_in_trash(*number))
    }

    /// The services as schedulers are to see them.
    pub fn in_force(&self) -> Cow<'_, Configuration> {
        self.configuration.in_force()
    }
}
