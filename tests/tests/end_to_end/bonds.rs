//! Several links as one port: one takes over from the other, and both are one by LACP.

use std::process::Stdio;
use std::time::Duration;

use pollux_api::dataplane::MemberStatus;
use pollux_tests::lab::lag::{Lag, state};
use pollux_tests::lab::namespace::{Background, run};
use pollux_tests::lab::servers::{NAT, SERVERS4, VIP4, tcp};
use pollux_tests::lab::{Lab, eventually, lab_dir, text_of};

const PATIENCE: Duration = Duration::from_secs(30);

/// The member and the network's end of its cable.
const CABLES: [(&str, &str); 2] = [
    ("member0", "director-client"),
    ("member1", "director-spare"),
];

fn set_carrier(number: usize, on: bool) {
    let (member, carrier) = (CABLES[number].0, if on { "on" } else { "off" });
    run(
        "director",
        &format!("ip link set {member} carrier {carrier}"),
    );
}

fn set_cable(number: usize, plugged: bool) {
    let (port, link) = (CABLES[number].1, if plugged { "up" } else { "down" });
    run("router", &format!("ip link set {port} {link}"));
    set_carrier(number, plugged);
}

fn members(lab: &Lab) -> Vec<MemberStatus> {
    let client = lab.ports().into_iter().find(|port| port.name == "client0");
    client.expect("the clients' port is there").members
}

/// Which members frames go over.
fn carries(lab: &Lab) -> [bool; 2] {
    let members = members(lab);
    [members[0].carries, members[1].carries]
}

fn assert_comes_to(lab: &Lab, expected: [bool; 2]) {
    let came = eventually(PATIENCE, || carries(lab) == expected);
    assert!(came, "{expected:?}: {:#?}", members(lab));
}

fn link_of_tap() -> String {
    let carrier = run("director", "cat /sys/class/net/client0/carrier");
    carrier.trim().to_owned()
}

#[test]
fn an_active_backup_bond_goes_on_by_the_other_cable_and_comes_back() {
    let lab = Lab::start_with("--workers 2 --bond active-backup");
    lab.add(&tcp(VIP4, 80), "rr", NAT, &SERVERS4, 80);
    assert_comes_to(&lab, [true, false]);
    assert!(eventually(PATIENCE, || link_of_tap() == "1"));
    lab.curl_many(VIP4, 6);

    // A download of some seconds outlives its cable.
    let url = format!("http://{VIP4}/100M");
    let arguments = [
        "-sS",
        "--fail",
        "--max-time",
        "120",
        "--limit-rate",
        "25M",
        "-o",
        "/dev/null",
        "-w",
        "%{size_download}",
        &url,
    ];
    let download = Background::start("client", "curl", &arguments, Stdio::piped());
    std::thread::sleep(Duration::from_millis(800));
    set_cable(0, false);
    assert_comes_to(&lab, [false, true]);
    assert_eq!(download.finish(), (100 << 20).to_string());
    assert!(!members(&lab)[0].link_up && members(&lab)[1].link_up);
    lab.curl_many(VIP4, 6);

    // The first is back and carries at once: the switch, which has the MAC elsewhere, is told by frames of reverse ARP.
    let arguments = ["-n", "-i", "br-client", "-c", "3", "rarp"];
    let told = Background::start("router", "tcpdump", &arguments, Stdio::piped());
    std::thread::sleep(Duration::from_millis(500));
    set_cable(0, true);
    assert_comes_to(&lab, [true, false]);
    let heard = told.finish();
    assert_eq!(heard.matches("02:00:00:00:01:01").count(), 6, "{heard}");
    let known = run("router", "bridge fdb show br br-client");
    let place = known
        .lines()
        .find(|line| line.starts_with("02:00:00:00:01:01"));
    assert!(
        place.is_some_and(|line| line.contains("dev director-client ")),
        "{known}"
    );
    lab.curl_many(VIP4, 6);

    // Without any cable the kernel sees that there is none.
    set_cable(1, false);
    set_cable(0, false);
    assert!(eventually(PATIENCE, || link_of_tap() == "0"));
    assert!(!lab.ports()[0].link_up);
    set_cable(1, true);
    assert!(eventually(PATIENCE, || link_of_tap() == "1"));
    assert_comes_to(&lab, [false, true]);
    lab.curl_many(VIP4, 6);

    // One that is pulled out itself is given up, and the other goes on.
    set_cable(0, true);
    assert_comes_to(&lab, [true, false]);
    run("director", "ip link del member0");
    assert_comes_to(&lab, [false, true]);
    assert!(members(&lab)[0].gone && !lab.ports()[0].gone);
    lab.curl_many(VIP4, 6);
    let shown = lab.pollux("show ports");
    assert!(shown.contains("gone: it was pulled out"), "{shown}");
    let log = std::fs::read_to_string(lab_dir().join("pollux-dataplane.log")).unwrap();
    assert!(log.contains("is gone from its bond"), "{log}");
    let file = lab_dir().join("pollux.toml");
    let advice = text_of(&lab.try_pollux(&format!("doctor {}", file.display())));
    assert!(
        advice.contains("is gone from the bond since the start"),
        "{advice}"
    );
}

#[test]
fn links_are_one_by_lacp_as_long_as_the_switch_agrees() {
    let lab = Lab::start_with("--workers 2 --bond lacp");
    let switch = Lag::start();
    lab.add(&tcp(VIP4, 80), "rr", NAT, &SERVERS4, 80);
    assert_comes_to(&lab, [true, true]);
    let [first, second] = switch.said().map(|said| said.expect("it has spoken"));
    assert_eq!((first.system, first.key), (second.system, second.key));
    assert_eq!(first.system[2..], [2, 0, 0, 0, 1, 1], "the port's MAC");
    assert_ne!(first.port, second.port);
    let all = state::ACTIVITY
        | state::AGGREGATION
        | state::SYNCHRONIZATION
        | state::COLLECTING
        | state::DISTRIBUTING;
    let agreed = || {
        switch
            .said()
            .map(|said| said.map_or(0, |said| said.state & all))
    };
    assert!(
        eventually(PATIENCE, || agreed() == [all, all]),
        "{:?}",
        switch.said()
    );

    let before = switch.data_frames();
    let answers = lab.curl_many(VIP4, 60);
    assert_eq!(answers.into_values().collect::<Vec<_>>(), [20, 20, 20]);
    let after = switch.data_frames();
    for link in 0..2 {
        assert!(
            after[link] - before[link] > 60,
            "{before:?} {after:?}: both have their share"
        );
    }

    // The switch takes a link out of the group: nothing is sent there any more, but LACP.
    switch.set_out(0, true);
    assert_comes_to(&lab, [false, true]);
    let before = (switch.data_frames(), switch.lacp_frames());
    lab.curl_many(VIP4, 30);
    let after = (switch.data_frames(), switch.lacp_frames());
    assert_eq!(after.0[0], before.0[0]);
    assert!(after.0[1] > before.0[1]);
    switch.set_out(0, false);
    assert_comes_to(&lab, [true, true]);
    // Of that a frame comes once a second.
    let spoke = || switch.lacp_frames()[0] > before.1[0];
    assert!(eventually(PATIENCE, spoke), "{:?}", switch.lacp_frames());

    // A cable is out, which both ends see.
    let set_cable = |plugged| {
        set_carrier(1, plugged);
        switch.set_unplugged(1, !plugged);
    };
    set_cable(false);
    assert_comes_to(&lab, [true, false]);
    assert!(!members(&lab)[1].link_up);
    lab.curl_many(VIP4, 30);
    set_cable(true);
    assert_comes_to(&lab, [true, true]);
    lab.curl_many(VIP4, 30);
}
