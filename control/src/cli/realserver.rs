//! `pollux realserver`: what to type on the real servers.

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::service_options::AnyService;
use super::{CliError, Session, output_json};
use crate::config;
use crate::host::{Root, network};
use crate::realserver::{self, ServerScript, Surroundings, System};

/// Which servers, and what they are.
#[derive(Debug, Args)]
pub struct RealserverOptions {
    /// The configuration file; without it, the services that run
    #[arg(value_name = "FILE")]
    path: Option<PathBuf>,
    /// Of which service.
    #[command(flatten)]
    service: AnyService,
    /// Only this server
    #[arg(long, value_name = "ADDRESS")]
    server: Option<IpAddr>,
    /// The director's address in the servers' network, for method nat; once for IPv4 and once for IPv6 [default without
    /// FILE: the one that this machine would use]
    #[arg(long, value_name = "ADDRESS")]
    director: Vec<IpAddr>,
    /// What the servers run
    #[arg(long, value_name = "SYSTEM", value_enum, default_value_t)]
    system: System,
    /// Windows: the name of the servers' network interface [default: Ethernet]
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
}

impl<W: Write> Session<'_, W> {
    pub(super) fn realserver(&mut self, options: RealserverOptions) -> Result<(), CliError> {
        let (configuration, on_director) = match &options.path {
            Some(path) => (config::load_existing(path)?.configuration().clone(), false),
            None => (self.configuration()?, true),
        };
        // On another machine than the director its own address would only mislead.
        let director_for = |server: IpAddr| {
            let route = network::route_to(&Root::default(), server).filter(|_| on_director)?;
            // Behind a router the director is not the next hop.
            route.gateway.is_none().then_some(route.source)?
        };
        let surroundings = Surroundings {
            director: options.director,
            interface: options.interface,
        };
        let scripts = realserver::scripts(
            &configuration,
            options.service.id(),
            options.server,
            options.system,
            &surroundings,
            director_for,
        );
        if scripts.is_empty() {
            return Err(CliError::NoServer);
        }
        if self.json {
            return output_json::pretty(self.out, &scripts);
        }
        self.out
            .write_all(text(&scripts, options.system).as_bytes())?;
        Ok(())
    }
}

/// What was said of each server as comments, the commands as they are.
fn text(scripts: &[ServerScript], system: System) -> String {
    let comment = system.comment();
    let mut lines = Vec::new();
    for script in scripts {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.push(format!(
            "{comment} on {}: {}",
            script.server,
            script.services.join(", ")
        ));
        lines.extend(script.commands.iter().cloned());
        lines.extend(script.notes.iter().map(|note| format!("{comment} {note}")));
    }
    lines.push(String::new());
    lines.join("\n")
}
