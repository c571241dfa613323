//! The lab itself: harmless to bring up or down twice, and gone without a trace, however it ended.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pollux_tests::lab::Lab;
use pollux_tests::lab::namespace::run;
use pollux_tests::lab::servers::{SERVERS4, SERVERS6};
use pollux_tests::lab::{lab_dir, script_command, text_of};

#[test]
fn up_twice_and_down_twice_are_harmless() {
    let lab = Lab::without_daemons();
    let before = fs::read_to_string(lab_dir().join("rs1/nginx.pid")).unwrap();
    lab.script("up");
    assert_eq!(
        fs::read_to_string(lab_dir().join("rs1/nginx.pid")).unwrap(),
        before
    );
    lab.script("down");
    lab.script("down");
    assert_nothing_is_left();
}

#[test]
fn up_and_down_are_quick() {
    let lab = Lab::without_daemons();
    lab.script("down");
    let started = Instant::now();
    lab.script("up");
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "up took {:?}",
        started.elapsed()
    );
    let started = Instant::now();
    lab.script("down");
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "down took {:?}",
        started.elapsed()
    );
}

#[test]
fn down_takes_away_what_a_killed_up_left() {
    let lab = Lab::without_daemons();
    lab.script("down");
    for delay_ms in (20..400).step_by(45) {
        let mut up = start_up();
        thread::sleep(Duration::from_millis(delay_ms));
        up.kill().unwrap();
        up.wait().unwrap();
        lab.script("down");
        assert_nothing_is_left();
    }
}

#[test]
fn down_takes_away_daemons_and_huge_pages() {
    let lab = Lab::without_daemons();
    lab.script("down");
    let huge_pages = fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap();
    lab.script("up");
    lab.start_daemons("--workers 2");
    lab.kill("polluxd");
    lab.script("down");
    assert_nothing_is_left();
    assert_eq!(
        fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap(),
        huge_pages
    );
}

#[test]
fn status_tells_what_is_alive() {
    let lab = Lab::without_daemons();
    let status = lab.script("status");
    for part in [
        "pollux-client",
        "203.0.113.13/24",
        "2001:db8:100::1/128",
        "rs1/nginx",
    ] {
        assert!(status.contains(part), "{part} is missing:\n{status}");
    }
    let line = status
        .lines()
        .find(|line| line.starts_with("polluxd "))
        .unwrap();
    assert!(line.contains("not started"), "{line}");
    lab.script("down");
    assert!(lab.script("status").contains("scripts/lab up"));
}

#[test]
fn every_server_answers_its_neighbours_with_its_name() {
    let _lab = Lab::without_daemons();
    for number in 0..3 {
        let name = format!("rs{}", number + 1);
        for port in [80, 8080] {
            let line = format!("curl -sS --max-time 3 http://{}:{port}/", SERVERS4[number]);
            assert_eq!(run("router", &line).trim(), name);
            let line = format!(
                "curl -sS --max-time 3 http://[{}]:{port}/",
                SERVERS6[number]
            );
            assert_eq!(run("router", &line).trim(), name);
        }
        for address in [SERVERS4[number], SERVERS6[number]] {
            let line = format!("dig +short +tries=1 +time=3 TXT whoami.pollux.test @{address}");
            assert_eq!(run("router", &line).trim(), format!("\"{name}\""));
        }
    }
}

#[test]
fn mistakes_are_explained() {
    let lab = Lab::without_daemons();
    let cases = [
        (
            "start-daemons --workers 2 --pmd af_xdp",
            "one queue on a veth",
        ),
        ("start-daemons --pmd carrier-pigeon", "af_xdp or af_packet"),
        ("start-polluxd", "scripts/lab start-daemons"),
        ("sideways", "no such command: sideways"),
    ];
    for (line, message) in cases {
        let output = lab.try_script(line);
        assert!(!output.status.success(), "{line}");
        assert!(
            text_of(&output).contains(message),
            "{line}: {}",
            text_of(&output)
        );
    }
    lab.script("down");
    assert!(text_of(&lab.try_script("start-daemons")).contains("scripts/lab up"));
}

fn start_up() -> Child {
    script_command("up")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn assert_nothing_is_left() {
    assert!(!lab_dir().exists(), "{}", lab_dir().display());
    assert!(!Path::new("/run/dpdk/pollux-lab").exists());
    let namespaces = fs::read_dir("/run/netns").map(|entries| {
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect::<Vec<_>>()
    });
    let left: Vec<String> = namespaces.unwrap_or_default();
    assert!(
        !left.iter().any(|name| name.starts_with("pollux-")),
        "{left:?}"
    );
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains("pollux-"), "{mounts}");
    let processes: Vec<String> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.unwrap().path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&*lab_dir().to_string_lossy()))
        .collect();
    assert!(processes.is_empty(), "{processes:?}");
}
