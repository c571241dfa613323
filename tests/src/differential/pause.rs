//! How long time may pass without anybody asking what the kernel's timers leave open.
//!
//! A timer of the kernel's wheel fires late by up to the granularity of its level (`kernel/time/timer.c`, 100 ticks a
//! second in the lab); what the recorder does takes time as well.

use pollux_engine::clock::{Tick, seconds};

use crate::golden::director::Director;

/// Commands and frames take time, and the engine moves an expiry only once half a second has passed.
const MARGIN: u32 = seconds(3);
/// A template that has connections lives on by so much, and what controls others.
const AGAIN: u32 = seconds(60);
/// Steps at once take less, between which nobody asks whether a connection is near its end.
const STEPS: u32 = seconds(2);
/// What may pass to have doubts over: as little as will do.
pub const SETTLING: [u32; 18] = [
    6, 8, 10, 12, 15, 20, 30, 45, 70, 100, 150, 200, 300, 450, 700, 1200, 2500, 5000,
];

/// Long enough for the estimator, by whose tick every two seconds statistics grow.
pub const ESTIMATOR: [u32; 2] = [5, 9];

/// Up to when a timer of this length may fire after its time, in ticks.
fn lateness(length: u32) -> u32 {
    const LEVELS: [(u32, u32); 3] = [(5, 1), (40, 1), (320, 6)];
    let level = LEVELS.iter().find(|(below, _)| length < seconds(*below));
    level.map_or(seconds(41), |(_, late)| seconds(*late))
}

/// Whether no connection is near its end.
pub fn is_settled(director: &Director) -> bool {
    let now = director.now();
    director
        .connections()
        .all(|connection| now.until(connection.life().expires()) > STEPS as i32)
}

/// Whether it is certain after so many seconds which connections are over.
pub fn is_clear(director: &Director, length: u32) -> bool {
    let now = director.now();
    let then = i64::from(seconds(length));
    let margin = i64::from(MARGIN);
    let left = |end: Tick| i64::from(now.until(end));
    let connections: Vec<_> = director.connections().collect();
    let longest = connections
        .iter()
        .map(|connection| left(connection.end(now)));
    let all_over = longest.max().unwrap_or(0);
    connections.iter().all(|connection| {
        let end = left(connection.end(now));
        // How long the timer was set for is not known: no shorter than what is left, at most the longest there is.
        let lives_on = connection.is_template() || connection.life().children() > 0;
        let total = if lives_on {
            all_over
        } else {
            i64::from(director.snapshot().timeouts().of(connection.life().state())).max(end)
        };
        let late = i64::from(lateness(u32::try_from(total).unwrap_or(u32::MAX)));
        let mut gone = end + late + margin;
        if lives_on {
            gone = all_over + i64::from(AGAIN) * 2 + late * 2 + margin;
        }
        then + margin < end || then > gone
    })
}
