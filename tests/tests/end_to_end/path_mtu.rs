//! Path-MTU discovery, with every interface at its 1500 bytes: a tunnel asks the client for smaller packets, and NAT
//! brings a router's wish to the server it is meant for.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use pollux_tests::lab::Lab;
use pollux_tests::lab::client::url;
use pollux_tests::lab::frames::{CLIENT4, FrameSender, checksum, ethernet, ipv4, ipv4_between};
use pollux_tests::lab::namespace::{Background, inside, run};
use pollux_tests::lab::servers::{NAT, SERVERS4, SERVERS6, TUNNEL, VIP4, VIP6, tcp, udp};
use pollux_tests::lab::{eventually, lab_dir};

#[test]
fn tunnel_of_ipv4_in_ipv4_asks_for_20_bytes_less() {
    upload_finds_the_path_mtu(VIP4, SERVERS4[0], 1480);
}

#[test]
fn tunnel_of_ipv6_in_ipv6_asks_for_40_bytes_less() {
    upload_finds_the_path_mtu(VIP6, SERVERS6[0], 1460);
}

#[test]
fn tunnel_of_ipv4_in_ipv6_asks_for_40_bytes_less() {
    upload_finds_the_path_mtu(VIP4, SERVERS6[0], 1460);
}

#[test]
fn tunnel_of_ipv6_in_ipv4_asks_for_20_bytes_less() {
    upload_finds_the_path_mtu(VIP6, SERVERS4[0], 1480);
}

/// Uploads full-size packets; the director can only forward them when the client has learnt to send smaller ones.
fn upload_finds_the_path_mtu(vip: &str, server: &str, mtu: u32) {
    let lab = Lab::start();
    lab.add(&tcp(vip, 80), "rr", TUNNEL, &[server], 80);
    let sent = lab_dir().join("www/100M");
    let page = url(vip, "/uploads/upload");
    run(
        "client",
        &format!("curl -sS --fail --max-time 60 -T {} {page}", sent.display()),
    );
    let received = lab_dir().join("rs1/uploads/upload");
    let same = fs::read(&received).unwrap() == fs::read(&sent).unwrap();
    fs::remove_file(&received).unwrap();
    assert!(same, "the upload arrived with other bytes");
    let route = run("client", &format!("ip route get {vip}"));
    assert!(
        route.contains(&format!(" mtu {mtu} ")),
        "the client learnt a path MTU of {mtu}: {route}"
    );
    for (namespace, interface) in [
        ("client", "lan0"),
        ("director", "client0-wire"),
        ("rs1", "lan0"),
    ] {
        assert!(run(namespace, &format!("ip link show {interface}")).contains("mtu 1500 "));
    }
}

/// A router between director and client says "fragmentation needed" to the VIP; the server behind NAT must hear it.
#[test]
fn nat_passes_fragmentation_needed_to_the_server() {
    let lab = Lab::start();
    lab.add(&udp(VIP4, 53), "rr", NAT, &SERVERS4, 53);
    let socket = inside("client", || UdpSocket::bind("192.0.2.10:40000")).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(3)))
        .unwrap();
    socket.send_to(&dns_question(), (VIP4, 53)).unwrap();
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    let server = ["rs1", "rs2", "rs3"]
        .into_iter()
        .find(|name| answer.contains(name))
        .unwrap();

    // RFC 792: type 3, code 4, next-hop MTU (RFC 1191), then the header and 8 bytes of the answer that was too big.
    let vip: Ipv4Addr = VIP4.parse().unwrap();
    let too_big = [0, 53, 0x9c, 0x40, 0x05, 0xdc, 0, 0];
    let mut icmp = vec![3, 4, 0, 0, 0, 0, 0x05, 0x14];
    icmp.extend(ipv4_between(vip, CLIENT4, 17, &too_big));
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let sender = FrameSender::open();
    sender.send(&ethernet(0x0800, &ipv4(vip, 1, &icmp)));

    let learnt = eventually(Duration::from_secs(2), || {
        run(server, "ip route get 192.0.2.10").contains(" mtu 1300 ")
    });
    assert!(
        learnt,
        "{server} did not hear of the MTU: {}",
        run(server, "ip route get 192.0.2.10")
    );
    for other in ["rs1", "rs2", "rs3"]
        .into_iter()
        .filter(|name| *name != server)
    {
        assert!(
            !run(other, "ip route get 192.0.2.10").contains(" mtu "),
            "{other} heard of it too"
        );
    }
}

/// A packet whose time is over on the director: the client hears so, as from any router.
#[test]
fn a_packet_out_of_hops_is_answered_with_time_exceeded() {
    let lab = Lab::start();
    lab.add(&udp(VIP4, 53), "rr", NAT, &SERVERS4, 53);
    let log = lab_dir().join("time-exceeded.log");
    let file = fs::File::create(&log).unwrap();
    let filter = "icmp[icmptype] == icmp-timxceed";
    let arguments = ["3", "tcpdump", "-n", "-l", "-i", "lan0", "-c", "1", filter];
    let listener = Background::start("client", "timeout", &arguments, Stdio::from(file));
    std::thread::sleep(Duration::from_millis(500));
    let socket = inside("client", || UdpSocket::bind("192.0.2.10:40001")).unwrap();
    socket.set_ttl(1).unwrap();
    socket.send_to(&dns_question(), (VIP4, 53)).unwrap();
    listener.finish();
    let heard = fs::read_to_string(&log).unwrap();
    assert!(heard.contains("ICMP time exceeded in-transit"), "{heard}");
}

/// The TXT question for `whoami.pollux.test`, RFC 1035.
fn dns_question() -> Vec<u8> {
    let mut question = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["whoami", "pollux", "test"] {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 16, 0, 1]);
    question
}
