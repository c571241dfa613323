//! Ctrl-C, and being told to end: noted, so that whatever waits gives up with an error, and what was made is unmade on the
//! way out.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use thiserror::Error;

/// How long a wait may go on after the signal.
const LOOK_EVERY: Duration = Duration::from_millis(20);

static SEEN: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Somebody wants the program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("interrupted; all that was made for the measurement is gone again")]
pub struct Interrupted;

/// From here on SIGINT, SIGTERM and SIGHUP do not end the process but are told by [`check`].
///
/// # Errors
/// The system's.
pub fn listen() -> std::io::Result<()> {
    let seen = SEEN.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register(signal, Arc::clone(seen))?;
    }
    Ok(())
}

/// Whether to go on.
///
/// # Errors
/// [`Interrupted`], for ever after the first signal.
#[inline]
pub fn check() -> Result<(), Interrupted> {
    match SEEN.get() {
        Some(seen) if seen.load(Ordering::Relaxed) => Err(Interrupted),
        _ => Ok(()),
    }
}

/// Waits.
///
/// # Errors
/// [`Interrupted`] meanwhile.
pub fn sleep(duration: Duration) -> Result<(), Interrupted> {
    let end = Instant::now() + duration;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(LOOK_EVERY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_ends_waits_and_not_the_process() {
        listen().unwrap();
        assert_eq!(sleep(Duration::from_millis(1)), Ok(()));
        signal_hook::low_level::raise(SIGTERM).unwrap();
        assert_eq!(sleep(Duration::from_secs(60)), Err(Interrupted));
        assert_eq!(check(), Err(Interrupted));
        // Tests of one process must not see it.
        SEEN.get().unwrap().store(false, Ordering::Relaxed);
    }
}
