//! A plan for people: `+` comes, `-` goes, `~` changes; below it what differs and what becomes of connections.

use std::fmt::Write;
use std::path::Path;

use pollux_api::{Change, ServiceId};

use crate::config::plan::{ConnectionFate, Plan, PlannedChange};

/// As wide as a terminal is at least.
const WIDTH: usize = 80;

/// What applying a file would do.
pub fn to_come(plan: &Plan, file: &Path) -> String {
    let file = file.display();
    if plan.is_empty() {
        return format!("{file}: nothing to do, it is what runs\n");
    }
    let mut text = changes(plan, true);
    let fates = [
        (ConnectionFate::Stay, "stay"),
        (ConnectionFate::Follow, "go on by new values"),
        (ConnectionFate::Pause, "pause"),
        (ConnectionFate::End, "end"),
    ];
    let fates = fates.map(|(fate, does)| format!("{} {does}", plan.connections(fate)));
    text.push('\n');
    let changes = plan.changes.len();
    push_items(
        &mut text,
        0,
        &format!("Changes: {changes}; live connections: "),
        &fates,
    );
    text.push_str(&format!("To do it: pollux apply {file}\n"));
    text
}

/// What a file does not have yet.
pub fn unsaved(plan: &Plan, file: &Path) -> String {
    let file = file.display();
    if plan.is_empty() {
        return format!("{file}: nothing to save, it is what runs\n");
    }
    let count = plan.changes.len();
    format!(
        "{}\nNot saved in {file}, changes: {count}. To save them: pollux save; to take them back: pollux reload\n",
        changes(plan, false)
    )
}

fn changes(plan: &Plan, with_meaning: bool) -> String {
    let mut text = String::new();
    let mut under: Option<ServiceId> = None;
    for planned in &plan.changes {
        let (depth, title, service) = title(&planned.change);
        if depth > 0
            && service != under
            && let Some(service) = service
        {
            let _ = writeln!(text, "  service {service}");
        }
        under = service;
        push_change(&mut text, depth, &title, planned, with_meaning);
    }
    text
}

/// How deep it is indented, what it says, which service it belongs to.
fn title(change: &Change) -> (usize, String, Option<ServiceId>) {
    match change {
        Change::AddService { service } => {
            (0, format!("+ service {}", service.id), Some(service.id))
        }
        Change::EditService { service } => {
            (0, format!("~ service {}", service.id), Some(service.id))
        }
        Change::RemoveService { id } => (0, format!("- service {id}"), Some(*id)),
        Change::AddDestination {
            service,
            destination,
        } => (2, format!("+ server {}", destination.id), Some(*service)),
        Change::EditDestination {
            service,
            destination,
        } => (2, format!("~ server {}", destination.id), Some(*service)),
        Change::RemoveDestination { service, id } => (2, format!("- server {id}"), Some(*service)),
        Change::SwitchServer { service, id, .. } => (2, format!("~ server {id}"), Some(*service)),
        Change::Set { .. } => (0, "~ settings".to_owned(), None),
        Change::ReplaceMarks { .. } => (0, "~ mark rules".to_owned(), None),
        Change::ReplaceChecks { .. } => (0, "~ checks".to_owned(), None),
        Change::StartSync { role, .. } => (0, format!("+ sync {role}"), None),
        Change::StopSync { role } => (0, format!("- sync {role}"), None),
        // By its name on the socket.
        other => {
            let name = serde_json::to_value(other).ok();
            let name = name
                .as_ref()
                .and_then(|value| value.get("change")?.as_str());
            (
                0,
                format!("~ {}", name.unwrap_or("other").replace('_', " ")),
                None,
            )
        }
    }
}

fn push_change(
    text: &mut String,
    depth: usize,
    title: &str,
    planned: &PlannedChange,
    with_meaning: bool,
) {
    match planned.change {
        // Each may be a line long.
        Change::Set { .. } | Change::ReplaceMarks { .. } | Change::ReplaceChecks { .. } => {
            let _ = writeln!(text, "{title}");
            for difference in &planned.differences {
                let _ = writeln!(text, "    {difference}");
            }
        }
        _ => push_items(text, depth, &format!("{title}: "), &planned.differences),
    }
    if with_meaning && !planned.meaning.is_empty() {
        let parts: Vec<String> = planned.meaning.split("; ").map(str::to_owned).collect();
        push_items(text, depth + 6, "", &parts);
    }
}

/// The items after a title, with commas, over as many lines as that takes.
fn push_items(text: &mut String, depth: usize, title: &str, items: &[String]) {
    let mut line = format!("{:depth$}{title}", "");
    let deeper = depth + if title.is_empty() { 0 } else { 4 };
    let mut is_first = true;
    for (index, item) in items.iter().enumerate() {
        let comma = if index + 1 < items.len() { "," } else { "" };
        if !is_first || !title.is_empty() {
            let width = line.chars().count() + item.chars().count() + comma.len() + 1;
            if width > WIDTH {
                let _ = writeln!(text, "{}", line.trim_end());
                line = " ".repeat(deeper);
            } else if !is_first {
                line.push(' ');
            }
        }
        line.push_str(item);
        line.push_str(comma);
        is_first = false;
    }
    let line = line.trim_end();
    let line = if items.is_empty() {
        line.trim_end_matches(':')
    } else {
        line
    };
    let _ = writeln!(text, "{line}");
}
