//! Two crowds of clients at a service: one keeps its connections, one makes a new one for each request.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use super::namespace::Background;

/// Until both have begun.
const START: Duration = Duration::from_millis(500);
/// Clients have processors of their own; here they leave those they share to the director when it wants them. Where the kernel
/// groups what it schedules by session (`autogroup`), being nice is said of the session.
const STAND_BACK: &str = "{ echo 10 >/proc/self/autogroup; } 2>/dev/null; exec nice -n 10 \"$@\"";

/// wrk under way, twice.
#[derive(Debug)]
pub struct Load {
    wrks: Vec<Background>,
}

impl Load {
    /// Clients ask for this page until [`Self::assert_nothing_failed`].
    pub fn start(page: &str) -> Self {
        let wrks = ["Connection: keep-alive", "Connection: close"].map(|header| {
            // Longer than any test takes: it is interrupted, and then reports.
            let line = format!("wrk -t 1 -c 10 -d 300s --timeout 5s {page} -H");
            let mut arguments = vec!["sh", "-c", STAND_BACK, "sh"];
            arguments.extend(line.split_whitespace());
            arguments.push(header);
            Background::start("client", "setsid", &arguments, Stdio::piped())
        });
        thread::sleep(START);
        Self { wrks: wrks.into() }
    }

    /// Ends it: there were requests, and every one was answered well.
    pub fn assert_nothing_failed(self) {
        for wrk in self.wrks {
            wrk.interrupt();
            let report = wrk.finish();
            let requests = report.lines().find(|line| line.contains("requests in"));
            let requests =
                requests.unwrap_or_else(|| panic!("wrk says nothing of requests:\n{report}"));
            let number: u64 = requests
                .split_whitespace()
                .next()
                .and_then(|word| word.parse().ok())
                .expect("a number of requests");
            assert!(number > 1_000, "{report}");
            for bad in ["Socket errors", "Non-2xx"] {
                assert!(!report.contains(bad), "requests failed:\n{report}");
            }
        }
    }
}
