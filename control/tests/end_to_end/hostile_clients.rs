//! Clients that say nonsense, too much, too little or nothing: an error each, state untouched, nobody else kept waiting.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fake_dataplane::{Mischief, connection};
use super::health::{FALL, GOOD, Habit, checked, fall, until_weight};
use super::machine::{Client, HELD_UP, Machine};

const SHOW: &str = r#"{"version":1,"id":7,"body":{"command":"show_services"}}"#;

fn is_answered(machine: &Machine) {
    let start = Instant::now();
    let answer = machine.client().ask(SHOW).unwrap();
    assert_eq!(
        (&answer["id"], answer["result"].get("Ok").is_some()),
        (&json!(7), true)
    );
    assert!(start.elapsed() < HELD_UP, "{:?}", start.elapsed());
}

fn machine() -> Machine {
    let machine = Machine::up();
    machine.done("service add -t 198.51.100.1:80");
    machine
}

fn code(answer: &Value) -> &str {
    answer["result"]["Err"]["code"].as_str().unwrap()
}

fn message(answer: &Value) -> &str {
    answer["result"]["Err"]["message"].as_str().unwrap()
}

#[test]
fn nonsense_is_answered_and_the_next_request_is_served() {
    let machine = machine();
    let before = machine.json("show configuration");
    let mut client = machine.client();
    for (line, text) in [
        ("", "not a message of this socket"),
        ("hello", "not a message of this socket"),
        ("{}", "missing field `version`"),
        ("[1,2,3]", "not a message of this socket"),
        (
            r#"{"version":2,"id":1,"body":{}}"#,
            "message version 2, this program speaks version 1",
        ),
        (
            r#"{"version":1,"id":1,"body":{"command":"reboot"}}"#,
            "unknown variant `reboot`",
        ),
        (
            r#"{"version":1,"id":1,"body":{"command":"change"}}"#,
            "missing field `changes`",
        ),
        (
            r#"{"version":1,"id":1,"body":{"command":"change","changes":[{"change":"flush"}],"dry":true}}"#,
            "unknown field `dry`",
        ),
        (
            r#"{"version":1,"id":1,"body":{"command":"change","changes":[{"change":"flush"},{"change":"remove_service","id":{"protocol":"tcp","endpoint":"224.0.0.1:80"}}]}}"#,
            "needs a unicast address",
        ),
        (
            r#"{"version":1,"id":-1,"body":{"command":"flush"}}"#,
            "invalid value",
        ),
        ("\u{0}\u{1}\u{2}", "not a message of this socket"),
    ] {
        let answer = client.ask(line).unwrap();
        assert_eq!(
            (code(&answer), &answer["id"]),
            ("bad_request", &json!(0)),
            "{line}"
        );
        assert!(message(&answer).contains(text), "{line}: {answer}");
    }
    let answer = client.ask(SHOW).unwrap();
    assert_eq!(answer["id"], 7);
    // Not UTF-8, and deeper than any parser should go.
    client.send(&[0xff, 0xfe, b'\n']);
    assert_eq!(code(&client.answer().unwrap()), "bad_request");
    assert_eq!(
        code(&client.ask(&"[".repeat(1 << 20)).unwrap()),
        "bad_request"
    );
    assert_eq!(machine.json("show configuration"), before);
}

#[test]
fn a_thousand_broken_requests_change_nothing() {
    let machine = machine();
    let before = machine.json("show configuration");
    let good = r#"{"version":1,"id":9,"body":{"command":"change","changes":[{"change":"flush"}]}}"#;
    let mut client = machine.client();
    for seed in 0..1000_usize {
        // A byte replaced by one that no JSON of this request has there.
        let mut bytes = good.as_bytes().to_vec();
        bytes[seed % good.len()] = [b'~', 0, 0x80, b'\\'][seed / good.len() % 4];
        client.send(&bytes);
        client.send(b"\n");
        let answer = client.answer().unwrap();
        assert_eq!(
            code(&answer),
            "bad_request",
            "{}",
            String::from_utf8_lossy(&bytes)
        );
    }
    assert_eq!(machine.json("show configuration"), before);
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
fn a_thousand_malformed_requests_of_every_kind_have_an_error_each() {
    let machine = machine();
    let before = machine.json("show configuration");
    let good = r#"{"version":1,"id":9,"body":{"command":"change","changes":[{"change":"flush"}]}}"#;
    let mut state = 7;
    let mut client = machine.client();
    for round in 0..1000_usize {
        let mut line = match round % 5 {
            // Random bytes.
            0 => (0..random(&mut state) % 300)
                .map(|_| random(&mut state) as u8)
                .collect(),
            // Not UTF-8, where a text may stand.
            1 => {
                let mut line = good.replace("flush", "flu??sh").into_bytes();
                let at = line.iter().position(|byte| *byte == b'?').unwrap();
                line[at] = 0xc0 | random(&mut state) as u8;
                line[at + 1] = 0xff;
                line
            }
            // Other versions.
            2 => {
                let version = 2 + random(&mut state) % 1000;
                good.replace(r#""version":1"#, &format!(r#""version":{version}"#))
                    .into_bytes()
            }
            // Ended too early.
            3 => good.as_bytes()[..random(&mut state) as usize % (good.len() - 1)].to_vec(),
            // Long, and nothing.
            _ => vec![b"[{\" 1"[random(&mut state) as usize % 5]; 10_000],
        };
        line.retain(|byte| *byte != b'\n');
        line.push(b'\n');
        client.send(&line);
        let answer = client.answer().unwrap();
        assert_eq!(
            (code(&answer), &answer["id"]),
            ("bad_request", &json!(0)),
            "{}",
            String::from_utf8_lossy(&line)
        );
        // Some leave in the middle of a request.
        if round % 50 == 0 {
            client.send(&good.as_bytes()[..40]);
            client = machine.client();
        }
    }
    is_answered(&machine);
    assert_eq!(machine.json("show configuration"), before);
    assert_eq!(
        machine.json("audit").as_array().unwrap().len(),
        1,
        "the first service"
    );
}

#[test]
fn a_line_without_end_is_cut_off_at_the_limit() {
    let machine = machine();
    let mut client = machine.client();
    let part = vec![b' '; 1 << 20];
    for _ in 0..65 {
        client.send(&part);
    }
    let answer = client.answer().unwrap();
    assert_eq!(code(&answer), "bad_request");
    assert!(
        message(&answer).contains("longer than 67108864 bytes"),
        "{answer}"
    );
    assert_eq!(client.answer(), None, "closed");
    is_answered(&machine);
}

#[test]
fn large_requests_share_a_limited_memory() {
    let machine = machine();
    let part = vec![b' '; 1 << 20];
    let mut clients: Vec<Client> = (0..6).map(|_| machine.client()).collect();
    for client in &mut clients {
        for _ in 0..60 {
            client.send(&part);
        }
    }
    // Four have room, the others are told so; small requests are served all the while.
    is_answered(&machine);
    let refused: Vec<Value> = clients[4..].iter_mut().filter_map(Client::answer).collect();
    assert!(!refused.is_empty());
    for answer in refused {
        assert_eq!(code(&answer), "busy", "{answer}");
    }
    drop(clients);
    machine.until("the memory is given back", |machine| {
        let mut client = machine.client();
        for _ in 0..60 {
            client.send(&part);
        }
        let answer = client.ask(SHOW).unwrap();
        answer["id"] == 7
    });
}

#[test]
fn half_a_request_is_cut_off_in_time() {
    let machine = machine();
    let mut client = machine.client();
    client.send(&SHOW.as_bytes()[..20]);
    is_answered(&machine);
    let answer = client.answer().unwrap();
    assert!(
        message(&answer).contains("did not end within 10 s"),
        "{answer}"
    );
    assert_eq!(client.answer(), None, "closed");
}

#[test]
fn who_does_not_read_delays_nobody() {
    let machine = machine();
    machine.state.lock().unwrap().connections = (0..10_000).map(connection).collect();
    let page = r#"{"version":1,"id":1,"body":{"command":"show_connections","start":0,"limit":4294967295}}"#;
    let mut deaf: Vec<Client> = (0..8).map(|_| machine.client()).collect();
    for client in &mut deaf {
        client.send(format!("{page}\n{page}\n").as_bytes());
    }
    // Now polluxd waits for each of them. Making their answers takes a data plane and processors some time, which is no
    // client's doing.
    for client in &mut deaf {
        client.answer_has_begun();
    }
    let cut_off = |machine: &Machine| {
        let log = machine.log();
        log.matches("did not read its answer within").count()
    };
    let mut waited_for = 0;
    while cut_off(&machine) == 0 {
        let answer = machine.client().ask(SHOW).unwrap();
        assert_eq!(answer["id"], 7);
        waited_for += usize::from(cut_off(&machine) == 0);
        std::thread::sleep(Duration::from_millis(50));
    }
    // Whoever had to wait for one of them would wait until that one is cut off: 10 s and some.
    assert!(waited_for > 0, "none before the first was cut off");
    println!("{waited_for} answers while 8 clients do not read theirs");
    machine.until("they are cut off", |machine| cut_off(machine) == 8);
}

/// Checks are asked whatever clients do: between the bad answers that take a server off nobody else is waited for.
#[test]
fn hostile_clients_do_not_delay_health_checks() {
    let (machine, server) = checked();
    let mut hostile: Vec<Client> = (0..200).map(|_| machine.client()).collect();
    for (number, client) in hostile.iter_mut().enumerate() {
        match number % 3 {
            0 => client.send(&SHOW.as_bytes()[..20]),
            1 => client.send(&"[{\n".repeat(1000).into_bytes()),
            _ => client.send(&vec![b' '; 100_000]),
        }
    }
    server.is_now(Habit::HangsUp);
    until_weight(&machine, &server, 0);
    let (bad, took) = fall(&machine, &server);
    assert_eq!(bad, FALL);
    assert!(took < HELD_UP, "{took:?}");
    server.is_now(GOOD);
    until_weight(&machine, &server, 7);
    is_answered(&machine);
}

#[test]
fn a_slow_data_plane_is_waited_for_in_turn() {
    let machine = machine();
    machine.state.lock().unwrap().mischief = Mischief::Slow(Duration::from_millis(300));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| machine.shown("show services"));
        }
    });
}

#[test]
fn clients_beyond_the_limit_take_the_place_of_the_idle() {
    let machine = machine();
    // Idle ones, among them some that have asked once, and one that closed without a word.
    let mut idle: Vec<Client> = (0..300).map(|_| machine.client()).collect();
    drop(idle.pop());
    is_answered(&machine);
    assert_eq!(idle[0].ask(SHOW), None, "the first one had to go");
    assert_eq!(idle[298].ask(SHOW).unwrap()["id"], 7, "the last one stays");
}

#[test]
fn requests_in_one_write_are_answered_in_order() {
    let machine = machine();
    let mut client = machine.client();
    let requests: String = (1..=100)
        .map(|id| {
            format!("{{\"version\":1,\"id\":{id},\"body\":{{\"command\":\"show_workers\"}}}}\n")
        })
        .collect();
    client.send(requests.as_bytes());
    for id in 1..=100 {
        assert_eq!(client.answer().unwrap()["id"], id);
    }
}
