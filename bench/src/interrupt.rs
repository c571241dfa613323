//! Ctrl-C, and being told to end: noted, so that whatever waits gives up with an error, and what was made is unmade on the
//! way out.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;
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

/// From here on the same signals end the process, after this: for work that never looks up.
///
/// # Errors
/// The system's.
pub fn end_process_after(clean_up: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let waiting = std::thread::Builder::new().name("signals".to_owned());
    waiting.spawn(move || {
        if signals.forever().next().is_some() {
            clean_up();
            eprintln!("pollux-bench: {Interrupted}");
            std::process::exit(1);
        }
    })?;
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
