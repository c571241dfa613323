//! `pollux-bench appliance` from end to end: short runs with the real programs, as root. What is asserted is what is
//! measured, not how fast it is; and that nothing stays behind.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic, also outside of `#[test]` functions"
)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use pollux_bench::appliance::capture;
use pollux_bench::flows::Client;
use pollux_bench::frame_arena::ring;
use pollux_bench::frame_template::{FrameTemplate, flag};
use pollux_bench::measurement::{Family, LoadSetting, Method, Program, Record};
use pollux_bench::rig;
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(60);
/// Whatever else runs on this machine: nearly all packets may be lost.
const SHORT: &str = "--no-huge --json --connections 1k --rounds 1 --round-ms 100 --trial-ms 20 --loss 99 --load 10,50";

fn start(words: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pollux-bench"));
    command.arg("appliance").args(words.split_whitespace());
    // Of scripts/test; otherwise the one that was built together with this.
    if let Some(built) = std::env::var_os("POLLUX_BIN_DIR") {
        command
            .arg("--dataplane")
            .arg(Path::new(&built).join("pollux-dataplane"));
    }
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Its output, when it has ended and left nothing.
fn finish(child: Child) -> Output {
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    expect_nothing_left(id);
    output
}

/// Its measurements: what follows the description of the machine.
fn records(words: &str) -> Vec<Record> {
    let output = finish(start(words));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let mut records: Vec<Record> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(matches!(records[0], Record::Machine(_)), "{lines}");
    records.split_off(1)
}

/// All that it makes has its process id in the name.
fn expect_nothing_left(id: u32) {
    let name = format!("pollux-bench-{id}");
    let of_this_run = |text: &str| {
        let mut ends = text.split(|c: char| !c.is_ascii_digit());
        text.contains("pollux-bench") && ends.any(|number| number == id.to_string())
    };
    for directory in [
        "/run",
        "/run/dpdk",
        "/run/netns",
        "/dev/shm",
        "/dev/hugepages",
    ] {
        let Ok(entries) = fs::read_dir(directory) else {
            continue;
        };
        for entry in entries {
            let entry = entry.unwrap().file_name().into_string().unwrap();
            assert!(!of_this_run(&entry), "{directory}/{entry} is left");
        }
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(&name), "{mounts}");
    for process in fs::read_dir("/proc").unwrap() {
        let path = process.unwrap().path().join("cmdline");
        let words = fs::read_to_string(path).unwrap_or_default();
        assert!(!of_this_run(&words), "still running: {words}");
    }
}

fn expect_setting(setting: &LoadSetting, method: Method, family: Family) {
    assert_eq!((setting.method, setting.family), (method, family));
    assert_eq!(
        (setting.device.as_str(), setting.connections),
        ("memif", 1000)
    );
    let bytes = if family == Family::Ipv4 { 60 } else { 74 };
    assert_eq!(setting.frame_bytes, bytes);
    assert!((0.0..=1.0).contains(&setting.discarded_share));
}

/// Throughput and latencies of testpmd, then of the data plane.
fn expect_load(records: &[Record], method: Method, family: Family) {
    assert_eq!(records.len(), 6, "{records:?}");
    for (records, program) in records
        .chunks(3)
        .zip([Program::Testpmd, Program::PolluxDataplane])
    {
        let is_own = program == Program::PolluxDataplane;
        let Record::Throughput(throughput) = &records[0] else {
            panic!("{:?}", records[0]);
        };
        expect_setting(&throughput.setting, method, family);
        assert_eq!(throughput.setting.program, program);
        assert!(throughput.packets_per_second > 0.0 && throughput.trials > 0);
        assert!(throughput.loss <= 0.99);
        assert_eq!(throughput.ratio_to_testpmd.is_some(), is_own);
        for (record, load) in records[1..].iter().zip([10, 50]) {
            let Record::Latency(latency) = record else {
                panic!("{record:?}");
            };
            expect_setting(&latency.setting, method, family);
            assert_eq!(
                (latency.setting.program, latency.load_percent),
                (program, load)
            );
            let offered = throughput.packets_per_second * f64::from(load) / 100.0;
            assert!((latency.packets_per_second / offered - 1.0).abs() < 1e-6);
            assert!(latency.packets > 0);
            let ascending = [
                latency.least_ns,
                latency.p50_ns,
                latency.p99_ns,
                latency.p999_ns,
                latency.greatest_ns,
            ];
            assert!(ascending.is_sorted() && latency.least_ns > 0, "{latency:?}");
            assert_eq!(latency.ratio_to_testpmd.is_some(), is_own);
        }
    }
}

#[test]
fn without_a_device_the_cost_and_the_load_are_measured() {
    let records = records(SHORT);
    let Record::Appliance(measured) = &records[0] else {
        panic!("{:?}", records[0]);
    };
    assert_eq!(measured.device.as_deref(), Some("pcap"));
    assert_eq!((measured.method, measured.connections), (Method::Nat, 1000));
    assert!(measured.ns_per_packet > 0.0);
    let ratio = measured.ratio_to_testpmd.unwrap();
    assert!(ratio > 0.0 && ratio.is_finite());
    expect_load(&records[1..], Method::Nat, Family::Ipv4);
}

#[test]
fn what_a_tunnel_has_wrapped_is_known_again() {
    let records = records(&format!(
        "{SHORT} --device memif --method tunnel --family ipv6"
    ));
    expect_load(&records, Method::Tunnel, Family::Ipv6);
}

#[test]
fn any_device_with_frames_at_its_other_end_will_do() {
    let path = std::env::temp_dir().join(format!("pollux-external-{}.pcap", std::process::id()));
    write_handshakes(&path, 16);
    let device = format!("net_pcap0,rx_pcap={},infinite_rx=1", path.display());
    let records = records(&format!("{SHORT} --device {device}"));
    fs::remove_file(&path).unwrap();
    let [Record::Appliance(measured)] = &records[..] else {
        panic!("{records:?}");
    };
    assert_eq!(measured.device.as_deref(), Some("net_pcap0"));
    assert_eq!(measured.connections, 16);
    assert!(measured.ratio_to_testpmd.unwrap() > 0.0);
}

/// SYN and ACK of so many flows.
fn write_handshakes(path: &Path, flows: u64) {
    let macs = ([2, 0, 0, 0, 1, 0xfe], [2, 0x70, 0x63, 0x61, 0x70, 0]);
    let service = rig::service(Family::Ipv4);
    let mut ring = ring();
    for flow in 0..flows {
        for (place, flags) in [(2 * flow, flag::SYN), (2 * flow + 1, flag::ACK)] {
            let template = FrameTemplate::from_clients(macs, service, flags);
            let frame = &mut ring[usize::try_from(place).unwrap()];
            template.write(frame, Client::of_flow(flow));
        }
    }
    capture::write(path, ring.iter().take(usize::try_from(2 * flows).unwrap())).unwrap();
}

#[test]
fn a_device_nobody_sends_to_is_named_with_what_to_send() {
    let socket = std::env::temp_dir().join(format!("pollux-nobody-{}.sock", std::process::id()));
    let device = format!(
        "net_memif0,role=server,socket={},socket-abstract=no",
        socket.display()
    );
    let words = format!("{SHORT} --device {device}");
    let output = finish(start(&words));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("{device} gets no connections")),
        "{said}"
    );
    let _ = fs::remove_file(&socket);
}

#[test]
fn whenever_it_is_interrupted_nothing_stays() {
    // Until a file of its directory is there, and a little later.
    for (signal, words, file, later_ms) in [
        (
            Signal::INT,
            "--device pcap --rounds 50",
            "pollux-dataplane.log",
            10,
        ),
        (Signal::TERM, "--device pcap --rounds 50", "testpmd.log", 0),
        (
            Signal::INT,
            "--device pcap --rounds 50",
            "testpmd.log",
            2000,
        ),
        (
            Signal::HUP,
            "--device memif --trial-ms 5000",
            "testpmd.log",
            0,
        ),
        (
            Signal::INT,
            "--device memif --trial-ms 5000",
            "testpmd.log",
            1500,
        ),
    ] {
        let words = format!("--no-huge --connections 1k {words}");
        let mut child = start(&words);
        let log = format!("/run/pollux-bench-{}/{file}", child.id());
        let began = Instant::now();
        while !Path::new(&log).exists() {
            assert!(began.elapsed() < PATIENCE, "no {log}");
            assert!(child.try_wait().unwrap().is_none(), "it has ended before");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(later_ms));
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.unwrap(), signal).unwrap();
        let output = finish(child);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words}: {said}");
        assert!(said.contains("interrupted"), "{words}: {said}");
    }
}
