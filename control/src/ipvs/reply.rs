//! What a request is answered with when it was done.

use netlink_packet_core::Emitable;
use netlink_packet_generic::GenlFamily;
use netlink_packet_generic::ctrl::GenlCtrl;
use pollux_api::dataplane::{DirectorStatus, Timeouts};
use pollux_api::statistics::{DestinationStatistics, RateReport, Rates, ServiceStatistics};
use pollux_api::synchronisation::SyncStatus;

use super::attribute::Attribute;
use super::command::{self, Command};
use super::statistics::Statistics;
use super::{VERSION, destination, family, service, sync_daemon, timeouts};

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done, and nothing to tell.
    Done,
    /// One thing.
    One(Body),
    /// A list, which may be empty.
    Many(Vec<Body>),
}

/// A message of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// About a family.
    Family(GenlCtrl),
    /// About IPVS.
    Ipvs(IpvsBody),
}

/// A message of family `IPVS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpvsBody {
    /// What it is about.
    pub command: Command,
    /// The first level of attributes.
    pub attributes: Vec<Attribute>,
}

impl GenlFamily for IpvsBody {
    fn family_name() -> &'static str {
        family::NAME
    }

    fn command(&self) -> u8 {
        self.command as u8
    }

    fn version(&self) -> u8 {
        family::VERSION
    }
}

impl Emitable for IpvsBody {
    fn buffer_len(&self) -> usize {
        self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.attributes.as_slice().emit(buffer);
    }
}

impl Body {
    fn ipvs(command: Command, attributes: Vec<Attribute>) -> Self {
        Self::Ipvs(IpvsBody {
            command,
            attributes,
        })
    }

    /// A service.
    pub fn service(listed: &ServiceStatistics, rates: &RateReport) -> Self {
        let statistics = Statistics {
            totals: listed.totals,
            rates: rates.rates,
        };
        let attribute = service::write(command::SERVICE, listed, &statistics);
        Self::ipvs(Command::NewService, vec![attribute])
    }

    /// A destination.
    pub fn destination(listed: &DestinationStatistics, rates: Rates) -> Self {
        let statistics = Statistics {
            totals: listed.totals,
            rates,
        };
        let attribute = destination::write(command::DESTINATION, listed, &statistics);
        Self::ipvs(Command::NewDest, vec![attribute])
    }

    /// The daemons of connection synchronisation that run.
    pub fn daemons(status: &SyncStatus) -> Vec<Self> {
        let all = sync_daemon::write_all(status).into_iter();
        all.map(|attribute| Self::ipvs(Command::NewDaemon, vec![attribute]))
            .collect()
    }

    /// The timeouts.
    pub fn timeouts(timeouts: Timeouts) -> Self {
        Self::ipvs(Command::SetConfig, timeouts::write(timeouts))
    }

    /// Version and size. The size is that of Pollux' table, in connections.
    pub fn info(status: &DirectorStatus) -> Self {
        let attributes = vec![
            Attribute::u32(command::INFO_VERSION, VERSION),
            Attribute::u32(command::INFO_TABLE_SIZE, status.connections_max),
        ];
        Self::ipvs(Command::SetInfo, attributes)
    }
}
