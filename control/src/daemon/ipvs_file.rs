//! The files that IPVS has in `/proc`: text into a pipe whose other end the client has got.
//!
//! The text is made as it is read, page by page: a connection table may have millions of lines.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use pollux_api::dataplane::{ConnectionQuery, ConnectionReport, Query, Report};
use pollux_api::ipvs_settings;
use pollux_api::line::Failure;
use rustix::io::Errno;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe::Sender;
use tokio_seqpacket::UnixSeqpacket;
use tokio_seqpacket::ancillary::AncillaryMessageWriter;

use super::dataplane_client::unexpected;
use super::limits::PAGE_CONNECTIONS_MAX;
use super::{Daemon, lock, off_loop};
use crate::ipvs::refusal::Refusal;
use crate::ipvs::statistics::Statistics;
use crate::ipvs::{connection_file, director_file, helper_file, service_file};

/// A file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcFile {
    /// Services and destinations.
    Services,
    /// The connection table.
    Connections,
    /// The same, with who made each connection.
    Origins,
    /// Counters and rates of all services together.
    Director,
    /// The same, and each worker's counters.
    Workers,
    /// Which ports have a helper.
    Helpers,
    /// A setting: a line with its value.
    Setting(&'static str),
    /// The one setting of two values.
    SyncThreshold,
}

/// Where the kernel has the settings.
pub const SETTINGS_PATH: &str = "/proc/sys/net/ipv4/vs/";

/// The setting of two values.
pub const SYNC_THRESHOLD_PATH: &str = "/proc/sys/net/ipv4/vs/sync_threshold";

/// The other files.
pub const NET_PATHS: [&str; 6] = [
    service_file::PATH,
    connection_file::PATH,
    connection_file::ORIGINS_PATH,
    director_file::PATH,
    director_file::BY_WORKER_PATH,
    helper_file::PATH,
];

/// Why a file ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The reader has gone.
    #[error("the reader went away: {0}")]
    Reader(#[from] io::Error),
    /// The text cannot be had.
    #[error("{0}")]
    Text(#[from] Failure),
}

impl ProcFile {
    /// The file of a path.
    ///
    /// # Errors
    /// `ENOENT` when Pollux has no such file.
    pub fn at(path: &str) -> Result<Self, Errno> {
        match path.replacen("/proc/self/net/", "/proc/net/", 1).as_str() {
            service_file::PATH => Ok(Self::Services),
            connection_file::PATH => Ok(Self::Connections),
            connection_file::ORIGINS_PATH => Ok(Self::Origins),
            director_file::PATH => Ok(Self::Director),
            director_file::BY_WORKER_PATH => Ok(Self::Workers),
            helper_file::PATH => Ok(Self::Helpers),
            SYNC_THRESHOLD_PATH => Ok(Self::SyncThreshold),
            other => other
                .strip_prefix(SETTINGS_PATH)
                .and_then(|name| ipvs_settings::setting(name).ok())
                .filter(|known| known.is_sysctl)
                .map(|known| Self::Setting(known.name))
                .ok_or(Errno::NOENT),
        }
    }

    /// The setting whose file has this path.
    ///
    /// # Errors
    /// `ENOENT` when Pollux has no such file, `EACCES` when it is not one to write to.
    pub fn setting_at(path: &str) -> Result<&'static str, Refusal> {
        match Self::at(path)? {
            Self::Setting(name) => Ok(name),
            Self::SyncThreshold => Ok("sync_threshold"),
            _ => Err(Errno::ACCESS.into()),
        }
    }

    /// Gives the client the reading end of a pipe, together with the acknowledgement; returns the writing end.
    ///
    /// # Errors
    /// When there are no descriptors left, or the client has gone.
    pub async fn hand_over(socket: &UnixSeqpacket, acknowledgement: &[u8]) -> io::Result<Sender> {
        let (reader, writer) = io::pipe()?;
        let writer = Sender::from_owned_fd(OwnedFd::from(writer))?;
        // Room for the header of the control message and one descriptor.
        let mut room = [0; 64];
        let mut passed = AncillaryMessageWriter::new(&mut room);
        passed
            .add_fds([reader.as_fd()])
            .map_err(|error| io::Error::other(error.to_string()))?;
        socket
            .send_with_ancillary(acknowledgement, &mut passed)
            .await?;
        Ok(writer)
    }

    /// Writes the text for as long as it is read.
    ///
    /// # Errors
    /// [`FileError`]; the reader sees the end of the file.
    pub async fn write(self, daemon: &Daemon, pipe: &mut Sender) -> Result<(), FileError> {
        match self {
            Self::Services => {
                let table_size = daemon.director().await?.connections_max;
                let services = daemon.services().await?;
                let text = off_loop(move || service_file::text(&services, table_size)).await;
                pipe.write_all(text.as_bytes()).await?;
            }
            Self::Connections => {
                let (header, line) = (connection_file::HEADER, connection_file::line);
                write_connections(daemon, pipe, header, line).await?;
            }
            Self::Origins => {
                let header = connection_file::ORIGINS_HEADER;
                write_connections(daemon, pipe, header, connection_file::line_with_origin).await?;
            }
            Self::Setting(name) => {
                let (_, configuration) = daemon.configuration().await?;
                let text = format!("{}\n", configuration.settings.get(name));
                pipe.write_all(text.as_bytes()).await?;
            }
            Self::SyncThreshold => {
                let (_, configuration) = daemon.configuration().await?;
                let value = |name| configuration.settings.get(name);
                let text = format!("{}\t{}\n", value("sync_threshold"), value("sync_period"));
                pipe.write_all(text.as_bytes()).await?;
            }
            Self::Director | Self::Workers => {
                let director = daemon.director().await?;
                let statistics = {
                    let table = lock(&daemon.rates);
                    Statistics {
                        totals: table.director_as_estimated(director.totals),
                        rates: table.director(),
                    }
                };
                let text = match self {
                    Self::Workers => director_file::text_by_worker(&statistics, &director.workers),
                    _ => director_file::text(&statistics),
                };
                pipe.write_all(text.as_bytes()).await?;
            }
            Self::Helpers => {
                let services = daemon.services().await?;
                let text = off_loop(move || helper_file::text(&services)).await;
                pipe.write_all(text.as_bytes()).await?;
            }
        }
        Ok(())
    }
}

async fn write_connections(
    daemon: &Daemon,
    pipe: &mut Sender,
    header: &str,
    line: fn(&ConnectionReport) -> String,
) -> Result<(), FileError> {
    pipe.write_all(header.as_bytes()).await?;
    let mut start = Some(0);
    while let Some(at) = start {
        let query = Query::Connections(ConnectionQuery {
            start: at,
            limit: PAGE_CONNECTIONS_MAX,
        });
        let Report::Connections(page) = daemon.dataplane.ask(query).await? else {
            return Err(unexpected().into());
        };
        // A page that leads nowhere new would be walked for ever.
        start = page.next.filter(|next| *next > at);
        let lines = move || -> String { page.connections.iter().map(line).collect() };
        pipe.write_all(off_loop(lines).await.as_bytes()).await?;
    }
    Ok(())
}
