//! ICMP errors about live connections of every method, the quoted packet being whatever the bytes say.

use crate::golden::director::Director;
use crate::golden::packet::{ethernet, icmp, tcp};
use crate::golden::topology::{GATEWAY_MAC, mac, server_mac};
use crate::golden::trace::Wire;

use super::choices::Choices;
use super::pipeline::receive;

const METHODS: [&str; 3] = ["-m", "-g", "-i"];

/// Sends one error each way.
///
/// # Panics
/// When the engine does, or when something does not hold that must.
pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let method = choices.of(METHODS);
    let (client, vip, server) = if choices.one_in(2) {
        (
            "[2001:db8:c::7]:4000",
            "[2001:db8::100]:80",
            "[2001:db8:1::11]:80",
        )
    } else {
        ("198.51.100.7:4000", "192.0.2.100:80", "10.1.0.11:80")
    };
    let mut director = Director::configured(&[
        &format!("ipvsadm -A -t {vip} -s rr"),
        &format!("ipvsadm -a -t {vip} -r {server} {method}"),
    ]);
    let (client, vip, server) = (
        client.parse().unwrap(),
        vip.parse().unwrap(),
        server.parse().unwrap(),
    );
    let syn = ethernet(mac(Wire::Cl), GATEWAY_MAC, &tcp(client, vip, "S", &[]));
    receive(&mut director, Wire::Cl, &[syn]);
    let (kind, code, rest) = (choices.byte(), choices.byte(), u32::from(choices.number()));
    // Starts from what would be right, so that the fuzzer need not find addresses and ports.
    let about = |quoted: Vec<u8>, change: &[u8]| -> Vec<u8> {
        let changed = quoted
            .iter()
            .zip(change.iter().chain(std::iter::repeat(&0)));
        changed
            .map(|(right, change)| right ^ change)
            .take(quoted.len().min(change.len().max(1)))
            .collect()
    };
    let change = choices.bytes(usize::MAX);
    let to_client = about(tcp(vip, client, "SA", b"data"), change);
    let to_server = about(tcp(client, server, "S", b"data"), change);
    let outside = icmp(client, vip, kind, code, rest, &to_client);
    let inside = icmp(server, client, kind, code, rest, &to_server);
    receive(
        &mut director,
        Wire::Cl,
        &[ethernet(mac(Wire::Cl), GATEWAY_MAC, &outside)],
    );
    receive(
        &mut director,
        Wire::Rs,
        &[ethernet(mac(Wire::Rs), server_mac(1), &inside)],
    );
    director.check().unwrap();
}
