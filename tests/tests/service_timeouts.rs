//! Timeouts of one service: its connections live by them, and those of other services do not notice.

use pollux_engine::clock::seconds;
use pollux_engine::connection::{Direction, State, Timeouts};
use pollux_engine::service::ServiceIdentity;
use pollux_engine::wire::protocol;
use pollux_tests::golden::director::{Director, Outcome};
use pollux_tests::golden::packet::{ethernet, tcp, udp};
use pollux_tests::golden::topology::{GATEWAY_MAC, mac, server_mac};
use pollux_tests::golden::trace::Wire;

const OWN: &str = "192.0.2.100:80";
const OTHER: &str = "192.0.2.100:81";
const CLIENT: &str = "198.51.100.7:4000";

fn director(letter: &str, method: &str) -> Director {
    let port = if method == "-m" { "8080" } else { "80" };
    let other = if method == "-m" { "8080" } else { "81" };
    Director::configured(&[
        &format!("ipvsadm -A -{letter} {OWN} -s rr"),
        &format!("ipvsadm -a -{letter} {OWN} -r 10.1.0.11:{port} {method}"),
        &format!("ipvsadm -A -{letter} {OTHER} -s rr"),
        &format!("ipvsadm -a -{letter} {OTHER} -r 10.1.0.12:{other} {method}"),
    ])
}

fn give(director: &mut Director, protocol: u8, own: &[(State, u32)]) {
    let service = ServiceIdentity::Address {
        protocol,
        address: [192, 0, 2, 100].into(),
        port: 80,
    };
    let mut timeouts = Timeouts::default();
    own.iter()
        .for_each(|(state, value)| timeouts.set(*state, seconds(*value)));
    let own = (!own.is_empty()).then_some(timeouts);
    director.administrator.give_timeouts(service, own).unwrap();
    director.rewire(|_| {});
}

fn client(director: &mut Director, to: &str, flags: &str) {
    let packet = tcp(CLIENT.parse().unwrap(), to.parse().unwrap(), flags, &[]);
    let frame = ethernet(mac(Wire::Cl), GATEWAY_MAC, &packet);
    let outcome = director.receive(Wire::Cl, &frame);
    assert!(matches!(outcome, Outcome::Out(Wire::Rs, _)), "{outcome:?}");
}

fn datagram(director: &mut Director, to: &str) {
    let packet = udp(CLIENT.parse().unwrap(), to.parse().unwrap(), b"x");
    let frame = ethernet(mac(Wire::Cl), GATEWAY_MAC, &packet);
    director.receive(Wire::Cl, &frame);
}

/// From the server of either service, under NAT.
fn answer(director: &mut Director, server: u8, flags: &str) {
    let from = format!("10.1.0.1{server}:8080").parse().unwrap();
    let packet = tcp(from, CLIENT.parse().unwrap(), flags, &[]);
    let frame = ethernet(mac(Wire::Rs), server_mac(server), &packet);
    director.receive(Wire::Rs, &frame);
}

/// State and whole seconds left of the connection to this virtual port.
fn left(director: &Director, port: u16) -> Option<(&'static str, u32)> {
    let now = director.now();
    let found = director
        .connections()
        .find(|entry| entry.key(Direction::Inbound).destination_port() == port)?;
    let left = u32::try_from(now.until(found.life().expires())).unwrap();
    Some((found.life().state().name(), left / seconds(1)))
}

#[test]
fn every_state_lives_by_its_services_timeouts() {
    let mut director = director("t", "-m");
    give(
        &mut director,
        protocol::TCP,
        &[(State::Established, 7), (State::FinWait, 3)],
    );
    for (server, to) in [(1, OWN), (2, OTHER)] {
        client(&mut director, to, "S");
        answer(&mut director, server, "SA");
        client(&mut director, to, "A");
    }
    assert_eq!(left(&director, 80), Some(("ESTABLISHED", 7)));
    assert_eq!(left(&director, 81), Some(("ESTABLISHED", 900)));
    // Answers put the end off by the same timeouts, and packets of the first tier too.
    director.sleep(6);
    answer(&mut director, 1, "A");
    assert_eq!(left(&director, 80), Some(("ESTABLISHED", 7)));
    director.sleep(6);
    client(&mut director, OWN, "A");
    answer(&mut director, 1, "FA");
    client(&mut director, OTHER, "A");
    answer(&mut director, 2, "FA");
    assert_eq!(left(&director, 80), Some(("FIN_WAIT", 3)));
    assert_eq!(left(&director, 81), Some(("FIN_WAIT", 120)));
    director.sleep(4);
    assert_eq!(left(&director, 80), None);
    assert_eq!(left(&director, 81), Some(("FIN_WAIT", 116)));
    director.check().unwrap();
}

#[test]
fn a_change_acts_at_the_next_packet_and_leaves_settings_to_others() {
    for method in ["-m", "-g", "-i"] {
        let mut director = director("u", method);
        datagram(&mut director, OWN);
        datagram(&mut director, OTHER);
        assert_eq!(left(&director, 80), Some(("UDP", 300)), "{method}");
        give(&mut director, protocol::UDP, &[(State::Udp, 5)]);
        assert_eq!(left(&director, 80), Some(("UDP", 300)));
        datagram(&mut director, OWN);
        datagram(&mut director, OTHER);
        assert_eq!(left(&director, 80), Some(("UDP", 5)), "{method}");
        assert_eq!(left(&director, 81), Some(("UDP", 300)), "{method}");
        give(&mut director, protocol::UDP, &[]);
        datagram(&mut director, OWN);
        assert_eq!(left(&director, 80), Some(("UDP", 300)), "{method}");
    }
}
