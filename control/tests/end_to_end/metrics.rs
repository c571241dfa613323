//! `GET /metrics`: what it says, and that no scraper delays another.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Instant;

use pollux_api::statistics::TrafficTotals;

use super::machine::{HELD_UP, Machine, PATIENCE};

/// A polluxd with metrics.
pub struct Scraped {
    pub machine: Machine,
    address: SocketAddr,
}

impl Scraped {
    pub fn up() -> Self {
        let (mut machine, address) = Self::written("");
        machine.start_dataplane();
        machine.start_polluxd();
        Self::serving(machine, address)
    }

    /// Its file, with more of it, and where metrics will be.
    pub fn written(more: &str) -> (Machine, SocketAddr) {
        // Whoever else is given this port in the meantime: polluxd tries again, and the test finds a stranger.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        let machine = Machine::new();
        machine.write(
            "pollux.toml",
            &format!("[control]\nmetrics = \"{address}\"\n{more}"),
        );
        (machine, address)
    }

    pub fn serving(machine: Machine, address: SocketAddr) -> Self {
        machine.until("metrics are served", |machine| {
            machine
                .log()
                .contains(&format!("metrics: http://{address}/metrics"))
        });
        Self { machine, address }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Everything that comes back; polluxd closes then.
    pub fn answer_to(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        // It may have answered and closed before all of it is sent.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The text of `/metrics`, in the old format and without chunks.
    pub fn text(&self) -> String {
        let answer = self.answer_to(b"GET /metrics HTTP/1.0\r\n\r\n");
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
        text.to_owned()
    }

    fn is_answered(&self) {
        let start = Instant::now();
        assert!(self.text().contains("pollux_dataplane_up 1"));
        let elapsed = start.elapsed();
        assert!(elapsed < HELD_UP, "{elapsed:?}");
    }
}

fn with_a_service() -> Scraped {
    let scraped = Scraped::up();
    let machine = &scraped.machine;
    machine.done("service add -t 198.51.100.1:80 -s wrr");
    machine.done("server add -t 198.51.100.1:80 -r 203.0.113.11 -m -w 3");
    machine.state.lock().unwrap().totals.insert(
        "TCP 198.51.100.1:80".to_owned(),
        TrafficTotals {
            connections: 600,
            ..TrafficTotals::default()
        },
    );
    scraped
}

#[test]
fn what_is_counted_is_told() {
    let scraped = with_a_service();
    let text = scraped.text();
    for line in [
        r#"pollux_service_connections_total{service="TCP 198.51.100.1:80"} 600"#,
        r#"pollux_server_connections_total{service="TCP 198.51.100.1:80",server="203.0.113.11:80"} 300"#,
        r#"pollux_server_weight{service="TCP 198.51.100.1:80",server="203.0.113.11:80"} 3"#,
        r#"pollux_connections{kind="tcp",state="ESTABLISHED"} 900"#,
        r#"pollux_packets_total{port="lan",fate="ipv4_truncated",drop="true"} 8"#,
        r#"pollux_worker_busy_seconds_total{worker="1",core="2"} 1.5"#,
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line}\nis not in\n{text}"
        );
    }
    // A second later at the latest it is new.
    scraped
        .machine
        .done("server edit -t 198.51.100.1:80 -r 203.0.113.11 -w 0");
    scraped.machine.until("the weight is told", |_| {
        scraped.text().contains(r#"server="203.0.113.11:80"} 0"#)
    });
}

#[test]
fn the_data_plane_may_be_away() {
    let mut scraped = with_a_service();
    scraped.machine.stop_dataplane();
    scraped.machine.until("it is told", |_| {
        let text = scraped.text();
        text.contains("pollux_dataplane_up 0") && !text.contains("pollux_service")
    });
}

#[test]
fn an_address_in_use_is_waited_for() {
    let (mut machine, address) = Scraped::written("");
    let taken = TcpListener::bind(address).unwrap();
    machine.start_dataplane();
    machine.start_polluxd();
    machine.until("it is said", |machine| {
        machine.log().contains(&format!(
            "control.metrics: cannot listen on {address}: Address already in use (os error 98); trying again every 5 s"
        ))
    });
    machine.done("service add -t 198.51.100.1:80");
    drop(taken);
    Scraped::serving(machine, address).is_answered();
}

#[test]
fn prometheus_gets_its_format_and_others_an_error() {
    let scraped = Scraped::up();
    let answer = scraped.answer_to(
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;version=1.0.0\r\n\r\n",
    );
    assert!(
        answer.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{answer}"
    );
    assert!(answer.contains("# EOF\n"));
    for (request, status) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "404 Not Found"),
        (
            b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nhello",
            "405 Method Not Allowed",
        ),
        (b"nonsense\r\n\r\n", "400 Bad Request"),
        (b"GET /metrics HTTP/9.9\r\n\r\n", "400 Bad Request"),
    ] {
        let answer = scraped.answer_to(request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{answer}"
        );
    }
    let long = [&b"GET /metrics HTTP/1.1\r\nX: "[..], &[b'x'; 100_000]].concat();
    let answer = scraped.answer_to(&long);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    scraped.is_answered();
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    // Installed, or what scripts/install-dependencies has unpacked.
    let cache =
        std::env::var("POLLUX_CACHE_DIR").unwrap_or_else(|_| "/var/cache/pollux".to_owned());
    let unpacked = format!("{cache}/prometheus/usr/bin/promtool");
    let started = [unpacked.as_str(), "promtool"].iter().find_map(|program| {
        Command::new(program)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()
    });
    let Some(mut promtool) = started else {
        println!("promtool is not here: scripts/install-dependencies brings it");
        return;
    };
    let text = with_a_service().text();
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success() && said.is_empty(), "{said}");
}

/// `splitmix64`.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[test]
fn a_thousand_broken_requests_change_nothing() {
    let scraped = with_a_service();
    let before = scraped.machine.json("show configuration");
    let good = b"GET /metrics HTTP/1.1\r\nHost: pollux\r\nAccept: */*\r\n\r\n";
    let mut state = 1;
    for round in 0..1000_usize {
        let request = if round % 2 == 0 {
            // Not a byte of it is right, and it ends.
            let length = 1 + random(&mut state) as usize % 200;
            let mut bytes: Vec<u8> = (0..length)
                .map(|_| random(&mut state) as u8 | 0x80)
                .collect();
            bytes.extend(b"\r\n\r\n");
            bytes
        } else {
            // A byte that may not be in a request line, in one.
            let mut bytes = good.to_vec();
            bytes[random(&mut state) as usize % 20] = [0, 0x7f, 0x1b, b'\n'][round / 2 % 4];
            bytes
        };
        let answer = scraped.answer_to(&request);
        assert!(
            !answer.starts_with("HTTP/1.1 200 "),
            "{}\n{answer}",
            String::from_utf8_lossy(&request)
        );
        assert!(
            answer.starts_with("HTTP/1.1 40") || answer.is_empty(),
            "{}\n{answer}",
            String::from_utf8_lossy(&request)
        );
    }
    scraped.is_answered();
    assert_eq!(scraped.machine.json("show configuration"), before);
}

#[test]
fn slow_scrapers_delay_nobody() {
    let scraped = with_a_service();
    // More of either kind than there is room for: some say nothing, some half a request, some do not read.
    let mut slow: Vec<TcpStream> = Vec::new();
    for number in 0..60 {
        let mut stream = scraped.connect();
        let said: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /metr",
            _ => b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        };
        let _ = stream.write_all(said);
        slow.push(stream);
        if number % 10 == 0 {
            scraped.is_answered();
        }
    }
    scraped.is_answered();
    let start = Instant::now();
    scraped.machine.shown("show services");
    assert!(start.elapsed() < HELD_UP);
    // Those that are left are cut off: there is an end, or a reset, and no more waiting.
    for mut stream in slow {
        let end = stream.read_to_end(&mut Vec::new());
        let is_waiting = |error: &Error| error.kind() == ErrorKind::WouldBlock;
        assert!(!end.as_ref().is_err_and(is_waiting), "{end:?}");
    }
}
