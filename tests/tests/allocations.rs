//! No packet, whatever becomes of it, makes a worker allocate; nor does a loop boundary or the sweep.

use std::net::SocketAddr;

use allocation_counter::measure;
use arrayvec::ArrayVec;
use pollux_engine::clock::seconds;
use pollux_engine::frame::HeapFrame;
use pollux_engine::wire::protocol;
use pollux_engine::{BURST, Context, Verdict};
use pollux_tests::golden::director::Director;
use pollux_tests::golden::packet::{IpHeader, ethernet, icmp, ip, tcp, tcp_segment, udp};
use pollux_tests::golden::topology::{GATEWAY_MAC, mac, port, server_mac};
use pollux_tests::golden::trace::Wire;

fn lab() -> Director {
    Director::configured(&[
        "ipvsadm -A -t 192.0.2.100:80 -s rr",
        "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.11:8080 -m",
        "ipvsadm -A -u 192.0.2.100:80 -s wrr",
        "ipvsadm -a -u 192.0.2.100:80 -r 10.1.0.12 -i",
        "ipvsadm -A -t [2001:db8::100]:80 -s wlc",
        "ipvsadm -a -t [2001:db8::100]:80 -r [2001:db8:1::11]:8080 -m",
        "ipvsadm -A -u [2001:db8::100]:80 -s rr",
        "ipvsadm -a -u [2001:db8::100]:80 -r [2001:db8:1::13] -g",
        "ipvsadm -A -t 192.0.2.100:81 -s rr",
    ])
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Runs packets as one burst; the verdicts.
fn run(director: &mut Director, wire: Wire, packets: &[Vec<u8>]) -> Vec<Verdict> {
    let sender = match wire {
        Wire::Cl => GATEWAY_MAC,
        Wire::Rs => server_mac(1),
    };
    let mut frames: Vec<HeapFrame> = packets
        .iter()
        .map(|packet| HeapFrame::new(&ethernet(mac(wire), sender, packet)))
        .collect();
    let mut verdicts = ArrayVec::<Verdict, BURST>::new();
    let (worker, context) = director.engine();
    let counted = measure(|| {
        worker.process(&context, port(wire), &mut frames, &mut verdicts);
        worker.turn(context.table);
    });
    assert_eq!(counted.count_total, 0, "{verdicts:?}");
    verdicts.to_vec()
}

fn is_sent(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Forward { .. })
}

fn is_answer(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Answer { .. })
}

#[test]
fn packets_of_every_fate() {
    let mut director = lab();
    for (client, vip, server) in [
        ("198.51.100.7:4000", "192.0.2.100:80", "10.1.0.11:8080"),
        (
            "[2001:db8:c::7]:4000",
            "[2001:db8::100]:80",
            "[2001:db8:1::11]:8080",
        ),
    ] {
        let (client, vip, server) = (address(client), address(vip), address(server));
        let opened = run(
            &mut director,
            Wire::Cl,
            &[
                tcp(client, vip, "S", &[]),
                udp(client, vip, b"new"),
                tcp(client, vip, "A", b"known"),
            ],
        );
        assert!(opened.iter().all(is_sent), "{opened:?}");
        let answers = run(&mut director, Wire::Rs, &[tcp(server, client, "SA", &[])]);
        assert!(answers.iter().all(is_sent), "{answers:?}");

        let segment = tcp_segment(client, vip, 16, &[]);
        let last_hop = IpHeader {
            hops: 1,
            ..IpHeader::default()
        };
        let refused = run(
            &mut director,
            Wire::Cl,
            &[
                last_hop.packet(client, vip, protocol::TCP, &segment),
                tcp(client, vip, "A", &[0; 1500]),
            ],
        );
        assert!(refused.iter().all(is_answer), "{refused:?}");

        let kind = if client.is_ipv4() { 3 } else { 1 };
        let about = tcp(vip, client, "A", &[]);
        let related = run(
            &mut director,
            Wire::Cl,
            &[icmp(client, vip, kind, 1, 0, &about)],
        );
        assert!(related.iter().all(is_sent), "{related:?}");
        let unknown = run(&mut director, Wire::Rs, &[udp(server, client, b"unknown")]);
        assert!(matches!(unknown[..], [Verdict::Punt(_)]));
    }
    let (client, vip) = (address("198.51.100.7:5000"), address("192.0.2.100:81"));
    let refused = run(&mut director, Wire::Cl, &[tcp(client, vip, "S", &[])]);
    assert!(refused.iter().all(is_answer), "no destination: {refused:?}");

    let inside = udp(
        address("198.51.100.7:4000"),
        address("192.0.2.100:80"),
        b"known",
    );
    let outer = ip(
        address("10.1.0.1:0"),
        address("10.1.0.12:0"),
        protocol::IPIP,
        &inside,
    );
    let error = icmp(
        address("10.1.0.254:0"),
        address("10.1.0.1:0"),
        3,
        1,
        0,
        &outer,
    );
    let told = run(&mut director, Wire::Rs, &[error]);
    assert!(told.iter().all(is_sent), "error about a tunnel: {told:?}");
}

#[test]
fn connections_that_come_and_go() {
    let mut director = lab();
    let vip = address("192.0.2.100:80");
    // More than fit, so that chunks are taken, the table fills, and entries come back through the sweep.
    for round in 0..3 {
        for port in (0..1500).step_by(BURST) {
            let syns: Vec<Vec<u8>> = (port..port + 32)
                .map(|port| {
                    tcp(
                        SocketAddr::new([198, 51, 100, 7].into(), 10_000 + port),
                        vip,
                        "S",
                        &[],
                    )
                })
                .collect();
            run(&mut director, Wire::Cl, &syns);
        }
        let (worker, context) = director.engine();
        let later = Context {
            now: context.now.after(seconds(70 * (round + 1))),
            ..context
        };
        let counted = measure(|| {
            for _ in 0..100 {
                worker.sweep(&later, 64);
                worker.turn(later.table);
            }
        });
        assert_eq!(counted.count_total, 0);
        assert_eq!(worker.shard().in_use(), 0);
    }
}

#[test]
fn choices_of_every_scheduler() {
    const SCHEDULERS: [&str; 16] = [
        "rr",
        "wrr",
        "lc",
        "wlc",
        "lblc",
        "lblcr",
        "dh",
        "sh",
        "sh -b sh-fallback,sh-port",
        "sed",
        "nq",
        "fo",
        "ovf",
        "mh",
        "mh -b mh-fallback,mh-port",
        "twos",
    ];
    for scheduler in SCHEDULERS {
        let service = format!("ipvsadm -A -t 192.0.2.100:80 -s {scheduler}");
        let mut director = Director::configured(&[
            &service,
            "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.11 -g -w 60 -x 40",
            "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.12 -g -w 40 -x 40",
            "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.13 -g -w 9",
        ]);
        let vip = address("192.0.2.100:80");
        let mut sent = 0;
        for client in 0..8 {
            let burst: Vec<Vec<u8>> = (0..16)
                .map(|port| {
                    tcp(
                        address(&format!("198.51.100.{client}:{}", 4000 + port)),
                        vip,
                        "S",
                        &[],
                    )
                })
                .collect();
            let verdicts = run(&mut director, Wire::Cl, &burst);
            sent += verdicts.iter().filter(|verdict| is_sent(verdict)).count();
        }
        assert!(sent > 20, "{scheduler}: {sent} of 128");
    }
}
