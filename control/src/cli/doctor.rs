//! `pollux doctor`: what is wrong with this machine, and what to type.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use pollux_api::DataplaneSettings;
use pollux_api::bond::Bond;
use pollux_api::control::{Answer, Command};
use pollux_api::settings::PortSettings;

use super::{CliError, Outcome, Session, output_json};
use crate::config;
use crate::doctor::{self, Daemons, Finding, Level, Patient};
use crate::host::Root;

/// Where to look.
#[derive(Debug, Args)]
pub struct DoctorOptions {
    /// The configuration file
    #[arg(value_name = "FILE", env = "POLLUX_CONFIG", hide_env_values = true, default_value = config::DEFAULT_PATH)]
    path: PathBuf,
    /// Also what is as it should be
    #[arg(long)]
    all: bool,
    /// Look at a copy of another machine's /sys and /proc below this directory
    ///
    /// What `ip -json address`, `ip -json neighbour` and `ip -json route get ADDRESS` printed there is read from the files
    /// ip/address, ip/neighbour and ip/route-get-ADDRESS.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

impl<W: Write> Session<'_, W> {
    pub(super) fn doctor(&mut self, options: &DoctorOptions) -> Result<Outcome, CliError> {
        let root = Root::new(&options.root);
        let file = config::load(&options.path)?;
        let mut patient = Patient {
            settings: with_members_apart(file.dataplane()),
            configuration: file.configuration().clone(),
            daemons: self.daemons(),
            root,
        };
        // What runs is what packets meet.
        if let Ok(running) = self.configuration() {
            patient.configuration = running;
        }
        let findings = doctor::examine(&patient);
        let is_ill = findings.iter().any(|finding| finding.level == Level::Wrong);
        let shown: Vec<&Finding> = findings
            .iter()
            .filter(|finding| options.all || finding.level != Level::Fine)
            .collect();
        if self.json {
            output_json::pretty(self.out, &shown)?;
        } else {
            self.out.write_all(text(&shown, &findings).as_bytes())?;
        }
        Ok(if is_ill { Outcome::Ill } else { Outcome::Done })
    }

    fn daemons(&self) -> Daemons {
        let mut daemons = Daemons {
            ipvs_socket: self.directory.ipvs_socket().exists(),
            ..Daemons::default()
        };
        match self.ask(Command::ShowPorts) {
            Ok(Answer::Ports(ports)) => {
                daemons.ports = ports.into_iter().map(|report| report.status).collect();
            }
            Ok(_) => daemons.polluxd = Some(CliError::Unexpected.to_string()),
            // polluxd answered, with what keeps it from asking.
            Err(CliError::Refused(failure)) => daemons.dataplane = Some(failure.to_string()),
            Err(error) => daemons.polluxd = Some(error.to_string()),
        }
        if let Ok(Answer::Workers(workers)) = self.ask(Command::ShowWorkers) {
            daemons.workers = workers.into_iter().map(|report| report.status).collect();
        }
        daemons
    }
}

/// What is wrong first; below each what to type.
fn text(shown: &[&Finding], all: &[Finding]) -> String {
    let mut shown = shown.to_vec();
    shown.sort_by_key(|finding| finding.level);
    let mut text = String::new();
    for finding in shown {
        let word = match finding.level {
            Level::Wrong => "wrong",
            Level::Advice => "advice",
            Level::Fine => "fine",
        };
        text.push_str(&format!("{word}: {}: {}\n", finding.about, finding.text));
        for line in &finding.mend {
            text.push_str(&format!("    {line}\n"));
        }
    }
    let count = |level| all.iter().filter(|finding| finding.level == level).count();
    let (wrong, advice, fine) = (
        count(Level::Wrong),
        count(Level::Advice),
        count(Level::Fine),
    );
    text.push_str(&format!("wrong: {wrong}, advice: {advice}, fine: {fine}\n"));
    text
}

/// The settings with a port for each device, also where several are one port.
fn with_members_apart(settings: &DataplaneSettings) -> DataplaneSettings {
    let apart = settings.ports.iter().flat_map(|port| {
        let devices = Bond::devices(&port.device).into_iter();
        devices.map(|device| PortSettings {
            device,
            ..port.clone()
        })
    });
    DataplaneSettings {
        ports: apart.collect(),
        ..settings.clone()
    }
}
