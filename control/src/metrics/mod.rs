//! What `GET /metrics` says, in the text formats of Prometheus and OpenMetrics.
//!
//! Counters only go up (but for `pollux zero`), so rates are Prometheus' to make; names and units follow its conventions.
//! Services and servers are labelled as listings name them: `service="TCP 198.51.100.1:80"`, `server="203.0.113.11:80"`.
//! One [`Sample`] is written family by family, piece by piece: however large it is, no text of its length is held.

mod director;
mod families;
mod services;
mod synchronisation;

use std::fmt;
use std::sync::Arc;

use pollux_api::dataplane::{PortStatus, TableStatus, WorkerStatus};
use pollux_api::health::{ServerHealth, ServiceHealth};
use pollux_api::statistics::{DropReport, ServiceStatistics, TrafficTotals};
use pollux_api::synchronisation::SyncStatus;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text};
use prometheus_client::registry::Registry;

use families::Families;

/// How the text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own, version 0.0.4: what everything reads.
    Prometheus,
    /// OpenMetrics 1.0.0: what Prometheus asks for.
    OpenMetrics,
}

/// What is told in one scrape.
#[derive(Debug)]
pub struct Sample {
    /// The data plane; none when it does not answer.
    pub dataplane: Option<DataplaneSample>,
    /// What the health checks found.
    pub health: Vec<ServerHealth>,
    /// Whether services have their quorum.
    pub quorums: Vec<ServiceHealth>,
}

/// What the data plane counted.
#[derive(Debug)]
pub struct DataplaneSample {
    /// All services together, past ones too.
    pub totals: TrafficTotals,
    /// The connection table.
    pub table: TableStatus,
    /// All services.
    pub services: Vec<ServiceStatistics>,
    /// All ports.
    pub ports: Vec<PortStatus>,
    /// All workers.
    pub workers: Vec<WorkerStatus>,
    /// Fates by port.
    pub drops: Vec<DropReport>,
    /// The daemons of connection synchronisation.
    pub sync: SyncStatus,
}

impl Format {
    /// The format for a client that accepts these content types.
    pub fn accepted(header: &str) -> Self {
        if header.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// Its content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes a sample.
///
/// # Errors
/// That of the writer.
pub fn encode(
    sample: Arc<Sample>,
    format: Format,
    writer: &mut impl fmt::Write,
) -> Result<(), fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(sample));
    match format {
        Format::Prometheus => prometheus_text::encode(writer, &registry),
        Format::OpenMetrics => text::encode(writer, &registry),
    }
}

impl Collector for Sample {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        families.info(
            "pollux_build",
            "The release of polluxd",
            &[("version", env!("CARGO_PKG_VERSION"))],
        )?;
        families.gauge(
            "pollux_dataplane_up",
            "Whether the data plane answers polluxd",
            u64::from(self.dataplane.is_some()),
        )?;
        if let Some(dataplane) = &self.dataplane {
            director::table(&mut families, dataplane)?;
            director::ports(&mut families, dataplane)?;
            director::workers(&mut families, &dataplane.workers)?;
            synchronisation::daemons(&mut families, &dataplane.sync)?;
            services::services(&mut families, &dataplane.services)?;
            services::servers(&mut families, &dataplane.services)?;
        }
        services::health(&mut families, &self.health)?;
        services::quorums(&mut families, &self.quorums)
    }
}

#[cfg(test)]
mod tests;
