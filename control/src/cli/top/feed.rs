//! Asks polluxd for everything the screen shows, again and again.

use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use pollux_api::control::{Answer, Command, DirectorReport, PortReport, WorkerReport};
use pollux_api::statistics::{DropReport, RateReport, ServiceStatistics};

use super::News;
use crate::cli::CliError;
use crate::cli::connection::Connection;
use crate::run_directory::RunDirectory;

/// All that is shown, as of one moment.
#[derive(Debug, Clone)]
pub struct Reading {
    /// When it was read.
    pub at: Instant,
    /// All services together.
    pub director: DirectorReport,
    /// The services.
    pub services: Vec<ServiceStatistics>,
    /// Their rates, in the same order.
    pub rates: Vec<RateReport>,
    /// The ports.
    pub ports: Vec<PortReport>,
    /// The workers.
    pub workers: Vec<WorkerReport>,
    /// What became of packets.
    pub drops: Vec<DropReport>,
}

/// Who asks.
pub struct Feed {
    directory: RunDirectory,
    connection: Option<Connection>,
}

impl Feed {
    /// A feed over this connection, and over new ones when it breaks.
    pub fn new(directory: RunDirectory, connection: Connection) -> Self {
        Self {
            directory,
            connection: Some(connection),
        }
    }

    /// Asks until nobody listens.
    pub fn run(mut self, interval: Duration, news: &Sender<News>) {
        loop {
            let read = match self.read() {
                Ok(reading) => News::Reading(Box::new(reading)),
                Err(error) => {
                    self.connection = None;
                    News::Silence(error.to_string())
                }
            };
            if news.send(read).is_err() {
                return;
            }
            thread::sleep(interval);
        }
    }

    fn read(&mut self) -> Result<Reading, CliError> {
        let mut polluxd = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.directory)?,
        };
        let reading = read(&mut polluxd)?;
        self.connection = Some(polluxd);
        Ok(reading)
    }
}

fn read(polluxd: &mut Connection) -> Result<Reading, CliError> {
    let (
        Answer::Services(services),
        Answer::Rates(rates),
        Answer::Director(director),
        Answer::Ports(ports),
        Answer::Workers(workers),
        Answer::Drops(drops),
    ) = (
        polluxd.ask(Command::ShowServices)?,
        polluxd.ask(Command::ShowRates)?,
        polluxd.ask(Command::ShowDirector)?,
        polluxd.ask(Command::ShowPorts)?,
        polluxd.ask(Command::ShowWorkers)?,
        polluxd.ask(Command::ShowDrops)?,
    )
    else {
        return Err(CliError::Unexpected);
    };
    Ok(Reading {
        at: Instant::now(),
        director,
        services,
        rates,
        ports,
        workers,
        drops,
    })
}
