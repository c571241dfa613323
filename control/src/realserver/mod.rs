//! What a real server must be told so that it takes what the director sends it: commands for its method.
//!
//! ```text
//! configuration ──► needs: by server, how packets reach it and for which addresses ──► linux, windows: commands
//! ```

mod linux;
pub mod needs;
mod windows;

use std::net::IpAddr;

use pollux_api::Configuration;
use pollux_api::ServiceId;
use serde::Serialize;

use needs::ServerNeeds;

/// What the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum System {
    /// Linux: a shell script, for root.
    #[default]
    Linux,
    /// Windows: for an administrator's command prompt.
    Windows,
}

/// What is not in the configuration.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The director's addresses as servers see them, when they were given.
    pub director: Vec<IpAddr>,
    /// The name of the server's network interface; only Windows needs it.
    pub interface: Option<String>,
}

/// What is to be typed on one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerScript {
    /// The server.
    pub server: IpAddr,
    /// The services it is in, and by which method: `TCP 198.51.100.1:80 (direct)`.
    pub services: Vec<String>,
    /// The commands in their order.
    pub commands: Vec<String>,
    /// What they do not do.
    pub notes: Vec<String>,
}

/// Scripts for every server of a service, or of all. `director_for` finds the director's address as a server sees it.
pub fn scripts(
    configuration: &Configuration,
    service: Option<ServiceId>,
    server: Option<IpAddr>,
    system: System,
    surroundings: &Surroundings,
    director_for: impl Fn(IpAddr) -> Option<IpAddr>,
) -> Vec<ServerScript> {
    let all = needs::of(configuration, service).into_iter();
    all.filter(|needs| server.is_none_or(|wanted| needs.address == wanted))
        .map(|needs| {
            let given = surroundings.director.iter().copied();
            let mut given = given.filter(|address| address.is_ipv4() == needs.address.is_ipv4());
            let director = given.next().or_else(|| director_for(needs.address));
            let (commands, notes) = match system {
                System::Linux => linux::commands(&needs, director),
                System::Windows => {
                    windows::commands(&needs, director, surroundings.interface.as_deref())
                }
            };
            ServerScript {
                server: needs.address,
                services: services(&needs),
                commands,
                notes,
            }
        })
        .collect()
}

fn services(needs: &ServerNeeds) -> Vec<String> {
    let services = needs.services.iter();
    services
        .map(|(id, method)| format!("{id} ({method})"))
        .collect()
}

impl System {
    /// How a line is a comment.
    pub fn comment(self) -> &'static str {
        match self {
            Self::Linux => "#",
            Self::Windows => "rem",
        }
    }
}

#[cfg(test)]
mod tests;
