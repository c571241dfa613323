//! A life of a director: frames in bursts, configurations that change, routes that change, time that passes.

use crate::golden::command::{Command, parse};
use crate::golden::director::{Director, Outcome};
use crate::golden::topology::{GATEWAY_MAC, SERVERS, mac, server_mac};
use crate::golden::trace::Wire;
use crate::sound;

use super::choices::Choices;
use super::frames;

/// Frames of a burst, at most.
const BURST_MAX: usize = 8;
/// Room in front of a frame, and so the most that one grows.
const HEADROOM: usize = 128;

/// What an administrator may do; refusals are part of it.
const COMMANDS: [&str; 40] = [
    "ipvsadm -A -t 192.0.2.100:80 -s rr",
    "ipvsadm -A -u 192.0.2.100:53 -s wrr",
    "ipvsadm -A -t 192.0.2.100:81 -s wlc",
    "ipvsadm -A -t [2001:db8::100]:80 -s wlc",
    "ipvsadm -A -u [2001:db8::100]:53 -s rr",
    "ipvsadm -A -t [2001:db8::100]:81 -s wrr",
    "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.11:80 -m",
    "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.12:81 -m -w 3",
    "ipvsadm -a -t 192.0.2.100:81 -r 10.1.0.11:80 -m",
    "ipvsadm -a -t 192.0.2.100:81 -r 10.1.0.12 -i -x 2 -y 1",
    "ipvsadm -a -t 192.0.2.100:81 -r 2001:db8:1::13 -i",
    "ipvsadm -a -u 192.0.2.100:53 -r 10.1.0.13:53 -m -w 2",
    "ipvsadm -a -u 192.0.2.100:53 -r 10.1.0.14 -g -w 7 -x 3",
    "ipvsadm -a -t [2001:db8::100]:80 -r [2001:db8:1::11]:80 -m",
    "ipvsadm -a -t [2001:db8::100]:80 -r [2001:db8:1::12]:81 -m -x 1",
    "ipvsadm -a -u [2001:db8::100]:53 -r [2001:db8:1::13]:53 -g",
    "ipvsadm -a -u [2001:db8::100]:53 -r 10.1.0.14 -i",
    "ipvsadm -a -t [2001:db8::100]:81 -r [2001:db8:1::15]:81 -i -w 5",
    "ipvsadm -a -t 192.0.2.100:81 -r 10.1.0.14 -i --tun-type gre --tun-csum",
    "ipvsadm -a -u 192.0.2.100:53 -r 10.1.0.12 -i --tun-type gue --tun-port 5555 --tun-csum",
    "ipvsadm -a -u [2001:db8::100]:53 -r [2001:db8:1::12] -i --tun-type gue --tun-port 6080",
    "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.1:80 -m",
    "ipvsadm -a -t 192.0.2.100:80 -r 172.31.9.9:80 -m",
    "ipvsadm -e -t 192.0.2.100:80 -r 10.1.0.11:80 -m -w 0",
    "ipvsadm -e -t 192.0.2.100:80 -r 10.1.0.11:80 -i -w 9 -x 5",
    "ipvsadm -e -t [2001:db8::100]:80 -r [2001:db8:1::11]:80 -m -w 2",
    "ipvsadm -E -t 192.0.2.100:80 -s wlc",
    "ipvsadm -E -u 192.0.2.100:53 -s rr",
    "ipvsadm -d -t 192.0.2.100:80 -r 10.1.0.11:80",
    "ipvsadm -d -u 192.0.2.100:53 -r 10.1.0.14",
    "ipvsadm -D -t [2001:db8::100]:80",
    "ipvsadm --set 20 5 7",
    "ipvsadm -C",
    "ipvsadm -E -t 192.0.2.100:80 -s mh -b mh-fallback,mh-port",
    "ipvsadm -E -t 192.0.2.100:81 -s lblcr",
    "ipvsadm -E -t [2001:db8::100]:80 -s sh -b sh-fallback",
    "ipvsadm -E -t [2001:db8::100]:81 -s lblc",
    "ipvsadm -E -u 192.0.2.100:53 -s twos",
    "ipvsadm -E -u [2001:db8::100]:53 -s mh",
    "ipvsadm -E -t 192.0.2.100:81 -s ovf",
];

/// The first commands: what a run starts with.
const FIRST: usize = 21;

/// Lives through what the bytes say.
///
/// # Panics
/// When the engine does, or when something does not hold that must.
pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut director = Director::default();
    for line in &COMMANDS[..FIRST] {
        command(&mut director, line);
    }
    while !choices.is_over() {
        match choices.below(16) {
            0..=11 => burst(&mut choices, &mut director),
            12 => raw(&mut choices, &mut director),
            13 => {
                let line = choices.of(COMMANDS);
                command(&mut director, line);
            }
            14 => director.sleep(choices.of([0, 1, 3, 11, 61, 121, 301, 901])),
            _ => rewire(&mut choices, &mut director),
        }
    }
    director.check().unwrap();
    director.sleep(2000);
    director.check().unwrap();
    assert_eq!(director.connections().count(), 0);
}

fn command(director: &mut Director, line: &str) {
    match parse(line) {
        // Refused or not: both are answers.
        Ok(Command::Change(change)) => drop(director.change(&change)),
        other => panic!("{line}: {other:?}"),
    }
}

fn burst(choices: &mut Choices<'_>, director: &mut Director) {
    let wire = choices.of([Wire::Cl, Wire::Cl, Wire::Rs]);
    let count = 1 + usize::from(choices.byte()) % BURST_MAX;
    let frames: Vec<Vec<u8>> = (0..count).map(|_| frames::frame(choices, wire)).collect();
    receive(director, wire, &frames);
}

fn raw(choices: &mut Choices<'_>, director: &mut Director) {
    let length = usize::from(choices.number() % 2048);
    let mut frame = choices.bytes(length).to_vec();
    if choices.one_in(2) {
        let end = frame.len().min(6);
        frame[..end].copy_from_slice(&mac(Wire::Cl)[..end]);
    }
    receive(director, Wire::Cl, &[frame]);
}

fn rewire(choices: &mut Choices<'_>, director: &mut Director) {
    let mtu = choices.of([1500, 1400, 1280, 576, 68, 9000, 65_535]);
    let side = usize::from(choices.below(2));
    let vlan = choices.of([None, None, Some(7)]);
    let with_routes = !choices.one_in(4);
    director.rewire(|topology| {
        topology.mtu[side] = mtu;
        topology.vlan[side] = vlan;
        let whole = crate::golden::topology::Topology::default().by_gateway;
        topology.by_gateway = if with_routes { whole } else { Vec::new() };
    });
}

/// Frames in; what comes out must be as sound as what came.
pub fn receive(director: &mut Director, wire: Wire, frames: &[Vec<u8>]) {
    let burst: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let outcomes = director.receive_burst(wire, &burst);
    for (came, outcome) in burst.iter().zip(outcomes) {
        let Outcome::Out(to, left) = outcome else {
            continue;
        };
        assert!(left.len() <= came.len() + HEADROOM, "a frame grew too much");
        let known = match to {
            Wire::Cl => left.starts_with(&GATEWAY_MAC),
            Wire::Rs => (1..=SERVERS).any(|server| left.starts_with(&server_mac(server))),
        };
        assert!(known, "sent to nobody");
        assert_eq!(left[6..12], mac(to), "sent by nobody");
        if sound::read(came).is_ok()
            && let Err(problem) = sound::read(&left)
        {
            panic!("{problem}: made of a sound packet\n{came:02x?}\n{left:02x?}");
        }
    }
}
