//! Messages of another director, sound and broken, to one that is both master and backup; and packets of what they tell of.

use std::net::SocketAddr;

use pollux_engine::wire::sync::{self, EngineData, Message, Sequence, SyncedConnection, flag};

use super::choices::Choices;
use super::pipeline::receive;
use crate::golden::director::Director;
use crate::golden::packet::{ethernet, tcp, udp};
use crate::golden::topology::{GATEWAY_MAC, mac, server_mac, server_v4, server_v6};
use crate::golden::trace::Wire;

/// Sends messages and packets made by the data.
///
/// # Panics
/// When the engine does, or when something does not hold that must.
pub fn run(data: &[u8]) {
    let mut director = Director::configured(&[
        "ipvsadm -A -t 192.0.2.100:80 -s rr",
        "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.11:8080 -m",
        "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.12:80 -g",
        "ipvsadm -A -u 192.0.2.100:80 -s rr -p 60 --pe sip",
        "ipvsadm -a -u 192.0.2.100:80 -r 10.1.0.11:8080 -m",
        "ipvsadm -A -t 192.0.2.100:21 -s rr -p 60",
        "ipvsadm -a -t 192.0.2.100:21 -r 10.1.0.11:21 -m",
        "ipvsadm -A -t [2001:db8::100]:80 -s rr",
        "ipvsadm -a -t [2001:db8::100]:80 -r [2001:db8:1::11]:8080 -m",
        "ipvsadm --start-daemon backup --mcast-interface cl0 --syncid 7",
        "ipvsadm --start-daemon master --mcast-interface cl0 --syncid 8",
    ]);
    let mut choices = Choices::new(data);
    while !choices.is_over() {
        match choices.below(8) {
            // Second by second, a master tells: a long sleep takes as long as hundreds of packets.
            0 => director.sleep(choices.of([0, 1, 2, 3, 5, 11, 16, 61])),
            1 => {
                let bytes = choices.bytes(100);
                tell(&mut director, bytes);
            }
            2 | 3 => send(&mut director, &mut choices),
            _ => {
                let mut message = Message::new(7, 1472);
                for _ in 0..=choices.below(4) {
                    message.push(&connection(&mut choices));
                }
                let mut bytes = message.finish();
                if choices.one_in(4) {
                    damage(&mut choices, &mut bytes);
                }
                tell(&mut director, &bytes);
            }
        }
    }
    director.check().unwrap();
    for datagram in director.take_datagrams() {
        let entries = sync::read(datagram.payload(), 8).expect("a message of one's own");
        assert!(entries.into_iter().all(|entry| matches!(entry, Ok(Ok(_)))));
    }
}

fn tell(director: &mut Director, message: &[u8]) {
    if let Ok(entries) = sync::read(message, 7) {
        let entries: Vec<_> = entries
            .map_while(Result::ok)
            .filter_map(Result::ok)
            .collect();
        director.take(&entries);
    }
}

fn damage(choices: &mut Choices<'_>, bytes: &mut Vec<u8>) {
    for _ in 0..=choices.below(3) {
        let at = usize::from(choices.number()) % bytes.len();
        bytes[at] = choices.byte();
    }
    if choices.one_in(2) {
        bytes.truncate(usize::from(choices.byte()));
        if bytes.len() >= 4 {
            let size = u16::try_from(bytes.len()).unwrap();
            bytes[2..4].copy_from_slice(&size.to_be_bytes());
        }
    }
}

fn client(choices: &mut Choices<'_>, is_v6: bool) -> SocketAddr {
    let port = choices.of([0, 4000, 4001, 4002]);
    let last = 7 + choices.below(2);
    if is_v6 {
        format!("[2001:db8:ffff::{last}]:{port}").parse().unwrap()
    } else {
        SocketAddr::from(([198, 51, 100, last], port))
    }
}

fn connection(choices: &mut Choices<'_>) -> SyncedConnection {
    let is_v6 = choices.one_in(4);
    let server = 1 + choices.below(3);
    let address = if is_v6 {
        server_v6(server)
    } else {
        server_v4(server)
    };
    let port = choices.of([80, 8080, 21, 0]);
    let virtual_port = choices.of([80, 21, 0]);
    let flags = choices.of([
        0,
        flag::INACTIVE,
        flag::TEMPLATE,
        flag::OUT_SEQUENCE,
        flag::NO_CLIENT_PORT,
    ]);
    SyncedConnection {
        protocol: choices.of([6, 17, 132, 0]),
        flags: flags | choices.of([0, 2, 3, 4]),
        state: u16::from(choices.below(15)),
        client: client(choices, is_v6),
        virtual_service: if is_v6 {
            format!("[2001:db8::100]:{virtual_port}").parse().unwrap()
        } else {
            SocketAddr::from(([192, 0, 2, 100], virtual_port))
        },
        destination: SocketAddr::new(address, port),
        mark: u32::from(choices.below(2)),
        timeout_s: choices.of([0, 10, 900, u32::MAX]),
        sequences: choices.one_in(4).then(|| {
            let delta = i32::from(choices.byte()) - 100;
            [
                Sequence::default(),
                Sequence {
                    position: 1000,
                    delta,
                    previous_delta: 0,
                },
            ]
        }),
        engine: choices.one_in(6).then(|| EngineData {
            name: choices.of([*b"sip", *b"sop"]).into_iter().collect(),
            data: choices.of([*b"one@c", *b"two@c"]).into_iter().collect(),
        }),
    }
}

fn send(director: &mut Director, choices: &mut Choices<'_>) {
    let is_v6 = choices.one_in(4);
    let client = client(choices, is_v6);
    let server = 1 + choices.below(3);
    let flags = choices.of(["S", "A", "FA", "R", "SA"]);
    if choices.one_in(3) {
        let address = if is_v6 {
            server_v6(server)
        } else {
            server_v4(server)
        };
        let from = SocketAddr::new(address, choices.of([80, 8080, 21]));
        let packet = tcp(from, client, flags, &[]);
        let frame = ethernet(mac(Wire::Rs), server_mac(server), &packet);
        receive(director, Wire::Rs, &[frame]);
        return;
    }
    let port = choices.of([80, 21, 5000]);
    let vip: SocketAddr = if is_v6 {
        format!("[2001:db8::100]:{port}").parse().unwrap()
    } else {
        SocketAddr::from(([192, 0, 2, 100], port))
    };
    let packet = if choices.one_in(3) {
        udp(client, vip, b"INVITE sip:b@c SIP/2.0\r\nCall-ID: one@c\r\n")
    } else {
        tcp(client, vip, flags, &[])
    };
    receive(
        director,
        Wire::Cl,
        &[ethernet(mac(Wire::Cl), GATEWAY_MAC, &packet)],
    );
}
