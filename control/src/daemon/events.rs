//! What checks switched, in `<state-dir>/events.jsonl`: written by a task of its own, for which no check waits.

use pollux_api::ServiceId;
use pollux_api::control::Answer;
use pollux_api::events::{Event, EventKind};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{Daemon, journal, off_loop};

/// What is to be written still, in lists of events that happened at once. More are lost, which the log says.
const LISTS_MAX: usize = 256;

/// Where events go, and where they come out.
#[derive(Debug)]
pub struct EventQueue(Sender<Vec<Event>>);

impl EventQueue {
    /// A queue and its other end.
    pub fn new() -> (Self, Receiver<Vec<Event>>) {
        let (sender, receiver) = channel(LISTS_MAX);
        (Self(sender), receiver)
    }

    /// Adds what has just happened.
    pub fn push(&self, happened: Vec<(ServiceId, EventKind)>) {
        if happened.is_empty() {
            return;
        }
        let time = journal::now();
        let happened = happened.into_iter().map(|(service, kind)| Event {
            time: time.clone(),
            service,
            kind,
        });
        if self.0.try_send(happened.collect()).is_err() {
            log::error!("events are lost: the state directory takes them too slowly");
        }
    }
}

impl Daemon {
    /// Writes events down, for ever.
    pub(super) async fn keep_writing_events(&self, mut queue: Receiver<Vec<Event>>) {
        while let Some(events) = queue.recv().await {
            let journal = self.event_log.clone();
            off_loop(move || journal.write(&events)).await;
        }
    }

    /// The last events, of one service or of all.
    pub(super) async fn last_events(&self, last: usize, service: Option<ServiceId>) -> Answer {
        let journal = self.event_log.clone();
        let is_wanted = move |event: &Event| service.is_none_or(|id| event.service == id);
        Answer::Events(off_loop(move || journal.last(last, is_wanted)).await)
    }
}
