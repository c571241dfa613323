//! Networks in VLANs: one NIC for all of them, and one of two NICs.

use pollux_tests::lab::machine::{Machine, TRUNK};
use pollux_tests::lab::namespace::run;
use pollux_tests::lab::servers::{DIRECT, NAT, SERVERS4, SERVERS6, TUNNEL, VIP4, VIP6, tcp};
use pollux_tests::lab::trunk::Trunk;

use super::traffic::all_servers_answer;

/// One arm: clients and servers are in VLANs of one NIC, which are interfaces on its TAP.
#[test]
#[ignore = "part of scripts/test --appliance"]
fn one_arm_serves_clients_and_servers_in_vlans_of_their_own() {
    let machine = Machine::boot();
    let _trunk = Trunk::start();
    machine.start_pollux(TRUNK);
    machine.add(&tcp(VIP4, 80), NAT, &SERVERS4, 80);
    machine.add(&tcp(VIP6, 80), NAT, &SERVERS6, 80);
    machine.add(&tcp(VIP4, 8080), TUNNEL, &SERVERS4, 8080);
    machine.add(&tcp(VIP6, 8080), DIRECT, &SERVERS6, 8080);
    run("client", "ping -n -c 2 -W 5 192.0.2.1");
    for (address, port) in [(VIP4, 80), (VIP6, 80), (VIP4, 8080), (VIP6, 8080)] {
        all_servers_answer(address, port);
    }
    machine.download(VIP4);
    machine.assert_every_packet_is_accounted_for();
    machine.stop_pollux();
}
