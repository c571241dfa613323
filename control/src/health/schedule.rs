//! Questions under way: how many there may be, and how they are started.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::mpsc;

use super::agenda::Pace;
use super::outcome::Outcome;
use super::probe::{Question, Subject};

/// With fewer the first hung servers would be felt.
const PLACES_MIN: usize = 128;

/// More than anyone needs, where files are not limited.
const PLACES_MAX: usize = 32 << 10;

/// What came of a question.
#[derive(Debug)]
pub struct Found {
    /// Of which target.
    pub target: u64,
    /// At which pace it was taken.
    pub pace: Pace,
    /// What the server said; an error is this machine's.
    pub outcome: io::Result<Outcome>,
}

/// Starts questions, whose answers come to a receiver.
#[derive(Debug)]
pub struct Asking {
    found: mpsc::UnboundedSender<Found>,
    /// How many may be under way.
    pub places: usize,
}

impl Asking {
    /// As many at once as half of the files that this process may open, of which it takes as many as it is given.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Found>) {
        // There are never more in it than there are places.
        let (found, receiver) = mpsc::unbounded_channel();
        let places = usize::try_from(files() / 2).unwrap_or(PLACES_MAX);
        let places = places.clamp(PLACES_MIN, PLACES_MAX);
        (Self { found, places }, receiver)
    }

    /// Asks once.
    pub fn start(&self, target: u64, pace: Pace, question: Arc<Question>, subject: Subject) {
        let found = self.found.clone();
        tokio::spawn(async move {
            let outcome = question.ask(subject).await;
            let found = found.send(Found {
                target,
                pace,
                outcome,
            });
            // Nobody waits for it: the daemon is stopping.
            drop(found);
        });
    }
}

/// How many files this process may open.
fn files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let (Some(now), most) = (limit.current, limit.maximum) else {
        return u64::MAX;
    };
    let wanted = most.unwrap_or(u64::MAX).min(PLACES_MAX as u64 * 4);
    let raised = Rlimit {
        current: Some(wanted),
        maximum: most,
    };
    if wanted > now && setrlimit(Resource::Nofile, raised).is_ok() {
        return wanted;
    }
    now
}

/// When to ask next after having asked at some time: never later than the interval, so that a server is off in time, and
/// up to the jitter earlier, so that checks that fell together part again.
pub fn pause(interval: Duration, jitter_percent: u8) -> Duration {
    interval.mul_f64(1.0 - chance() * f64::from(jitter_percent) / 100.0)
}

/// A number from 0 to 1, another one each time.
pub fn chance() -> f64 {
    let random = RandomState::new().hash_one(0);
    (random >> 11) as f64 / (1_u64 << 53) as f64
}
