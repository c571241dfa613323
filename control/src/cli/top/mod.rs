//! `pollux top`: services, servers, drops and workers as they change, until `q`.
//!
//! ```text
//! feed (a thread) ── Reading, every few seconds ──► App ── rows ──► screen
//!                                    keys ──► App ──► drain a server: a transaction, by a thread of its own
//! ```
//!
//! [`app`] and [`screen`] know no terminal: tests press keys and read the screen.

mod app;
mod columns;
mod feed;
mod screen;

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use pollux_api::control::{Answer, Command};
use pollux_api::{Change, DestinationPatch};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::CliError;
use super::connection::Connection;
use crate::run_directory::RunDirectory;
use app::{Action, App, Drain};
use feed::{Feed, Reading};

/// How long a key may wait for the screen, and the screen for news.
const POLL: Duration = Duration::from_millis(100);

/// What reaches the screen.
enum News {
    Reading(Box<Reading>),
    /// polluxd does not answer; the feed goes on trying.
    Silence(String),
    /// What became of a drain.
    Drained(Drain, Result<(), String>),
}

/// Shows the screen until the user has had enough.
///
/// # Errors
/// There is no terminal, or no polluxd at the start.
pub fn run(directory: &RunDirectory, interval: Duration) -> Result<(), CliError> {
    let is_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    let is_dumb = std::env::var_os("TERM").is_none_or(|name| name.is_empty() || name == "dumb");
    if !is_terminal || is_dumb {
        return Err(CliError::NoTerminal);
    }
    // Why there is no polluxd is said better where it stays to be read.
    let connection = Connection::open(directory)?;
    let (sender, news) = mpsc::channel();
    let feed = Feed::new(directory.clone(), connection);
    let readings = sender.clone();
    thread::spawn(move || feed.run(interval, &readings));
    let mut terminal = ratatui::try_init()?;
    let result = show(&mut terminal, directory, &sender, &news);
    ratatui::try_restore()?;
    result
}

fn show(
    terminal: &mut DefaultTerminal,
    directory: &RunDirectory,
    sender: &Sender<News>,
    news: &Receiver<News>,
) -> Result<(), CliError> {
    let mut app = App::default();
    loop {
        terminal.draw(|frame| screen::draw(&mut app, frame))?;
        if event::poll(POLL)?
            && let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            match app.press(key) {
                Action::Nothing => {}
                Action::Quit => return Ok(()),
                Action::Drain(drain) => {
                    let (directory, sender) = (directory.clone(), sender.clone());
                    thread::spawn(move || {
                        let result = weigh_nothing(&directory, drain);
                        // Nobody listens when the user has quit.
                        let _ = sender.send(News::Drained(drain, result));
                    });
                }
            }
        }
        while let Ok(one) = news.try_recv() {
            match one {
                News::Reading(reading) => app.update(*reading),
                News::Silence(why) => app.say(why),
                News::Drained(drain, Ok(())) => {
                    app.say(format!("{}: drained, weight 0", drain.server));
                }
                News::Drained(drain, Err(why)) => {
                    app.say(format!("{}: not drained: {why}", drain.server));
                }
            }
        }
    }
}

fn weigh_nothing(directory: &RunDirectory, drain: Drain) -> Result<(), String> {
    let weight = pollux_api::Weight::try_from(0_u64).map_err(|error| error.to_string())?;
    let change = Change::PatchDestination {
        service: drain.service,
        id: drain.server,
        patch: DestinationPatch {
            weight: Some(weight),
            ..DestinationPatch::default()
        },
    };
    let command = Command::Change {
        base_generation: None,
        changes: vec![change],
    };
    let asked = Connection::open(directory).and_then(|mut polluxd| polluxd.ask(command));
    match asked {
        Ok(Answer::Done { .. }) => Ok(()),
        Ok(_) => Err(CliError::Unexpected.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
