//! What a packet comes to does not depend on the packets it arrived with: a burst is looked up before the first of its
//! frames is decided, and a frame may change what the next one should find.

use pollux_tests::fuzz::choices::{Choices, Seeded};
use pollux_tests::fuzz::frames;
use pollux_tests::golden::director::{Director, Outcome};
use pollux_tests::golden::packet::{ethernet, tcp, udp};
use pollux_tests::golden::topology::{GATEWAY_MAC, mac, server_mac};
use pollux_tests::golden::trace::Wire;

fn three_servers(protocol: &str) -> Director {
    let service = format!("ipvsadm -A -{protocol} 192.0.2.100:80 -s rr");
    let servers =
        [1, 2, 3].map(|n| format!("ipvsadm -a -{protocol} 192.0.2.100:80 -r 10.1.0.1{n} -g"));
    let [one, two, three] = servers.each_ref().map(String::as_str);
    Director::configured(&[&service, one, two, three])
}

fn from_client(packet: &[u8]) -> Vec<u8> {
    ethernet(mac(Wire::Cl), GATEWAY_MAC, packet)
}

fn segment(port: u16, flags: &str) -> Vec<u8> {
    let client = format!("198.51.100.7:{port}").parse().unwrap();
    from_client(&tcp(client, "192.0.2.100:80".parse().unwrap(), flags, &[]))
}

/// The server that got the frame.
fn server(outcome: &Outcome) -> Option<u8> {
    let Outcome::Out(Wire::Rs, bytes) = outcome else {
        return None;
    };
    (1..=3).find(|server| bytes.starts_with(&server_mac(*server)))
}

#[test]
fn a_new_connections_next_packets_in_the_burst_belong_to_it() {
    let mut director = three_servers("t");
    let frames = [segment(4000, "S"), segment(4000, "A"), segment(4000, "PA")];
    let outcomes = director.receive_burst(Wire::Cl, &frames.each_ref().map(Vec::as_slice));
    let servers: Vec<_> = outcomes.iter().map(server).collect();
    assert_eq!(servers, [Some(3); 3], "{outcomes:?}");
}

#[test]
fn a_flow_takes_one_turn_however_many_packets_open_it() {
    let mut director = three_servers("u");
    let query = |port: u16| {
        let client = format!("198.51.100.7:{port}").parse().unwrap();
        from_client(&udp(client, "192.0.2.100:80".parse().unwrap(), b"query"))
    };
    let frames = [query(4000), query(4000), query(4001), query(4002)];
    let outcomes = director.receive_burst(Wire::Cl, &frames.each_ref().map(Vec::as_slice));
    let servers: Vec<_> = outcomes.iter().map(server).collect();
    assert_eq!(servers, [Some(3), Some(3), Some(2), Some(1)]);
}

#[test]
fn a_reopened_connections_next_packets_belong_to_the_new_one() {
    let mut director = three_servers("t");
    for flags in ["S", "A", "R"] {
        assert_eq!(
            server(&director.receive(Wire::Cl, &segment(4000, flags))),
            Some(3)
        );
    }
    let frames = [segment(4000, "S"), segment(4000, "A"), segment(4001, "S")];
    let outcomes = director.receive_burst(Wire::Cl, &frames.each_ref().map(Vec::as_slice));
    let servers: Vec<_> = outcomes.iter().map(server).collect();
    assert_eq!(servers, [Some(2), Some(2), Some(1)], "{outcomes:?}");
}

#[test]
fn frames_come_to_the_same_alone_and_in_bursts() {
    let commands = [
        "ipvsadm -A -t 192.0.2.100:80 -s rr",
        "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.11:80 -m",
        "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.12:81 -m -x 3",
        "ipvsadm -A -u 192.0.2.100:53 -s wrr",
        "ipvsadm -a -u 192.0.2.100:53 -r 10.1.0.13:53 -m -w 2",
        "ipvsadm -a -u 192.0.2.100:53 -r 10.1.0.11 -i",
        "ipvsadm -A -t [2001:db8::100]:80 -s wlc",
        "ipvsadm -a -t [2001:db8::100]:80 -r [2001:db8:1::11]:80 -m",
        "ipvsadm -a -t [2001:db8::100]:80 -r [2001:db8:1::12] -g",
    ];
    let mut alone = Director::configured(&commands);
    let mut together = Director::configured(&commands);
    let mut seeded = Seeded(5);
    for round in 0..4000 {
        let decisions = seeded.bytes(300);
        let mut choices = Choices::new(&decisions);
        let wire = choices.of([Wire::Cl, Wire::Cl, Wire::Rs]);
        let count = 1 + choices.below(12);
        let burst: Vec<Vec<u8>> = (0..count)
            .map(|_| frames::frame(&mut choices, wire))
            .collect();
        let one_by_one: Vec<_> = burst
            .iter()
            .map(|frame| alone.receive(wire, frame))
            .collect();
        let at_once: Vec<&[u8]> = burst.iter().map(Vec::as_slice).collect();
        assert_eq!(
            one_by_one,
            together.receive_burst(wire, &at_once),
            "round {round}"
        );
        if round % 20 == 19 {
            alone.sleep(70);
            together.sleep(70);
        }
    }
    assert!(together.counters().connections_created.get() > 500);
}
