//! A program that says by its exit status how a server is. It is killed, with all it started, when its time is up.

use std::io;
use std::process::{ExitStatus, Stdio};

use pollux_api::health::probe::ScriptProbe;
use pollux_api::{DestinationId, ServiceId};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::super::outcome::{Outcome, Share};
use super::{Failed, Subject};

/// Of what it prints, this much is looked at.
const OUTPUT_BYTES_MAX: usize = 512;

/// A program.
#[derive(Debug)]
pub struct Script {
    command: Vec<String>,
    exit_weight: bool,
}

/// A process and all that it started, which goes when this does.
struct Group {
    leader: Child,
    id: Option<Pid>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // None of them may be left.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

impl Script {
    /// Makes it ready.
    pub fn new(probe: &ScriptProbe) -> Self {
        Self {
            command: probe.command.clone(),
            exit_weight: probe.exit_weight,
        }
    }

    /// Asks.
    pub async fn ask(&self, subject: Subject) -> Result<Outcome, Failed> {
        let mut names = Vec::new();
        if let Some((service, server)) = subject.user {
            names.extend(service_names(service));
            names.extend(server_names(server));
        }
        let (status, said) = run(&self.command, names).await.map_err(Failed::Unasked)?;
        let said = |otherwise: String| if said.is_empty() { otherwise } else { said };
        match status.code() {
            Some(0) => Ok(Outcome::good(said("exit status 0".to_owned()))),
            Some(code @ 2..) if self.exit_weight => {
                let weight = u32::try_from(code - 2).unwrap_or_default();
                let outcome = Outcome::good(said(format!("exit status {code}")));
                Ok(outcome.with_share(Share::Weight(weight)))
            }
            _ => Err(Failed::wrong(said(status.to_string()))),
        }
    }
}

/// What tells a program which service it is about.
pub fn service_names(service: ServiceId) -> Vec<(&'static str, String)> {
    let mut names = vec![("POLLUX_SERVICE", service.to_string())];
    if let ServiceId::Address(id) = service {
        names.extend([
            ("POLLUX_SERVICE_PROTOCOL", id.protocol.as_word().to_owned()),
            ("POLLUX_SERVICE_ADDRESS", id.endpoint.address().to_string()),
            ("POLLUX_SERVICE_PORT", id.endpoint.port().to_string()),
        ]);
    }
    names
}

fn server_names(server: DestinationId) -> [(&'static str, String); 2] {
    [
        ("POLLUX_SERVER_ADDRESS", server.address().to_string()),
        ("POLLUX_SERVER_PORT", server.port().to_string()),
    ]
}

/// Runs a program to its end: how that was, and the first line it printed.
///
/// # Errors
/// It cannot be run.
pub async fn run(
    command: &[String],
    names: Vec<(&'static str, String)>,
) -> io::Result<(ExitStatus, String)> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::NotFound)?;
    let leader = Command::new(program)
        .args(arguments)
        .envs(names)
        // It is no part of this daemon.
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .env_remove("WATCHDOG_PID")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
    let id = leader.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let mut group = Group { leader, id };
    let mut output = group.leader.stdout.take();
    let mut said = Vec::new();
    let read = async {
        let mut part = [0; OUTPUT_BYTES_MAX];
        while let Some(output) = &mut output
            && let Ok(length @ 1..) = output.read(&mut part).await
        {
            let room = OUTPUT_BYTES_MAX - said.len();
            said.extend(part.iter().take(length.min(room)));
        }
        // What it started may hold its output for ever; its own end is what counts.
        std::future::pending::<()>().await;
    };
    let status = tokio::select! {
        status = group.leader.wait() => status,
        () = read => Err(io::ErrorKind::BrokenPipe.into()),
    }?;
    if let Some(mut output) = output {
        // What it printed just before its end.
        let mut part = [0; OUTPUT_BYTES_MAX];
        let left = tokio::time::timeout(std::time::Duration::ZERO, output.read(&mut part)).await;
        let length = left.map_or(0, |left| left.unwrap_or_default());
        said.extend(part.iter().take(length));
    }
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().next().unwrap_or_default();
    let plain = line.chars().filter(|letter| !letter.is_control());
    Ok((status, plain.take(200).collect()))
}
