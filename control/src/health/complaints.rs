//! What the log says of servers that this machine cannot ask. There may be many, each asked every second.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// A reason is not said again within this time.
const PERIOD: Duration = Duration::from_secs(60);

/// Reasons, and when each was said.
#[derive(Debug, Default)]
pub struct Complaints(HashMap<String, Instant>);

impl Complaints {
    /// What is to be said of an error; none when it was said lately.
    pub fn about(&mut self, error: &io::Error, now: Instant) -> Option<String> {
        self.0
            .retain(|_, said| now.saturating_duration_since(*said) < PERIOD);
        let mend = match Errno::from_io_error(error) {
            Some(Errno::MFILE | Errno::NFILE) => {
                "; polluxd may open more files with LimitNOFILE= in polluxd.service"
            }
            _ => "",
        };
        let text = format!("servers cannot be checked: {error}; they stay as they are{mend}");
        if self.0.contains_key(&text) {
            return None;
        }
        self.0.insert(text.clone(), now);
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_once_a_minute_with_its_mend() {
        let mut complaints = Complaints::default();
        let now = Instant::now();
        let files = io::Error::from(Errno::MFILE);
        let script = io::Error::other("/usr/local/bin/check: No such file or directory");
        assert!(
            complaints
                .about(&files, now)
                .unwrap()
                .contains("LimitNOFILE=")
        );
        let text = complaints.about(&script, now).unwrap();
        assert!(
            text.ends_with("No such file or directory; they stay as they are"),
            "{text}"
        );
        assert_eq!(complaints.about(&files, now + PERIOD / 2), None);
        assert_eq!(complaints.about(&script, now + PERIOD / 2), None);
        assert!(complaints.about(&files, now + PERIOD).is_some());
    }
}
