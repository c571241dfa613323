//! What each request of an IPVS tool does. The kernel looks for the service first, then for the destination, and looks
//! at what is asked of them in between; so a refusal here is given only after a look whether the kernel's would be
//! another.

use pollux_api::control::Command;
use pollux_api::line::{Failure, FailureCode};
use pollux_api::statistics::{RateReport, ServiceStatistics};
use pollux_api::{Change, ServiceId};
use rustix::io::Errno;

use super::caller::Caller;
use super::{Daemon, lock, off_loop};
use crate::ipvs::destination::{DestinationKey, DestinationSettings};
use crate::ipvs::family::Family;
use crate::ipvs::refusal::Refusal;
use crate::ipvs::reply::{Body, Reply};
use crate::ipvs::request::Request;
use crate::ipvs::service::{ServiceKey, ServiceSettings};
use crate::ipvs::setting_value;

impl Daemon {
    /// Does what was written to the file of a setting.
    ///
    /// # Errors
    /// Why not; nothing was done then, unless the reason says that it is not known.
    pub async fn write_setting(
        &self,
        caller: &Caller,
        setting: &'static str,
        text: &[u8],
    ) -> Result<(), Refusal> {
        let settings = setting_value::read_file(setting, text)?;
        let tool = Tool {
            daemon: self,
            caller,
        };
        tool.change(Change::Set { settings }).await.map(|_| ())
    }

    /// Does a request of a tool. A request for a file is none: see `ipvs_file`.
    ///
    /// # Errors
    /// Why not; nothing was done then, unless the reason says that it is not known.
    pub async fn ipvs(&self, caller: &Caller, request: Request) -> Result<Reply, Refusal> {
        let tool = Tool {
            daemon: self,
            caller,
        };
        tool.perform(request).await
    }
}

/// What polluxd does for one tool.
#[derive(Clone, Copy)]
struct Tool<'a> {
    daemon: &'a Daemon,
    caller: &'a Caller,
}

impl Tool<'_> {
    async fn perform(self, request: Request) -> Result<Reply, Refusal> {
        match request {
            Request::Family(family) => Ok(Reply::One(family.body())),
            Request::Families => Ok(Reply::Many(
                [Family::Controller, Family::Ipvs]
                    .map(Family::body)
                    .to_vec(),
            )),
            Request::AddService(key, settings) => self.add_service(&key, &settings).await,
            Request::EditService(key, settings) => self.edit_service(&key, &settings).await,
            Request::RemoveService(key) => {
                let id = self.known(&key)?;
                self.change(Change::RemoveService { id }).await
            }
            Request::Service(key) => {
                let service = self.daemon.service(self.known(&key)?).await?;
                let (services, rates) = self.estimated(service.into_iter().collect());
                let (service, rates) = services.first().zip(rates.first()).ok_or(Errno::SRCH)?;
                Ok(Reply::One(Body::service(service, rates)))
            }
            Request::Services => {
                let (services, rates) = self.estimated(self.daemon.services().await?);
                Ok(off_loop(move || list_services(&services, &rates)).await)
            }
            Request::AddDestination(key, destination, settings) => {
                self.add_destination(&key, &destination, &settings).await
            }
            Request::EditDestination(key, destination, settings) => {
                self.edit_destination(&key, &destination, &settings).await
            }
            Request::RemoveDestination(key, destination) => {
                self.remove_destination(&key, &destination).await
            }
            Request::Destinations(key) => self.destinations(&key).await,
            Request::StartDaemon(daemon) => self.change(daemon.change()?).await,
            Request::StopDaemon(role) => self.change(Change::StopSync { role }).await,
            Request::Daemons => {
                let status = self.daemon.sync_status().await?;
                Ok(Reply::Many(Body::daemons(&status)))
            }
            Request::SetTimeouts(new) => {
                let settings = new.settings();
                self.change(Change::Set { settings }).await
            }
            Request::Timeouts => {
                let timeouts = self.daemon.director().await?.timeouts;
                Ok(Reply::One(Body::timeouts(timeouts)))
            }
            Request::Info => Ok(Reply::One(Body::info(&self.daemon.director().await?))),
            Request::Zero(key) => {
                let service = key.map(|key| self.known(&key)).transpose()?;
                self.done(Command::Zero { service }).await
            }
            Request::Flush => self.change(Change::Flush).await,
            Request::File(_) | Request::FileToWrite(_) => Err(Errno::INVAL.into()),
        }
    }

    async fn add_service(
        self,
        key: &ServiceKey,
        settings: &ServiceSettings,
    ) -> Result<Reply, Refusal> {
        match settings.of(key) {
            Ok(service) => self.change(Change::AddService { service }).await,
            Err(_) if self.has(key).await? => Err(Errno::EXIST.into()),
            Err(refusal) => Err(refusal),
        }
    }

    async fn edit_service(
        self,
        key: &ServiceKey,
        settings: &ServiceSettings,
    ) -> Result<Reply, Refusal> {
        match settings.of(key) {
            Ok(mut service) => {
                // What no IPVS tool knows of stays.
                if let Some(known) = self.daemon.service(service.id).await? {
                    service.timeouts = known.service.timeouts;
                }
                self.change(Change::EditService { service }).await
            }
            Err(refusal) if self.has(key).await? => Err(refusal),
            Err(_) => Err(Errno::SRCH.into()),
        }
    }

    async fn add_destination(
        self,
        key: &ServiceKey,
        destination: &DestinationKey,
        settings: &DestinationSettings,
    ) -> Result<Reply, Refusal> {
        let service = self.known(key)?;
        match settings.of(destination, service) {
            Ok(destination) => {
                let change = Change::AddDestination {
                    service,
                    destination,
                };
                self.change(change).await
            }
            Err(refusal) if self.has(key).await? => Err(refusal),
            Err(_) => Err(Errno::SRCH.into()),
        }
    }

    async fn edit_destination(
        self,
        key: &ServiceKey,
        destination: &DestinationKey,
        settings: &DestinationSettings,
    ) -> Result<Reply, Refusal> {
        let service = self.known(key)?;
        match settings.of(destination, service) {
            Ok(destination) => {
                let change = Change::EditDestination {
                    service,
                    destination,
                };
                self.change_destination(key, change).await
            }
            Err(refusal) if self.has(key).await? => Err(refusal),
            Err(_) => Err(Errno::SRCH.into()),
        }
    }

    async fn remove_destination(
        self,
        key: &ServiceKey,
        destination: &DestinationKey,
    ) -> Result<Reply, Refusal> {
        let service = self.known(key)?;
        match destination.id(service) {
            Ok(id) => {
                self.change_destination(key, Change::RemoveDestination { service, id })
                    .await
            }
            // What cannot be is not there.
            Err(_) if self.has(key).await? => Err(Errno::NOENT.into()),
            Err(_) => Err(Errno::SRCH.into()),
        }
    }

    /// The destinations of a service; of none there are none.
    async fn destinations(self, key: &ServiceKey) -> Result<Reply, Refusal> {
        let Ok(id) = key.id() else {
            return Ok(Reply::Many(Vec::new()));
        };
        let service = self.daemon.service(id).await?;
        let (services, rates) = self.estimated(service.into_iter().collect());
        let Some(service) = services.into_iter().next() else {
            return Ok(Reply::Many(Vec::new()));
        };
        Ok(off_loop(move || list_destinations(&service, &rates)).await)
    }

    /// The service that a key names. A key that no service of Pollux can have names none.
    fn known(self, key: &ServiceKey) -> Result<ServiceId, Errno> {
        key.id().map_err(|_| Errno::SRCH)
    }

    async fn has(self, key: &ServiceKey) -> Result<bool, Failure> {
        match key.id() {
            Ok(id) => Ok(self.daemon.service(id).await?.is_some()),
            Err(_) => Ok(false),
        }
    }

    /// Services as the kernel's estimator would have them, and their rates.
    fn estimated(
        self,
        services: Vec<ServiceStatistics>,
    ) -> (Vec<ServiceStatistics>, Vec<RateReport>) {
        let table = lock(&self.daemon.rates);
        let services = table.as_estimated(services);
        let rates = table.report(&services);
        (services, rates)
    }

    async fn change(self, change: Change) -> Result<Reply, Refusal> {
        self.done(Command::Change {
            base_generation: None,
            changes: vec![change],
        })
        .await
    }

    /// Makes a change of a destination that must be there.
    async fn change_destination(self, key: &ServiceKey, change: Change) -> Result<Reply, Refusal> {
        let command = Command::Change {
            base_generation: None,
            changes: vec![change],
        };
        match self.daemon.execute(self.caller, command).await {
            Ok(_) => Ok(Reply::Done),
            Err(failure) if failure.code == FailureCode::NotFound && self.has(key).await? => {
                Err(Errno::NOENT.into())
            }
            Err(failure) => Err(failure.into()),
        }
    }

    async fn done(self, command: Command) -> Result<Reply, Refusal> {
        self.daemon.execute(self.caller, command).await?;
        Ok(Reply::Done)
    }
}

fn list_services(services: &[ServiceStatistics], rates: &[RateReport]) -> Reply {
    let listed = services.iter().zip(rates);
    Reply::Many(
        listed
            .map(|(service, rates)| Body::service(service, rates))
            .collect(),
    )
}

fn list_destinations(service: &ServiceStatistics, rates: &[RateReport]) -> Reply {
    let rates = rates.iter().flat_map(|report| &report.destinations);
    let listed = service.destinations.iter().zip(rates);
    Reply::Many(
        listed
            .map(|(destination, (_, rates))| Body::destination(destination, *rates))
            .collect(),
    )
}
