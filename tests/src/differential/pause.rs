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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::packet;
    use crate::golden::topology::{GATEWAY_MAC, mac, server_mac};
    use crate::golden::trace::Wire;

    const CLIENT: &str = "198.51.100.7:40000";
    const SERVER: &str = "10.1.0.11:21";
    const VIRTUAL: &str = "192.0.2.100:21";

    fn said(director: &mut Director, from: &str, to: &str, flags: &str, text: &[u8]) {
        let segment = packet::tcp(from.parse().unwrap(), to.parse().unwrap(), flags, text);
        let (wire, sender) = if from == SERVER {
            (Wire::Rs, server_mac(1))
        } else {
            (Wire::Cl, GATEWAY_MAC)
        };
        director.receive(wire, &packet::ethernet(mac(wire), sender, &segment));
    }

    fn half_open() -> Director {
        let mut director = Director::configured(&[
            "ipvsadm -A -t 192.0.2.100:21 -s rr",
            "ipvsadm -a -t 192.0.2.100:21 -r 10.1.0.11:21 -m",
        ]);
        said(&mut director, CLIENT, VIRTUAL, "S", b"");
        director
    }

    /// SYN_RECV ends after 60 s, or up to six later.
    #[test]
    fn time_does_not_stop_near_an_end() {
        let mut director = half_open();
        assert!(is_settled(&director));
        assert!(is_clear(&director, 50) && is_clear(&director, 75));
        assert!(!is_clear(&director, 58) && !is_clear(&director, 66));
        director.pass(seconds(59));
        assert!(!is_settled(&director));
        assert!(SETTLING.iter().any(|length| is_clear(&director, *length)));
    }

    /// The control connection's own ten seconds are over long before the data connection's, which it waits for.
    #[test]
    fn what_controls_others_lives_as_long_as_they() {
        let mut director = half_open();
        said(&mut director, SERVER, CLIENT, "SA", b"");
        said(&mut director, CLIENT, VIRTUAL, "A", b"");
        let port = b"PORT 198,51,100,7,200,1\r\n";
        said(&mut director, CLIENT, VIRTUAL, "PA", port);
        said(&mut director, CLIENT, VIRTUAL, "R", b"");
        assert_eq!(director.connections().count(), 2);
        assert!(is_clear(&director, 5));
        assert!(!is_clear(&director, 30) && !is_clear(&director, 100));
        assert!(is_clear(&director, 500));
    }
}
