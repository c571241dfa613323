//! Networks in VLANs: one NIC for all of them, and one NIC for those of clients and another for those of servers.

use std::time::Duration;

use pollux_tests::lab::eventually;
use pollux_tests::lab::machine::{Machine, TRUNK, TRUNKS};
use pollux_tests::lab::namespace::{run, try_run};
use pollux_tests::lab::servers::{DIRECT, NAT, SERVERS4, SERVERS6, TUNNEL, VIP4, VIP6, tcp};
use pollux_tests::lab::trunk::Trunk;

use super::traffic::all_servers_answer;

/// Clients of both families are served by every method, and a whole file arrives.
fn serve(machine: &Machine) {
    machine.add(&tcp(VIP4, 80), NAT, &SERVERS4, 80);
    machine.add(&tcp(VIP6, 80), NAT, &SERVERS6, 80);
    machine.add(&tcp(VIP4, 8080), TUNNEL, &SERVERS4, 8080);
    machine.add(&tcp(VIP6, 8080), DIRECT, &SERVERS6, 8080);
    run("client", "ping -n -c 2 -W 5 192.0.2.1");
    for (address, port) in [(VIP4, 80), (VIP6, 80), (VIP4, 8080), (VIP6, 8080)] {
        all_servers_answer(address, port);
    }
    machine.download(VIP4);
}

/// One arm: clients and servers are in VLANs of one NIC, which are interfaces on its TAP.
#[test]
#[ignore = "part of scripts/test --appliance"]
fn one_arm_serves_clients_and_servers_in_vlans_of_their_own() {
    let machine = Machine::boot();
    let _trunk = Trunk::one_arm();
    machine.start_pollux(TRUNK);
    serve(&machine);
    machine.assert_every_packet_is_accounted_for();
    machine.stop_pollux();
}

/// Two arms: a NIC has the clients' networks in VLANs, another one the servers'. Of either, one comes while clients are served.
#[test]
#[ignore = "part of scripts/test --appliance"]
fn two_arms_serve_several_networks_in_vlans_of_each() {
    let machine = Machine::boot();
    let _trunk = Trunk::two_arms();
    machine.start_pollux_with_vlans(TRUNKS);
    assert_eq!(machine.port("trunk0").driver, "net_e1000_em");
    assert_eq!(machine.port("trunk1").driver, "net_vmxnet3");
    serve(&machine);

    for (side, link, id, address) in [
        ("client1", "trunk0", 11, "198.18.1.1/24"),
        ("server1", "trunk1", 21, "198.18.2.1/24"),
    ] {
        machine.run(&format!(
            "ip link add link {link} name {side} type vlan id {id} && ip link set {side} up && \
             ip addr add {address} dev {side}"
        ));
    }
    run("client", "ip addr add 198.18.1.10/24 dev lan1");
    run(
        "client",
        "ip route add 198.51.100.0/24 via 198.18.1.1 dev lan1 metric 100",
    );
    run("rs3", "ip addr add 198.18.2.13/24 dev lan1");
    run("rs3", "ip rule add from 198.18.2.13 lookup 102");
    run("rs3", "ip route add default via 198.18.2.1 table 102");
    machine.add(&tcp(VIP4, 81), NAT, &["198.18.2.13"], 80);
    // From the one new network to the other, and from it to the servers that were there.
    let ask = |port: u16| {
        let line = format!("curl -sS --interface lan1 --fail --max-time 5 http://{VIP4}:{port}/");
        try_run("client", &line)
    };
    for port in [81, 80] {
        assert!(
            eventually(Duration::from_secs(30), || ask(port).status.success()),
            "port {port}: {:?}\n{}",
            ask(port),
            machine.logs()
        );
    }
    assert_eq!(String::from_utf8_lossy(&ask(81).stdout).trim(), "rs3");
    let known = machine.run("pollux show connections");
    for words in ["198.18.1.10", "198.18.2.13"] {
        assert!(known.contains(words), "{known}");
    }
    all_servers_answer(VIP4, 80);
    machine.assert_every_packet_is_accounted_for();
    machine.stop_pollux();
}
