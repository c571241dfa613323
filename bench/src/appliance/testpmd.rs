//! `dpdk-testpmd`, the ceiling: it swaps the MAC addresses of each frame and sends it back.

use std::path::Path;

use anyhow::Context as _;
use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType, connect, recv, send, socket,
};

use super::device::DpdkDevice;
use super::process::{Farewell, Reading, RigProcess};
use super::runtime_directory::RuntimeDirectory;
use crate::interrupt;

const PROGRAM: &str = "dpdk-testpmd";
/// Frames of its pool, beside those that the device keeps.
const FRAMES: u32 = 16_384;
/// Looks in a row at which it must have received more.
const GROWN_TIMES: usize = 4;
const ANSWER_BYTES: usize = 16_384;

/// The running program.
#[derive(Debug)]
pub struct Testpmd {
    /// Its process.
    pub process: RigProcess,
    telemetry: OwnedFd,
    _runtime: RuntimeDirectory,
}

/// How to start it.
#[derive(Debug)]
pub struct TestpmdSpec<'s> {
    /// Its one port.
    pub device: &'s DpdkDevice,
    /// Frames the device keeps for itself.
    pub frames_kept: u32,
    /// The CPU that forwards, and another one.
    pub cpus: (usize, usize),
    /// Memory for frames.
    pub memory_mib: u32,
    /// Where huge pages are, if there are any.
    pub huge_pages: Option<&'s Path>,
    /// Where its output goes.
    pub directory: &'s Path,
}

impl Testpmd {
    /// Starts it and waits until it answers; whether it forwards by then depends on its device.
    ///
    /// # Errors
    /// It is not installed or does not start.
    pub fn start(spec: &TestpmdSpec<'_>) -> anyhow::Result<Self> {
        let prefix = format!("pollux-bench-testpmd-{}", std::process::id());
        let runtime = RuntimeDirectory::of(&prefix);
        let words = words(spec, &prefix);
        // A signal that comes while it starts is forgotten by the time it has started.
        let started = RigProcess::start("testpmd", spec.directory, &words, Farewell::EndOfInput);
        let mut process = started.context("apt install dpdk has it")?;
        let path = runtime.file("dpdk_telemetry.v2");
        let telemetry = process.wait_until("its telemetry answers", || {
            let Ok(telemetry) = connect_to(&path) else {
                return Ok(None);
            };
            Ok(received(&telemetry).is_ok().then_some(telemetry))
        })?;
        Ok(Self {
            process,
            telemetry,
            _runtime: runtime,
        })
    }

    /// Waits until it forwards: until it receives more and more. Some packets alone prove nothing: `net_pcap` counts the
    /// frames it keeps as received when it is set up, long before testpmd begins.
    ///
    /// # Errors
    /// It receives nothing.
    pub fn wait_until_it_forwards(&mut self) -> anyhow::Result<()> {
        let telemetry = &self.telemetry;
        let mut counts = [u64::MAX; GROWN_TIMES];
        self.process.wait_until("it receives frames", || {
            counts.rotate_left(1);
            if let Some(last) = counts.last_mut() {
                *last = received(telemetry)?;
            }
            let grows = counts.windows(2).all(|pair| pair.first() < pair.last());
            Ok(grows.then_some(()))
        })?;
        Ok(interrupt::check()?)
    }

    /// CPU time and packets by now.
    ///
    /// # Errors
    /// It has ended.
    pub fn read(&self) -> anyhow::Result<Reading> {
        let before = self.process.worker_cpu_ns()?;
        let packets = received(&self.telemetry)?;
        let after = self.process.worker_cpu_ns()?;
        Ok(Reading {
            cpu_ns: before.midpoint(after),
            packets,
        })
    }
}

fn words(spec: &TestpmdSpec<'_>, prefix: &str) -> Vec<String> {
    let (worker, main) = spec.cpus;
    let mut words: Vec<String> = vec![PROGRAM.to_owned()];
    words.push(format!("--lcores=0@{main},1@{worker}"));
    words.push(format!("--file-prefix={prefix}"));
    words.push(format!("-m{}", spec.memory_mib));
    words.extend(spec.device.testpmd_words());
    match spec.huge_pages {
        Some(directory) => {
            words.push(format!("--huge-dir={}", directory.display()));
            words.push("--huge-unlink".to_owned());
        }
        None => words.push("--no-huge".to_owned()),
    }
    words.extend(["--", "--forward-mode=macswap", "--nb-cores=1"].map(str::to_owned));
    words.push(format!("--total-num-mbufs={}", FRAMES + spec.frames_kept));
    words
}

fn connect_to(path: &Path) -> anyhow::Result<OwnedFd> {
    let telemetry = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
    connect(&telemetry, &SocketAddrUnix::new(path)?)?;
    // It introduces itself.
    let mut greeting = vec![0; ANSWER_BYTES];
    recv(&telemetry, greeting.as_mut_slice(), RecvFlags::empty())?;
    Ok(telemetry)
}

/// Packets its port has received.
fn received(telemetry: &OwnedFd) -> anyhow::Result<u64> {
    send(telemetry, b"/ethdev/stats,0", SendFlags::empty())?;
    let mut answer = vec![0; ANSWER_BYTES];
    let (length, _) = recv(telemetry, answer.as_mut_slice(), RecvFlags::empty())?;
    packets_of(answer.get(..length).unwrap_or_default())
}

fn packets_of(answer: &[u8]) -> anyhow::Result<u64> {
    let answer: serde_json::Value = serde_json::from_slice(answer)?;
    let packets = answer
        .get("/ethdev/stats")
        .and_then(|port| port.get("ipackets"));
    packets
        .and_then(serde_json::Value::as_u64)
        .with_context(|| format!("no packets in the answer of testpmd: {answer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_found_in_the_answer() {
        let answer = br#"{"/ethdev/stats":{"ipackets":61498496,"opackets":61289088,"q_ipackets":[61498496,0]}}"#;
        assert_eq!(packets_of(answer).unwrap(), 61_498_496);
        let error = packets_of(br#"{"/ethdev/stats":null}"#)
            .unwrap_err()
            .to_string();
        assert!(error.contains("no packets"), "{error}");
    }
}
