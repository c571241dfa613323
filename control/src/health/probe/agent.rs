//! An agent on the server, as HAProxy's `agent-check` knows it: words that say state and weight.

use pollux_api::health::probe::AgentProbe;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::outcome::{Outcome, Share, Verdict};
use super::Failed;
use super::way::Way;

/// What an agent says is one line.
const ANSWER_BYTES_MAX: usize = 1024;

/// What is said to it.
#[derive(Debug)]
pub struct Agent {
    send: Option<String>,
}

impl Agent {
    /// Makes it ready.
    pub fn new(probe: &AgentProbe) -> Self {
        Self {
            send: probe.send.clone(),
        }
    }

    /// Asks.
    pub async fn ask(&self, way: Way) -> Result<Outcome, Failed> {
        let mut stream = way.connect().await?;
        if let Some(text) = &self.send {
            let sent = stream.write_all(text.as_bytes()).await;
            sent.map_err(Failed::Exchange)?;
        }
        let mut answer = Vec::new();
        while !answer.contains(&b'\n') && answer.len() < ANSWER_BYTES_MAX {
            let read = stream.read_buf(&mut answer).await;
            if read.map_err(Failed::Exchange)? == 0 {
                break;
            }
        }
        if answer.is_empty() {
            return Err(Failed::Closed);
        }
        let text = String::from_utf8_lossy(&answer);
        understood(text.lines().next().unwrap_or_default()).map_err(Failed::wrong)
    }
}

/// An agent that cannot be asked says nothing about the server.
pub fn unreachable(why: &str) -> Outcome {
    Outcome::silent(format!("the agent says nothing: {why}"))
}

/// What the words come to.
fn understood(line: &str) -> Result<Outcome, String> {
    let (words, reason) = match line.split_once('#') {
        Some((words, reason)) => (words, Some(reason.trim())),
        None => (line, None),
    };
    let mut verdict = Verdict::Silent;
    let mut share = None;
    let words = words.split([' ', '\t', ',', '\r']);
    for word in words.filter(|word| !word.is_empty()) {
        match word.to_ascii_lowercase().as_str() {
            "up" => verdict = Verdict::Good,
            "ready" => share = share.or(Some(Share::Percent(100))),
            "down" | "failed" | "stopped" | "fail" => verdict = Verdict::Bad,
            "drain" | "maint" => share = Some(Share::Percent(0)),
            other => {
                let percent = other
                    .strip_suffix('%')
                    .and_then(|number| number.parse().ok());
                if let Some(percent) = percent.filter(|percent| *percent <= 256) {
                    share = Some(Share::Percent(percent));
                } else if !other.starts_with("maxconn:") {
                    return Err(format!("the agent said \"{word}\", which means nothing"));
                }
            }
        }
    }
    let said = match reason {
        Some(reason) if !reason.is_empty() => format!("agent: {reason}"),
        _ => format!("agent: {}", line.trim()),
    };
    // A share alone comes from an agent that lives on a server that does.
    if verdict == Verdict::Silent && share.is_some() {
        verdict = Verdict::Good;
    }
    Ok(Outcome {
        verdict,
        share,
        ..Outcome::good(said)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_understood() {
        let percent = |percent| Some(Share::Percent(percent));
        for (line, verdict, share) in [
            ("75%", Verdict::Good, percent(75)),
            ("up 50%\r", Verdict::Good, percent(50)),
            ("drain", Verdict::Good, percent(0)),
            ("ready up", Verdict::Good, percent(100)),
            ("down,10%", Verdict::Bad, percent(10)),
            ("stopped # by hand", Verdict::Bad, None),
            ("maxconn:30", Verdict::Silent, None),
            ("", Verdict::Silent, None),
        ] {
            let found = understood(line).unwrap();
            assert_eq!((found.verdict, found.share), (verdict, share), "{line}");
        }
        assert_eq!(
            understood("down # disk full").unwrap().reason,
            "agent: disk full"
        );
        for wrong in ["300%", "%", "-1%", "fine"] {
            assert!(understood(wrong).is_err(), "{wrong}");
        }
    }
}
