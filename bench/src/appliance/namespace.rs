//! A network namespace for the data plane: its TAPs, addresses and neighbours are nobody else's.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;

use anyhow::{Context as _, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

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

    /// Does something in it, on a thread of its own.
    ///
    /// # Errors
    /// It cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let path = format!("/run/netns/{}", self.name);
        let enter = || {
            let file = File::open(&path)?;
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(file.as_fd(), network)?;
            Ok::<_, std::io::Error>(work())
        };
        let done = std::thread::scope(|scope| scope.spawn(enter).join());
        let done = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        done.with_context(|| format!("cannot enter {path}"))
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
