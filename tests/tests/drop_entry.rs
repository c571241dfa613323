//! `drop_entry`: which entries end early, and which never do (`ip_vs_random_dropentry`).

use pollux_engine::connection::TableSize;
use pollux_tests::golden::director::{Director, Outcome};
use pollux_tests::golden::packet::{ethernet, tcp, udp};
use pollux_tests::golden::topology::{GATEWAY_MAC, mac, server_mac};
use pollux_tests::golden::trace::Wire;

const CLIENTS: u16 = 64;
const VIP: &str = "192.0.2.100:80";
const SERVER: &str = "10.1.0.11:80";

fn director(protocol: &str, options: &str, drop_entry: u32) -> Director {
    Director::configured(&[
        &format!("sysctl -w net.ipv4.vs.drop_entry={drop_entry}"),
        &format!("ipvsadm -A -{protocol} {VIP} -s rr {options}"),
        &format!("ipvsadm -a -{protocol} {VIP} -r {SERVER} -m"),
    ])
}

fn client(port: u16) -> std::net::SocketAddr {
    format!("198.{}.{}.7:{}", 51 + port / 100, port % 100, 2000 + port)
        .parse()
        .unwrap()
}

fn from_client(director: &mut Director, port: u16, flags: &str) {
    let packet = tcp(client(port), VIP.parse().unwrap(), flags, &[]);
    let frame = ethernet(mac(Wire::Cl), GATEWAY_MAC, &packet);
    let outcome = director.receive(Wire::Cl, &frame);
    assert!(matches!(outcome, Outcome::Out(Wire::Rs, _)), "{outcome:?}");
}

fn from_server(director: &mut Director, port: u16, flags: &str) {
    let packet = tcp(SERVER.parse().unwrap(), client(port), flags, &[]);
    let frame = ethernet(mac(Wire::Rs), server_mac(1), &packet);
    director.receive(Wire::Rs, &frame);
}

/// SYN, SYN+ACK and so many packets of the client's after the SYN.
fn establish(director: &mut Director, port: u16, packets: u32) {
    from_client(director, port, "S");
    from_server(director, port, "SA");
    for _ in 1..packets {
        from_client(director, port, "A");
    }
}

fn datagram(director: &mut Director, port: u16) {
    let packet = udp(client(port), VIP.parse().unwrap(), b"x");
    let frame = ethernet(mac(Wire::Cl), GATEWAY_MAC, &packet);
    director.receive(Wire::Cl, &frame);
}

/// Lets so many seconds pass; how many entries are left then.
fn left_after(director: &mut Director, seconds: u32) -> usize {
    for _ in 0..seconds {
        director.sleep(1);
        director.check().unwrap();
    }
    director.connections().count()
}

fn templates(director: &Director) -> usize {
    let all = director.connections();
    all.filter(|found| found.is_template()).count()
}

#[test]
fn half_open_connections_go_at_random_and_no_established_one_before_a_minute() {
    let mut attacked = director("t", "", 3);
    (0..CLIENTS).for_each(|port| from_client(&mut attacked, port, "S"));
    (CLIENTS..2 * CLIENTS).for_each(|port| establish(&mut attacked, port, 2));
    let left = left_after(&mut attacked, 30);
    // Two rounds a second at one in 32: 15 % of the half-open ones are left, and all others.
    let half_open = left - usize::from(CLIENTS);
    assert!((1..=24).contains(&half_open), "{left}");
    let evicted = attacked.counters().connections_evicted.get();
    assert_eq!(evicted, 2 * u64::from(CLIENTS) - left as u64);
}

/// The kernel (`tests/golden/settings.py drop`): 30, 19 and 9 of 64 gone 40 s after the minute, after 2, 4 and 8 packets.
#[test]
fn of_idle_connections_those_with_few_packets_go_and_the_fewer_the_sooner() {
    let idle = |packets| {
        let mut attacked = director("t", "", 3);
        (0..CLIENTS).for_each(|port| establish(&mut attacked, port, packets));
        assert_eq!(left_after(&mut attacked, 60), usize::from(CLIENTS));
        usize::from(CLIENTS) - left_after(&mut attacked, 40)
    };
    let gone = [2, 4, 8].map(idle);
    assert!(gone[0] > 36, "{gone:?}");
    assert!(gone.is_sorted_by(|a, b| a > b), "{gone:?}");
    assert!(gone[2] > 4, "{gone:?}");
    // The ninth packet proves it.
    assert_eq!(idle(9), 0);
    assert_eq!(idle(300), 0);
}

#[test]
fn a_packet_puts_off_what_idleness_would_end() {
    let mut attacked = director("t", "", 3);
    (0..CLIENTS).for_each(|port| establish(&mut attacked, port, 2));
    for _ in 0..2 {
        assert_eq!(left_after(&mut attacked, 50), usize::from(CLIENTS));
        // The server's packets are not counted, but show that somebody is there.
        (0..CLIENTS).for_each(|port| from_server(&mut attacked, port, "A"));
    }
    assert_eq!(left_after(&mut attacked, 50), usize::from(CLIENTS));
}

#[test]
fn idle_udp_goes_too() {
    let mut attacked = director("u", "", 3);
    (0..CLIENTS).for_each(|port| datagram(&mut attacked, port));
    assert_eq!(left_after(&mut attacked, 60), usize::from(CLIENTS));
    assert!(left_after(&mut attacked, 40) < 16);
}

#[test]
fn a_template_stays_once_a_connection_has_proved_it_and_while_it_has_one() {
    let mut attacked = director("t", "-p 360", 3);
    (0..CLIENTS).for_each(|port| from_client(&mut attacked, port, "S"));
    (CLIENTS..2 * CLIENTS).for_each(|port| {
        establish(&mut attacked, port, 20);
        from_client(&mut attacked, port, "R");
    });
    // Those of the first half go with their half-open connections.
    left_after(&mut attacked, 59);
    let orphans = attacked.connections().filter(|found| {
        found.life().state().name() == "NONE" && found.is_template() && found.life().children() > 0
    });
    let half_open = attacked
        .connections()
        .filter(|found| found.life().state().name() == "SYN_RECV");
    assert_eq!(orphans.count(), half_open.count());
    left_after(&mut attacked, 120);
    assert_eq!(templates(&attacked), usize::from(CLIENTS));
}

#[test]
fn a_template_of_one_packet_services_goes_by_its_packets() {
    let mut attacked = director("u", "-p 360 --ops", 3);
    (0..32).for_each(|port| datagram(&mut attacked, port));
    (32..64).for_each(|port| (0..9).for_each(|_| datagram(&mut attacked, port)));
    assert_eq!(left_after(&mut attacked, 60), 64);
    let left = left_after(&mut attacked, 60);
    assert!((32..40).contains(&left), "{left}");
}

#[test]
fn modes_one_and_two_wait_for_a_full_table_and_mode_nought_for_nothing() {
    for mode in 0..3 {
        let mut calm = director("t", "", mode);
        (0..CLIENTS).for_each(|port| from_client(&mut calm, port, "S"));
        assert_eq!(left_after(&mut calm, 50), usize::from(CLIENTS), "{mode}");
    }
    let entries = TableSize::CONNECTIONS_MIN;
    for (mode, expected) in [(0, false), (1, true), (2, true)] {
        let mut full = director("t", "", mode);
        (0..CLIENTS).for_each(|port| establish(&mut full, port, 2));
        let flood = u16::try_from(entries + 256).unwrap();
        (CLIENTS..flood).for_each(|port| from_client(&mut full, port, "S"));
        left_after(&mut full, 61);
        let left = left_after(&mut full, 60);
        let some_went = left < usize::from(CLIENTS);
        assert_eq!(some_went, expected, "mode {mode}: {left} left");
    }
}
