//! A network namespace for the data plane: its TAPs, addresses and neighbours are nobody else's.

use std::process::Command;

use anyhow::{Context as _, ensure};

/// The namespace; it goes with this.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes it.
    ///
    /// # Errors
    /// Not root, or no `ip`.
    pub fn make() -> anyhow::Result<Self> {
        let name = format!("pollux-bench-{}", std::process::id());
        ip(&["netns", "add", &name]).context("a network namespace is needed: be root")?;
        Ok(Self { name })
    }

    /// What stands before a command that is to run in it.
    pub fn prefix(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// Runs `ip` in it, the words separated by blanks.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn ip(&self, words: &str) -> anyhow::Result<()> {
        let mut all = vec!["-n", &self.name];
        all.extend(words.split_whitespace());
        ip(&all)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "delete", &self.name]) {
            eprintln!("pollux-bench: {error:#}");
        }
    }
}

fn ip(words: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(words)
        .output()
        .context("cannot run ip: install iproute2")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "ip {}: {}",
        words.join(" "),
        complaint.trim()
    );
    Ok(())
}
