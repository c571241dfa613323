//! `pollux`, the command line: arguments in, one or more requests to polluxd, a table or JSON out.

pub mod arguments;
mod completion;
mod connection;
mod doctor;
mod import;
mod ipvs;
mod manual;
mod mark_options;
mod names;
mod numbers;
mod output_audit;
mod output_director;
mod output_events;
mod output_health;
mod output_json;
mod output_plan;
mod output_ports;
mod output_sync;
mod output_table;
mod plan;
mod realserver;
mod screen;
mod service_options;
mod setup;
mod show;
mod sync_options;
mod table;
mod top;
mod tunnel_options;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pollux_api::control::{Answer, Command};
use pollux_api::identity::NameError;
use pollux_api::line::{Failure, LineError};
use pollux_api::{Change, Configuration, Destination, ServiceId, VirtualService};
use serde_json::json;
use thiserror::Error;

use crate::config::{self, write};
use crate::run_directory::RunDirectory;
use arguments::{Arguments, ServerVerb, ServiceVerb, Verb};
use connection::Connection;
use mark_options::MarkVerb;
use screen::Screen;

/// Why a command was not done.
#[derive(Debug, Error)]
pub enum CliError {
    /// No way to polluxd.
    #[error("{0}")]
    Unreachable(String),
    /// polluxd, or the data plane behind it, refused.
    #[error(transparent)]
    Refused(Failure),
    /// The connection broke.
    #[error("the connection to polluxd broke: {0}; what was asked may be done or not")]
    Connection(io::Error),
    /// polluxd does not answer in time.
    #[error(
        "polluxd did not answer within {} s; what was asked may be done or not: its log tells what it waits for",
        .0.as_secs()
    )]
    Silent(Duration),
    /// The answer is no answer.
    #[error("polluxd's answer: {0}")]
    Line(#[from] LineError),
    /// The answer is one to something else.
    #[error("polluxd answered something else than was asked: use the same release of both")]
    Unexpected,
    /// The server cannot be one of this service.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No service was named.
    #[error("which service? name it with -t ADDRESS:PORT, -u ADDRESS:PORT or -f MARK")]
    NoService,
    /// The configuration file.
    #[error(transparent)]
    Config(#[from] config::LoadError),
    /// Writing the configuration file.
    #[error(transparent)]
    Save(#[from] write::SaveError),
    /// A screen is to be shown, and there is none.
    #[error(
        "`pollux top` needs a terminal: `pollux show director`, `show rates` and `show workers` print once what it shows"
    )]
    NoTerminal,
    /// An IPVS tool.
    #[error(transparent)]
    Tool(#[from] ipvs::ToolError),
    /// A file to import.
    #[error("cannot read {}: {}", .0.display(), .1)]
    Read(PathBuf, io::Error),
    /// The file that was imported.
    #[error("cannot write {}: {}{}", .0.display(), .1, write::mend_of_write(.0, .1))]
    Write(PathBuf, io::Error),
    /// Nothing to import.
    #[error(transparent)]
    Import(#[from] crate::import::ImportError),
    /// Nobody to set up.
    #[error("no service and server is like that: `pollux show services` lists those that run")]
    NoServer,
    /// The machine.
    #[error(transparent)]
    Setup(#[from] setup::SetupError),
    /// Standard output.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
    /// JSON for standard output.
    #[error("cannot write the answer: {0}")]
    Json(#[from] serde_json::Error),
}

/// What a command came to, for the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or nothing to do.
    Done,
    /// `plan` found a difference, `import` could not carry over everything.
    Differs,
    /// `doctor` found something wrong.
    Ill,
}

/// Does what the arguments say, output to `out`.
///
/// # Errors
/// [`CliError`]; it prints as what is wrong and how to mend it.
pub fn run(arguments: Arguments, out: &mut impl Write) -> Result<Outcome, CliError> {
    let Arguments {
        run_dir,
        json,
        verb,
    } = arguments;
    let directory = RunDirectory::new(&run_dir);
    let mut session = Session {
        directory,
        json,
        screen: Screen::of_output(),
        out,
    };
    match &verb {
        Verb::Plan { path } => return session.plan(path.as_deref()),
        Verb::Doctor(options) => return session.doctor(options),
        Verb::Import(options) => return session.import(options),
        _ => {}
    }
    session.perform(verb)?;
    Ok(Outcome::Done)
}

/// One run of the program.
struct Session<'a, W> {
    directory: RunDirectory,
    json: bool,
    screen: Screen,
    out: &'a mut W,
}

fn service_change(verb: ServiceVerb) -> Result<Change, CliError> {
    Ok(match verb {
        ServiceVerb::Add { service, settings } => Change::AddService {
            service: settings
                .patch()
                .applied_to(&VirtualService::new(service.id()?)),
        },
        ServiceVerb::Edit { service, settings } => Change::PatchService {
            id: service.id()?,
            patch: settings.patch(),
        },
        ServiceVerb::Remove { service } => Change::RemoveService { id: service.id()? },
    })
}

fn server_change(verb: ServerVerb) -> Result<Change, CliError> {
    let (ServerVerb::Add {
        service, server, ..
    }
    | ServerVerb::Edit {
        service, server, ..
    }
    | ServerVerb::Remove { service, server }) = &verb;
    let service = service.id()?;
    let id = server.address.endpoint_for(service)?;
    Ok(match verb {
        ServerVerb::Add { settings, .. } => {
            let nothing_said = Destination {
                id,
                method: Default::default(),
                tunnel: Default::default(),
                weight: Default::default(),
                upper_threshold: 0,
                lower_threshold: 0,
            };
            Change::AddDestination {
                service,
                destination: settings.patch().applied_to(&nothing_said),
            }
        }
        ServerVerb::Edit { settings, .. } => Change::PatchDestination {
            service,
            id,
            patch: settings.patch(),
        },
        ServerVerb::Remove { .. } => Change::RemoveDestination { service, id },
    })
}

impl<W: Write> Session<'_, W> {
    fn perform(&mut self, verb: Verb) -> Result<(), CliError> {
        match verb {
            Verb::Plan { path } => self.plan(path.as_deref()).map(drop),
            Verb::Doctor(options) => self.doctor(&options).map(drop),
            Verb::Import(options) => self.import(&options).map(drop),
            Verb::Realserver(options) => self.realserver(options),
            Verb::Apply(file) => self.apply(&file.path),
            Verb::Reload => self.reload(),
            Verb::Check(file) => self.check(&file.path),
            Verb::Settings(file) => {
                let settings = config::load_dataplane(&file.path)?;
                output_json::pretty(self.out, &settings)
            }
            Verb::Save(file) => self.save(&file.path),
            Verb::Setup(arguments) => self.setup(&arguments),
            Verb::Show(view) => self.show(view),
            Verb::Service(verb) => self.change(service_change(verb)?),
            Verb::Server(verb) => self.change(server_change(verb)?),
            Verb::Mark(MarkVerb::Add(rule)) => self.change(Change::AddMark {
                rule: rule.into_rule(),
            }),
            Verb::Mark(MarkVerb::Remove(rule)) => self.change(Change::RemoveMark {
                rule: rule.into_rule(),
            }),
            Verb::Mark(MarkVerb::List) => self.marks(),
            Verb::Sync(verb) => self.change(verb.change()),
            Verb::Set { settings } => self.change(Change::Set {
                settings: settings.into_iter().collect(),
            }),
            Verb::Flush => self.change(Change::Flush),
            Verb::Top { interval } => top::run(&self.directory, Duration::from_secs(interval)),
            Verb::Audit { last } => self.audit(last),
            Verb::Events { service, last } => self.events(service.id(), last),
            Verb::Ipvs { command } => ipvs::run(&self.directory, &command),
            Verb::Names { kind, service } => self.names(kind, service.id()),
            Verb::Completion { shell } => completion::script(shell, self.out),
            Verb::ManualPages { directory } => manual::pages(&directory),
            Verb::Zero(service) => self.done(Command::Zero {
                service: service.id(),
            }),
        }
    }

    fn ask(&self, command: Command) -> Result<Answer, CliError> {
        Connection::open(&self.directory)?.ask(command)
    }

    fn change(&mut self, change: Change) -> Result<(), CliError> {
        self.done(Command::Change {
            base_generation: None,
            changes: vec![change],
        })
    }

    /// Success is silent, as with `ipvsadm`.
    fn done(&mut self, command: Command) -> Result<(), CliError> {
        let Answer::Done { generation } = self.ask(command)? else {
            return Err(CliError::Unexpected);
        };
        if self.json {
            output_json::pretty(self.out, &json!({ "generation": generation }))?;
        }
        Ok(())
    }

    fn configuration(&self) -> Result<Configuration, CliError> {
        match self.ask(Command::ShowConfiguration)? {
            Answer::Configuration(configuration) => Ok(configuration),
            _ => Err(CliError::Unexpected),
        }
    }

    fn check(&mut self, path: &Path) -> Result<(), CliError> {
        let config = config::load(path)?;
        let services = &config.configuration().services;
        let servers: usize = services.iter().map(|entry| entry.destinations.len()).sum();
        let services = services.len();
        if self.json {
            let counts = json!({ "services": services, "servers": servers });
            return output_json::pretty(self.out, &counts);
        }
        writeln!(
            self.out,
            "{}: valid; services: {services}, servers: {servers}",
            path.display()
        )?;
        Ok(())
    }

    fn audit(&mut self, last: usize) -> Result<(), CliError> {
        let Answer::Audit(entries) = self.ask(Command::ShowAudit { last })? else {
            return Err(CliError::Unexpected);
        };
        self.each(&entries, output_audit::entry)
    }

    fn events(&mut self, service: Option<ServiceId>, last: usize) -> Result<(), CliError> {
        let Answer::Events(events) = self.ask(Command::ShowEvents { last, service })? else {
            return Err(CliError::Unexpected);
        };
        self.each(&events, output_events::event)
    }

    fn each<T: serde::Serialize>(
        &mut self,
        entries: &[T],
        text: impl Fn(&T) -> String,
    ) -> Result<(), CliError> {
        if self.json {
            let mut array = output_json::Array::default();
            for entry in entries {
                array.push(self.out, entry)?;
            }
            return array.end(self.out);
        }
        for entry in entries {
            write!(self.out, "{}", text(entry))?;
        }
        Ok(())
    }

    fn marks(&mut self) -> Result<(), CliError> {
        let marks = self.configuration()?.marks;
        if self.json {
            return output_json::pretty(self.out, &marks);
        }
        for rule in marks {
            writeln!(self.out, "{rule}")?;
        }
        Ok(())
    }

    fn save(&mut self, path: &Path) -> Result<(), CliError> {
        let configuration = self.configuration()?;
        write::save(path, &configuration)?;
        Ok(())
    }
}
