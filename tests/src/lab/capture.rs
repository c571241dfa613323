//! What Pollux sends in the lab, captured at the far end of its links and judged by tshark: every checksum must be right,
//! those of headers in tunnels, of quoted packets and of datagrams in fragments too.
//!
//! Only the first [`CAPTURED_KB_MAX`] of a test are kept, so that downloads and load cost no more than seconds. The
//! second director of a take-over is not looked at.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{eventually, lab_dir, namespace, top};

/// Of one test, both links together; whole frames.
const CAPTURED_KB_MAX: u32 = 12_000;
/// The links' ends on the networks.
const ENDS: [&str; 2] = ["director-client", "director-server"];
/// How often the kernel hands over what it has captured: 250 ms, and some more.
const HANDED_OVER: Duration = Duration::from_millis(300);
/// tshark's names of what it says of checksums. VRRP is keepalived's, and leaves by Pollux all the same.
const STATUSES: [&str; 8] = [
    IP,
    "tcp.checksum.status",
    "udp.checksum.status",
    "icmp.checksum.status",
    "icmpv6.checksum.status",
    "sctp.checksum.status",
    "gre.checksum.status",
    "vrrp.checksum.status",
];
/// What nobody asks for and costs most of the time.
const LEFT_OUT: [&str; 6] = ["http", "dns", "ftp", "ftp-data", "tls", "data"];
const IP: &str = "ip.checksum.status";
/// There for each TCP checksum 0xffff that RFC 1624 would have be 0, which tshark takes for wrong, and no receiver does:
/// both are zero. Linux sends it.
const TCP_FFFF: &str = "tcp.checksum.ffff";
/// epan/proto.h: PROTO_CHECKSUM_E_BAD, _GOOD.
const BAD: &str = "0";
const GOOD: &str = "1";

/// A capture that is under way.
#[derive(Debug)]
pub struct Capture {
    dumpcap: Child,
    file: PathBuf,
}

/// What tshark says of a capture.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Frames looked at.
    pub frames: usize,
    /// Right checksums, by tshark's name for what they are of.
    pub good: BTreeMap<&'static str, usize>,
    /// Numbers of the frames in which one is wrong.
    pub bad: Vec<usize>,
}

impl Capture {
    /// Begins to capture what Pollux sends over the links of the lab; [`Self::await_beginning`] says when it does.
    pub fn start() -> Self {
        Self::at(ENDS)
    }

    /// Begins to capture what comes into these interfaces of the networks.
    pub fn at(ends: [&str; 2]) -> Self {
        let file = lab_dir().join("sent.pcapng");
        let log = File::create(lab_dir().join("dumpcap.log")).expect("the lab has a folder");
        let mut command = namespace::command("router", "dumpcap");
        for end in ends {
            // What comes in there has come out of Pollux.
            command.args(["-i", end, "-f", "inbound"]);
        }
        let size = format!("filesize:{CAPTURED_KB_MAX}");
        command.args(["-q", "-a", &size, "-w"]).arg(&file);
        let dumpcap = command
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("`ip netns exec` starts");
        Self { dumpcap, file }
    }

    /// Waits until frames are captured.
    pub fn await_beginning(&self) {
        let begun = eventually(Duration::from_secs(5), || {
            fs::metadata(&self.file).is_ok_and(|file| file.len() > 0)
        });
        let log = fs::read_to_string(lab_dir().join("dumpcap.log")).unwrap_or_default();
        assert!(begun, "dumpcap does not capture: {log}");
    }

    /// Ends it and judges what was captured; nothing when the test took the lab down before.
    pub fn judge(mut self) -> Option<Judgement> {
        if !self.file.exists() {
            return None;
        }
        if self.dumpcap.try_wait().is_ok_and(|ended| ended.is_none()) {
            thread::sleep(HANDED_OVER);
            self.stop();
        }
        Some(judge(&self.file))
    }

    /// Fails the test when a checksum is wrong.
    pub fn assert_checksums_are_right(self) {
        let file = self.file.clone();
        let Some(judgement) = self.judge() else {
            return;
        };
        if let Some(first) = judgement.bad.first() {
            let kept = std::env::temp_dir().join("pollux-wrong-checksums.pcapng");
            // For whoever looks into it; the message has the first one anyway.
            let _ = fs::copy(&file, &kept);
            panic!(
                "tshark finds wrong checksums in {} of {} frames that Pollux sent, kept in {}; the first:\n{}",
                judgement.bad.len(),
                judgement.frames,
                kept.display(),
                described(&file, *first)
            );
        }
    }

    fn stop(&mut self) {
        // It may have ended just now: the file is as large as it may be.
        let _ = kill_process(Pid::from_child(&self.dumpcap), Signal::INT);
        let _ = self.dumpcap.wait();
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if self.dumpcap.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.stop();
        }
    }
}

/// Has tshark look at every checksum in a file of captured frames.
pub fn judge(file: &Path) -> Judgement {
    let mut command = tshark(file);
    for protocol in LEFT_OUT {
        command.args(["--disable-protocol", protocol]);
    }
    command.args(["-T", "fields", "-e", "frame.number"]);
    for field in STATUSES.into_iter().chain([TCP_FFFF]) {
        command.args(["-e", field]);
    }
    let mut judgement = Judgement::default();
    for line in printed(&mut command).lines() {
        let mut columns = line.split('\t');
        let number = columns.next().and_then(|number| number.parse().ok());
        let number = number.unwrap_or_else(|| panic!("tshark prints no frame number: {line}"));
        judgement.frames += 1;
        let mut columns: Vec<_> = STATUSES
            .into_iter()
            .chain([TCP_FFFF])
            .zip(columns)
            .collect();
        let is_icmp = |name: &str| name.starts_with("icmp");
        let is_error = columns
            .iter()
            .any(|(name, column)| is_icmp(name) && !column.is_empty());
        // An ICMP error quotes the beginning of a packet, of which tshark then says that its checksum is wrong.
        columns.retain(|(name, _)| !is_error || is_icmp(name) || *name == IP);
        let mut wrong = 0;
        for (name, column) in columns {
            // One for each header of that kind.
            let count = |status| column.split(',').filter(|value| *value == status).count();
            if name == TCP_FFFF {
                wrong -= column.split_terminator(',').count();
            } else {
                wrong += count(BAD);
                *judgement.good.entry(name).or_default() += count(GOOD);
            }
        }
        if wrong > 0 {
            judgement.bad.push(number);
        }
    }
    judgement
}

/// Writes frames into a file as if they had been captured: pcap, little-endian, link type Ethernet.
pub fn write(file: &Path, frames: &[Vec<u8>]) {
    let words =
        |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    // Magic number, version 2.4, time zone, accuracy, longest frame, link type.
    let mut bytes = words(&[0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 1 << 18, 1]);
    for frame in frames {
        let length = u32::try_from(frame.len()).expect("a frame");
        bytes.extend(words(&[0, 0, length, length]));
        bytes.extend(frame);
    }
    fs::write(file, bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// A frame field by field.
pub fn described(file: &Path, number: usize) -> String {
    let mut command = tshark(file);
    command.args(["-V", "-x", "-Y", &format!("frame.number == {number}")]);
    printed(&mut command)
}

fn tshark(file: &Path) -> Command {
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(file);
    let gue = top().join("scripts/lab-parts/gue.lua");
    command
        .arg("-X")
        .arg(format!("lua_script:{}", gue.display()));
    for option in [
        "ip.check_checksum:TRUE",
        "tcp.check_checksum:TRUE",
        "udp.check_checksum:TRUE",
        "sctp.checksum:CRC 32c",
        "tcp.desegment_tcp_streams:FALSE",
    ] {
        command.args(["-o", option]);
    }
    command.stdin(Stdio::null());
    command
}

fn printed(command: &mut Command) -> String {
    let output = command.output().expect("tshark starts");
    let said = String::from_utf8_lossy(&output.stderr);
    // A capture that reached its size may end within a frame; nothing else may go wrong.
    assert!(
        output.status.success() || said.contains("cut short"),
        "tshark: {}\n{said}",
        output.status
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
