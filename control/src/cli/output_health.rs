//! `show health` as a table.

use pollux_api::health::{ServerHealth, ServerState};

use super::table::{Align, Table};

/// Results shown of each server.
const RECENT_SHOWN: usize = 8;

/// A line for each server: its state, since when, the last results (`+` good, `-` bad, the newest first), and why.
pub fn health(servers: &[ServerHealth]) -> Table {
    let mut table = Table::new(&[(Align::Left, 0); 6]);
    table.cells([
        "Service / Server",
        "Check",
        "State",
        "Since",
        "Recent",
        "Last result",
    ]);
    let mut service = None;
    for server in servers {
        if service != Some(server.service) {
            table.text(server.service.to_string());
            service = Some(server.service);
        }
        let state = match server.state {
            ServerState::Up => "up",
            ServerState::Down => "down",
        };
        let recent = server.recent.iter().take(RECENT_SHOWN);
        let recent: String = recent
            .map(|result| if result.good { '+' } else { '-' })
            .collect();
        let last = server.recent.first();
        let last = last.map_or("not checked yet", |result| result.reason.as_str());
        table.cells([
            format!("  -> {}", server.server),
            server.check.clone(),
            state.to_owned(),
            age(server.since_ms),
            recent,
            last.to_owned(),
        ]);
    }
    table
}

/// How long ago, in its two largest units.
fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{}s", seconds % 60),
        3600..86400 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use pollux_api::health::ProbeResult;

    use super::*;

    #[test]
    fn servers_below_their_service() {
        let result = |good, reason: &str| ProbeResult {
            good,
            reason: reason.to_owned(),
            age_ms: 10,
        };
        let service = pollux_api::ServiceId::address(
            pollux_api::Protocol::Tcp,
            "198.51.100.1:80".parse().unwrap(),
        );
        let down = ServerHealth {
            service,
            server: "203.0.113.11:80".parse().unwrap(),
            check: "web".to_owned(),
            state: ServerState::Down,
            since_ms: 125_000,
            against: 1,
            recent: vec![
                result(true, "status 200 in 1 ms"),
                result(false, "status 500"),
            ],
        };
        let up = ServerHealth {
            server: "203.0.113.12:80".parse().unwrap(),
            state: ServerState::Up,
            since_ms: 90_000_000,
            recent: vec![],
            ..down.clone()
        };
        let expected = "\
Service / Server      Check State Since Recent Last result
TCP 198.51.100.1:80
  -> 203.0.113.11:80  web   down  2m5s  +-     status 200 in 1 ms
  -> 203.0.113.12:80  web   up    1d1h         not checked yet
";
        let shown = health(&[down, up]).to_string();
        let trim = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(trim(&shown), trim(expected));
    }
}
