//! What each command does: its query to the data plane, and the answer made of the report.

use pollux_api::control::{Answer, Command, DirectorReport};
use pollux_api::dataplane::{
    ConnectionQuery, DirectorStatus, PortStatus, Query, Report, TableStatus, WorkerStatus,
};
use pollux_api::line::Failure;
use pollux_api::statistics::{DropReport, ServiceStatistics};
use pollux_api::synchronisation::SyncStatus;
use pollux_api::{Configuration, ServiceId, Transaction};

use super::audit;
use super::caller::Caller;
use super::dataplane_client::unexpected;
use super::limits::PAGE_CONNECTIONS_MAX;
use super::{Daemon, lock};

impl Daemon {
    /// Does a command. What changes something is written down.
    ///
    /// # Errors
    /// Why not, for the client. Nothing was changed then, unless the message says that it is not known.
    pub async fn execute(&self, caller: &Caller, command: Command) -> Result<Answer, Failure> {
        if command == Command::Reload {
            return self.reload(caller).await;
        }
        let action = audit::action_of(&command);
        let result = self.perform(command).await;
        if let Some(action) = action {
            self.note(caller, action, &result).await;
        }
        result
    }

    async fn perform(&self, command: Command) -> Result<Answer, Failure> {
        let query = match command {
            Command::Zero { service } => return self.zero(service).await,
            Command::ShowRates => return self.rates().await,
            Command::ShowAudit { last } => return Ok(self.audit_entries(last).await),
            Command::ShowEvents { last, service } => {
                return Ok(self.last_events(last, service).await);
            }
            // Done already: its changes are known only when the file is read.
            Command::Reload => return Err(unexpected()),
            Command::ShowRunning => return self.running().await,
            Command::Change {
                base_generation,
                changes,
            } => Query::Transact(Transaction {
                base_generation,
                changes,
            }),
            Command::ShowConfiguration => {
                let (_, configuration) = self.configuration().await?;
                return Ok(Answer::Configuration(configuration));
            }
            Command::ShowServices => Query::Services,
            Command::ShowConnections(page) => Query::Connections(ConnectionQuery {
                limit: page.limit.min(PAGE_CONNECTIONS_MAX),
                ..page
            }),
            Command::ShowDirector => return self.whole_director().await,
            Command::ShowPorts => {
                let ports = self.ports().await?;
                return Ok(Answer::Ports(lock(&self.rates).report_ports(ports)));
            }
            Command::ShowWorkers => {
                let workers = self.workers().await?;
                return Ok(Answer::Workers(lock(&self.rates).report_workers(workers)));
            }
            Command::ShowDrops => Query::Drops,
            Command::ShowSync => Query::Sync,
            Command::ShowHealth => return Ok(Answer::Health(self.health.report())),
            Command::ShowServiceHealth => {
                return Ok(Answer::ServiceHealth(self.health.services()));
            }
        };
        answer(self.dataplane.ask(query).await?)
    }

    /// One service with its counters; none when there is no such service.
    ///
    /// # Errors
    /// That of the data plane.
    pub async fn service(&self, service: ServiceId) -> Result<Option<ServiceStatistics>, Failure> {
        match self.dataplane.ask(Query::Service { service }).await? {
            Report::Services(services) => Ok(services.into_iter().next()),
            _ => Err(unexpected()),
        }
    }

    /// What holds for the director as a whole.
    ///
    /// # Errors
    /// That of the data plane.
    pub async fn director(&self) -> Result<DirectorStatus, Failure> {
        match self.dataplane.ask(Query::Director).await? {
            Report::Director(status) => Ok(status),
            _ => Err(unexpected()),
        }
    }

    /// How full the connection table is.
    ///
    /// # Errors
    /// That of the data plane.
    pub async fn table(&self) -> Result<TableStatus, Failure> {
        match self.dataplane.ask(Query::Table).await? {
            Report::Table(table) => Ok(table),
            _ => Err(unexpected()),
        }
    }

    /// All ports.
    ///
    /// # Errors
    /// That of the data plane.
    pub async fn ports(&self) -> Result<Vec<PortStatus>, Failure> {
        match self.dataplane.ask(Query::Ports).await? {
            Report::Ports(ports) => Ok(ports),
            _ => Err(unexpected()),
        }
    }

    /// All workers.
    ///
    /// # Errors
    /// That of the data plane.
    pub async fn workers(&self) -> Result<Vec<WorkerStatus>, Failure> {
        match self.dataplane.ask(Query::Workers).await? {
            Report::Workers(workers) => Ok(workers),
            _ => Err(unexpected()),
        }
    }

    /// What became of all packets, by port.
    ///
    /// # Errors
    /// That of the data plane.
    pub async fn drops(&self) -> Result<Vec<DropReport>, Failure> {
        match self.dataplane.ask(Query::Drops).await? {
            Report::Drops(drops) => Ok(drops),
            _ => Err(unexpected()),
        }
    }

    /// The daemons of connection synchronisation.
    ///
    /// # Errors
    /// That of the data plane.
    pub async fn sync_status(&self) -> Result<SyncStatus, Failure> {
        match self.dataplane.ask(Query::Sync).await? {
            Report::Sync(status) => Ok(status),
            _ => Err(unexpected()),
        }
    }

    async fn whole_director(&self) -> Result<Answer, Failure> {
        let totals = self.director().await?.totals;
        let table = self.table().await?;
        Ok(Answer::Director(DirectorReport {
            totals,
            rates: lock(&self.rates).director(),
            table,
        }))
    }

    /// The counters of all that runs.
    ///
    /// # Errors
    /// That of the data plane.
    pub async fn services(&self) -> Result<Vec<ServiceStatistics>, Failure> {
        match self.dataplane.ask(Query::Services).await? {
            Report::Services(services) => Ok(services),
            _ => Err(unexpected()),
        }
    }

    async fn running(&self) -> Result<Answer, Failure> {
        let (generation, configuration) = self.configuration().await?;
        Ok(Answer::Running {
            generation,
            configuration,
        })
    }

    /// What runs, with its generation.
    ///
    /// # Errors
    /// That of the data plane.
    pub async fn configuration(&self) -> Result<(u64, Configuration), Failure> {
        self.dataplane.configuration().await
    }

    async fn rates(&self) -> Result<Answer, Failure> {
        let services = self.services().await?;
        Ok(Answer::Rates(lock(&self.rates).report(&services)))
    }

    async fn zero(&self, service: Option<ServiceId>) -> Result<Answer, Failure> {
        let report = self.dataplane.ask(Query::Zero { service }).await?;
        lock(&self.rates).zero(service);
        answer(report)
    }
}

fn answer(report: Report) -> Result<Answer, Failure> {
    Ok(match report {
        Report::Applied { generation } => Answer::Done { generation },
        Report::Configuration { configuration, .. } => Answer::Configuration(configuration),
        Report::Services(services) => Answer::Services(services),
        Report::Connections(page) => Answer::Connections(page),
        Report::Drops(drops) => Answer::Drops(drops),
        Report::Sync(status) => Answer::Sync(status),
        // No command asks for these alone.
        Report::Generation { .. }
        | Report::Director(_)
        | Report::Table(_)
        | Report::Ports(_)
        | Report::Workers(_) => {
            return Err(unexpected());
        }
    })
}
