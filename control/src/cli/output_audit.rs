//! An entry of the audit log for people: a line for who and when, a line for each change, a line for what came of it.

use std::fmt::Write;

use pollux_api::ServiceId;
use pollux_api::audit::{AuditAction, AuditEntry, AuditOutcome, ChangeList};
use pollux_api::identity::Endpoint;
use serde_json::Value;

use super::table::wrapped;

/// As wide as a terminal is at least.
const WIDTH: usize = 80;

/// The lines of an entry.
pub fn entry(entry: &AuditEntry) -> String {
    let who = entry.peer.as_ref().map_or_else(
        || "a signal".to_owned(),
        |peer| {
            let command = peer.command.as_deref().unwrap_or("a process");
            let pid = peer.pid.map_or_else(String::new, |pid| format!("[{pid}]"));
            format!("{} by {command}{pid}", peer.user)
        },
    );
    let mut text = format!("{} {who} on {}\n", entry.time, entry.origin.as_str());
    match &entry.action {
        AuditAction::Change(list) => push_changes(&mut text, list),
        AuditAction::Reload(list) => {
            push(
                &mut text,
                &format!("reload the file, changes: {}", list.count),
            );
            push_changes(&mut text, list);
        }
        AuditAction::Zero { service: None } => push(&mut text, "zero all counters"),
        AuditAction::Zero { service: Some(id) } => {
            push(&mut text, &format!("zero counters of {id}"));
        }
    }
    match &entry.outcome {
        AuditOutcome::Done { generation } => {
            push(&mut text, &format!("= done, generation {generation}"));
        }
        AuditOutcome::Refused { message, .. } => push(&mut text, &format!("= refused: {message}")),
    }
    text
}

/// A text of one or more lines, indented.
fn push(text: &mut String, line: &str) {
    indented(text, 4, line);
}

/// A text in lines no longer than a screen is wide, the first with this indent and those that it goes on in with 8.
pub fn indented(text: &mut String, mut indent: usize, line: &str) {
    for part in line.lines().flat_map(|line| wrapped(line, WIDTH - 8)) {
        let _ = writeln!(text, "{:indent$}{part}", "");
        indent = 8;
    }
}

fn push_changes(text: &mut String, list: &ChangeList) {
    for change in &list.changes {
        push(text, &described(change));
    }
    let more = list.count.saturating_sub(list.changes.len());
    if more > 0 {
        push(text, &format!("and {more} more changes"));
    }
}

/// A change in words: its name, what it is of, and the rest as it is. It may be one of another release.
fn described(change: &Value) -> String {
    let Some(fields) = change.as_object() else {
        return change.to_string();
    };
    let name = fields.get("change").and_then(Value::as_str);
    let mut words = vec![name.unwrap_or("change").replace('_', " ")];
    for (name, value) in fields {
        match name.as_str() {
            "change" => {}
            "omitted_bytes" => words.push(format!("({value} bytes, left out)")),
            _ => push_words(&mut words, name, value),
        }
    }
    words.join(" ")
}

fn push_words(words: &mut Vec<String>, name: &str, value: &Value) {
    if let Ok(service) = serde_json::from_value::<ServiceId>(value.clone()) {
        words.push(service.to_string());
    } else if let Ok(server) = serde_json::from_value::<Endpoint>(value.clone()) {
        words.push(server.to_string());
    } else {
        match value {
            Value::Null => {}
            Value::Array(values) if values.iter().all(Value::is_object) => {
                for value in values {
                    words.push(format!("{name}:"));
                    push_words(words, name, value);
                }
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    push_words(words, name, value);
                }
            }
            Value::String(value) => words.push(format!("{name}={value}")),
            value => words.push(format!("{name}={value}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use pollux_api::audit::{AuditOrigin, Peer};
    use pollux_api::line::FailureCode;
    use pollux_api::{Change, Protocol};
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_of_things_are_words_too() {
        let change = json!({"change": "replace_checks", "checks": [{"name": "web", "kind": "http"}, {"name": "own"}],
            "services": [{"check": "web", "service": {"protocol": "tcp", "endpoint": "198.51.100.1:80"}}]});
        assert_eq!(
            described(&change),
            "replace checks checks: kind=http name=web checks: name=own services: check=web TCP 198.51.100.1:80"
        );
    }

    #[test]
    fn who_what_and_what_came_of_it() {
        let service = ServiceId::address(Protocol::Tcp, "198.51.100.1:80".parse().unwrap());
        let changes = vec![
            Change::PatchDestination {
                service,
                id: "203.0.113.11:80".parse().unwrap(),
                patch: pollux_api::DestinationPatch {
                    weight: Some(0_u64.try_into().unwrap()),
                    ..Default::default()
                },
            };
            40
        ];
        let refused = AuditEntry {
            time: "2026-11-26T14:00:00.123Z".to_owned(),
            origin: AuditOrigin::Control,
            peer: Some(Peer {
                uid: 1000,
                user: "anna".to_owned(),
                pid: Some(4711),
                command: Some("pollux".to_owned()),
            }),
            action: AuditAction::Change(ChangeList::of(&changes)),
            outcome: AuditOutcome::Refused {
                code: FailureCode::NotFound,
                message: "no such server: service TCP 198.51.100.1:80 has no server 203.0.113.11:80; `pollux show \
                          services` lists them"
                    .to_owned(),
            },
        };
        let shown = entry(&refused);
        assert!(
            shown.starts_with("2026-11-26T14:00:00.123Z anna by pollux[4711] on control.sock\n")
        );
        assert!(
            shown
                .contains("\n    patch destination 203.0.113.11:80 weight=0 TCP 198.51.100.1:80\n"),
            "{shown}"
        );
        assert!(shown.contains("\n    and 8 more changes\n"), "{shown}");
        assert!(
            shown.contains("\n    = refused: no such server: "),
            "{shown}"
        );
        assert!(
            shown.lines().all(|line| line.chars().count() <= WIDTH),
            "{shown}"
        );
        let signal = AuditEntry {
            origin: AuditOrigin::Hangup,
            peer: None,
            action: AuditAction::Reload(ChangeList::default()),
            outcome: AuditOutcome::Done { generation: 7 },
            ..refused
        };
        let expected = "\
2026-11-26T14:00:00.123Z a signal on SIGHUP
    reload the file, changes: 0
    = done, generation 7
";
        assert_eq!(entry(&signal), expected);
    }
}
