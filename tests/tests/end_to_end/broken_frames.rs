//! Frames that nobody should send: no worker crashes or stalls, and each frame has a fate.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use pollux_tests::lab::Lab;
use pollux_tests::lab::eventually;
use pollux_tests::lab::frames::{
    DIRECTOR_MAC, FRAME_BYTES_MIN, FrameSender, ethernet, ipv4, ipv6, tcp_syn, udp,
};
use pollux_tests::lab::servers::{
    NAT, SERVERS4, SERVERS6, TUNNEL, VIP4, VIP6, tcp, udp as udp_service,
};

#[test]
fn random_bytes_harm_nothing() {
    let lab = lab_with_services("--workers 2");
    let mut barrage = Barrage::start(&lab);
    let mut random = Random(0x706f_6c6c_7578);
    for _ in 0..5_000 {
        let length = random.below(1501);
        let bytes: Vec<u8> = (0..length).map(|_| random.byte()).collect();
        let ethertypes = [0x0800, 0x86dd, 0x8100, 0x0806, random.below(0x1_0000)];
        let ethertype = ethertypes[random.below(ethertypes.len())];
        let mut frame = ethernet(u16::try_from(ethertype).unwrap(), &bytes);
        if random.below(4) == 0 {
            // For somebody else, or for everybody: the bridge may keep it to itself.
            frame[..6].fill_with(|| random.byte());
        }
        barrage.send(&frame);
    }
    barrage.assert_all_is_well();
}

#[test]
fn a_good_frame_with_random_changes_harms_nothing() {
    let lab = lab_with_services(EVERY_FRAME_ARRIVES);
    let mut barrage = Barrage::start(&lab);
    let templates = templates();
    let mut random = Random(2);
    for _ in 0..10_000 {
        let mut frame = templates[random.below(templates.len())].clone();
        for _ in 0..=random.below(4) {
            // Behind the MAC addresses, so that the director is always who gets it.
            let place = 12 + random.below(frame.len() - 12);
            frame[place] = random.byte();
        }
        barrage.send(&frame);
    }
    barrage.assert_all_is_well();
}

#[test]
fn frames_cut_at_every_length_harm_nothing() {
    let lab = lab_with_services(EVERY_FRAME_ARRIVES);
    let mut barrage = Barrage::start(&lab);
    for frame in templates() {
        for length in FRAME_BYTES_MIN..=frame.len() {
            barrage.send(&frame[..length]);
        }
    }
    barrage.assert_all_is_well();
}

#[test]
fn wrong_lengths_and_checksums_harm_nothing() {
    let lab = lab_with_services(EVERY_FRAME_ARRIVES);
    let mut barrage = Barrage::start(&lab);
    for frame in templates() {
        // Every byte of the headers at its extremes: lengths, header lengths, offsets, flags, checksums among them.
        for place in 12..frame.len().min(94) {
            for value in [
                0x00,
                0x01,
                0x7f,
                0x80,
                0xff,
                frame[place] ^ 0x0f,
                frame[place].wrapping_add(1),
            ] {
                let mut broken = frame.clone();
                broken[place] = value;
                barrage.send(&broken);
            }
        }
    }
    barrage.assert_all_is_well();
}

/// With several queues net_af_packet has the kernel put IPv4 fragments together before the director sees any; so every
/// frame arrives as it is only with net_af_xdp.
const EVERY_FRAME_ARRIVES: &str = "--workers 1 --pmd af_xdp";

fn lab_with_services(arguments: &str) -> Lab {
    let mut lab = Lab::start_with(arguments);
    lab.expects_wrong_checksums();
    lab.add(&tcp(VIP4, 80), "rr", NAT, &SERVERS4, 80);
    lab.add(&udp_service(VIP4, 53), "rr", TUNNEL, &SERVERS6, 53);
    lab.add(&tcp(VIP6, 80), "rr", TUNNEL, &SERVERS4, 80);
    lab.add(&udp_service(VIP6, 53), "rr", NAT, &SERVERS6, 53);
    lab
}

/// Frames sent no faster than the director takes them, so that each is put to the test.
struct Barrage<'l> {
    lab: &'l Lab,
    sender: FrameSender,
    sent: u64,
}

/// Frames on their way at a time: half of what a queue of net_af_packet holds.
const FRAMES_AT_ONCE: u64 = 256;

impl<'l> Barrage<'l> {
    fn start(lab: &'l Lab) -> Self {
        Self {
            lab,
            sender: FrameSender::open(),
            sent: 0,
        }
    }

    /// Sends a frame; one for the director's MAC address must arrive there.
    fn send(&mut self, frame: &[u8]) {
        self.sender.send(frame);
        if frame.starts_with(&DIRECTOR_MAC) {
            self.sent += 1;
        }
        if self.sent.is_multiple_of(FRAMES_AT_ONCE) {
            self.assert_all_arrived();
        }
    }

    fn assert_all_arrived(&self) {
        let arrived = eventually(Duration::from_secs(5), || {
            let ports = self.lab.drops();
            ports
                .iter()
                .any(|port| port.port == "client0" && port.received >= self.sent)
        });
        let drops = || self.lab.pollux("show drops --all");
        assert!(arrived, "{} frames were sent:\n{}", self.sent, drops());
    }

    /// The frames arrived, services work, and both workers go on looping. The end of the lab checks the sums.
    fn assert_all_is_well(self) {
        self.assert_all_arrived();
        let lab = self.lab;
        assert_eq!(lab.curl_many(VIP4, 20).values().sum::<usize>(), 20);
        assert_eq!(lab.curl_many(VIP6, 20).values().sum::<usize>(), 20);
        lab.dig(VIP4);
        lab.dig(VIP6);
        let before = lab.workers();
        let looping = eventually(Duration::from_secs(2), || {
            let now = lab.workers();
            now.iter()
                .zip(&before)
                .all(|(now, then)| now.loops > then.loops)
        });
        assert!(looping, "a worker stands still: {before:?}");
    }
}

/// Good frames of every kind the pipeline knows.
fn templates() -> Vec<Vec<u8>> {
    let vip4: Ipv4Addr = VIP4.parse().unwrap();
    let vip6: Ipv6Addr = VIP6.parse().unwrap();
    let syn = tcp_syn(vip4, 41_000, 80);
    let datagram = udp(vip4, 41_001, 53, &[0; 30]);
    let with_options = {
        let mut packet = ipv4(vip4, 6, &syn);
        packet.splice(20..20, [7, 7, 4, 0, 0, 0, 0, 0]);
        packet[0] = 0x47;
        packet[2..4].copy_from_slice(&u16::try_from(28 + syn.len()).unwrap().to_be_bytes());
        packet
    };
    let fragment = {
        let mut packet = ipv4(vip4, 17, &datagram);
        packet[6..8].copy_from_slice(&[0x20, 0x10]);
        packet
    };
    // Hop-by-hop, then destination options, then TCP: RFC 8200 section 4.
    let with_extensions = {
        let mut payload = vec![60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0];
        payload.extend(&syn);
        ipv6(vip6, 0, &payload)
    };
    let tagged = {
        let mut payload = vec![0, 5, 0x08, 0x00];
        payload.extend(ipv4(vip4, 6, &syn));
        payload
    };
    let too_big = [vec![3, 4, 0, 0, 0, 0, 5, 0], ipv4(vip4, 6, &syn)].concat();
    vec![
        ethernet(0x0800, &ipv4(vip4, 6, &syn)),
        ethernet(0x0800, &ipv4(vip4, 17, &datagram)),
        ethernet(0x0800, &with_options),
        ethernet(0x0800, &fragment),
        ethernet(0x0800, &ipv4(vip4, 1, &too_big)),
        ethernet(0x0800, &ipv4(vip4, 4, &ipv4(vip4, 6, &syn))),
        ethernet(0x86dd, &ipv6(vip6, 6, &syn)),
        ethernet(0x86dd, &ipv6(vip6, 17, &datagram)),
        ethernet(
            0x86dd,
            &ipv6(vip6, 58, &[2, 0, 0, 0, 0, 0, 5, 0, 0x60, 0, 0, 0]),
        ),
        ethernet(0x86dd, &with_extensions),
        ethernet(0x8100, &tagged),
    ]
}

/// A small generator with a fixed seed (Marsaglia's xorshift), so that a failure comes again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[2]
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap() % bound
    }
}
