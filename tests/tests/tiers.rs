//! The short way of plain packets and the long way of all others come to the same. A VLAN tag, which the director takes
//! off, is enough to send a packet the long way.

use pollux_engine::wire::ethernet::ethertype;
use pollux_tests::fuzz::choices::{Choices, Seeded};
use pollux_tests::fuzz::frames;
use pollux_tests::golden::compare::{mask, with_one_identification};
use pollux_tests::golden::director::{Director, Outcome};
use pollux_tests::golden::trace::Wire;

const COMMANDS: [&str; 19] = [
    "ipvsadm -A -t 192.0.2.100:80 -s rr",
    "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.11:80 -m",
    "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.12:81 -m -x 3",
    "ipvsadm -A -u 192.0.2.100:53 -s wrr",
    "ipvsadm -a -u 192.0.2.100:53 -r 10.1.0.13:53 -m -w 2",
    "ipvsadm -a -u 192.0.2.100:53 -r 10.1.0.11 -i",
    "ipvsadm -A -t 192.0.2.100:81 -s rr",
    "ipvsadm -a -t 192.0.2.100:81 -r 10.1.0.12 -g",
    "ipvsadm -a -t 192.0.2.100:81 -r 2001:db8:1::13 -i",
    "ipvsadm -a -t 192.0.2.100:81 -r 10.1.0.14 -i --tun-type gre --tun-csum",
    "ipvsadm -a -u 192.0.2.100:53 -r 10.1.0.12 -i --tun-type gue --tun-port 5555 --tun-csum",
    "ipvsadm -A -t [2001:db8::100]:80 -s wlc",
    "ipvsadm -a -t [2001:db8::100]:80 -r [2001:db8:1::11]:80 -m",
    "ipvsadm -a -t [2001:db8::100]:80 -r [2001:db8:1::12] -g",
    "ipvsadm -A -u [2001:db8::100]:53 -s rr",
    "ipvsadm -a -u [2001:db8::100]:53 -r [2001:db8:1::13] -i",
    "ipvsadm -a -u [2001:db8::100]:53 -r 10.1.0.14 -i",
    "ipvsadm -a -u [2001:db8::100]:53 -r 10.1.0.12 -i --tun-type gue --tun-port 6080",
    "ipvsadm -a -u [2001:db8::100]:53 -r [2001:db8:1::12] -i --tun-type gre",
];

fn is_tagged(frame: &[u8]) -> bool {
    matches!(frame.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]))
}

fn tagged(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame.len() >= 14 && !is_tagged(&frame) {
        frame.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
    }
    frame
}

/// Without what pads it to the shortest frame (a tag more is a byte of padding less), and without the numbers that the
/// director gives the packets it makes, which the short way does not give where none is needed.
fn comparable(outcome: Outcome) -> Outcome {
    let (wire, mut bytes) = match outcome {
        Outcome::Out(wire, bytes) => (wire, bytes),
        Outcome::Fragments(sent) => {
            let frames = with_one_identification(sent.iter().map(|(_, bytes)| &**bytes));
            let wires = sent.iter().map(|(wire, _)| *wire);
            return Outcome::Fragments(wires.zip(frames.iter().map(|frame| mask(frame))).collect());
        }
        other => return other,
    };
    let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let end = if word(12) == ethertype::IPV4 {
        14 + usize::from(word(16))
    } else {
        14 + 40 + usize::from(word(18))
    };
    bytes.truncate(end);
    Outcome::Out(wire, mask(&bytes))
}

/// What a NIC has verified, the engine does not look at again, and what one fills in the engine does not sum; what goes out is
/// the same to the byte.
#[test]
fn checksums_of_the_nic_come_to_the_same_as_those_of_the_engine() {
    let mut by_nic = Director::configured(&COMMANDS);
    let mut by_engine = Director::configured(&COMMANDS);
    by_nic.verify_headers();
    by_nic.rewire(|topology| topology.fills_udp_checksums = true);
    let mut seeded = Seeded(12);
    let mut forwarded = 0;
    for round in 0..60_000 {
        let decisions = seeded.bytes(100);
        let mut choices = Choices::new(&decisions);
        let wire = choices.of([Wire::Cl, Wire::Cl, Wire::Rs]);
        let mut frame = frames::frame(&mut choices, wire);
        if round % 16 == 0
            && let Some(byte) = frame.get_mut(24)
        {
            // Of the checksum, where there is one.
            *byte ^= 0x10;
        }
        let outcomes = [&mut by_nic, &mut by_engine].map(|director| director.receive(wire, &frame));
        forwarded += u32::from(matches!(outcomes[0], Outcome::Out(..)));
        assert_eq!(outcomes[0], outcomes[1], "round {round}: {frame:02x?}");
        if round % 100 == 99 {
            by_nic.sleep(17);
            by_engine.sleep(17);
        }
    }
    assert!(forwarded > 5000, "{forwarded}");
    let fates = [by_nic, by_engine].map(|director| {
        let counters = director.counters();
        let ports = [0, 1].map(|port| counters.port(port).unwrap());
        ports.map(|port| pollux_engine::Fate::ALL.map(|fate| port.fate(fate)))
    });
    assert_eq!(fates[0], fates[1]);
    let broken = pollux_engine::Fate::Ipv4BadChecksum as usize;
    assert!(fates[0].iter().map(|port| port[broken]).sum::<u64>() > 100);
}

#[test]
fn the_short_way_and_the_long_way_come_to_the_same() {
    let mut short = Director::configured(&COMMANDS);
    let mut long = Director::configured(&COMMANDS);
    let mut seeded = Seeded(11);
    let mut forwarded = 0;
    for round in 0..60_000 {
        let decisions = seeded.bytes(100);
        let mut choices = Choices::new(&decisions);
        let wire = choices.of([Wire::Cl, Wire::Cl, Wire::Rs]);
        let frame = frames::frame(&mut choices, wire);
        let plain = comparable(short.receive(wire, &frame));
        let odd = comparable(long.receive(wire, &tagged(&frame)));
        forwarded += u32::from(matches!(plain, Outcome::Out(..)));
        assert_eq!(plain, odd, "round {round}: {frame:02x?}");
        if round % 100 == 99 {
            short.sleep(17);
            long.sleep(17);
        }
    }
    assert!(forwarded > 5000, "{forwarded}");
    let totals = [short, long].map(|director| {
        let counters = director.counters();
        let ports = [0, 1].map(|port| {
            let port = counters.port(port).unwrap();
            pollux_engine::Fate::ALL.map(|fate| port.fate(fate))
        });
        (ports, counters.connections_created.get())
    });
    assert_eq!(totals[0], totals[1]);
}
