//! Clients are served over every kind of NIC, by every method, and again after the cable was out.

use std::collections::BTreeSet;
use std::time::Duration;

use pollux_tests::lab::capture::Capture;
use pollux_tests::lab::eventually;
use pollux_tests::lab::machine::{E1000E, Machine, Nic, VIRTIO, VMXNET3};
use pollux_tests::lab::namespace::{run, try_run};
use pollux_tests::lab::servers::{
    DIRECT, GUE_CHECKSUM, NAMES, NAT, SERVERS4, SERVERS6, TUNNEL, VIP4, VIP6, endpoint, tcp,
};

/// One boot, all NICs and both ways to the kernel: what every change is tried with.
#[test]
fn every_kind_of_nic_serves_clients_and_comes_back_after_a_pulled_cable() {
    let machine = Machine::boot();
    for (nic, exception_path, tap) in [
        (E1000E, "auto", "vhost-net"),
        (VIRTIO, "vhost-net", "vhost-net"),
        (VMXNET3, "net_tap", "net_tap"),
    ] {
        machine.start_pollux_with(nic, &format!("exception_path = \"{exception_path}\""));
        assert_it_is(&machine, nic);
        assert_eq!(machine.port("client0").exception_path, tap, "{nic:?}");
        machine.add(&tcp(VIP4, 80), NAT, &SERVERS4, 80);
        machine.add(&tcp(VIP6, 80), NAT, &SERVERS6, 80);
        machine.add(&tcp(VIP4, 8080), TUNNEL, &SERVERS4, 8080);
        machine.add(&tcp(VIP6, 8080), DIRECT, &SERVERS6, 8080);
        for (address, port) in [(VIP4, 80), (VIP6, 80), (VIP4, 8080), (VIP6, 8080)] {
            all_servers_answer(address, port);
        }
        machine.download(VIP4);
        the_nic_has_counted(&machine, nic);
        the_cable_is_pulled(&machine, nic);
        machine.assert_every_packet_is_accounted_for();
        machine.stop_pollux();
    }
}

/// Frames longer than a buffer of many NICs, whole or in pieces as the driver has them.
#[test]
#[ignore = "part of scripts/test --appliance"]
fn jumbo_frames_pass_every_kind_of_nic() {
    let machine = Machine::boot();
    for nic in [E1000E, VIRTIO, VMXNET3] {
        machine.start_pollux_with_mtu(nic, 9000);
        machine.add(&tcp(VIP4, 80), NAT, &SERVERS4, 80);
        machine.add(&tcp(VIP6, 80), TUNNEL, &SERVERS6, 80);
        run("client", "ping -n -c 3 -W 2 -i 0.2 -M do -s 8972 192.0.2.1");
        for address in [VIP4, VIP6] {
            all_servers_answer(address, 80);
        }
        let before = machine.port("client0").nic;
        machine.download(VIP4);
        let after = machine.port("client0").nic;
        let frames = after.sent_packets - before.sent_packets;
        let bytes = after.sent_bytes - before.sent_bytes;
        assert!(
            bytes / frames > 6000,
            "{nic:?}: {frames} frames of {bytes} bytes are not jumbo"
        );
        machine.assert_every_packet_is_accounted_for();
        machine.stop_pollux();
    }
}

/// What the NIC fills in, tshark and the servers find right.
#[test]
#[ignore = "part of scripts/test --appliance"]
fn a_nic_fills_in_the_checksums_of_gue() {
    let machine = Machine::boot();
    machine.start_pollux_with(E1000E, "transmit_checksums = true");
    assert!(machine.port("server0").fills_checksums);
    let shown = machine.run("pollux show ports");
    assert!(shown.contains("fills in checksums of GUE"), "{shown}");
    let capture = Capture::at(["e1000e-client", "e1000e-server"]);
    capture.await_beginning();
    machine.add(&tcp(VIP4, 80), GUE_CHECKSUM, &SERVERS4, 80);
    machine.add(&tcp(VIP6, 80), GUE_CHECKSUM, &SERVERS6, 80);
    let header = "x".repeat(3000);
    for address in [VIP4, VIP6] {
        all_servers_answer(address, 80);
        let url = endpoint(address, 80);
        run(
            "client",
            &format!("curl -sS --fail --max-time 20 -H Long:{header} http://{url}/"),
        );
        machine.download(address);
    }
    let judgement = capture.judge().expect("frames were captured");
    assert_eq!(judgement.bad, [0; 0], "of {} frames", judgement.frames);
    assert!(judgement.good["udp.checksum.status"] > 500, "{judgement:?}");
    machine.assert_every_packet_is_accounted_for();
    machine.stop_pollux();
}

fn assert_it_is(machine: &Machine, nic: Nic) {
    for name in ["client0", "server0"] {
        let port = machine.port(name);
        assert_eq!(port.driver, nic.driver);
        assert_eq!(port.receive_queues, nic.receive_queues, "{name} of {nic:?}");
        // A link takes its time after the start.
        assert!(
            eventually(Duration::from_secs(10), || machine.port(name).link_up),
            "{name} of {nic:?} is down"
        );
    }
}

/// What the driver knows beyond the usual counters is there; where frames are spread by RSS, every worker has some.
fn the_nic_has_counted(machine: &Machine, nic: Nic) {
    let shown = machine.run("pollux show ports --extended");
    let named = shown.lines().filter_map(|line| line.trim().split_once(' '));
    let good = named.filter(|(name, _)| *name == "rx_good_packets");
    let counts: Vec<u64> = good.filter_map(|(_, count)| count.parse().ok()).collect();
    assert!(
        counts.len() == 2 && counts.iter().all(|count| *count > 100),
        "{nic:?}: {shown}"
    );
    if nic == VIRTIO {
        assert!(
            shown.contains("queues: 2 receive, 2 transmit, by rss"),
            "{shown}"
        );
        let workers = machine.workers();
        assert!(
            workers.iter().all(|worker| worker.received > 0),
            "{workers:?}"
        );
    }
}

pub fn all_servers_answer(address: &str, port: u16) {
    let line = format!(
        "curl -sS --fail --max-time 20 http://{}/",
        endpoint(address, port)
    );
    let answered: BTreeSet<String> = NAMES.map(|_| run("client", &line).trim().to_owned()).into();
    assert_eq!(answered, NAMES.map(String::from).into(), "{line}");
}

/// `ip link` of the machine shows a carrier as on a NIC of the kernel's own.
fn the_cable_is_pulled(machine: &Machine, nic: Nic) {
    machine.set_link(nic, "client", false);
    let noticed = |up| {
        eventually(Duration::from_secs(10), || {
            let carrier = machine.run("cat /sys/class/net/client0/carrier");
            machine.port("client0").link_up == up && (carrier.trim() == "1") == up
        })
    };
    assert!(noticed(false), "{nic:?}: the link does not go down");
    assert!(
        !machine.lab().curl_succeeds(VIP4),
        "{nic:?}: no cable, yet answers"
    );
    machine.set_link(nic, "client", true);
    assert!(noticed(true), "{nic:?}: the link does not come up");
    // Longer than a lost SYN takes to be sent again, on a busy machine too.
    let line = format!("curl -sS --fail --max-time 5 http://{VIP4}/");
    assert!(
        eventually(Duration::from_secs(60), || {
            try_run("client", &line).status.success()
        }),
        "{nic:?}: the cable is in again, and nobody answers:\n{}",
        machine.run("ip neigh; ip route; pollux show drops; cat /run/dataplane.log")
    );
}
