//! A control connection of FTP, of whatever its ends may say: put together from pieces of commands and replies, in any
//! order, lost, sent again, cut off anywhere; and packets of the data connections that come of it.

use std::net::SocketAddr;

use pollux_engine::wire::protocol;

use crate::golden::director::Director;
use crate::golden::packet::{checksum, ethernet, ip};
use crate::golden::topology::{GATEWAY_MAC, mac, server_mac};
use crate::golden::trace::Wire;

use super::choices::Choices;
use super::pipeline::receive;

const PIECES: [&str; 24] = [
    "PASV\r\n",
    "EPSV\r\n",
    "EPSV 1\r\n",
    "EPSV 2\r\n",
    "PORT 198,51,100,7,195,80\r\n",
    "PORT ",
    "EPRT |1|198.51.100.7|50000|\r\n",
    "EPRT |2|2001:db8:ffff::7|50000|\r\n",
    "EPRT ",
    "227 Entering Passive Mode (10,1,0,11,156,64).\r\n",
    "227 (10,1,0,11,156,65)\r\n",
    "227 ",
    "229 Extended (|||40000|)\r\n",
    "229 (|1|10.1.0.11|40000|)\r\n",
    "229 (|2|2001:db8:1::11|40000|)\r\n",
    "229 ",
    "(|||",
    "10,1,0,11,",
    "156,64",
    "|40001|",
    ")\r\n",
    "150 Ok\r\n",
    " ",
    "9",
];

/// Lives through what the bytes say.
///
/// # Panics
/// When the engine does, or when something does not hold that must.
pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut director = Director::configured(&[
        "ipvsadm -A -t 192.0.2.100:21 -s rr",
        "ipvsadm -a -t 192.0.2.100:21 -r 10.1.0.11:21 -m",
        "ipvsadm -A -t [2001:db8::100]:21 -s rr -p 60",
        "ipvsadm -a -t [2001:db8::100]:21 -r [2001:db8:1::11]:21 -m",
    ]);
    let mut ends = [(100, 5000); 2];
    for is_v6 in [false, true] {
        for (wire, flags, numbers) in [
            (Wire::Cl, 0x02, (99, 0)),
            (Wire::Rs, 0x12, (4999, 100)),
            (Wire::Cl, 0x10, (100, 5000)),
        ] {
            let frame = frame(wire, is_v6, (4000, 21), flags, numbers, b"");
            receive(&mut director, wire, &[frame]);
        }
    }
    while !choices.is_over() {
        let wire = choices.of([Wire::Cl, Wire::Rs]);
        let is_v6 = choices.one_in(3);
        match choices.below(10) {
            0..=6 => {
                let (client, server) = &mut ends[usize::from(is_v6)];
                let text = text(&mut choices);
                let length = u32::try_from(text.len()).unwrap();
                let numbers = match wire {
                    Wire::Cl => (*client, *server),
                    Wire::Rs => (*server, *client),
                };
                let frame = frame(wire, is_v6, (4000, 21), 0x10, numbers, &text);
                receive(&mut director, wire, &[frame]);
                // Else it is lost, and what comes next begins where it did.
                if !choices.one_in(4) {
                    let sent = if wire == Wire::Cl { client } else { server };
                    *sent = sent.wrapping_add(length);
                }
            }
            7 | 8 => {
                let client = choices.of([0, 4567, 4568, 50000]);
                let server = choices.of([20, 40000, 40001]);
                let flags = choices.of([0x02, 0x12, 0x10, 0x11, 0x04]);
                let frame = frame(wire, is_v6, (client, server), flags, (1, 1), b"");
                receive(&mut director, wire, &[frame]);
            }
            _ => director.sleep(choices.of([1, 61, 121, 301, 901])),
        }
        director.check().unwrap();
    }
    // A minute at a time, control connections wait for their data's and templates for them.
    for _ in 0..4 {
        director.sleep(1000);
    }
    director.check().unwrap();
    assert_eq!(director.connections().count(), 0);
}

fn text(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..1 + choices.below(4) {
        text.extend(choices.of(PIECES).as_bytes());
    }
    if choices.one_in(4) {
        let kept = usize::from(choices.byte()) % text.len();
        text.truncate(kept);
    }
    if !text.is_empty() && choices.one_in(6) {
        let at = usize::from(choices.byte()) % text.len();
        text[at] = choices.byte();
    }
    text
}

/// A segment between the ports of client and service, from either side.
fn frame(
    wire: Wire,
    is_v6: bool,
    (client, service): (u16, u16),
    flags: u8,
    numbers: (u32, u32),
    text: &[u8],
) -> Vec<u8> {
    let [client_address, virtual_address, server] = if is_v6 {
        ["2001:db8:ffff::7", "2001:db8::100", "2001:db8:1::11"]
    } else {
        ["198.51.100.7", "192.0.2.100", "10.1.0.11"]
    };
    let client = SocketAddr::new(client_address.parse().unwrap(), client);
    let virtual_end = SocketAddr::new(virtual_address.parse().unwrap(), service);
    let server = SocketAddr::new(server.parse().unwrap(), service);
    let (from, to, from_mac) = match wire {
        Wire::Cl => (client, virtual_end, GATEWAY_MAC),
        Wire::Rs => (server, client, server_mac(1)),
    };
    let mut segment = from.port().to_be_bytes().to_vec();
    segment.extend(to.port().to_be_bytes());
    segment.extend(numbers.0.to_be_bytes());
    segment.extend(numbers.1.to_be_bytes());
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(text);
    let sum = checksum(from, to, protocol::TCP, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    ethernet(mac(wire), from_mac, &ip(from, to, protocol::TCP, &segment))
}
