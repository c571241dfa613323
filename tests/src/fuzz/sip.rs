//! A message of whatever bytes, in datagrams of a client and of a server, to a director whose service goes by Call-ID.

use std::net::SocketAddr;

use pollux_engine::wire::sip;

use super::choices::Choices;
use super::pipeline::receive;
use crate::golden::director::Director;
use crate::golden::packet::{ethernet, udp};
use crate::golden::topology::{GATEWAY_MAC, mac, server_mac, server_v4};
use crate::golden::trace::Wire;

/// What messages are made of, so that some are SIP.
const PIECES: [&str; 16] = [
    "INVITE sip:b@example.com SIP/2.0",
    "\r\n",
    "\r\n",
    "\r\n",
    "\n",
    "\r",
    "Call-ID",
    "call-id",
    "i",
    ":",
    ": ",
    " \t",
    "one@c",
    "two@c",
    "\"<x>\"",
    "@",
];

/// Sends messages made by the data.
///
/// # Panics
/// When the engine does, or when something does not hold that must.
pub fn run(data: &[u8]) {
    let mut director = Director::configured(&[
        "ipvsadm -A -u 192.0.2.100:5060 -s rr -p 60 --pe sip",
        "ipvsadm -a -u 192.0.2.100:5060 -r 10.1.0.11:5060 -m",
        "ipvsadm -a -u 192.0.2.100:5060 -r 10.1.0.12:5060 -m",
    ]);
    let vip: SocketAddr = "192.0.2.100:5060".parse().unwrap();
    let mut choices = Choices::new(data);
    while !choices.is_over() {
        let message = message(&mut choices);
        if let Some(found) = sip::call_id(&message) {
            assert!((1..=255).contains(&found.len()));
            assert!(found.iter().all(|byte| !byte.is_ascii_whitespace()));
        }
        let client = SocketAddr::from(([198, 51, 100, 7], 4000 + u16::from(choices.below(4))));
        let (wire, frame) = if choices.one_in(3) {
            let server = SocketAddr::new(server_v4(1 + choices.below(2)), 5060);
            let packet = udp(server, client, &message);
            (Wire::Rs, ethernet(mac(Wire::Rs), server_mac(1), &packet))
        } else {
            let packet = udp(client, vip, &message);
            (Wire::Cl, ethernet(mac(Wire::Cl), GATEWAY_MAC, &packet))
        };
        receive(&mut director, wire, &[frame]);
        if choices.one_in(8) {
            director.sleep(u32::from(choices.byte()));
        }
    }
    director.check().unwrap();
}

fn message(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut message = Vec::new();
    for _ in 0..choices.below(12) {
        if choices.one_in(8) {
            message.push(choices.byte());
        } else {
            message.extend(choices.of(PIECES).as_bytes());
        }
    }
    message
}
