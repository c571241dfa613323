//! `ewma` through the whole engine: SYNs go out, answers come back after each server's own time, and shares follow.

use std::net::{IpAddr, SocketAddr};

use pollux_engine::connection::TableSize;
use pollux_tests::golden::command::{Command, parse};
use pollux_tests::golden::director::{Director, Outcome};
use pollux_tests::golden::packet::{ethernet, tcp};
use pollux_tests::golden::topology::{GATEWAY_MAC, mac, server_mac, server_v4, server_v6};
use pollux_tests::golden::trace::Wire;

/// How many of so many connections, one each millisecond, each server gets; `answers` says after how many microseconds a
/// server answers, and whether it does, by its number from 1 and the connection's.
fn shares(
    vip: &str,
    method: &str,
    server: impl Fn(u8) -> IpAddr,
    connections: u32,
    answers: impl Fn(u8, u32) -> Option<u32>,
) -> [u32; 2] {
    let vip = SocketAddr::new(vip.parse().unwrap(), 80);
    let real = [1, 2].map(|number| SocketAddr::new(server(number), 80));
    let mut commands = vec![format!("ipvsadm -A -t {vip} -s ewma")];
    commands.extend(real.map(|real| format!("ipvsadm -a -t {vip} -r {real} {method}")));
    let mut director = Director::new(TableSize::for_connections(65_536));
    for line in &commands {
        match parse(line) {
            Ok(Command::Change(change)) => director.change(&change).unwrap(),
            other => panic!("{line}: {other:?}"),
        }
    }
    let mut shares = [0; 2];
    for number in 0..connections {
        let client: IpAddr = if vip.is_ipv4() {
            "198.51.100.7".parse().unwrap()
        } else {
            "2001:db8:ffff::7".parse().unwrap()
        };
        let port = 1024 + u16::try_from(number % 60_000).unwrap();
        let client = SocketAddr::new(client, port);
        let sent_at = number * 1000;
        director.engine().0.set_time(u64::from(sent_at) * 1000);
        let syn = ethernet(mac(Wire::Cl), GATEWAY_MAC, &tcp(client, vip, "S", b""));
        let Outcome::Out(Wire::Rs, frame) = director.receive(Wire::Cl, &syn) else {
            panic!("connection {number} went nowhere");
        };
        let chosen = if frame[..6] == server_mac(1) { 1 } else { 2 };
        shares[usize::from(chosen) - 1] += 1;
        if let Some(time) = answers(chosen, number) {
            let answer = tcp(real[usize::from(chosen) - 1], client, "SA", b"");
            let answer = ethernet(mac(Wire::Rs), server_mac(chosen), &answer);
            director
                .engine()
                .0
                .set_time(u64::from(sent_at + time) * 1000);
            director.receive(Wire::Rs, &answer);
        }
    }
    director.check().unwrap();
    shares
}

const V4: &str = "192.0.2.100";
const V6: &str = "2001:db8::100";

#[test]
fn shares_follow_the_time_to_answer() {
    for (vip, server) in [(V4, server_v4 as fn(u8) -> IpAddr), (V6, server_v6)] {
        let found = shares(vip, "-m", server, 8000, |server, _| {
            Some(if server == 1 { 100 } else { 300 })
        });
        assert!(found[0].abs_diff(6000) < 300, "{found:?}");
    }
}

#[test]
fn a_server_that_stops_answering_gets_little_and_comes_back() {
    let dead_until = 12_000;
    let mut shares_so_far = [0; 2];
    let found = shares(V4, "-m", server_v4, dead_until, |server, number| {
        (server == 1 || number < 1000).then_some(100)
    });
    shares_so_far[1] += found[1];
    // Half of the first thousand, and then next to nothing.
    assert!((400..900).contains(&shares_so_far[1]), "{found:?}");
    // Slow for a second, then as fast as before: half of what follows, after a while.
    let found = shares(V4, "-m", server_v4, 40_000, |server, number| {
        Some(if server == 2 && number < 1000 {
            900
        } else {
            100
        })
    });
    assert!(found[1] > 15_000, "{found:?}");
}

#[test]
fn without_answers_to_be_seen_it_is_a_draw_by_weight() {
    let found = shares(V4, "-g", server_v4, 8000, |_, _| None);
    assert!(found[0].abs_diff(4000) < 300, "{found:?}");
}
