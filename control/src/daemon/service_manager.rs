//! Tells systemd, or whoever set `NOTIFY_SOCKET`, how the daemon is (`sd_notify(3)`).

use std::future::pending;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

/// Clients are served from now on.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being read again; [`ready`] ends that.
pub fn reloading() {
    // systemd wants to know since when (sd_notify(3)).
    let now = NotifyState::monotonic_usec_now();
    let states: Vec<NotifyState<'_>> = std::iter::once(NotifyState::Reloading)
        .chain(now.ok())
        .collect();
    tell(&states);
}

/// No client is served any more.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says again and again that the loop that serves clients turns, if a watchdog wants to know (`WatchdogSec=`): a daemon
/// that hangs is started anew. Never returns.
pub async fn keep_alive() {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return pending().await;
    };
    // Half the limit, as sd_watchdog_enabled(3) advises.
    let mut ticks = interval(limit / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("cannot tell the service manager: {error}");
    }
}
