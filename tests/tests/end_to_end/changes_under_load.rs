//! Changes of the configuration and deaths of the control daemon, while clients go on asking: none of them notices.

use std::time::Duration;

use pollux_tests::lab::Lab;
use pollux_tests::lab::client::url;
use pollux_tests::lab::eventually;
use pollux_tests::lab::load::Load;
use pollux_tests::lab::servers::{NAT, SERVERS4, Service, VIP4, tcp};

/// Of eleven changes each.
const ROUNDS: u32 = 91;

#[test]
fn a_thousand_changes_fail_no_request() {
    let lab = Lab::start();
    let service = service_of_two(&lab);
    let before = lab.pollux("show configuration --json");
    let load = Load::start(&url(VIP4, "/"));
    for round in 0..ROUNDS {
        one_round(&lab, &service, round);
    }
    load.assert_nothing_failed();
    assert_eq!(lab.pollux("show configuration --json"), before);
}

#[test]
fn the_control_daemon_dies_and_comes_back_and_no_request_fails() {
    let lab = Lab::start();
    service_of_two(&lab);
    let before = lab.pollux("show configuration --json");
    let dataplane = lab.process("pollux-dataplane");
    let load = Load::start(&url(VIP4, "/"));
    for _ in 0..10 {
        lab.kill("polluxd");
        lab.script("start-polluxd");
        assert_eq!(lab.pollux("show configuration --json"), before);
    }
    load.assert_nothing_failed();
    assert_eq!(lab.process("pollux-dataplane"), dataplane);
}

#[test]
fn traffic_flows_while_the_control_daemon_is_dead() {
    let lab = Lab::start();
    service_of_two(&lab);
    lab.script("stop-polluxd");
    assert_eq!(lab.curl_many(VIP4, 20).values().sum::<usize>(), 20);
    lab.script("start-polluxd");
    assert_eq!(
        lab.services()[0].totals.connections,
        20,
        "counted all the same"
    );
}

/// Two servers that stay; the third comes and goes.
fn service_of_two(lab: &Lab) -> Service {
    let service = tcp(VIP4, 80);
    lab.add(&service, "wrr", NAT, &SERVERS4[..2], 80);
    service
}

/// The third server comes, takes its share, is drained and goes; the weights of the others change meanwhile.
fn one_round(lab: &Lab, service: &Service, round: u32) {
    let third = SERVERS4[2];
    lab.pollux(&format!("server add {service} -r {third}:80 -m -w 3"));
    for step in 0..6 {
        let server = SERVERS4[usize::try_from(step % 2).unwrap()];
        lab.set_weight(service, server, 1 + (round + step) % 5);
    }
    // As it was in the beginning.
    lab.set_weight(service, SERVERS4[0], 1);
    lab.set_weight(service, SERVERS4[1], 1);
    lab.set_weight(service, third, 0);
    let drained = eventually(Duration::from_secs(5), || {
        lab.server(third).active_connections == 0
    });
    assert!(drained, "{:?}", lab.server(third));
    lab.pollux(&format!("server remove {service} -r {third}:80"));
}
