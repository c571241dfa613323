//! NICs that fail: a member of a bond, and one that is pulled out of its slot.

use std::time::Duration;

use pollux_tests::lab::eventually;
use pollux_tests::lab::machine::{BOND, Machine, PULLED, VIRTIO};
use pollux_tests::lab::namespace::try_run;
use pollux_tests::lab::servers::{NAT, SERVERS4, VIP4, tcp};

fn is_served() -> bool {
    let line = format!("curl -sS --fail --max-time 5 http://{VIP4}/");
    try_run("client", &line).status.success()
}

/// The cable of the member that carries all is pulled: the other takes over, and gives back. So it does when the first is
/// pulled out itself.
#[test]
#[ignore = "part of scripts/test --appliance"]
fn an_active_backup_bond_outlives_its_active_member() {
    let machine = Machine::boot();
    machine.start_pollux(BOND);
    assert_eq!(machine.port("client0").driver, BOND.driver);
    machine.add(&tcp(VIP4, 80), NAT, &SERVERS4, 80);
    let patience = Duration::from_secs(30);
    assert!(eventually(patience, is_served), "{}", machine.logs());
    machine.download(VIP4);
    for (pulled, other) in [(VIRTIO, PULLED), (PULLED, VIRTIO)] {
        machine.set_link(other, "client", true);
        machine.set_link(pulled, "client", false);
        assert!(
            eventually(patience, is_served),
            "without {}: {}",
            pulled.kind,
            machine.logs()
        );
        assert!(machine.port("client0").link_up);
        machine.download(VIP4);
    }
    machine.set_link(VIRTIO, "client", false);
    let is_down = || !machine.port("client0").link_up;
    assert!(eventually(patience, is_down), "no member has a link");
    machine.set_link(PULLED, "client", true);
    machine.set_link(VIRTIO, "client", true);
    assert!(eventually(patience, is_served), "{}", machine.logs());
    machine.monitor("device_del pulled-client");
    let device = format!("test ! -e /sys/bus/pci/devices/{}", PULLED.client);
    let is_released = || machine.try_run(&device).status.success();
    assert!(eventually(patience, is_released), "{}", machine.logs());
    let port = machine.port("client0");
    let gone: Vec<bool> = port.members.iter().map(|member| member.gone).collect();
    assert_eq!((port.gone, gone), (false, vec![false, true]));
    assert!(eventually(patience, is_served), "{}", machine.logs());
    machine.assert_every_packet_is_accounted_for();
}

/// What is left goes on, and says what is missing.
#[test]
#[ignore = "part of scripts/test --appliance"]
fn a_nic_that_is_pulled_out_is_given_back_and_the_others_go_on() {
    let machine = Machine::boot();
    machine.start_pollux(PULLED);
    // It has one queue for two workers.
    let log = machine.logs();
    let words = "the device has 1 receive queues for 2 workers; the others receive nothing from it";
    assert!(log.contains(words), "{log}");
    machine.add(&tcp(VIP4, 80), NAT, &SERVERS4, 80);
    let patience = Duration::from_secs(60);
    assert!(eventually(patience, is_served), "{}", machine.logs());
    machine.monitor("device_del pulled-client");
    let is_gone = || machine.port("client0").gone;
    assert!(eventually(patience, is_gone), "{}", machine.logs());
    let device = format!("/sys/bus/pci/devices/{}", PULLED.client);
    let is_released = || {
        machine
            .try_run(&format!("test ! -e {device}"))
            .status
            .success()
    };
    assert!(eventually(patience, is_released), "{}", machine.logs());
    let log = machine.logs();
    assert!(
        log.contains("port client0: its device 0000:01:00.0 is gone"),
        "{log}"
    );
    let shown = machine.run("pollux show ports");
    assert!(shown.contains("client0: link gone"), "{shown}");
    assert!(
        machine
            .run("cat /sys/class/net/client0/carrier")
            .starts_with('0')
    );
    let advice = machine.try_run("pollux doctor /etc/pollux/pollux.toml");
    let advice = pollux_tests::lab::text_of(&advice);
    assert!(
        advice.contains("its device 0000:01:00.0 is gone"),
        "{advice}"
    );
    assert!(!is_served());
    // The other network's port works as before, and is asked.
    let ping = "ping -n -c 1 -W 5 203.0.113.1";
    let answers = || try_run("rs1", ping).status.success();
    assert!(eventually(patience, answers), "{}", machine.logs());
    machine.assert_every_packet_is_accounted_for();
}
