//! Each against a server that listens.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream as StdStream};
use std::thread;

use super::*;

const LIMIT: Duration = Duration::from_millis(300);

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
    Probe::Http {
        path: "/healthy".to_owned(),
        host: Some("www.example.com".to_owned()),
        status: status.parse().unwrap(),
    }
}

fn asked(probe: &Probe, server: SocketAddr) -> (bool, String) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let outcome = runtime.block_on(ask(probe, server, LIMIT)).unwrap();
    (outcome.good, outcome.reason)
}

#[test]
fn a_listening_server_is_good_and_a_closed_port_bad() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (good, reason) = asked(&Probe::Tcp, address);
    assert!(good && reason.starts_with("connected in "), "{reason}");
    drop(listener);
    let (good, reason) = asked(&Probe::Tcp, address);
    assert!(!good && reason.contains("refused"), "{reason}");
}

#[test]
fn the_status_decides() {
    let ok = answering(b"HTTP/1.1 204 No Content\r\n\r\n");
    let (good, reason) = asked(&get("200-299"), ok);
    assert!(good && reason.starts_with("status 204 in "), "{reason}");
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
            b"HTTP/1.1 200\r\n"
        } else {
            b"HTTP/1.1 400\r\n"
        };
        stream.write_all(answer).unwrap();
    });
    assert!(asked(&get("200"), server).0);
}

#[test]
fn an_answer_in_small_pieces_is_one() {
    let server = server(|mut stream, _| {
        for byte in b"HTTP/1.1 200 OK\r\n" {
            stream.write_all(&[*byte]).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
    });
    assert!(asked(&get("200"), server).0);
}

#[test]
fn what_hangs_is_bad_in_time() {
    let hung = server(|stream, _| {
        thread::sleep(Duration::from_secs(20));
        drop(stream);
    });
    let start = Instant::now();
    let expected = (false, "no answer within 300 ms".to_owned());
    assert_eq!(asked(&get("200"), hung), expected);
    // One that gives a byte now and then, and never a line.
    let drips = server(|mut stream, _| {
        while stream.write_all(b"H").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert_eq!(asked(&get("200"), drips), expected);
    assert!(start.elapsed() < LIMIT * 4);
}

#[test]
fn what_is_no_http_is_bad() {
    let closed = (false, "closed the connection without an answer".to_owned());
    assert_eq!(asked(&get("200"), answering(b"")), closed);
    let no_http = (false, "the answer is no HTTP".to_owned());
    for garbage in [
        b"SSH-2.0-OpenSSH_9.6\r\n".as_slice(),
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 -20 OK\r\n",
        b"HTTP/1.1 200",
        b"HTTP/1.1 \xff\xff\xff OK\r\n",
        b"\n",
        &[b'x'; 3000],
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
