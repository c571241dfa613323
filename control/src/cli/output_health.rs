//! `show health` and `show quorums` as tables.

use pollux_api::health::{QuorumState, ServerHealth, ServerState, ServiceHealth};

use super::table::{Align, Table};

/// Results shown of each server.
const RECENT_SHOWN: usize = 8;

/// A line for each server: its state, since when, the last results (`+` good, `-` bad, the newest first), and why. A
/// service without its quorum says so.
pub fn health(services: &[ServiceHealth], servers: &[ServerHealth]) -> Table {
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
            table.text(heading(server, services));
            service = Some(server.service);
        }
        let state = match (server.state, server.weight) {
            (ServerState::Up, None) => "up".to_owned(),
            (ServerState::Up, Some(weight)) => format!("weight {weight}"),
            (ServerState::Down, _) => "down".to_owned(),
        };
        let recent = server.recent.iter().take(RECENT_SHOWN);
        let recent: String = recent
            .map(|result| match (result.silent, result.good) {
                (true, _) => '?',
                (false, true) => '+',
                (false, false) => '-',
            })
            .collect();
        let last = server.recent.first();
        let last = last.map_or("not checked yet", |result| result.reason.as_str());
        table.cells([
            format!("  -> {}", server.server),
            server.check.clone(),
            state,
            age(server.since_ms),
            recent,
            last.to_owned(),
        ]);
    }
    table
}

fn heading(server: &ServerHealth, services: &[ServiceHealth]) -> String {
    let service = server.service;
    let mut known = services.iter();
    match known.find(|known| known.service == service) {
        Some(known) if known.state == QuorumState::Lost => {
            let sorry = match known.sorry_server {
                Some(sorry) => format!(", {sorry} serves"),
                None => String::new(),
            };
            let since = age(known.since_ms);
            format!("{service}: quorum lost since {since}{sorry}")
        }
        _ => service.to_string(),
    }
}

/// A line for each service: whether it has its quorum, since when, what is up and what has to be.
pub fn quorums(services: &[ServiceHealth]) -> Table {
    let mut table = Table::new(&[(Align::Left, 0); 6]);
    table.cells(["Service", "State", "Since", "Up", "Quorum", "Sorry server"]);
    for service in services {
        let state = match service.state {
            QuorumState::Up => "up",
            QuorumState::Lost => "lost",
        };
        let sorry = service.sorry_server;
        table.cells([
            service.service.to_string(),
            state.to_owned(),
            age(service.since_ms),
            service.weight_up.to_string(),
            service.quorum.to_string(),
            sorry.map_or_else(|| "-".to_owned(), |server| server.to_string()),
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
            silent: reason.contains("cannot ask"),
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
            weight: None,
            recent: vec![
                result(true, "status 200 in 1 ms"),
                result(false, "status 500"),
                result(false, "this machine cannot ask: Too many open files"),
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
  -> 203.0.113.11:80  web   down  2m5s  +-?    status 200 in 1 ms
  -> 203.0.113.12:80  web   up    1d1h         not checked yet
";
        let trim = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let shown = health(&[], &[down.clone(), up]).to_string();
        assert_eq!(trim(&shown), trim(expected));

        let lost = ServiceHealth {
            service,
            state: QuorumState::Lost,
            since_ms: 3000,
            weight_up: 1,
            quorum: 2,
            sorry_server: Some("203.0.113.99:80".parse().unwrap()),
        };
        let shown = health(std::slice::from_ref(&lost), &[down]).to_string();
        let heading = "TCP 198.51.100.1:80: quorum lost since 3s, 203.0.113.99:80 serves";
        assert_eq!(shown.lines().nth(1), Some(heading));
        let expected = "Service State Since Up Quorum Sorry server
TCP 198.51.100.1:80 lost 3s 1 2 203.0.113.99:80";
        assert_eq!(trim(&quorums(&[lost]).to_string()), trim(expected));
    }
}
