//! Files applied while clients go on asking a service that they do not change: not one request fails, not one of its
//! connections moves.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use pollux_tests::lab::client::url;
use pollux_tests::lab::http::Connection;
use pollux_tests::lab::load::Load;
use pollux_tests::lab::servers::{SERVERS4, SERVERS6, VIP4, VIP6, endpoint};
use pollux_tests::lab::{Lab, lab_dir, program, text_of};

const ROUNDS: usize = 60;

fn service(text: &mut String, address: &str, port: u16, scheduler: &str) {
    let address = endpoint(address, port);
    writeln!(
        text,
        "[[service]]\nprotocol = \"tcp\"\naddress = \"{address}\"\nscheduler = \"{scheduler}\""
    )
    .unwrap();
}

fn server(text: &mut String, address: &str, port: u16, method: &str, weight: usize) {
    let address = endpoint(address, port);
    writeln!(
        text,
        "[[service.server]]\naddress = \"{address}\"\nmethod = \"{method}\"\nweight = {weight}"
    )
    .unwrap();
}

/// The services: the one under load, which is the same in every round, and others that change all the time.
fn services(round: usize) -> String {
    let mut text = String::new();
    service(&mut text, VIP4, 80, "wrr");
    for address in SERVERS4 {
        server(&mut text, address, 80, "nat", 1);
    }
    // Another scheduler, other weights, other servers.
    service(&mut text, VIP4, 8080, ["rr", "wlc", "mh"][round % 3]);
    for (number, address) in SERVERS4.iter().enumerate() {
        if !(round + number).is_multiple_of(4) {
            server(&mut text, address, 8080, "nat", (round + number) % 5);
        }
    }
    // The same servers for another family, by another method each time.
    if !round.is_multiple_of(5) {
        service(&mut text, VIP6, 80, "wrr");
        let method = ["nat", "tunnel", "direct"][round % 3];
        for address in SERVERS6 {
            server(&mut text, address, 80, method, 1 + round % 2);
        }
    }
    if round.is_multiple_of(2) {
        writeln!(
            text,
            "[[mark]]\nmark = {}\nprotocol = \"udp\"\ndestination_ports = \"53\"",
            1 + round
        )
        .unwrap();
    }
    text
}

/// Runs `pollux` with a file; says what it printed, and whether that was all well (0) or a difference (2).
fn run(arguments: &[&str], file: Option<&Path>) -> (String, i32) {
    let output = program("pollux").args(arguments).args(file).output();
    let output = output.expect("pollux starts");
    let status = output.status.code();
    let status = status.filter(|status| [0, 2].contains(status));
    let status = status.unwrap_or_else(|| panic!("pollux {arguments:?}: {}", text_of(&output)));
    (text_of(&output), status)
}

#[test]
fn what_a_file_does_not_change_is_not_disturbed() {
    let _lab = Lab::start();
    let file = lab_dir().join("services.toml");
    let own = lab_dir().join("pollux.toml");
    let start_settings = fs::read_to_string(&own).unwrap();
    fs::write(&file, services(0)).unwrap();
    assert_eq!(run(&["apply"], Some(&file)).1, 0);
    let mut open: Vec<Connection> = (0..6).map(|_| Connection::open(VIP4)).collect();
    let served_by: Vec<String> = open
        .iter_mut()
        .map(|connection| connection.get("/"))
        .collect();
    let load = Load::start(&url(VIP4, "/"));
    for round in 1..ROUNDS {
        let text = services(round);
        fs::write(&file, &text).unwrap();
        let (plan, status) = run(&["plan"], Some(&file));
        assert_eq!(status, 2, "round {round} changes nothing: {plan}");
        let words: Vec<&str> = plan.split_whitespace().collect();
        assert!(!words.contains(&"198.51.100.1:80"), "round {round}: {plan}");
        let (said, status) = if !round.is_multiple_of(2) {
            run(&["apply"], Some(&file))
        } else {
            fs::write(&own, format!("{start_settings}\n{text}")).unwrap();
            run(&["reload"], None)
        };
        assert_eq!(status, 0, "round {round}: {said}");
        let (plan, status) = run(&["plan"], Some(&file));
        assert_eq!(status, 0, "round {round} left something to do: {plan}");
        let name = open[round % 6].get("/");
        assert_eq!(name, served_by[round % 6], "round {round}");
    }
    load.assert_nothing_failed();
    for (connection, name) in open.iter_mut().zip(&served_by) {
        assert_eq!(&connection.get("/"), name);
    }
}
