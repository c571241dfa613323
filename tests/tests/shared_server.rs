//! Two services that share a server's address and port under NAT: what a client cannot have, and how people see it.

use std::net::SocketAddr;

use pollux_engine::Fate;
use pollux_tests::golden::director::{Director, Outcome};
use pollux_tests::golden::packet;
use pollux_tests::golden::topology::{GATEWAY_MAC, mac};
use pollux_tests::golden::trace::Wire;

const CLIENT: &str = "198.51.100.7:40000";

fn send(director: &mut Director, client: &str, service: &str, flags: &str) -> Outcome {
    let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
    let segment = packet::tcp(address(client), address(service), flags, &[]);
    director.receive(
        Wire::Cl,
        &packet::ethernet(mac(Wire::Cl), GATEWAY_MAC, &segment),
    )
}

fn refused(director: &Director) -> u64 {
    let port = director.counters().port(0).unwrap();
    port.fate(Fate::ReplyKeyTaken)
}

#[test]
fn a_second_connection_that_could_not_be_told_from_the_first_is_refused_by_name() {
    let mut director = Director::configured(&[
        "ipvsadm -A -t 192.0.2.100:80 -s rr",
        "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.11:8080 -m",
        "ipvsadm -A -t 192.0.2.100:81 -s rr",
        "ipvsadm -a -t 192.0.2.100:81 -r 10.1.0.11:8080 -m",
    ]);
    let forwarded = |outcome| matches!(outcome, Outcome::Out(Wire::Rs, _));
    assert!(forwarded(send(
        &mut director,
        CLIENT,
        "192.0.2.100:80",
        "S"
    )));
    assert_eq!(
        send(&mut director, CLIENT, "192.0.2.100:81", "S"),
        Outcome::Drop
    );
    assert_eq!(refused(&director), 1);
    assert_eq!(Fate::ReplyKeyTaken.name(), "reply_key_taken");
    let meaning = Fate::ReplyKeyTaken.meaning();
    assert!(meaning.contains("through another service"), "{meaning}");
    // The first goes on, another port of the client's is no matter, and once the first is over the second may be.
    assert!(forwarded(send(
        &mut director,
        CLIENT,
        "192.0.2.100:80",
        "A"
    )));
    let other = "198.51.100.7:40001";
    assert!(forwarded(send(&mut director, other, "192.0.2.100:81", "S")));
    assert!(forwarded(send(
        &mut director,
        CLIENT,
        "192.0.2.100:80",
        "R"
    )));
    assert!(forwarded(send(
        &mut director,
        CLIENT,
        "192.0.2.100:81",
        "S"
    )));
    assert_eq!(refused(&director), 1);
    director.check().unwrap();
}
