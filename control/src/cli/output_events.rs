//! Events for people: when, what, which server, of which service, and why.

use pollux_api::events::{Event, EventKind};

use super::output_audit::indented;

/// The lines of an event.
pub fn event(event: &Event) -> String {
    let Event {
        time,
        service,
        kind,
    } = event;
    let what = match kind {
        EventKind::ServerOff {
            server,
            check,
            reason,
        } => format!("off {server} of {service}, by {check}: {reason}"),
        EventKind::ServerOn {
            server,
            check,
            reason,
        } => format!("on {server} of {service}, by {check}: {reason}"),
        EventKind::QuorumLost => format!("quorum lost of {service}"),
        EventKind::QuorumBack => format!("quorum back of {service}"),
    };
    let mut text = String::new();
    indented(&mut text, 0, &format!("{time} {what}"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_one_goes_on_below() {
        let long = Event {
            time: "2026-11-26T14:00:00.123Z".to_owned(),
            service: pollux_api::ServiceId::address(
                pollux_api::Protocol::Tcp,
                "198.51.100.1:80".parse().unwrap(),
            ),
            kind: EventKind::ServerOff {
                server: "203.0.113.11:80".parse().unwrap(),
                check: "web".to_owned(),
                reason: "status 500, not one of 200-299".to_owned(),
            },
        };
        let expected = "\
2026-11-26T14:00:00.123Z off 203.0.113.11:80 of TCP 198.51.100.1:80, by
        web: status 500, not one of 200-299
";
        assert_eq!(event(&long), expected);
        let lost = Event {
            kind: EventKind::QuorumLost,
            ..long
        };
        assert_eq!(
            event(&lost),
            "2026-11-26T14:00:00.123Z quorum lost of TCP 198.51.100.1:80\n"
        );
    }
}
