//! What `pollux realserver` prints, typed on servers that have never heard of the virtual addresses.
//!
//! This kernel may lack the devices of tunnels, so that those are only read, in `control/src/realserver/tests.rs`.

use pollux_tests::lab::Lab;
use pollux_tests::lab::namespace::{command, run};
use pollux_tests::lab::servers::{DIRECT, NAMES, NAT, SERVERS4, SERVERS6, VIP4, VIP6, tcp};

/// Types a script on a server, twice: it may be repeated.
fn type_on(server: &str, script: &str) {
    for _ in 0..2 {
        let output = command(server, "sh")
            .args(["-ec", script])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "on {server}: {error}\n{script}");
    }
}

#[test]
fn direct_routing_works_as_printed() {
    let lab = Lab::start();
    lab.add(&tcp(VIP4, 80), "rr", DIRECT, &SERVERS4, 80);
    lab.add(&tcp(VIP6, 80), "rr", DIRECT, &SERVERS6, 80);
    for server in NAMES {
        run(
            server,
            "sysctl -qw net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.all.arp_announce=0",
        );
        run(server, &format!("ip address del {VIP4}/32 dev lo"));
        run(server, &format!("ip -6 address del {VIP6}/128 dev lo"));
    }
    assert!(!lab.curl_succeeds(VIP4) && !lab.curl_succeeds(VIP6));
    for ((server, four), six) in NAMES.into_iter().zip(SERVERS4).zip(SERVERS6) {
        for address in [four, six] {
            type_on(
                server,
                &lab.pollux(&format!("realserver --server {address}")),
            );
        }
        assert_eq!(
            run(server, "sysctl -n net.ipv4.conf.all.arp_ignore").trim(),
            "1"
        );
    }
    for vip in [VIP4, VIP6] {
        let answers = lab.curl_many(vip, 30);
        assert!(
            NAMES.iter().all(|server| answers.get(*server) == Some(&10)),
            "{vip}: {answers:?}"
        );
    }
}

#[test]
fn nat_finds_the_directors_own_address() {
    let lab = Lab::start();
    lab.add(&tcp(VIP4, 80), "rr", NAT, &SERVERS4[..1], 80);
    lab.add(&tcp(VIP6, 80), "rr", NAT, &SERVERS6[..1], 80);
    run(NAMES[0], "ip route del default");
    run(NAMES[0], "ip -6 route del default via 2001:db8:2::1");
    assert!(!lab.curl_succeeds(VIP4) && !lab.curl_succeeds(VIP6));
    for address in [SERVERS4[0], SERVERS6[0]] {
        // It asks the kernel of the director, which is a namespace here.
        let mut pollux = command("director", "env");
        pollux.arg(format!(
            "POLLUX_RUN_DIR={}",
            pollux_tests::lab::lab_dir().join("run").display()
        ));
        pollux.arg(pollux_tests::lab::program("pollux").get_program());
        let output = pollux
            .args(["realserver", "--server", address])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            pollux_tests::lab::text_of(&output)
        );
        type_on(NAMES[0], &String::from_utf8_lossy(&output.stdout));
    }
    assert_eq!(lab.curl(VIP4, "/"), NAMES[0]);
    assert_eq!(lab.curl(VIP6, "/"), NAMES[0]);
}
