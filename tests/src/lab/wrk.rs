//! wrk, which makes requests as fast as it gets answers.

use std::process::Stdio;

use super::namespace::Background;

/// Clients of one wrk.
pub const CLIENTS: u64 = 10;

/// A running wrk.
#[derive(Debug)]
pub struct Wrk(Background);

/// What it says at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Answers.
    pub requests: u64,
    /// Requests without an answer, and answers that are errors.
    pub failed: u64,
}

impl Wrk {
    /// [`CLIENTS`] of a page, each request on a connection of its own, for long.
    pub fn start(page: &str) -> Self {
        let clients = CLIENTS.to_string();
        let arguments = [
            "-t",
            "1",
            "-c",
            &clients,
            "-d",
            "300s",
            "--timeout",
            "60s",
            "-H",
            "Connection: close",
            page,
        ];
        Self(Background::start(
            "client",
            "wrk",
            &arguments,
            Stdio::piped(),
        ))
    }

    /// Ends it.
    pub fn finish(self) -> Report {
        self.0.interrupt();
        let text = self.0.finish();
        let number = |word: &str| word.trim_end_matches(',').parse::<u64>().ok();
        let line = |of: &str| text.lines().find(|line| line.contains(of));
        let requests = line("requests in").and_then(|line| number(line.split_whitespace().next()?));
        let socket_errors = line("Socket errors").map_or(0, |line| {
            line.split_whitespace().filter_map(number).sum::<u64>()
        });
        let bad_answers = line("Non-2xx").and_then(|line| number(line.split_whitespace().last()?));
        Report {
            requests: requests.unwrap_or_else(|| panic!("wrk says nothing of requests:\n{text}")),
            failed: socket_errors + bad_answers.unwrap_or_default(),
        }
    }
}
