//! Ports as hardware has them: one that vanishes, MACs of VRRP, floods of what is for the kernel, frames in pieces.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use pollux_tests::lab::capture;
use pollux_tests::lab::frames::{CLIENT4, FrameSender, ethernet};
use pollux_tests::lab::keepalived::Keepalived;
use pollux_tests::lab::namespace::Background;
use pollux_tests::lab::servers::{NAT, SERVERS4, VIP4, tcp};
use pollux_tests::lab::{Lab, eventually, lab_dir, namespace, program, text_of};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_port_whose_device_vanishes_is_said_to_be_gone_and_the_others_go_on() {
    let mut lab = Lab::start_with("--workers 2");
    // The link on which it is captured what Pollux sends goes with the device.
    lab.expects_wrong_checksums();
    lab.add(&tcp(VIP4, 80), "rr", NAT, &SERVERS4, 80);
    lab.curl_many(VIP4, 6);
    namespace::run("director", "ip link del client0-wire");
    let client = || {
        let mut ports = lab.ports().into_iter();
        ports.find(|port| port.name == "client0").unwrap()
    };
    assert!(eventually(PATIENCE, || client().gone), "{:?}", client());
    assert!(!client().link_up);
    let carrier = namespace::run("director", "cat /sys/class/net/client0/carrier");
    assert_eq!(carrier.trim(), "0");
    let log = fs::read_to_string(lab_dir().join("pollux-dataplane.log")).unwrap();
    assert!(
        log.contains("port client0: its device net_af_packet0,iface=client0-wire,qpairs=2 is gone"),
        "{log}"
    );
    assert!(lab.pollux("show ports").contains("client0: link gone"));
    let file = lab_dir().join("pollux.toml");
    let advice = text_of(&lab.try_pollux(&format!("doctor {}", file.display())));
    assert!(advice.contains("port client0: its device"), "{advice}");
    // The servers' port forwards for the kernel, and configuration goes on.
    namespace::run("rs1", "ping -n -c 2 -W 2 203.0.113.1");
    lab.pollux(&format!("service remove -t {VIP4}:80"));
    // What was on its way to clients is counted as such.
    lab.assert_every_packet_is_accounted_for();
}

/// `net_pcap` heeds no MTU: it delivers any frame, in as many pieces as it takes.
#[test]
fn a_frame_in_pieces_that_no_buffer_holds_is_counted_and_the_next_one_passes() {
    let lab = Lab::without_daemons();
    let path = |name: &str| lab_dir().join(name).display().to_string();
    fs::create_dir_all(path("run")).unwrap();
    capture::write(
        &lab_dir().join("long.pcap"),
        &[vec![0xff; 5000], vec![0xff; 60]],
    );
    fs::write(path("pollux.toml"), "").unwrap();
    let (run, state) = (path("run"), path("state"));
    let start = |name: &str, arguments: &[&str]| {
        let program = program(name).get_program().to_owned();
        let folders = ["--run-dir", &run, "--state-dir", &state];
        let arguments = [&folders[..], arguments].concat();
        Background::start(
            "director",
            program.to_str().unwrap(),
            &arguments,
            Stdio::null(),
        )
    };
    let port = format!("wan=net_pcap0,rx_pcap={}", path("long.pcap"));
    let dataplane = [
        "--no-huge",
        "--file-prefix",
        "pollux-lab",
        "--cores",
        "0",
        "--port",
        &port,
    ];
    let _dataplane = start("pollux-dataplane", &dataplane);
    let _polluxd = start("polluxd", &["--config", &path("pollux.toml")]);
    let answers = || lab.try_pollux("show drops").status.success();
    assert!(eventually(PATIENCE, answers));
    let received = || lab.drops()[0].received;
    assert!(
        eventually(PATIENCE, || received() == 2),
        "{:?}",
        lab.drops()
    );
    assert_eq!(lab.fate("multi_segment"), 1, "{:?}", lab.drops());
    lab.assert_every_packet_is_accounted_for();
}

/// keepalived's `use_vmac`: the address is on an interface with VRRP's MAC, to which all packets of clients come.
#[test]
fn packets_to_the_mac_of_a_virtual_router_are_balanced() {
    let lab = Lab::start_with("--workers 2");
    lab.add(&tcp(VIP4, 80), "rr", NAT, &SERVERS4, 80);
    for line in [
        "ip addr del 192.0.2.1/24 dev client0",
        "ip addr add 192.0.2.2/24 dev client0",
        "ip route replace default via 192.0.2.254",
    ] {
        namespace::run("director", line);
    }
    let configuration = "vrrp_instance lab {
            state MASTER
            interface client0
            use_vmac
            virtual_router_id 51
            priority 200
            advert_int 1
            virtual_ipaddress { 192.0.2.1/32 }
        }";
    let keepalived = Keepalived::start("director", configuration);
    let vmac = "00:00:5e:00:01:33";
    let has_vmac = || {
        let ports = lab.ports();
        ports[0].other_macs == [vmac]
    };
    assert!(eventually(PATIENCE, has_vmac), "{}", keepalived.log());
    let goes_there = || {
        namespace::run("client", "ip neigh flush all");
        let _ = namespace::try_run("client", "ping -n -c 1 -W 1 192.0.2.1");
        namespace::run("client", "ip neigh show 192.0.2.1").contains(vmac)
    };
    assert!(eventually(PATIENCE, goes_there), "{}", keepalived.log());
    let before = lab.fate("forwarded");
    let answers = lab.curl_many(VIP4, 60);
    assert_eq!(answers.into_values().collect::<Vec<_>>(), [20, 20, 20]);
    assert!(
        lab.fate("forwarded") - before >= 60 * 8,
        "the kernel had them"
    );
    let neighbour = namespace::run("client", "ip neigh show 192.0.2.1");
    assert!(neighbour.contains(vmac), "{neighbour}");
    drop(keepalived);
    let is_forgotten = || lab.ports()[0].other_macs.is_empty();
    assert!(eventually(PATIENCE, is_forgotten), "{:?}", lab.ports());
}

/// Datagrams to a port that nobody serves, as fast as they go, leave ARP and ping their place.
#[test]
fn a_flood_of_what_nobody_serves_starves_nobody() {
    let lab = Lab::start_with("--workers 2 --set punt.other=200");
    let sender = FrameSender::open();
    let datagram = [
        &[0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17][..],
        &header_checksum(),
        &CLIENT4.octets(),
        &[192, 0, 2, 1, 0x9c, 0x40, 0, 9, 0, 8, 0, 0],
    ]
    .concat();
    let frame = ethernet(0x0800, &datagram);
    namespace::run("client", "ip neigh flush all");
    let start = Instant::now();
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut sent = 0_u64;
            while start.elapsed() < Duration::from_secs(4) {
                sender.send(&frame);
                sent += 1;
            }
            sent
        });
        for _ in 0..3 {
            namespace::run("client", "ip neigh flush all");
            namespace::run("client", "ping -n -c 3 -i 0.2 -W 2 192.0.2.1");
        }
        assert!(flood.join().unwrap() > 5_000);
    });
    let seconds = start.elapsed().as_secs_f64();
    let limited = lab.fate("punt_limited");
    assert!(limited > 2_000, "{limited}");
    // Two workers' rates and bursts, and the pings and ARP of those seconds.
    let passed = lab.fate("punted");
    assert!(
        (passed as f64) < 2.0 * 200.0 * (seconds + 1.0) + 400.0,
        "{passed}"
    );
}

/// Of the datagram above: RFC 1071 over its header.
fn header_checksum() -> [u8; 2] {
    let words = [
        0x4500, 28, 0, 0x4000, 0x4011, 0xc000, 0x020a, 0xc000, 0x0201,
    ];
    let sum: u32 = words.into_iter().sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    #[allow(clippy::cast_possible_truncation)] // folded: it fits
    let checksum = !((folded & 0xffff) as u16 + (folded >> 16) as u16);
    checksum.to_be_bytes()
}
