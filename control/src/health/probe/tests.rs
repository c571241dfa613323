//! Each against a server that listens.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream as StdStream};
use std::thread;

use pollux_api::Protocol;
use pollux_api::health::HttpProbe;
use pollux_api::health::probe::*;

use super::super::outcome::{Share, Verdict};
use super::*;

/// For who answers: only a test that hangs waits that long.
const PATIENT_MS: u32 = 60_000;
/// For who does not.
const BRIEF_MS: u32 = 1000;

/// A server that does something with each connection and the request it read.
fn server(serve: impl Fn(StdStream, String) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                request.push(byte[0]);
            }
            serve(stream, String::from_utf8(request).unwrap());
        }
    });
    address
}

fn answering(answer: &'static [u8]) -> SocketAddr {
    server(move |mut stream, _| stream.write_all(answer).unwrap())
}

fn get(status: &str) -> Probe {
    Probe::Http(http(status))
}

fn http(status: &str) -> HttpProbe {
    HttpProbe {
        path: "/healthy".to_owned(),
        host: Some("www.example.com".to_owned()),
        status: status.parse().unwrap(),
        ..HttpProbe::default()
    }
}

fn tcp() -> Probe {
    Probe::Tcp(TcpProbe::default())
}

fn question(probe: &Probe, limit_ms: u32) -> Question {
    Question::new(Check {
        name: String::new(),
        probe: probe.clone(),
        port: None,
        interval_ms: limit_ms,
        timeout_ms: limit_ms,
        rise: 1,
        fall: 1,
        service_path: false,
        jitter_percent: 0,
    })
}

fn outcome(probe: &Probe, server: SocketAddr) -> Outcome {
    outcome_within(PATIENT_MS, probe, server)
}

fn outcome_within(limit_ms: u32, probe: &Probe, server: SocketAddr) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let user = ServiceId::address(Protocol::Tcp, "198.51.100.1:80".parse().unwrap());
    let subject = Subject {
        server,
        way: Way::Address(server),
        user: Some((user, server.to_string().parse().unwrap())),
    };
    let question = question(probe, limit_ms);
    runtime.block_on(question.ask(subject)).unwrap()
}

fn asked(probe: &Probe, server: SocketAddr) -> (bool, String) {
    judged(outcome(probe, server))
}

/// Asks a server that does not answer.
fn asked_briefly(probe: &Probe, server: SocketAddr) -> (bool, String) {
    judged(outcome_within(BRIEF_MS, probe, server))
}

fn judged(outcome: Outcome) -> (bool, String) {
    assert_ne!(outcome.verdict, Verdict::Silent, "{outcome:?}");
    let is_good = outcome.verdict == Verdict::Good;
    (is_good, outcome.reason.into_owned())
}

#[test]
fn a_listening_server_is_good_and_a_closed_port_bad() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (good, reason) = asked(&tcp(), address);
    assert!(good && reason == "connected", "{reason}");
    // A port that is taken and not listened on: nobody else can have it meanwhile.
    let closed = tokio::net::TcpSocket::new_v6().unwrap();
    closed.bind("[::1]:0".parse().unwrap()).unwrap();
    let (good, reason) = asked(&tcp(), closed.local_addr().unwrap());
    assert!(!good && reason.contains("refused"), "{reason}");
}

#[test]
fn the_status_decides() {
    let ok = answering(b"HTTP/1.1 204 No Content\r\n\r\n");
    let (good, reason) = asked(&get("200-299"), ok);
    assert!(good && reason == "status 204", "{reason}");
    assert_eq!(asked(&get("200"), ok), (false, "status 204".to_owned()));
    let broken = answering(b"HTTP/1.0 500 Internal Server Error\r\n\r\n");
    assert_eq!(
        asked(&get("200-299"), broken),
        (false, "status 500".to_owned())
    );
    assert!(asked(&get("500"), broken).0);
}

#[test]
fn the_request_says_path_and_host() {
    let server = server(|mut stream, request| {
        let is_right = request.starts_with("GET /healthy HTTP/1.1\r\nHost: www.example.com\r\n");
        let answer: &[u8] = if is_right {
            b"HTTP/1.1 200\r\n\r\n"
        } else {
            b"HTTP/1.1 400\r\n\r\n"
        };
        stream.write_all(answer).unwrap();
    });
    assert!(asked(&get("200"), server).0);
}

#[test]
fn an_answer_in_small_pieces_is_one() {
    let server = server(|mut stream, _| {
        for byte in b"HTTP/1.1 200 OK\r\n\r\n" {
            stream.write_all(&[*byte]).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
    });
    assert!(asked(&get("200"), server).0);
}

#[test]
fn what_hangs_is_bad_in_time() {
    let hung = server(|stream, _| {
        thread::park();
        drop(stream);
    });
    let expected = (false, "no answer within 1000 ms".to_owned());
    assert_eq!(asked_briefly(&get("200"), hung), expected);
    // One that gives a byte now and then, and never a line.
    let drips = server(|mut stream, _| {
        while stream.write_all(b"H").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert_eq!(asked_briefly(&get("200"), drips), expected);
}

#[test]
fn what_is_no_http_is_bad() {
    let closed = (false, "closed the connection without an answer".to_owned());
    for cut in [
        b"".as_slice(),
        b"\n",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\n",
    ] {
        assert_eq!(asked(&get("200"), answering(cut)), closed, "{cut:?}");
    }
    let no_http = (false, "the answer is no HTTP".to_owned());
    for garbage in [
        b"SSH-2.0-OpenSSH_9.6\r\n".as_slice(),
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 -20 OK\r\n",
        b"HTTP/1.1 \xff\xff\xff OK\r\n",
        &[b'x'; 3000],
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
    ] {
        assert_eq!(
            asked(&get("200"), answering(garbage)),
            no_http,
            "{garbage:?}"
        );
    }
}

#[test]
fn only_what_this_machine_lacks_is_its_own_fault() {
    let ours = |error: Errno| is_ours(&error.into());
    assert!(ours(Errno::MFILE) && ours(Errno::ADDRNOTAVAIL));
    assert!(!ours(Errno::CONNREFUSED) && !ours(Errno::HOSTUNREACH) && !ours(Errno::TIMEDOUT));
}

fn dressed(probe: impl FnOnce(&mut HttpProbe)) -> Probe {
    let mut http = http("200");
    probe(&mut http);
    Probe::Http(http)
}

#[test]
fn the_body_decides_too() {
    let chunked = answering(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nall is \r\n4\r\nwell\r\n0\r\n\r\n",
    );
    let plain = answering(b"HTTP/1.0 200 OK\r\n\r\nall is well");
    for server in [chunked, plain] {
        let matches = |pattern: &str| dressed(|http| http.body = Some(pattern.to_owned()));
        assert!(asked(&matches("is (well|fine)$"), server).0);
        let (good, reason) = asked(&matches("^fine"), server);
        assert!(
            !good && reason == "status 200, but the body does not match",
            "{reason}"
        );
        let without = |pattern: &str| dressed(|http| http.body_without = Some(pattern.to_owned()));
        assert!(asked(&without("error"), server).0);
        assert!(!asked(&without("(?i)WELL"), server).0);
        let digest = |digits: &str| dressed(|http| http.digest = Some(digits.to_owned()));
        // printf 'all is well' | md5sum, sha256sum
        assert!(asked(&digest("4409bb950a3826c313c34b46b429ac84"), server).0);
        assert!(
            asked(
                &digest("f70579cce37a17bd1c4c4061b0beff0fbf58853a2f0c72a14f93c8f30c6b7cec"),
                server
            )
            .0
        );
        let (good, reason) = asked(&digest("9e107d9d372bb6826bd81d3542a419d6"), server);
        assert!(
            !good && reason.ends_with("has digest 4409bb950a3826c313c34b46b429ac84"),
            "{reason}"
        );
    }
}

#[test]
fn tcp_servers_say_what_they_should() {
    let talk = |send: Option<&str>, expect: &str| {
        Probe::Tcp(TcpProbe {
            send: send.map(str::to_owned),
            expect: Some(expect.to_owned()),
        })
    };
    let echo = server(|mut stream, said| stream.write_all(said.as_bytes()).unwrap());
    let hello = Some("hello\r\n\r\n");
    assert!(asked(&talk(hello, "^hel+o"), echo).0);
    let expected = (false, "the answer does not match".to_owned());
    assert_eq!(asked(&talk(hello, "^Hello"), echo), expected);
}

/// A UDP server that answers with what this makes of a datagram.
fn udp_server(answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut datagram = [0; 2000];
        while let Ok((length, from)) = socket.recv_from(&mut datagram) {
            if let Some(answer) = answer(&datagram[..length]) {
                socket.send_to(&answer, from).unwrap();
            }
        }
    });
    address
}

#[test]
fn datagrams() {
    let probe = |send_hex: &str, expect: Option<&str>, reply| {
        Probe::Udp(UdpProbe {
            send_hex: Some(send_hex.to_owned()),
            expect: expect.map(str::to_owned),
            reply,
            ..UdpProbe::default()
        })
    };
    let echo = udp_server(|said| Some(said.to_vec()));
    assert!(asked(&probe("6f6b", None, true), echo).0);
    assert!(asked(&probe("6f6b", Some("^ok$"), true), echo).0);
    assert!(!asked(&probe("6e6f", Some("^ok$"), true), echo).0);
    let mute = udp_server(|_| None);
    let late = (false, "no answer within 1000 ms".to_owned());
    assert_eq!(asked_briefly(&probe("00", None, true), mute), late);
    assert_eq!(
        asked_briefly(&probe("00", None, false), mute),
        (true, "not refused".to_owned())
    );
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    // A port that has another peer: nobody else can have it meanwhile.
    closed.connect("127.0.0.1:1").unwrap();
    let address = closed.local_addr().unwrap();
    let refused = (false, "port unreachable".to_owned());
    for reply in [true, false] {
        assert_eq!(asked(&probe("00", None, reply), address), refused);
    }
}

#[test]
fn name_servers() {
    let name_server = |code: u8| {
        udp_server(move |question| {
            let mut answer = question.to_vec();
            (answer[2], answer[3]) = (0x81, 0x80 | code);
            Some(answer)
        })
    };
    let probe = |rcode: &str| {
        Probe::Dns(DnsProbe {
            query: "www.example.com".parse().unwrap(),
            record: "AAAA".parse().unwrap(),
            rcode: rcode.parse().unwrap(),
        })
    };
    assert_eq!(
        asked(&probe("noerror"), name_server(0)),
        (true, "noerror".to_owned())
    );
    let failing = name_server(2);
    assert_eq!(
        asked(&probe("noerror"), failing),
        (false, "rcode servfail".to_owned())
    );
    assert!(asked(&probe("servfail"), failing).0);
}

#[test]
fn pings() {
    let ping = Probe::Ping(PingProbe {});
    for here in ["127.0.0.1:0", "[::1]:0"] {
        let (good, reason) = asked(&ping, here.parse().unwrap());
        assert!(good, "{here}: {reason}");
    }
}

#[test]
fn mail_servers() {
    /// A mail server of these replies, one to each line it is told, the first one unasked.
    fn mail_server(replies: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut byte = [0];
                for reply in replies {
                    let _ = stream.write_all(reply.as_bytes());
                    while byte != *b"\n" && stream.read(&mut byte).unwrap_or(0) == 1 {}
                    byte = [0];
                }
            }
        });
        address
    }
    let probe = Probe::Smtp(SmtpProbe::default());
    let good = mail_server(&["220-mail\r\n220 ready\r\n", "250 hello\r\n", "221 bye\r\n"]);
    assert_eq!(asked(&probe, good), (true, "said hello".to_owned()));
    let busy = mail_server(&["421 too busy\r\n"]);
    let expected = "said \"421 too busy\" instead of 220".to_owned();
    assert_eq!(asked(&probe, busy), (false, expected));
}

#[test]
fn agents() {
    let probe = Probe::Agent(AgentProbe {
        send: Some("shop\r\n\r\n".to_owned()),
    });
    let half = outcome(&probe, answering(b"up 50%\n"));
    assert_eq!(
        (half.verdict, half.share),
        (Verdict::Good, Some(Share::Percent(50)))
    );
    let down = outcome(&probe, answering(b"down # disk full\n"));
    assert_eq!(
        (down.verdict, down.reason.as_ref()),
        (Verdict::Bad, "agent: disk full")
    );
    for silent in [
        answering(b""),
        answering(b"nonsense\n"),
        "127.0.0.1:1".parse().unwrap(),
    ] {
        assert_eq!(outcome(&probe, silent).verdict, Verdict::Silent);
    }
}

fn script(text: &str) -> Probe {
    Probe::Script(ScriptProbe {
        command: ["/bin/sh", "-c", text].map(str::to_owned).to_vec(),
        exit_weight: true,
    })
}

#[test]
fn scripts_say_it_by_their_exit_status() {
    let here: SocketAddr = "127.0.0.1:81".parse().unwrap();
    let names = "echo $POLLUX_SERVICE_ADDRESS $POLLUX_SERVICE_PORT $POLLUX_SERVER_ADDRESS $POLLUX_SERVER_PORT";
    let expected = "198.51.100.1 80 127.0.0.1 81".to_owned();
    assert_eq!(asked(&script(names), here), (true, expected));
    assert_eq!(
        asked(&script("exit 1"), here),
        (false, "exit status: 1".to_owned())
    );
    assert_eq!(
        asked(&script("echo so; exit 1"), here),
        (false, "so".to_owned())
    );
    let weight = outcome(&script("exit 7"), here);
    assert_eq!(
        (weight.verdict, weight.share),
        (Verdict::Good, Some(Share::Weight(5)))
    );
    // More than fits into a pipe.
    assert!(asked(&script("head -c 200000 /dev/zero"), here).0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let missing = Probe::Script(ScriptProbe {
        command: vec!["/no/such/program".to_owned()],
        exit_weight: false,
    });
    let subject = Subject {
        server: here,
        way: Way::Address(here),
        user: None,
    };
    let error = runtime
        .block_on(question(&missing, PATIENT_MS).ask(subject))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/no/such/program: No such file"),
        "{error}"
    );
}

#[test]
fn a_script_that_hangs_is_killed_with_all_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("pid");
    let text = format!("sleep 100 & echo $! > {}; wait", mark.display());
    let late = (false, "no answer within 1000 ms".to_owned());
    let server = "127.0.0.1:81".parse().unwrap();
    assert_eq!(asked_briefly(&script(&text), server), late);
    let pid = std::fs::read_to_string(mark).unwrap();
    let state = std::path::PathBuf::from(format!("/proc/{}/stat", pid.trim()));
    let start = Instant::now();
    // A zombie, until whoever inherits it asks for it, or gone.
    let is_dead = || {
        let state = std::fs::read_to_string(&state).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    };
    while !is_dead() {
        assert!(start.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_cannot_be_asked_says_so_and_nothing_of_the_server() {
    let probe = Probe::Https(HttpsProbe {
        tls: TlsProbe {
            ca_file: Some("/no/such/file".to_owned()),
            ..TlsProbe::default()
        },
        ..HttpsProbe::default()
    });
    let asked = outcome(&probe, "127.0.0.1:1".parse().unwrap());
    assert_eq!(asked.verdict, Verdict::Silent);
    assert!(
        asked
            .reason
            .starts_with("cannot be asked: ca_file /no/such/file: "),
        "{}",
        asked.reason
    );
}

mod encrypted;
